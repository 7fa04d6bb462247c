//! What the master remembers of each route, over all cores: since its config was loaded, and the last minute.
//!
//! Totals have a history by the second (see [`super::aggregate`]); a thousand routes cannot. A route keeps the last
//! tick, a slot that is being filled for ten seconds, and six full slots. Its windows therefore reach back to a slot's
//! start: "10s" covers 10 to 20 seconds and "60s" 60 to 70, once there is as much history; rates are over what is covered.
//!
//! Memory: only a route with requests has a history: three dense histograms of 3.4 KiB, and up to six sparse ones of at
//! most 3.4 KiB (typically 0.4): 31 KiB at most and 13 KiB typically; 1025 routes take 31 MiB and 13 MiB, on any number
//! of cores.

use std::collections::VecDeque;
use std::time::Duration;

use super::defs::Class;
use super::histogram::COMPACT;
use super::shard::{RouteSnapshot, RoutesSnapshot};
use super::snapshot::{Delta, Snapshot};
use super::window::{Window, push_bounded};
use crate::limits::ROUTE_CELLS_MAX;

/// A slot is full after this much, less half a tick so that jitter of the ticks does not make it eleven seconds.
const SLOT_SPAN: Duration = Duration::from_millis(9_500);
/// Full slots that are kept.
const SLOTS_MAX: usize = 6;

/// Requests and durations of one route over some span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteSum {
    /// Requests by [`Class`].
    pub requests: [u64; Class::COUNT],
    /// Durations, in the compact layout.
    pub latency: Snapshot,
}

#[derive(Debug, Default)]
struct RouteDelta {
    requests: [u64; Class::COUNT],
    latency: Delta,
}

impl RouteSum {
    fn empty() -> Self {
        RouteSum { requests: [0; Class::COUNT], latency: Snapshot::empty(COMPACT) }
    }

    fn add(&mut self, delta: &RouteDelta) {
        add_counts(&mut self.requests, &delta.requests);
        delta.latency.add_to(&mut self.latency);
    }
}

fn add_counts(into: &mut [u64; Class::COUNT], more: &[u64; Class::COUNT]) {
    into.iter_mut().zip(more).for_each(|(sum, more)| *sum = sum.saturating_add(*more));
}

#[derive(Debug)]
struct RouteState {
    lifetime: RouteSum,
    slot: RouteSum,
    tick: RouteSum,
    /// Whether `tick` holds anything.
    ticked: bool,
    slots: VecDeque<RouteDelta>,
}

impl RouteState {
    fn new() -> Box<Self> {
        let (lifetime, slot, tick) = (RouteSum::empty(), RouteSum::empty(), RouteSum::empty());
        Box::new(RouteState { lifetime, slot, tick, ticked: false, slots: VecDeque::new() })
    }

    /// Begins a tick; a route without requests, which most are in most seconds, costs nothing.
    fn begin(&mut self) {
        if std::mem::take(&mut self.ticked) {
            self.tick = RouteSum::empty();
        }
    }

    fn add(&mut self, delta: &RouteDelta) {
        self.ticked = true;
        [&mut self.lifetime, &mut self.slot, &mut self.tick].into_iter().for_each(|sum| sum.add(delta));
    }

    fn rotate(&mut self) {
        let full = std::mem::replace(&mut self.slot, RouteSum::empty());
        let latency = Delta::from_snapshot(&full.latency);
        push_bounded(&mut self.slots, RouteDelta { requests: full.requests, latency }, SLOTS_MAX);
    }
}

/// The history of the routes of the newest config generation.
#[derive(Debug, Default)]
pub(super) struct RouteHistory {
    generation: Option<u64>,
    cell_count: usize,
    routes: Vec<Option<Box<RouteState>>>,
    lifetime_span: Duration,
    slot_span: Duration,
    tick_span: Duration,
    slot_spans: VecDeque<Duration>,
}

