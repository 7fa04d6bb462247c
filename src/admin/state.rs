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
use crate::metrics::exposition::ConfigSample;
use crate::metrics::{Activity, Shard, WorkerSample, stalled_after};
use crate::rt::{Postbox, Started};

use super::reload::{Reloads, Request};
use super::upgrade::Upgrades;

/// A worker as the master knows it.
#[derive(Debug, Clone)]
pub struct WorkerState {
    /// The number that metrics use as `core`.
    pub core: u32,
    /// The core that it is pinned to.
    pub pinned: Option<usize>,
    /// Its executor, once it accepts.
    pub started: Option<Started>,
    /// How it ended; `None` while it runs.
    pub ended: Option<Ended>,
    /// Times that it was started again.
    pub restarts: u64,
    /// Times that it stalled.
    pub stalls: u64,
    /// When it was started last.
    since: Moment,
    /// How old its last sign of life may be.
    age_max: Duration,
    /// What it counts, and its signs of life; `None` before it was first started.
    shard: Option<Arc<Shard>>,
}

/// How a worker ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// As it was told.
    Stopped,
    /// By itself, for this reason; it is about to be started again.
    Restarts(String),
    /// By itself, for this reason, and it is not started again.
    Died(String),
}

impl WorkerState {
    /// A worker that has yet to start. `core` is what its metrics call it, `stall` how long it may go without a sign of
    /// life.
    pub fn new(core: u32, pinned: Option<usize>, stall: Duration) -> Self {
        let (since, age_max) = (clock::now(), stalled_after(stall));
        Self { core, pinned, started: None, ended: None, restarts: 0, stalls: 0, since, age_max, shard: None }
    }

    /// It starts, and counts in this shard.
    pub fn start(&mut self, shard: Arc<Shard>) {
        self.restarts += u64::from(self.shard.is_some());
        (self.since, self.shard) = (clock::now(), Some(shard));
        (self.started, self.ended) = (None, None);
    }

    /// Whether it shows signs of life, or has left as it was told: a worker that drained before the others is no reason to
    /// restart the process. Nor is one that is down until it is started again, unless that takes as long as a stall.
    pub fn is_alive(&self) -> bool {
        match self.ended {
            None | Some(Ended::Restarts(_)) => self.heartbeat_age() <= self.age_max,
            Some(Ended::Stopped) => true,
            Some(Ended::Died(_)) => false,
        }
    }

    /// Time since its last sign of life, its start being one.
    pub fn heartbeat_age(&self) -> Duration {
        let Some(shard) = &self.shard else { return Duration::ZERO };
        clock::now().since(shard.last_beat().map_or(self.since, |beat| beat.max(self.since)))
    }

    /// What it began last, `labels` being those of the routes.
    pub fn last_activity(&self, labels: &[String]) -> String {
        self.shard.as_ref().map_or(Activity::Start, |shard| shard.last_activity()).describe(labels)
    }

    pub(super) fn sample(&self) -> WorkerSample {
        WorkerSample { core: self.core, heartbeat_age: self.heartbeat_age(), stalls: self.stalls }
    }

    const fn state(&self) -> &'static str {
        match (&self.ended, &self.started) {
            (None, None) => "starting",
            (None, Some(_)) => "running",
            (Some(Ended::Restarts(_)), _) => "restarting",
            (Some(Ended::Stopped), _) => "stopped",
            (Some(Ended::Died(_)), _) => "died",
        }
    }

    pub(super) fn to_json(&self, labels: &[String]) -> Value {
        json!({
            "core": self.core,
            "pinned": self.pinned,
            "executor": self.started.as_ref().map(|started| started.executor.name()),
            "driver": self.started.as_ref().map(|started| started.driver.name()),
            "driver_fallback": self.started.as_ref().and_then(|started| started.fallback.as_ref().map(ToString::to_string)),
            "state": self.state(),
            "ended": self.ended.as_ref().map(|ended| match ended {
                Ended::Stopped => "stopped",
                Ended::Restarts(reason) | Ended::Died(reason) => reason,
            }),
            "heartbeat_age_seconds": self.heartbeat_age().as_secs_f64(),
            "last_activity": self.last_activity(labels),
            "restarts": self.restarts,
            "stalls": self.stalls,
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
    /// Configs that were in force before, as long as requests use them.
    retired: RefCell<Vec<Arc<Snapshot>>>,
    reloads: RefCell<Reloads>,
    reload_post: Postbox<Request>,
    upgrades: Upgrades,
    listen: RefCell<Vec<SocketAddr>>,
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
        (reload_post, upgrades): (Postbox<Request>, Upgrades),
        overview: Rc<Overview>,
    ) -> Self {
        let began = clock::now();
        Self {
            aggregator: RefCell::new(Aggregator::new(Duration::from_nanos(began.as_nanos()))),
            snapshot: RefCell::new(snapshot),
            workers: RefCell::new(workers),
            overview,
            generation: Cell::new(1),
            retired: RefCell::default(),
            reloads: RefCell::new(Reloads::new()),
            reload_post,
            upgrades,
            listen: RefCell::new(listen),
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

    /// Puts another config in force; returns its generation. The one before is kept until nobody uses it.
    pub fn succeed(&self, next: Arc<Snapshot>) -> u64 {
        let before = self.snapshot.replace(next);
        self.retired.borrow_mut().push(before);
        self.generation.set(self.generation.get() + 1);
        self.generation.get()
    }

    /// How many configs are in use.
    pub fn generations_live(&self) -> usize {
        1 + self.retired.borrow().len()
    }

    /// Those that were in force before and that nobody uses any more. What frees them should not be a core that serves:
    /// one may have a hundred thousand routes.
    pub fn take_unused(&self) -> Vec<Arc<Snapshot>> {
        // Each snapshot has one reference to its routes; workers have others, and requests that are under way.
        let is_used = |old: &Arc<Snapshot>| Arc::strong_count(old) > 1 || Arc::strong_count(&old.routes) > 1;
        let mut retired = self.retired.borrow_mut();
        let (used, unused) = std::mem::take(&mut *retired).into_iter().partition(is_used);
        *retired = used;
        unused
    }

    /// The reloads so far.
    pub fn reloads(&self) -> Ref<'_, Reloads> {
        self.reloads.borrow()
    }

    /// The reloads so far, to note another one.
    pub fn reloads_mut(&self) -> RefMut<'_, Reloads> {
        self.reloads.borrow_mut()
    }

    pub(super) fn reload_post(&self) -> &Postbox<Request> {
        &self.reload_post
    }

    /// The upgrades so far.
    pub fn upgrades(&self) -> &Upgrades {
        &self.upgrades
    }

    pub(super) fn config_sample(&self) -> ConfigSample {
        let reloads = self.reloads();
        ConfigSample {
            live: self.generations_live(),
            reloads: reloads.counts(),
            last_succeeded: reloads.last_succeeded(),
            put_in_force: reloads.succeeded(),
        }
    }

    /// The addresses that the workers listen on, with their real ports.
    pub fn listen(&self) -> Vec<SocketAddr> {
        self.listen.borrow().clone()
    }

    /// The workers listen on these now.
    pub fn set_listen(&self, addresses: Vec<SocketAddr>) {
        self.listen.replace(addresses);
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

    /// The labels of the routes in force, by index.
    pub fn route_labels(&self) -> Vec<String> {
        self.snapshot().routes.names().iter().map(|name| name.label.clone()).collect()
    }
}
