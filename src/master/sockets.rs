//! Opening the listening sockets: all of them before the first worker starts, so that an address in use is told at once
//! and nothing has to be taken back.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use super::ServeError;
use crate::config::{Config, Steering};
use crate::sys;

/// The sockets of all workers.
pub(super) struct Groups {
    /// For each worker one socket per address.
    pub(super) per_worker: Vec<Vec<(SocketAddr, OwnedFd)>>,
    /// The addresses: as the config says it, and with their real ports.
    pub(super) addresses: Vec<(SocketAddr, SocketAddr)>,
}

/// Opens one socket per worker and address, `cores` being the workers' cores; they share the address by `SO_REUSEPORT`.
pub(super) fn open(config: &Config, cores: &[usize]) -> Result<Groups, ServeError> {
    let mut groups = Groups { per_worker: cores.iter().map(|_| Vec::new()).collect(), addresses: Vec::new() };
    for wanted in &config.server.listen {
        let (address, sockets) = open_address(*wanted, cores, config.cores.steering)?;
        for (own, socket) in groups.per_worker.iter_mut().zip(sockets) {
            own.push((address, socket));
        }
        groups.addresses.push((*wanted, address));
    }
    Ok(groups)
}

/// Opens one address for all workers; it comes back with its real port.
pub(super) fn open_address(
    wanted: SocketAddr,
    cores: &[usize],
    steering: Steering,
) -> Result<(SocketAddr, Vec<OwnedFd>), ServeError> {
    probe_free(wanted)?;
    // Port 0 is picked by the first socket; the others share what it got.
    let mut address = wanted;
    let mut sockets = Vec::new();
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
