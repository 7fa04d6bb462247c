//! A connection's way through its states: waiting for a request, answering all that have come, closing.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::access::{self, Answered, Understood};
use super::core::{Core, CountedRoute, Opened, Serving, Settings};
use super::exchange::{self, NoSink};
use super::output::Output;
use super::pace::HeadTime;
use super::turn::Turn;
use crate::clock::{self, Moment};
use crate::handler::pipeline::{Finished, Run};
use crate::handler::{
    Answer, Body, BodyState, Exchange, Failure, NoBody, Outcome, Pace, Reply, Request, RequestId, Response,
};
use crate::http::{BodyFraming, HeadError, Method, Parse, RequestHead, Status, Version, parse_head};
use crate::limits::{BATCH_BYTES_MAX, BATCH_REQUESTS_MAX, DRAIN_GRACE_MS, LINGER_BYTES_MAX, LINGER_MS};
use crate::metrics::{Class, Counter, Gauge};
use crate::router::Spans;
use crate::rt::{self, Deadline, Input, Lease, RecvHalf, RecvMode};

/// One connection.
pub(super) struct Connection {
    pub(super) core: Rc<Core>,
    pub(super) recv: RecvHalf,
    pub(super) output: Output,
    pub(super) input: Input,
    pub(super) deadline: Deadline,
    pub(super) peer: SocketAddr,
    pub(super) served: u64,
    opened: Moment,
    /// When the last request was answered.
    idle_since: Moment,
    /// The head that has begun to come and has not ended.
    coming: Option<HeadTime>,
    /// Bytes were added to the unread ones while a send waited.
    took_rest: bool,
}

/// What comes next on a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Wait for more bytes.
    Wait,
    /// Send what was gathered, then look at the unread bytes again.
    Again,
    /// Answer the request whose head was parsed, which has a body or whose handler takes time.
    Exchange,
    /// Send what was gathered and close. `Linger` where the client may be sending still: it is read on for a while,
    /// because closing over unread bytes resets the connection and can destroy the response (RFC 9112 section 9.6).
    Close(Closing),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closing {
    AtOnce,
    Linger,
}

/// Why waiting for bytes ended without any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Silence {
    /// The client ended its side, or is gone, or the core drains.
    End,
    /// The idle time-out.
    Idle,
    /// The head time-out.
    Head,
    /// The head's minimum rate.
    HeadRate,
}

/// Serves one connection to its end.
pub(super) async fn serve(socket: rt::Socket, peer: SocketAddr, opened: Opened) {
    let core = opened.0.clone();
    let (recv, send) = rt::from_socket(socket);
    let mut connection = Connection {
        output: Output::new(send, core.clone()),
        core,
        recv,
        input: Input::default(),
        deadline: Deadline::new(),
        peer,
        served: 0,
        opened: clock::turn(),
        idle_since: clock::turn(),
        coming: None,
        took_rest: false,
    };
    let closing = connection.run().await;
    #[cfg(feature = "sim")]
    let closing = if rt::sim::planted(rt::sim::Bug::NoLinger) { Closing::AtOnce } else { closing };
    if closing == Closing::Linger {
        connection.linger().await;
    }
    drop(opened);
}

impl Connection {
    async fn run(&mut self) -> Closing {
        loop {
            match poll_fn(|cx| self.poll_bytes(cx)).await {
                Ok(lease) => self.input.push(lease, &self.core.metrics),
                Err(silence) => return self.end_silence(silence).await,
            }
            // Boxed by the core and handed back below: an idle connection has none.
            let mut turn = self.core.take_turn();
            turn.began = clock::turn();
            let closing = self.answer_all(&mut turn).await;
            self.core.give_turn(turn);
            if let Some(closing) = closing {
                return closing;
            }
            self.input.settle(&self.core.metrics);
            self.idle_since = clock::turn();
        }
    }

