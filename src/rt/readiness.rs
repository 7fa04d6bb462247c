//! Connections and listeners by readiness: wait until a descriptor is ready, then make the call here and now.
//!
//! One implementation for every executor that can say when a descriptor is ready. compio sends and accepts this way, and
//! receives this way on epoll; the optional executors do all three.

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::core;
use super::stream::{Lease, RecvMode};
use crate::{pool, sys};

/// Waiting, again and again, until one descriptor is ready in one direction.
pub(super) trait Wait: Debug {
    /// The descriptor as the executor holds it.
    type Socket: AsFd + Debug;

    /// Whether a wait is under way.
    fn is_armed(&self) -> bool;

    /// Begins a wait. It ends at once when the descriptor is ready already.
    fn arm(&mut self, socket: &Rc<Self::Socket>);
}

/// Waiting for something to receive or to accept.
pub(super) trait Readable: Wait {
    /// A wait that is not armed yet.
    fn readable() -> Self;

    /// Ready when nothing is waited for any more.
    fn poll_readable(&mut self, cx: &mut Context<'_>, socket: &Rc<Self::Socket>) -> Poll<io::Result<()>>;
}

/// Waiting for room to send.
pub(super) trait Writable: Wait {
    /// It can only wait by sending bytes.
    const WAITS_BY_SENDING: bool = false;

    /// A wait that is not armed yet.
    fn writable() -> Self;

    /// Ready when nothing is waited for any more. An executor that can only wait by sending sends what it can of `next`
    /// and returns how much that was; others return zero.
    fn poll_writable(
        &mut self,
        cx: &mut Context<'_>,
        socket: &Rc<Self::Socket>,
        next: &[u8],
    ) -> Poll<io::Result<usize>>;
}

/// The receiving half of a connection.
#[derive(Debug)]
pub(super) struct Recv<R: Readable> {
    socket: Rc<R::Socket>,
    readable: R,
    /// The last receive took all that there was: waiting costs less than to be told so by another.
    is_drained: bool,
    /// Of the buffers that are received into.
    class: pool::Class,
    turns: core::Turns,
}

impl<R: Readable> Recv<R> {
    pub(super) fn new(socket: Rc<R::Socket>) -> Self {
        Self {
            socket,
            readable: R::readable(),
            is_drained: false,
            class: pool::Class::Small,
            turns: core::Turns::default(),
        }
    }

    pub(super) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Lease>> {
        loop {
            if std::mem::take(&mut self.is_drained) {
                self.readable.arm(&self.socket);
            }
            if self.readable.is_armed() {
                let Poll::Ready(result) = self.readable.poll_readable(cx, &self.socket) else {
                    // Only now: a wait that ends at once lets nobody else run.
                    self.turns.begin();
                    return Poll::Pending;
                };
                result?;
            }
            ready!(self.turns.poll_next(cx));
            match ready!(self.receive(cx)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable.arm(&self.socket),
                result => return Poll::Ready(result),
            }
        }
    }

    /// Whether a wait for more is under way.
    pub(super) fn is_waiting(&self) -> bool {
        self.readable.is_armed()
    }

    /// Nothing is ever taken in ahead of who asks for it, so the mode only says how large the pieces are.
    pub(super) fn set_mode(&mut self, mode: RecvMode) {
        self.class = match mode {
            RecvMode::Stream | RecvMode::Pieces => pool::Class::Small,
            RecvMode::LargePieces => pool::Class::Large,
        };
    }

    // For the same reason there is nothing to hold or to be taken later.

    #[cfg(feature = "monoio")]
    pub(super) fn hold(&mut self) {}

    #[cfg(feature = "monoio")]
    pub(super) fn poll_rest(&mut self, _cx: &mut Context<'_>) -> Poll<Option<Lease>> {
        Poll::Ready(None)
    }

    /// Receives into a pooled buffer, within the same bound on buffers as a ring of provided ones.
    fn receive(&mut self, cx: &Context<'_>) -> Poll<io::Result<Lease>> {
        let Some(mut buffer) = core::take_buffer(self.class) else {
            core::park(cx.waker());
            return Poll::Pending;
        };
        loop {
            match sys::socket::receive(&*self.socket, &mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(length) => {
                    // Nothing follows the end, so nothing is waited for after it.
                    self.is_drained = length > 0 && length < buffer.capacity();
                    return Poll::Ready(Ok(Lease::pooled(buffer)));
                }
            }
        }
    }
}

/// The sending half of a connection.
#[derive(Debug)]
pub(super) struct Send<W: Writable> {
    socket: Rc<W::Socket>,
    writable: W,
    turns: core::Turns,
}

impl<W: Writable> Send<W> {
    pub(super) fn new(socket: Rc<W::Socket>) -> Self {
        Self { socket, writable: W::writable(), turns: core::Turns::default() }
    }

    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_with(cx, bytes.len(), || bytes, |socket| sys::socket::send(socket, bytes))
    }

