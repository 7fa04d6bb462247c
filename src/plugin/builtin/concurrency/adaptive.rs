//! A limit that is found out: as many requests at once as are answered without a queue.
//!
//! The gradient of Netflix's concurrency-limits: where answers take longer than they would without a queue, requests wait
//! somewhere behind, and the limit falls by that ratio; where they do not, it grows by the square root of itself (of all cores together), which is the
//! queue that is allowed for. Times are taken in lots, so that one slow answer moves nothing.
//!
//! How long answers take without a queue ([`Base`]) cannot be had from the answers of a server under load: the long-run mean
//! that Netflix takes for it follows the queue, so that under a load that lasts the limit grows for ever (`model_tests` has
//! such loads). Here it is measured. For one window in [`PERIOD`] two fifths of the requests are let in, which leaves no queue where
//! the limit is about right and a shorter one where it is not, so that the next window finds a better one. A server that
//! becomes slower for each answer has the limit fall until the next window shows it.
//!
//! Each core finds a limit for itself, but what it is found by is known to all of them, and their windows are the same by the
//! clock that they share. A core that measured alone would see the queue of the others; and where cores knew different
//! times, those with the longer ones would drive out the others, and the more so the longer they lasted (tried in the model).

use std::sync::Arc;

use crate::clock::Moment;
use crate::sync::atomic::{AtomicU64, Ordering};

/// Bounds and manners of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bounds {
    pub(super) min: u32,
    pub(super) max: u32,
    /// How much longer answers may take than without a queue without the limit falling.
    pub(super) tolerance: f64,
    /// How many cores have such bounds: the queue that is allowed for is shared among them.
    pub(super) cores: u32,
}

/// Answers of which the times are taken together.
const LOT: u32 = 32;
/// How far one lot moves the limit towards what it asks for.
const STEP: f64 = 0.2;
/// The limit falls by half at most, for one lot.
const GRADIENT_MIN: f64 = 0.5;
/// How far a lot moves what is known of times without a queue, where it cannot have had one.
const DRIFT: f64 = 0.25;
/// Windows from one measurement to the next.
const PERIOD: u64 = 16;
/// The share of the limit that is let in while it is measured.
const MEASURED: f64 = 0.4;
/// A window is so many times as long as an answer takes without a queue: its first half lets the queue go, in its second
/// half the requests begin that are measured.
const ANSWERS_PER_WINDOW: f64 = 4.0;
/// Nanoseconds of the shortest window and of the longest; powers of two, as all of them are, so that longer ones begin with
/// shorter ones where a core does not know the latest yet.
const WINDOW_MIN: u64 = 1 << 28;
const WINDOW_MAX: u64 = 1 << 35;
/// Nanoseconds that answers take without a queue, as far as is known, for all cores: a floating-point number, as its bits; 0:
/// it is not known. Cores write it once in a lot at most, and read it as often. Where two do so at once, one of them is lost,
/// as good as the other.
#[derive(Debug, Default)]
pub(super) struct Base(AtomicU64);

impl Base {
    fn get(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }

    fn set(&self, nanos: f64) {
        self.0.store(nanos.max(1.0).to_bits(), Ordering::Relaxed);
    }
}

/// The mean of some times.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Mean {
    count: u32,
    sum: f64,
}

impl Mean {
    fn add(&mut self, nanos: u64) {
        self.count += 1;
        self.sum += nanos as f64;
    }

    fn get(self) -> f64 {
        (self.sum / f64::from(self.count.max(1))).max(1.0)
    }
}

/// The limit of one core.
#[derive(Debug)]
pub(super) struct Adaptive {
    bounds: Bounds,
    limit: f64,
    base: Arc<Base>,
    /// Nanoseconds of a window, by what was known at the last lot; 0: nothing was.
    window: u64,
    lot: Mean,
    /// Requests that were under way at most in this lot.
    busiest: u32,
    /// What was measured in the window of this number.
    measured: Mean,
    window_number: u64,
}

impl Adaptive {
    /// Starts in the middle, as far as ratios go.
    pub(super) fn new(bounds: Bounds, base: Arc<Base>) -> Self {
        let limit = (f64::from(bounds.min) * f64::from(bounds.max)).sqrt();
        Self {
            bounds,
            limit,
            base,
            window: 0,
            lot: Mean::default(),
            busiest: 0,
            measured: Mean::default(),
            window_number: 0,
        }
    }

    /// The requests that may be under way at this moment.
    pub(super) fn limit(&self, now: Moment) -> u32 {
        let limit = if self.is_measured(now) { self.measuring_limit() } else { self.limit };
        // Within the bounds, which are whole.
        limit as u32
    }

    fn measuring_limit(&self) -> f64 {
        (self.limit * MEASURED).max(self.bounds.min.into())
    }

