//! A limit that is found out: as many requests at once as are answered without a queue.
//!
//! The gradient of Netflix's concurrency-limits: where answers take longer than they did in the long run, requests wait somewhere
//! behind, and the limit falls by that ratio; where they do not, it grows by the square root of itself, which is the queue that
//! is allowed for. Times are taken in lots, so that one slow answer moves nothing.

/// Bounds and manners of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Bounds {
    pub(super) min: u32,
    pub(super) max: u32,
    /// How much longer answers may take than in the long run without the limit falling.
    pub(super) tolerance: f64,
}

/// Answers of which the times are taken together.
const LOT: u32 = 32;
/// How far one lot moves the limit towards what it asks for.
const STEP: f64 = 0.2;
/// The share of the long run that one lot is: some three hundred count.
const LONG_RUN: f64 = 0.006;
/// The limit falls by half at most, for one lot.
const GRADIENT_MIN: f64 = 0.5;

/// The limit of one core.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Adaptive {
    bounds: Bounds,
    limit: f64,
    /// Nanoseconds that answers take in the long run; 0: not known.
    long: f64,
    /// Of this lot: how many, how long in all, and how many were under way at most.
    count: u32,
    sum: f64,
    busiest: u32,
}

impl Adaptive {
    /// Starts in the middle, as far as ratios go.
    pub(super) fn new(bounds: Bounds) -> Self {
        let limit = (f64::from(bounds.min) * f64::from(bounds.max)).sqrt();
        Self { bounds, limit, long: 0.0, count: 0, sum: 0.0, busiest: 0 }
    }

    /// The requests that may be under way.
    pub(super) fn limit(&self) -> u32 {
        // Within the bounds, which are whole.
        self.limit as u32
    }

    /// An answer took so long; so many requests were under way.
    pub(super) fn note(&mut self, nanos: u64, under_way: u32) {
        self.count += 1;
        self.sum += nanos as f64;
        self.busiest = self.busiest.max(under_way);
        if self.count == LOT {
            let (short, busiest) = (self.sum / f64::from(LOT), self.busiest);
            (self.count, self.sum, self.busiest) = (0, 0.0, 0);
            self.settle(short.max(1.0), busiest);
        }
    }

    fn settle(&mut self, short: f64, busiest: u32) {
        self.long = if self.long == 0.0 { short } else { self.long + LONG_RUN * (short - self.long) };
        if self.long > 2.0 * short {
            // It was slow for long, and is so no more: what was normal then must not count for long.
            self.long *= 0.95;
        }
        if f64::from(busiest) < self.limit / 2.0 {
            // The limit held nobody up, so that nothing was learnt of it.
            return;
        }
        let gradient = (self.bounds.tolerance * self.long / short).clamp(GRADIENT_MIN, 1.0);
        let wanted = self.limit * gradient + self.limit.sqrt();
        let next = self.limit + STEP * (wanted - self.limit);
        self.limit = next.clamp(self.bounds.min.into(), self.bounds.max.into());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds { min: 2, max: 500, tolerance: 1.5 };

    /// A server that works on so many requests at once, each for a millisecond; the others wait.
    fn run(adaptive: &mut Adaptive, capacity: u32, offered: u32, lots: u32) {
        for _ in 0..lots * LOT {
            let under_way = adaptive.limit().min(offered);
            let time = 1_000_000.0 * (f64::from(under_way) / f64::from(capacity)).max(1.0);
            adaptive.note(time as u64, under_way);
        }
    }

    #[test]
    fn the_limit_comes_to_what_the_server_can_do() {
        let mut adaptive = Adaptive::new(BOUNDS);
        // At first few requests, so that it knows how long one takes.
        run(&mut adaptive, 50, 10, 200);
        run(&mut adaptive, 50, 1000, 100);
        assert!((50..200).contains(&adaptive.limit()), "{}", adaptive.limit());
        // The server loses four fifths of its power.
        run(&mut adaptive, 10, 1000, 30);
        assert!((10..60).contains(&adaptive.limit()), "{}", adaptive.limit());
    }

    #[test]
    fn a_limit_that_holds_nobody_up_stays() {
        let mut adaptive = Adaptive::new(BOUNDS);
        let before = adaptive.limit();
        run(&mut adaptive, 1000, 3, 100);
        assert_eq!(adaptive.limit(), before);
    }

    proptest! {
        #[test]
        fn the_limit_stays_within_its_bounds(
            min in 1_u32..100, more in 0_u32..400, times in prop::collection::vec((any::<u64>(), 0_u32..1000), 0..400),
        ) {
            let bounds = Bounds { min, max: min + more, tolerance: 1.0 };
            let mut adaptive = Adaptive::new(bounds);
            for (nanos, under_way) in times {
                for _ in 0..LOT {
                    adaptive.note(nanos, under_way);
                }
                prop_assert!((bounds.min..=bounds.max).contains(&adaptive.limit()), "{adaptive:?}");
            }
        }
    }
}
