//! One request that has a body, or whose handler takes its time.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use super::access::{self, Answered, Understood};
use super::body::Incoming;
use super::connection::{CLIENT_CLOSED_REQUEST, Closing, Connection, Ended, InFlight, Next, Panicked, end_response};
use super::core::{Core, Serving};
use super::output::Output;
use super::turn::Turn;
use crate::clock;
use crate::handler::{
    Answer, Body, BodyError, BodySource, BodyState, ClientIo, Exchange, Failure, Found, NoBody, Pace, Reply, Request,
    Response, RouteIndex, Sink, Takeover,
};
use crate::http::{BodyFraming, Method, RequestHead};
use crate::limits::COPY_BYTES_MAX;
use crate::metrics::Counter;
#[cfg(feature = "sim")]
use crate::metrics::Gauge;
use crate::router::Spans;
use crate::rt::{Input, RecvHalf, RecvMode};

/// The way out of a handler that answers at once: it has none of its own, its answer goes out with the batch.
pub(super) struct NoSink;

impl Sink for NoSink {
    fn poll_send(&mut self, _: &mut Context<'_>, _: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }
}

/// How an exchange left the connection.
struct Left {
    ended: Ended,
    /// The request body was read to its end.
    body_done: bool,
    /// Who goes on with the connection.
    takeover: Option<Box<dyn Takeover>>,
    /// Who answered.
    route: RouteIndex,
    /// The code of its end.
    code: &'static str,
    /// Bytes of the request body that were read.
    received: u64,
}

/// Answers the request whose head is in `turn` and at the start of the unread bytes.
pub(super) async fn answer(connection: &mut Connection, turn: &mut Turn) -> Next {
    // Earlier answers must not wait for this one, and an interim response must not overtake them.
    connection.flush(turn).await;
    if connection.output.has_failed() {
        return Next::Close(Closing::AtOnce);
    }
    // The connection reads on, so the head moves out of its way.
    let length = turn.head.len;
    turn.head_bytes.clear();
    turn.head_bytes.extend_from_slice(&connection.input.bytes()[..length]);
    connection.input.consume(length);
    let serving = connection.core.serving();
    let head_persistent = connection.may_persist(&turn.head, &serving.settings);
    let in_flight = InFlight::new(connection.core.clone());
    let unlogged = Unlogged::new(connection, turn, &serving);
    let turn = &mut *unlogged.turn;
    let sent_before = connection.output.sent();
    let left = exchange(connection, turn, &serving, head_persistent).await;
    connection.log_exchange(turn, &left, &serving, sent_before);
    // A tunnel lives on without it.
    drop(serving);
    let Left { ended, body_done, takeover, .. } = left;
    #[cfg(feature = "sim")]
    if ended.is_internal_error() && crate::rt::sim::planted(crate::rt::sim::Bug::PanicStaysInFlight) {
        connection.core.metrics.step(Gauge::RequestsInFlight, 1);
    }
    if let (Some(takeover), Ended::Whole { .. }, true) = (takeover, &ended, body_done) {
        // Its line is written when it has ended.
        turn.log.hold();
        connection.flush(turn).await;
        if connection.output.has_failed() {
            drop(takeover);
        } else {
            connection.recv.set_mode(RecvMode::Stream);
            let Connection { input, recv, output, .. } = connection;
            takeover.run(ClientIo { unread: input, recv, send: output.another() }).await;
        }
        connection.log_tunnel(turn);
        return Next::Close(Closing::AtOnce);
    }
    drop(in_flight);
    match ended {
        Ended::Cut { open_ended, .. } => {
            // What is left of it may have been sent in part.
            turn.out.clear();
            // Not otherwise: a reset takes along what the client has not received of earlier answers. So would closing
            // over what it sent ahead.
            if open_ended {
                connection.output.reset();
                return Next::Close(Closing::AtOnce);
            }
            #[cfg(feature = "sim")]
            if crate::rt::sim::planted(crate::rt::sim::Bug::CutOverUnread) {
                return Next::Close(Closing::AtOnce);
            }
            Next::Close(Closing::Linger)
        }
        Ended::Whole { persistent, .. } if body_done => {
            connection.recv.set_mode(RecvMode::Stream);
            match (persistent, connection.input.is_empty()) {
                (true, true) => Next::Wait,
                (true, false) => Next::Again,
                (false, _) => connection.close_after_response(&turn.head),
            }
        }
        Ended::Whole { .. } => Next::Close(Closing::Linger),
    }
}

async fn exchange(connection: &mut Connection, turn: &mut Turn, serving: &Serving, persistent: bool) -> Left {
    let (core, settings) = (connection.core.clone(), &serving.settings);
    let head = RequestHead::new(&turn.head_bytes, &turn.head);
    let mut spans = Spans::NONE;
    let found = serving.routes.find(&head, &mut spans);
    let framing = head.framing();
    let body = BodyState { awaited: Cell::new(turn.head.expect_continue), ..BodyState::default() };
    let id = settings.observing.request_id(turn.number, &head, connection.peer);
    let terms = core.terms(serving, &body, id, head.version(), head.method() == Method::Head, persistent);
    let is_in_hand = |input: &Input| match framing {
        BodyFraming::None => true,
        BodyFraming::Length(length) => length <= input.bytes().len() as u64,
        BodyFraming::Chunked => false,
    };
    if !is_in_hand(&connection.input) {
        let is_short = matches!(framing, BodyFraming::Length(length) if length <= COPY_BYTES_MAX as u64);
        receive_in_pieces(connection, if is_short { RecvMode::Pieces } else { RecvMode::LargePieces }).await;
    }
    if found.pace() == Pace::Suspending && !connection.input.is_empty() {
        // A slow answer holds no receive buffer: neither for a body nor for the request behind this one.
        connection.input.settle(&core.metrics);
    }
    let too_large = matches!(framing, BodyFraming::Length(length) if length > settings.body);
    let interim = body.awaited.get().then(|| connection.output.another());
    let request = Request { head, params: found.params(), peer: connection.peer, id };
    let Connection { input, recv, deadline, output, .. } = connection;
    let (mut incoming, mut ahead) = match framing {
        BodyFraming::None | BodyFraming::Length(0) => {
            (None, Some(Ahead { input: Some(input), aside: Input::default(), recv, core: &core, ended: false }))
        }
        BodyFraming::Length(_) if is_in_hand(input) => (
            Some(Incoming::new(framing, input, None, deadline, &core, settings, &body).with_interim(interim)),
            Some(Ahead { input: None, aside: Input::default(), recv, core: &core, ended: false }),
        ),
        BodyFraming::Length(_) | BodyFraming::Chunked => (
            Some(Incoming::new(framing, input, Some(recv), deadline, &core, settings, &body).with_interim(interim)),
            None,
        ),
    };
    let mut no_body = NoBody;
    let source: &mut dyn BodySource = match &mut incoming {
        Some(incoming) => incoming,
        None => &mut no_body,
    };
    let (mut ended, code, takeover) = {
        let response = Response::new(&mut turn.out, &mut turn.fields, output, terms);
        let notes = Some(&turn.notes);
        let mut exchange = Exchange { request, body: Body::new(source), response, context: &core.context, notes };
        let reply = if too_large {
            core.metrics.add(Counter::BadTooLarge, 1);
            Ok(Err(Failure::Body(BodyError::TooLarge)))
        } else {
            run_handler(&found, &mut exchange, ahead.as_mut(), &core).await
        };
        let (ended, code) = end_response(&mut exchange, reply, 0, &core);
        (ended, code, exchange.response.take_takeover())
    };
    // The response is not held up by what the client still sends.
    let body_done = match &mut incoming {
        None => true,
        Some(incoming) => end_body(incoming, output, &mut turn.out, ended.is_persistent()).await,
    };
    if !body_done {
        ended = ended.closing();
    }
    let received = incoming.as_ref().map_or(0, Incoming::received);
    drop(incoming);
    let aside = ahead.map(|ahead| ahead.aside).unwrap_or_default();
    connection.input.append(aside.bytes(), &core.metrics);
    connection.note(turn, serving.route(&found), ended);
    Left { ended, body_done, takeover, route: found.index(), code, received }
}

impl Connection {
    /// Keeps for the access log what became of an exchange.
    fn log_exchange(&self, turn: &mut Turn, left: &Left, serving: &Serving, sent_before: u64) {
        let observing = &serving.settings.observing;
        let Some(spec) = self.core.access_spec(observing) else { return };
        let head = RequestHead::new(&turn.head_bytes, &turn.head);
        let id = observing.request_id(turn.number, &head, self.peer);
        let mut answered = Answered::new(id, left.ended.status(), left.code);
        answered.route = access::route_label(&serving.routes, left.route);
        answered.request_bytes = turn.head.len as u64 + left.received;
        answered.sent = self.output.sent() - sent_before;
        answered.trace = turn.notes.trace();
        answered.notes = Some(&*turn.notes);
        if matches!(left.ended, Ended::Whole { .. }) {
            // What is left of a cut response is not sent.
            answered.out = 0..turn.out.len();
        }
        turn.log.add(spec, &Understood::of(&head, spec), &answered);
    }

