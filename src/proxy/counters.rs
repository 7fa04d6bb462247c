//! What a core counts about its upstreams: one writer each, read by the master.
//!
//! The same rules as for a core's shard: relaxed stores by the one writer, no order between counters, no waiting.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::metrics::histogram::CompactHistogram;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A counter of one server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerCounter {
    /// Requests sent to it, retries, hedges and mirrored ones included.
    Requests,
    /// Responses with a status below 500.
    Passed,
    /// Responses with a status of 500 or more.
    Status5xx,
    /// Attempts without a connection.
    ConnectFailures,
    /// Attempts without a response, or without the whole of it.
    Failures,
    /// Attempts that ran out of time.
    Timeouts,
    /// Responses that break the rules.
    Invalid,
    /// Connections opened.
    Connections,
    /// Requests over a connection that had carried one before.
    Reused,
    /// Requests sent to it after another attempt had failed.
    Retries,
    /// Connections that became tunnels.
    Tunnels,
}

impl ServerCounter {
    const COUNT: usize = Self::Tunnels as usize + 1;
}

/// One server's numbers on one core.
#[derive(Debug)]
pub struct ServerCounters {
    counters: [AtomicU64; ServerCounter::COUNT],
    in_flight: AtomicU64,
    open: AtomicU64,
    latency: CompactHistogram,
}

impl ServerCounters {
    fn new() -> Self {
        Self {
            counters: std::array::from_fn(|_| AtomicU64::new(0)),
            in_flight: AtomicU64::new(0),
            open: AtomicU64::new(0),
            latency: CompactHistogram::default(),
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

    pub(super) fn record(&self, latency: Duration) {
        self.latency.record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
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
    pub fn latency(&self) -> &CompactHistogram {
        &self.latency
    }
}

/// A counter of one upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamCounter {
    /// Requests that no server was available for.
    Unavailable,
    /// Requests that were refused because too many waited for a connection.
    Overflows,
    /// Retries that the budget did not allow.
    BudgetExhausted,
    /// Requests that were sent to a second server because the first took its time.
    Hedges,
    /// Copies of requests that were sent.
    Mirrored,
    /// Copies that were not sent, because as many as may be were under way or the body was too long.
    MirrorsDropped,
}

impl UpstreamCounter {
    const COUNT: usize = Self::MirrorsDropped as usize + 1;
}

/// One upstream's numbers on one core.
#[derive(Debug)]
pub struct UpstreamCounters {
    core: usize,
    counters: [AtomicU64; UpstreamCounter::COUNT],
    pending: AtomicU64,
    servers: Vec<ServerCounters>,
}

impl UpstreamCounters {
    pub(super) fn add(&self, counter: UpstreamCounter, n: u64) {
        let cell = &self.counters[counter as usize];
        cell.store(cell.load(Relaxed) + n, Relaxed);
    }

    pub(super) fn set_pending(&self, pending: usize) {
        self.pending.store(pending as u64, Relaxed);
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

    /// A server's.
    pub fn server(&self, server: usize) -> &ServerCounters {
        &self.servers[server]
    }
}

/// The numbers of all cores about one upstream.
#[derive(Debug, Default)]
pub struct AllCounters(Mutex<Vec<Arc<UpstreamCounters>>>);

impl AllCounters {
    /// Numbers for a core that begins to use the upstream. Those of a core that was replaced stay in the sums.
    pub(super) fn add_core(&self, core: usize, servers: usize) -> Arc<UpstreamCounters> {
        let counters = Arc::new(UpstreamCounters {
            core,
            counters: std::array::from_fn(|_| AtomicU64::new(0)),
            pending: AtomicU64::new(0),
            servers: (0..servers).map(|_| ServerCounters::new()).collect(),
        });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(counters.clone());
        counters
    }

    /// Those of each core.
    pub fn cores(&self) -> Vec<Arc<UpstreamCounters>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
