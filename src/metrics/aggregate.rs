//! The master's view: once a second it is given what each core's shard holds, and keeps totals and the last minute.
//!
//! A tick takes the difference of each core's numbers to its previous snapshot. Differences add up to totals that live
//! longer than a worker, and the last 60 of them are the windows. A shard is told from its predecessor by its instance,
//! so a restarted worker's numbers count from 0 and no rate is ever negative; a core that is missing adds nothing.
//!
//! Memory: for each core the previous snapshot (68 KiB and 1.7 KiB per active route), a total (14 KiB) and 60 seconds of
//! sparse differences: 4 KiB each where 500 buckets are touched, 14 KiB at most; for the five classes as much as for
//! five cores. That is 0.3 MiB per core typically and 2.7 MiB at most (1024 routes, all buckets touched each second),
//! besides the routes' history, which does not grow with the cores (see [`super::route_history`]).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::defs::{Class, Counter, Gauge};
use super::histogram::FULL;
use super::route_history::{RouteHistory, RouteSum};
use super::shard::ShardSnapshot;
use super::snapshot::{Delta, Snapshot};
use super::window::push_bounded;
use crate::limits::METRIC_CORES_MAX;

pub use super::window::Window;

/// Ticks that are kept: the longest window, at one a second.
const TICKS_MAX: usize = 60;
/// A tick sooner after the last one is not taken, so that [`TICKS_MAX`] of them always cover about a minute.
const TICK_MIN: Duration = Duration::from_millis(500);

/// Whether a tick was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tick {
    /// The windows now end here.
    Taken,
    /// Less than half a second since the last tick (or time went backwards); its numbers come with the next one.
    TooEarly,
}

/// Counters and durations of one core, or of all, over some span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreSum {
    /// Counters, indexed by [`Counter`].
    pub counters: [u64; Counter::COUNT],
    /// Durations of all classes.
    pub latency: Snapshot,
}

impl CoreSum {
    pub(super) fn empty() -> Self {
        CoreSum { counters: [0; Counter::COUNT], latency: Snapshot::empty(FULL) }
    }

    fn add(&mut self, delta: &CoreDelta) {
        self.add_counters(&delta.counters);
        delta.latency.add_to(&mut self.latency);
    }

    fn add_counters(&mut self, more: &[u64; Counter::COUNT]) {
        self.counters.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.saturating_add(*more));
    }

    pub(super) fn merge(&mut self, other: &CoreSum) {
        self.add_counters(&other.counters);
        self.latency.merge(&other.latency);
    }
}

#[derive(Debug)]
struct CoreDelta {
    counters: [u64; Counter::COUNT],
    latency: Delta,
}

#[derive(Debug)]
struct TickRecord {
    span: Duration,
    cores: Vec<(u32, CoreDelta)>,
    classes: [Delta; Class::COUNT],
}

/// What is known of one core.
#[derive(Debug)]
struct CoreState {
    last: ShardSnapshot,
    presence: Presence,
    restarts: u64,
    lifetime: CoreSum,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Reporting,
    Missing,
}

/// A core's state at the last tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CoreStatus<'a> {
    /// The core's id.
    pub core: u32,
    /// Whether its worker was in the last tick; the gauges are of its last report.
    pub up: bool,
    /// Times that its worker was replaced.
    pub restarts: u64,
    /// Gauges, indexed by [`Gauge`].
    pub gauges: &'a [u64; Gauge::COUNT],
    /// Counters since the aggregator was created, indexed by [`Counter`]; they go on over restarts.
    pub counters: &'a [u64; Counter::COUNT],
}

/// The sums over one window.
#[derive(Clone, Debug)]
pub struct WindowSums {
    /// The time that is covered: more than the window's name if ticks were late, less soon after the start.
    pub span: Duration,
    /// By core id.
    pub cores: BTreeMap<u32, CoreSum>,
    /// All cores' durations, indexed by [`Class`].
    pub classes: [Snapshot; Class::COUNT],
}

