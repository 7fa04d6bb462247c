//! The facade's state on each core: its deadlines, its count of leased receive buffers, and what it did.

use std::cell::RefCell;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::timers::{Key, Timers};
use super::{Driver, Executor, Stats};
use crate::clock::{self, Moment};
use crate::limits::{STREAM_BATCH, TIMER_BATCH, YIELDED_KEPT};
use crate::pool;

/// How often parked tasks look for a buffer by themselves.
const PARKED_RETRY: Duration = Duration::from_millis(20);

#[derive(Default)]
pub(super) struct Core {
    timers: Timers,
    stats: Stats,
    /// Tasks that wait for a receive buffer to come back.
    parked: Vec<Waker>,
    retried: Moment,
    /// The least that [`take_buffer`]'s buffers hold.
    buffer_bytes: usize,
    /// Receive buffers that have come back in all.
    returns: u64,
    /// Tasks that stood back for the others.
    yielded: Vec<Waker>,
    /// Who looks after the above where the executor's loop is not ours (see `pacer.rs`), and the moment until which it
    /// means to sleep.
    #[cfg(any(feature = "monoio", feature = "glommio"))]
    pacer: Option<(Waker, Moment)>,
}

/// Has a task that never has to wait let others run.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// Things done in the turn that began at `turn`: a task that is woken anew for each has waited.
    done: u32,
    turn: Moment,
}

impl Turns {
    /// Ready to do one more thing; pending until the next turn after [`STREAM_BATCH`] in a row.
    pub(super) fn poll_next(&mut self, cx: &Context<'_>) -> Poll<()> {
        let turn = clock::turn();
        if self.turn != turn {
            *self = Self { done: 0, turn };
        }
        if self.done >= STREAM_BATCH {
            self.done = 0;
            wake_next_turn(cx.waker());
            return Poll::Pending;
        }
        self.done += 1;
        Poll::Ready(())
    }

    /// The task waits: others run anyway.
    pub(super) fn begin(&mut self) {
        self.done = 0;
    }
}

thread_local! {
    static CORE: RefCell<Core> = RefCell::default();
}

#[cfg(any(feature = "monoio", feature = "glommio"))]
thread_local! {
    static EXECUTOR: std::cell::Cell<Executor> = const { std::cell::Cell::new(Executor::Compio) };
}

/// The executor of this thread.
#[cfg(any(feature = "monoio", feature = "glommio"))]
pub(super) fn executor() -> Executor {
    EXECUTOR.get()
}

/// The executor of this thread: known when the build has but one.
#[cfg(not(any(feature = "monoio", feature = "glommio")))]
pub(super) const fn executor() -> Executor {
    Executor::Compio
}

#[cfg_attr(not(any(feature = "monoio", feature = "glommio")), allow(unused_variables, reason = "there is but one"))]
pub(super) fn start(executor: Executor, driver: Driver, buffers: usize, buffer_bytes: usize) {
    #[cfg(any(feature = "monoio", feature = "glommio"))]
    EXECUTOR.set(executor);
    CORE.with_borrow_mut(|core| {
        core.buffer_bytes = buffer_bytes;
        core.stats = Stats { driver: Some(driver), buffers_total: buffers, ..Stats::default() };
    });
}

/// Something has happened that may have ended a sleep: reads the clock for the turn where no loop of ours does.
pub(super) fn begin_turn() {
    #[cfg(any(feature = "monoio", feature = "glommio"))]
    if executor() != Executor::Compio {
        clock::refresh();
    }
}

pub(super) fn stats() -> Stats {
    CORE.with_borrow(|core| core.stats)
}

pub(super) fn count(change: impl FnOnce(&mut Stats)) {
    CORE.with_borrow_mut(|core| change(&mut core.stats));
}

pub(super) fn with_timers<T>(work: impl FnOnce(&mut Timers) -> T) -> Option<T> {
    // `None` at thread exit, when a deadline outlives the core's state: there is nothing left to time.
    CORE.try_with(|core| work(&mut core.borrow_mut().timers)).ok()
}

/// Sets a deadline (see [`Timers::set`]).
pub(super) fn set_timer(key: Key, at: Moment) {
    with_timers(|timers| timers.set(key, at));
    #[cfg(any(feature = "monoio", feature = "glommio"))]
    hurry_pacer();
}

