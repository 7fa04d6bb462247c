//! What goes wrong by itself: the network breaks or stops, descriptors and receive buffers run out for a while.

use std::io;
use std::time::Duration;

use super::network::{End, Event};
use super::world::World;

/// Milliseconds for which one direction of a connection stands still: longer than any time-out, at most.
const STALL_MS_MAX: u64 = 5_000;
/// Milliseconds for which a core's free receive buffers are out of its reach.
const SHORTAGE_MS_MAX: u64 = 250;
/// From one shortage to the next.
const SHORTAGE_REST: Duration = Duration::from_millis(1500);
/// Of so many steps, [`Faults::shortages`](super::Faults::shortages) begin a shortage.
const SHORTAGE_STEPS: u64 = 100_000;

/// What accept(2) says when it is not the connection's fault.
const ACCEPT_ERRORS: &[i32] = &[libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
/// What send(2) says of a connection that is gone.
const SEND_ERRORS: &[i32] = &[libc::EPIPE, libc::ECONNRESET, libc::ETIMEDOUT, libc::EHOSTUNREACH];

impl World {
    /// The network may get in the way of bytes that are about to arrive; true if it did.
    pub(super) fn is_disturbed(&mut self, id: usize, from: End) -> bool {
        let faults = self.options.faults;
        if self.random.chance(faults.resets) {
            self.break_connection(id);
            return true;
        }
        if self.random.chance(faults.stalls) {
            let pause = Duration::from_millis(self.random.between(1, STALL_MS_MAX));
            self.note(format_args!("connection {id}: the {}'s bytes stand still for {pause:?}", from.name()));
            self.network.connection(id).disturbed = true;
            self.network.connection(id).pipe(from).scheduled = true;
            self.schedule(pause, Event::Deliver(id, from));
            return true;
        }
        false
    }

    /// Somebody between the two resets the connection: both ends learn of it, each in its time.
    pub(super) fn break_connection(&mut self, id: usize) {
        self.note(format_args!("connection {id}: broken by the network"));
        let connection = self.network.connection(id);
        (connection.disturbed, connection.broken) = (true, true);
        for end in [End::Server, End::Client] {
            connection.pipe(end).flying.clear();
        }
        for end in [End::Server, End::Client] {
            let after = self.latency(id);
            self.schedule(after, Event::Reset(id, end));
        }
    }

    /// Notes that the connections of a core are not served as they should be.
    pub(super) fn disturb_core(&mut self, core: usize) {
        self.note(format_args!("core {core}: breaks down"));
        for (id, _) in self.network.open().into_iter().filter(|(_, of)| *of == core) {
            self.network.connection(id).disturbed = true;
        }
    }

    /// An error for an accept, if it is to fail.
    pub(super) fn accept_error(&mut self, listener: usize) -> Option<io::Error> {
        if !self.random.chance(self.options.faults.failed_accepts) {
            return None;
        }
        let error = io::Error::from_raw_os_error(*self.random.pick(ACCEPT_ERRORS));
        self.network.rested(listener, self.now);
        self.note(format_args!("listener {listener}: {error}"));
        Some(error)
    }

    /// An error for a send, if it is to fail: the connection is gone then.
    pub(super) fn send_error(&mut self, id: usize) -> Option<io::Error> {
        if !self.random.chance(self.options.faults.failed_sends) {
            return None;
        }
        let error = io::Error::from_raw_os_error(*self.random.pick(SEND_ERRORS));
        self.note(format_args!("connection {id}: a send fails, {error}"));
        self.break_connection(id);
        Some(error)
    }

    /// Takes a core's free receive buffers away for a while, as other connections would.
    pub(super) fn perhaps_withhold(&mut self) {
        let shortages = self.options.faults.shortages;
        if shortages == 0 || self.now < self.next_shortage || self.random.below(SHORTAGE_STEPS) >= shortages {
            return;
        }
        let index = self.random.index(self.cores.len());
        let core = &mut self.cores[index];
        if core.free == 0 || core.ended {
            return;
        }
        core.withheld = std::mem::take(&mut core.free);
        let withheld = core.withheld;
        let after = Duration::from_millis(self.random.between(1, SHORTAGE_MS_MAX));
        self.next_shortage = self.now + SHORTAGE_REST;
        self.note(format_args!("core {index}: {withheld} receive buffers are withheld for {after:?}"));
        self.schedule(after, Event::Shortage(index));
    }

    pub(super) fn end_shortage(&mut self, index: usize) {
        let core = &mut self.cores[index];
        core.free += std::mem::take(&mut core.withheld);
        self.note(format_args!("core {index}: the withheld receive buffers are back"));
    }
}
