//! The monoio backend: io_uring with the same ring flags as compio, or epoll; connections by readiness.
//!
//! What is monoio's: the tasks and their queue, the loop, waiting until a descriptor is ready, waking from other threads.

use std::cell::Cell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::monoio::net::TcpStream;
use ::monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

use super::pacer::{Alarm, Pacer};
use super::{Driver, DriverChoice, Executor, Options, RunError, Started, core, readiness, tasks};
use crate::sys;
use crate::sys::probe::{self, IoUringRefusal};

/// How many completions fit for each submission entry, as on compio.
const COMPLETIONS_PER_ENTRY: u32 = 4;

enum Runtime {
    IoUring(::monoio::Runtime<IoUringDriver>),
    Epoll(::monoio::Runtime<LegacyDriver>),
}

pub(super) fn run<F, T>(options: &Options, main: impl FnOnce(Started) -> F) -> Result<T, RunError>
where
    F: Future<Output = T>,
{
    let (mut runtime, started) = build(options)?;
    let driver = started.driver;
    core::start(
        Executor::Monoio,
        driver,
        usize::from(options.ring_buffers.next_power_of_two()),
        options.ring_buffer_bytes,
    );
    let work = tasks::run_main(async move { main(started).await }, |failed| {
        let timer = Rc::new(Socket::new(sys::timer::make()?));
        spawn(Pacer::new(TimerWait { timer, ready: readiness::Readable::readable() }).run(failed));
        Ok(())
    });
    let result = match &mut runtime {
        Runtime::IoUring(runtime) => runtime.block_on(work),
        Runtime::Epoll(runtime) => runtime.block_on(work),
    };
    runtime.end();
    result.map_err(|broken| broken.resume(driver))
}

fn build(options: &Options) -> Result<(Runtime, Started), RunError> {
    let started = |driver, fallback| Started { executor: Executor::Monoio, driver, fallback };
    let refusal = match options.driver {
        DriverChoice::Epoll => None,
        DriverChoice::Auto | DriverChoice::IoUring => match build_io_uring(options) {
            Ok(runtime) => return Ok((Runtime::IoUring(runtime), started(Driver::IoUring, None))),
            Err(refusal) if options.driver == DriverChoice::IoUring => return Err(RunError::IoUring(refusal)),
            Err(refusal) => Some(refusal),
        },
    };
    let epoll = RuntimeBuilder::<LegacyDriver>::new().with_entries(options.ring_entries).build();
    let epoll = epoll.map_err(|error| RunError::Driver(Driver::Epoll, error))?;
    Ok((Runtime::Epoll(epoll), started(Driver::Epoll, refusal)))
}

fn build_io_uring(options: &Options) -> Result<::monoio::Runtime<IoUringDriver>, IoUringRefusal> {
    // The probe knows the cause of a refusal; the driver's own error could come from any of its steps.
    probe::io_uring()?;
    let mut ring = io_uring_of_monoio::IoUring::builder();
    ring.setup_single_issuer().setup_defer_taskrun().setup_coop_taskrun().setup_taskrun_flag();
    ring.setup_cqsize(options.ring_entries.saturating_mul(COMPLETIONS_PER_ENTRY)).setup_clamp();
    let builder = RuntimeBuilder::<IoUringDriver>::new().with_entries(options.ring_entries).uring_builder(ring);
    builder.build().map_err(|error| probe::explain_refusal(error.raw_os_error().unwrap_or(0)))
}

impl Runtime {
    /// Frees the runtime. monoio closes a descriptor through the ring of the runtime that runs, and panics when there is
    /// none; those that a cancelled wait still holds are closed when the runtime that waited is dropped. So that happens
    /// inside another.
    fn end(self) {
        let ended = match self {
            Self::IoUring(runtime) => runtime,
            Self::Epoll(runtime) => return drop(runtime),
        };
        match RuntimeBuilder::<IoUringDriver>::new().with_entries(0).build() {
            Ok(mut other) => other.block_on(async { drop(ended) }),
            Err(error) => {
                tracing::warn!(%error, "no ring to close a core's last descriptors by: they stay open");
                Box::leak(Box::new(ended));
            }
        }
    }
}

pub(super) fn spawn(task: impl Future<Output = ()> + 'static) {
    // Dropping the handle leaves the task alone.
    drop(::monoio::spawn(tasks::register(task)));
}