    /// Logs a tunnel that has ended, or has not begun because its client is gone.
    fn log_tunnel(&self, turn: &mut Turn) {
        if turn.log.put_back(&turn.notes.told()) {
            let took = clock::now().since(turn.began);
            self.core.log_access(self.peer, &mut turn.log, 0, took);
        }
    }
}

/// The request in a turn, until the access log has what became of it. It is dropped before that where the worker is told to
/// leave with requests in flight: they have a line all the same.
struct Unlogged<'t> {
    core: Rc<Core>,
    peer: SocketAddr,
    turn: &'t mut Turn,
}

impl<'t> Unlogged<'t> {
    /// Also makes ready what its handler may tell of it, and be told.
    fn new(connection: &Connection, turn: &'t mut Turn, serving: &Serving) -> Self {
        let core = connection.core.clone();
        turn.number = core.next_number();
        if Rc::strong_count(&turn.notes) > 1 {
            // Somebody has kept those of an earlier request.
            turn.notes = Rc::default();
        }
        let head = RequestHead::new(&turn.head_bytes, &turn.head);
        let observing = &serving.settings.observing;
        let is_logged = core.access_spec(observing).is_some();
        turn.notes.begin(is_logged, core.trace(observing, &head));
        turn.log.open(is_logged);
        Self { core, peer: connection.peer, turn }
    }
}

