//! The listening sockets: all of them are opened before the first worker starts, so that an address in use is told at once
//! and nothing has to be taken back. Their originals stay with the master, and workers get duplicates: a queue outlives the
//! worker that serves it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::ServeError;
use crate::config::{Config, Steering};
use crate::sys;

/// The listening sockets of all workers: for each address one per worker, which share it by `SO_REUSEPORT`.
///
/// As long as this holds them, clients of a worker that is down stand in its queue and are not refused. Before workers
/// drain it must be gone: closing a socket for good is up to the last who holds it, and that has to be the worker, which
/// looks for the last time who stands in the queue. All descriptors, duplicates too, are close-on-exec.
#[derive(Debug, Default)]
pub struct Listening(Vec<Group>);

/// The sockets of one address.
#[derive(Debug)]
struct Group {
    address: SocketAddr,
    /// By worker.
    sockets: Vec<OwnedFd>,
}

impl Listening {
    /// Opens one socket per worker for each address of the config, `cores` being the workers' cores. Port 0 is picked by
    /// the system.
    ///
    /// # Errors
    /// [`ServeError::Listen`] for an address that is in use or cannot be bound, [`ServeError::Steer`]. Nothing is left open
    /// then.
    pub fn open(config: &Config, cores: &[usize]) -> Result<Self, ServeError> {
        let mut listening = Self::default();
        for wanted in &config.server.listen {
            let (address, sockets) = open_group(*wanted, config.cores.steering, cores)?;
            listening.add(address, sockets);
        }
        Ok(listening)
    }

    /// The addresses, with their real ports, in the order in which they were added.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.0.iter().map(|group| group.address).collect()
    }

    /// Duplicates of the sockets of worker `index`, with their addresses.
    ///
    /// # Errors
    /// EMFILE: the process has no descriptor left.
    pub fn for_worker(&self, index: usize) -> io::Result<Vec<(SocketAddr, OwnedFd)>> {
        let of_worker = self.0.iter().filter_map(|group| Some((group.address, group.sockets.get(index)?)));
        of_worker.map(|(address, socket)| Ok((address, socket.try_clone()?))).collect()
    }

    /// The sockets themselves: each with its address and its worker's index.
    pub fn descriptors(&self) -> impl Iterator<Item = (SocketAddr, usize, BorrowedFd<'_>)> {
        self.0.iter().flat_map(|group| {
            group.sockets.iter().enumerate().map(|(index, socket)| (group.address, index, socket.as_fd()))
        })
    }

    /// Takes over the sockets of one more address, in the order of the workers; of an address that it has, they replace
    /// those that it had.
    pub fn add(&mut self, address: SocketAddr, sockets: Vec<OwnedFd>) {
        match self.0.iter_mut().find(|group| group.address == address) {
            Some(group) => group.sockets = sockets,
            None => self.0.push(Group { address, sockets }),
        }
    }

    /// Gives up an address; false when it has no such. Its sockets close when their workers close the duplicates.
    pub fn remove(&mut self, address: SocketAddr) -> bool {
        let before = self.0.len();
        self.0.retain(|group| group.address != address);
        self.0.len() < before
    }
}

/// Opens the sockets of one address, one for each of the workers' `cores`; the address comes back with its real port.
///
/// # Errors
/// As [`Listening::open`].
pub fn open_group(
    wanted: SocketAddr,
    steering: Steering,
    cores: &[usize],
) -> Result<(SocketAddr, Vec<OwnedFd>), ServeError> {
    probe_free(wanted)?;
    // Port 0 is picked by the first socket; the others share what it got.
    let (mut address, mut sockets) = (wanted, Vec::with_capacity(cores.len()));
    for index in 0..cores.len() {
        let (socket, real) = open_one(address)?;
        address = real;
        if index == 0 && steering == Steering::Cpu {
            // The program is the group's: it counts for the sockets that join later too.
            sys::steering::steer_by_cpu(&socket, cores).map_err(ServeError::Steer)?;
        }
        sockets.push(socket);
    }
    Ok((address, sockets))
}

/// An address that another process serves already is an error, not a share of its traffic.
pub(super) fn probe_free(address: SocketAddr) -> Result<(), ServeError> {
    sys::socket::probe_free(address).map_err(|error| ServeError::Listen { address, error })
}

/// Opens one socket; the address comes back with its real port.
pub(super) fn open_one(address: SocketAddr) -> Result<(OwnedFd, SocketAddr), ServeError> {
    let listen = || {
        let socket = sys::socket::listen(address)?;
        let real = sys::socket::local_address(&socket)?;
        Ok((socket, real))
    };
    listen().map_err(|error| ServeError::Listen { address, error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;
    use std::os::fd::AsRawFd;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

    fn open(workers: usize) -> (Listening, SocketAddr) {
        let (address, sockets) = open_group(ANY, Steering::Hash, &vec![0; workers]).unwrap();
        let mut listening = Listening::default();
        listening.add(address, sockets);
        (listening, address)
    }

    #[test]
    fn a_client_in_the_queue_of_a_worker_that_is_gone_is_there_for_the_next() {
        let (listening, address) = open(1);
        let first = listening.for_worker(0).unwrap();
        drop(first);
        let client = std::net::TcpStream::connect(address).unwrap();
        let second = listening.for_worker(0).unwrap();
        let (_, peer) = sys::socket::accept(&second[0].1).unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
    }

    #[test]
    fn an_address_closes_with_the_last_who_holds_it() {
        let (mut listening, address) = open(2);
        let workers: Vec<_> = (0..2).map(|index| listening.for_worker(index).unwrap()).collect();
        assert!(listening.remove(address) && !listening.remove(address));
        assert!(listening.addresses().is_empty() && listening.for_worker(0).unwrap().is_empty());
        std::net::TcpStream::connect(address).unwrap();
        drop(workers);
        let refused = std::net::TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn every_worker_has_a_socket_of_each_address_and_none_is_inherited() {
        let (mut listening, first) = open(3);
        let (second, sockets) = open_group(ANY, Steering::Hash, &[0; 3]).unwrap();
        listening.add(second, sockets);
        assert_eq!(listening.addresses(), [first, second]);
        assert_eq!(listening.descriptors().count(), 6);
        for index in 0..3 {
            let own = listening.for_worker(index).unwrap();
            assert_eq!(own.iter().map(|(address, _)| *address).collect::<Vec<_>>(), [first, second]);
            for (address, socket) in &own {
                assert_eq!(sys::socket::local_address(socket).unwrap(), *address);
                let is_original =
                    |(_, _, fd): (SocketAddr, usize, BorrowedFd<'_>)| fd.as_raw_fd() == socket.as_raw_fd();
                assert!(!listening.descriptors().any(is_original), "a duplicate");
                assert!(rustix::io::fcntl_getfd(socket).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
            }
        }
        assert!(listening.for_worker(3).unwrap().is_empty());
    }
}
