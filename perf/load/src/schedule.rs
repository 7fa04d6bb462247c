//! When requests are sent: as soon as the one before is answered, at fixed times, or once on each connection.

use std::time::{Duration, Instant};

/// Times at a fixed rate, which do not depend on how the server fares. A latency that is measured from them counts the
/// time that a request waited for its turn; measured from the moment of sending it would leave out just the requests
/// that a stall held up ("coordinated omission").
#[derive(Clone, Debug)]
pub struct Schedule {
    start: Instant,
    nanos_per_request: f64,
    /// Requests in all.
    total: u64,
    /// Requests that were handed out.
    taken: u64,
    /// Requests that were seen to be due; those beyond the taken ones wait for a free connection.
    noticed: u64,
}

impl Schedule {
    /// `rate` requests a second for `length`, evenly spaced, the first at `start`.
    pub fn new(start: Instant, rate: f64, length: Duration) -> Self {
        let total = (rate * length.as_secs_f64()).round().max(1.0) as u64;
        Self { start, nanos_per_request: 1e9 / rate, total, taken: 0, noticed: 0 }
    }

    /// Requests that were not handed out yet.
    pub fn left(&self) -> u64 {
        self.total - self.taken
    }

    /// When request `index` is to be sent; `None` behind the last. Multiplied, not added up, so that no error grows.
    fn time(&self, index: u64) -> Option<Instant> {
        let after = Duration::from_nanos((index as f64 * self.nanos_per_request) as u64);
        (index < self.total).then(|| self.start + after)
    }

    /// The intended time of the next request if it is due.
    pub fn take_due(&mut self, now: Instant) -> Option<Instant> {
        let due = self.time(self.taken).filter(|time| *time <= now)?;
        self.taken += 1;
        Some(due)
    }

    /// How late the next request is that had not been seen to be due, whether or not a connection is free for it.
    pub fn notice(&mut self, now: Instant) -> Option<Duration> {
        let due = self.time(self.noticed).filter(|time| *time <= now)?;
        self.noticed += 1;
        Some(now - due)
    }
}

/// What decides about the next request of a connection that has none in flight.
#[derive(Debug)]
pub enum Pace {
    /// At once, until this moment.
    Closed { until: Instant },
    /// When the schedule says so, on whichever connection is free; if none is, it waits and the wait counts.
    Open(Schedule),
    /// One on each connection, so many connections at a time.
    Once { left: usize, at_once: usize },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_even_and_do_not_drift() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, 3.0, Duration::from_secs(1000));
        assert_eq!(schedule.left(), 3000);
        let far = start + Duration::from_secs(2000);
        let times: Vec<_> = std::iter::from_fn(|| schedule.take_due(far)).collect();
        assert_eq!(times.len(), 3000);
        assert_eq!(times[0], start);
        assert_eq!(times[3 * 999], start + Duration::from_secs(999));
        assert!(times.is_sorted());
    }

    #[test]
    fn nothing_is_due_early_and_what_is_late_keeps_its_time() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, 1000.0, Duration::from_secs(1));
        assert_eq!(schedule.take_due(start), Some(start));
        assert_eq!(schedule.take_due(start + Duration::from_micros(999)), None);
        let late = start + Duration::from_millis(50);
        assert_eq!(schedule.take_due(late), Some(start + Duration::from_millis(1)));
        assert_eq!(schedule.take_due(late), Some(start + Duration::from_millis(2)));
        assert_eq!(schedule.left(), 997);
    }

    #[test]
    fn lateness_is_noticed_once_for_each_request_and_does_not_need_a_connection() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, 1000.0, Duration::from_secs(1));
        let late = start + Duration::from_micros(2500);
        let seen: Vec<_> = std::iter::from_fn(|| schedule.notice(late)).map(|lag| lag.as_micros()).collect();
        assert_eq!(seen, [2500, 1500, 500]);
        assert_eq!(schedule.left(), 1000);
    }
}
