//! The compio backend: io_uring with multishot receive on a provided-buffer ring, or epoll.
//!
//! The loop is our own (compio's tasks, its driver's wait, then our deadlines), so that one clock read serves a turn and
//! timers cost no heap per request. The loop enters the kernel each turn: with DEFER_TASKRUN nothing completes otherwise.

mod multishot;

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::num::NonZero;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use compio::buf::BufResult;
use compio::driver::op::{Interest, OpCodeFlag, PollOnce};
use compio::driver::{BufferRef, DriverType, ProactorBuilder};
use compio::runtime::{Runtime, RuntimeBuilder, Submit};

use self::multishot::Multishot;
use super::stream::{Lease, RecvMode};
use super::{Driver, DriverChoice, Executor, Options, RunError, Started, core, readiness};
use crate::sys::probe::{self, IoUringRefusal};
use crate::{clock, limits, pool, sync, sys};

/// A buffer of the ring that the kernel filled.
pub(super) type Provided = BufferRef;

/// How many completions fit for each submission entry: one multishot receive posts many.
const COMPLETIONS_PER_ENTRY: u32 = 4;

pub(super) fn run<F, T>(options: &Options, main: impl FnOnce(Started) -> F) -> Result<T, RunError>
where
    F: Future<Output = T>,
{
    let (runtime, started) = build(options)?;
    if started.driver == Driver::IoUring {
        SUBMISSIONS.set((options.ring_entries, 0));
    }
    core::start(
        Executor::Compio,
        started.driver,
        usize::from(options.ring_buffers.next_power_of_two()),
        options.ring_buffer_bytes,
    );
    let ended = catch_unwind(AssertUnwindSafe(|| runtime.enter(|| drive(&runtime, main(started)))));
    // Here and not while a panic unwinds: compio leaves tasks undropped then, and with them connections open for ever whose
    // clients wait.
    drop(runtime);
    ended.or_else(|panic| resume_unwind(panic))
}

fn build(options: &Options) -> Result<(Runtime, Started), RunError> {
    let refusal = match options.driver {
        DriverChoice::Epoll => None,
        DriverChoice::Auto | DriverChoice::IoUring => match build_io_uring(options) {
            Ok(runtime) => {
                return Ok((runtime, Started { executor: Executor::Compio, driver: Driver::IoUring, fallback: None }));
            }
            Err(refusal) if options.driver == DriverChoice::IoUring => return Err(RunError::IoUring(refusal)),
            Err(refusal) => Some(refusal),
        },
    };
    let runtime = build_driver(options, DriverType::Poll).map_err(|error| RunError::Driver(Driver::Epoll, error))?;
    Ok((runtime, Started { executor: Executor::Compio, driver: Driver::Epoll, fallback: refusal }))
}

fn build_io_uring(options: &Options) -> Result<Runtime, IoUringRefusal> {
    // The probe knows the cause of a refusal; the driver's own error could come from any of its steps.
    probe::io_uring()?;
    let runtime = build_driver(options, DriverType::IoUring).map_err(|error| explain(&error))?;
    // The buffer ring is registered at its first use: use it now, where a refusal can still be answered by epoll.
    runtime.buffer_pool().map_err(|error| explain(&error))?;
    Ok(runtime)
}

fn explain(error: &io::Error) -> IoUringRefusal {
    if error.kind() == io::ErrorKind::Unsupported {
        // Every kernel that has the ring's flags, which were probed, has the operations: the asking itself has failed.
        return IoUringRefusal::Unprobed;
    }
    probe::explain_refusal(error.raw_os_error().unwrap_or(0))
}

