//! What a socket has taken to send and its peer has not acknowledged.
#![allow(unsafe_code, reason = "SIOCOUTQ has no safe wrapper")]

use std::os::fd::{AsFd, AsRawFd};

/// Bytes in the send buffer: not sent, or sent and not acknowledged by the peer's system (`SIOCOUTQ`, tcp(7)). Of no
/// meaning for a socket that is not connected any more.
pub fn queued(socket: impl AsFd) -> u64 {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the request writes one int, for which `bytes` has room; the descriptor is borrowed, so it is open.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result == 0 { u64::try_from(bytes).unwrap_or(0) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket;
    use std::io::Read;
    use std::net::{SocketAddr, TcpStream};
    use std::time::Duration;

    /// What a socket takes at once may still be on its way: until this holds.
    fn wait_until(reached: impl Fn() -> bool) {
        for _ in 0..2000 {
            if reached() {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
        panic!("waited in vain");
    }

    #[test]
    fn what_the_peer_has_taken_is_queued_no_more() {
        let listener = socket::listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let mut client = TcpStream::connect(socket::local_address(&listener).unwrap()).unwrap();
        let (server, _) = socket::accept(&listener).unwrap();
        assert_eq!(queued(&server), 0);
        let mut sent = 0;
        while let Ok(count) = socket::send(&server, &[7; 65_536]) {
            sent += count as u64;
        }
        wait_until(|| queued(&server) > 0 && queued(&server) < sent);
        // The client's system took a part, which nobody reads; the rest waits until somebody does.
        let mut left = sent;
        let mut buffer = vec![0; 1 << 20];
        while left > 0 {
            left -= client.read(&mut buffer).unwrap() as u64;
        }
        wait_until(|| queued(&server) == 0);
    }
}
