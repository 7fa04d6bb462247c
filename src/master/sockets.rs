//! The listening sockets: all of them are opened before the first worker starts, so that an address in use is told at once
//! and nothing has to be taken back. Their originals stay with the master, and workers get duplicates: a queue outlives the
//! worker that serves it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::ServeError;
use crate::config::{Config, Steering};
use crate::sys;
use crate::sys::handover::{self, Inheritance, Purpose};

/// The listening sockets of all workers: for each address one per worker, which share it by `SO_REUSEPORT`.
///
/// As long as this holds them, clients of a worker that is down stand in its queue and are not refused. Before workers
/// drain it must be gone: closing a socket for good is up to the last who holds it, and that has to be the worker, which
/// looks for the last time who stands in the queue. All descriptors, duplicates too, are close-on-exec.
#[derive(Debug, Default)]
pub struct Listening {
    workers: usize,
    groups: Vec<Group>,
}

/// A socket with its address.
pub(super) type SocketOf = (SocketAddr, OwnedFd);

/// The sockets of one address.
#[derive(Debug)]
pub struct Group {
    /// As the config has it.
    configured: SocketAddr,
    /// With its real port.
    address: SocketAddr,
    /// By worker; see [`Group::for_worker`] where they are more or fewer.
    sockets: Vec<OwnedFd>,
    origin: Origin,
}

/// Where the sockets of an address come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// They were opened, for this number of workers.
    Opened,
    /// They were handed over, and may be more or fewer than the workers.
    Inherited,
}

impl Listening {
    /// Opens one socket per worker for each address of the config, `cores` being the workers' cores, but for those that were
    /// handed over. Port 0 is picked by the system.
    ///
    /// # Errors
    /// [`ServeError::Listen`] for an address that is in use or cannot be bound, [`ServeError::Steer`]. Nothing is left open
    /// then.
    pub fn open(config: &Config, cores: &[usize], inheritance: &mut Inheritance) -> Result<Self, ServeError> {
        let mut listening = Self { workers: cores.len(), groups: Vec::new() };
        for wanted in &config.server.listen {
            let inherited = inheritance.take_of(Purpose::Server, *wanted);
            listening.groups.push(match inherited.first() {
                Some(first) => {
                    let address = sys::socket::local_address(first).map_err(ServeError::Duplicate)?;
                    Group { configured: *wanted, address, sockets: inherited, origin: Origin::Inherited }
                }
                None => open_group(*wanted, config.cores.steering, cores)?,
            });
        }
        Ok(listening)
    }

    /// Opens what is missing of the addresses that were handed over, where further sockets can share them; returns what
    /// each worker listens on anew, instead of the socket that it shared with another.
    ///
    /// Not before this process serves: clients stand in the queue of such a socket from the moment when it is opened, and a
    /// successor that then failed would lose them.
    ///
    /// # Errors
    /// As [`Listening::open`].
    pub fn complete(&mut self, steering: Steering, cores: &[usize]) -> Result<Vec<Vec<SocketOf>>, ServeError> {
        let mut opened: Vec<_> = (0..self.workers).map(|_| Vec::new()).collect();
        for group in self.groups.iter_mut().filter(|group| group.origin == Origin::Inherited) {
            group.origin = Origin::Opened;
            let Some(first) = group.sockets.first().filter(|socket| handover::shares_its_port(socket)) else {
                continue;
            };
            match steering {
                Steering::Cpu => sys::steering::steer_by_cpu(first, cores),
                Steering::Hash => sys::steering::spread_by_hash(first),
            }
            .map_err(ServeError::Steer)?;
            for own in opened.iter_mut().skip(group.sockets.len()) {
                let (socket, address) = open_one(group.address)?;
                own.push((address, socket.try_clone().map_err(ServeError::Duplicate)?));
                group.sockets.push(socket);
            }
        }
        Ok(opened)
    }

    /// The addresses, with their real ports, in the order of the config.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.groups.iter().map(|group| group.address).collect()
    }

    /// Whether the config's address is listened on.
    pub fn has(&self, configured: SocketAddr) -> bool {
        self.groups.iter().any(|group| group.configured == configured)
    }

    /// Duplicates of the sockets of worker `index`, with their addresses.
    ///
    /// # Errors
    /// EMFILE: the process has no descriptor left.
    pub fn for_worker(&self, index: usize) -> io::Result<Vec<SocketOf>> {
        let mut duplicates = Vec::new();
        for group in &self.groups {
            duplicates.extend(group.for_worker(index, self.workers)?);
        }
        Ok(duplicates)
    }

    /// The sockets themselves: each with its address as the config has it, by worker.
    pub fn descriptors(&self) -> impl Iterator<Item = (SocketAddr, BorrowedFd<'_>)> {
        self.groups.iter().flat_map(|group| group.sockets.iter().map(|socket| (group.configured, socket.as_fd())))
    }

    /// Takes over the sockets of one more address.
    pub fn add(&mut self, group: Group) {
        self.groups.push(group);
    }

    /// Keeps the addresses that the config has, in its order; returns the others, with their real ports. Their sockets close
    /// when their workers close the duplicates.
    pub fn retain(&mut self, wanted: &[SocketAddr]) -> Vec<SocketAddr> {
        let place = |group: &Group| wanted.iter().position(|address| *address == group.configured);
        let gone = self.groups.extract_if(.., |group| place(group).is_none()).map(|group| group.address).collect();
        self.groups.sort_by_key(place);
        gone
    }
}

