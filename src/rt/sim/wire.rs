//! What a test can see of the network without touching it: a tap on the server's wire, and how each connection stands.

use super::network::{End, Fin};
use super::world::{self, World};
use crate::clock::Moment;

/// One thing that happened to a connection, as a tap at the server's host sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wire {
    /// A core accepted it.
    Accepted {
        /// Which core.
        core: usize,
    },
    /// The client's bytes reached the server's kernel.
    Arrived(Vec<u8>),
    /// The server's application took so many of them.
    Taken(usize),
    /// The server's kernel took bytes of the application.
    Sent(Vec<u8>),
    /// The server ended its sending side, by closing or before.
    Ended,
    /// The server's side knows of a reset, or has reset it.
    Broken,
    /// The server's descriptor closed.
    Closed,
}

/// An event of the tap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tapped {
    /// When.
    pub at: Moment,
    /// Which connection.
    pub id: usize,
    /// What.
    pub wire: Wire,
}

/// How a connection that is accepted and not closed stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sight {
    /// Which connection.
    pub id: usize,
    /// The core that accepted it.
    pub core: usize,
    /// Bytes of the client that are in the server's kernel and that the application has not taken.
    pub unread: usize,
    /// The application asked for bytes and waits for a receive buffer.
    pub is_parked: bool,
    /// A receive that was told to end has not ended yet: a matter of a millisecond.
    pub is_ending: bool,
    /// Since when sends have waited for the client to take something.
    pub stalled_since: Option<Moment>,
    /// The server ended its sending side.
    pub has_ended: bool,
    /// The end of the client's side has arrived, or a reset.
    pub is_client_gone: bool,
}

/// Starts the tap: from now on [`take_tapped`] gives what happened to connections of clients.
pub fn tap() {
    world::with(|world| world.tap = Some(Vec::new()));
}

/// What the tap saw since the last look.
pub fn take_tapped() -> Vec<Tapped> {
    world::with(|world| world.tap.as_mut().map(std::mem::take).unwrap_or_default())
}

/// Every connection that a core has open.
pub fn sights() -> Vec<Sight> {
    world::with(World::sights)
}

/// Connections that wait to be accepted by a listening socket that is open, and since when the first of them waits.
pub fn queued() -> Vec<(usize, Moment)> {
    world::with(|world| world.network.queued())
}

impl World {
    /// Keeps an event for the test, if it listens.
    pub(super) fn tapped(&mut self, id: usize, wire: impl FnOnce() -> Wire) {
        let at = self.now;
        if self.network.connection(id).is_outward {
            return;
        }
        if let Some(tap) = &mut self.tap {
            tap.push(Tapped { at, id, wire: wire() });
        }
    }

    fn sights(&mut self) -> Vec<Sight> {
        let parked: Vec<usize> = self.parked_connections().collect();
        let clients = self.network.open_mut().filter(|(_, _, connection)| !connection.is_outward);
        let open: Vec<(usize, usize)> = clients.map(|(id, core, _)| (id, core)).collect();
        open.into_iter()
            .map(|(id, core)| {
                let connection = self.network.connection(id);
                let is_reset = connection.reset[End::Server as usize];
                let (unseen, is_ending) = (connection.receive.unseen_bytes(), connection.receive.is_ending());
                let incoming = connection.incoming(End::Server);
                let (arrived, fin) = (incoming.arrived.len(), incoming.fin);
                let outgoing = connection.pipe(End::Server);
                Sight {
                    id,
                    core,
                    stalled_since: outgoing.stalled_since,
                    has_ended: outgoing.fin != Fin::Open,
                    unread: arrived + unseen,
                    is_ending,
                    is_parked: parked.contains(&id),
                    is_client_gone: is_reset || fin == Fin::Arrived,
                }
            })
            .collect()
    }
}