impl Drop for Unlogged<'_> {
    fn drop(&mut self) {
        // Not that of the request, which a tunnel must not keep: a line is made as the log is now.
        let serving = self.core.serving();
        let observing = &serving.settings.observing;
        let Some(spec) = self.core.access_spec(observing) else { return };
        let turn = &mut *self.turn;
        let was_tunnel = turn.log.put_back(&turn.notes.told());
        if turn.log.is_open() {
            let head = RequestHead::new(&turn.head_bytes, &turn.head);
            let id = observing.request_id(turn.number, &head, self.peer);
            let mut answered = Answered::new(id, CLIENT_CLOSED_REQUEST, access::CLIENT_GONE_BEFORE_HEAD);
            answered.request_bytes = turn.head.len as u64;
            answered.trace = turn.notes.trace();
            answered.notes = Some(&*turn.notes);
            turn.log.add(spec, &Understood::of(&head, spec), &answered);
        } else if !was_tunnel {
            return;
        }
        let took = clock::now().since(turn.began);
        self.core.write_lines(self.peer, &mut turn.log, 0, took);
        self.core.settle_access_log();
    }
}

/// Receives no more ahead, and copies what was: a handler that turns to something else before it reads its body, or in the
/// middle of that, would keep the core's receive buffers. The first piece would have to wait for the same.
async fn receive_in_pieces(connection: &mut Connection, mode: RecvMode) {
    let Connection { recv, input, core, .. } = connection;
    recv.set_mode(mode);
    #[cfg(feature = "sim")]
    if crate::rt::sim::planted(crate::rt::sim::Bug::UnseenRest) {
        return;
    }
    poll_fn(|cx| {
        let ended = input.poll_rest(recv, cx, &core.metrics);
        if ended.is_pending() {
            input.settle(&core.metrics);
        }
        ended
    })
    .await;
}

