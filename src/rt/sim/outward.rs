//! Servers outside of the world's cores, which a test drives: a core connects to them through the same network by which
//! clients connect to a core. In the books of a connection the core's end is the server's, whoever connected.

use std::cell::Cell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::client::Client;
use super::ends::Socket;
use super::network::{BACKLOG, End, Event, wake};
use super::world::{self, World};
use crate::rt::Remote;

/// The outer end of a connection that a core made: all that a [`Client`] can do.
pub type Peer = Client;

/// How a simulated server meets those who connect to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reception {
    /// Its kernel takes them as they come, whether or not somebody accepts them later.
    #[default]
    Prompt,
    /// As that, only so much later.
    Late(Duration),
    /// Nobody listens for now.
    Refused,
    /// Nothing answers, as behind a firewall that drops.
    Silent,
}

/// A server outside of the world's cores. Dropping it resets those that nobody has accepted.
#[derive(Debug)]
pub struct Acceptor {
    index: usize,
    reception: Rc<Cell<Reception>>,
}

/// What the network knows of an [`Acceptor`].
#[derive(Debug)]
pub(super) struct Outside {
    address: SocketAddr,
    reception: Rc<Cell<Reception>>,
    open: bool,
    queue: VecDeque<usize>,
    waiting: Option<Waker>,
}

/// Starts a server at `address`, for cores of the world to connect to.
pub fn serve(address: SocketAddr) -> Acceptor {
    world::with(|world| {
        let (index, reception) = (world.network.outside.len(), Rc::new(Cell::new(Reception::Prompt)));
        let outside =
            Outside { address, reception: reception.clone(), open: true, queue: VecDeque::new(), waiting: None };
        world.network.outside.push(outside);
        world.note(format_args!("outside {index}: {address}"));
        Acceptor { index, reception }
    })
}

impl Acceptor {
    /// The next connection.
    pub async fn accept(&self) -> Peer {
        let id = poll_fn(|cx| {
            world::with(|world| {
                let outside = &mut world.network.outside[self.index];
                match outside.queue.pop_front() {
                    Some(id) => Poll::Ready(id),
                    None => {
                        outside.waiting = Some(cx.waker().clone());
                        Poll::Pending
                    }
                }
            })
        })
        .await;
        super::note(format_args!("connection {id}: accepted by outside {}", self.index));
        Client::of(id)
    }

    /// How those are met that connect from now on.
    pub fn receive_as(&self, reception: Reception) {
        self.reception.set(reception);
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        world::try_with(|world| {
            let outside = &mut world.network.outside[self.index];
            outside.open = false;
            for id in std::mem::take(&mut outside.queue) {
                world.close(id, End::Client);
                world.reset_other(id, End::Client);
            }
        });
    }
}

/// Connects a core of this world to a server outside of it. A unix socket is no part of the world.
pub(in crate::rt) async fn connect_out(remote: &Remote) -> io::Result<Socket> {
    let address = match remote {
        Remote::Tcp(address) => *address,
        Remote::Unix(_) => {
            return Err(io::Error::new(ErrorKind::Unsupported, "a simulated world has no unix sockets to connect to"));
        }
    };
    // Whoever gives up waiting closes it by dropping this.
    let (id, socket) = world::with(|world| {
        let id = world.connect_out(address);
        (id, Socket::connected(id))
    });
    let connected = poll_fn(|cx| {
        world::with(|world| {
            let connection = world.network.connection(id);
            match connection.connected {
                Some(connected) => Poll::Ready(connected),
                None => {
                    connection.incoming(End::Server).reader = Some(cx.waker().clone());
                    Poll::Pending
                }
            }
        })
    });
    if connected.await { Ok(socket) } else { Err(ErrorKind::ConnectionRefused.into()) }
}

/// Connections that a core has made, or is about to, and has not closed.
pub fn outward_connections(core: usize) -> usize {
    world::with(|world| world.cores.get(core).map_or(0, |core| core.outward))
}

impl World {
    fn connect_out(&mut self, address: SocketAddr) -> usize {
        let core = self.current_core();
        let id = self.add_connection();
        let connection = self.network.connection(id);
        connection.is_outward = true;
        connection.hold(End::Server, true);
        connection.hold(End::Client, false);
        self.network.opened(id, core);
        self.cores[core].outward += 1;
        self.note(format_args!("connection {id}: core {core} connects to {address}"));
        let latency = self.latency(id);
        self.schedule(latency, Event::Reach(id, address));
        id
    }

    /// A core's attempt to connect reaches whoever is there, or a late one is let in.
    pub(super) fn reach(&mut self, id: usize, address: SocketAddr, is_late: bool) {
        if self.network.connection(id).closed.is_some() {
            return;
        }
        let found = self.network.outside.iter().position(|outside| outside.open && outside.address == address);
        let reception = found.map_or(Reception::Refused, |index| self.network.outside[index].reception.get());
        match (found, reception) {
            (Some(_), Reception::Late(after)) if !is_late => self.schedule(after, Event::LetIn(id, address)),
            // A full queue drops who knocks, as Linux does.
            (Some(index), Reception::Prompt | Reception::Late(_))
                if self.network.outside[index].queue.len() < BACKLOG =>
            {
                self.network.connection(id).hold(End::Client, true);
                let outside = &mut self.network.outside[index];
                outside.queue.push_back(id);
                wake(&mut outside.waiting);
                self.answer_connect(id, true);
            }
            (None, _) | (Some(_), Reception::Refused) => self.answer_connect(id, false),
            (Some(_), Reception::Prompt | Reception::Late(_) | Reception::Silent) => {
                self.note(format_args!("connection {id}: nothing answers"));
            }
        }
    }

    fn answer_connect(&mut self, id: usize, connected: bool) {
        let latency = self.latency(id);
        self.schedule(latency, Event::Answered(id, connected));
    }

    /// The core learns how its connecting ended.
    pub(super) fn answered(&mut self, id: usize, connected: bool) {
        self.note(format_args!("connection {id}: {}", if connected { "connected" } else { "refused" }));
        let connection = self.network.connection(id);
        connection.connected = Some(connected);
        wake(&mut connection.incoming(End::Server).reader);
    }

    /// Bytes that arrive at a core all at once, as one segment does; false while earlier ones are on their way.
    pub(super) fn send_at_once(&mut self, id: usize, bytes: &[u8]) -> io::Result<bool> {
        let connection = self.network.connection(id);
        if connection.reset[End::Client as usize] {
            return Err(ErrorKind::ConnectionReset.into());
        }
        let is_lost = connection.broken || !connection.is_held(End::Server);
        let pipe = connection.pipe(End::Client);
        if pipe.flying() > 0 || pipe.scheduled {
            return Ok(false);
        }
        if is_lost {
            return Err(ErrorKind::BrokenPipe.into());
        }
        pipe.arrived.extend(bytes);
        pipe.delivered += bytes.len() as u64;
        self.progress();
        self.note(format_args!("connection {id}: {} bytes of the client arrive at once", bytes.len()));
        self.fill(id);
        Ok(true)
    }
}

impl Client {
    /// Has all of `bytes` arrive at the server's kernel at the same moment, behind what was sent before; for bytes that
    /// must not be told apart by when they came.
    ///
    /// # Errors
    /// The connection was reset or closed.
    pub async fn send_at_once(&self, bytes: &[u8]) -> io::Result<()> {
        loop {
            if world::with(|world| world.send_at_once(self.id(), bytes))? {
                return Ok(());
            }
            crate::rt::sleep_until(crate::clock::now() + Duration::from_millis(1)).await;
        }
    }
}
