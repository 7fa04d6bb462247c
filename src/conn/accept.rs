//! Accepting connections within the core's limit.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use super::connection;
use super::core::{Core, Opened};
use crate::clock;
use crate::limits::ACCEPT_BATCH;
use crate::metrics::Counter;
use crate::rt::{self, Deadline, Listener};

/// How long accepting rests after the process or the host ran out of descriptors or memory.
const REST: Duration = Duration::from_millis(100);

/// Accepts connections and spawns a task for each, until the core drains. At `limits.connections` it stops accepting:
/// further connections wait in the listening socket's queue until others close.
pub async fn accept(mut listener: Listener, core: Rc<Core>) {
    // Watched so that a drain wakes this loop; it never comes due.
    let drained = Deadline::new();
    let mut in_a_row = 0;
    loop {
        if core.open() >= core.settings.connections && !core.is_draining() {
            core.metrics.add(Counter::ConnectionsBackpressured, 1);
            poll_fn(|cx| core.poll_room(cx)).await;
        }
        let accepted = poll_fn(|cx| {
            if core.is_draining() {
                return Poll::Ready(None);
            }
            let _ = drained.poll_due(cx);
            listener.poll_accept(cx).map(Some)
        });
        match accepted.await {
            None => return,
            Some(Ok((socket, peer))) => {
                let opened = Opened::new(core.clone());
                rt::spawn(connection::serve(socket, peer, opened));
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "accepting rests: the process or the host ran out of something");
                rt::sleep_until(clock::now() + REST).await;
            }
        }
        in_a_row += 1;
        if in_a_row >= ACCEPT_BATCH {
            in_a_row = 0;
            rt::yield_now().await;
        }
    }
}
