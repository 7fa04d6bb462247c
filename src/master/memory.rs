//! When freed memory goes back to the system.

use std::time::Duration;

use crate::clock::Moment;
use crate::limits::{GIVE_BACK_CONNECTIONS_MIN, GIVE_BACK_EVERY_SECONDS, GIVE_BACK_RATIO};

/// Watches how many connections come and go. Pure: `now` is passed in.
#[derive(Debug, Default)]
pub(super) struct GiveBack {
    /// Connections that had closed when memory was last given back.
    closed_before: u64,
    /// Some were open then, which may have kept it.
    is_partial: bool,
    /// Not before this.
    next: Moment,
}

impl GiveBack {
    /// Whether, of `open` connections and `closed` ones since the start, so many have closed that what they used is worth
    /// giving back; once more when none is left. Counted are those that have gone: how many there were at once may have
    /// been seen by nobody.
    pub(super) fn is_due(&mut self, open: u64, closed: u64, now: Moment) -> bool {
        let gone = closed.saturating_sub(self.closed_before);
        let are_many = gone >= GIVE_BACK_CONNECTIONS_MIN.max(GIVE_BACK_RATIO * open);
        let is_due = now >= self.next && (are_many || (self.is_partial && open == 0));
        if is_due {
            self.closed_before = closed;
            self.is_partial = open > 0;
            self.next = now + Duration::from_secs(GIVE_BACK_EVERY_SECONDS);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it is due at these moments, in seconds, with so many connections open and closed.
    fn looks(looks: &[(u64, u64, u64)]) -> Vec<bool> {
        let mut watch = GiveBack::default();
        let due = |(second, open, closed): &(u64, u64, u64)| {
            watch.is_due(*open, *closed, Moment::default() + Duration::from_secs(*second))
        };
        looks.iter().map(due).collect()
    }

    #[test]
    fn memory_is_given_back_once_when_most_connections_have_closed() {
        let due = looks(&[(0, 0, 0), (1, 400, 0), (2, 150, 250), (3, 100, 300), (4, 100, 300)]);
        assert_eq!(due, [false, false, false, true, false]);
    }

    #[test]
    fn connections_that_come_and_go_between_two_looks_count() {
        assert_eq!(looks(&[(0, 0, 0), (1, 1, 40)]), [false, true]);
    }

    #[test]
    fn it_is_not_given_back_all_the_time_and_not_forgotten() {
        let soon = 1 + GIVE_BACK_EVERY_SECONDS;
        assert_eq!(looks(&[(1, 0, 50), (2, 0, 100), (soon, 0, 100), (2 * soon, 0, 100)]), [true, false, true, false]);
    }

    #[test]
    fn when_the_last_connection_has_closed_it_is_given_back_again() {
        assert_eq!(looks(&[(1, 3, 50), (20, 1, 52), (40, 0, 53), (60, 0, 53)]), [true, false, true, false]);
    }

    #[test]
    fn a_few_connections_that_close_are_not_worth_it() {
        assert_eq!(looks(&[(1, 0, GIVE_BACK_CONNECTIONS_MIN - 1), (100, 1000, 1500)]), [false, false]);
    }
}