    /// Answers every request that has come; `None` to wait for more.
    async fn answer_all(&mut self, turn: &mut Turn) -> Option<Closing> {
        loop {
            let mut next = self.advance(turn);
            if next == Next::Exchange {
                // Boxed, so that the connection's own future stays small: most requests never come here.
                next = Box::pin(exchange::answer(self, turn)).await;
            }
            self.flush(turn).await;
            if self.output.has_failed() {
                return Some(Closing::AtOnce);
            }
            match next {
                // What came while the answers could not be sent is looked at before anything is waited for.
                #[cfg(feature = "sim")]
                Next::Wait if rt::sim::planted(rt::sim::Bug::ForgottenRest) => return None,
                Next::Wait if std::mem::take(&mut self.took_rest) => {}
                Next::Wait => return None,
                Next::Again => {
                    // An exchange may have received more, all of which stands behind it.
                    turn.began = self.input.received();
                    rt::yield_now().await;
                }
                Next::Exchange => {}
                Next::Close(closing) => return Some(closing),
            }
        }
    }

    /// Answers requests one after another, as long as their heads are complete and their handlers answer at once.
    fn advance(&mut self, turn: &mut Turn) -> Next {
        let serving = self.core.serving();
        let settings = &serving.settings;
        loop {
            if turn.out.len() >= BATCH_BYTES_MAX || turn.answered.len() >= BATCH_REQUESTS_MAX {
                return Next::Again;
            }
            match parse_head(self.input.bytes(), &settings.head, &mut turn.head) {
                Ok(Parse::Partial) => {
                    #[cfg(feature = "sim")]
                    if rt::sim::planted(rt::sim::Bug::PatientHead) {
                        self.coming = None;
                    }
                    if !self.input.is_empty() && self.coming.is_none() {
                        let now = clock::turn();
                        let since = if self.served == 0 { self.opened } else { now };
                        #[cfg(feature = "sim")]
                        let since = if rt::sim::planted(rt::sim::Bug::PatientHead) { now } else { since };
                        self.coming = Some(HeadTime::new(now, since + settings.timeouts.head));
                    }
                    return Next::Wait;
                }
                Ok(Parse::Complete) => {}
                Err(error) => return self.refuse(turn, error),
            }
            self.coming = None;
            match self.answer_now(turn, &serving) {
                Some(Next::Wait) | None => {}
                Some(next) => return next,
            }
        }
    }

    /// Answers the request whose head was just parsed, if that can be done here and now. `None`: it is, go on.
    fn answer_now(&mut self, turn: &mut Turn, serving: &Serving) -> Option<Next> {
        let head = RequestHead::new(self.input.bytes(), &turn.head);
        let mut spans = Spans::NONE;
        let found = serving.routes.find(&head, &mut spans);
        let (pace, going) = found.pace(&head, &self.core.context);
        if head.framing() != BodyFraming::None || pace == Pace::Suspending || serving.routes.pre_route().is_some() {
            return Some(Next::Exchange);
        }
        let persistent = self.may_persist(&turn.head, &serving.settings);
        let body = BodyState::default();
        let observing = &serving.settings.observing;
        let id = observing.request_id(self.core.next_number(), &head, self.peer);
        let terms = self.core.terms(serving, &body, id, head.version(), head.method() == Method::Head, persistent);
        let start = turn.out.len();
        let (mut no_body, mut no_sink) = (NoBody, NoSink);
        let request = Request { head, params: found.params(), peer: self.peer, id };
        let context = &self.core.context;
        let run = found.plugins().map(|plugins| {
            turn.edited.reset();
            turn.run.begin();
            turn.run.going = going;
            Run::new(plugins, &mut turn.run, request, context)
        });
        let response = Response::new(&mut turn.out, &mut turn.fields, &mut no_sink, terms).through(run);
        let body = Body::new(&mut no_body);
        let mut exchange = Exchange { request, body, response, context, notes: None, edited: Some(&turn.edited) };
        self.core.note_route(found.index());
        let reply = exchange::call(&found, &mut exchange).map(|answer| match answer {
            Answer::Now(reply) => reply,
            // Only handlers that answer at once come here: `Pace` is a promise.
            Answer::Later(_) => Err(Failure::internal("a handler broke its pace")),
        });
        let (ended, code) = end_response(&mut exchange, reply, start, &self.core);
        drop(exchange);
        if let Some(spec) = self.core.access_spec(observing) {
            let mut answered = Answered::new(id, ended.status(), code);
            answered.route = access::route_label(&serving.routes, found.index());
            answered.request_bytes = turn.head.len as u64;
            answered.out = start..turn.out.len();
            answered.trace = self.core.trace_for_log(observing, &head);
            turn.log.add(spec, &Understood::of(&head, spec), &answered);
        }
        let consumed = turn.head.len;
        self.input.consume(consumed);
        self.note(turn, serving.route(&found), ended);
        match ended {
            Ended::Whole { persistent: true, .. } => None,
            Ended::Whole { persistent: false, .. } => Some(self.close_after_response(&turn.head)),
            Ended::Cut { .. } => Some(Next::Close(Closing::Linger)),
        }
    }

