//! Connecting to somebody else's listener.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;

#[cfg(any(feature = "monoio", feature = "glommio"))]
use super::blocking;
#[cfg(feature = "sim")]
use super::sim;
use super::{Executor, Socket, compio, core, timeout};
#[cfg(any(feature = "monoio", feature = "glommio"))]
use crate::clock;
use crate::clock::Moment;
use crate::sys;

/// Whom to connect to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Remote {
    /// TCP.
    Tcp(SocketAddr),
    /// A unix stream socket.
    Unix(PathBuf),
}

/// Connects to `remote`, until `until` at the latest.
///
/// # Errors
/// `TimedOut`; ECONNREFUSED, ENETUNREACH, ENOENT and the like from the other side or the network; EADDRNOTAVAIL, EMFILE,
/// ENFILE where this host has nothing left.
pub async fn connect(remote: &Remote, until: Moment) -> io::Result<Socket> {
    #[cfg(feature = "sim")]
    if sim::is_running() {
        let connected = timeout(until, sim::connect_out(remote)).await;
        return connected.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into())).map(Socket::from);
    }
    let (socket, is_connected) = match remote {
        Remote::Tcp(address) => sys::socket::connect(*address)?,
        Remote::Unix(path) => (sys::socket::connect_unix(path)?, true),
    };
    if is_connected {
        return Ok(socket.into());
    }
    match core::executor() {
        Executor::Compio => {
            let connected = timeout(until, wait_connected(socket)).await;
            connected.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into())).map(Socket::from)
        }
        // These wait on a descriptor only as a stream of their own, which cannot be had back: a thread waits for them.
        #[cfg(any(feature = "monoio", feature = "glommio"))]
        _ => {
            let most = until.since(clock::now());
            let connected = blocking::run(move || sys::socket::wait_connected(&socket, most).map(|()| socket)).await;
            connected.map(Socket::from)
        }
    }
}

async fn wait_connected(socket: OwnedFd) -> io::Result<OwnedFd> {
    use super::readiness::{Wait, Writable};
    let socket = Rc::new(socket);
    let mut writable = compio::Ready::writable();
    writable.arm(&socket);
    poll_fn(|cx| writable.poll_writable(cx, &socket, &[])).await?;
    sys::socket::connected(&*socket)?;
    drop(writable);
    // Nothing is in flight on it any more, so nobody else holds it.
    Rc::try_unwrap(socket).map_err(|_| io::Error::other("a wait that has ended holds its descriptor"))
}