/// The master's totals and history.
#[derive(Debug)]
pub struct Aggregator {
    created: Duration,
    last_tick: Duration,
    cores: BTreeMap<u32, CoreState>,
    classes: [Snapshot; Class::COUNT],
    ticks: VecDeque<TickRecord>,
    routes: RouteHistory,
}

impl Aggregator {
    /// An aggregator without numbers. `now` is the time since an arbitrary origin, the same for all ticks.
    pub fn new(now: Duration) -> Self {
        Aggregator {
            created: now,
            last_tick: now,
            cores: BTreeMap::new(),
            classes: std::array::from_fn(|_| Snapshot::empty(FULL)),
            ticks: VecDeque::with_capacity(TICKS_MAX),
            routes: RouteHistory::default(),
        }
    }

    /// Takes the shards of all running workers; to be called once a second. A worker that was replaced since the last
    /// tick may be given too, before its successor of the same core, so that its last numbers are not lost. Cores
    /// beyond [`METRIC_CORES_MAX`] are not counted.
    pub fn tick(&mut self, now: Duration, shards: Vec<ShardSnapshot>) -> Tick {
        let span = now.saturating_sub(self.last_tick);
        if span < TICK_MIN {
            return Tick::TooEarly;
        }
        self.last_tick = now;
        self.cores.values_mut().for_each(|core| core.presence = Presence::Missing);
        self.routes.begin(span, shards.iter().map(|shard| shard.routes.generation).max());
        let mut cores: BTreeMap<u32, CoreSum> = BTreeMap::new();
        let mut classes: [Snapshot; Class::COUNT] = std::array::from_fn(|_| Snapshot::empty(FULL));
        for shard in shards {
            if self.cores.len() < METRIC_CORES_MAX || self.cores.contains_key(&shard.core) {
                let sum = cores.entry(shard.core).or_insert_with(CoreSum::empty);
                self.take_shard(shard, sum, &mut classes);
            }
        }
        self.routes.end();
        self.keep(span, cores, &classes);
        Tick::Taken
    }

    fn take_shard(&mut self, shard: ShardSnapshot, sum: &mut CoreSum, classes: &mut [Snapshot; Class::COUNT]) {
        let known = self.cores.get(&shard.core);
        let before = known.map(|core| &core.last).filter(|last| last.instance == shard.instance);
        for (index, now) in shard.latency.iter().enumerate() {
            let delta = Delta::between(before.map(|before| &before.latency[index]), now);
            delta.add_to(&mut classes[index]);
            delta.add_to(&mut sum.latency);
        }
        // Saturating although an instance's counters never decrease: a wrong number is better than a wrapped one.
        sum.add_counters(&std::array::from_fn(|index| {
            shard.counters[index].saturating_sub(before.map_or(0, |before| before.counters[index]))
        }));
        self.routes.add(before.map(|before| &before.routes), &shard.routes);
        let replaced = u64::from(known.is_some() && before.is_none());
        match self.cores.get_mut(&shard.core) {
            Some(core) => {
                core.restarts += replaced;
                core.presence = Presence::Reporting;
                core.last = shard;
            }
            None => {
                let (presence, lifetime) = (Presence::Reporting, CoreSum::empty());
                self.cores.insert(shard.core, CoreState { last: shard, presence, restarts: 0, lifetime });
            }
        }
    }

    fn keep(&mut self, span: Duration, cores: BTreeMap<u32, CoreSum>, classes: &[Snapshot; Class::COUNT]) {
        self.classes.iter_mut().zip(classes).for_each(|(sum, more)| sum.merge(more));
        let mut record = TickRecord {
            span,
            cores: Vec::with_capacity(cores.len()),
            classes: classes.each_ref().map(Delta::from_snapshot),
        };
        for (core, sum) in cores {
            if let Some(state) = self.cores.get_mut(&core) {
                state.lifetime.merge(&sum);
            }
            let latency = Delta::from_snapshot(&sum.latency);
            record.cores.push((core, CoreDelta { counters: sum.counters, latency }));
        }
        push_bounded(&mut self.ticks, record, TICKS_MAX);
    }

