//! Connections as the kernels at both ends would have them: bytes under way, bytes that arrived, ends and resets.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::task::Waker;
use std::time::Duration;

use super::bug::Bug;
use super::ends::{Receive, Socket};
use super::outward::Outside;
use super::random::Random;
use super::wire::Wire;
use super::world::World;
use crate::clock::Moment;

/// Connections that a listening socket keeps until they are accepted.
pub(super) const BACKLOG: usize = 64;

/// One of a connection's two ends: the core's, and the one that a test drives. Where a core has connected to somebody
/// outside, its end is the server's all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum End {
    Server,
    Client,
}

impl End {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Server => Self::Client,
            Self::Client => Self::Server,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// A client's connection reaches the listening sockets.
    Connect(usize, SocketAddr),
    /// A core's connection reaches a server outside.
    Reach(usize, SocketAddr),
    /// A server outside takes its time no longer.
    LetIn(usize, SocketAddr),
    /// A core learns how its connecting ended.
    Answered(usize, bool),
    /// Bytes that this end sent arrive.
    Deliver(usize, End),
    /// This end learns that the other has reset the connection.
    Reset(usize, End),
    /// This end's socket takes bytes again.
    Writable(usize, End),
    /// A receive that was told to end has ended; the number tells it from later ones.
    ReceiveEnds(usize, u32),
    /// A core's withheld receive buffers come back.
    Shortage(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fin {
    Open,
    Sent,
    Arrived,
}

/// One direction of a connection.
#[derive(Debug)]
pub(super) struct Pipe {
    pub(super) flying: VecDeque<u8>,
    pub(super) arrived: VecDeque<u8>,
    flying_max: usize,
    arrived_max: usize,
    pub(super) fin: Fin,
    /// An event that moves bytes is under way.
    pub(super) scheduled: bool,
    /// Since when the sender has waited for room.
    pub(super) stalled_since: Option<Moment>,
    /// Bytes that arrived in all.
    pub(super) delivered: u64,
    pub(super) writer: Option<Waker>,
    pub(super) reader: Option<Waker>,
}

impl Pipe {
    fn new(random: &mut Random, most: usize) -> Self {
        // A tenth of the pipes are tiny: every send is short, every wait happens.
        let mut size = |least: u64| {
            let most = if random.chance(100) { 64.max(least) } else { most as u64 };
            random.between(least, most.max(least)) as usize
        };
        Self {
            // An interim response must fit at once, as it does in any real socket.
            flying_max: size(32),
            arrived_max: size(16),
            flying: VecDeque::new(),
            arrived: VecDeque::new(),
            fin: Fin::Open,
            scheduled: false,
            stalled_since: None,
            delivered: 0,
            writer: None,
            reader: None,
        }
    }

    /// Bytes that were sent and have not arrived.
    pub(super) fn flying(&self) -> usize {
        self.flying.len()
    }

    fn is_moving(&self) -> bool {
        (!self.flying.is_empty() && self.arrived.len() < self.arrived_max)
            || (self.flying.is_empty() && self.fin == Fin::Sent)
    }
}

/// How bytes that fly together are cut when they arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Whole,
    Anyhow,
    ByteByByte,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) peer: SocketAddr,
    /// A core made it, to somebody outside.
    pub(super) is_outward: bool,
    /// What the server sends, and what the client sends.
    pipes: [Pipe; 2],
    /// Whether an end's descriptor is open.
    held: [bool; 2],
    /// Whether an end knows of a reset.
    pub(super) reset: [bool; 2],
    /// The client is gone without a word: its kernel neither reads nor answers.
    pub(super) vanished: bool,
    /// The network got in its way: its client cannot expect to be served as if it had not.
    pub(super) disturbed: bool,
    /// The network has reset it, and nothing passes any more, whether or not its ends know.
    pub(super) broken: bool,
    /// A send of the server has failed.
    failed: bool,
    /// Receive buffers that its core has taken and not given back.
    pub(super) leases: usize,
    latency_nanos: (u64, u64),
    manner: Manner,
    /// The core that accepted or made it.
    pub(super) core: Option<usize>,
    pub(super) accepted: Option<Moment>,
    /// When the server's descriptor closed.
    pub(super) closed: Option<Moment>,
    /// Whether connecting has ended, and how.
    pub(super) connected: Option<bool>,
    /// The server's receives.
    pub(super) receive: Receive,
}

