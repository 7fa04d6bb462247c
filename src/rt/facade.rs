//! Connections and listeners as the rest of the code sees them: enums over the backends that are compiled in.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll};

#[cfg(feature = "glommio")]
use super::glommio;
#[cfg(feature = "monoio")]
use super::monoio;
#[cfg(feature = "sim")]
use super::sim;
use super::stream::{Lease, RecvMode};
use super::{Executor, compio, core, readiness};

/// `work` on whatever backend's value this is: they have the same methods.
macro_rules! on_each {
    ($of:ident, $value:expr, $bound:ident => $work:expr) => {
        match $value {
            $of::Compio($bound) => $work,
            #[cfg(feature = "monoio")]
            $of::Monoio($bound) => $work,
            #[cfg(feature = "glommio")]
            $of::Glommio($bound) => $work,
            #[cfg(feature = "sim")]
            $of::Simulated($bound) => $work,
        }
    };
}

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
    #[cfg(feature = "monoio")]
    Monoio(readiness::Recv<monoio::Ready>),
    #[cfg(feature = "glommio")]
    Glommio(glommio::Recv),
    #[cfg(feature = "sim")]
    Simulated(sim::Recv),
}

/// The sending half of a connection.
#[derive(Debug)]
pub struct SendHalf(SendOf);

#[derive(Debug)]
enum SendOf {
    Compio(readiness::Send<compio::Ready>),
    #[cfg(feature = "monoio")]
    Monoio(readiness::Send<monoio::Ready>),
    #[cfg(feature = "glommio")]
    Glommio(readiness::Send<glommio::Room>),
    #[cfg(feature = "sim")]
    Simulated(sim::Send),
}

/// The two halves of an accepted or connected socket. It is closed when both are gone and nothing is in flight on it.
pub fn from_socket(socket: Socket) -> (RecvHalf, SendHalf) {
    #[allow(clippy::infallible_destructuring_match, reason = "with the simulator there are two kinds")]
    let socket = match socket.0 {
        SocketOf::Os(socket) => socket,
        #[cfg(feature = "sim")]
        SocketOf::Simulated(socket) => {
            let (recv, send) = sim::halves(socket);
            return (RecvHalf(RecvOf::Simulated(recv)), SendHalf(SendOf::Simulated(send)));
        }
    };
    match core::executor() {
        Executor::Compio => {
            let socket = Rc::new(socket);
            let send = readiness::Send::new(socket.clone());
            (RecvHalf(RecvOf::Compio(compio::Recv::new(socket))), SendHalf(SendOf::Compio(send)))
        }
        #[cfg(feature = "monoio")]
        Executor::Monoio => {
            let socket = Rc::new(monoio::Socket::new(socket));
            let send = readiness::Send::new(socket.clone());
            (RecvHalf(RecvOf::Monoio(readiness::Recv::new(socket))), SendHalf(SendOf::Monoio(send)))
        }
        #[cfg(feature = "glommio")]
        Executor::Glommio => {
            let socket = Rc::new(glommio::Socket::new(socket));
            let send = readiness::Send::new(socket.clone());
            (RecvHalf(RecvOf::Glommio(glommio::Recv::new(socket))), SendHalf(SendOf::Glommio(send)))
        }
    }
}

impl RecvHalf {
    /// Bytes that came; an empty lease when the peer ended its side.
    ///
    /// # Errors
    /// ECONNRESET and the like: the connection is gone. Running out of buffers is not an error, it waits.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Lease>> {
        on_each!(RecvOf, &mut self.0, recv => recv.poll_recv(cx))
    }

    /// Changes how bytes are asked for. Nothing that came meanwhile is lost.
    pub fn set_mode(&mut self, mode: RecvMode) {
        on_each!(RecvOf, &mut self.0, recv => recv.set_mode(mode));
    }

    /// Stops taking in what comes until [`RecvHalf::poll_recv`] is called again: for a wait of unknown length during which
    /// nobody calls it. A multishot receive would fill the core's buffers with this one peer's bytes meanwhile.
    pub fn hold(&mut self) {
        on_each!(RecvOf, &mut self.0, recv => recv.hold());
    }

    /// After [`RecvHalf::hold`]: what had come before it took effect, a piece a call; `None` when that was all. Arms
    /// nothing. Whoever holds a receive for long takes these, or they keep the core's buffers.
    pub fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Lease>> {
        on_each!(RecvOf, &mut self.0, recv => recv.poll_rest(cx))
    }
}

