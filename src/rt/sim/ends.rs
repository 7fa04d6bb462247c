//! A core's side of the network: what the facade's halves and listeners are in a world.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::ops::Deref;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use super::Style;
use super::network::{End, Event, Fin, take_front, wake};
use super::wire::Wire;
use super::world::{self, World};
use crate::pool;
use crate::rt::core;
use crate::rt::readiness::is_passing;
use crate::rt::stream::{Lease, RecvMode};

/// A descriptor in a world: listening, or a connection that a core accepted or made. Dropping it closes it.
#[derive(Debug)]
pub struct Socket(Descriptor);

#[derive(Debug)]
struct Descriptor {
    id: usize,
    listens: bool,
}

impl Socket {
    pub(super) const fn listening(id: usize) -> Self {
        Self(Descriptor { id, listens: true })
    }

    /// Another descriptor of the same listening socket, as dup(2) makes it: the socket closes with the last of them.
    pub fn another_listener(&self) -> Self {
        assert!(self.0.listens, "connections have one owner");
        world::with(|world| world.hold_listener(self.0.id))
    }

    pub(super) const fn connected(id: usize) -> Self {
        Self(Descriptor { id, listens: false })
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        world::try_with(
            |world| {
                if self.listens { world.close_listener(self.id) } else { world.close(self.id, End::Server) }
            },
        );
    }
}

/// A listening socket of a core.
#[derive(Debug)]
pub(in crate::rt) struct Listener(Descriptor);

impl Listener {
    pub(in crate::rt) fn new(socket: Socket) -> Self {
        Self(socket.0)
    }

    pub(in crate::rt) fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<(Socket, SocketAddr)>> {
        loop {
            match world::with(|world| world.accept(self.0.id, cx.waker())) {
                None => return Poll::Pending,
                Some(Err(error)) if is_passing(&error) => {}
                Some(result) => return Poll::Ready(result),
            }
        }
    }

    pub(in crate::rt) fn accept_waiting(&mut self) -> Option<(Socket, SocketAddr)> {
        loop {
            match world::with(|world| world.accept(self.0.id, Waker::noop()))? {
                Err(error) if is_passing(&error) => {}
                result => return result.ok(),
            }
        }
    }
}

/// The receiving half.
#[derive(Debug)]
pub(in crate::rt) struct Recv(Rc<Descriptor>);

/// The sending half.
#[derive(Debug)]
pub(in crate::rt) struct Send {
    descriptor: Rc<Descriptor>,
    waits: bool,
    turns: core::Turns,
}

impl Send {
    fn new(descriptor: Rc<Descriptor>) -> Self {
        Self { descriptor, waits: false, turns: core::Turns::default() }
    }
}

pub(in crate::rt) fn halves(socket: Socket) -> (Recv, Send) {
    let descriptor = Rc::new(socket.0);
    (Recv(descriptor.clone()), Send::new(descriptor))
}

/// A receive buffer of a core, filled.
#[derive(Debug)]
pub(in crate::rt) struct Provided {
    bytes: Filled,
    core: usize,
    connection: usize,
}

#[derive(Debug)]
enum Filled {
    /// By the kernel, ahead.
    Ahead(Vec<u8>),
    /// On demand, a buffer of the core's pool.
    Pooled(pool::Buffer),
}

impl Provided {
    fn new(world: &mut World, connection: usize, core: usize, bytes: Filled) -> Self {
        world.network.connection(connection).leases += 1;
        Self { bytes, core, connection }
    }
}

impl Deref for Provided {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.bytes {
            Filled::Ahead(bytes) => bytes,
            Filled::Pooled(bytes) => bytes,
        }
    }
}

impl Drop for Provided {
    fn drop(&mut self) {
        world::try_with(|world| {
            world.cores[self.core].free += 1;
            world.network.connection(self.connection).leases -= 1;
        });
    }
}

/// What the kernel has for a receive.
#[derive(Debug)]
enum Completion {
    Bytes(Vec<u8>),
    End,
    OutOfBuffers,
    Reset,
    /// It was told to end, and has.
    Ended,
}

