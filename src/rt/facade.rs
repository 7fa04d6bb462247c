//! Connections and listeners as the rest of the code sees them: enums over the backends that are compiled in.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::compio;
#[cfg(feature = "sim")]
use super::sim;
use super::stream::{Lease, OsListener, OsSend, RecvMode};

/// A socket that is listened on, was accepted or is connected, before a core takes it into use.
#[derive(Debug)]
pub struct Socket(SocketOf);

#[derive(Debug)]
enum SocketOf {
    Os(OwnedFd),
    #[cfg(feature = "sim")]
    Simulated(sim::Socket),
}

impl From<OwnedFd> for Socket {
    /// A non-blocking socket of the operating system.
    fn from(socket: OwnedFd) -> Self {
        Self(SocketOf::Os(socket))
    }
}

#[cfg(feature = "sim")]
impl From<sim::Socket> for Socket {
    fn from(socket: sim::Socket) -> Self {
        Self(SocketOf::Simulated(socket))
    }
}

/// The receiving half of a connection.
#[derive(Debug)]
pub struct RecvHalf(RecvOf);

#[derive(Debug)]
enum RecvOf {
    Compio(compio::Recv),
    #[cfg(feature = "sim")]
    Simulated(sim::Recv),
}

/// The sending half of a connection.
#[derive(Debug)]
pub struct SendHalf(SendOf);

#[derive(Debug)]
enum SendOf {
    Os(OsSend),
    #[cfg(feature = "sim")]
    Simulated(sim::Send),
}

/// The two halves of an accepted or connected socket. It is closed when both are gone and nothing is in flight on it.
pub fn from_socket(socket: Socket) -> (RecvHalf, SendHalf) {
    match socket.0 {
        SocketOf::Os(socket) => {
            let socket = Rc::new(socket);
            let send = OsSend::new(socket.clone());
            (RecvHalf(RecvOf::Compio(compio::Recv::new(socket))), SendHalf(SendOf::Os(send)))
        }
        #[cfg(feature = "sim")]
        SocketOf::Simulated(socket) => {
            let (recv, send) = sim::halves(socket);
            (RecvHalf(RecvOf::Simulated(recv)), SendHalf(SendOf::Simulated(send)))
        }
    }
}

impl RecvHalf {
    /// Bytes that came; an empty lease when the peer ended its side.
    ///
    /// # Errors
    /// ECONNRESET and the like: the connection is gone. Running out of buffers is not an error, it waits.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Lease>> {
        match &mut self.0 {
            RecvOf::Compio(recv) => recv.poll_recv(cx),
            #[cfg(feature = "sim")]
            RecvOf::Simulated(recv) => recv.poll_recv(cx),
        }
    }

    /// Changes how bytes are asked for. Nothing that came meanwhile is lost.
    pub fn set_mode(&mut self, mode: RecvMode) {
        match &mut self.0 {
            RecvOf::Compio(recv) => recv.set_mode(mode),
            #[cfg(feature = "sim")]
            RecvOf::Simulated(recv) => recv.set_mode(mode),
        }
    }

    /// Stops taking in what comes until [`RecvHalf::poll_recv`] is called again: for a wait of unknown length during which
    /// nobody calls it. A multishot receive would fill the core's buffers with this one peer's bytes meanwhile.
    pub fn hold(&mut self) {
        match &mut self.0 {
            RecvOf::Compio(recv) => recv.hold(),
            #[cfg(feature = "sim")]
            RecvOf::Simulated(recv) => recv.hold(),
        }
    }

    /// After [`RecvHalf::hold`]: what had come before it took effect, a piece a call; `None` when that was all. Arms
    /// nothing. Whoever holds a receive for long takes these, or they keep the core's buffers.
    pub fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Lease>> {
        match &mut self.0 {
            RecvOf::Compio(recv) => recv.poll_rest(cx),
            #[cfg(feature = "sim")]
            RecvOf::Simulated(recv) => recv.poll_rest(cx),
        }
    }
}

