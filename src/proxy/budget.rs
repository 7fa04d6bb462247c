//! How many requests may be sent a second time: a share of those that came, so that retries cannot multiply the load of
//! servers that fail under it.

use crate::clock::Moment;
use crate::limits::{RETRY_FLOOR_PER_SEC, RETRY_WINDOW_SECS};

/// One more than the window has seconds: the oldest is only partly within it.
const BUCKETS: usize = RETRY_WINDOW_SECS as usize + 1;
const BUCKET_NANOS: u64 = 1_000_000_000;

/// One core's retry budget of one upstream.
///
/// Events are counted by the second. Of the eleven seconds that the last ten may touch, retries are counted in all,
/// requests only in the ten that lie wholly within. So each retry that is granted keeps to this: in the ten seconds that
/// end with it there were, itself included, at most `share` times as many retries as requests, plus the floor.
#[derive(Debug, Clone)]
pub struct RetryBudget {
    /// Retries for each request.
    share: f64,
    /// Retries within the window that are granted without any request.
    floor: u64,
    buckets: [Bucket; BUCKETS],
    /// The second that is counted now.
    second: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Bucket {
    requests: u64,
    retries: u64,
}

impl RetryBudget {
    /// A budget of `share` retries for each request. `cores` is how many cores share the floor of
    /// [`RETRY_FLOOR_PER_SEC`], so that an upstream with few requests may still have its failures retried; each has one
    /// retry in the window at least. A share of zero (or one that is no number) grants nothing, floor included.
    pub fn new(share: f64, cores: usize) -> Self {
        let floor = (RETRY_FLOOR_PER_SEC * RETRY_WINDOW_SECS).div_ceil(cores.max(1) as u64);
        let (share, floor) = if share > 0.0 { (share, floor) } else { (0.0, 0) };
        Self { share, floor, buckets: [Bucket::default(); BUCKETS], second: 0 }
    }

    /// Counts a request that goes to the upstream; once, whatever the number of its attempts.
    #[inline]
    pub fn note_request(&mut self, now: Moment) {
        self.bucket(now).requests += 1;
    }

    /// Whether one more attempt may be made; if so, it is counted.
    pub fn try_retry(&mut self, now: Moment) -> bool {
        self.bucket(now);
        let oldest = self.buckets[self.index(self.second + 1)].requests;
        let requests = self.buckets.iter().map(|bucket| bucket.requests).sum::<u64>() - oldest;
        let retries = self.buckets.iter().map(|bucket| bucket.retries).sum::<u64>();
        // The cast ends at the largest number; a fraction of a retry is none.
        let granted = ((self.share * requests as f64) as u64).saturating_add(self.floor);
        if retries >= granted {
            return false;
        }
        self.bucket(now).retries += 1;
        true
    }

    fn index(&self, second: u64) -> usize {
        (second % BUCKETS as u64) as usize
    }

    /// The bucket of `now`, after those have been emptied that lie behind. A moment before the last one (the cached
    /// moment of another turn) counts as the last.
    #[inline]
    fn bucket(&mut self, now: Moment) -> &mut Bucket {
        let second = now.as_nanos() / BUCKET_NANOS;
        if second > self.second {
            self.advance(second);
        }
        let index = self.index(self.second);
        &mut self.buckets[index]
    }

