//! A worker's signs of life: when its executor last came round, and what it had begun last.
//!
//! Both are plain stores by the worker and plain loads by the master, and neither is ordered with the other: a look between
//! two stores may find the activity one ahead of the beat, which the next look puts right. The beat is a timer's, a few in
//! `cores.stall`; the activity costs a request one store into a cache line that no other core writes.

use std::fmt;
use std::time::Duration;

use crate::clock::Moment;
use crate::limits::BEATS_PER_STALL;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// How often a worker beats whose stall is one of this length: a beat that is late by as much as a stall is then found
/// well before a second such time has passed.
pub fn beat_every(stall: Duration) -> Duration {
    stall / BEATS_PER_STALL
}

/// How old a worker's last beat must be for it to have done nothing else for as long as `stall`: it may have been on its
/// way to the next beat when it began.
pub fn stalled_after(stall: Duration) -> Duration {
    stall + beat_every(stall)
}

/// What a worker began last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Its thread, its executor.
    Start,
    /// Nothing since its last beat.
    Idle,
    /// A connection that it accepted.
    Accept,
    /// The handler of the route with this index, or a further step of it.
    Route(usize),
    /// An answer to a request without a route.
    NoRoute,
    /// Its drain.
    Drain,
}

/// The first code that stands for a route.
const ROUTES: u64 = 16;

impl Activity {
    const fn encode(self) -> u64 {
        match self {
            Self::Start => 0,
            Self::Idle => 1,
            Self::Accept => 2,
            Self::NoRoute => 3,
            Self::Drain => 4,
            // Indexes of routes are far below; the sum of the largest of all is that of a request without one.
            Self::Route(index) => match (index as u64).checked_add(ROUTES) {
                Some(code) => code,
                None => Self::NoRoute.encode(),
            },
        }
    }

    const fn decode(code: u64) -> Self {
        match code {
            0 => Self::Start,
            2 => Self::Accept,
            3 => Self::NoRoute,
            4 => Self::Drain,
            ROUTES.. => Self::Route((code - ROUTES) as usize),
            _ => Self::Idle,
        }
    }

    /// For logs and `/status`; `labels` are those of the routes.
    pub fn describe(self, labels: &[String]) -> String {
        match self {
            Self::Route(index) => match labels.get(index) {
                Some(label) => format!("request of route {label}"),
                None => self.to_string(),
            },
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for Activity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("starting"),
            Self::Idle => f.write_str("idle"),
            Self::Accept => f.write_str("accepting"),
            Self::Route(index) => write!(f, "request of route {index}"),
            Self::NoRoute => f.write_str("request without a route"),
            Self::Drain => f.write_str("draining"),
        }
    }
}

/// One worker's.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// Nanoseconds; 0 before the first beat.
    beat: AtomicU64,
    activity: AtomicU64,
}

impl Pulse {
    /// The executor comes round at `now`. Whatever it began is over then, for it does one thing at a time.
    pub(super) fn beat(&self, now: Moment) {
        #[cfg(loom)]
        if crate::sync::planted(crate::sync::Bug::BeatsInTwoSteps) {
            self.beat.store(0, Relaxed);
        }
        self.beat.store(now.as_nanos(), Relaxed);
        #[cfg(loom)]
        if crate::sync::planted(crate::sync::Bug::BeatKeepsActivity) {
            return;
        }
        self.note(Activity::Idle);
    }

    #[inline]
    pub(super) fn note(&self, activity: Activity) {
        self.activity.store(activity.encode(), Relaxed);
    }

    pub(super) fn last_beat(&self) -> Option<Moment> {
        match self.beat.load(Relaxed) {
            0 => None,
            nanos => Some(Moment::from_nanos(nanos)),
        }
    }

    pub(super) fn activity(&self) -> Activity {
        Activity::decode(self.activity.load(Relaxed))
    }
}

/// A worker's signs of life, as plain data for the exposition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WorkerSample {
    /// The value of the label `core`.
    pub core: u32,
    /// Time since its last beat; since its start before the first one.
    pub heartbeat_age: Duration,
    /// Times that it stalled.
    pub stalls: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn activities_survive_being_numbers(index in 0..usize::MAX >> 1, code: u64) {
            let all = [Activity::Start, Activity::Idle, Activity::Accept, Activity::NoRoute, Activity::Drain];
            for activity in all.into_iter().chain([Activity::Route(0), Activity::Route(index)]) {
                prop_assert_eq!(Activity::decode(activity.encode()), activity);
            }
            // Any number is read as something.
            let _ = Activity::decode(code).describe(&[]);
        }
    }

    #[test]
    fn a_route_is_named_where_its_name_is_known() {
        let labels = ["/users/:id".to_owned()];
        assert_eq!(Activity::Route(0).describe(&labels), "request of route /users/:id");
        assert_eq!(Activity::Route(7).describe(&labels), "request of route 7");
        assert_eq!(Activity::Accept.describe(&labels), "accepting");
    }

    #[test]
    fn a_beat_ends_what_was_begun_before_it() {
        let pulse = Pulse::default();
        assert_eq!((pulse.last_beat(), pulse.activity()), (None, Activity::Start));
        pulse.note(Activity::Route(3));
        assert_eq!(pulse.activity(), Activity::Route(3));
        pulse.beat(Moment::from_nanos(5));
        assert_eq!((pulse.last_beat(), pulse.activity()), (Some(Moment::from_nanos(5)), Activity::Idle));
    }
}