fn build_driver(options: &Options, driver: DriverType) -> io::Result<Runtime> {
    let mut proactor = ProactorBuilder::new();
    proactor
        .driver_type(driver)
        .capacity(options.ring_entries)
        .cqsize(options.ring_entries.saturating_mul(COMPLETIONS_PER_ENTRY))
        .single_issuer(true)
        .defer_taskrun(true)
        .coop_taskrun(true)
        // The driver does not ask for completions in a turn in which a task was woken, unless this flag in the ring tells
        // it that there are some: without it one task that keeps waking itself starves all others of theirs.
        .taskrun_flag(true)
        .thread_pool_limit(limits::BLOCKING_THREADS_MAX)
        .buffer_pool_size(NonZero::new(options.ring_buffers).unwrap_or(NonZero::<u16>::MIN))
        .buffer_pool_buffer_len(options.ring_buffer_bytes);
    if driver == DriverType::IoUring {
        // The driver asks the kernel for its operations at the first one, with a ring of its own, and where that ring is
        // refused it runs the operation on a thread, which those we use cannot: ask now, while epoll is still a choice.
        proactor.detect_opcode_support(OpCodeFlag::Recv | OpCodeFlag::PollAdd);
    }
    let mut builder = RuntimeBuilder::new();
    builder.with_proactor(proactor);
    builder.build()
}

fn drive<T>(runtime: &Runtime, main: impl Future<Output = T>) -> T {
    clock::refresh();
    let driver = runtime.waker();
    sync::drive(runtime.waker(), main, |main| {
        let busy = runtime.run() || main.is_woken() || core::has_more();
        if busy {
            // Told by its own flag not to wait. By a time-out of zero alone it would wait for one completion all the same,
            // and the kernel would set a timer that goes off at once.
            driver.wake_by_ref();
        }
        runtime.poll_with(if busy { Some(Duration::ZERO) } else { wait() });
        SUBMISSIONS.set((SUBMISSIONS.get().0, 0));
        clock::refresh();
        core::fire_timers();
        core::retry_parked();
        core::wake_yielded();
    })
}

thread_local! {
    /// Entries of this core's submission queue, and those that were filled since the kernel last took them.
    static SUBMISSIONS: Cell<(u32, u32)> = const { Cell::new((u32::MAX, 0)) };
}

/// To be called before something is submitted. compio makes room for an operation, but a cancel that finds the queue full
/// is lost: so half of the queue is kept for those.
fn make_room(runtime: &Runtime) {
    let (entries, filled) = SUBMISSIONS.get();
    if filled < entries / 2 {
        SUBMISSIONS.set((entries, filled + 1));
        return;
    }
    SUBMISSIONS.set((entries, 1));
    if runtime.flush() {
        // It has taken up what another thread told the driver, which its next wait would wait for then.
        runtime.waker().wake();
    }
}

/// How long the driver may wait: until the next deadline, for ever when there is none.
fn wait() -> Option<Duration> {
    // A timer that was due at the turn's start already must not be slept over.
    let timer = core::with_timers(|timers| timers.until_next(clock::now())).flatten();
    match (timer, core::until_retry()) {
        (Some(timer), Some(retry)) => Some(timer.min(retry)),
        (timer, retry) => timer.or(retry),
    }
}

pub(super) fn spawn(task: impl Future<Output = ()> + 'static) {
    compio::runtime::spawn(task).detach();
}

pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    use compio::runtime::ResumeUnwind;
    let finished = compio::runtime::spawn_blocking(work).await;
    finished.resume_unwind().expect("a blocking task that nobody cancels ends")
}

/// Waiting until a descriptor is ready.
#[derive(Debug)]
pub(super) struct Ready {
    interest: Interest,
    waiting: Option<Box<Wait>>,
}

struct Wait(Submit<PollOnce<Rc<OwnedFd>>>);

impl std::fmt::Debug for Wait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wait")
    }
}

impl readiness::Wait for Ready {
    type Socket = OwnedFd;

    fn is_armed(&self) -> bool {
        self.waiting.is_some()
    }

    fn arm(&mut self, fd: &Rc<OwnedFd>) {
        let op = PollOnce::new(fd.clone(), self.interest);
        let submitted = Runtime::with_current(|runtime| {
            make_room(runtime);
            runtime.submit(op)
        });
        self.waiting = Some(Box::new(Wait(submitted)));
    }
}