impl RouteHistory {
    /// Starts a tick that covers `elapsed`; `newest` is the highest generation that a core reports. A higher one than
    /// before forgets everything, for the same index then means another route.
    pub(super) fn begin(&mut self, elapsed: Duration, newest: Option<u64>) {
        if newest > self.generation {
            *self = RouteHistory { generation: newest, ..RouteHistory::default() };
        }
        self.lifetime_span += elapsed;
        self.slot_span += elapsed;
        self.tick_span = elapsed;
        self.routes.iter_mut().flatten().for_each(|route| route.begin());
    }

    /// Adds what a core's routes have more than `before`, which is from the same shard.
    pub(super) fn add(&mut self, before: Option<&RoutesSnapshot>, now: &RoutesSnapshot) {
        if Some(now.generation) != self.generation {
            return;
        }
        let before = before.filter(|before| before.generation == now.generation).map_or(&[][..], |b| &b.cells);
        self.cell_count = self.cell_count.max(now.cell_count);
        for (index, cell) in now.cells.iter().filter(|(index, _)| *index <= ROUTE_CELLS_MAX) {
            let found = before.binary_search_by_key(index, |(index, _)| *index);
            let earlier = found.ok().map(|at| &before[at].1);
            if let Some(delta) = route_delta(earlier, cell) {
                if self.routes.len() <= *index {
                    self.routes.resize_with(index + 1, || None);
                }
                self.routes[*index].get_or_insert_with(RouteState::new).add(&delta);
            }
        }
    }

    /// Ends the tick.
    pub(super) fn end(&mut self) {
        if self.slot_span >= SLOT_SPAN {
            self.routes.iter_mut().flatten().for_each(|route| route.rotate());
            push_bounded(&mut self.slot_spans, std::mem::take(&mut self.slot_span), SLOTS_MAX);
        }
    }

    /// The generation that the indexes belong to, once a core has reported.
    pub(super) fn generation(&self) -> Option<u64> {
        self.generation
    }

    /// The index of the cell `other`.
    pub(super) fn other_index(&self) -> usize {
        self.cell_count.saturating_sub(1)
    }

    /// The time that a window covers.
    pub(super) fn span(&self, window: Window) -> Duration {
        match window {
            Window::Second => self.tick_span,
            Window::TenSeconds | Window::Minute => {
                self.slot_span + self.slot_spans.iter().rev().take(slots_of(window)).sum::<Duration>()
            }
            Window::Lifetime => self.lifetime_span,
        }
    }

    /// The routes that had requests since the generation began, by index, each with its sum over the window.
    pub(super) fn sums(&self, window: Window) -> impl Iterator<Item = (usize, RouteSum)> + '_ {
        let routes = self.routes.iter().enumerate();
        routes.filter_map(move |(index, route)| Some((index, sum_of(route.as_deref()?, window))))
    }

    /// The sums since the generation began, without a copy.
    pub(super) fn lifetime_sums(&self) -> impl Iterator<Item = (usize, &RouteSum)> + '_ {
        let routes = self.routes.iter().enumerate();
        routes.filter_map(|(index, route)| Some((index, &route.as_deref()?.lifetime)))
    }
}

fn slots_of(window: Window) -> usize {
    match window {
        Window::Second | Window::Lifetime => 0,
        Window::TenSeconds => 1,
        Window::Minute => SLOTS_MAX,
    }
}

fn sum_of(route: &RouteState, window: Window) -> RouteSum {
    match window {
        Window::Lifetime => route.lifetime.clone(),
        Window::Second => route.tick.clone(),
        Window::TenSeconds | Window::Minute => {
            let mut sum = route.slot.clone();
            route.slots.iter().rev().take(slots_of(window)).for_each(|slot| sum.add(slot));
            sum
        }
    }
}

