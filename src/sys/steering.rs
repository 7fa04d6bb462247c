//! Steering of new connections: which of the sockets that share a port gets one.
#![allow(unsafe_code, reason = "SO_ATTACH_REUSEPORT_CBPF has no safe wrapper")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Attaches a classic BPF program to the reuseport group of `listener`: a connection goes to the socket with the index
/// `cpu mod sockets`, where `cpu` is the one that handles the packet (`SO_ATTACH_REUSEPORT_CBPF`, Linux 4.5). A socket's
/// index is the order in which the group's sockets began to listen.
///
/// # Errors
/// ENOPROTOOPT on a kernel without it, EINVAL when the socket is not in a reuseport group.
pub fn steer_by_cpu(listener: impl AsFd, sockets: u32) -> io::Result<()> {
    // SKF_AD_OFF + SKF_AD_CPU: the ancillary load that gives the current CPU (net/core/filter.c).
    const LOAD_CPU: u32 = (-0x1000_i32 + 36) as u32;
    let mut program = [
        libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: LOAD_CPU }, // ld A, [cpu]
        libc::sock_filter { code: 0x94, jt: 0, jf: 0, k: sockets.max(1) }, // mod A, sockets
        libc::sock_filter { code: 0x16, jt: 0, jf: 0, k: 0 },        // ret A
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: `filter` points to `program`, which lives past the call; the kernel copies both before it returns. The
    // length passed is that of `sock_fprog`.
    let result = unsafe {
        libc::setsockopt(
            listener.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const filter).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket;

    #[test]
    fn a_group_takes_the_program() {
        let first = socket::listen(std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let second = socket::listen(socket::local_address(&first).unwrap()).unwrap();
        steer_by_cpu(&first, 2).unwrap();
        drop(second);
    }
}