impl readiness::Writable for Ready {
    fn writable() -> Self {
        Self { interest: Interest::Writable, waiting: None }
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>, _fd: &Rc<OwnedFd>, _next: &[u8]) -> Poll<io::Result<usize>> {
        self.poll(cx).map_ok(|()| 0)
    }
}

impl readiness::Readable for Ready {
    fn readable() -> Self {
        Self { interest: Interest::Readable, waiting: None }
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>, _fd: &Rc<OwnedFd>) -> Poll<io::Result<()>> {
        self.poll(cx)
    }
}

impl Ready {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(wait) = &mut self.waiting else { return Poll::Ready(Ok(())) };
        let BufResult(result, _) = ready!(Pin::new(&mut wait.0).poll(cx));
        self.waiting = None;
        Poll::Ready(result.map(drop))
    }
}

enum State {
    /// Nothing is asked for.
    Idle,
    /// io_uring: a multishot receive is armed.
    Multishot(Multishot),
    /// io_uring: as before, and told to end; it delivers what it has first.
    Ending(Multishot),
    /// epoll, and pieces on either driver: waiting until there is something to receive. Pieces are received into pooled
    /// buffers. From the ring, a receive that is asked for anew for each piece, at once, takes the buffer that it has just
    /// given back: as many uploads as there are buffers would keep all others from ever getting one.
    Readable(Box<readiness::Recv<Ready>>),
}

/// The receiving half of a connection.
pub(super) struct Recv {
    fd: Rc<OwnedFd>,
    mode: RecvMode,
    state: State,
    /// A multishot was armed, which is only ever so on io_uring.
    armed_before: bool,
    /// [`core::returns`] when the receive was armed.
    asked: u64,
    /// See [`Recv::receive_first`].
    looked: bool,
}

impl std::fmt::Debug for Recv {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recv").field("fd", &self.fd).field("mode", &self.mode).finish_non_exhaustive()
    }
}

impl Recv {
    pub(super) fn new(fd: Rc<OwnedFd>) -> Self {
        Self { fd, mode: RecvMode::Stream, state: State::Idle, armed_before: false, asked: 0, looked: false }
    }

    pub(super) fn set_mode(&mut self, mode: RecvMode) {
        if mode == self.mode {
            return;
        }
        self.mode = mode;
        if let State::Readable(recv) = &mut self.state {
            recv.set_mode(mode);
            if !recv.is_waiting() {
                self.state = State::Idle;
            }
        }
        // Back to `Stream`: whatever is under way ends by itself, then a multishot is armed.
        if mode.is_pieces() {
            self.hold();
        }
    }

    pub(super) fn hold(&mut self) {
        self.state = match std::mem::replace(&mut self.state, State::Idle) {
            State::Multishot(mut multishot) => {
                multishot.end();
                State::Ending(multishot)
            }
            other => other,
        };
    }