    /// Closing after a whole response. A client that asked for it sends no more; one that did not may be sending its
    /// next request already, and closing over that would be a reset.
    pub(super) fn close_after_response(&self, head: &crate::http::Head) -> Next {
        let expected = !head.persistent && self.input.is_empty();
        Next::Close(if expected { Closing::AtOnce } else { Closing::Linger })
    }

    /// Whether the connection may go on after this request.
    pub(super) fn may_persist(&self, head: &crate::http::Head, settings: &Settings) -> bool {
        head.persistent
            && !self.core.is_draining()
            && self.served + 1 < settings.keepalive_requests
            && clock::turn().since(self.opened) < settings.keepalive_age
    }

    /// Keeps count of an answered request; it is recorded when it is sent.
    pub(super) fn note(&mut self, turn: &mut Turn, route: CountedRoute, ended: Ended) {
        if self.served > 0 {
            self.core.metrics.add(Counter::KeepaliveReuses, 1);
        }
        self.served += 1;
        turn.answered.push((route, ended.status()));
    }

    /// Answers a malformed head; nothing after it can be trusted, so the connection ends.
    fn refuse(&mut self, turn: &mut Turn, error: HeadError) -> Next {
        let reason = match error.status() {
            Status::CONTENT_TOO_LARGE | Status::URI_TOO_LONG | Status::REQUEST_HEADER_FIELDS_TOO_LARGE => {
                Counter::BadTooLarge
            }
            Status::HTTP_VERSION_NOT_SUPPORTED | Status::EXPECTATION_FAILED | Status::NOT_IMPLEMENTED => {
                Counter::BadUnsupported
            }
            _ if matches!(error, HeadError::Framing(_)) => Counter::BadFraming,
            _ => Counter::BadSyntax,
        };
        self.core.metrics.add(reason, 1);
        let code = if reason == Counter::BadTooLarge { access::CLIENT_TOO_LARGE } else { access::CLIENT_INVALID };
        self.problem(turn, error.status(), error.detail(), code);
        Next::Close(Closing::Linger)
    }

    /// Answers a problem where there is no request to answer.
    fn problem(&mut self, turn: &mut Turn, status: Status, detail: &'static str, code: &'static str) {
        let body = BodyState::default();
        let serving = self.core.serving();
        let start = turn.out.len();
        let id = RequestId::made(self.core.next_number());
        let terms = self.core.terms(&serving, &body, id, Version::Http11, false, false);
        let mut no_sink = NoSink;
        let mut response = Response::new(&mut turn.out, &mut turn.fields, &mut no_sink, terms);
        // A fresh response takes a problem.
        let _ = response.problem(status, detail);
        drop(response);
        turn.answered.push((CountedRoute::NONE, status));
        if let Some(spec) = self.core.access_spec(&serving.settings.observing) {
            let mut answered = Answered::new(id, status, code);
            answered.request_bytes = self.input.bytes().len() as u64;
            answered.out = start..turn.out.len();
            turn.log.add(spec, &Understood::of_refused(self.input.bytes()), &answered);
        }
    }