impl Connection {
    pub(super) fn pipe(&mut self, from: End) -> &mut Pipe {
        &mut self.pipes[from as usize]
    }

    /// What arrives at this end.
    pub(super) fn incoming(&mut self, end: End) -> &mut Pipe {
        self.pipe(end.other())
    }

    pub(super) fn hold(&mut self, end: End, is_held: bool) {
        self.held[end as usize] = is_held;
    }

    pub(super) fn is_held(&self, end: End) -> bool {
        self.held[end as usize]
    }
}

#[derive(Debug)]
struct Listening {
    address: SocketAddr,
    /// Descriptors of it; it closes with the last.
    holders: usize,
    queue: VecDeque<usize>,
    /// Accept loops: one, or one of each process that has the socket.
    waiting: Vec<Waker>,
    /// Since when somebody has waited, at most, without accepting having failed.
    since: Moment,
}

#[derive(Debug, Default)]
pub(super) struct Network {
    connections: Vec<Connection>,
    /// Those that were accepted or made by a core and are not closed, in order: what every step looks at, so that a run's
    /// many closed ones cost nothing.
    open: Vec<usize>,
    listeners: Vec<Listening>,
    pub(super) outside: Vec<Outside>,
    events: BinaryHeap<Reverse<(Moment, u64, Event)>>,
    scheduled: u64,
}

impl Network {
    pub(super) fn next_at(&self) -> Option<Moment> {
        self.events.peek().map(|Reverse((at, _, _))| *at)
    }

    pub(super) fn connection(&mut self, id: usize) -> &mut Connection {
        &mut self.connections[id]
    }

    /// Connections that were accepted or made by a core and are not closed, with their cores.
    pub(super) fn open_mut(&mut self) -> impl Iterator<Item = (usize, usize, &mut Connection)> {
        let (mut rest, mut first) = (self.connections.as_mut_slice(), 0);
        self.open.iter().filter_map(move |&id| {
            let (connection, behind) = std::mem::take(&mut rest).get_mut(id - first..)?.split_first_mut()?;
            (rest, first) = (behind, id + 1);
            Some((id, connection.core?, connection))
        })
    }

    /// A core accepted it, or is about to connect it.
    pub(super) fn opened(&mut self, id: usize, core: usize) {
        self.connections[id].core = Some(core);
        if let Err(at) = self.open.binary_search(&id) {
            self.open.insert(at, id);
        }
    }

    /// The core closed it.
    pub(super) fn closed(&mut self, id: usize, now: Moment) {
        self.connections[id].closed = Some(now);
        if let Ok(at) = self.open.binary_search(&id) {
            self.open.remove(at);
        }
    }

    /// Their numbers.
    pub(super) fn open(&mut self) -> Vec<(usize, usize)> {
        self.open_mut().map(|(id, core, _)| (id, core)).collect()
    }

    /// Open listening sockets in whose queue somebody waits, and since when.
    pub(super) fn queued(&self) -> Vec<(usize, Moment)> {
        let waiting = self.listeners.iter().enumerate().filter(|(_, listening)| !listening.queue.is_empty());
        waiting.map(|(index, listening)| (index, listening.since)).collect()
    }

    /// Accepting failed: whoever waits does so from now on.
    pub(super) fn rested(&mut self, listener: usize, now: Moment) {
        self.listeners[listener].since = now;
    }
}

impl World {
    pub(super) fn schedule(&mut self, after: Duration, event: Event) {
        self.network.scheduled += 1;
        self.network.events.push(Reverse((self.now + after, self.network.scheduled, event)));
    }

