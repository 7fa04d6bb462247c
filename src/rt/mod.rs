//! The executor facade: everything that the rest of the code knows of running on a core.
//!
//! Nothing above this module names an executor, reads the clock or opens a socket. The facade's types are enums over
//! the backends that are compiled in (one variant is no cost), so nothing above them is generic.
//!
//! What holds for every backend:
//! - an idle connection holds no receive buffer; [`RecvHalf`] yields [`Lease`]s that go back to their core when dropped;
//! - when no buffer is free the receiver waits for one (counted), it is never closed for that;
//! - sends copy into the socket or wait until it takes more: no buffer is ever owned by the kernel, so dropping a
//!   pending send is always sound;
//! - a descriptor stays open until the last operation on it has completed.
//!
//! compio is the executor that every build has. Those of the features `monoio` and `glommio` exist to be measured beside
//! it, on the same server: `readiness.rs` is their sockets, `pacer.rs` their timers, `blocking.rs` their blocking pool,
//! `tasks.rs` their end; their own files hold only what differs.
#![allow(unsafe_code, reason = "operations that an executor lacks, and descriptors that it owns")]

mod background;
#[cfg(any(feature = "monoio", feature = "glommio"))]
mod blocking;
mod choice;
mod compio;
mod core;
mod connect;
mod facade;
mod input;
mod mailbox;
#[cfg(feature = "glommio")]
mod glommio;
#[cfg(feature = "monoio")]
mod monoio;
#[cfg(any(feature = "monoio", feature = "glommio"))]
mod pacer;
mod readiness;
mod stream;
#[cfg(any(feature = "monoio", feature = "glommio"))]
mod tasks;
mod timers;

pub mod fs;
#[cfg(feature = "sim")]
pub mod sim;

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

pub use choice::{Driver, DriverChoice, Executor, ExecutorChoice, NotBuilt, list_built};
pub use connect::{Remote, connect};
pub use facade::{Listener, RecvHalf, SendHalf, Socket, from_socket};
pub use input::Input;
pub use mailbox::{Mailbox, mailbox};
pub use stream::{Lease, RecvMode};

pub use crate::sync::Postbox;

use crate::clock::{self, Moment};
use crate::sys::probe::IoUringRefusal;

/// How a core's executor is built.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Which executor.
    pub executor: Executor,
    /// Which driver.
    pub driver: DriverChoice,
    /// Submission queue entries; the completion queue holds four times as many, for multishot receives.
    pub ring_entries: u32,
    /// Receive buffers, rounded up to a power of two.
    pub ring_buffers: u16,
    /// Bytes of one receive buffer.
    pub ring_buffer_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            executor: Executor::default(),
            driver: DriverChoice::Auto,
            ring_entries: 4096,
            ring_buffers: 1024,
            ring_buffer_bytes: 4096,
        }
    }
}

/// What a core's executor came to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// The executor.
    pub executor: Executor,
    /// The driver in use.
    pub driver: Driver,
    /// Why `auto` fell back to epoll; `None` when it did not.
    pub fallback: Option<IoUringRefusal>,
}

/// An executor that could not be built.
#[derive(Debug)]
pub enum RunError {
    /// io_uring was asked for by name and is refused.
    IoUring(IoUringRefusal),
    /// The executor cannot run on the driver that was asked for.
    Unsupported(Executor, DriverChoice, &'static str),
    /// io_uring is refused, and the executor has nothing to fall back on.
    NoFallback(Executor, IoUringRefusal),
    /// The driver could not be built for another reason.
    Driver(Driver, std::io::Error),
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IoUring(refusal) => write!(f, "driver io_uring: {refusal}; to fix: {}", refusal.fix()),
            Self::Unsupported(executor, driver, reason) => {
                let (executor, driver) = (executor.name(), driver.name());
                write!(f, "cores.driver: expected one that executor {executor} has, found {driver}: {reason}")
            }
            Self::NoFallback(executor, refusal) => {
                let fix = match refusal {
                    // Its own fix is the other driver.
                    IoUringRefusal::Other(_) => "choose another executor (cores.executor)",
                    IoUringRefusal::DisabledBySysctl(_)
                    | IoUringRefusal::BlockedBySeccomp
                    | IoUringRefusal::Missing { .. }
                    | IoUringRefusal::TooOld
                    | IoUringRefusal::Unprobed
                    | IoUringRefusal::NoMemory => refusal.fix(),
                };
                let executor = executor.name();
                write!(f, "driver io_uring: {refusal}, and executor {executor} has no other; to fix: {fix}")
            }
            Self::Driver(driver, error) => write!(f, "driver {}: {error}", driver.name()),
        }
    }
}

impl std::error::Error for RunError {}

/// What a core's executor has done; counted since the core started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// The driver in use, once started.
    pub driver: Option<Driver>,
    /// Receive buffers in all.
    pub buffers_total: usize,
    /// Receive buffers leased now.
    pub buffers_in_use: usize,
    /// The most that were leased at once.
    pub buffers_high_water: usize,
    /// Times a receiver found no buffer and waited for one.
    pub buffers_exhausted: u64,
    /// Multishot receives armed anew after one ended.
    pub receives_rearmed: u64,
    /// Sends of which the socket took only a part.
    pub short_sends: u64,
    /// Sends that waited for the socket to become writable.
    pub send_waits: u64,
}

