//! One attempt: a connection to a server, a request over it, the response's head.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::time::Duration;

use super::connection::Connection;
use super::counters::{ServerCounter, UpstreamCounter};
use super::failure::AttemptError;
use super::local::{InFlight, Local, LocalUpstream};
use crate::clock::{self, Moment};
use crate::http::{HeadLimits, RequestKind, ResponseHead};
use crate::rt;

/// Bounds on a response head: those of nginx and Envoy are of this size.
pub(super) const RESPONSE_LIMITS: HeadLimits = HeadLimits { head: 32 * 1024, headers: 200, target: 0 };

/// A connection that a request can be sent over.
pub(super) struct Connected {
    pub(super) connection: Box<Connection>,
    pub(super) in_flight: InFlight,
}

/// Takes an idle connection to the server, or makes one, or waits until there may be one more.
///
/// # Errors
/// [`AttemptError::Connect`], [`AttemptError::Unresolved`], [`AttemptError::Full`].
pub(super) async fn connect(
    local: &Local,
    upstream: &Rc<LocalUpstream>,
    server: usize,
    fresh: bool,
    until: Moment,
) -> Result<Connected, AttemptError> {
    let in_flight = InFlight::new(upstream, server);
    let until = until.min(clock::turn() + upstream.shared.spec.timeouts.connect);
    if !fresh && let Some(connection) = upstream.take_idle(server, clock::turn()) {
        return Ok(Connected { connection, in_flight });
    }
    let connection = Box::pin(connect_anew(local, upstream, server, fresh, until)).await?;
    Ok(Connected { connection, in_flight })
}

/// Makes a connection when there may be one more, or takes one that has become idle meanwhile, unless it must be `fresh`.
async fn connect_anew(
    local: &Local,
    upstream: &Rc<LocalUpstream>,
    server: usize,
    fresh: bool,
    until: Moment,
) -> Result<Box<Connection>, AttemptError> {
    let slot = match upstream.open(server) {
        Some(slot) => slot,
        None => {
            let Some(mut pending) = upstream.wait() else {
                upstream.counters.add(UpstreamCounter::Overflows, 1);
                return Err(AttemptError::Full);
            };
            loop {
                if rt::timeout(until, poll_fn(|cx| pending.poll(cx))).await.is_none() {
                    return Err(AttemptError::Full);
                }
                if !fresh && let Some(connection) = upstream.take_idle(server, clock::turn()) {
                    return Ok(connection);
                }
                if let Some(slot) = upstream.open(server) {
                    break slot;
                }
            }
        }
    };
    let remote = upstream.next_remote(server).ok_or(AttemptError::Unresolved)?;
    let began = clock::now();
    match rt::connect(&remote, until).await {
        Ok(socket) => Ok(Connection::new(socket, slot, elapsed(began), local)),
        Err(error) => Err(AttemptError::Connect(error.kind())),
    }
}

/// A request that can be sent more than once.
pub(super) struct Held<'r> {
    pub(super) head: &'r [u8],
    pub(super) body: &'r [u8],
    pub(super) kind: RequestKind,
    /// Its method is idempotent: a server that got it twice did the same as one that got it once.
    pub(super) may_repeat: bool,
    /// It was sent over a connection that its server had closed meanwhile: from then on it goes over new ones, so that this
    /// happens once to a request.
    pub(super) was_stale: &'r Cell<bool>,
}

/// The beginning of an answer; its head is at the start of what the connection has received.
pub(super) struct Answering {
    pub(super) connection: Box<Connection>,
    pub(super) in_flight: InFlight,
    pub(super) head: Box<ResponseHead>,
}

/// Sends the request to the server and waits for a response head, which may be that of an interim response.
///
/// # Errors
/// See [`AttemptError`]; the connection is closed then.
pub(super) async fn ask(
    local: &Local,
    upstream: &Rc<LocalUpstream>,
    server: usize,
    request: &Held<'_>,
    until: Moment,
) -> Result<Answering, AttemptError> {
    let mut fresh = request.was_stale.get();
    loop {
        let Connected { mut connection, in_flight } = connect(local, upstream, server, fresh, until).await?;
        let was_reused = connection.is_reused();
        match ask_over(local, upstream, &mut connection, request, until).await {
            Ok(head) => return Ok(Answering { connection, in_flight, head }),
            // It was closed while it was idle, as the server may do at any time: that is nobody's failure.
            Err(error) if was_reused && error.is_stale() && request.may_repeat && !request.was_stale.replace(true) => {
                fresh = true;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn ask_over(
    local: &Local,
    upstream: &Rc<LocalUpstream>,
    connection: &mut Connection,
    request: &Held<'_>,
    until: Moment,
) -> Result<Box<ResponseHead>, AttemptError> {
    let timeouts = &upstream.shared.spec.timeouts;
    connection.begin();
    upstream.server_counters(connection.server()).add(ServerCounter::Requests, 1);
    let began = clock::turn();
    connection.send_all(request.head, request.body, timeouts.idle).await?;
    let until = until.min(clock::turn() + timeouts.response);
    let mut head = local.take_head();
    let reading = &mut connection.reading;
    poll_fn(|cx| reading.poll_head(cx, &RESPONSE_LIMITS, request.kind, &mut head, until)).await?;
    upstream.note_latency(connection.server(), elapsed(began), clock::turn());
    Ok(head)
}

/// Time since `began`, by the clock and not by the turn: an answer that came at once took time too.
pub(super) fn elapsed(began: Moment) -> Duration {
    clock::now().since(began)
}
