//! What the admin routes show: kept by the master, on its own thread.

use std::cell::{Cell, Ref, RefCell, RefMut};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::clock::{self, Moment};
use crate::config::Snapshot;
use crate::lifecycle::{Overview, Phase};
use crate::metrics::aggregate::Aggregator;
use crate::rt::Started;

/// A worker as the master knows it.
#[derive(Debug, Clone)]
pub struct WorkerState {
    /// The number that metrics use as `core`.
    pub core: u32,
    /// The core that it is pinned to.
    pub pinned: Option<usize>,
    /// Its executor, once it accepts.
    pub started: Option<Started>,
    /// How it ended.
    pub ended: Option<Ended>,
}

/// How a worker ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// As it was told.
    Stopped,
    /// By itself, for this reason.
    Died(String),
}

impl WorkerState {
    /// Whether it runs, or has left as it was told: a worker that drained before the others is no reason to restart the
    /// process.
    pub fn is_alive(&self) -> bool {
        !matches!(self.ended, Some(Ended::Died(_)))
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "core": self.core,
            "pinned": self.pinned,
            "executor": self.started.as_ref().map(|started| started.executor.name()),
            "driver": self.started.as_ref().map(|started| started.driver.name()),
            "driver_fallback": self.started.as_ref().and_then(|started| started.fallback.as_ref().map(ToString::to_string)),
            "ended": self.ended.as_ref().map(|ended| match ended {
                Ended::Stopped => "stopped",
                Ended::Died(reason) => reason,
            }),
        })
    }
}

/// All of it.
pub struct State {
    aggregator: RefCell<Aggregator>,
    snapshot: RefCell<Arc<Snapshot>>,
    workers: RefCell<Vec<WorkerState>>,
    overview: Rc<Overview>,
    generation: Cell<u64>,
    listen: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    began: Moment,
    log_lines_dropped: Box<dyn Fn() -> u64>,
}

impl State {
    /// The state of a process that starts now and serves on these addresses.
    pub fn new(
        snapshot: Arc<Snapshot>,
        workers: Vec<WorkerState>,
        listen: Vec<SocketAddr>,
        admin: Option<SocketAddr>,
        log_lines_dropped: Box<dyn Fn() -> u64>,
        overview: Rc<Overview>,
    ) -> Self {
        let began = clock::now();
        Self {
            aggregator: RefCell::new(Aggregator::new(Duration::from_nanos(began.as_nanos()))),
            snapshot: RefCell::new(snapshot),
            workers: RefCell::new(workers),
            overview,
            generation: Cell::new(1),
            listen,
            admin,
            began,
            log_lines_dropped,
        }
    }

    /// The aggregated metrics.
    pub fn aggregator(&self) -> Ref<'_, Aggregator> {
        self.aggregator.borrow()
    }

    /// The aggregated metrics, to take the next tick.
    pub fn aggregator_mut(&self) -> RefMut<'_, Aggregator> {
        self.aggregator.borrow_mut()
    }

    /// The config in force.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.borrow().clone()
    }

    /// The workers.
    pub fn workers(&self) -> Ref<'_, Vec<WorkerState>> {
        self.workers.borrow()
    }

    /// The workers, to note their news.
    pub fn workers_mut(&self) -> RefMut<'_, Vec<WorkerState>> {
        self.workers.borrow_mut()
    }

    /// The phase.
    pub fn phase(&self) -> Phase {
        self.overview.phase()
    }

    /// The process's life: phase, services, health checks.
    pub fn overview(&self) -> &Overview {
        &self.overview
    }

    /// How many configs have been in force, this one included.
    pub fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// The addresses that the workers listen on, with their real ports.
    pub fn listen(&self) -> &[SocketAddr] {
        &self.listen
    }

    /// The admin listener's address.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    pub(super) fn uptime(&self) -> Duration {
        clock::now().since(self.began)
    }

    pub(super) fn log_lines_dropped(&self) -> u64 {
        (self.log_lines_dropped)()
    }

    pub(super) fn route_labels(&self) -> Vec<String> {
        self.snapshot().routes.names().iter().map(|name| name.label.clone()).collect()
    }
}