/// A connection's receives, as io_uring has them.
#[derive(Debug)]
pub(super) struct Receive {
    mode: RecvMode,
    /// A multishot receive is under way.
    armed: bool,
    /// A multishot receive was told to end.
    ending: bool,
    /// Counts receives.
    number: u32,
    /// [`core::returns`] when the receive was armed.
    asked: u64,
    completions: VecDeque<Completion>,
}

impl Default for Receive {
    fn default() -> Self {
        Self { mode: RecvMode::Stream, armed: false, ending: false, number: 0, asked: 0, completions: VecDeque::new() }
    }
}

impl Receive {
    /// Filled receive buffers that the application has not seen.
    pub(super) fn unseen(&self) -> usize {
        self.completions.iter().filter(|completion| matches!(completion, Completion::Bytes(_))).count()
    }

    /// A multishot receive was told to end, and has not.
    pub(super) fn is_ending(&self) -> bool {
        self.ending
    }

    /// The bytes in them.
    pub(super) fn unseen_bytes(&self) -> usize {
        let bytes = self.completions.iter().map(|completion| match completion {
            Completion::Bytes(bytes) => bytes.len(),
            Completion::End | Completion::OutOfBuffers | Completion::Reset | Completion::Ended => 0,
        });
        bytes.sum()
    }
}

impl World {
    /// The application takes bytes that were received.
    fn take_bytes(&mut self, id: usize, core: usize, bytes: Filled) -> Lease {
        let provided = Provided::new(self, id, core, bytes);
        let count = provided.len();
        self.progress();
        self.note(format_args!("connection {id}: server takes {count} bytes"));
        self.tapped(id, || Wire::Taken(count));
        Lease::simulated(provided)
    }

    /// Fills completions with what has arrived, as far as the receive and the core's buffers go.
    pub(super) fn fill(&mut self, id: usize) {
        let connection = self.network.connection(id);
        let Some(core) = connection.core else { return };
        let reset = connection.reset[End::Server as usize];
        let is_cut = connection.reset[End::Client as usize];
        let bytes_max = self.cores[core].options.buffer_bytes;
        let mut filled = 0;
        while connection.receive.armed {
            let pipe = connection.incoming(End::Server);
            let completion = if pipe.arrived.is_empty() {
                match (reset, pipe.fin) {
                    (true, _) => Completion::Reset,
                    // The reset is on its way.
                    (false, Fin::Arrived) if is_cut => break,
                    (false, Fin::Arrived) => Completion::End,
                    (false, Fin::Open | Fin::Sent) => break,
                }
            } else if self.cores[core].free == 0 {
                Completion::OutOfBuffers
            } else {
                self.cores[core].free -= 1;
                let count = pipe.arrived.len().min(bytes_max);
                Completion::Bytes(take_front(&mut pipe.arrived, count))
            };
            let receive = &mut connection.receive;
            if !matches!(completion, Completion::Bytes(_)) {
                (receive.armed, receive.ending) = (false, false);
            }
            receive.completions.push_back(completion);
            filled += 1;
        }
        wake(&mut connection.incoming(End::Server).reader);
        if filled > 0 {
            self.follow(id, End::Client);
        }
    }

    /// A multishot receive that was told to end ends.
    pub(super) fn end_receive(&mut self, id: usize, number: u32) {
        let connection = self.network.connection(id);
        let receive = &mut connection.receive;
        if receive.number == number && receive.armed {
            (receive.armed, receive.ending) = (false, false);
            receive.completions.push_back(Completion::Ended);
            wake(&mut connection.incoming(End::Server).reader);
            self.note(format_args!("connection {id}: its receive has ended as told"));
        }
    }

    fn set_mode(&mut self, id: usize, mode: RecvMode) {
        let receive = &mut self.network.connection(id).receive;
        let before = std::mem::replace(&mut receive.mode, mode);
        if before != mode && mode.is_pieces() {
            self.end_multishot(id);
        }
    }

