//! Accepting connections within the core's limit.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::connection;
use super::core::{Accepting, Core, Opened};
use crate::clock;
use crate::limits::ACCEPT_BATCH;
use crate::metrics::{Activity, Counter};
use crate::rt::{self, Deadline, Listener};

/// How long accepting rests after the process or the host ran out of descriptors or memory.
const REST: Duration = Duration::from_millis(100);

/// Whether one listening socket is wanted. Closed, its accept loop takes who stands in the queue, closes it and ends.
#[derive(Debug, Clone, Default)]
pub struct Door(Rc<Cell<bool>>);

impl Door {
    /// Ends the accept loop.
    pub fn close(&self) {
        self.0.set(true);
        rt::wake_all();
    }

    fn is_closed(&self) -> bool {
        self.0.get()
    }
}

/// Accepts connections and spawns a task for each, until the core or the door is closed. At `limits.connections` it stops accepting:
/// further connections wait in the listening socket's queue until others close.
pub fn accept(listener: Listener, door: Door, core: Rc<Core>) -> impl Future<Output = ()> {
    // Counted before the loop first runs: a drain that begins before that must wait for it.
    let accepting = Accepting::new(core.clone());
    async move {
        accept_all(listener, &door, core).await;
        drop(accepting);
    }
}

async fn accept_all(mut listener: Listener, door: &Door, core: Rc<Core>) {
    // Watched so that `Core::close` and `Door::close` wake this loop; it never comes due.
    let drained = Deadline::new();
    let mut in_a_row = 0;
    loop {
        let is_closed = || core.is_closed() || door.is_closed();
        if !core.has_room() && !is_closed() {
            core.metrics.add(Counter::ConnectionsBackpressured, 1);
            poll_fn(|cx| {
                let _ = drained.poll_due(cx);
                if door.is_closed() { Poll::Ready(()) } else { core.poll_room(cx) }
            })
            .await;
        }
        let accepted = poll_fn(|cx| {
            if is_closed() {
                return Poll::Ready(None);
            }
            let _ = drained.poll_due(cx);
            listener.poll_accept(cx).map(Some)
        });
        match accepted.await {
            None => return accept_last(listener, &core),
            Some(Ok((socket, peer))) => {
                core.metrics.note_activity(Activity::Accept);
                let opened = Opened::new(core.clone());
                rt::spawn(connection::serve(socket, peer, opened));
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "accepting rests: the process or the host ran out of something");
                rt::sleep_until(clock::now() + REST).await;
                #[cfg(feature = "sim")]
                if rt::sim::planted(rt::sim::Bug::NoMoreAccepts) {
                    poll_fn(|cx| drained.poll_due(cx)).await;
                }
            }
        }
        in_a_row += 1;
        if in_a_row >= ACCEPT_BATCH {
            in_a_row = 0;
            rt::yield_now().await;
        }
    }
}

/// When it is closed: whoever stands in the queue is served, then the listening socket closes. Closing it over a
/// queue would reset connections that the kernel has completed, and requests in them.
fn accept_last(mut listener: Listener, core: &Rc<Core>) {
    while core.has_room() {
        let Some((socket, peer)) = listener.accept_waiting() else { return };
        rt::spawn(connection::serve(socket, peer, Opened::new(core.clone())));
    }
}
