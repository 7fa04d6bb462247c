//! The circuit breaker of one server: closed, open until a moment, or half open with one probe under way, in one word.

use crate::clock::Moment;
use crate::proxy::spec::BreakerSpec;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};
#[cfg(loom)]
use crate::sync::{Bug, planted};

/// How a breaker meets a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// It lets it through.
    Closed,
    /// It is half open, and this is the probe. Until when it was open.
    Probe(Moment),
    /// It does not.
    Open,
    /// It is half open, and another request is the probe.
    ProbeTaken,
}

/// What the word says. That a breaker is half open is no state of its own: it was open until a moment that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Failures in a row.
    Closed(u32),
    /// Until when.
    Open(Moment),
    /// Until when it was open: tells this probe from those of other times.
    Probing(Moment),
}

/// Two bits say which state; the rest is its number. 2^62 nanoseconds are 146 years.
const TAG_SHIFT: u32 = 62;
const OPEN: u64 = 1;
const PROBING: u64 = 2;
const NUMBER_MAX: u64 = (1 << TAG_SHIFT) - 1;

impl State {
    const fn encode(self) -> u64 {
        match self {
            Self::Closed(failures) => failures as u64,
            Self::Open(until) => OPEN << TAG_SHIFT | bounded(until),
            Self::Probing(until) => PROBING << TAG_SHIFT | bounded(until),
        }
    }

    const fn decode(word: u64) -> Self {
        let number = word & NUMBER_MAX;
        match word >> TAG_SHIFT {
            OPEN => Self::Open(Moment::from_nanos(number)),
            PROBING => Self::Probing(Moment::from_nanos(number)),
            _ => Self::Closed(number as u32),
        }
    }
}

const fn bounded(moment: Moment) -> u64 {
    if moment.as_nanos() > NUMBER_MAX { NUMBER_MAX } else { moment.as_nanos() }
}

#[derive(Debug, Default)]
pub(super) struct Breaker(AtomicU64);

impl Breaker {
    fn state(&self) -> State {
        State::decode(self.0.load(Relaxed))
    }

    fn change(&self, from: State, to: State) -> bool {
        self.0.compare_exchange(from.encode(), to.encode(), Relaxed, Relaxed).is_ok()
    }

    /// Begins as another one stands. A probe that is under way there is not this one's.
    #[cfg(not(loom))]
    pub(super) fn take_over(&self, other: &Self) {
        let state = match other.state() {
            State::Probing(until) => State::Open(until),
            state => state,
        };
        self.0.store(state.encode(), Relaxed);
    }

    /// How it would meet a request.
    #[inline]
    pub(super) fn entry(&self, now: Moment) -> Entry {
        match self.state() {
            State::Closed(_) => Entry::Closed,
            State::Open(until) if now < until => Entry::Open,
            #[cfg(all(feature = "sim", not(loom)))]
            State::Open(_) if crate::rt::sim::planted(crate::rt::sim::Bug::BreakerStaysOpen) => Entry::Open,
            State::Open(until) => Entry::Probe(until),
            State::Probing(_) => Entry::ProbeTaken,
        }
    }

    /// Meets a request: of all that find it half open, exactly one becomes the probe.
    #[inline]
    pub(super) fn enter(&self, now: Moment) -> Entry {
        match self.entry(now) {
            #[cfg(loom)]
            Entry::Probe(until) if planted(Bug::TakesProbeInTwoSteps) => {
                self.0.swap(State::Probing(until).encode(), Relaxed);
                Entry::Probe(until)
            }
            Entry::Probe(until) if !self.change(State::Open(until), State::Probing(until)) => Entry::ProbeTaken,
            entry => entry,
        }
    }

    /// The probe was not used.
    pub(super) fn give_back(&self, until: Moment) {
        self.change(State::Probing(until), State::Open(until));
    }

    /// The probe came through; whether that closed the breaker.
    pub(super) fn close(&self, until: Moment) -> bool {
        self.change(State::Probing(until), State::Closed(0))
    }

    /// The probe failed; whether that opened the breaker again.
    pub(super) fn reopen(&self, until: Moment, again: Moment) -> bool {
        self.change(State::Probing(until), State::Open(again))
    }

    /// A request that was no probe reached the server. Where none has failed this is one load.
    #[inline]
    pub(super) fn note_success(&self) {
        loop {
            match self.state() {
                State::Closed(0) | State::Open(_) | State::Probing(_) => return,
                state @ State::Closed(_) => {
                    if self.change(state, State::Closed(0)) {
                        return;
                    }
                }
            }
        }
    }

    /// A request that was no probe did not reach the server; whether that opened the breaker.
    pub(super) fn note_failure(&self, spec: &BreakerSpec, now: Moment) -> bool {
        loop {
            let state = self.state();
            let State::Closed(failures) = state else { return false };
            let failures = failures.saturating_add(1);
            let opens = failures >= spec.consecutive_failures;
            let next = if opens { State::Open(now + spec.open) } else { State::Closed(failures) };
            if self.change(state, next) {
                return opens;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn states_survive_being_words(failures: u32, nanos in 0..=NUMBER_MAX) {
            let moment = Moment::from_nanos(nanos);
            for state in [State::Closed(failures), State::Open(moment), State::Probing(moment)] {
                prop_assert_eq!(State::decode(state.encode()), state);
            }
        }
    }

    #[test]
    fn a_breaker_may_stay_open_for_ever() {
        let breaker = Breaker::default();
        let spec = BreakerSpec { consecutive_failures: 1, open: std::time::Duration::MAX };
        assert!(breaker.note_failure(&spec, Moment::from_nanos(1)));
        assert_eq!(breaker.entry(Moment::from_nanos(NUMBER_MAX - 1)), Entry::Open);
    }
}
