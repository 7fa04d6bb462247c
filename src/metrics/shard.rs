//! One core's metrics: a block of atomics that only this core writes and that the master reads.
//!
//! What a reader may see: every value is one atomic, so none is torn, and one reader never sees a counter go backwards.
//! Between counters there is no order: a read that falls into a record may miss that request in one place and have it
//! in another (a route's histogram may be one ahead of its class count, a sum one value behind). The next read has it.
//! Gauges are the last value set. All accesses are relaxed; no read waits for a writer, and no write for a reader.
//!
//! Memory of a core: 68 KiB for the block, and 1792 bytes for each route and one more (`other`): 1.75 MiB at most.

use std::cell::RefCell;
use std::sync::atomic::AtomicU64 as Instances;
use std::sync::{Arc, PoisonError};

use super::defs::{Class, Counter, Gauge};
use super::histogram::{CompactHistogram, FullHistogram};
use super::pulse::{Activity, Pulse};
use super::snapshot::Snapshot;
use crate::clock::Moment;
use crate::limits::ROUTE_CELLS_MAX;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
#[cfg(loom)]
use crate::sync::{Bug, planted};
use crate::sync::{Mutex, OnceLock};

/// The route of a request that matched none, or that belongs to routes which were replaced while it ran: it is counted
/// in the cell `other`, as are all routes from [`ROUTE_CELLS_MAX`] on.
pub const OTHER_ROUTE: usize = usize::MAX;

/// Distinguishes the shard of a restarted worker from the one before it. Touched when a worker starts, never after.
static INSTANCES: Instances = Instances::new(1);

/// One route's numbers on one core.
// Class counts, sum and maximum fill the first cache line, the buckets 27 more: a request touches two lines of a route.
#[repr(C, align(64))]
#[derive(Debug, Default)]
struct RouteCell {
    requests: [AtomicU64; Class::COUNT],
    latency: CompactHistogram,
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<RouteCell>() == 1792, "the memory sums in the docs say so");
#[cfg(not(loom))]
const _: () = assert!(size_of::<Shard>() <= 68 * 1024 + 512);

/// The cells of one generation of routes on one core.
#[derive(Debug)]
struct RouteCells {
    generation: u64,
    /// One for each route, and `other` as the last.
    cells: Box<[RouteCell]>,
    /// The cells that replaced these. A chain and not a lock, for a worker never waits for the master: it only sets
    /// this, and readers walk to the end and drop what is behind them.
    next: OnceLock<Arc<RouteCells>>,
}

impl RouteCells {
    fn new(generation: u64, routes: usize) -> Arc<RouteCells> {
        let cells = (0..=routes.min(ROUTE_CELLS_MAX)).map(|_| RouteCell::default()).collect();
        Arc::new(RouteCells { generation, cells, next: OnceLock::new() })
    }
}

/// Cells for the routes of a new config, made ahead: up to 1.75 MiB, which a worker need not allocate and touch between two
/// requests.
#[derive(Debug)]
pub struct FreshCells(Arc<RouteCells>);

impl FreshCells {
    /// Cells for `routes` routes of config `generation`.
    pub fn new(generation: u64, routes: usize) -> Self {
        Self(RouteCells::new(generation, routes))
    }
}

/// One core's block. Shared as an `Arc`: the worker writes through its [`ShardWriter`], readers call [`Shard::read`].
// 128: the adjacent-line prefetcher pulls lines in pairs, so 64 would still share with a neighbour's allocation.
#[repr(C, align(128))]
#[derive(Debug)]
pub struct Shard {
    counters: [AtomicU64; Counter::COUNT],
    gauges: [AtomicU64; Gauge::COUNT],
    latency: [FullHistogram; Class::COUNT],
    pulse: Pulse,
    core: u32,
    instance: u64,
    /// The oldest generation that a reader has not left behind. Only readers lock it.
    routes: Mutex<Arc<RouteCells>>,
}

/// The one writer of a [`Shard`]. It can go to the worker's thread but cannot be shared or cloned.
///
/// ```compile_fail
/// fn shared_between_threads<T: Sync>() {}
/// shared_between_threads::<ringfort::metrics::shard::ShardWriter>();
/// ```
#[derive(Debug)]
pub struct ShardWriter {
    shard: Arc<Shard>,
    // Also what makes the writer `!Sync`.
    routes: RefCell<Arc<RouteCells>>,
}

