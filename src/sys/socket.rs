//! Sockets: listening with `SO_REUSEPORT`, accepting, connecting, and calls that do not block.

use std::io::{self, IoSlice, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{self, AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, ipproto, sockopt};
use rustix::time::Timespec;

use crate::limits::ADMIN_ANSWER_BYTES_MAX;

/// Connections that the kernel completes and keeps until they are accepted; it caps this at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Opens a non-blocking listening socket on `address`. With `SO_REUSEPORT` each worker opens its own on the same
/// address and the kernel spreads new connections over them. `TCP_NODELAY` is inherited by accepted connections.
///
/// # Errors
/// Whatever `socket`, `bind` or `listen` reports: EADDRINUSE, EACCES (ports below 1024), EADDRNOTAVAIL.
pub fn listen(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = bind(address)?;
    net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Whether somebody listens on `address`. [`listen`] cannot tell: sockets of one user share an address by
/// `SO_REUSEPORT`, those of another process too.
///
/// # Errors
/// EADDRINUSE when somebody does, and whatever else `bind` reports.
pub fn probe_free(address: SocketAddr) -> io::Result<()> {
    let socket = open(address)?;
    net::bind(&socket, &address)?;
    Ok(())
}

fn bind(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = open(address)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    net::bind(&socket, &address)?;
    Ok(socket)
}

fn open(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    if address.is_ipv6() {
        // `[::]` means IPv6 alone; who wants both families lists both, as nginx does since 1.3.4.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    Ok(socket)
}

/// The address that `socket` is bound to, with the real port.
///
/// # Errors
/// ENOTSOCK and the like: a bug in the caller.
pub fn local_address(socket: impl AsFd) -> io::Result<SocketAddr> {
    let address = net::getsockname(socket)?;
    SocketAddr::try_from(address).map_err(|_| io::Error::other("not an internet socket"))
}

/// Accepts one connection if one is waiting.
///
/// # Errors
/// `WouldBlock` when none waits; EMFILE/ENFILE when descriptors ran out; ECONNABORTED when the peer left again.
pub fn accept(listener: impl AsFd) -> io::Result<(OwnedFd, SocketAddr)> {
    let (socket, peer) = net::acceptfrom_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
    let peer = peer.and_then(|any| SocketAddr::try_from(any).ok());
    let peer = peer.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 0)));
    Ok((socket, peer))
}

/// Opens a non-blocking socket and begins to connect it to `address`. Whether it is connected already: if not, it becomes
/// writable when it is, or cannot be, which [`connected`] tells.
///
/// # Errors
/// What can be told at once: ECONNREFUSED, ENETUNREACH, EADDRNOTAVAIL (no port left), EMFILE, ENFILE.
pub fn connect(address: SocketAddr) -> io::Result<(OwnedFd, bool)> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    match net::connect(&socket, &address) {
        Ok(()) => Ok((socket, true)),
        Err(Errno::INPROGRESS | Errno::INTR) => Ok((socket, false)),
        Err(error) => Err(error.into()),
    }
}

/// Opens a non-blocking datagram socket that sends to `address` and receives from there alone, at a port that the kernel
/// draws.
///
/// # Errors
/// ENETUNREACH, EINVAL for an address without its interface, EMFILE, ENFILE.
pub fn connect_datagram(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(family, SocketType::DGRAM, flags, Some(ipproto::UDP))?;
    net::connect(&socket, &address)?;
    Ok(socket)
}