    /// Sends what was gathered, and records the requests that it answers.
    pub(super) async fn flush(&mut self, turn: &mut Turn) {
        // After a failure nobody knows how much of it went out; sending it again could send a part of it twice.
        let mut sent = 0;
        if !turn.out.is_empty() && !self.output.has_failed() {
            // A failure is kept by the output and ends the connection.
            let _ = poll_fn(|cx| self.poll_out(cx, &turn.out, &mut sent)).await;
        }
        turn.out.clear();
        self.record(turn, sent);
    }

    /// Sends all of `bytes`. While the client takes none it is not listened to either: what it sends meanwhile stays in
    /// its own socket and in ours, for it could fill all of the core's receive buffers.
    fn poll_out(&mut self, cx: &mut Context<'_>, bytes: &[u8], sent: &mut usize) -> Poll<io::Result<()>> {
        let result = self.output.poll_all(cx, bytes, sent);
        if result.is_pending() && self.output.is_stalled() {
            self.recv.hold();
            self.input.settle(&self.core.metrics);
            self.took_rest |= self.input.take_rest(&mut self.recv, cx, &self.core.metrics);
        }
        result
    }

    /// Records the requests answered since the last time: one look at the clock serves the batch. Of what was gathered,
    /// `sent` bytes were sent.
    fn record(&self, turn: &mut Turn, sent: usize) {
        if turn.answered.is_empty() {
            return;
        }
        let metrics = &self.core.metrics;
        if turn.answered.len() > 1 {
            metrics.add(Counter::PipelinedBatches, 1);
        }
        let took = clock::now().since(turn.began);
        if !turn.log.is_empty() {
            self.core.log_access(self.peer, &mut turn.log, sent, took);
        }
        let took = took.as_nanos() as u64;
        let generation = metrics.routes_generation();
        for (route, status) in turn.answered.drain(..) {
            metrics.record_request(route.cell(generation), Class::of_status(status.code()), took);
        }
    }

    /// Waits for bytes, as long as the connection's state allows.
    fn poll_bytes(&mut self, cx: &mut Context<'_>) -> Poll<Result<Lease, Silence>> {
        match self.recv.poll_recv(cx) {
            Poll::Ready(Ok(lease)) if !lease.is_empty() => {
                self.core.metrics.add(Counter::RequestBytes, lease.len() as u64);
                return Poll::Ready(Ok(lease));
            }
            Poll::Ready(_) => return Poll::Ready(Err(Silence::End)),
            Poll::Pending => {}
        }
        let serving = self.core.serving();
        let Settings { timeouts, rates, .. } = &serving.settings;
        let (due, silence) = match (self.coming, self.core.grace_until(self.idle_since)) {
            (Some(coming), _) => coming.due(self.input.bytes().len(), rates),
            (None, Some(grace)) => (grace, Silence::End),
            (None, None) if self.served == 0 => (self.opened + timeouts.head, Silence::Head),
            (None, None) => (self.idle_since + timeouts.idle, Silence::Idle),
        };
        #[cfg(feature = "sim")]
        let due = if matches!(silence, Silence::Idle) && rt::sim::planted(rt::sim::Bug::EndlessIdle) {
            Moment::NEVER
        } else {
            due
        };
        self.deadline.set(due);
        self.deadline.poll_due(cx).map(|()| Err(silence))
    }

