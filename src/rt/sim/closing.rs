//! How connections end: by either end's word, by a reset, or without any.

use super::network::{End, Event, Fin, wake};
use super::wire::Wire;
use super::world::World;

impl World {
    /// Ends this end's sending: what was sent still arrives.
    pub(super) fn shut(&mut self, id: usize, end: End) {
        let pipe = self.network.connection(id).pipe(end);
        if pipe.fin == Fin::Open {
            pipe.fin = Fin::Sent;
            self.note(format_args!("connection {id}: {} ends its side", end.name()));
            if end == End::Server {
                self.tapped(id, || Wire::Ended);
            }
            self.move_on(id, end);
        }
    }

    /// This end resets the connection: the other learns of it.
    pub(super) fn reset_other(&mut self, id: usize, by: End) {
        let connection = self.network.connection(id);
        connection.pipe(by).flying.clear();
        connection.pipe(by).fin = Fin::Arrived;
        connection.reset[by as usize] = true;
        if by == End::Server {
            self.tapped(id, || Wire::Broken);
        }
        let connection = self.network.connection(id);
        if connection.vanished || connection.reset[by.other() as usize] {
            return;
        }
        self.note(format_args!("connection {id}: {} resets", by.name()));
        let latency = self.latency(id);
        self.schedule(latency, Event::Reset(id, by.other()));
    }

    pub(super) fn learn_of_reset(&mut self, id: usize, end: End) {
        if std::mem::replace(&mut self.network.connection(id).reset[end as usize], true) {
            return;
        }
        // Some systems let the application read what had arrived before, some do not.
        let loses = self.random.chance(500);
        let connection = self.network.connection(id);
        connection.pipe(end).flying.clear();
        connection.incoming(end).flying.clear();
        if loses {
            connection.incoming(end).arrived.clear();
        }
        wake(&mut connection.pipe(end).writer);
        wake(&mut connection.incoming(end).reader);
        self.note(format_args!("connection {id}: {} learns of the reset; unread bytes lost: {loses}", end.name()));
        if end == End::Server {
            self.tapped(id, || Wire::Broken);
            self.fill(id);
        }
    }

    /// An end's descriptor closes: over unread bytes that is a reset.
    pub(super) fn close(&mut self, id: usize, end: End) {
        let now = self.now;
        let connection = self.network.connection(id);
        if !connection.is_held(end) {
            return;
        }
        connection.hold(end, false);
        let unread = connection.incoming(end).arrived.len();
        connection.incoming(end).arrived.clear();
        if end == End::Server {
            let (is_outward, core) = (connection.is_outward, connection.core);
            self.network.closed(id, now);
            if let Some(core) = core.map(|core| &mut self.cores[core]) {
                let count = if is_outward { &mut core.outward } else { &mut core.open };
                *count -= 1;
            }
        }
        self.note(format_args!("connection {id}: {} closes, {unread} bytes unread", end.name()));
        if unread > 0 {
            self.reset_other(id, end);
        } else {
            self.shut(id, end);
        }
        if end == End::Server {
            self.network.connection(id).pipe(end).stalled_since = None;
            self.tapped(id, || Wire::Closed);
        }
    }

    /// The client's host is gone: nothing of it arrives any more, nothing is read, nothing is answered.
    pub(super) fn vanish(&mut self, id: usize) {
        self.note(format_args!("connection {id}: client vanishes"));
        let connection = self.network.connection(id);
        connection.vanished = true;
        connection.pipe(End::Client).flying.clear();
    }
}