impl ShardWriter {
    /// Creates the shard of a worker that starts on `core`, with cells for `routes` routes of config `generation`.
    pub fn create(core: u32, generation: u64, routes: usize) -> ShardWriter {
        let cells = RouteCells::new(generation, routes);
        let shard = Arc::new(Shard {
            counters: std::array::from_fn(|_| AtomicU64::new(0)),
            gauges: std::array::from_fn(|_| AtomicU64::new(0)),
            latency: std::array::from_fn(|_| FullHistogram::default()),
            pulse: Pulse::default(),
            core,
            instance: INSTANCES.fetch_add(1, Relaxed),
            routes: Mutex::new(Arc::clone(&cells)),
        });
        ShardWriter { shard, routes: RefCell::new(cells) }
    }

    /// The shard, for the master to read.
    pub fn shard(&self) -> Arc<Shard> {
        Arc::clone(&self.shard)
    }

    /// Adds `n` to a counter.
    #[inline]
    pub fn add(&self, counter: Counter, n: u64) {
        bump(&self.shard.counters[counter as usize], n);
    }

    /// Sets a gauge.
    #[inline]
    pub fn set(&self, gauge: Gauge, n: u64) {
        self.shard.gauges[gauge as usize].store(n, Relaxed);
    }

    /// Raises a gauge to `n` if it is lower: a high-water mark.
    #[inline]
    pub fn raise(&self, gauge: Gauge, n: u64) {
        let cell = &self.shard.gauges[gauge as usize];
        if n > cell.load(Relaxed) {
            cell.store(n, Relaxed);
        }
    }

    /// Adds `step` to a gauge, not below 0.
    #[inline]
    pub fn step(&self, gauge: Gauge, step: i64) {
        let cell = &self.shard.gauges[gauge as usize];
        cell.store(cell.load(Relaxed).saturating_add_signed(step), Relaxed);
    }

    /// The worker's executor has come round.
    pub fn beat(&self, now: Moment) {
        self.shard.pulse.beat(now);
    }

    /// What the worker begins.
    #[inline]
    pub fn note_activity(&self, activity: Activity) {
        self.shard.pulse.note(activity);
    }

    /// Counts an answered request: its class, its duration in nanoseconds, and both for its route. `route` is its index
    /// in the routes of the current generation, or [`OTHER_ROUTE`].
    #[inline]
    pub fn record_request(&self, route: usize, class: Class, nanos: u64) {
        self.add(class.requests(), 1);
        self.shard.latency[class as usize].record(nanos);
        let routes = self.routes.borrow();
        let other = routes.cells.len().wrapping_sub(1);
        if let Some(cell) = routes.cells.get(route.min(other)) {
            bump(&cell.requests[class as usize], 1);
            cell.latency.record(nanos);
        }
    }

    /// The config generation whose route indexes [`ShardWriter::record_request`] takes. A request that was routed by
    /// an older one is recorded as [`OTHER_ROUTE`].
    pub fn routes_generation(&self) -> u64 {
        self.routes.borrow().generation
    }

    /// Counts in new cells, for the routes of a new config; the counts of the old ones end here. Never waits.
    pub fn replace_routes(&self, fresh: FreshCells) {
        let FreshCells(fresh) = fresh;
        let mut current = self.routes.borrow_mut();
        // The last of the chain is always the writer's own, and only the writer sets `next`, so this cannot fail.
        let _ = current.next.set(Arc::clone(&fresh));
        *current = fresh;
    }
}

// One writer, so a plain load and store: no locked instruction on the request path.
#[inline(always)]
fn bump(cell: &AtomicU64, n: u64) {
    #[cfg(loom)]
    if planted(Bug::CountsInTwoSteps) {
        let before = cell.load(Relaxed);
        cell.store(0, Relaxed);
        cell.store(before, Relaxed);
    }
    cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
}

