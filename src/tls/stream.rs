//! One connection with TLS.

use std::future::poll_fn;
use std::io::{self, IoSlice, Read as _, Write};
use std::task::{Context, Poll, ready};

use rustls::ClientConnection;

use super::{Client, Name, TlsError};
use crate::limits::TLS_HANDSHAKE_BYTES_MAX;
use crate::rt::{self, RecvHalf, SendHalf, Socket};

/// What became of waiting for bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// Some came. They may be none of the application's, or only a part of its first.
    Bytes,
    /// The peer says that this was all (`close_notify`).
    End,
    /// The connection is over, and the peer has not said so: anybody on the way can have cut it. What has no end of its own
    /// is not whole.
    Cut,
}

/// What the peer has said last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Peer {
    Open,
    Ended,
    Gone,
}

/// A client's connection with TLS, after its handshake. It holds back what is not a whole record yet, and nothing else.
#[derive(Debug)]
pub struct Stream {
    recv: RecvHalf,
    send: SendHalf,
    session: Box<ClientConnection>,
    peer: Peer,
    /// What came of the application with the end of the handshake.
    early: Vec<u8>,
    /// Bytes that came, those of TLS included.
    received: u64,
}

impl Stream {
    /// Has the handshake with a server that must be the one of this name. The caller sees to a deadline.
    ///
    /// # Errors
    /// Any [`TlsError`]; the connection is closed then.
    pub async fn connect(client: &Client, name: &Name, socket: Socket) -> Result<Self, TlsError> {
        let session = Box::new(ClientConnection::new(client.0.clone(), name.0.clone())?);
        let (recv, send) = rt::from_socket(socket);
        let mut stream = Self { recv, send, session, peer: Peer::Open, early: Vec::new(), received: 0 };
        poll_fn(|cx| stream.poll_handshake(cx)).await?;
        Ok(stream)
    }

    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TlsError>> {
        loop {
            let flushed = self.poll_flush(cx)?;
            if !self.session.is_handshaking() {
                return flushed.map(Ok);
            }
            let mut early = std::mem::take(&mut self.early);
            let came = self.poll_piece(cx, &mut early);
            self.early = early;
            match ready!(came)? {
                Received::Bytes if self.received > TLS_HANDSHAKE_BYTES_MAX => {
                    return Poll::Ready(Err(TlsError::TooLong));
                }
                Received::Bytes => {}
                Received::End | Received::Cut => return Poll::Ready(Err(TlsError::Cut)),
            }
        }
    }

    /// Puts what came behind `into`, at most a piece of the connection's and a record that it completes.
    ///
    /// # Errors
    /// [`TlsError::Io`], [`TlsError::Refused`], [`TlsError::Protocol`].
    pub fn poll_recv(&mut self, cx: &mut Context<'_>, into: &mut Vec<u8>) -> Poll<Result<Received, TlsError>> {
        // Whether that can go out or not: a peer that reads nothing before it has sent all may be waited for.
        let _ = self.poll_flush(cx)?;
        if !self.early.is_empty() {
            into.append(&mut self.early);
            return Poll::Ready(Ok(Received::Bytes));
        }
        self.poll_piece(cx, into)
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>, into: &mut Vec<u8>) -> Poll<Result<Received, TlsError>> {
        if self.peer == Peer::Open {
            let lease = ready!(self.recv.poll_recv(cx))?;
            self.received += lease.len() as u64;
            if lease.is_empty() {
                self.peer = Peer::Gone;
            } else if let Err(error) = self.take(&lease, into) {
                // The peer is told why, as far as that goes without waiting.
                let _ = self.poll_flush(cx);
                return Poll::Ready(Err(error));
            } else {
                return Poll::Ready(Ok(Received::Bytes));
            }
        }
        Poll::Ready(Ok(if self.peer == Peer::Ended { Received::End } else { Received::Cut }))
    }

    /// Decrypts what came. Behind the peer's end nothing counts.
    fn take(&mut self, mut bytes: &[u8], into: &mut Vec<u8>) -> Result<(), TlsError> {
        while !bytes.is_empty() && self.peer == Peer::Open {
            // It takes a few KiB at a time, and no more before what it made of them is taken out.
            self.session.read_tls(&mut bytes)?;
            let state = self.session.process_new_packets()?;
            let (begin, length) = (into.len(), state.plaintext_bytes_to_read());
            into.resize(begin + length, 0);
            self.session.reader().read_exact(&mut into[begin..])?;
            if state.peer_has_closed() {
                self.peer = Peer::Ended;
            }
        }
        Ok(())
    }

    /// Takes some of `bytes`, at least one, and sends what can be sent of them; [`Stream::poll_flush`] sends the rest.
    ///
    /// # Errors
    /// [`TlsError::Io`].
    pub fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize, TlsError>> {
        // Nothing more before what there is has gone: that is the bound of what is kept.
        ready!(self.poll_flush(cx))?;
        let taken = self.session.writer().write(bytes)?;
        let _ = self.poll_flush(cx)?;
        Poll::Ready(Ok(taken))
    }

    /// Sends what has been taken.
    ///
    /// # Errors
    /// [`TlsError::Io`].
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TlsError>> {
        while self.session.wants_write() {
            let mut sink = Sink { send: &mut self.send, cx };
            match self.session.write_tls(&mut sink) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error.into())),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Says that nothing more will be sent (`close_notify`); it goes out with the next [`Stream::poll_flush`].
    pub fn end(&mut self) {
        self.session.send_close_notify();
    }

    /// Bytes that came over the connection, those of TLS included.
    pub fn received(&self) -> u64 {
        self.received
    }
}

/// The sending half, for somebody who wants it to block or to say that it would.
struct Sink<'s, 'c, 'w> {
    send: &'s mut SendHalf,
    cx: &'c mut Context<'w>,
}

impl Sink<'_, '_, '_> {
    fn now(sent: Poll<io::Result<usize>>) -> io::Result<usize> {
        match sent {
            Poll::Ready(sent) => sent,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Sink<'_, '_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::now(self.send.poll_send(self.cx, bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Self::now(self.send.poll_send_vectored(self.cx, slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
