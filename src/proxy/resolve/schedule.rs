//! When a name is asked for again: takes the moment, and says the next one.

use std::time::Duration;

use crate::clock::Moment;
use crate::limits::{RESOLVE_MAX_MS, RESOLVE_MIN_MS, RESOLVE_RETRY_MAX_MS, RESOLVE_RETRY_MIN_MS};

const HOLDS_MIN: Duration = Duration::from_millis(RESOLVE_MIN_MS);
const HOLDS_MAX: Duration = Duration::from_millis(RESOLVE_MAX_MS);
const RETRY_MIN: Duration = Duration::from_millis(RESOLVE_RETRY_MIN_MS);
const RETRY_MAX: Duration = Duration::from_millis(RESOLVE_RETRY_MAX_MS);

/// When one name is asked for again.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// Look-ups in a row that failed.
    failures: u32,
}

impl Schedule {
    /// After an answer that came `now` and holds for `ttl`: then, within bounds.
    pub(super) fn after_answer(&mut self, now: Moment, ttl: Duration) -> Moment {
        self.failures = 0;
        now + ttl.clamp(HOLDS_MIN, HOLDS_MAX)
    }

    /// After an answer that lacks what could not be learnt: as after a failure, but never later than the part that came
    /// holds.
    pub(super) fn after_part(&mut self, now: Moment, ttl: Duration) -> Moment {
        self.after_failure(now).min(now + ttl.clamp(HOLDS_MIN, HOLDS_MAX))
    }

    /// After a failure: twice as long after each one in a row, up to a bound.
    pub(super) fn after_failure(&mut self, now: Moment) -> Moment {
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        now + RETRY_MIN.saturating_mul(factor).min(RETRY_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Moment = Moment::from_nanos(7_000_000_000);

    fn secs(wait: Moment) -> u64 {
        wait.since(NOW).as_secs()
    }

    #[test]
    fn an_answer_holds_for_its_ttl_within_bounds() {
        let mut schedule = Schedule::default();
        for (ttl, holds) in [(0, 1), (1, 1), (2, 2), (59, 59), (300, 300), (301, 300), (u64::MAX, 300)] {
            assert_eq!(secs(schedule.after_answer(NOW, Duration::from_secs(ttl))), holds, "TTL {ttl}");
        }
    }

    #[test]
    fn failures_wait_twice_as_long_each_time_until_an_answer() {
        let mut schedule = Schedule::default();
        let waits: Vec<_> = (0..8).map(|_| secs(schedule.after_failure(NOW))).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        schedule.after_answer(NOW, Duration::from_secs(60));
        assert_eq!(secs(schedule.after_failure(NOW)), 1);
    }

    #[test]
    fn half_an_answer_is_asked_for_again_as_a_failure_but_not_after_its_ttl() {
        let mut schedule = Schedule::default();
        let waits: Vec<_> = (0..6).map(|_| secs(schedule.after_part(NOW, Duration::from_secs(5)))).collect();
        assert_eq!(waits, [1, 2, 4, 5, 5, 5]);
    }

    #[derive(Debug, Clone, Copy)]
    enum Event {
        Answer(u64),
        Part(u64),
        Failure,
    }

    proptest! {
        /// Whatever happens, for as long as it likes: never in a busy loop, never forgotten.
        #[test]
        fn the_next_time_is_always_within_bounds(
            events in proptest::collection::vec(
                prop_oneof![
                    any::<u64>().prop_map(Event::Answer),
                    (0_u64..1000).prop_map(Event::Part),
                    Just(Event::Failure),
                ],
                1..200,
            ),
        ) {
            let mut schedule = Schedule { failures: u32::MAX - 2 };
            for event in events {
                let (next, most) = match event {
                    Event::Answer(ttl) => (schedule.after_answer(NOW, Duration::from_secs(ttl)), HOLDS_MAX),
                    Event::Part(ttl) => (schedule.after_part(NOW, Duration::from_secs(ttl)), RETRY_MAX),
                    Event::Failure => (schedule.after_failure(NOW), RETRY_MAX),
                };
                prop_assert!(next.since(NOW) >= HOLDS_MIN.min(RETRY_MIN) && next.since(NOW) <= most);
            }
        }
    }
}
