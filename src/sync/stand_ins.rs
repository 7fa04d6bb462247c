//! Only under `--cfg loom`: what loom lacks, and the mistakes that models plant to show that they would find them.

use std::cell::Cell;
use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// A mistake that the real code makes while a model runs, so that a test can show that the model fails then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A mailbox's receiver does not look again after it has set the bell.
    LooksOnce,
    /// A mailbox's sender rings before the message is there.
    RingsEarly,
    /// The last postbox rings before the channel knows that it is gone.
    EndsAfterTheBell,
    /// The main waker ends the driver's wait before it has noted why.
    WakesBeforeNoting,
    /// The main future's waking carries no memory with it.
    WakesRelaxed,
    /// The main future is polled first, and its waking forgotten after.
    ForgetsAfterPoll,
    /// A `OnceLock` is seen set before its value is.
    PublishesRelaxed,
    /// A reader of a shard goes one step along the chain of routes, not to its end.
    WalksOneStep,
    /// A counter is cleared and set again when it changes.
    CountsInTwoSteps,
    /// A beat is cleared and set again when it changes.
    BeatsInTwoSteps,
    /// A beat leaves what was begun before it as it is.
    BeatKeepsActivity,
    /// Something is counted as done, and what was done is not seen with it.
    CountsRelaxed,
    /// What a route's buckets got is dropped where its count and sum did not change.
    SkipsLateBuckets,
    /// Who finds a breaker half open takes the probe without a look at who else did.
    TakesProbeInTwoSteps,
    /// A slot for an ejection is counted after a look, not with it.
    TakesSlotInTwoSteps,
    /// A slot is kept although another core has ejected the server.
    KeepsSlot,
    /// An idle cell of a rate limit is looked at, and then made the looker's.
    ClaimsInTwoSteps,
    /// Free permits are looked at, and taken after.
    TakesPermitsInTwoSteps,
}

thread_local! {
    // Not loom's: all threads of a model run on the one thread that runs the test.
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Whether the running model plants this mistake.
pub(crate) fn planted(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}

/// Runs a model in every order of its threads' steps with at most `preemptions` switches away from a thread that could
/// have gone on; `None` is without a bound.
#[cfg(test)]
#[allow(clippy::print_stderr, reason = "how much was tried, for who wants to know: --nocapture shows it")]
pub(crate) fn check(preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(preemptions);
    // A read of a shard is some hundred steps.
    builder.max_branches = 10_000;
    let orders = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = orders.clone();
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    let orders = orders.load(Ordering::Relaxed);
    eprintln!("{orders} orders");
    assert!(orders > 1, "one order alone: loom saw nothing in this model that could be done in another");
}

/// Shows that the model fails, with this mistake planted if one is given: what passes everything shows nothing.
#[cfg(test)]
pub(crate) fn check_fails(bug: Option<Bug>, preemptions: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    PLANTED.set(bug);
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| check(preemptions, model)));
    PLANTED.set(None);
    assert!(found.is_err(), "the model passes with {bug:?} planted");
}

/// `std::sync::OnceLock` as far as it is used, for one writer: the value is written, then published.
#[derive(Debug, Default)]
pub(crate) struct OnceLock<T> {
    value: std::sync::OnceLock<T>,
    /// Stands for the value's memory: a reader that is not ordered after the writer may find it unwritten.
    memory: AtomicBool,
    published: AtomicBool,
}

impl<T> OnceLock<T> {
    pub(crate) fn new() -> Self {
        Self { value: std::sync::OnceLock::new(), memory: AtomicBool::new(false), published: AtomicBool::new(false) }
    }

    pub(crate) fn set(&self, value: T) -> Result<(), T> {
        self.value.set(value)?;
        self.memory.store(true, Ordering::Relaxed);
        let order = if planted(Bug::PublishesRelaxed) { Ordering::Relaxed } else { Ordering::Release };
        self.published.store(true, order);
        Ok(())
    }

    pub(crate) fn get(&self) -> Option<&T> {
        if !self.published.load(Ordering::Acquire) {
            return None;
        }
        assert!(self.memory.load(Ordering::Relaxed), "a value was published before it was written");
        self.value.get()
    }
}

/// crossbeam's channel itself. loom does not see its steps, so each is preceded by one on a counter that loom does see:
/// every order of sends and receives is tried, and a receive is ordered after the sends before it, which is what the
/// channel promises. The counter orders nothing else; what a model shows does not lean on the channel's inner fences.
pub(crate) mod channel {
    use super::{Arc, AtomicUsize, Ordering};

    pub(crate) use crossbeam_channel::{TryRecvError, TrySendError};

    #[derive(Clone, Debug)]
    struct Steps(Arc<AtomicUsize>);

    impl Steps {
        fn step(&self, order: Ordering) {
            // A model that has failed drops what it holds outside loom's world.
            if !std::thread::panicking() {
                self.0.fetch_add(1, order);
            }
        }
    }

    #[derive(Debug)]
    pub(crate) struct Sender<T>(crossbeam_channel::Sender<T>, Steps);

    #[derive(Debug)]
    pub(crate) struct Receiver<T>(crossbeam_channel::Receiver<T>, Steps);

    pub(crate) fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
        let steps = Steps(Arc::new(AtomicUsize::new(0)));
        let (sender, receiver) = crossbeam_channel::bounded(capacity);
        (Sender(sender, steps.clone()), Receiver(receiver, steps))
    }

    impl<T> Sender<T> {
        pub(crate) fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
            self.1.step(Ordering::Release);
            self.0.try_send(message)
        }
    }

    impl<T> Clone for Sender<T> {
        fn clone(&self) -> Self {
            Self(self.0.clone(), self.1.clone())
        }
    }

    impl<T> Drop for Sender<T> {
        fn drop(&mut self) {
            self.1.step(Ordering::Release);
        }
    }

    impl<T> Receiver<T> {
        pub(crate) fn try_recv(&self) -> Result<T, TryRecvError> {
            self.1.step(Ordering::Acquire);
            self.0.try_recv()
        }
    }

    impl<T> Drop for Receiver<T> {
        fn drop(&mut self) {
            self.1.step(Ordering::Relaxed);
        }
    }
}
