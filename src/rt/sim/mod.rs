//! A deterministic world to run the server in: one thread, seeded, with its own time and an in-memory network.
//!
//! [`run`] plays one seed. Inside, [`core`] starts a core (a worker runs in it unchanged: the facade's sockets, tasks and
//! timers are the world's), [`Client`]s connect to it, and everything that could happen in some order or at some moment is
//! decided by the seed: which task runs next, how bytes are split and delayed, how much a send takes, when buffers are
//! out. Time jumps to whatever is due next. The same seed gives the same [`Report::trace`] byte for byte.
//!
//! `world.rs` holds tasks, cores and time; `network.rs` connections as the kernel would have them, `closing.rs` how they end; `ends.rs` the facade's
//! side of a connection; `client.rs` the other; `outward.rs` the servers that cores connect to; `disk.rs` files; `faults.rs` what goes wrong by itself. `invariants.rs`
//! looks after each step whether what must hold everywhere does; `wire.rs` shows a test what it needs to look for the rest.

mod bug;
mod client;
mod closing;
mod disk;
mod ends;
mod faults;
mod invariants;
mod network;
mod outward;
mod random;
mod trace;
mod wire;
mod world;

use std::cell::RefCell;
use std::fmt::Arguments;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

pub use bug::{Bug, planted};
pub use client::{Client, connect};
pub(super) use disk::{File, open as open_file};
pub use disk::{file_metadata, put_file};
pub use ends::Socket;
pub(super) use ends::{Listener, Provided, Recv, Send, halves};
pub(super) use outward::connect_out;
pub use outward::{Acceptor, Peer, Reception, outward_connections, serve};
pub use random::Random;
pub use wire::{Sight, Tapped, Wire, queued, sights, take_tapped, tap};

use crate::clock;

/// How a core's receives are played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// As io_uring: received ahead into provided buffers, until there is none.
    Multishot,
    /// As epoll: one receive for each call.
    Readiness,
}

/// How a core is built.
#[derive(Debug, Clone, Copy)]
pub struct CoreOptions {
    /// How its receives are played.
    pub style: Style,
    /// Its receive buffers.
    pub buffers: usize,
    /// Bytes of one of them.
    pub buffer_bytes: usize,
}

/// How often a thing goes wrong, in a thousand times that it could.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// A task is polled though nothing woke it.
    pub spurious_polls: u64,
    /// The core's thread loses its processor for some milliseconds.
    pub pauses: u64,
    /// A send takes only a part.
    pub short_sends: u64,
    /// A send takes nothing, though there is room.
    pub refused_sends: u64,
    /// Accepting fails for want of descriptors or memory.
    pub failed_accepts: u64,
    /// A connection is reset while it waits to be accepted.
    pub aborted_accepts: u64,
    /// A send of the server fails: the connection is gone.
    pub failed_sends: u64,
    /// The network resets a connection when bytes are about to arrive.
    pub resets: u64,
    /// One direction of a connection stands still, for up to some seconds, when bytes are about to arrive.
    pub stalls: u64,
    /// A core's free receive buffers are gone for a while: so many times in a hundred thousand steps.
    pub shortages: u64,
    /// The disk fails.
    pub failed_reads: u64,
    /// A read gives less than was asked for.
    pub short_reads: u64,
}

/// How a world is built.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Decides everything.
    pub seed: u64,
    /// What goes wrong.
    pub faults: Faults,
    /// Milliseconds that bytes take from one end of a connection to the other, at most.
    pub latency_max_ms: u64,
    /// Bytes that one direction of a connection holds, at most: sent and not arrived, and again arrived and not read.
    pub pipe_bytes_max: usize,
    /// Steps after which the run has failed.
    pub steps_max: u64,
    /// Virtual time after which the run has failed.
    pub time_max: Duration,
    /// Lines of the trace that are kept.
    pub trace_lines: usize,
    /// A mistake to make.
    pub planted: Option<Bug>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 0,
            faults: Faults::default(),
            latency_max_ms: 20,
            pipe_bytes_max: 64 * 1024,
            steps_max: 5_000_000,
            time_max: Duration::from_secs(600),
            trace_lines: 400,
            planted: None,
        }
    }
}

/// How a run went.
#[derive(Debug)]
pub struct Report<T> {
    /// What the main future gave, or what went wrong first.
    pub outcome: Result<T, String>,
    /// The last lines of the trace: virtual time and event.
    pub trace: Vec<String>,
    /// Lines of the whole trace.
    pub trace_lines: u64,
    /// A hash over the whole trace and the order in which tasks ran.
    pub hash: u64,
    /// Steps taken.
    pub steps: u64,
    /// Virtual time that passed.
    pub elapsed: Duration,
}

