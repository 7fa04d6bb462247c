//! What a core counts about its upstreams: one writer each, read by the master.
//!
//! The same rules as for a core's shard: relaxed stores by the one writer, no order between counters, no waiting.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::termination::Termination;
use crate::metrics::histogram::SteadyHistogram;
pub use crate::metrics::keys::{ServerCounter, UpstreamCounter};
use crate::metrics::upstreams::UpstreamSample;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One server's numbers on one core.
#[derive(Debug)]
pub struct ServerCounters {
    counters: [AtomicU64; ServerCounter::COUNT],
    in_flight: AtomicU64,
    open: AtomicU64,
    latency: SteadyHistogram,
    /// Nanoseconds; 0 before the first answer.
    latency_ewma: AtomicU64,
}

impl ServerCounters {
    fn new() -> Self {
        Self {
            counters: std::array::from_fn(|_| AtomicU64::new(0)),
            in_flight: AtomicU64::new(0),
            open: AtomicU64::new(0),
            latency: SteadyHistogram::default(),
            latency_ewma: AtomicU64::new(0),
        }
    }

    pub(super) fn add(&self, counter: ServerCounter, n: u64) {
        let cell = &self.counters[counter as usize];
        cell.store(cell.load(Relaxed) + n, Relaxed);
    }

    pub(super) fn step_in_flight(&self, step: i64) {
        self.in_flight.store(self.in_flight.load(Relaxed).saturating_add_signed(step), Relaxed);
    }

    pub(super) fn step_open(&self, step: i64) {
        self.open.store(self.open.load(Relaxed).saturating_add_signed(step), Relaxed);
    }

    /// A response head took so long; the moving average is `ewma` now.
    pub(super) fn record(&self, latency: Duration, ewma: Duration) {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.latency.record(nanos(latency));
        self.latency_ewma.store(nanos(ewma), Relaxed);
    }

    /// The value of a counter.
    pub fn get(&self, counter: ServerCounter) -> u64 {
        self.counters[counter as usize].load(Relaxed)
    }

    /// Requests in flight.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Relaxed)
    }

    /// Connections open, idle ones included.
    pub fn open(&self) -> u64 {
        self.open.load(Relaxed)
    }

    /// Times to the response head.
    pub fn latency(&self) -> &SteadyHistogram {
        &self.latency
    }
}

/// One upstream's numbers on one core.
#[derive(Debug)]
pub struct UpstreamCounters {
    core: usize,
    counters: [AtomicU64; UpstreamCounter::COUNT],
    terminations: [AtomicU64; Termination::COUNT],
    pending: AtomicU64,
    servers: Vec<ServerCounters>,
}

impl UpstreamCounters {
    pub(super) fn add(&self, counter: UpstreamCounter, n: u64) {
        let cell = &self.counters[counter as usize];
        cell.store(cell.load(Relaxed) + n, Relaxed);
    }

    /// A request ended so.
    pub(super) fn note_end(&self, termination: Termination) {
        let cell = &self.terminations[termination as usize];
        cell.store(cell.load(Relaxed) + 1, Relaxed);
    }

    pub(super) fn set_pending(&self, pending: usize) {
        self.pending.store(pending as u64, Relaxed);
    }

    /// Nothing is under way of what was when they were left: what unwinding did not give back is gone with its core.
    fn clear_gauges(&self) {
        self.pending.store(0, Relaxed);
        for server in &self.servers {
            server.in_flight.store(0, Relaxed);
            server.open.store(0, Relaxed);
        }
    }

    /// Which core's they are.
    pub fn core(&self) -> usize {
        self.core
    }

    /// The value of a counter.
    pub fn get(&self, counter: UpstreamCounter) -> u64 {
        self.counters[counter as usize].load(Relaxed)
    }

    /// Requests that wait for a connection.
    pub fn pending(&self) -> u64 {
        self.pending.load(Relaxed)
    }

    /// Adds all of them to the sums of the process, but what these know of standings.
    pub(super) fn add_to(&self, sums: &mut UpstreamSample) {
        for (sum, counter) in sums.counters.iter_mut().zip(&self.counters) {
            *sum += counter.load(Relaxed);
        }
        for (sum, counter) in sums.terminations.iter_mut().zip(&self.terminations) {
            sum.1 += counter.load(Relaxed);
        }
        sums.pending += self.pending();
        for (sum, server) in sums.servers.iter_mut().zip(&self.servers) {
            for (sum, counter) in sum.counters.iter_mut().zip(&server.counters) {
                *sum += counter.load(Relaxed);
            }
            sum.in_flight += server.in_flight();
            sum.open += server.open();
            sum.latency.merge(&server.latency.read());
            sum.latency_ewma = sum.latency_ewma.max(server.latency_ewma.load(Relaxed));
        }
    }

    /// A server's.
    pub fn server(&self, server: usize) -> &ServerCounters {
        &self.servers[server]
    }
}

/// The numbers of all cores about one upstream.
#[derive(Debug, Default)]
pub struct AllCounters(Mutex<Vec<Arc<UpstreamCounters>>>);

impl AllCounters {
    /// Numbers for a core that begins to use the upstream. Whoever was that core before and broke down has left its own: they
    /// go on, so that sums never fall and there are never more of them than cores at a time.
    pub(super) fn add_core(&self, core: usize, servers: usize) -> Arc<UpstreamCounters> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Nobody else has them: what the old core wrote is seen, and a reader of this moment makes it one more.
        for own in all.iter_mut().filter(|own| own.core == core) {
            if let Some(left) = Arc::get_mut(own) {
                left.clear_gauges();
                return own.clone();
            }
        }
        let counters = Arc::new(UpstreamCounters {
            core,
            counters: std::array::from_fn(|_| AtomicU64::new(0)),
            terminations: std::array::from_fn(|_| AtomicU64::new(0)),
            pending: AtomicU64::new(0),
            servers: (0..servers).map(|_| ServerCounters::new()).collect(),
        });
        all.push(counters.clone());
        counters
    }

    /// Those of each core.
    pub fn cores(&self) -> Vec<Arc<UpstreamCounters>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
