//! One connection to a server, and one exchange at a time on it.

use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use super::body::send_parts;
use super::failure::AttemptError;
use super::local::{Local, LocalUpstream, Slot};
use crate::clock::{self, Moment};
use crate::http::{HeadLimits, Parse, RequestKind, ResponseHead, parse_response_head};
use crate::metrics::ShardWriter;
use crate::rt::{self, Deadline, Input, RecvHalf, RecvMode, SendHalf, Socket};

/// A connection to a server.
pub(super) struct Connection {
    pub(super) reading: Reading,
    pub(super) send: SendHalf,
    /// Requests that it has carried.
    served: u64,
    opened: Moment,
    /// How long it took to be made.
    took: Duration,
    idle_since: Moment,
    slot: Slot,
}

/// The side of it that responses come from.
pub(super) struct Reading {
    recv: RecvHalf,
    input: Input,
    deadline: Deadline,
    metrics: Rc<ShardWriter>,
    /// The server has ended its side.
    ended: bool,
}

impl Connection {
    /// Boxed: it moves from the pool to an exchange and back with every request.
    pub(super) fn new(socket: Socket, slot: Slot, took: Duration, local: &Local) -> Box<Self> {
        let (recv, send) = rt::from_socket(socket);
        let now = clock::turn();
        let reading = Reading {
            recv,
            input: Input::default(),
            deadline: Deadline::new(),
            metrics: local.metrics.clone(),
            ended: false,
        };
        Box::new(Self { reading, send, served: 0, opened: now, took, idle_since: now, slot })
    }

    /// Which server it leads to.
    pub(super) fn server(&self) -> usize {
        self.slot.server
    }

    /// Since when it has carried nothing.
    pub(super) fn idle_since(&self) -> Moment {
        self.idle_since
    }

    /// Counts for another upstream from now on.
    pub(super) fn move_to(&mut self, slot: Slot) {
        self.slot = slot;
    }

    pub(super) fn upstream(&self) -> Rc<LocalUpstream> {
        self.slot.upstream().clone()
    }

    /// Whether requests went over it before: if it fails now, the server may just have closed it for idleness.
    pub(super) fn is_reused(&self) -> bool {
        self.served > 0
    }

    /// How long connecting took, of the exchange that it was done for; `None` for those after it.
    pub(super) fn connect_took(&self) -> Option<Duration> {
        (self.served <= 1).then_some(self.took)
    }

    /// An exchange begins.
    pub(super) fn begin(&mut self) {
        self.served += 1;
    }

    /// Whether an idle connection can carry another request: nothing has come over it, not its end either.
    pub(super) fn is_usable(&mut self, now: Moment) -> bool {
        let pool = &self.slot.upstream().shared.spec.pool;
        let is_young = now.since(self.opened) < pool.age && now.since(self.idle_since) < pool.idle_timeout;
        // A response that nobody asked for is as bad as an end.
        is_young && self.served < pool.requests && self.reading.is_silent()
    }

    /// Keeps it for the next request; to be called only after an exchange that ended cleanly on both sides.
    pub(super) fn release(mut self: Box<Self>) {
        self.reading.deadline.clear();
        self.reading.recv.set_mode(RecvMode::Stream);
        self.idle_since = clock::turn();
        let upstream = self.upstream();
        if self.is_usable(self.idle_since) {
            upstream.give_idle(self);
        }
    }

    /// Sends all of `head`, then all of `body`.
    ///
    /// # Errors
    /// See [`send_parts`].
    pub(super) async fn send_all(&mut self, head: &[u8], body: &[u8], idle: Duration) -> Result<(), AttemptError> {
        send_parts(&mut self.send, &self.reading.deadline, [head, body, b""], idle).await
    }
}

impl Reading {
    /// The bytes that came and are not used up.
    pub(super) fn bytes(&self) -> &[u8] {
        self.input.bytes()
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.input.consume(count);
    }

    /// The receiving half itself, for a tunnel.
    pub(super) fn recv(&mut self) -> &mut RecvHalf {
        &mut self.recv
    }

    /// Gives the receive buffer back before a wait on somebody else.
    pub(super) fn settle(&mut self) {
        self.input.settle(&self.metrics);
    }

    /// How the rest of a body is received: long ones in large pieces, when they are asked for; so a client that does not
    /// drink holds up the server, and not this core's buffers.
    pub(super) fn expect_body(&mut self) {
        self.recv.set_mode(RecvMode::LargePieces);
    }

    /// Whether nothing came, as far as is known now.
    fn is_silent(&mut self) -> bool {
        #[cfg(feature = "sim")]
        if rt::sim::planted(rt::sim::Bug::LeftoverReuse) {
            return !self.ended;
        }
        let mut cx = Context::from_waker(Waker::noop());
        !self.ended && self.input.is_empty() && self.recv.poll_recv(&mut cx).is_pending()
    }

    /// Receives more, by `until`; whether there was any before the end.
    pub(super) fn poll_more(&mut self, cx: &mut Context<'_>, until: Moment) -> Poll<Result<bool, AttemptError>> {
        match self.recv.poll_recv(cx) {
            Poll::Ready(Ok(lease)) if !lease.is_empty() => {
                self.input.push(lease, &self.metrics);
                Poll::Ready(Ok(true))
            }
            Poll::Ready(Ok(_)) => {
                self.ended = true;
                Poll::Ready(Ok(false))
            }
            Poll::Ready(Err(error)) => {
                self.ended = true;
                Poll::Ready(Err(AttemptError::Receive(error.kind())))
            }
            Poll::Pending => {
                #[cfg(feature = "sim")]
                if rt::sim::planted(rt::sim::Bug::EndlessResponse) {
                    return Poll::Pending;
                }
                self.deadline.set(until);
                ready!(self.deadline.poll_due(cx));
                Poll::Ready(Err(AttemptError::ResponseTimeout))
            }
        }
    }

    /// Reads a response head; it stays at the start of the unread bytes. `until` may be moved while this waits.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        limits: &HeadLimits,
        kind: RequestKind,
        head: &mut ResponseHead,
        until: Moment,
    ) -> Poll<Result<(), AttemptError>> {
        loop {
            if !self.input.is_empty() {
                match parse_response_head(self.input.bytes(), limits, kind, head) {
                    Ok(Parse::Complete) => return Poll::Ready(Ok(())),
                    Ok(Parse::Partial) => {}
                    Err(error) => return Poll::Ready(Err(AttemptError::Protocol(error))),
                }
            }
            if !ready!(self.poll_more(cx, until))? {
                let began = !self.input.is_empty();
                return Poll::Ready(Err(if began { AttemptError::HeadCut } else { AttemptError::Closed }));
            }
        }
    }

    /// Whether the server said more than its response.
    pub(super) fn has_leftover(&self) -> bool {
        #[cfg(feature = "sim")]
        if rt::sim::planted(rt::sim::Bug::LeftoverReuse) {
            return false;
        }
        !self.input.is_empty()
    }
}