pub(super) fn remove_timer(key: Key) {
    with_timers(|timers| timers.remove(key));
}

/// Wakes tasks whose deadline is due at the turn's moment, so many that others get their turn: the deadlines of thousands
/// of connections may fall on one moment. The rest follow with the next turns.
pub(super) fn fire_timers() {
    let mut woken = Vec::new();
    with_timers(|timers| timers.fire(clock::turn(), TIMER_BATCH, &mut woken));
    woken.drain(..).for_each(Waker::wake);
}

pub(super) fn wake_all() {
    let mut woken = Vec::new();
    with_timers(|timers| timers.take_all(&mut woken));
    woken.drain(..).for_each(Waker::wake);
}

/// One more receive buffer is leased.
pub(super) fn leased() {
    count(|stats| {
        stats.buffers_in_use += 1;
        stats.buffers_high_water = stats.buffers_high_water.max(stats.buffers_in_use);
    });
}

/// A leased receive buffer came back: whoever was parked for want of one tries again.
pub(super) fn returned() {
    let parked = CORE.try_with(|core| {
        let mut core = core.borrow_mut();
        core.stats.buffers_in_use -= 1;
        core.returns += 1;
        if core.parked.is_empty() { Vec::new() } else { std::mem::take(&mut core.parked) }
    });
    parked.into_iter().flatten().for_each(Waker::wake);
}

/// How many receive buffers have come back so far: who finds none can tell whether one came back since it asked, which
/// woke nobody.
pub(super) fn returns() -> u64 {
    #[cfg(feature = "sim")]
    if super::sim::planted(super::sim::Bug::ForgottenWaiter) {
        return 0;
    }
    CORE.with_borrow(|core| core.returns)
}

/// Parks the task until a receive buffer comes back, or until the next retry (see [`retry_parked`]).
pub(super) fn park(waker: &Waker) {
    park_waker(waker);
    #[cfg(any(feature = "monoio", feature = "glommio"))]
    hurry_pacer();
}

fn park_waker(waker: &Waker) {
    // Who only looks whether something came waits for nothing: it would take the place of one who does.
    if waker.will_wake(Waker::noop()) {
        return;
    }
    CORE.with_borrow_mut(|core| {
        core.stats.buffers_exhausted += 1;
        #[cfg(feature = "sim")]
        if super::sim::planted(super::sim::Bug::ForgottenWaiter) {
            return;
        }
        if !core.parked.iter().any(|parked| parked.will_wake(waker)) {
            core.parked.push(waker.clone());
        }
    });
}

/// Wakes the task when the driver has been asked for completions. Waking it at once would be no standing back: the
/// executor runs a task that wakes itself up to 61 times before it looks at the driver again.
pub(super) fn wake_next_turn(waker: &Waker) {
    CORE.with_borrow_mut(|core| core.yielded.push(waker.clone()));
    #[cfg(any(feature = "monoio", feature = "glommio"))]
    hurry_pacer();
}

/// Whether a task stood back, or deadlines are left that were due at this turn: the driver must not wait then.
pub(super) fn has_more() -> bool {
    CORE.with_borrow(|core| !core.yielded.is_empty() || core.timers.first().is_some_and(|first| first <= clock::turn()))
}

/// Frees what many deadlines at once have left behind.
pub(super) fn shrink_timers() {
    with_timers(Timers::shrink);
}

pub(super) fn wake_yielded() {
    let mut yielded = CORE.with_borrow_mut(|core| std::mem::take(&mut core.yielded));
    yielded.drain(..).for_each(Waker::wake);
    // The place stays: tasks stand back often, and mostly few of them. Not that of many at once.
    yielded.shrink_to(YIELDED_KEPT);
    CORE.with_borrow_mut(|core| {
        yielded.append(&mut core.yielded);
        core.yielded = yielded;
    });
}

/// Whether every receive buffer is leased.
#[cfg(feature = "sim")]
pub(super) fn exhausted() -> bool {
    CORE.with_borrow(|core| core.stats.buffers_in_use >= core.stats.buffers_total)
}

