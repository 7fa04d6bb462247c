//! Starting the workers' threads: at first, and each again that broke down.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::ServeError;
use super::sockets::Listening;
use crate::clock::Moment;
use crate::config::{Plan, Snapshot};
use crate::limits::CONTROL_MESSAGES_MAX;
use crate::log::access::AccessLog;
use crate::metrics::shard::ShardSnapshot;
use crate::metrics::{Counter, Gauge, Shard, ShardWriter};
use crate::rt::{self, Postbox};
use crate::worker::{MakeContext, News, Order, Worker};

/// A started worker.
pub(super) struct Running {
    /// Its thread.
    pub(super) thread: JoinHandle<()>,
    /// What it counts.
    pub(super) shard: Arc<Shard>,
}

/// What workers have in common, whatever config they serve.
pub(super) struct Spawner {
    /// Which cores do what.
    pub(super) plan: Plan,
    /// Makes what handlers find under `Exchange::context`.
    pub(super) context: MakeContext,
    /// Where workers post their news.
    pub(super) news: Postbox<News>,
    /// Where their lines of the access log go.
    pub(super) access: Arc<AccessLog>,
}

impl Spawner {
    /// Starts worker `index` with this config, the `generation`th, on these sockets; with the box for its orders.
    ///
    /// # Errors
    /// [`ServeError::Thread`].
    pub(super) fn spawn(
        &self,
        index: usize,
        snapshot: &Snapshot,
        generation: u64,
        listeners: Vec<(SocketAddr, rt::Socket)>,
    ) -> Result<(Running, Postbox<Order>), ServeError> {
        let (plan, count) = (&self.plan, self.plan.workers.len());
        let metrics = ShardWriter::create(label(plan, index), generation, snapshot.routes.names().len());
        let shard = metrics.shard();
        let (orders_post, orders) = rt::mailbox(CONTROL_MESSAGES_MAX);
        let worker = Worker {
            index,
            count,
            pin: plan.pin.then(|| plan.workers[index]),
            executor: snapshot.executor,
            listeners,
            stall: snapshot.config.cores.stall,
            settings: snapshot.settings_of_each(count),
            routes: snapshot.routes.clone(),
            metrics,
            access: Some(self.access.lane(index)),
            context: self.context.clone(),
            orders,
            news: self.news.clone(),
        };
        let thread = thread::Builder::new().name(format!("ringfort-{index}")).spawn(|| worker.run());
        Ok((Running { thread: thread.map_err(ServeError::Thread)?, shard }, orders_post))
    }

    /// Starts all of them.
    ///
    /// # Errors
    /// As [`Spawner::spawn`], and [`ServeError::Duplicate`]; those that had been started have left then.
    pub(super) fn spawn_all(
        &self,
        snapshot: &Snapshot,
        generation: u64,
        listening: &Listening,
    ) -> Result<(Vec<Running>, Vec<Postbox<Order>>), ServeError> {
        let (mut running, mut posts) = (Vec::new(), Vec::new());
        for index in 0..self.plan.workers.len() {
            let started =
                duplicates(listening, index).and_then(|listeners| self.spawn(index, snapshot, generation, listeners));
            match started {
                Ok((worker, orders)) => {
                    running.push(worker);
                    posts.push(orders);
                }
                Err(error) => {
                    drop(posts);
                    join_all(running);
                    return Err(error);
                }
            }
        }
        Ok((running, posts))
    }
}

/// The sockets for worker `index`.
pub(super) fn duplicates(listening: &Listening, index: usize) -> Result<Vec<(SocketAddr, rt::Socket)>, ServeError> {
    let sockets = listening.for_worker(index).map_err(ServeError::Duplicate)?;
    Ok(sockets.into_iter().map(|(address, socket)| (address, socket.into())).collect())
}

/// The number that tells a worker's metrics from others': its core where that is its alone, else its own number.
pub(super) fn label(plan: &Plan, index: usize) -> u32 {
    let core = plan.workers[index];
    let shared = plan.workers.iter().filter(|other| **other == core).count() > 1;
    if shared { index as u32 } else { core as u32 }
}

/// Waits for workers that leave because nobody gives them orders any more.
fn join_all(running: Vec<Running>) {
    for worker in running {
        // Its panic, if any, was reported by its farewell.
        let _ = worker.thread.join();
    }
}

/// The workers' threads, and the shards of those that broke down.
#[derive(Default)]
pub(super) struct Threads {
    running: RefCell<Vec<Running>>,
    /// Those that are down, by worker.
    down: RefCell<Vec<bool>>,
    /// What those counted that broke down since the last tick.
    last_words: RefCell<Vec<Arc<Shard>>>,
    /// Connections that all of those closed that ever broke down.
    closed_before: Cell<u64>,
}

impl Threads {
    /// These have been started.
    pub(super) fn begin(&self, running: Vec<Running>) {
        *self.down.borrow_mut() = vec![false; running.len()];
        *self.running.borrow_mut() = running;
    }

    /// What worker `index` counts.
    pub(super) fn shard(&self, index: usize) -> Arc<Shard> {
        self.running.borrow()[index].shard.clone()
    }

    /// When worker `index` last beat.
    pub(super) fn last_beat(&self, index: usize) -> Option<Moment> {
        self.running.borrow()[index].shard.last_beat()
    }

    /// Worker `index` broke down: its thread ends, what it counted is read once more.
    pub(super) fn note_down(&self, index: usize) {
        if std::mem::replace(&mut self.down.borrow_mut()[index], true) {
            // It was down already, and could not be started.
            return;
        }
        let shard = self.shard(index);
        self.closed_before.set(self.closed_before.get() + shard.counter(Counter::ConnectionsClosed));
        self.last_words.borrow_mut().push(shard);
    }

    /// Another thread stands in for worker `index`.
    pub(super) fn replace(&self, index: usize, worker: Running) {
        // The old thread has said its last word and ends by itself.
        self.running.borrow_mut()[index] = worker;
        self.down.borrow_mut()[index] = false;
    }

    /// Reads all shards: those of workers that broke down first, and once. Connections that are open, and that have closed
    /// since the start, come with them.
    pub(super) fn read(&self) -> (Vec<ShardSnapshot>, u64, u64) {
        let (running, down) = (self.running.borrow(), self.down.borrow());
        let live = running.iter().zip(&*down).filter(|(_, down)| !**down).map(|(worker, _)| &worker.shard);
        let (mut open, mut closed) = (0, self.closed_before.get());
        for shard in live.clone() {
            open += shard.gauge(Gauge::ConnectionsOpen);
            closed += shard.counter(Counter::ConnectionsClosed);
        }
        let last_words = self.last_words.borrow();
        (last_words.iter().chain(live).map(|shard| shard.read()).collect(), open, closed)
    }

    /// What [`Threads::read`] gave has been taken in.
    pub(super) fn forget_last_words(&self) {
        self.last_words.borrow_mut().clear();
    }

    /// Their threads, when all is over.
    pub(super) fn take(&self) -> Vec<JoinHandle<()>> {
        self.running.take().into_iter().map(|worker| worker.thread).collect()
    }
}