fn route_delta(before: Option<&RouteSnapshot>, now: &RouteSnapshot) -> Option<RouteDelta> {
    // All of it, and not only counts and sum: the read before may have fallen into a record and seen these but not its
    // bucket, which comes now.
    if before == Some(now) {
        return None;
    }
    #[cfg(loom)]
    if crate::sync::planted(crate::sync::Bug::SkipsLateBuckets)
        && before.is_some_and(|before| before.requests == now.requests && before.sum == now.sum)
    {
        return None;
    }
    let mut requests = now.requests;
    if let Some(before) = before {
        requests.iter_mut().zip(&before.requests).for_each(|(now, before)| *now = now.saturating_sub(*before));
    }
    // Wrapping: the cells are modulo 2^32 and a tick is far shorter than a wrap (see `histogram`).
    let counts = now.buckets.iter().enumerate().map(|(index, count)| {
        let earlier = before.and_then(|before| before.buckets.get(index)).copied().unwrap_or(0);
        u64::from(count.wrapping_sub(earlier))
    });
    let start = before.map_or((0, 0), |before| (before.sum, before.max));
    let latency = Delta::from_counts(COMPACT, counts, start, (now.sum, now.max));
    Some(RouteDelta { requests, latency })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::histogram::COMPACT_BUCKETS;

    fn snapshot(generation: u64, count: u32) -> RoutesSnapshot {
        let mut buckets = vec![0; COMPACT_BUCKETS].into_boxed_slice();
        buckets[COMPACT.index_of(5_000)] = count;
        let (count, requests) = (u64::from(count), [0, u64::from(count), 0, 0, 0]);
        let cell = RouteSnapshot { requests, buckets, sum: count * 5_000, max: 5_000 };
        RoutesSnapshot { generation, cell_count: 3, cells: vec![(1, cell)] }
    }

    fn count(history: &RouteHistory, window: Window) -> u64 {
        history.sums(window).map(|(_, sum)| sum.latency.count()).sum()
    }

    #[test]
    fn bucket_that_wraps_at_32_bits_loses_nothing() {
        let (mut before, mut now) = (snapshot(1, u32::MAX - 1), snapshot(1, 4));
        before.cells[0].1.requests[1] = 10;
        now.cells[0].1.requests[1] = 16;
        let mut history = RouteHistory::default();
        history.begin(Duration::from_secs(1), Some(1));
        history.add(Some(&before), &now);
        history.end();
        assert_eq!(count(&history, Window::Lifetime), 6);
    }

    #[test]
    fn bucket_that_a_read_saw_later_than_its_count_is_counted_in_the_next_tick_and_only_there() {
        let (late, mut early) = (snapshot(1, 1), snapshot(1, 1));
        early.cells[0].1.buckets.fill(0);
        let mut history = RouteHistory::default();
        let ticks = [(None, &early, 0), (Some(&early), &late, 1), (Some(&late), &late, 0)];
        for (before, now, expected) in ticks {
            history.begin(Duration::from_secs(1), Some(1));
            history.add(before, now);
            history.end();
            assert_eq!(count(&history, Window::Second), expected);
        }
        assert_eq!(count(&history, Window::Lifetime), 1);
    }

    #[test]
    fn windows_of_a_route_cover_their_slots_and_say_how_much() {
        let mut history = RouteHistory::default();
        let mut before = None;
        for second in 1..=95 {
            let now = snapshot(1, second);
            history.begin(Duration::from_secs(1), Some(1));
            history.add(before.as_ref(), &now);
            history.end();
            before = Some(now);
        }
        for (window, seconds) in
            [(Window::Second, 1), (Window::TenSeconds, 15), (Window::Minute, 65), (Window::Lifetime, 95)]
        {
            assert_eq!((count(&history, window), history.span(window).as_secs()), (seconds, seconds), "{window:?}");
        }
        assert_eq!(history.other_index(), 2);
    }

    #[test]
    fn newer_generation_forgets_and_older_one_is_not_counted() {
        let mut history = RouteHistory::default();
        history.begin(Duration::from_secs(1), Some(1));
        history.add(None, &snapshot(1, 9));
        history.end();
        history.begin(Duration::from_secs(1), Some(2));
        history.add(Some(&snapshot(1, 9)), &snapshot(2, 3));
        history.add(Some(&snapshot(1, 9)), &snapshot(1, 12));
        history.end();
        assert_eq!((history.generation(), count(&history, Window::Lifetime)), (Some(2), 3));
    }
}