/// A descriptor in monoio's hands: `TcpStream` is the type by which it waits on one, whatever it is. `None` when epoll
/// would not take it; monoio has closed it then.
pub(super) struct Socket(Option<TcpStream>);

impl Socket {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self(TcpStream::from_std(socket.into()).ok())
    }

    async fn wait(&self, direction: Direction) -> io::Result<()> {
        let Some(stream) = &self.0 else { return Err(io::Error::from_raw_os_error(libc::EBADF)) };
        // Not relaxed: on epoll monoio remembers that a descriptor was ready, and has to ask whether it still is.
        match direction {
            Direction::Readable => stream.readable(false).await,
            Direction::Writable => stream.writable(false).await,
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            // SAFETY: the stream owns this descriptor and outlives the borrow.
            Some(stream) => unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) },
            // No descriptor: every call on it fails with EBADF, which ends the connection.
            None => rustix::fs::CWD,
        }
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Socket").field(&self.as_fd()).finish()
    }
}

#[derive(Debug, Clone, Copy)]
enum Direction {
    Readable,
    Writable,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    /// A wait is wanted.
    Armed,
    /// It has lasted: whatever ends it begins a turn.
    Waiting,
}

/// Waiting until a descriptor is ready.
///
/// monoio has no type for this but that of a future of an `async fn`, which has no name. So one boxed future waits again
/// and again, and rests in between: no wait costs the heap anything.
#[derive(Debug)]
pub(super) struct Ready {
    direction: Direction,
    phase: Phase,
    /// Made at the first wait.
    wait: Option<Wait>,
}

struct Wait {
    future: Pin<Box<dyn Future<Output = ()>>>,
    /// Where the future leaves how a wait ended, before it rests.
    outcome: Rc<Cell<Option<io::Result<()>>>>,
}

impl fmt::Debug for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wait")
    }
}

impl Wait {
    fn new(socket: Rc<Socket>, direction: Direction) -> Self {
        let outcome = Rc::new(Cell::new(None));
        let told = outcome.clone();
        let future = Box::pin(async move {
            loop {
                told.set(Some(socket.wait(direction).await));
                rest().await;
            }
        });
        Self { future, outcome }
    }
}

/// Pending once: whoever polls this future next wants the next wait, so nobody has to be woken.
async fn rest() {
    let mut is_over = false;
    poll_fn(|_| if std::mem::replace(&mut is_over, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

impl readiness::Wait for Ready {
    type Socket = Socket;

    fn is_armed(&self) -> bool {
        self.phase != Phase::Idle
    }

    fn arm(&mut self, _socket: &Rc<Socket>) {
        self.phase = Phase::Armed;
    }
}

impl readiness::Readable for Ready {
    fn readable() -> Self {
        Self { direction: Direction::Readable, phase: Phase::Idle, wait: None }
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>, socket: &Rc<Socket>) -> Poll<io::Result<()>> {
        self.poll(cx, socket)
    }
}

impl readiness::Writable for Ready {
    fn writable() -> Self {
        Self { direction: Direction::Writable, phase: Phase::Idle, wait: None }
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>, socket: &Rc<Socket>, _next: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(cx, socket).map_ok(|()| 0)
    }
}

impl Ready {
    fn poll(&mut self, cx: &mut Context<'_>, socket: &Rc<Socket>) -> Poll<io::Result<()>> {
        if self.phase == Phase::Idle {
            return Poll::Ready(Ok(()));
        }
        let wait = self.wait.get_or_insert_with(|| Wait::new(socket.clone(), self.direction));
        // It never ends: it rests when a wait has ended.
        let _ = wait.future.as_mut().poll(cx);
        match wait.outcome.take() {
            None => {
                self.phase = Phase::Waiting;
                Poll::Pending
            }
            Some(outcome) => {
                if std::mem::replace(&mut self.phase, Phase::Idle) == Phase::Waiting {
                    core::begin_turn();
                }
                Poll::Ready(outcome)
            }
        }
    }
}

/// The pacer's alarm: a timer's descriptor. monoio has timers of its own, whose driver would read the clock twice a turn.
struct TimerWait {
    timer: Rc<Socket>,
    ready: Ready,
}

impl Alarm for TimerWait {
    fn set(&mut self, after: Duration) -> io::Result<()> {
        self.ready.phase = Phase::Armed;
        sys::timer::set(&*self.timer, after)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.ready.poll(cx, &self.timer)
    }
}