/// Reads what is left of the body, when the connection is to go on: whether its end was reached.
async fn end_body(incoming: &mut Incoming<'_>, output: &mut Output, out: &mut Vec<u8>, persistent: bool) -> bool {
    let done = incoming.finish();
    if done || !persistent {
        return done;
    }
    if incoming.is_in_hand() {
        return incoming.discard().await;
    }
    // The response is not held up by what the client still sends.
    let mut sent = 0;
    let flushed = poll_fn(|cx| {
        let result = output.poll_all(cx, out, &mut sent);
        if result.is_pending() && output.is_stalled() {
            incoming.put_aside();
        }
        result
    })
    .await;
    out.clear();
    flushed.is_ok() && incoming.discard().await
}

/// Calls the handler, whose panic is its own affair.
pub(super) fn call<'a>(found: &'a Found<'_>, exchange: &'a mut Exchange<'_>) -> Result<Answer<'a>, Panicked> {
    /// Says that the closure is called once: it gives away what it captured.
    fn once<T, F: FnOnce() -> T>(work: F) -> F {
        work
    }
    catch_unwind(AssertUnwindSafe(once(move || found.handle(exchange)))).map_err(|_| Panicked)
}

/// Runs the handler to its end; a panic ends it too, and so does a client that is gone.
async fn run_handler(
    found: &Found<'_>,
    exchange: &mut Exchange<'_>,
    mut ahead: Option<&mut Ahead<'_>>,
    core: &Core,
) -> Result<Reply, Panicked> {
    core.note_route(found.index());
    let mut answering = match call(found, exchange)? {
        Answer::Now(reply) => return Ok(reply),
        Answer::Later(answering) => answering,
    };
    poll_fn(|cx| {
        core.note_route(found.index());
        match catch_unwind(AssertUnwindSafe(|| answering.as_mut().poll(cx))) {
            Err(_) => Poll::Ready(Err(Panicked)),
            Ok(Poll::Ready(reply)) => Poll::Ready(Ok(reply)),
            Ok(Poll::Pending) => match &mut ahead {
                Some(ahead) => ahead.poll_gone(cx).map(|()| Ok(Err(Failure::Gone))),
                None => Poll::Pending,
            },
        }
    })
    .await
}

/// What the client sends ahead while a handler takes its time over a request whose body, if any, has come whole.
struct Ahead<'c> {
    /// `None` while the request's own body is read from it.
    input: Option<&'c mut Input>,
    /// What comes behind such a body.
    aside: Input,
    recv: &'c mut RecvHalf,
    core: &'c Core,
    /// The client sends no more.
    ended: bool,
}

impl Ahead<'_> {
    /// Ready when the client is gone for good. Of what it sends ahead one piece is taken, and what had come before the
    /// receive was held: no more, and none of it stays in a receive buffer.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(input) = self.input.as_mut().filter(|input| input.is_empty() && !self.ended) else {
            self.recv.hold();
            self.take_rest(cx);
            return Poll::Pending;
        };
        match ready!(self.recv.poll_recv(cx)) {
            Err(_) => Poll::Ready(()),
            // Half-closed: it may still read, as `nc` does. The end is seen again when the connection reads on.
            Ok(lease) if lease.is_empty() => {
                self.ended = true;
                Poll::Pending
            }
            Ok(lease) => {
                self.core.metrics.add(Counter::RequestBytes, lease.len() as u64);
                input.push(lease, &self.core.metrics);
                input.settle(&self.core.metrics);
                self.recv.set_mode(RecvMode::Pieces);
                self.take_rest(cx);
                Poll::Pending
            }
        }
    }

    fn take_rest(&mut self, cx: &mut Context<'_>) {
        let input = self.input.as_deref_mut().unwrap_or(&mut self.aside);
        input.take_rest(self.recv, cx, &self.core.metrics);
    }
}