    pub(super) fn latency(&mut self, id: usize) -> Duration {
        let (low, high) = self.network.connections[id].latency_nanos;
        Duration::from_nanos(self.random.between(low, high))
    }

    pub(super) fn apply_event(&mut self) {
        let Some(Reverse((_, _, event))) = self.network.events.pop() else { return };
        match event {
            Event::Connect(id, address) => self.arrive(id, address),
            Event::Reach(id, address) => self.reach(id, address, false),
            Event::LetIn(id, address) => self.reach(id, address, true),
            Event::Answered(id, connected) => self.answered(id, connected),
            Event::Deliver(id, from) => self.deliver(id, from),
            Event::Reset(id, end) => self.learn_of_reset(id, end),
            Event::Writable(id, end) => wake(&mut self.network.connections[id].pipe(end).writer),
            Event::ReceiveEnds(id, number) => self.end_receive(id, number),
            Event::Shortage(core) => self.end_shortage(core),
        }
    }

    pub(super) fn connect(&mut self, address: SocketAddr) -> usize {
        let id = self.add_connection();
        let latency = self.latency(id);
        self.schedule(latency, Event::Connect(id, address));
        id
    }

    /// A new connection, on its way to nobody yet.
    pub(super) fn add_connection(&mut self) -> usize {
        let id = self.network.connections.len();
        let most = self.options.pipe_bytes_max;
        let slowest = self.random.between(10_000, self.options.latency_max_ms.max(1) * 1_000_000);
        let manner = *self.random.pick(&[Manner::Whole, Manner::Anyhow, Manner::Anyhow, Manner::ByteByByte]);
        let connection = Connection {
            peer: SocketAddr::from(([10, 0, (id >> 8) as u8, id as u8], 40_000)),
            is_outward: false,
            pipes: [Pipe::new(&mut self.random, most), Pipe::new(&mut self.random, most)],
            held: [false, true],
            reset: [false; 2],
            vanished: false,
            disturbed: false,
            broken: false,
            failed: false,
            leases: 0,
            latency_nanos: (slowest / 10, slowest),
            manner,
            core: None,
            accepted: None,
            closed: None,
            connected: None,
            receive: Receive::default(),
        };
        self.note(format_args!(
            "connection {id}: connects; latency up to {} us, {manner:?}, pipes {}+{} and {}+{} bytes",
            slowest / 1000,
            connection.pipes[0].flying_max,
            connection.pipes[0].arrived_max,
            connection.pipes[1].flying_max,
            connection.pipes[1].arrived_max,
        ));
        self.network.connections.push(connection);
        id
    }

    fn arrive(&mut self, id: usize, address: SocketAddr) {
        let listeners = self.network.listeners.iter().enumerate();
        let takes = |listening: &Listening| {
            listening.holders > 0 && listening.address == address && listening.queue.len() < BACKLOG
        };
        let able: Vec<usize> = listeners.filter(|(_, listening)| takes(listening)).map(|(index, _)| index).collect();
        let connected = !able.is_empty();
        if connected {
            let index = *self.random.pick(&able);
            let listening = &mut self.network.listeners[index];
            if listening.queue.is_empty() {
                listening.since = self.now;
            }
            listening.queue.push_back(id);
            listening.waiting.drain(..).for_each(Waker::wake);
            self.network.connections[id].held[End::Server as usize] = true;
        }
        self.note(format_args!("connection {id}: {}", if connected { "connected" } else { "refused" }));
        let connection = &mut self.network.connections[id];
        connection.connected = Some(connected);
        wake(&mut connection.incoming(End::Client).reader);
    }

    pub(super) fn listen(&mut self, address: SocketAddr) -> Socket {
        let index = self.network.listeners.len();
        self.note(format_args!("listener {index}: {address}"));
        self.network.listeners.push(Listening {
            address,
            holders: 1,
            queue: VecDeque::new(),
            waiting: Vec::new(),
            since: self.now,
        });
        Socket::listening(index)
    }