/// Builds the executor on this thread and runs the future that `main` makes to its end; tasks that are still alive then
/// are dropped. `main` is told which driver came to be.
///
/// # Errors
/// When the executor cannot be built; `main` has not been called then.
pub fn run<F, T>(options: &Options, main: impl FnOnce(Started) -> F) -> Result<T, RunError>
where
    F: Future<Output = T>,
{
    if let Some(reason) = options.executor.refusal(options.driver) {
        return Err(RunError::Unsupported(options.executor, options.driver, reason));
    }
    match options.executor {
        Executor::Compio => compio::run(options, main),
        #[cfg(feature = "monoio")]
        Executor::Monoio => monoio::run(options, main),
        #[cfg(feature = "glommio")]
        Executor::Glommio => glommio::run(options, main),
    }
}

/// Runs a task on this core. It is dropped unfinished when the core's main future ends.
pub fn spawn(task: impl Future<Output = ()> + 'static) {
    #[cfg(feature = "sim")]
    if sim::is_running() {
        return sim::spawn(task);
    }
    match core::executor() {
        Executor::Compio => compio::spawn(task),
        #[cfg(feature = "monoio")]
        Executor::Monoio => monoio::spawn(task),
        #[cfg(feature = "glommio")]
        Executor::Glommio => glommio::spawn(task),
    }
}

/// Runs `work` on this core's blocking pool and waits for it. A panic in it resumes here.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    #[cfg(feature = "sim")]
    if sim::is_running() {
        return sim::blocking(work).await;
    }
    match core::executor() {
        Executor::Compio => compio::blocking(work).await,
        #[cfg(feature = "monoio")]
        Executor::Monoio => blocking::run(work).await,
        #[cfg(feature = "glommio")]
        Executor::Glommio => blocking::run(work).await,
    }
}

/// Runs long `work` off this core and waits for it, on a thread that gives way to all others when it takes long: see
/// `background.rs`. It may be run twice, the second time while the first one still goes on. A panic in it resumes here.
pub async fn background<T: Send + 'static>(work: impl Fn() -> T + Send + Sync + 'static) -> T {
    #[cfg(feature = "sim")]
    if sim::is_running() {
        return sim::blocking(work).await;
    }
    background::run(work).await
}

/// What this core's executor has done so far.
pub fn stats() -> Stats {
    core::stats()
}

/// Frees what this core's timers keep for reuse: for a core that has nothing to do.
pub fn free_unused() {
    core::shrink_timers();
}

/// Whether this core's receive buffers run short: half of them or more are leased. Whoever keeps received bytes through a
/// wait of unknown length copies them then, and gives the buffer back.
pub fn are_buffers_scarce() -> bool {
    core::is_scarce()
}

/// Wakes every task of this core that watches a [`Deadline`], so that it looks at what changed (a drain).
pub fn wake_all() {
    core::wake_all();
}

/// A deadline that can be moved at the cost of one store: one per connection, reused for all its time-outs.
#[derive(Debug)]
pub struct Deadline(timers::Key);

impl Deadline {
    /// A deadline that never comes due until it is set.
    pub fn new() -> Self {
        Self(core::with_timers(timers::Timers::insert).expect("a deadline is made on a living thread"))
    }

    /// Sets when it comes due; some milliseconds late at most, never early.
    pub fn set(&self, at: Moment) {
        core::set_timer(self.0, at);
    }

    /// Clears it.
    pub fn clear(&self) {
        self.set(Moment::NEVER);
    }

    /// Ready when it is due. Wakes the task then, and also on [`wake_all`].
    pub fn poll_due(&self, cx: &mut Context<'_>) -> Poll<()> {
        let due = core::with_timers(|timers| {
            if timers.has_fired(self.0) {
                return true;
            }
            timers.watch(self.0, cx.waker());
            false
        });
        if due == Some(true) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Default for Deadline {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        core::remove_timer(self.0);
    }
}

/// Waits until `at`.
pub async fn sleep_until(at: Moment) {
    let deadline = Deadline::new();
    deadline.set(at);
    poll_fn(|cx| deadline.poll_due(cx)).await;
}

/// Looks every so often until there is something to see, `until` at the latest: for what nobody tells, off the request path.
pub async fn look_every<T>(every: Duration, until: Moment, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    loop {
        let found = look();
        let now = clock::now();
        if found.is_some() || now >= until {
            return found;
        }
        sleep_until(now + every).await;
    }
}

/// Waits for `work`, at most until `at`: `None` when time ran out first.
pub async fn timeout<T>(at: Moment, work: impl Future<Output = T>) -> Option<T> {
    let deadline = Deadline::new();
    deadline.set(at);
    let mut work = pin!(work);
    poll_fn(|cx| match work.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => deadline.poll_due(cx).map(|()| None),
    })
    .await
}

/// Which of two came first, and what it gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Either<A, B> {
    /// The first.
    First(A),
    /// The second.
    Second(B),
}

/// Waits for whichever of the two ends first; the other is dropped. When both are ready it is the first.
pub async fn select<A, B>(first: impl Future<Output = A>, second: impl Future<Output = B>) -> Either<A, B> {
    let (mut first, mut second) = (pin!(first), pin!(second));
    poll_fn(|cx| match first.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Either::First(value)),
        Poll::Pending => second.as_mut().poll(cx).map(Either::Second),
    })
    .await
}

/// Lets other tasks of this core run, and those that the kernel has news for, before going on: for long work between
/// awaits.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        core::wake_next_turn(cx.waker());
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
pub(crate) mod tests;
