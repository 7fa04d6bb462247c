//! The glommio backend: io_uring alone, three rings a core.
//!
//! What is glommio's: the tasks and their queue, the loop, receiving and waiting for room on connections, waking from
//! other threads, and the timer that paces the core. glommio tells nobody that a descriptor is ready; its streams wait
//! inside their own reads and writes, so a receive is its read into a pooled buffer, a send that found no room its write.
//! A listener is waited on by such a stream too (see [`Knock`]): glommio's own accept would take connections that nobody
//! waits for any more.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ::glommio::net::TcpStream;
use ::glommio::timer::Timer;
use ::glommio::{LocalExecutor, LocalExecutorBuilder, Placement, PoolPlacement, TaskQueueHandle};
use futures_io::{AsyncRead, AsyncWrite};

use super::pacer::{Alarm, Pacer};
use super::stream::{Lease, RecvMode};
use super::{Driver, Executor, Options, RunError, Started, core, readiness, tasks};
use crate::pool;
use crate::sys::probe;

/// Memory that glommio registers with its rings for files, which are not read through it: the least that it takes.
const FILE_BYTES: usize = 64 * 1024;

/// The shortest sleep: one of no length would not reach the loop, and the loop is what lets others run.
const SLEEP_MIN: Duration = Duration::from_micros(1);

pub(super) fn run<F, T>(options: &Options, main: impl FnOnce(Started) -> F) -> Result<T, RunError>
where
    F: Future<Output = T>,
{
    let executor = build(options)?;
    let started = Started { executor: Executor::Glommio, driver: Driver::IoUring, fallback: None };
    core::start(
        Executor::Glommio,
        Driver::IoUring,
        usize::from(options.ring_buffers.next_power_of_two()),
        options.ring_buffer_bytes,
    );
    let work = tasks::run_main(async move { main(started).await }, |failed| {
        spawn(Pacer::new(Sleep::default()).run(failed));
        Ok(())
    });
    executor.run(work).map_err(|broken| broken.resume(Driver::IoUring))
}

fn build(options: &Options) -> Result<LocalExecutor, RunError> {
    // glommio needs less of the kernel than this asks for, but which kernels io_uring is used on is one promise.
    probe::io_uring().map_err(|refusal| RunError::NoFallback(Executor::Glommio, refusal))?;
    // Where the thread runs is decided before; so is how many threads may block (see `blocking.rs`).
    let builder = LocalExecutorBuilder::new(Placement::Unbound)
        .ring_depth(options.ring_entries as usize)
        .io_memory(FILE_BYTES)
        .blocking_thread_pool_placement(PoolPlacement::Unbound(1));
    builder.make().map_err(|error| RunError::Driver(Driver::IoUring, io::Error::other(error.to_string())))
}

pub(super) fn spawn(task: impl Future<Output = ()> + 'static) {
    // Into the queue, not run at once as `spawn_local` does: whoever spawns may hold what the task wants.
    let spawned = ::glommio::spawn_local_into(tasks::register(task), TaskQueueHandle::default());
    spawned.expect("the executor's first queue is never removed").detach();
}

/// A connection in glommio's hands.
pub(super) struct Socket(RefCell<TcpStream>);

impl Socket {
    pub(super) fn new(socket: OwnedFd) -> Self {
        Self(RefCell::new(hand_over(socket)))
    }

    fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_read(cx, buffer)
    }

    fn poll_write(&self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.borrow_mut()).poll_write(cx, bytes)
    }
}

fn hand_over(descriptor: OwnedFd) -> TcpStream {
    // SAFETY: the descriptor was ours alone and is the stream's from here on.
    unsafe { TcpStream::from_raw_fd(descriptor.into_raw_fd()) }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        let descriptor = self.0.borrow().as_raw_fd();
        // SAFETY: the stream owns this descriptor, is never replaced, and outlives the borrow.
        unsafe { BorrowedFd::borrow_raw(descriptor) }
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Socket").field(&self.as_fd()).finish()
    }
}

/// The receiving half of a connection.
#[derive(Debug)]
pub(super) struct Recv {
    socket: Rc<Socket>,
    turns: core::Turns,
    /// The last call waits: whatever ends that begins a turn.
    is_waiting: bool,
}