    /// Tells a multishot receive to end, which takes a while.
    fn end_multishot(&mut self, id: usize) {
        let receive = &mut self.network.connection(id).receive;
        if receive.armed && !receive.ending {
            receive.ending = true;
            let number = receive.number;
            let after = Duration::from_nanos(self.random.below(1_000_000));
            self.schedule(after, Event::ReceiveEnds(id, number));
        }
    }

    fn arm(&mut self, id: usize, asked: u64) {
        let receive = &mut self.network.connection(id).receive;
        receive.number += 1;
        receive.asked = asked;
        receive.armed = true;
        self.fill(id);
    }

    /// The receiving half is gone: buffers that nobody looked at go back without a word.
    fn drop_receive(&mut self, id: usize) {
        let connection = self.network.connection(id);
        let receive = std::mem::take(&mut connection.receive);
        let Some(core) = connection.core else { return };
        self.cores[core].free += receive.unseen();
        if receive.armed {
            // As compio's backend does, to end the receive by all means.
            self.shut(id, End::Server);
        }
    }

    /// One receive without waiting, as on epoll.
    fn receive_now(&mut self, id: usize) -> io::Result<Vec<u8>> {
        let connection = self.network.connection(id);
        let reset = connection.reset[End::Server as usize];
        let is_cut = connection.reset[End::Client as usize];
        let pipe = connection.incoming(End::Server);
        if !pipe.arrived.is_empty() {
            let count = pipe.arrived.len().min(crate::limits::SMALL_BUFFER_BYTES);
            let bytes = take_front(&mut pipe.arrived, count);
            self.was_read(id, End::Server);
            return Ok(bytes);
        }
        match (reset, pipe.fin) {
            (true, _) => Err(ErrorKind::ConnectionReset.into()),
            (false, Fin::Arrived) if is_cut => Err(ErrorKind::WouldBlock.into()),
            (false, Fin::Arrived) => Ok(Vec::new()),
            (false, Fin::Open | Fin::Sent) => Err(ErrorKind::WouldBlock.into()),
        }
    }
}

impl Recv {
    pub(in crate::rt) fn set_mode(&mut self, mode: RecvMode) {
        world::with(|world| world.set_mode(self.0.id, mode));
    }

    pub(in crate::rt) fn hold(&mut self) {
        world::with(|world| world.end_multishot(self.0.id));
    }

    pub(in crate::rt) fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Lease>> {
        let style = world::with(|world| world.cores[world.current_core()].options.style);
        match style {
            Style::Multishot => self.poll_completion(cx),
            Style::Readiness => self.poll_now(cx),
        }
    }

    pub(in crate::rt) fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<Option<Lease>> {
        let id = self.0.id;
        world::with(|world| {
            let core = world.current_core();
            loop {
                let connection = world.network.connection(id);
                match connection.receive.completions.front() {
                    Some(Completion::Bytes(bytes)) => {
                        let bytes = bytes.clone();
                        connection.receive.completions.pop_front();
                        return Poll::Ready(Some(world.take_bytes(id, core, Filled::Ahead(bytes))));
                    }
                    Some(Completion::Ended | Completion::OutOfBuffers) => {
                        connection.receive.completions.pop_front();
                    }
                    None if connection.receive.armed && connection.receive.ending => {
                        connection.incoming(End::Server).reader = Some(cx.waker().clone());
                        return Poll::Pending;
                    }
                    // The end of the connection is met again by the next receive.
                    _ => return Poll::Ready(None),
                }
            }
        })
    }

