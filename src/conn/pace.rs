//! How slow a client may be: deadlines that its bytes push back. Pure arithmetic, `now` is passed in.
//!
//! Each phase has a total, so that nothing lasts for ever, and a minimum rate, so that a trickle ends long before that.
//! Only time that the client makes us wait counts: not while a handler thinks, not while nothing waits to be taken.

use std::num::NonZeroU64;
use std::time::Duration;

use super::connection::Silence;
use crate::clock::Moment;

/// Bytes a second at which a client has to send and to take, at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// How long a head may come at any rate.
    pub grace: Duration,
    /// Of a request head, after `grace`.
    pub head: NonZeroU64,
    /// Of a request body, after `Timeouts::body`.
    pub body: NonZeroU64,
    /// Of responses, after `Timeouts::write`.
    pub write: NonZeroU64,
}

impl Default for Rates {
    /// The defaults of the config: those of mod_reqtimeout, a fiftieth of what the slowest mobile networks give. The grace
    /// lets a head's second packet be lost twice.
    fn default() -> Self {
        const RATE: NonZeroU64 = NonZeroU64::new(500).unwrap();
        Self { grace: Duration::from_secs(5), head: RATE, body: RATE, write: RATE }
    }
}

/// The time in which so many bytes come at this rate.
fn earned(bytes: u64, rate: NonZeroU64) -> Duration {
    // Above u64::MAX micros of bytes it is too little, and still longer than any time-out.
    Duration::from_micros(bytes.saturating_mul(1_000_000) / rate)
}

/// The time of a head that has begun to come and has not ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HeadTime {
    /// When its first bytes came.
    began: Moment,
    /// When it must be complete, however fast it comes.
    last: Moment,
}

impl HeadTime {
    pub(super) fn new(began: Moment, last: Moment) -> Self {
        Self { began, last }
    }

    /// When it must be complete, as `bytes` of it have come, and what it is late by then: the way of Apache's mod_reqtimeout, and cheaper than looking
    /// at a rate now and then.
    pub(super) fn due(&self, bytes: usize, rates: &Rates) -> (Moment, Silence) {
        let paced = self.began + rates.grace + earned(bytes as u64, rates.head);
        if paced < self.last { (paced, Silence::HeadRate) } else { (self.last, Silence::Head) }
    }
}

/// How long the client may keep us waiting: a bucket that waiting empties and moved bytes fill, so that both a pause and a
/// trickle end and a long body that flows does not; and the waiting that is left in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Patience {
    full: Duration,
    left: Duration,
    left_in_all: Duration,
    rate: NonZeroU64,
    /// Since when we wait.
    since: Option<Moment>,
}

impl Patience {
    pub(super) fn new(full: Duration, in_all: Duration, rate: NonZeroU64) -> Self {
        Self { full, left: full, left_in_all: in_all, rate, since: None }
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.since.is_some()
    }

    /// Waiting begins, if it has not yet: when it ends at the latest.
    pub(super) fn wait(&mut self, now: Moment) -> Moment {
        *self.since.get_or_insert(now) + self.left.min(self.left_in_all)
    }

    /// As [`Patience::wait`], and comes back sooner, this often in a time-out, to look whether bytes have moved unseen.
    pub(super) fn wait_for_look(&mut self, now: Moment, looks: u32) -> Moment {
        self.wait(now).min(self.since.unwrap_or(now) + self.full / looks)
    }

    /// Waiting ends, or is interrupted: what comes next is not the client's delay.
    pub(super) fn pause(&mut self, now: Moment) {
        if let Some(since) = self.since.take() {
            let waited = now.since(since);
            self.left = self.left.saturating_sub(waited);
            self.left_in_all = self.left_in_all.saturating_sub(waited);
        }
    }

    /// So many bytes have moved.
    pub(super) fn earn(&mut self, bytes: u64) {
        self.left = self.left.saturating_add(earned(bytes, self.rate)).min(self.full);
    }

    /// Whether the waiting that is going on has taken the last of what was left in all.
    pub(super) fn is_spent_in_all(&self, now: Moment) -> bool {
        let waited = self.since.map_or(Duration::ZERO, |since| now.since(since));
        self.left_in_all <= waited && self.left_in_all <= self.left
    }