    #[cold]
    fn advance(&mut self, second: u64) {
        let passed = (second - self.second).min(BUCKETS as u64);
        for behind in 0..passed {
            let index = self.index(second - behind);
            self.buckets[index] = Bucket::default();
        }
        self.second = second;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    const START: Moment = Moment::from_nanos(40 * BUCKET_NANOS + 123_456_789);

    /// Remembers every event.
    #[derive(Default)]
    struct Naive {
        requests: Vec<Moment>,
        retries: Vec<Moment>,
    }

    fn within(events: &[Moment], now: Moment) -> u64 {
        events.iter().filter(|event| now.since(**event) < Duration::from_secs(RETRY_WINDOW_SECS)).count() as u64
    }

    /// Nanoseconds until the next event, and whether it is a retry: bursts, and pauses around a second and the window.
    fn events() -> impl Strategy<Value = Vec<(u64, bool)>> {
        let wait = prop_oneof![
            6 => Just(0),
            6 => 0..BUCKET_NANOS / 10,
            2 => Just(BUCKET_NANOS),
            1 => 0..12 * BUCKET_NANOS,
            1 => Just(RETRY_WINDOW_SECS * BUCKET_NANOS),
        ];
        prop::collection::vec((wait, prop::bool::weighted(0.5)), 0..300)
    }

    proptest! {
        #[test]
        fn no_ten_seconds_that_end_with_a_retry_have_more_than_their_share(
            events in events(), share in 0.0..2.0_f64, cores in 1_usize..40,
        ) {
            let mut budget = RetryBudget::new(share, cores);
            let (mut naive, mut now) = (Naive::default(), START);
            for (wait, is_retry) in events {
                now = now + Duration::from_nanos(wait);
                if is_retry {
                    if budget.try_retry(now) {
                        naive.retries.push(now);
                        let bound = share * within(&naive.requests, now) as f64 + budget.floor as f64;
                        prop_assert!(within(&naive.retries, now) as f64 <= bound);
                    }
                } else {
                    budget.note_request(now);
                    naive.requests.push(now);
                }
            }
        }

        /// The other side of the bound: what the last nine seconds alone allow is never refused.
        #[test]
        fn a_retry_is_only_refused_where_the_share_is_used_up(events in events(), share in 0.01..2.0_f64) {
            let mut budget = RetryBudget::new(share, 4);
            let (mut naive, mut now) = (Naive::default(), START);
            for (wait, is_retry) in events {
                now = now + Duration::from_nanos(wait);
                if is_retry {
                    if budget.try_retry(now) {
                        naive.retries.push(now);
                    } else {
                        let span = |seconds: u64| Duration::from_secs(seconds);
                        let requests = naive.requests.iter().filter(|event| now.since(**event) <= span(9)).count();
                        let retries = naive.retries.iter().filter(|event| now.since(**event) < span(11)).count();
                        prop_assert!(retries as u64 >= (share * requests as f64) as u64 + budget.floor);
                    }
                } else {
                    budget.note_request(now);
                    naive.requests.push(now);
                }
            }
        }
    }

    #[test]
    fn a_quiet_upstream_may_retry_three_times_a_second_over_all_cores() {
        for (cores, granted) in [(1, 30), (4, 8), (7, 5), (100, 1)] {
            let mut budget = RetryBudget::new(0.2, cores);
            assert_eq!((0..100).filter(|_| budget.try_retry(START)).count(), granted, "{cores} cores");
            let later = START + Duration::from_secs(RETRY_WINDOW_SECS + 1);
            assert_eq!((0..100).filter(|_| budget.try_retry(later)).count(), granted, "{cores} cores, later");
        }
    }

    #[test]
    fn a_busy_upstream_may_retry_its_share() {
        let mut budget = RetryBudget::new(0.2, 100);
        (0..1000).for_each(|_| budget.note_request(START));
        assert_eq!((0..1000).filter(|_| budget.try_retry(START)).count(), 201);
    }

    #[test]
    fn a_budget_of_zero_grants_nothing() {
        for share in [0.0, -1.0, f64::NAN] {
            let mut budget = RetryBudget::new(share, 1);
            (0..1000).for_each(|_| budget.note_request(START));
            assert!(!budget.try_retry(START));
        }
    }

    #[test]
    fn time_that_steps_back_is_counted_in_the_last_second() {
        let mut budget = RetryBudget::new(0.2, 30);
        assert!(budget.try_retry(START + Duration::from_secs(5)));
        assert!(!budget.try_retry(START));
    }
}