impl Group {
    /// Duplicates for worker `index` of `workers`. Where there are more sockets than workers, as there were more workers
    /// before an upgrade, some have several; where there are fewer, as systemd opens one, some share.
    ///
    /// # Errors
    /// EMFILE: the process has no descriptor left.
    pub fn for_worker(&self, index: usize, workers: usize) -> io::Result<Vec<SocketOf>> {
        let own = share_out(self.sockets.len(), index, workers);
        own.map(|at| Ok((self.address, self.sockets[at].try_clone()?))).collect()
    }
}

/// Which of an address's sockets worker `index` of `workers` listens on: somebody on each, and everybody on one.
pub fn share_out(sockets: usize, index: usize, workers: usize) -> impl Iterator<Item = usize> {
    #[cfg(feature = "sim")]
    let sockets =
        if crate::rt::sim::planted(crate::rt::sim::Bug::SocketLeftOut) { sockets.min(workers) } else { sockets };
    (0..sockets).filter(move |at| if sockets >= workers { at % workers == index } else { *at == index % sockets })
}

/// Opens the sockets of one address, one for each of the workers' `cores`.
///
/// # Errors
/// As [`Listening::open`].
pub fn open_group(wanted: SocketAddr, steering: Steering, cores: &[usize]) -> Result<Group, ServeError> {
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
    Ok(Group { configured: wanted, address, sockets, origin: Origin::Opened })
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
        let group = open_group(ANY, Steering::Hash, &vec![0; workers]).unwrap();
        let address = group.address;
        (Listening { workers, groups: vec![group] }, address)
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
        assert_eq!((listening.retain(&[]), listening.retain(&[])), (vec![address], Vec::new()));
        assert!(listening.addresses().is_empty() && listening.for_worker(0).unwrap().is_empty());
        std::net::TcpStream::connect(address).unwrap();
        drop(workers);
        let refused = std::net::TcpStream::connect(address).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn every_worker_has_a_socket_of_each_address_and_none_is_inherited() {
        let (mut listening, first) = open(3);
        let group = open_group(ANY, Steering::Hash, &[0; 3]).unwrap();
        let second = group.address;
        listening.add(group);
        assert_eq!(listening.addresses(), [first, second]);
        assert_eq!(listening.descriptors().count(), 6);
        for index in 0..3 {
            let own = listening.for_worker(index).unwrap();
            assert_eq!(own.iter().map(|(address, _)| *address).collect::<Vec<_>>(), [first, second]);
            for (address, socket) in &own {
                assert_eq!(sys::socket::local_address(socket).unwrap(), *address);
                let is_original = |(_, fd): (SocketAddr, BorrowedFd<'_>)| fd.as_raw_fd() == socket.as_raw_fd();
                assert!(!listening.descriptors().any(is_original), "a duplicate");
                assert!(rustix::io::fcntl_getfd(socket).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
            }
        }
    }

    #[test]
    fn what_was_handed_over_is_completed_for_more_workers_and_kept_for_fewer() {
        for (sockets, workers) in [(1, 3), (2, 2), (3, 1)] {
            let (mut listening, address) = open(sockets);
            listening.workers = workers;
            listening.groups[0].origin = Origin::Inherited;
            for steering in [Steering::Hash, Steering::Cpu] {
                let opened = listening.complete(steering, &vec![0; workers]).unwrap();
                let counts: Vec<_> = opened.iter().map(Vec::len).collect();
                let is_new = |index| usize::from(index >= sockets && steering == Steering::Hash);
                assert_eq!(counts, (0..workers).map(is_new).collect::<Vec<_>>(), "once");
                assert!(opened.iter().flatten().all(|(own, _)| *own == address));
            }
            assert_eq!(listening.descriptors().count(), sockets.max(workers));
        }
    }

    #[test]
    fn a_socket_that_shares_its_port_with_nobody_is_shared_by_the_workers() {
        let socket = std::net::TcpListener::from(open_one(ANY).unwrap().0);
        rustix::net::sockopt::set_socket_reuseport(&socket, false).unwrap();
        let address = socket.local_addr().unwrap();
        let group = Group { configured: address, address, sockets: vec![socket.into()], origin: Origin::Inherited };
        let mut listening = Listening { workers: 2, groups: vec![group] };
        let opened = listening.complete(Steering::Hash, &[0; 2]).unwrap();
        assert!(opened.iter().all(Vec::is_empty));
        assert_eq!(listening.for_worker(1).unwrap().len(), 1);
    }

    #[test]
    fn every_socket_has_a_worker_and_every_worker_a_socket_however_many_there_are() {
        for (sockets, workers, expected) in
            [(5, 2, vec![3, 2]), (2, 5, vec![1; 5]), (3, 3, vec![1; 3]), (1, 2, vec![1; 2])]
        {
            let (mut listening, _) = open(sockets);
            listening.workers = workers;
            let counts: Vec<_> = (0..workers).map(|index| listening.for_worker(index).unwrap().len()).collect();
            assert_eq!(counts, expected, "{sockets} sockets");
        }
    }
}
