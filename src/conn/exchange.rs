//! One request that has a body, or whose handler takes its time.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::task::{self, Poll, ready};

use super::access::{self, Answered, Understood};
use super::body::Incoming;
use super::connection::{CLIENT_CLOSED_REQUEST, Closing, Connection, Ended, InFlight, Next, Panicked};
use super::core::{Core, Serving};
use super::held::end_waiting;
use super::output::Output;
use super::turn::Turn;
use crate::clock;
use crate::handler::pipeline::{EditedHeads, Pipeline, Routing, Run, RunState};
use crate::handler::{
    Answer, Answering, Body, BodyError, BodySource, BodyState, ClientIo, Context, Exchange, Failure, Found, NoBody,
    Pace, Reply, Request, Response, RouteIndex, Routes, Sink, Takeover,
};
use crate::http::{BodyFraming, Method, RequestHead};
use crate::limits::COPY_BYTES_MAX;
use crate::metrics::Counter;
#[cfg(feature = "sim")]
use crate::metrics::Gauge;
use crate::router::{Params, Spans};
use crate::rt::{Input, RecvHalf, RecvMode};

/// The way out of a handler that answers at once: it has none of its own, its answer goes out with the batch.
pub(super) struct NoSink;

impl Sink for NoSink {
    fn poll_send(&mut self, _: &mut task::Context<'_>, _: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
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
    let framing = head.framing();
    let id = settings.observing.request_id(turn.number, &head, connection.peer);
    turn.edited.reset();
    let mut request = Request { head, params: Params::NONE, peer: connection.peer, id };
    let mut spans = Spans::NONE;
    let (edited, run) = (&turn.edited, &mut turn.run);
    let (found, refused) = find_route(&serving.routes, &mut request, edited, run, &core.context, &mut spans);
    request.params = found.params();
    let head = request.head;
    let (pace, going) = found.pace(&head, &core.context);
    run.going = going;
    let body = BodyState { awaited: Cell::new(turn.head.expect_continue), ..BodyState::default() };
    let terms = core.terms(serving, &body, id, head.version(), head.method() == Method::Head, persistent);
    receive_on(connection, framing, pace).await;
    let body_limit = found.plugins().and_then(Pipeline::body_limit).unwrap_or(settings.body);
    let refused = refused.or_else(|| refuse_length(framing, body_limit, &core));
    let interim = body.awaited.get().then(|| connection.output.another());
    let Connection { input, recv, deadline, output, .. } = connection;
    let (incoming, mut ahead) = match framing {
        BodyFraming::None | BodyFraming::Length(0) => (None, Some(Ahead::new(Some(input), recv, &core))),
        BodyFraming::Length(_) if is_in_hand(framing, input) => {
            let incoming = Incoming::new(framing, input, None, deadline, &core, settings, &body);
            (Some(incoming), Some(Ahead::new(None, recv, &core)))
        }
        BodyFraming::Length(_) | BodyFraming::Chunked => {
            (Some(Incoming::new(framing, input, Some(recv), deadline, &core, settings, &body)), None)
        }
    };
    let mut incoming = incoming.map(|incoming| incoming.with_interim(interim).limited_to(body_limit));
    let mut no_body = NoBody;
    let source: &mut dyn BodySource = match &mut incoming {
        Some(incoming) => incoming,
        None => &mut no_body,
    };
    let (mut ended, code, takeover) = {
        let context = &core.context;
        let run = found.plugins().map(|plugins| Run::new(plugins, run, request, context));
        let response = Response::new(&mut turn.out, &mut turn.fields, output, terms).through(run);
        let (notes, edited) = (Some(&turn.notes), Some(&turn.edited));
        let mut exchange = Exchange { request, body: Body::new(source), response, context, notes, edited };
        let reply = match refused {
            Some(failure) => Ok(Err(failure)),
            None => run_handler(&found, &mut exchange, ahead.as_mut(), &core).await,
        };
        let (ended, code) = end_waiting(&mut exchange, reply, ahead.as_mut(), &core).await;
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

/// Shows the request to plugins that want to see it before it is routed, then finds its route. With a failure where one of
/// them failed, and nothing may go on without it.
fn find_route<'r, 'x>(
    routes: &'r Routes,
    request: &mut Request<'x>,
    edited: &'x EditedHeads,
    state: &mut RunState,
    context: &Context,
    spans: &'r mut Spans,
) -> (Found<'r>, Option<Failure>) {
    state.begin();
    let Some(plugins) = routes.pre_route() else { return (routes.find(&request.head, spans), None) };
    let result = plugins.pre_route(&mut Routing { request, edited, state, context });
    match result {
        Ok(()) if state.answer.is_none() => (routes.find(&request.head, spans), None),
        result => (routes.unrouted(), result.err()),
    }
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

/// A body that announces to be longer than it may is not waited for.
fn refuse_length(framing: BodyFraming, most: u64, core: &Core) -> Option<Failure> {
    let is_too_long = matches!(framing, BodyFraming::Length(length) if length > most);
    is_too_long.then(|| {
        core.metrics.add(Counter::BadTooLarge, 1);
        Failure::Body(BodyError::TooLarge)
    })
}

/// Whether all of the body has come.
fn is_in_hand(framing: BodyFraming, input: &Input) -> bool {
    match framing {
        BodyFraming::None => true,
        BodyFraming::Length(length) => length <= input.bytes().len() as u64,
        BodyFraming::Chunked => false,
    }
}

/// Has the rest of a body come as it is best for the handler.
async fn receive_on(connection: &mut Connection, framing: BodyFraming, pace: Pace) {
    if !is_in_hand(framing, &connection.input) {
        let is_short = matches!(framing, BodyFraming::Length(length) if length <= COPY_BYTES_MAX as u64);
        receive_in_pieces(connection, if is_short { RecvMode::Pieces } else { RecvMode::LargePieces }).await;
    }
    if pace == Pace::Suspending && !connection.input.is_empty() {
        // A slow answer holds no receive buffer: neither for a body nor for the request behind this one.
        connection.input.settle(&connection.core.metrics);
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
    poll_fn(|cx| match (poll_handler(found, &mut answering, core, cx), &mut ahead) {
        (Poll::Pending, Some(ahead)) => ahead.poll_gone(cx).map(|()| Ok(Err(Failure::Gone))),
        (polled, _) => polled,
    })
    .await
}

/// Polls a handler that takes its time, whose panic is its own affair.
pub(super) fn poll_handler(
    found: &Found<'_>,
    answering: &mut Answering<'_>,
    core: &Core,
    cx: &mut task::Context<'_>,
) -> Poll<Result<Reply, Panicked>> {
    core.note_route(found.index());
    match catch_unwind(AssertUnwindSafe(|| answering.as_mut().poll(cx))) {
        Err(_) => Poll::Ready(Err(Panicked)),
        Ok(polled) => polled.map(Ok),
    }
}

/// What the client sends ahead while a handler takes its time over a request whose body, if any, has come whole.
pub(super) struct Ahead<'c> {
    /// `None` while the request's own body is read from it.
    input: Option<&'c mut Input>,
    /// What comes behind such a body.
    aside: Input,
    recv: &'c mut RecvHalf,
    core: &'c Core,
    /// The client sends no more.
    ended: bool,
}

impl<'c> Ahead<'c> {
    fn new(input: Option<&'c mut Input>, recv: &'c mut RecvHalf, core: &'c Core) -> Self {
        Self { input, aside: Input::default(), recv, core, ended: false }
    }

    /// Ready when the client is gone for good. Of what it sends ahead one piece is taken, and what had come before the
    /// receive was held: no more, and none of it stays in a receive buffer.
    pub(super) fn poll_gone(&mut self, cx: &mut task::Context<'_>) -> Poll<()> {
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

    fn take_rest(&mut self, cx: &mut task::Context<'_>) {
        let input = self.input.as_deref_mut().unwrap_or(&mut self.aside);
        input.take_rest(self.recv, cx, &self.core.metrics);
    }
}