/// Whether half of the receive buffers or more are leased: whoever holds one through a wait should copy it then.
pub(super) fn is_scarce() -> bool {
    CORE.with_borrow(|core| 2 * core.stats.buffers_in_use >= core.stats.buffers_total)
}

/// A buffer to receive into where none is provided by a ring; `None` when as many are leased as there may be.
pub(super) fn take_buffer(class: pool::Class) -> Option<pool::Buffer> {
    let bytes =
        CORE.with_borrow(|core| (core.stats.buffers_in_use < core.stats.buffers_total).then_some(core.buffer_bytes))?;
    let mut buffer = pool::take(class);
    // Up to the pool's own size this does nothing; up to twice of it the pool keeps what was grown.
    buffer.reserve_exact(bytes);
    Some(buffer)
}

/// Time until parked tasks are to be tried again; `None` when none is parked. A buffer that a closed connection never
/// looked at goes back to the kernel unseen, so waiting for [`returned`] alone could wait for ever.
pub(super) fn until_retry() -> Option<Duration> {
    CORE.with_borrow(|core| (!core.parked.is_empty()).then_some(PARKED_RETRY))
}

/// Wakes the parked tasks, at most once in [`PARKED_RETRY`].
pub(super) fn retry_parked() {
    let parked = CORE.with_borrow_mut(|core| {
        if core.parked.is_empty() || clock::turn() < core.retried + PARKED_RETRY {
            return Vec::new();
        }
        core.retried = clock::turn();
        #[cfg(feature = "sim")]
        if super::sim::planted(super::sim::Bug::NoRetry) {
            return Vec::new();
        }
        std::mem::take(&mut core.parked)
    });
    parked.into_iter().for_each(Waker::wake);
}

/// Puts another core's state in this thread's place: the simulator runs several cores on one thread.
#[cfg(feature = "sim")]
pub(super) fn swap(other: &mut Core) {
    CORE.with_borrow_mut(|core| std::mem::swap(core, other));
}

/// What the simulator looks at.
#[cfg(feature = "sim")]
impl Core {
    /// Receive buffers that are leased, as far as the core knows.
    pub(super) fn counted_leases(&self) -> usize {
        self.stats.buffers_in_use
    }

    /// Whether this task is known to wait for a receive buffer.
    pub(super) fn has_parked(&self, waker: &Waker) -> bool {
        self.parked.iter().any(|parked| parked.will_wake(waker))
    }

    /// For how long the most urgent deadline that somebody watches has been due.
    pub(super) fn overdue(&self, now: Moment) -> Duration {
        self.timers.overdue(now)
    }
}

#[cfg(any(feature = "sim", feature = "monoio", feature = "glommio"))]
impl Core {
    /// When [`fire_timers`], [`retry_parked`] or [`wake_yielded`] next have something to do: `now` for at once.
    pub(super) fn next_due(&self, now: Moment) -> Option<Moment> {
        if !self.yielded.is_empty() {
            return Some(now);
        }
        let timer = self.timers.first().map(|at| at.max(now));
        let retry = (!self.parked.is_empty()).then(|| (self.retried + PARKED_RETRY).max(now));
        timer.into_iter().chain(retry).min()
    }
}

/// For the pacer: the moment at which it is needed next, the first of all for at once. It is woken when that becomes
/// earlier.
#[cfg(any(feature = "monoio", feature = "glommio"))]
pub(super) fn watch_pace(waker: &Waker) -> Moment {
    CORE.with_borrow_mut(|core| {
        let due = match core.next_due(Moment::default()) {
            None => Moment::NEVER,
            // At once is at once, however often it is asked for.
            Some(due) if due <= clock::turn() => Moment::default(),
            Some(due) => due,
        };
        core.pacer = Some((waker.clone(), due));
        due
    })
}

/// Wakes the pacer when it would come too late for what is due next.
#[cfg(any(feature = "monoio", feature = "glommio"))]
fn hurry_pacer() {
    let pacer = CORE.try_with(|core| {
        let mut core = core.borrow_mut();
        let (_, until) = core.pacer.as_ref()?;
        let is_late = core.next_due(Moment::default()).is_some_and(|due| due < *until);
        if is_late { core.pacer.take() } else { None }
    });
    if let Ok(Some((waker, _))) = pacer {
        waker.wake();
    }
}
