//! Steering of new connections: which of the sockets that share a port gets one.
#![allow(unsafe_code, reason = "SO_ATTACH_REUSEPORT_CBPF has no safe wrapper")]

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Attaches a classic BPF program to the reuseport group of `listener` (`SO_ATTACH_REUSEPORT_CBPF`, Linux 4.5): a
/// connection whose packets core `cores[i]` handles goes to the socket with index `i`; one of another core to the index
/// `core mod cores.len()`. A socket's index is the order in which the group's sockets began to listen.
///
/// # Errors
/// ENOPROTOOPT on a kernel without it, EINVAL when the socket is not in a reuseport group or there are more than some
/// two thousand cores.
pub fn steer_by_cpu(listener: impl AsFd, cores: &[usize]) -> io::Result<()> {
    let mut program = program(cores);
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

/// Takes away what [`steer_by_cpu`] attached (`SO_DETACH_REUSEPORT_BPF`, Linux 5.3): the kernel chooses by a hash again.
/// Nothing attached is no error.
///
/// # Errors
/// ENOPROTOOPT on a kernel without it.
pub fn spread_by_hash(listener: impl AsFd) -> io::Result<()> {
    let value: libc::c_int = 0;
    // SAFETY: the option's value is an int that the kernel does not look at; it lives past the call.
    let result = unsafe {
        libc::setsockopt(
            listener.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_DETACH_REUSEPORT_BPF,
            (&raw const value).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    match io::Error::last_os_error() {
        error if result == 0 || error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        error => Err(error),
    }
}

fn program(cores: &[usize]) -> Vec<libc::sock_filter> {
    // SKF_AD_OFF + SKF_AD_CPU: the ancillary load that gives the current CPU (net/core/filter.c).
    const LOAD_CPU: u32 = (-0x1000_i32 + 36) as u32;
    let step = |code, jf, k| libc::sock_filter { code, jt: 0, jf, k };
    let mut program = vec![step(0x20, 0, LOAD_CPU)]; // ld A, [cpu]
    for (index, core) in cores.iter().enumerate() {
        program.push(step(0x15, 1, *core as u32)); // jeq A, core, next, over
        program.push(step(0x06, 0, index as u32)); // ret index
    }
    program.push(step(0x94, 0, cores.len().max(1) as u32)); // mod A, sockets
    program.push(step(0x16, 0, 0)); // ret A
    program
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::socket;

    #[test]
    fn a_connection_goes_to_the_socket_of_the_core_that_makes_it() {
        let first = socket::listen(std::net::SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = socket::local_address(&first).unwrap();
        // No host has this core: only the second socket's counts here.
        let core = crate::sys::cpu::allowed()[0];
        steer_by_cpu(&first, &[100_000, core]).unwrap();
        let second = socket::listen(address).unwrap();
        // On loopback the handshake runs on the client's core.
        let clients = std::thread::spawn(move || {
            assert!(crate::sys::cpu::pin(core));
            (0..20).map(|_| std::net::TcpStream::connect(address).unwrap()).collect::<Vec<_>>()
        });
        let clients = clients.join().unwrap();
        assert_eq!(socket::accept(&first).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        for _ in &clients {
            socket::accept(&second).unwrap();
        }
        for _ in 0..2 {
            spread_by_hash(&first).unwrap();
        }
        let _clients: Vec<_> = (0..64).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
        socket::accept(&first).expect("by hash, both get some");
        socket::accept(&second).expect("by hash, both get some");
    }
}