impl SendHalf {
    /// Sends as much of `bytes` as the socket takes, at least one byte; waits while it takes none.
    ///
    /// # Errors
    /// EPIPE, ECONNRESET: the peer is gone.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            SendOf::Os(send) => send.poll_send(cx, bytes),
            #[cfg(feature = "sim")]
            SendOf::Simulated(send) => send.poll_send(cx, &[IoSlice::new(bytes)]),
        }
    }

    /// As [`SendHalf::poll_send`], gathering several slices.
    ///
    /// # Errors
    /// As [`SendHalf::poll_send`].
    pub fn poll_send_vectored(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            SendOf::Os(send) => send.poll_send_vectored(cx, slices),
            #[cfg(feature = "sim")]
            SendOf::Simulated(send) => send.poll_send(cx, slices),
        }
    }

    /// Sends a part of `head`, at least one byte, or where that is empty of `file` from `offset` on, without copying it;
    /// zero when the file has no bytes there. Waits for the disk unless [`super::fs::File::is_cached`].
    ///
    /// # Errors
    /// As [`SendHalf::poll_send`]; `Unsupported` where this socket or file cannot do it, and nothing was sent.
    pub fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        head: &[u8],
        file: &super::fs::File,
        offset: u64,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            SendOf::Os(send) => send.poll_send_file(cx, head, file.descriptor(), offset, most),
            #[cfg(feature = "sim")]
            SendOf::Simulated(_) => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        }
    }

    /// A second way to send on the same socket, for an interim response while the first is held by the final one. Only
    /// one of them may be sending at any time.
    pub fn another(&self) -> SendHalf {
        match &self.0 {
            SendOf::Os(send) => SendHalf(SendOf::Os(send.another())),
            #[cfg(feature = "sim")]
            SendOf::Simulated(send) => SendHalf(SendOf::Simulated(send.another())),
        }
    }

    /// Whether a send waits until the socket takes more.
    pub fn is_waiting(&self) -> bool {
        match &self.0 {
            SendOf::Os(send) => send.is_waiting(),
            #[cfg(feature = "sim")]
            SendOf::Simulated(send) => send.is_waiting(),
        }
    }

    /// Bytes that the socket has taken and the peer has not acknowledged: a system call, for when nothing else moves.
    pub fn queued(&self) -> u64 {
        match &self.0 {
            SendOf::Os(send) => send.queued(),
            #[cfg(feature = "sim")]
            SendOf::Simulated(send) => send.queued(),
        }
    }

    /// Ends the connection with a reset: the peer cannot take what it got for the whole of it.
    pub fn reset(&self) {
        match &self.0 {
            SendOf::Os(send) => send.reset(),
            #[cfg(feature = "sim")]
            SendOf::Simulated(send) => send.reset(),
        }
    }

    /// Ends the sending side: the peer reads what was sent and then sees the end.
    pub fn shutdown(&self) {
        match &self.0 {
            SendOf::Os(send) => send.shutdown(),
            #[cfg(feature = "sim")]
            SendOf::Simulated(send) => send.shutdown(),
        }
    }
}

/// A listening socket of this core.
#[derive(Debug)]
pub struct Listener(ListenerOf);

#[derive(Debug)]
enum ListenerOf {
    Os(OsListener),
    #[cfg(feature = "sim")]
    Simulated(sim::Listener),
}

impl Listener {
    /// Takes over a listening socket; one of the operating system is non-blocking.
    pub fn new(socket: impl Into<Socket>) -> Self {
        Self(match socket.into().0 {
            SocketOf::Os(socket) => ListenerOf::Os(OsListener::new(socket)),
            #[cfg(feature = "sim")]
            SocketOf::Simulated(socket) => ListenerOf::Simulated(sim::Listener::new(socket)),
        })
    }

    /// The next connection: its socket, and the peer's address.
    ///
    /// # Errors
    /// EMFILE, ENFILE, ENOBUFS, ENOMEM: the process or the host ran out; try again later. A peer that left before it was
    /// accepted is passed over.
    pub fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Socket, SocketAddr)>> {
        match &mut self.0 {
            ListenerOf::Os(listener) => listener.poll_accept(cx).map_ok(|(socket, peer)| (Socket::from(socket), peer)),
            #[cfg(feature = "sim")]
            ListenerOf::Simulated(listener) => {
                listener.poll_accept(cx).map_ok(|(socket, peer)| (Socket::from(socket), peer))
            }
        }
    }

    /// A connection that waits in the socket's queue now, whether the driver has told of it or not: for the last look
    /// before the socket closes.
    pub fn accept_waiting(&mut self) -> Option<(Socket, SocketAddr)> {
        match &mut self.0 {
            ListenerOf::Os(listener) => listener.accept_waiting().map(|(socket, peer)| (Socket::from(socket), peer)),
            #[cfg(feature = "sim")]
            ListenerOf::Simulated(listener) => {
                listener.accept_waiting().map(|(socket, peer)| (Socket::from(socket), peer))
            }
        }
    }
}
