//! Failures in a row of one server and its ejection, in one word; and how many servers are ejected at once.

use crate::clock::Moment;
use crate::proxy::spec::EjectionSpec;
use crate::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
#[cfg(loom)]
use crate::sync::{Bug, planted};
use std::time::Duration;

/// What the word says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It gets requests.
    In {
        /// Ejections that it has not been forgiven.
        row: u32,
        /// Requests in a row that it has failed.
        failures: u32,
    },
    /// It is ejected, until when. Holds one of the upstream's slots, also after that moment: until somebody needs the slot
    /// or notes another failure.
    Out(Moment),
}

/// The uppermost bit says which state: the row (31 bits) and failures below it, or a moment (292 years).
const OUT: u64 = 1 << 63;
const MOMENT_MAX: u64 = OUT - 1;
const ROW_MAX: u32 = u32::MAX >> 1;

impl State {
    const fn encode(self) -> u64 {
        match self {
            Self::In { row, failures } => (row as u64) << 32 | failures as u64,
            Self::Out(until) if until.as_nanos() > MOMENT_MAX => OUT | MOMENT_MAX,
            Self::Out(until) => OUT | until.as_nanos(),
        }
    }

    const fn decode(word: u64) -> Self {
        if word & OUT == 0 {
            Self::In { row: (word >> 32) as u32, failures: word as u32 }
        } else {
            Self::Out(Moment::from_nanos(word & MOMENT_MAX))
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Ejection {
    word: AtomicU64,
    /// The row of the ejection under way: goes back into the word when that ends. Written before the word says so.
    row: AtomicU32,
    /// Since when it has not failed, in nanoseconds: the end of its last ejection, or its last failure after that. Counts
    /// only while the row is not zero.
    clean_since: AtomicU64,
}

impl Ejection {
    fn state(&self) -> State {
        State::decode(self.word.load(Ordering::Acquire))
    }

    fn change(&self, from: State, to: State) -> bool {
        self.word.compare_exchange(from.encode(), to.encode(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Begins as another one stands, before anybody else sees it. Where there is no slot for an ejection, as fewer servers
    /// may be ejected now, the server gets requests.
    #[cfg(not(loom))]
    pub(super) fn take_over(&self, other: &Self, slots: &Slots, now: Moment) {
        let row = other.row.load(Ordering::Relaxed);
        let state = match other.state() {
            State::Out(until) if now < until && slots.take(std::iter::empty(), now) => State::Out(until),
            State::Out(_) => State::In { row, failures: 0 },
            state @ State::In { .. } => state,
        };
        self.row.store(row, Ordering::Relaxed);
        self.clean_since.store(other.clean_since.load(Ordering::Acquire), Ordering::Relaxed);
        self.word.store(state.encode(), Ordering::Release);
    }

    /// Whether one of the slots is its own.
    #[cfg(test)]
    pub(super) fn holds_slot(&self) -> bool {
        matches!(self.state(), State::Out(_))
    }

    /// Until when it is ejected, if it is.
    #[inline]
    pub(super) fn ejected_until(&self, now: Moment) -> Option<Moment> {
        match State::decode(self.word.load(Ordering::Relaxed)) {
            State::Out(until) if now < until => Some(until),
            State::Out(_) | State::In { .. } => None,
        }
    }

    /// A request was answered well. Where none has failed this is one load.
    #[inline]
    pub(super) fn note_success(&self) {
        loop {
            match self.state() {
                State::Out(_) | State::In { failures: 0, .. } => return,
                state @ State::In { row, .. } => {
                    if self.change(state, State::In { row, failures: 0 }) {
                        return;
                    }
                }
            }
        }
    }

    /// A request failed. If that ejects the server: until when. `all` are those of the upstream's servers.
    pub(super) fn note_failure<'s>(
        &self,
        spec: &EjectionSpec,
        slots: &Slots,
        all: impl Iterator<Item = &'s Ejection> + Clone,
        now: Moment,
    ) -> Option<Moment> {
        loop {
            let state = self.state();
            let (row, failures) = match state {
                // It was under way already.
                State::Out(until) if now < until => return None,
                State::Out(_) => {
                    self.end(state, slots);
                    continue;
                }
                State::In { row, failures } => (self.unforgiven(row, spec, now), failures.saturating_add(1)),
            };
            if failures >= spec.consecutive_failures && slots.take(all.clone(), now) {
                let row = (row + 1).min(ROW_MAX);
                let until = now + length(spec, row);
                // All who compete for this change write the same; but for the very moment of being forgiven, when the
                // difference is one ejection that is shorter than it might be.
                self.row.store(row, Ordering::Relaxed);
                if self.change(state, State::Out(until)) {
                    self.clean_since.fetch_max(until.as_nanos(), Ordering::Relaxed);
                    return Some(until);
                }
                #[cfg(loom)]
                if planted(Bug::KeepsSlot) {
                    continue;
                }
                slots.give_back();
                continue;
            }
            // Without a slot the failures stay at the threshold: the next one asks for a slot again.
            let next = State::In { row, failures: failures.min(spec.consecutive_failures) };
            if next == state || self.change(state, next) {
                // After the word: who still sees the old moment forgives as well, and who sees this one sees the word.
                if row > 0 {
                    self.clean_since.fetch_max(now.as_nanos(), Ordering::Release);
                }
                return None;
            }
        }
    }

    /// The row, or zero where the server has been without failure for as long as it was ejected.
    fn unforgiven(&self, row: u32, spec: &EjectionSpec, now: Moment) -> u32 {
        let clean_since = Moment::from_nanos(self.clean_since.load(Ordering::Acquire));
        if row > 0 && now >= clean_since + length(spec, row) { 0 } else { row }
    }

    /// Ends an ejection whose time is over, and frees its slot; whether this call did it.
    fn end(&self, state: State, slots: &Slots) -> bool {
        let ended = self.change(state, State::In { row: self.row.load(Ordering::Relaxed), failures: 0 });
        if ended {
            slots.give_back();
        }
        ended
    }
}

/// How long the `row`-th ejection in a row takes.
fn length(spec: &EjectionSpec, row: u32) -> Duration {
    spec.duration.saturating_mul(row).min(spec.duration_max)
}

/// How many of an upstream's servers may be ejected at once. A slot is taken before a server is ejected and freed after it
/// is back, so there are never more, whatever cores do at the same time.
#[derive(Debug)]
pub(super) struct Slots {
    taken: AtomicUsize,
    max: usize,
}

impl Slots {
    pub(super) fn new(servers: usize, percent_max: u32) -> Self {
        let share = (servers as u128 * u128::from(percent_max.min(100)) / 100) as usize;
        // One may be in any case, but not the only one.
        Self { taken: AtomicUsize::new(0), max: share.max(usize::from(servers > 1)) }
    }

    #[cfg(test)]
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Takes a slot; where all are taken, one whose ejection is over.
    fn take<'s>(&self, all: impl Iterator<Item = &'s Ejection> + Clone, now: Moment) -> bool {
        loop {
            let taken = self.taken.load(Ordering::Relaxed);
            if taken < self.max {
                #[cfg(loom)]
                if planted(Bug::TakesSlotInTwoSteps) {
                    self.taken.fetch_add(1, Ordering::Relaxed);
                    return true;
                }
                // Not `fetch_add` and a look after it: that would exceed the bound for a moment.
                if self.taken.compare_exchange(taken, taken + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                    return true;
                }
            } else if !self.free_ended(all.clone(), now) {
                return false;
            }
        }
    }

    fn give_back(&self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }

    /// Ends all ejections whose time is over; whether there was one.
    fn free_ended<'s>(&self, all: impl Iterator<Item = &'s Ejection>, now: Moment) -> bool {
        let ended = all.filter(|ejection| match ejection.state() {
            state @ State::Out(until) if now >= until => ejection.end(state, self),
            State::Out(_) | State::In { .. } => false,
        });
        ended.count() > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn states_survive_being_words(row in 0..=ROW_MAX, failures: u32, nanos in 0..=MOMENT_MAX) {
            for state in [State::In { row, failures }, State::Out(Moment::from_nanos(nanos))] {
                prop_assert_eq!(State::decode(state.encode()), state);
            }
        }
    }

    #[test]
    fn slots_are_the_share_of_the_servers_and_one_where_there_are_several() {
        let slots = |servers, percent| Slots::new(servers, percent).max;
        assert_eq!([slots(1, 0), slots(1, 50), slots(1, 100), slots(1, 900)], [0, 0, 1, 1]);
        assert_eq!([slots(2, 0), slots(3, 10), slots(3, 66), slots(3, 67), slots(3, 100)], [1, 1, 1, 2, 3]);
        assert_eq!([slots(10, 10), slots(10, 29), slots(200, 50)], [1, 2, 100]);
        assert_eq!(slots(0, 100), 0);
    }
}
