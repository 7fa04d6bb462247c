//! How long a worker that broke down is left alone before it is started again.

use std::time::Duration;

use crate::limits::{RESTART_AFTER_MAX_MS, RESTART_AFTER_MS, RESTART_FORGET_SECONDS};

/// The breakdowns of one worker. There is no number of them at which it is given up: what breaks it may pass.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    /// Breakdowns that are not forgotten.
    row: u32,
}

impl Backoff {
    /// It broke down, or could not be started, after it had run for so long: when to start it again.
    pub(super) fn after(&mut self, ran: Duration) -> Duration {
        if ran >= Duration::from_secs(RESTART_FORGET_SECONDS) {
            self.row = 0;
        }
        let wait = 2_u64
            .checked_pow(self.row)
            .map_or(RESTART_AFTER_MAX_MS, |times| times.saturating_mul(RESTART_AFTER_MS).min(RESTART_AFTER_MAX_MS));
        self.row = self.row.saturating_add(1);
        Duration::from_millis(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    fn waits(ran: &[Duration]) -> Vec<u128> {
        let mut backoff = Backoff::default();
        ran.iter().map(|ran| backoff.after(*ran).as_millis()).collect()
    }

    #[test]
    fn the_wait_doubles_to_its_bound_and_starts_anew_when_the_worker_ran_well() {
        let (soon, well) = (10 * MS, Duration::from_secs(RESTART_FORGET_SECONDS));
        assert_eq!(waits(&[soon; 9]), [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
        assert_eq!(waits(&[soon, soon, well - MS, well, soon]), [100, 200, 400, 100, 200]);
    }

    proptest! {
        #[test]
        fn no_wait_is_out_of_bounds_however_often_it_breaks_down(ran in prop::collection::vec(0..200_u64, 0..100)) {
            let ran: Vec<Duration> = ran.into_iter().map(Duration::from_secs).collect();
            for wait in waits(&ran) {
                prop_assert!((u128::from(RESTART_AFTER_MS)..=u128::from(RESTART_AFTER_MAX_MS)).contains(&wait));
            }
        }
    }

    #[test]
    fn a_worker_that_has_broken_down_for_years_still_has_a_bounded_wait() {
        let mut backoff = Backoff { row: u32::MAX };
        assert_eq!(backoff.after(MS), Duration::from_millis(RESTART_AFTER_MAX_MS));
    }
}
