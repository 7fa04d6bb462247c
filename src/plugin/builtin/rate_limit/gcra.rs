//! The generic cell rate algorithm: what a key has used, as one moment.
//!
//! A cell is the moment at which all that was taken is paid back (the theoretical arrival time of ITU-T I.371), in nanoseconds of
//! [`crate::clock`]. Each permit that is taken moves it by one interval, and it may lie at most `burst` intervals ahead.
//! In any span of time `w`, a cell thus gives at most `burst + w / interval` permits.

use std::time::Duration;

/// How many permits there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limit {
    /// Nanoseconds in which one permit comes back.
    pub(super) interval: u64,
    /// Permits that can be taken at once.
    pub(super) burst: u32,
}

impl Limit {
    /// So many in a time, rounded so that it is never more.
    pub(super) fn new(count: u32, per: Duration, burst: u32) -> Self {
        let per = u64::try_from(per.as_nanos()).unwrap_or(u64::MAX);
        Self { interval: per.div_ceil(count.max(1).into()).max(1), burst: burst.max(1) }
    }

    /// Nanoseconds until all permits are back when none is left.
    pub(super) fn span(&self) -> u64 {
        self.interval.saturating_mul(self.burst.into())
    }

    /// Permits that a cell has left.
    pub(super) fn left(&self, cell: u64, now: u64) -> u32 {
        let owed = cell.saturating_sub(now).min(self.span());
        // At most `burst`.
        ((self.span() - owed) / self.interval) as u32
    }

    /// Takes as many permits as there are, up to `most`: what the cell is then, and how many; `None` where there is none.
    pub(super) fn take(&self, cell: u64, now: u64, most: u32) -> Option<(u64, u32)> {
        let count = self.left(cell, now).min(most);
        let owed = self.interval.saturating_mul(count.into());
        (count > 0).then(|| (cell.max(now).saturating_add(owed), count))
    }

    /// When a cell has a permit again.
    pub(super) fn next(&self, cell: u64) -> u64 {
        cell.saturating_add(self.interval).saturating_sub(self.span())
    }
}

/// Whole seconds from `now` to a moment, rounded up.
pub(super) fn seconds_until(moment: u64, now: u64) -> u64 {
    Duration::from_nanos(moment.saturating_sub(now)).as_nanos().div_ceil(1_000_000_000) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Whether one more at `now` keeps every span of time that ends there within the limit.
    fn fits(limit: Limit, admitted: &[u64], now: u64) -> bool {
        let spans = admitted.iter().enumerate();
        spans.fold(true, |fits, (index, first)| {
            let count = (admitted.len() - index + 1) as u64;
            fits && count <= u64::from(limit.burst) + (now - first) / limit.interval
        })
    }

    proptest! {
        #[test]
        fn a_cell_admits_exactly_what_no_span_of_time_forbids(
            interval in 1_u64..50, burst in 1_u32..8, gaps in prop::collection::vec(0_u64..60, 1..200),
        ) {
            let limit = Limit { interval, burst };
            let (mut cell, mut now, mut admitted) = (0, 1_000_000, Vec::new());
            for gap in gaps {
                now += gap;
                let expected = fits(limit, &admitted, now);
                let left = limit.left(cell, now);
                prop_assert_eq!(left > 0, expected);
                prop_assert_eq!(now >= limit.next(cell), expected);
                match limit.take(cell, now, 1) {
                    Some((next, 1)) if expected => {
                        prop_assert!(next > cell, "cells only grow");
                        prop_assert_eq!(limit.left(next, now), left - 1);
                        cell = next;
                        admitted.push(now);
                    }
                    taken => prop_assert!(taken.is_none() && !expected),
                }
            }
        }

        #[test]
        fn many_at_once_are_as_many_one_by_one(
            interval in 1_u64..50, burst in 1_u32..20, cell in 0_u64..2000, now in 0_u64..2000, most in 1_u32..30,
        ) {
            let limit = Limit { interval, burst };
            let cell = cell.min(now + limit.span());
            let (mut one_by_one, mut count) = (cell, 0);
            while count < most && let Some((next, 1)) = limit.take(one_by_one, now, 1) {
                (one_by_one, count) = (next, count + 1);
            }
            prop_assert_eq!(limit.take(cell, now, most), (count > 0).then_some((one_by_one, count)));
        }
    }

    #[test]
    fn a_rate_is_rounded_down_and_a_wait_up() {
        let limit = Limit::new(3, Duration::from_secs(1), 2);
        assert_eq!((limit.interval, limit.span()), (333_333_334, 666_666_668));
        assert_eq!(Limit::new(1, Duration::from_secs(3600), 0).burst, 1);
        assert_eq!((seconds_until(1, 0), seconds_until(0, 5), seconds_until(2_000_000_000, 0)), (1, 0, 2));
    }
}