    pub(super) fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Lease>> {
        let State::Ending(multishot) = &mut self.state else { return Poll::Ready(None) };
        match ready!(multishot.poll_next(cx)) {
            Some(Ok(Some(buffer))) => Poll::Ready(Some(Lease::provided(buffer))),
            // It has ended, as it was told or by itself. An end or an error of the connection is met again by the next
            // receive.
            Some(Ok(None) | Err(_)) | None => {
                self.state = State::Idle;
                Poll::Ready(None)
            }
        }
    }

    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Lease>> {
        loop {
            let result = match &mut self.state {
                State::Idle => {
                    if let Some(lease) = self.receive_first()? {
                        return Poll::Ready(Ok(lease));
                    }
                    self.asked = core::returns();
                    self.state = self.arm()?;
                    continue;
                }
                State::Multishot(multishot) | State::Ending(multishot) => match ready!(multishot.poll_next(cx)) {
                    Some(result) => result.map(|buffer| buffer.map(Lease::provided)),
                    None => {
                        self.state = State::Idle;
                        continue;
                    }
                },
                State::Readable(recv) => {
                    let result = ready!(recv.poll_recv(cx));
                    // The wait began for a piece, and the mode has changed since: back to the ring.
                    if self.armed_before && self.mode == RecvMode::Stream {
                        self.state = State::Idle;
                    }
                    return Poll::Ready(result);
                }
            };
            match result {
                // No buffer came with the completion: the peer ended its side.
                Ok(Some(lease)) => return Poll::Ready(Ok(lease)),
                // No buffer came with the completion: the peer ended its side, and nothing is in flight any more.
                Ok(None) => {
                    self.state = State::Idle;
                    return Poll::Ready(Ok(Lease::pooled(pool::take(pool::Class::Small))));
                }
                Err(error) if is_out_of_buffers(&error) => {
                    self.state = State::Idle;
                    if core::returns() != self.asked {
                        continue;
                    }
                    core::park(cx.waker());
                    return Poll::Pending;
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::ECANCELED | libc::EINTR) => self.state = State::Idle,
                    _ => return Poll::Ready(Err(error)),
                },
            }
        }
    }

    /// What has come before anything was armed: a client that connects has mostly sent its request already, and one that
    /// wants no more than that is served without arming, cancelling and ending a multishot (perf/NOTES.md).
    fn receive_first(&mut self) -> io::Result<Option<Lease>> {
        if std::mem::replace(&mut self.looked, true) {
            return Ok(None);
        }
        let Some(mut buffer) = core::take_buffer(pool::Class::Small) else { return Ok(None) };
        match sys::socket::receive(&*self.fd, &mut buffer) {
            Ok(_) => Ok(Some(Lease::pooled(buffer))),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn arm(&mut self) -> io::Result<State> {
        Runtime::with_current(|runtime| {
            if runtime.driver_type() == DriverType::Poll || self.mode.is_pieces() {
                let mut recv = readiness::Recv::new(self.fd.clone());
                recv.set_mode(self.mode);
                return Ok(State::Readable(Box::new(recv)));
            }
            if std::mem::replace(&mut self.armed_before, true) {
                core::count(|stats| stats.receives_rearmed += 1);
            }
            make_room(runtime);
            Ok(State::Multishot(Multishot::start(runtime, &self.fd)?))
        })
    }
}

impl Drop for Recv {
    fn drop(&mut self) {
        // Ends whatever is in flight even where the cancel that compio sends finds the submission queue full: without
        // this a lost cancel would keep the socket open until the peer closes it.
        let in_flight = match &self.state {
            State::Idle => false,
            State::Multishot(_) | State::Ending(_) => true,
            State::Readable(recv) => recv.is_waiting() && self.mode.is_pieces(),
        };
        if in_flight {
            sys::socket::shutdown_both(&*self.fd);
        }
    }
}

/// ENOBUFS of a provided-buffer ring, which compio turns into an error of its own.
fn is_out_of_buffers(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ResourceBusy || error.raw_os_error() == Some(libc::ENOBUFS)
}

pub(super) async fn read_at(file: &Rc<OwnedFd>, offset: u64, most: usize) -> io::Result<pool::Buffer> {
    use compio::buf::{IntoInner, IoBufMut};
    use compio::driver::op::ReadAt;
    let mut buffer = pool::take(pool::Class::Large);
    let bytes = std::mem::take(&mut *buffer);
    let most = most.min(bytes.capacity());
    let op = ReadAt::new(file.clone(), offset, compio::buf::IoBuf::slice(bytes, ..most));
    let BufResult(result, op) = compio::runtime::submit(op).await;
    let mut bytes = op.into_inner().into_inner();
    let length = result?;
    debug_assert!(length <= bytes.as_uninit().len());
    // SAFETY: the kernel has written `length` bytes to the start of this buffer: it is the operation's result.
    unsafe { bytes.set_len(length) };
    *buffer = bytes;
    Ok(buffer)
}