/// What a reader saw of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardSnapshot {
    /// The core's id, the value of the label `core`.
    pub core: u32,
    /// Differs between the shards of one core's worker before and after a restart.
    pub instance: u64,
    /// Counters, indexed by [`Counter`].
    pub counters: [u64; Counter::COUNT],
    /// Gauges, indexed by [`Gauge`].
    pub gauges: [u64; Gauge::COUNT],
    /// Durations by [`Class`].
    pub latency: [Snapshot; Class::COUNT],
    /// The routes of the newest generation.
    pub routes: RoutesSnapshot,
}

/// What a reader saw of a shard's routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutesSnapshot {
    /// The config generation that the indexes belong to.
    pub generation: u64,
    /// Cells in the shard; the last one is `other`.
    pub cell_count: usize,
    /// The cells with at least one request, by ascending index.
    pub cells: Vec<(usize, RouteSnapshot)>,
}

/// What a reader saw of one route on one core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSnapshot {
    /// Requests by [`Class`].
    pub requests: [u64; Class::COUNT],
    /// Counts of the [`COMPACT`](super::histogram::COMPACT) layout, modulo 2^32: only differences mean something.
    pub buckets: Box<[u32]>,
    /// Sum of the durations, in nanoseconds.
    pub sum: u64,
    /// The longest duration, in nanoseconds.
    pub max: u64,
}

impl Shard {
    /// The core's id.
    pub fn core(&self) -> u32 {
        self.core
    }

    /// One counter's value.
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters[counter as usize].load(Relaxed)
    }

    /// One gauge's value.
    pub fn gauge(&self, gauge: Gauge) -> u64 {
        self.gauges[gauge as usize].load(Relaxed)
    }

    /// When the worker's executor last came round; `None` before it first did.
    pub fn last_beat(&self) -> Option<Moment> {
        self.pulse.last_beat()
    }

    /// What the worker began last.
    pub fn last_activity(&self) -> Activity {
        self.pulse.activity()
    }

    /// Copies everything; see the module for what a concurrent writer may leave out. For the master, once a second:
    /// it copies 68 KiB and 1.7 KiB for each route that has had a request.
    pub fn read(&self) -> ShardSnapshot {
        ShardSnapshot {
            core: self.core,
            instance: self.instance,
            counters: std::array::from_fn(|index| self.counters[index].load(Relaxed)),
            gauges: std::array::from_fn(|index| self.gauges[index].load(Relaxed)),
            latency: std::array::from_fn(|index| self.latency[index].read()),
            routes: read_routes(&self.newest_routes()),
        }
    }

    fn newest_routes(&self) -> Arc<RouteCells> {
        // A panic of another reader cannot leave an Arc half assigned.
        let mut head = self.routes.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(next) = head.next.get().cloned() {
            *head = next;
            #[cfg(loom)]
            if planted(Bug::WalksOneStep) {
                break;
            }
        }
        Arc::clone(&head)
    }
}