    /// The sums over a window, up to the last tick. A core without a report in it has an empty sum.
    pub fn sums(&self, window: Window) -> WindowSums {
        let length = match window {
            Window::Second => Duration::from_secs(1),
            Window::TenSeconds => Duration::from_secs(10),
            Window::Minute => Duration::from_secs(60),
            Window::Lifetime => return self.lifetime_sums(),
        };
        let mut sums = WindowSums {
            span: Duration::ZERO,
            cores: self.cores.keys().map(|core| (*core, CoreSum::empty())).collect(),
            classes: std::array::from_fn(|_| Snapshot::empty(FULL)),
        };
        for tick in self.ticks.iter().rev() {
            // Half a tick of tolerance: ten ticks of 1.02 s are still the last ten seconds.
            if !sums.span.is_zero() && sums.span + tick.span / 2 > length {
                break;
            }
            sums.span += tick.span;
            for (core, delta) in &tick.cores {
                sums.cores.entry(*core).or_insert_with(CoreSum::empty).add(delta);
            }
            tick.classes.iter().zip(&mut sums.classes).for_each(|(delta, sum)| delta.add_to(sum));
        }
        sums
    }

    fn lifetime_sums(&self) -> WindowSums {
        WindowSums {
            span: self.last_tick.saturating_sub(self.created),
            cores: self.cores.iter().map(|(id, core)| (*id, core.lifetime.clone())).collect(),
            classes: self.classes.clone(),
        }
    }