    /// The end of a connection that was waited on in vain.
    async fn end_silence(&mut self, silence: Silence) -> Closing {
        match silence {
            Silence::End => return Closing::AtOnce,
            Silence::Idle => self.core.metrics.add(Counter::IdleTimeouts, 1),
            Silence::Head | Silence::HeadRate => {
                let is_total = silence == Silence::Head;
                let cause = if is_total { Counter::HeadTimeouts } else { Counter::HeadRateTimeouts };
                self.core.metrics.add(cause, 1);
                if !self.input.is_empty() {
                    let mut turn = self.core.take_turn();
                    turn.began = clock::turn();
                    self.problem(
                        &mut turn,
                        Status::REQUEST_TIMEOUT,
                        "the request head came too slowly",
                        access::CLIENT_TIMEOUT,
                    );
                    self.flush(&mut turn).await;
                    self.core.give_turn(turn);
                    // A client that takes no answer is not waited for again.
                    return if self.output.has_failed() { Closing::AtOnce } else { Closing::Linger };
                }
            }
        }
        Closing::AtOnce
    }

    /// Lets the client read the last response: ends our side, then reads and throws away until it ends its own.
    async fn linger(&mut self) {
        self.output.shutdown();
        // Nobody reads on behind the last request: its receive buffer must not wait with us.
        #[cfg(feature = "sim")]
        let _kept = rt::sim::planted(rt::sim::Bug::LingerKeepsBuffer).then(|| std::mem::take(&mut self.input));
        self.input = Input::default();
        self.recv.set_mode(RecvMode::Pieces);
        let patience = if self.core.is_draining() { DRAIN_GRACE_MS } else { LINGER_MS };
        #[cfg(feature = "sim")]
        let patience = if rt::sim::planted(rt::sim::Bug::EndlessLinger) { u64::MAX / 1_000_000 } else { patience };
        self.deadline.set(clock::turn() + Duration::from_millis(patience));
        let mut thrown = 0;
        while thrown < LINGER_BYTES_MAX {
            let received = poll_fn(|cx| match self.recv.poll_recv(cx) {
                Poll::Ready(result) => Poll::Ready(result.ok()),
                Poll::Pending => self.deadline.poll_due(cx).map(|()| None),
            });
            match received.await {
                Some(lease) if !lease.is_empty() => thrown += lease.len() as u64,
                _ => return,
            }
        }
    }
}

/// Counts a request as in flight until it is dropped.
pub(super) struct InFlight(Rc<Core>);

impl InFlight {
    pub(super) fn new(core: Rc<Core>) -> Self {
        core.metrics.step(Gauge::RequestsInFlight, 1);
        Self(core)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.metrics.step(Gauge::RequestsInFlight, -1);
    }
}

/// What a request is counted as whose client left before its answer began. Not a registered status, and never sent; it
/// is nginx's, and so what dashboards know.
pub(super) const CLIENT_CLOSED_REQUEST: Status = match Status::new(499) {
    Some(status) => status,
    None => Status::BAD_REQUEST,
};

/// A handler panicked.
pub(super) struct Panicked;

/// How an exchange ended, for the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The response is whole.
    Whole {
        /// Its status.
        status: Status,
        /// Whether the connection may go on.
        persistent: bool,
    },
    /// The response was begun and cannot be completed, or there is nobody to answer: the connection is cut.
    Cut {
        /// The status that was begun.
        status: Status,
        /// Only a reset tells the client so: its body has no other end than the connection's.
        open_ended: bool,
    },
}

impl Ended {
    pub(super) fn cut(status: Status, response: &Response<'_>) -> Self {
        Self::Cut { status, open_ended: response.is_open_ended() }
    }

    /// Whether the connection may go on.
    pub(super) const fn is_persistent(self) -> bool {
        matches!(self, Self::Whole { persistent: true, .. })
    }

    /// The same, with the connection closed after it.
    pub(super) const fn closing(self) -> Self {
        match self {
            Self::Whole { status, .. } => Self::Whole { status, persistent: false },
            cut => cut,
        }
    }