fn read_routes(routes: &RouteCells) -> RoutesSnapshot {
    let cells = routes.cells.iter().enumerate().filter_map(|(index, cell)| {
        let requests: [u64; Class::COUNT] = std::array::from_fn(|class| cell.requests[class].load(Relaxed));
        if requests.iter().all(|count| *count == 0) {
            return None;
        }
        let (buckets, sum, max) = cell.latency.read_narrow();
        Some((index, RouteSnapshot { requests, buckets, sum, max }))
    });
    RoutesSnapshot { generation: routes.generation, cell_count: routes.cells.len(), cells: cells.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::atomic::AtomicBool;

    fn requests_of(snapshot: &ShardSnapshot, route: usize) -> [u64; Class::COUNT] {
        let found = snapshot.routes.cells.iter().find(|(index, _)| *index == route);
        found.map_or([0; Class::COUNT], |(_, cell)| cell.requests)
    }

    #[test]
    fn request_is_counted_by_class_and_by_route() {
        let writer = ShardWriter::create(3, 1, 2);
        writer.record_request(1, Class::Success, 5_000);
        writer.record_request(1, Class::ServerError, 9_000);
        let read = writer.shard().read();
        assert_eq!((read.core, read.routes.generation, read.routes.cell_count), (3, 1, 3));
        assert_eq!(read.counters[Counter::Requests2xx as usize], 1);
        assert_eq!(read.latency[Class::ServerError as usize].max, 9_000);
        assert_eq!(requests_of(&read, 1), [0, 1, 0, 0, 1]);
        let (_, route) = &read.routes.cells[0];
        assert_eq!((read.routes.cells.len(), route.sum, route.max), (1, 14_000, 9_000));
        assert_eq!(route.buckets.iter().sum::<u32>(), 2);
    }

    #[test]
    fn routes_beyond_the_limit_share_the_cell_other() {
        let writer = ShardWriter::create(0, 1, ROUTE_CELLS_MAX + 50);
        for route in [ROUTE_CELLS_MAX - 1, ROUTE_CELLS_MAX, ROUTE_CELLS_MAX + 49, OTHER_ROUTE] {
            writer.record_request(route, Class::Success, 1);
        }
        let read = writer.shard().read();
        assert_eq!(read.routes.cell_count, ROUTE_CELLS_MAX + 1);
        assert_eq!(requests_of(&read, ROUTE_CELLS_MAX - 1)[1], 1);
        assert_eq!(requests_of(&read, ROUTE_CELLS_MAX)[1], 3);
    }

    #[test]
    fn replaced_routes_start_at_zero_and_the_old_cells_are_freed_by_a_read() {
        let writer = ShardWriter::create(0, 1, 1);
        let shard = writer.shard();
        writer.record_request(0, Class::Success, 1);
        let old = Arc::downgrade(&shard.newest_routes());
        writer.replace_routes(FreshCells::new(2, 5));
        writer.replace_routes(FreshCells::new(3, 7));
        writer.record_request(6, Class::Success, 1);
        assert_eq!(writer.routes_generation(), 3);
        let read = shard.read();
        assert_eq!((read.routes.generation, read.routes.cells.len()), (3, 1));
        assert_eq!(read.counters[Counter::Requests2xx as usize], 2);
        assert!(old.upgrade().is_none());
    }

    #[test]
    fn gauges_are_set_raised_and_stepped() {
        let writer = ShardWriter::create(0, 1, 0);
        writer.set(Gauge::BuffersInUse, 7);
        writer.raise(Gauge::BuffersHighWater, 7);
        writer.raise(Gauge::BuffersHighWater, 4);
        writer.step(Gauge::ConnectionsOpen, 2);
        writer.step(Gauge::ConnectionsOpen, -3);
        let gauges = writer.shard().read().gauges;
        assert_eq!(gauges[Gauge::BuffersInUse as usize], 7);
        assert_eq!(gauges[Gauge::BuffersHighWater as usize], 7);
        assert_eq!(gauges[Gauge::ConnectionsOpen as usize], 0);
    }

    #[test]
    fn restarted_worker_has_another_instance() {
        let (before, after) = (ShardWriter::create(0, 1, 0), ShardWriter::create(0, 1, 0));
        assert_ne!(before.shard().read().instance, after.shard().read().instance);
    }

    #[test]
    fn reader_never_sees_a_counter_go_backwards_while_the_writer_writes() {
        const RECORDS: u64 = if cfg!(miri) { 200 } else { 200_000 };
        let writer = ShardWriter::create(0, 1, 4);
        let shard = writer.shard();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let done = &done;
            scope.spawn(move || {
                for n in 0..RECORDS {
                    writer.record_request((n % 5) as usize, Class::ALL[(n % 5) as usize], n * 37);
                    writer.add(Counter::RequestBytes, 3);
                }
                done.store(true, Relaxed);
            });
            let mut last = shard.read();
            while !done.load(Relaxed) {
                let now = shard.read();
                assert!(last.counters.iter().zip(&now.counters).all(|(before, after)| before <= after));
                for (before, after) in last.latency.iter().zip(&now.latency) {
                    assert!(before.buckets.iter().zip(&after.buckets).all(|(before, after)| before <= after));
                    assert!(before.sum <= after.sum && before.max <= after.max);
                }
                for (index, before) in &last.routes.cells {
                    assert!(requests_of(&now, *index).iter().zip(&before.requests).all(|(after, was)| was <= after));
                }
                last = now;
            }
        });
        let read = shard.read();
        assert_eq!(read.counters[Counter::RequestBytes as usize], 3 * RECORDS);
        assert_eq!(read.latency.iter().map(Snapshot::count).sum::<u64>(), RECORDS);
    }
}