    pub(super) fn accept(&mut self, listener: usize, waker: &Waker) -> Option<io::Result<(Socket, SocketAddr)>> {
        if self.network.listeners[listener].queue.is_empty() {
            let waiting = &mut self.network.listeners[listener].waiting;
            if !waiting.iter().any(|other| other.will_wake(waker)) {
                waiting.push(waker.clone());
            }
            return None;
        }
        if let Some(error) = self.accept_error(listener) {
            return Some(Err(error));
        }
        let id = self.network.listeners[listener].queue.pop_front()?;
        if self.random.chance(self.options.faults.aborted_accepts) {
            self.break_connection(id);
            self.network.connections[id].held[End::Server as usize] = false;
            return Some(Err(ErrorKind::ConnectionAborted.into()));
        }
        let (core, now) = (self.current_core(), self.now);
        self.network.listeners[listener].since = now;
        self.cores[core].open += 1;
        self.network.opened(id, core);
        let connection = &mut self.network.connections[id];
        connection.accepted = Some(now);
        let peer = connection.peer;
        self.progress();
        self.note(format_args!("connection {id}: accepted by core {core}"));
        self.tapped(id, || Wire::Accepted { core });
        Some(Ok((Socket::connected(id), peer)))
    }

    /// One more descriptor of a listening socket.
    pub(super) fn hold_listener(&mut self, index: usize) -> Socket {
        self.network.listeners[index].holders += 1;
        Socket::listening(index)
    }

    pub(super) fn close_listener(&mut self, index: usize) {
        let is_lost = self.options.planted == Some(Bug::QueueLost);
        let holders = &mut self.network.listeners[index].holders;
        *holders = if is_lost { 0 } else { holders.saturating_sub(1) };
        if *holders > 0 {
            return;
        }
        self.note(format_args!("listener {index}: closed"));
        let listening = &mut self.network.listeners[index];
        for id in std::mem::take(&mut listening.queue) {
            self.network.connections[id].held[End::Server as usize] = false;
            self.reset_other(id, End::Server);
        }
    }

    /// Takes bytes to be sent, at least one; `WouldBlock` when there is no room for any.
    pub(super) fn send(&mut self, id: usize, end: End, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if end == End::Client {
            return self.put(id, end, slices);
        }
        if self.network.connections[id].failed {
            self.fail(format!("connection {id}: the server sends behind a send that failed"));
        }
        let sent = self.send_error(id).map_or_else(|| self.put(id, end, slices), Err);
        let now = self.now;
        let connection = &mut self.network.connections[id];
        let stalled = &mut connection.pipe(end).stalled_since;
        match &sent {
            Err(error) if error.kind() == ErrorKind::WouldBlock => _ = stalled.get_or_insert(now),
            Ok(_) => *stalled = None,
            Err(_) => (*stalled, connection.failed) = (None, true),
        }
        sent
    }