    /// All cores ever seen, by id.
    pub fn cores(&self) -> impl Iterator<Item = CoreStatus<'_>> {
        self.cores.iter().map(|(id, core)| CoreStatus {
            core: *id,
            up: core.presence == Presence::Reporting,
            restarts: core.restarts,
            gauges: &core.last.gauges,
            counters: &core.lifetime.counters,
        })
    }

    /// Durations of all requests since the aggregator was created, indexed by [`Class`].
    pub fn class_latency(&self) -> &[Snapshot; Class::COUNT] {
        &self.classes
    }

    /// The config generation of the routes' indexes; `None` before the first tick.
    pub fn routes_generation(&self) -> Option<u64> {
        self.routes.generation()
    }

    /// The index of the cell that routes beyond the limit, and requests without a route, share.
    pub fn other_route(&self) -> usize {
        self.routes.other_index()
    }

    /// The sums of each route that had a request, by index, since its config was loaded.
    pub fn route_lifetimes(&self) -> impl Iterator<Item = (usize, &RouteSum)> {
        self.routes.lifetime_sums()
    }

    /// The same over a window, and the time that it covers, which for routes reaches back to a ten-second slot's start.
    pub fn route_sums(&self, window: Window) -> (Duration, impl Iterator<Item = (usize, RouteSum)> + '_) {
        (self.routes.span(window), self.routes.sums(window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::shard::ShardWriter;

    const SECOND: Duration = Duration::from_secs(1);

    fn requests(sum: &CoreSum) -> u64 {
        Class::ALL.iter().map(|class| sum.counters[class.requests() as usize]).sum()
    }

    fn record(writer: &ShardWriter, times: u64, nanos: u64) {
        (0..times).for_each(|_| writer.record_request(0, Class::Success, nanos));
    }

    #[test]
    fn windows_hold_the_ticks_that_they_are_named_for() {
        let (a, b) = (ShardWriter::create(0, 1, 1), ShardWriter::create(1, 1, 1));
        let mut aggregator = Aggregator::new(Duration::ZERO);
        for second in 1..=100 {
            record(&a, 3, 10_000);
            record(&b, 1, 1_000_000 * u64::from(second));
            assert_eq!(aggregator.tick(SECOND * second, vec![a.shard().read(), b.shard().read()]), Tick::Taken);
        }
        for (window, seconds) in
            [(Window::Second, 1), (Window::TenSeconds, 10), (Window::Minute, 60), (Window::Lifetime, 100)]
        {
            let sums = aggregator.sums(window);
            assert_eq!(sums.span, SECOND * seconds as u32);
            assert_eq!((requests(&sums.cores[&0]), requests(&sums.cores[&1])), (3 * seconds, seconds), "{window:?}");
            assert_eq!(sums.classes[Class::Success as usize].count(), 4 * seconds);
            assert_eq!(sums.cores[&1].latency.max, 100_000_000);
            assert!(sums.cores[&0].latency.percentiles().max_ns < 10_000 + 10_000 / 64 + 1);
        }
        let old = aggregator.sums(Window::TenSeconds).cores[&1].latency.value_at(0.0);
        assert!((91_000_000..91_000_000 + 91_000_000 / 64).contains(&old), "{old}");
    }

    #[test]
    fn restarted_worker_never_makes_a_number_negative_and_totals_go_on() {
        let first = ShardWriter::create(4, 1, 1);
        let mut aggregator = Aggregator::new(Duration::ZERO);
        record(&first, 50, 2_000);
        aggregator.tick(SECOND, vec![first.shard().read()]);
        record(&first, 5, 2_000);
        let second = ShardWriter::create(4, 1, 1);
        record(&second, 7, 2_000);
        aggregator.tick(SECOND * 2, vec![first.shard().read(), second.shard().read()]);
        assert_eq!(requests(&aggregator.sums(Window::Second).cores[&4]), 12);
        assert_eq!(requests(&aggregator.sums(Window::Lifetime).cores[&4]), 62);
        assert_eq!(aggregator.route_lifetimes().map(|(_, sum)| sum.requests[1]).sum::<u64>(), 62);
        let status = aggregator.cores().next().unwrap();
        assert_eq!((status.core, status.up, status.restarts), (4, true, 1));
    }

    #[test]
    fn missing_worker_is_down_and_adds_nothing_until_it_reports_again() {
        let writer = ShardWriter::create(0, 1, 1);
        let mut aggregator = Aggregator::new(Duration::ZERO);
        record(&writer, 4, 2_000);
        aggregator.tick(SECOND, vec![writer.shard().read()]);
        record(&writer, 6, 2_000);
        aggregator.tick(SECOND * 2, Vec::new());
        assert!(!aggregator.cores().next().unwrap().up);
        assert_eq!(requests(&aggregator.sums(Window::Second).cores[&0]), 0);
        aggregator.tick(SECOND * 3, vec![writer.shard().read()]);
        assert_eq!(requests(&aggregator.sums(Window::Second).cores[&0]), 6);
        assert_eq!(aggregator.cores().next().unwrap().restarts, 0);
    }

    #[test]
    fn early_or_backward_tick_is_left_to_the_next_one() {
        let writer = ShardWriter::create(0, 1, 1);
        let mut aggregator = Aggregator::new(SECOND * 10);
        record(&writer, 4, 2_000);
        assert_eq!(aggregator.tick(SECOND * 9, vec![writer.shard().read()]), Tick::TooEarly);
        assert_eq!(aggregator.tick(SECOND * 10 + TICK_MIN / 2, vec![writer.shard().read()]), Tick::TooEarly);
        assert_eq!(aggregator.tick(SECOND * 11, vec![writer.shard().read()]), Tick::Taken);
        assert_eq!(requests(&aggregator.sums(Window::Second).cores[&0]), 4);
    }

    #[test]
    fn late_tick_is_spread_over_the_time_that_it_covers() {
        let writer = ShardWriter::create(0, 1, 1);
        let mut aggregator = Aggregator::new(Duration::ZERO);
        record(&writer, 4, 2_000);
        aggregator.tick(SECOND * 20, vec![writer.shard().read()]);
        assert_eq!(aggregator.sums(Window::Second).span, SECOND * 20);
    }

    #[test]
    fn cores_beyond_the_limit_are_not_kept() {
        let mut aggregator = Aggregator::new(Duration::ZERO);
        let template = ShardWriter::create(0, 1, 0).shard().read();
        for core in 0..METRIC_CORES_MAX as u32 + 1 {
            aggregator.tick(SECOND * (core + 1), vec![ShardSnapshot { core, ..template.clone() }]);
        }
        assert_eq!(aggregator.cores().count(), METRIC_CORES_MAX);
    }
}