    /// The number of the period, and how far it is in.
    fn place(&self, at: Moment) -> (u64, u64) {
        let period = self.window.max(1) * PERIOD;
        (at.as_nanos() / period, at.as_nanos() % period)
    }

    fn is_measured(&self, at: Moment) -> bool {
        self.place(at).1 < self.window
    }

    /// A request that began then is answered now, while so many are under way.
    pub(super) fn note(&mut self, began: Moment, now: Moment, under_way: u32) {
        let nanos = now.as_nanos().saturating_sub(began.as_nanos());
        if self.is_measured(began) {
            return self.measure(began, nanos);
        }
        self.lot.add(nanos);
        self.busiest = self.busiest.max(under_way);
        if self.lot.count == LOT {
            let (short, busiest) = (std::mem::take(&mut self.lot).get(), std::mem::take(&mut self.busiest));
            self.settle(now, short, busiest);
        }
    }

    /// A request that began in a window.
    fn measure(&mut self, began: Moment, nanos: u64) {
        let (number, since) = self.place(began);
        if since < self.window / 2 {
            // It may have waited behind what was let in before.
            return;
        }
        if number != self.window_number {
            (self.window_number, self.measured) = (number, Mean::default());
        }
        self.measured.add(nanos);
        if self.measured.count == LOT {
            self.take_measured();
        }
    }

    /// What was measured is what is known now. Few answers count for less.
    fn take_measured(&mut self) {
        let measured = std::mem::take(&mut self.measured);
        let share = f64::from(measured.count) / f64::from(LOT);
        self.move_base(measured.get(), share);
    }

    /// Moves what is known towards these nanoseconds by a share of the way.
    fn move_base(&mut self, nanos: f64, share: f64) {
        let known = self.base.get();
        self.base.set(if known == 0.0 { nanos } else { known + share * (nanos - known) });
    }

    /// Goes by what is known now.
    fn follow_base(&mut self) {
        let window = (ANSWERS_PER_WINDOW * self.base.get()) as u64;
        let window = window.clamp(WINDOW_MIN, WINDOW_MAX).next_power_of_two();
        if window != self.window {
            // Windows have other numbers now.
            (self.window, self.measured) = (window, Mean::default());
        }
    }

    fn settle(&mut self, now: Moment, short: f64, busiest: u32) {
        if self.measured.count > 0 && self.place(now).1 > 2 * self.window {
            // The others that began in that window have been answered, or count for nothing.
            self.take_measured();
        }
        let (known, is_held_up) = (self.base.get(), f64::from(busiest) >= self.limit / 2.0);
        if !is_held_up || short < known || known == 0.0 {
            // There is no queue, or not for long; or nothing better is known.
            self.move_base(short, DRIFT);
        }
        self.follow_base();
        if !is_held_up {
            // Nothing was learnt of the limit.
            return;
        }
        let gradient = (self.bounds.tolerance * self.base.get() / short).clamp(GRADIENT_MIN, 1.0);
        let wanted = self.limit * gradient + (self.limit / f64::from(self.bounds.cores)).sqrt();
        let next = self.limit + STEP * (wanted - self.limit);
        self.limit = next.clamp(self.bounds.min.into(), self.bounds.max.into());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_limit_stays_within_its_bounds(
            min in 1_u32..100, more in 0_u32..400, tolerance in 1.0_f64..10.0, cores in 1_u32..64,
            answers in prop::collection::vec((any::<u64>(), any::<u64>(), 0_u32..1000), 0..400),
        ) {
            let bounds = Bounds { min, max: min + more, tolerance, cores };
            let mut adaptive = Adaptive::new(bounds, Arc::default());
            for (began, now, under_way) in answers {
                for _ in 0..LOT {
                    adaptive.note(Moment::from_nanos(began), Moment::from_nanos(now), under_way);
                }
                prop_assert!((bounds.min..=bounds.max).contains(&adaptive.limit(Moment::from_nanos(now))), "{adaptive:?}");
            }
        }
    }

    #[test]
    fn windows_are_longer_for_slower_servers_and_begin_with_those_of_faster_ones() {
        for (millis, window) in
            [(1, WINDOW_MIN), (60, WINDOW_MIN), (100, 1 << 29), (1000, 1 << 32), (3_600_000, WINDOW_MAX)]
        {
            let mut adaptive = Adaptive::new(Bounds { min: 1, max: 100, tolerance: 1.5, cores: 1 }, Arc::default());
            assert!(!adaptive.is_measured(Moment::from_nanos(0)), "nothing is known");
            adaptive.move_base(f64::from(millis) * 1e6, 1.0);
            adaptive.follow_base();
            assert_eq!(adaptive.window, window, "{millis} ms");
            let period = Moment::from_nanos(WINDOW_MAX * PERIOD);
            assert!(
                adaptive.is_measured(period) && !adaptive.is_measured(Moment::from_nanos(period.as_nanos() + window))
            );
        }
    }
}