    /// Whether there is none left.
    pub(super) fn is_over(&self) -> bool {
        self.left.min(self.left_in_all).is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn at(ms: u64) -> Moment {
        Moment::from_nanos(ms * 1_000_000)
    }

    fn rate(bytes_per_second: u64) -> NonZeroU64 {
        NonZeroU64::new(bytes_per_second).unwrap()
    }

    /// How long a client lasts that moves `bytes` each `step`; `None`: longer than `most`.
    fn lasts(mut patience: Patience, bytes: u64, step: Duration, most: Duration) -> Option<Duration> {
        let (start, mut now) = (at(0), at(0));
        while now.since(start) < most {
            let due = patience.wait(now);
            now = now + step;
            if due < now {
                return Some(due.since(start));
            }
            patience.pause(now);
            patience.earn(bytes);
        }
        None
    }

    #[test]
    fn a_head_has_its_grace_and_then_its_rate_and_never_more_than_the_total() {
        let head = HeadTime::new(at(1000), at(11_000));
        assert_eq!(head.due(0, &Rates::default()), (at(6000), Silence::HeadRate));
        assert_eq!(head.due(500, &Rates::default()), (at(7000), Silence::HeadRate));
        assert_eq!(head.due(2500, &Rates::default()), (at(11_000), Silence::Head));
        assert_eq!(head.due(64 * 1024, &Rates::default()), (at(11_000), Silence::Head));
        assert_eq!(HeadTime::new(at(9000), at(10_000)).due(1, &Rates::default()), (at(10_000), Silence::Head));
    }

    #[test]
    fn a_pause_ends_after_the_time_out_and_a_trickle_soon_after() {
        let patience = Patience::new(30 * SECOND, 3600 * SECOND, rate(500));
        assert_eq!(lasts(patience, 0, 100 * SECOND, 200 * SECOND), Some(30 * SECOND));
        // A byte each 29 seconds would last for ever under a bound on pauses alone.
        let trickle = lasts(patience, 1, 29 * SECOND, 3600 * SECOND).unwrap();
        assert!(trickle < 31 * SECOND, "{trickle:?}");
        let half = lasts(patience, 250, SECOND, 3600 * SECOND).unwrap();
        assert!((59 * SECOND..61 * SECOND).contains(&half), "{half:?}");
    }

    #[test]
    fn the_minimum_rate_is_kept_up_until_the_total() {
        let patience = Patience::new(30 * SECOND, 3600 * SECOND, rate(500));
        assert_eq!(lasts(patience, 500, SECOND, 3599 * SECOND), None);
        assert_eq!(lasts(patience, 500, SECOND, 4000 * SECOND), Some(3600 * SECOND));
        // Pauses up to the time-out, as of a phone that changes networks.
        assert_eq!(lasts(patience, 15_000, 29 * SECOND, 3000 * SECOND), None);
    }

    #[test]
    fn what_was_sent_fast_buys_no_longer_pause() {
        let mut patience = Patience::new(30 * SECOND, 3600 * SECOND, rate(500));
        patience.earn(1 << 30);
        assert_eq!(patience.wait(at(0)), at(30_000));
        patience.pause(at(10_000));
        patience.earn(u64::MAX);
        assert_eq!(patience.wait(at(20_000)), at(50_000));
    }

    #[test]
    fn time_that_is_not_waited_costs_nothing() {
        let mut patience = Patience::new(SECOND, 2 * SECOND, rate(1));
        for hour in 0..100 {
            patience.wait(at(hour * 3_600_000));
            patience.pause(at(hour * 3_600_000 + 9));
        }
        assert_eq!(patience.wait(at(0)), at(100));
        assert!(!patience.is_over());
    }

    #[test]
    fn looks_come_before_the_end_and_not_after_it() {
        let mut patience = Patience::new(8 * SECOND, 100 * SECOND, rate(500));
        assert_eq!(patience.wait_for_look(at(1000), 4), at(3000));
        patience.pause(at(8500));
        assert_eq!(patience.wait_for_look(at(9000), 4), at(9500));
        patience.pause(at(9500));
        assert!(patience.is_over());
    }

    proptest! {
        /// Whatever a client does, the waiting for it is at most a time-out, and what its bytes take at the minimum rate;
        /// and never more than the total.
        #[test]
        fn nobody_is_waited_for_longer_than_bytes_allow(
            full in 1_u64..5000, total in 1_u64..50_000, rate_of in 1_u64..5000,
            steps in prop::collection::vec((0_u64..3000, 0_u64..2000, 0_u64..5000), 1..100),
        ) {
            let (full, total) = (Duration::from_millis(full), Duration::from_millis(total));
            let mut patience = Patience::new(full, total, rate(rate_of));
            let (mut now, mut waited, mut bytes) = (at(1), Duration::ZERO, 0);
            for (wait, moved, busy) in steps {
                let due = patience.wait(now);
                let end = (now + Duration::from_millis(wait)).min(due);
                waited += end.since(now);
                now = end;
                patience.pause(now);
                prop_assert!(waited <= total && waited <= full + earned(bytes, rate(rate_of)) + SECOND / 1000);
                if patience.is_over() {
                    break;
                }
                bytes += moved;
                patience.earn(moved);
                now = now + Duration::from_millis(busy);
            }
        }

        /// More bytes never bring a head's end forward, and it is never behind the total.
        #[test]
        fn a_head_is_never_due_earlier_for_more_bytes(began in 0_u64..20_000, one in 0_usize..70_000, more in 0_usize..70_000) {
            let head = HeadTime::new(at(began), at(10_000));
            let due = |bytes| head.due(bytes, &Rates::default()).0;
            let (first, second) = (due(one), due(one + more));
            prop_assert!(first <= second && second <= at(10_000));
        }
    }
}