/// As [`connect`], to a unix socket, which is never left half-way.
///
/// # Errors
/// ENOENT, ECONNREFUSED, EACCES; EAGAIN when its queue is full; EINVAL for a path that is too long.
pub fn connect_unix(path: &Path) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    net::connect(&socket, &net::SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

/// Connects, sends `request` and reads until the peer closes: for a command, which may block. Each step may take so long.
///
/// # Errors
/// What any of the steps says; an answer that is longer than the limit is cut.
pub fn exchange(address: SocketAddr, request: &[u8], within: Duration) -> io::Result<Vec<u8>> {
    let mut stream = std::net::TcpStream::connect_timeout(&address, within)?;
    stream.set_write_timeout(Some(within))?;
    stream.set_read_timeout(Some(within))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.take(ADMIN_ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
    Ok(answer)
}

/// Whether a socket that became writable is connected.
///
/// # Errors
/// ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH: it is not.
pub fn connected(socket: impl AsFd) -> io::Result<()> {
    Ok(sockopt::socket_error(socket)??)
}

/// Waits for a socket that is being connected, at most so long.
///
/// # Errors
/// As [`connected`]; ETIMEDOUT.
pub fn wait_connected(socket: impl AsFd, most: Duration) -> io::Result<()> {
    let most =
        Timespec { tv_sec: i64::try_from(most.as_secs()).unwrap_or(i64::MAX), tv_nsec: most.subsec_nanos().into() };
    let mut wanted = [PollFd::new(&socket, PollFlags::OUT)];
    match rustix::event::poll(&mut wanted, Some(&most))? {
        0 => Err(io::ErrorKind::TimedOut.into()),
        _ => connected(&socket),
    }
}

/// Sends what the socket takes at once, without blocking and without SIGPIPE.
///
/// # Errors
/// `WouldBlock` when the send buffer is full; EPIPE or ECONNRESET when the peer is gone.
pub fn send(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(net::send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?)
}

/// As [`send`], gathering several slices into one call.
///
/// # Errors
/// As [`send`].
pub fn send_vectored(socket: impl AsFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let mut control = net::SendAncillaryBuffer::default();
    Ok(net::sendmsg(socket, slices, &mut control, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)?)
}

/// As [`send`], for bytes that more follow at once: the kernel waits with a packet that is not full (`MSG_MORE`).
///
/// # Errors
/// As [`send`].
pub fn send_more(socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(net::send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT | SendFlags::MORE)?)
}

/// Sends at most `most` bytes of a file from `offset` on, straight from the page cache (sendfile(2)); zero at the file's
/// end. Waits for the disk where they are not cached: see [`super::file::is_cached`]. The socket is a non-blocking one.
///
/// # Errors
/// As [`send`]; `Unsupported` where the file system cannot do it.
pub fn send_file(socket: impl AsFd, file: impl AsFd, mut offset: u64, most: usize) -> io::Result<usize> {
    match rustix::fs::sendfile(socket, file, Some(&mut offset), most) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Err(io::ErrorKind::Unsupported.into()),
        result => Ok(result?),
    }
}

/// Receives into the spare capacity of `buffer` what is there, without blocking; zero means the peer ended its side.
///
/// # Errors
/// `WouldBlock` when nothing waits; ECONNRESET when the peer is gone.
pub fn receive(socket: impl AsFd, buffer: &mut Vec<u8>) -> io::Result<usize> {
    Ok(net::recv(socket, rustix::buffer::spare_capacity(buffer), RecvFlags::DONTWAIT).map(|(_, n)| n)?)
}

/// Ends the sending side: the peer reads to its end and then sees EOF.
pub fn shutdown_write(socket: impl AsFd) {
    // ENOTCONN means that the peer was faster: nothing is left to end.
    let _ = net::shutdown(socket, Shutdown::Write);
}

/// Ends both sides, so that an operation in flight on this socket completes at once.
pub fn shutdown_both(socket: impl AsFd) {
    let _ = net::shutdown(socket, Shutdown::Both);
}

/// Ends the connection with a reset: the peer cannot take what it got for the whole of it.
pub fn reset(socket: impl AsFd) {
    // Dissolving the association sends RST (tcp(7), connect to AF_UNSPEC). Already gone is as good.
    let _ = net::connect_unspec(socket);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_listeners_share_a_port_and_report_the_real_one() {
        let first = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = local_address(&first).unwrap();
        assert_ne!(address.port(), 0);
        let second = listen(address).unwrap();
        assert_eq!(local_address(&second).unwrap(), address);
    }

    #[test]
    fn an_address_that_somebody_listens_on_is_not_free() {
        let first = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = local_address(&first).unwrap();
        assert_eq!(probe_free(address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        probe_free(address).unwrap();
    }

    #[test]
    fn calls_on_an_idle_socket_would_block_and_never_wait() {
        let listener = listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        assert_eq!(accept(&listener).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let client = std::net::TcpStream::connect(local_address(&listener).unwrap()).unwrap();
        let (server, peer) = accept(&listener).unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        let mut buffer = Vec::with_capacity(16);
        assert_eq!(receive(&server, &mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(send_vectored(&server, &[IoSlice::new(b"a"), IoSlice::new(b"bc")]).unwrap(), 3);
    }
}