    fn put(&mut self, id: usize, end: End, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let faults = self.options.faults;
        let connection = &mut self.network.connections[id];
        if connection.reset[end as usize] {
            return Err(ErrorKind::ConnectionReset.into());
        }
        let pipe = &mut connection.pipes[end as usize];
        if pipe.fin != Fin::Open {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut room = (pipe.flying_max - pipe.flying.len()).min(wanted);
        if wanted > 0 && room == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        // Interim responses are left whole: every real socket has room for their few bytes.
        if wanted > 32 && end == End::Server {
            if self.random.chance(faults.refused_sends) {
                let after = Duration::from_nanos(self.random.below(2_000_000));
                self.schedule(after, Event::Writable(id, end));
                return Err(ErrorKind::WouldBlock.into());
            }
            if self.random.chance(faults.short_sends) {
                room = self.random.between(1, room as u64) as usize;
            }
        }
        let mut taken: Vec<u8> = Vec::with_capacity(room);
        for slice in slices {
            taken.extend_from_slice(&slice[..slice.len().min(room - taken.len())]);
        }
        if !self.network.connections[id].broken {
            self.network.connections[id].pipe(end).flying.extend(&taken);
        }
        if end == End::Server {
            self.tapped(id, || Wire::Sent(taken));
        }
        self.progress();
        self.note(format_args!("connection {id}: {} sends {room} of {wanted} bytes", end.name()));
        self.move_on(id, end);
        Ok(room)
    }

    /// Sees to it that what can move from this end will.
    pub(super) fn move_on(&mut self, id: usize, from: End) {
        let latency = self.latency(id);
        self.move_after(id, from, latency);
    }

    fn move_after(&mut self, id: usize, from: End, latency: Duration) {
        let connection = &mut self.network.connections[id];
        let silent = connection.vanished || connection.broken;
        let pipe = connection.pipe(from);
        if silent || pipe.scheduled || !pipe.is_moving() {
            return;
        }
        pipe.scheduled = true;
        self.schedule(latency, Event::Deliver(id, from));
    }

    fn deliver(&mut self, id: usize, from: End) {
        let connection = &mut self.network.connections[id];
        let (manner, to) = (connection.manner, from.other());
        let pipe = connection.pipe(from);
        pipe.scheduled = false;
        if !pipe.is_moving() || self.is_disturbed(id, from) {
            return;
        }
        let connection = &mut self.network.connections[id];
        let receiver = connection.held[to as usize];
        let pipe = connection.pipe(from);
        let most = pipe.flying.len().min(pipe.arrived_max - pipe.arrived.len());
        let count = match manner {
            _ if most == 0 => 0,
            Manner::Whole => most,
            // Byte by byte only for a start: a long body would be mostly events, and slower than any time-out allows.
            Manner::ByteByByte if most < 64 && pipe.delivered < 2000 => 1,
            Manner::Anyhow | Manner::ByteByByte => self.random.between(1, most as u64) as usize,
        };
        let pipe = self.network.connections[id].pipe(from);
        let moved = take_front(&mut pipe.flying, count);
        pipe.arrived.extend(&moved);
        pipe.delivered += count as u64;
        let ends = pipe.flying.is_empty() && pipe.fin == Fin::Sent;
        if ends {
            pipe.fin = Fin::Arrived;
        }
        wake(&mut pipe.writer);
        let end = if ends { ", and the end" } else { "" };
        self.note(format_args!("connection {id}: {count} bytes of the {} arrive{end}", from.name()));
        if !receiver {
            // Bytes for a descriptor that is closed are answered by a reset; its end alone is not.
            self.network.connections[id].pipe(from).arrived.clear();
            if count > 0 {
                self.reset_other(id, to);
            }
            return;
        }
        match to {
            End::Server => {
                self.tapped(id, || Wire::Arrived(moved));
                self.fill(id);
            }
            End::Client => wake(&mut self.network.connections[id].pipe(from).reader),
        }
        self.follow(id, from);
    }

    /// What flies behind bytes that have arrived comes soon after them.
    pub(super) fn follow(&mut self, id: usize, from: End) {
        let soon = self.latency(id) / 32;
        self.move_after(id, from, soon);
    }

    /// The end at which bytes were read off: the sender may have more.
    pub(super) fn was_read(&mut self, id: usize, end: End) {
        self.progress();
        self.follow(id, end.other());
    }
}

/// The first bytes, copied as slices: one by one, as a queue's own iterators go, they would be most of a run's work.
pub(super) fn take_front(bytes: &mut VecDeque<u8>, count: usize) -> Vec<u8> {
    let (first, second) = bytes.as_slices();
    let from_first = count.min(first.len());
    let taken = [&first[..from_first], &second[..count - from_first]].concat();
    bytes.drain(..count);
    taken
}

pub(super) fn wake(waiting: &mut Option<Waker>) {
    if let Some(waker) = waiting.take() {
        waker.wake();
    }
}