    fn poll_completion(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Lease>> {
        let id = self.0.id;
        loop {
            let next = world::with(|world| {
                let core = world.current_core();
                let connection = world.network.connection(id);
                let next = connection.receive.completions.pop_front();
                if next.is_none() && connection.receive.armed {
                    connection.incoming(End::Server).reader = Some(cx.waker().clone());
                    return Err(());
                }
                Ok((next, core))
            });
            let Ok((next, core)) = next else { return Poll::Pending };
            match next {
                Some(Completion::Bytes(bytes)) => {
                    return Poll::Ready(Ok(world::with(|world| world.take_bytes(id, core, Filled::Ahead(bytes)))));
                }
                Some(Completion::End) => return Poll::Ready(Ok(empty())),
                Some(Completion::Reset) => return Poll::Ready(Err(ErrorKind::ConnectionReset.into())),
                // As compio's backend: one that came back meanwhile is asked for at once.
                Some(Completion::OutOfBuffers)
                    if world::with(|world| world.network.connection(id).receive.asked) != core::returns() => {}
                Some(Completion::OutOfBuffers) => {
                    return park(id, cx);
                }
                Some(Completion::Ended) => {}
                // As compio's backend: pieces are received when they are asked for, and not ahead.
                None if world::with(|world| world.network.connection(id).receive.mode).is_pieces() => {
                    return self.poll_now(cx);
                }
                None => {
                    let asked = core::returns();
                    world::with(|world| world.arm(id, asked));
                }
            }
        }
    }

    fn poll_now(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Lease>> {
        let id = self.0.id;
        let index = world::with(|world| world.current_core());
        if core::exhausted() || world::with(|world| world.cores[index].free == 0) {
            return park(id, cx);
        }
        let received = world::with(|world| {
            let received = world.receive_now(id);
            if received.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
                world.network.connection(id).incoming(End::Server).reader = Some(cx.waker().clone());
            }
            received
        });
        match received {
            Ok(bytes) if bytes.is_empty() => Poll::Ready(Ok(empty())),
            Ok(bytes) => {
                let mut buffer = pool::take(pool::Class::Small);
                buffer.extend_from_slice(&bytes);
                Poll::Ready(Ok(world::with(|world| {
                    world.cores[index].free -= 1;
                    world.take_bytes(id, index, Filled::Pooled(buffer))
                })))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

/// The task waits for a receive buffer.
fn park(id: usize, cx: &Context<'_>) -> Poll<io::Result<Lease>> {
    super::note(format_args!("connection {id}: no receive buffer, waits"));
    // Who only looks whether something came does not wait for it.
    if !cx.waker().will_wake(Waker::noop()) {
        world::with(|world| world.park_current(id));
    }
    core::park(cx.waker());
    Poll::Pending
}

fn empty() -> Lease {
    Lease::pooled(pool::take(pool::Class::Small))
}

impl Drop for Recv {
    fn drop(&mut self) {
        world::try_with(|world| world.drop_receive(self.0.id));
    }
}

impl Send {
    pub(in crate::rt) fn poll_send(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send_vectored(cx, &[IoSlice::new(bytes)])
    }

    pub(in crate::rt) fn poll_send_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let id = self.descriptor.id;
        let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
        ready!(self.turns.poll_next(cx));
        let sent = world::with(|world| {
            let sent = world.send(id, End::Server, slices);
            if sent.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock) {
                world.network.connection(id).pipe(End::Server).writer = Some(cx.waker().clone());
            }
            sent
        });
        self.waits = sent.as_ref().is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        match sent {
            Err(_) if self.waits => {
                self.turns.begin();
                core::count(|stats| stats.send_waits += 1);
                Poll::Pending
            }
            result => {
                core::count(|stats| stats.short_sends += u64::from(result.as_ref().is_ok_and(|sent| *sent < wanted)));
                Poll::Ready(result)
            }
        }
    }

    pub(in crate::rt) fn is_waiting(&self) -> bool {
        self.waits
    }

    pub(in crate::rt) fn another(&self) -> Self {
        Self::new(self.descriptor.clone())
    }

    /// Only bytes in memory go through the simulated network.
    pub(in crate::rt) fn poll_send_file(
        &mut self,
        _cx: &mut Context<'_>,
        _head: &[u8],
        _file: &OwnedFd,
        _offset: u64,
        _most: usize,
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(ErrorKind::Unsupported.into()))
    }

    pub(in crate::rt) fn queued(&self) -> u64 {
        world::with(|world| world.network.connection(self.descriptor.id).pipe(End::Server).flying() as u64)
    }

    pub(in crate::rt) fn reset(&self) {
        world::with(|world| world.reset_other(self.descriptor.id, End::Server));
    }

    pub(in crate::rt) fn shutdown(&self) {
        world::with(|world| world.shut(self.descriptor.id, End::Server));
    }
}