impl SendHalf {
    /// Sends as much of `bytes` as the socket takes, at least one byte; waits while it takes none.
    ///
    /// # Errors
    /// EPIPE, ECONNRESET: the peer is gone.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        on_each!(SendOf, &mut self.0, send => send.poll_send(cx, bytes))
    }

    /// As [`SendHalf::poll_send`], gathering several slices.
    ///
    /// # Errors
    /// As [`SendHalf::poll_send`].
    pub fn poll_send_vectored(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        on_each!(SendOf, &mut self.0, send => send.poll_send_vectored(cx, slices))
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
        match file.descriptor() {
            Some(file) => on_each!(SendOf, &mut self.0, send => send.poll_send_file(cx, head, file, offset, most)),
            None => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        }
    }

    /// A second way to send on the same socket, for an interim response while the first is held by the final one. Only
    /// one of them may be sending at any time.
    pub fn another(&self) -> SendHalf {
        SendHalf(match &self.0 {
            SendOf::Compio(send) => SendOf::Compio(send.another()),
            #[cfg(feature = "monoio")]
            SendOf::Monoio(send) => SendOf::Monoio(send.another()),
            #[cfg(feature = "glommio")]
            SendOf::Glommio(send) => SendOf::Glommio(send.another()),
            #[cfg(feature = "sim")]
            SendOf::Simulated(send) => SendOf::Simulated(send.another()),
        })
    }

    /// Whether a send waits until the socket takes more.
    pub fn is_waiting(&self) -> bool {
        on_each!(SendOf, &self.0, send => send.is_waiting())
    }

    /// Bytes that the socket has taken and the peer has not acknowledged: a system call, for when nothing else moves.
    pub fn queued(&self) -> u64 {
        on_each!(SendOf, &self.0, send => send.queued())
    }

    /// Ends the connection with a reset: the peer cannot take what it got for the whole of it.
    pub fn reset(&self) {
        on_each!(SendOf, &self.0, send => send.reset());
    }

    /// Ends the sending side: the peer reads what was sent and then sees the end.
    pub fn shutdown(&self) {
        on_each!(SendOf, &self.0, send => send.shutdown());
    }
}

/// A listening socket of this core.
#[derive(Debug)]
pub struct Listener(ListenerOf);

#[derive(Debug)]
enum ListenerOf {
    Compio(readiness::Listener<compio::Ready>),
    #[cfg(feature = "monoio")]
    Monoio(readiness::Listener<monoio::Ready>),
    #[cfg(feature = "glommio")]
    Glommio(readiness::Listener<glommio::Knock>),
    #[cfg(feature = "sim")]
    Simulated(sim::Listener),
}

impl Listener {
    /// Takes over a listening socket for the executor that runs on this thread; one of the operating system is
    /// non-blocking.
    pub fn new(socket: impl Into<Socket>) -> Self {
        Self(match socket.into().0 {
            SocketOf::Os(socket) => match core::executor() {
                Executor::Compio => ListenerOf::Compio(readiness::Listener::new(Rc::new(socket))),
                #[cfg(feature = "monoio")]
                Executor::Monoio => ListenerOf::Monoio(readiness::Listener::new(Rc::new(monoio::Socket::new(socket)))),
                #[cfg(feature = "glommio")]
                Executor::Glommio => ListenerOf::Glommio(readiness::Listener::new(Rc::new(socket))),
            },
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
        on_each!(ListenerOf, &mut self.0, listener => {
            listener.poll_accept(cx).map_ok(|(socket, peer)| (Socket::from(socket), peer))
        })
    }

    /// A connection that waits in the socket's queue now, whether the driver has told of it or not: for the last look
    /// before the socket closes.
    pub fn accept_waiting(&mut self) -> Option<(Socket, SocketAddr)> {
        on_each!(ListenerOf, &mut self.0, listener => {
            listener.accept_waiting().map(|(socket, peer)| (Socket::from(socket), peer))
        })
    }
}
