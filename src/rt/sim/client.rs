//! The other side of the network: clients that a test drives.

use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::network::{End, Fin, take_front};
use super::world;
use crate::clock::Moment;

/// A client's end of a connection. Clones share it; it closes with the last one.
#[derive(Debug, Clone)]
pub struct Client(Rc<Handle>);

#[derive(Debug)]
struct Handle(usize);

impl Drop for Handle {
    fn drop(&mut self) {
        world::try_with(|world| world.close(self.0, End::Client));
    }
}

/// Connects to a listening socket at `address`.
///
/// # Errors
/// `ConnectionRefused` when nobody listens there, or the queue is full.
pub async fn connect(address: SocketAddr) -> io::Result<Client> {
    let client = Client(Rc::new(Handle(world::with(|world| world.connect(address)))));
    let connected = poll_fn(|cx| {
        world::with(|world| {
            let connection = world.network.connection(client.id());
            match connection.connected {
                Some(connected) => Poll::Ready(connected),
                None => {
                    connection.incoming(End::Client).reader = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
    });
    if connected.await { Ok(client) } else { Err(ErrorKind::ConnectionRefused.into()) }
}

impl Client {
    /// The outer end of a connection that a server outside accepts.
    pub(super) fn of(id: usize) -> Self {
        Self(Rc::new(Handle(id)))
    }

    /// The connection's number, as in the trace.
    pub fn id(&self) -> usize {
        self.0.0
    }

    /// Sends all of `bytes`, waiting while the way is full.
    ///
    /// # Errors
    /// The connection was reset, or the sending side has ended.
    pub async fn send(&self, bytes: &[u8]) -> io::Result<()> {
        let mut sent = 0;
        poll_fn(|cx| self.poll_send(cx, bytes, &mut sent)).await
    }

    fn poll_send(&self, cx: &mut Context<'_>, bytes: &[u8], sent: &mut usize) -> Poll<io::Result<()>> {
        world::with(|world| {
            while *sent < bytes.len() {
                match world.send(self.id(), End::Client, &[IoSlice::new(&bytes[*sent..])]) {
                    Ok(taken) => *sent += taken,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        world.network.connection(self.id()).pipe(End::Client).writer = Some(cx.waker().clone());
                        return Poll::Pending;
                    }
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Reads at most `most` bytes; none at the end.
    ///
    /// # Errors
    /// The connection was reset.
    pub async fn recv(&self, most: usize) -> io::Result<Vec<u8>> {
        poll_fn(|cx| {
            world::with(|world| {
                let connection = world.network.connection(self.id());
                let reset = connection.reset[End::Client as usize];
                let pipe = connection.incoming(End::Client);
                let count = pipe.arrived.len().min(most);
                let bytes = take_front(&mut pipe.arrived, count);
                match (count, reset, pipe.fin) {
                    (1.., _, _) => {
                        world.was_read(self.id(), End::Client);
                        Poll::Ready(Ok(bytes))
                    }
                    (0, true, _) => Poll::Ready(Err(ErrorKind::ConnectionReset.into())),
                    (0, false, Fin::Arrived) => Poll::Ready(Ok(bytes)),
                    (0, false, Fin::Open | Fin::Sent) => {
                        pipe.reader = Some(cx.waker().clone());
                        Poll::Pending
                    }
                }
            })
        })
        .await
    }

    /// Ends the sending side; the other is still read.
    pub fn shutdown(&self) {
        world::with(|world| world.shut(self.id(), End::Client));
    }

    /// Resets the connection, whatever is under way.
    pub fn reset(&self) {
        world::with(|world| world.reset_other(self.id(), End::Client));
    }

    /// Goes without a word, as a host that loses its power: the server learns of nothing.
    pub fn vanish(&self) {
        world::with(|world| world.vanish(self.id()));
    }

    /// Bytes that have arrived at the server's kernel.
    pub fn delivered(&self) -> u64 {
        world::with(|world| world.network.connection(self.id()).pipe(End::Client).delivered)
    }

    /// Bytes that have arrived here, read or not.
    pub fn received(&self) -> u64 {
        world::with(|world| world.network.connection(self.id()).incoming(End::Client).delivered)
    }

    /// Whether the network got in its way.
    pub fn is_disturbed(&self) -> bool {
        world::with(|world| world.network.connection(self.id()).disturbed)
    }

    /// The core that accepted it.
    pub fn core(&self) -> Option<usize> {
        world::with(|world| world.network.connection(self.id()).core)
    }

    /// When the server accepted it.
    pub fn accepted_at(&self) -> Option<Moment> {
        world::with(|world| world.network.connection(self.id()).accepted)
    }

    /// When the server closed it.
    pub fn closed_at(&self) -> Option<Moment> {
        world::with(|world| world.network.connection(self.id()).closed)
    }
}