    pub(super) fn poll_send_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wanted = slices.iter().map(|slice| slice.len()).sum();
        let first = || slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
        self.poll_with(cx, wanted, first, |socket| sys::socket::send_vectored(socket, slices))
    }

    /// Sends `head`, of which more follows, or, when that is gone, from the file.
    pub(super) fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        head: &[u8],
        file: &OwnedFd,
        offset: u64,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        if W::WAITS_BY_SENDING {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        }
        if head.is_empty() {
            self.poll_with(cx, most, || &[], |socket| sys::socket::send_file(socket, file, offset, most))
        } else {
            self.poll_with(cx, head.len(), || head, |socket| sys::socket::send_more(socket, head))
        }
    }

    // The call is made here and now rather than queued on the ring: measured equal in CPU per request to a ring send
    // (within 2 % at 64 connections, one answer each), it needs no heap allocation for an operation, and the bytes can
    // be borrowed because the kernel never owns them.
    fn poll_with<'b>(
        &mut self,
        cx: &mut Context<'_>,
        wanted: usize,
        first: impl Fn() -> &'b [u8],
        send: impl Fn(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            if self.writable.is_armed() {
                match self.writable.poll_writable(cx, &self.socket, first()) {
                    Poll::Ready(Ok(0)) => {}
                    Poll::Ready(result) => return Poll::Ready(result),
                    Poll::Pending => {
                        self.turns.begin();
                        return Poll::Pending;
                    }
                }
            }
            ready!(self.turns.poll_next(cx));
            match send(self.socket.as_fd()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    core::count(|stats| stats.send_waits += 1);
                    self.writable.arm(&self.socket);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => {
                    if result.as_ref().is_ok_and(|sent| *sent < wanted) {
                        core::count(|stats| stats.short_sends += 1);
                    }
                    return Poll::Ready(result);
                }
            }
        }
    }

    pub(super) fn another(&self) -> Self {
        Self::new(self.socket.clone())
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.writable.is_armed()
    }

    pub(super) fn queued(&self) -> u64 {
        sys::send_queue::queued(&*self.socket)
    }

    pub(super) fn reset(&self) {
        sys::socket::reset(&*self.socket);
    }

    pub(super) fn shutdown(&self) {
        sys::socket::shutdown_write(&*self.socket);
    }
}

/// A listening socket.
#[derive(Debug)]
pub(super) struct Listener<R: Readable> {
    socket: Rc<R::Socket>,
    readable: R,
}

impl<R: Readable> Listener<R> {
    pub(super) fn new(socket: Rc<R::Socket>) -> Self {
        Self { socket, readable: R::readable() }
    }

    pub(super) fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(OwnedFd, SocketAddr)>> {
        loop {
            if self.readable.is_armed() {
                ready!(self.readable.poll_readable(cx, &self.socket))?;
            }
            match sys::socket::accept(&*self.socket) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable.arm(&self.socket),
                Err(error) if is_passing(&error) => {}
                result => return Poll::Ready(result),
            }
        }
    }

    pub(super) fn accept_waiting(&mut self) -> Option<(OwnedFd, SocketAddr)> {
        loop {
            match sys::socket::accept(&*self.socket) {
                Err(error) if is_passing(&error) => {}
                result => return result.ok(),
            }
        }
    }
}

/// Errors of accept(2) that concern one connection, not the listener.
pub(super) fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, HostUnreachable, Interrupted, NetworkDown, NetworkUnreachable};
    matches!(error.kind(), Interrupted | ConnectionAborted | NetworkDown | HostUnreachable | NetworkUnreachable)
        || error.raw_os_error() == Some(libc::EPROTO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Waker;

    /// An executor whose waits end at once.
    #[derive(Debug)]
    struct Hasty(bool);

    impl Wait for Hasty {
        type Socket = OwnedFd;

        fn is_armed(&self) -> bool {
            self.0
        }

        fn arm(&mut self, _socket: &Rc<OwnedFd>) {
            self.0 = true;
        }
    }

    impl Readable for Hasty {
        fn readable() -> Self {
            Self(false)
        }

        fn poll_readable(&mut self, _cx: &mut Context<'_>, _socket: &Rc<OwnedFd>) -> Poll<io::Result<()>> {
            self.0 = false;
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn a_peer_that_always_has_more_does_not_get_the_core_to_itself() {
        use crate::limits::STREAM_BATCH;
        use std::io::Write;
        core::start(super::super::Executor::default(), super::super::Driver::Epoll, 8, 4096);
        crate::clock::refresh();
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut recv = Recv::<Hasty>::new(Rc::new(ours.into()));
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..STREAM_BATCH {
            theirs.write_all(b"x").unwrap();
            let received = recv.poll_recv(&mut cx);
            assert!(matches!(received, Poll::Ready(Ok(lease)) if &*lease == b"x"));
        }
        theirs.write_all(b"x").unwrap();
        assert!(recv.poll_recv(&mut cx).is_pending(), "it stands back, although more has come");
        assert!(core::has_more());
    }
}