impl Recv {
    pub(super) fn new(socket: Rc<Socket>) -> Self {
        Self { socket, turns: core::Turns::default(), is_waiting: false }
    }

    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Lease>> {
        loop {
            ready!(self.turns.poll_next(cx));
            let Some(mut buffer) = core::take_buffer(pool::Class::Small) else {
                core::park(cx.waker());
                return Poll::Pending;
            };
            // glommio reads into bytes that have a value.
            let room = buffer.capacity();
            buffer.resize(room, 0);
            let Poll::Ready(result) = self.socket.poll_read(cx, &mut buffer) else {
                self.turns.begin();
                self.is_waiting = true;
                return Poll::Pending;
            };
            if std::mem::take(&mut self.is_waiting) {
                core::begin_turn();
            }
            match result {
                Ok(length) => {
                    buffer.truncate(length);
                    return Poll::Ready(Ok(Lease::pooled(buffer)));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    // Nothing is ever taken in ahead of who asks for it, so there is nothing to change, to hold or to be taken later.

    pub(super) fn set_mode(&mut self, _mode: RecvMode) {}

    pub(super) fn hold(&mut self) {}

    pub(super) fn poll_rest(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Lease>> {
        Poll::Ready(None)
    }
}

/// Waiting for room to send.
#[derive(Debug)]
pub(super) struct Room {
    is_armed: bool,
    /// As [`Recv`]'s.
    is_waiting: bool,
}

impl readiness::Wait for Room {
    type Socket = Socket;

    fn is_armed(&self) -> bool {
        self.is_armed
    }

    fn arm(&mut self, _socket: &Rc<Socket>) {
        self.is_armed = true;
    }
}

impl readiness::Writable for Room {
    const WAITS_BY_SENDING: bool = true;

    fn writable() -> Self {
        Self { is_armed: false, is_waiting: false }
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>, socket: &Rc<Socket>, next: &[u8]) -> Poll<io::Result<usize>> {
        if !self.is_armed || next.is_empty() {
            self.is_armed = false;
            return Poll::Ready(Ok(0));
        }
        let Poll::Ready(result) = socket.poll_write(cx, next) else {
            self.is_waiting = true;
            return Poll::Pending;
        };
        self.is_armed = false;
        if std::mem::take(&mut self.is_waiting) {
            core::begin_turn();
        }
        Poll::Ready(result)
    }
}

/// Waiting until somebody knocks at a listening socket.
///
/// A stream of glommio's begins to wait for something to read when it is made, and that wait is all that is wanted: each
/// time a new stream is made on a second descriptor of the socket. What its read says then does not matter, for a
/// listening socket cannot be read.
#[derive(Debug)]
pub(super) struct Knock(Option<io::Result<TcpStream>>);

impl readiness::Wait for Knock {
    type Socket = OwnedFd;

    fn is_armed(&self) -> bool {
        self.0.is_some()
    }

    fn arm(&mut self, socket: &Rc<OwnedFd>) {
        self.0 = Some(socket.try_clone().map(hand_over));
    }
}

impl readiness::Readable for Knock {
    fn readable() -> Self {
        Self(None)
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>, _socket: &Rc<OwnedFd>) -> Poll<io::Result<()>> {
        if let Some(Ok(stream)) = &mut self.0 {
            let _ = ready!(Pin::new(stream).poll_read(cx, &mut []));
            core::begin_turn();
        }
        match self.0.take() {
            Some(Err(error)) => Poll::Ready(Err(error)),
            Some(Ok(_)) | None => Poll::Ready(Ok(())),
        }
    }
}

/// The pacer's alarm.
#[derive(Default)]
struct Sleep(Option<Timer>);

impl Alarm for Sleep {
    fn set(&mut self, after: Duration) -> io::Result<()> {
        self.0 = Some(Timer::new(after.max(SLEEP_MIN)));
        Ok(())
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(timer) = &mut self.0 {
            ready!(Pin::new(timer).poll(cx));
        }
        self.0 = None;
        Poll::Ready(Ok(()))
    }
}
