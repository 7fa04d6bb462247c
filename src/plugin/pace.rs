//! How often a line is logged that many requests have a reason for.

use std::time::Duration;

use crate::clock::Moment;
use crate::limits::FAILURE_LOG_MS;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The lines about one cause: one in [`FAILURE_LOG_MS`], which tells how many were left out.
#[derive(Debug)]
pub(crate) struct Pace {
    /// When the next line may be written, in nanoseconds of the clock.
    next: AtomicU64,
    left_out: AtomicU64,
}

impl Pace {
    pub(crate) fn new() -> Self {
        Self { next: AtomicU64::new(0), left_out: AtomicU64::new(0) }
    }

    /// Whether it is time for a line: with it, how many were left out since the last one.
    pub(crate) fn line(&self, now: Moment) -> Option<u64> {
        let next = self.next.load(Relaxed);
        let then = (now + Duration::from_millis(FAILURE_LOG_MS)).as_nanos();
        let is_due = now.as_nanos() >= next && self.next.compare_exchange(next, then, Relaxed, Relaxed).is_ok();
        if is_due {
            return Some(self.left_out.swap(0, Relaxed));
        }
        self.left_out.fetch_add(1, Relaxed);
        None
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_line_a_second_and_each_tells_of_those_left_out() {
        let pace = Pace::new();
        let line = |ms: u64| pace.line(Moment::from_nanos(ms * 1_000_000));
        let lines: Vec<_> = [0, 0, 1, 999, 1_000, 1_500, 2_600, 3_599].map(line).into();
        assert_eq!(lines, [Some(0), None, None, None, Some(3), None, Some(1), None]);
    }
}