/// Runs `main` in a world of its own until it ends or something goes wrong: a panic, a failed check, a task that spins, a
/// world in which nothing will ever happen again.
///
/// The world lives on a thread of its own, so that nothing of an earlier one is left in the thread's state.
pub fn run<F, T>(options: Options, main: impl FnOnce() -> F + std::marker::Send) -> Report<T>
where
    F: Future<Output = T> + 'static,
    T: std::marker::Send + 'static,
{
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || world::run(options, main));
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// As [`run`], on this thread: for many short runs, each of which would cost a thread more than itself. What a thread
/// keeps from run to run (the storage of its buffer pool) changes nothing that a run can see.
pub fn run_here<F, T>(options: Options, main: impl FnOnce() -> F) -> Report<T>
where
    F: Future<Output = T> + 'static,
    T: 'static,
{
    world::run(options, main)
}

/// Whether this thread is in a world.
pub fn is_running() -> bool {
    world::try_with(|_| ()).is_some()
}

/// Runs a task on the current core.
pub(super) fn spawn(task: impl Future<Output = ()> + 'static) {
    world::with(|world| world.spawn(Box::pin(task)));
}

/// Work that would go to another thread: done after a while.
pub(super) async fn blocking<T>(work: impl FnOnce() -> T) -> T {
    let wait = world::with(|world| Duration::from_micros(world.random.below(3000)));
    super::sleep_until(clock::now() + wait).await;
    work()
}

/// The outcome of a core's future.
pub struct Joined<T>(Rc<RefCell<JoinState<T>>>);

struct JoinState<T> {
    outcome: Option<T>,
    waiting: Option<Waker>,
}

impl<T> Joined<T> {
    fn new() -> Self {
        Self(Rc::new(RefCell::new(JoinState { outcome: None, waiting: None })))
    }

    fn set(&self, outcome: T) {
        let waiting = {
            let mut state = self.0.borrow_mut();
            state.outcome = Some(outcome);
            state.waiting.take()
        };
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }
}

impl<T> Future for Joined<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let mut state = self.0.borrow_mut();
        match state.outcome.take() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                state.waiting = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// Starts a core and runs `main` in it. Tasks that are alive when it ends are dropped, as on a real core; the run fails
/// if a receive buffer or a connection of the core is not given back then.
pub fn core<T: 'static>(options: CoreOptions, main: impl Future<Output = T> + 'static) -> Joined<T> {
    let joined = Joined::new();
    let told = Joined(joined.0.clone());
    world::with(|world| {
        world.start_core(options, |_| Box::pin(async move { told.set(main.await) }));
    });
    joined
}

/// A task of the current core whose outcome can be awaited.
pub fn task<T: 'static>(work: impl Future<Output = T> + 'static) -> Joined<T> {
    let joined = Joined::new();
    let told = Joined(joined.0.clone());
    spawn(async move { told.set(work.await) });
    joined
}

/// A socket that listens on `address`. Several may, as with `SO_REUSEPORT`: connections are spread by chance.
pub fn listen(address: SocketAddr) -> Socket {
    world::with(|world| world.listen(address))
}

/// Adds a line to the trace.
pub fn note(event: Arguments<'_>) {
    world::try_with(|world| world.note(event));
}

/// A generator for a part of the test.
pub fn random() -> Random {
    world::with(|world| world.random.fork())
}

/// Ends the run as failed; the first cause counts.
pub fn fail(cause: impl Into<String>) {
    world::with(|world| world.fail(cause.into()));
}

/// Has `check` run after every step.
pub fn check_each_step(check: impl FnMut() -> Result<(), String> + 'static) {
    world::with(|world| world.add_check(Box::new(check)));
}

/// Has `check` run when nothing can run and nothing is due, before time moves on.
pub fn check_when_quiet(check: impl FnMut() -> Result<(), String> + 'static) {
    world::with(|world| world.quiet_checks.push(Box::new(check)));
}

/// Connections that all cores together have accepted and not closed.
pub fn open_connections_in_all() -> usize {
    world::with(|world| world.cores.iter().map(|core| core.open).sum())
}

/// Connections that a core has accepted and not closed; the world's cores are numbered from 1 in the order of their start.
pub fn open_connections(core: usize) -> usize {
    world::with(|world| world.cores.get(core).map_or(0, |core| core.open))
}

/// Cores that were started so far, the outside included: the number that the next one will have.
pub fn count_cores() -> usize {
    world::with(|world| world.cores.len())
}

/// A core's thread stands still for so long, as when a handler blocks it: none of its tasks runs, no timer of it fires.
pub fn freeze(core: usize, length: Duration) {
    world::with(|world| world.freeze(core, length));
}

/// A core of the world breaks down: the clients of its connections cannot expect to be served as if it had not.
pub fn disturb(core: usize) {
    world::with(|world| world.disturb_core(core));
}