    /// Whether the server is to blame.
    #[cfg(feature = "sim")]
    pub(super) fn is_internal_error(self) -> bool {
        self.status() == Status::INTERNAL_SERVER_ERROR
    }

    pub(super) const fn status(self) -> Status {
        match self {
            Self::Whole { status, .. } | Self::Cut { status, .. } => status,
        }
    }
}

/// Ends the response of an exchange after its handler: completes it, or answers for a handler that did not. `start` is
/// where the response's bytes begin in the output. Also the code of its end, for the access log.
pub(super) fn end_response(
    exchange: &mut Exchange<'_>,
    reply: Result<Reply, Panicked>,
    start: usize,
    core: &Core,
) -> (Ended, &'static str) {
    let (ended, code) = complete_response(exchange, reply, start, core);
    tell_plugins(exchange, ended);
    (ended, code)
}

/// Tells the plugins how an exchange has ended.
pub(super) fn tell_plugins(exchange: &mut Exchange<'_>, ended: Ended) {
    exchange.response.end_run(match ended {
        Ended::Whole { status, .. } => Finished::Whole(status),
        Ended::Cut { .. } if exchange.response.is_unsent() => Finished::Unanswered,
        Ended::Cut { status, .. } => Finished::Cut(status),
    });
}

/// [`end_response`] but for telling the plugins; one of them may hold the answer that is given in the place of a failure.
pub(super) fn complete_response(
    exchange: &mut Exchange<'_>,
    reply: Result<Reply, Panicked>,
    start: usize,
    core: &Core,
) -> (Ended, &'static str) {
    let id = exchange.request.id();
    let response = &mut exchange.response;
    let (failure, panicked) = match reply {
        Ok(Ok(())) if !response.is_open() => (None, false),
        Ok(Err(_)) if response.is_answered_instead() => (None, false),
        Ok(Ok(())) => (Some(Failure::internal("the handler gave no response")), false),
        Ok(Err(failure)) => (Some(failure), false),
        Err(Panicked) => {
            core.metrics.add(Counter::HandlerPanics, 1);
            (Some(Failure::internal("the handler panicked")), true)
        }
    };
    let Some(failure) = failure else {
        let ended = match response.finish() {
            Outcome::Complete(status) => Ended::Whole { status, persistent: response.is_persistent() },
            Outcome::Cut(status) => {
                tracing::error!(request = %id, "the handler wrote less than its response announced, or gave up a write");
                Ended::cut(status, response)
            }
            Outcome::Unanswered => Ended::cut(Status::INTERNAL_SERVER_ERROR, response),
        };
        let is_whole = matches!(ended, Ended::Whole { .. });
        return (ended, if is_whole { access::DONE } else { access::INTERNAL });
    };
    let code = access::code_of(&failure, response.is_unsent());
    if let Failure::Internal(cause) = &failure {
        tracing::error!(request = %id, %cause, "a handler failed");
    }
    let Some((status, detail)) = failure.answer() else {
        // Nobody is left to be answered: counted as the client's doing, not as the success that it never got.
        let status = if response.is_unsent() { CLIENT_CLOSED_REQUEST } else { response.current_status() };
        return (Ended::cut(status, response), code);
    };
    // Only what is still in the output can be taken back; `restart` refuses when some of it was sent.
    if !response.restart(start) {
        return (Ended::cut(response.current_status(), response), code);
    }
    if panicked || matches!(failure, Failure::Body(_)) {
        response.close_after();
    }
    if let Some(answer) = response.ask_on_failure(status, detail)
        && response.send_local(&answer).is_ok()
    {
        let status = response.current_status();
        return (Ended::Whole { status, persistent: response.is_persistent() }, code);
    }
    // A restarted response takes a problem; where a plugin fails that sees it, it is sent without being shown to any.
    if response.restart(start) && response.problem(status, detail).is_err() && response.restart(start) {
        let _ = response.problem(status, detail);
    }
    (Ended::Whole { status: response.current_status(), persistent: response.is_persistent() }, code)
}
