//! The handler of a route that forwards: which server, how often, and what becomes of its answer.

use std::cell::Cell;
use std::future::poll_fn;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use smallvec::SmallVec;

use super::ask::{Answering, Connected, Held, RESPONSE_LIMITS, ask, connect, elapsed};
use super::balance::hash_key;
use super::body::{self, Beside, Plan, Progress, TrailerRules, upload};
use super::connection::{Connection, Reading};
use super::counters::{ServerCounter, UpstreamCounter};
use super::failure::AttemptError;
use super::head::{self, Outgoing, forwarded_fields, write_request_head};
use super::hedge;
use super::local::{InFlight, Local, LocalUpstream};
use super::mirror;
use super::relay::{Pace as RelayPace, RelayError, TrailerTerms, relay_body};
use super::rewrite::Rewrite;
use super::spec::{Balance, HashKey, ProxySpec};
use super::standing::Admission;
use super::termination::{Ending, Phase};
use super::tunnel::Tunnel;
use super::upstream::{Upstream, Upstreams};
use crate::clock::{self, Moment};
use crate::handler::{
    Answer, BodyLength, Exchange, Failure, Handler, Pace, Reply, Request, Response, Trace, UnknownParam,
};
use crate::http::head::list_members;
use crate::http::{
    BodyFraming, Method, RequestKind, ResponseFraming, ResponseHead, ResponseView, Status, Version, encode,
};
use crate::limits::{ATTEMPTS_MAX, INTERIM_RESPONSES_MAX};
use crate::pool;

/// When a client that was refused because no server was there, or free, may come again: what is wrong may be over then.
const RETRY_AFTER_SECONDS: &str = "1";

/// Forwards requests to upstreams.
pub struct Proxy {
    spec: ProxySpec,
    targets: Vec<(Arc<Upstream>, u32)>,
    rewrite: Rewrite,
    mirror: Option<(Arc<Upstream>, f64)>,
    /// `Via` of responses that came by HTTP/1.0 and by 1.1.
    via: Option<[String; 2]>,
}

impl Proxy {
    /// A handler for a route whose path has these parameters. The indices of `spec` are those of `upstreams`; targets that
    /// are not among them are left out.
    ///
    /// # Errors
    /// When the path's template names a parameter that the route has not.
    pub fn new(spec: ProxySpec, params: &[&str], upstreams: &Upstreams) -> Result<Self, UnknownParam> {
        let targets =
            spec.targets.iter().filter_map(|target| Some((upstreams.get(target.upstream)?.clone(), target.weight)));
        let mirror = spec.mirror.and_then(|mirror| Some((upstreams.get(mirror.upstream)?.clone(), mirror.share)));
        let via = spec.via.as_ref().map(|name| [format!("1.0 {name}"), format!("1.1 {name}")]);
        Ok(Self { via, targets: targets.collect(), rewrite: Rewrite::new(&spec.path, params)?, mirror, spec })
    }

    /// One of the targets, by weighted chance.
    fn choose(&self, local: &Local) -> Option<&Arc<Upstream>> {
        if let [(only, _)] = self.targets.as_slice() {
            return Some(only);
        }
        let total: u64 = self.targets.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let mut at = local.chance().below(total);
        #[cfg(feature = "sim")]
        if crate::rt::sim::planted(crate::rt::sim::Bug::FirstTarget) {
            at = 0;
        }
        self.targets.iter().find_map(|(upstream, weight)| match at.checked_sub(u64::from(*weight)) {
            Some(rest) => {
                at = rest;
                None
            }
            None => Some(upstream),
        })
    }

    async fn forward(&self, exchange: &mut Exchange<'_>) -> Reply {
        let local: &Local =
            exchange.context().ok_or_else(|| Failure::internal("a proxy route runs on a core that is no worker"))?;
        let upstream = self.choose(local).ok_or_else(|| Failure::internal("a proxy route without upstream"))?;
        let upstream = local.upstream(upstream);
        let request = exchange.request;
        let now = clock::turn();
        upstream.budget.borrow_mut().note_request(now);
        let ending = Ending::new(&upstream, now, exchange.notes);
        let mut held = pool::take(pool::Class::Small);
        let framing = exchange.body.framing(request.framing());
        let (plan, framing) = body::hold(&mut exchange.body, framing, &mut held)
            .await
            .inspect_err(|error| ending.conclude(&Err((*error).into())))?;
        let mut path = pool::take(pool::Class::Small);
        self.rewrite.write(&request, &mut path);
        let was_stale = Cell::new(false);
        let mut job = Job {
            proxy: self,
            local,
            upstream: &upstream,
            ending: &ending,
            request,
            path: &path,
            trace: exchange.notes.and_then(|notes| notes.trace()),
            framing,
            key: request_key(&upstream.shared.spec.balance, &request),
            upgrade: self.offered_upgrade(&request, framing),
            until: now + upstream.shared.spec.timeouts.total,
            takes_trailers: takes_trailers(&request),
            tried: SmallVec::new(),
            attempts: 0,
            was_stale: &was_stale,
        };
        if plan == Plan::Held {
            ending.enter(Phase::Head);
        }
        if let Some((mirrored, share)) = &self.mirror {
            mirror::send(&job, mirrored, *share, plan, &held);
        }
        let reply = match plan {
            Plan::Held => job.run_held(&held, &mut exchange.response).await,
            Plan::Streamed => Box::pin(job.run_streamed(exchange)).await,
        };
        ending.conclude(&reply);
        match reply {
            Err(Failure::Status(Status::SERVICE_UNAVAILABLE, detail)) if exchange.response.is_open() => {
                exchange.response.field("Retry-After", RETRY_AFTER_SECONDS)?;
                exchange.response.problem(Status::SERVICE_UNAVAILABLE, detail)
            }
            reply => reply,
        }
    }

    /// The protocol that the client offers to switch to, where the route lets it.
    fn offered_upgrade<'r>(&self, request: &Request<'r>, framing: BodyFraming) -> Option<&'r [u8]> {
        let offers = self.spec.upgrade && request.head().upgrade && framing == BodyFraming::None;
        offers.then(|| request.header("upgrade")).flatten()
    }
}

impl Handler for Proxy {
    fn pace(&self) -> Pace {
        Pace::Suspending
    }

    fn handle<'a>(&'a self, exchange: &'a mut Exchange<'_>) -> Answer<'a> {
        Answer::Later(Box::pin(self.forward(exchange)))
    }
}

/// The hash of what the balance goes by; the client's address where the request has none of it.
fn request_key(balance: &Balance, request: &Request<'_>) -> Option<u64> {
    let Balance::Hash { key, .. } = balance else { return None };
    let found = match key {
        HashKey::Header(name) => request.header(name),
        HashKey::Cookie(name) => request.cookie(name),
        HashKey::Path => Some(request.path_bytes()),
        HashKey::ClientAddress => None,
    };
    Some(match (found, request.peer().ip().to_canonical()) {
        (Some(found), _) => hash_key(found),
        (None, IpAddr::V4(client)) => hash_key(&client.octets()),
        (None, IpAddr::V6(client)) => hash_key(&client.octets()),
    })
}

/// One request on its way.
pub(super) struct Job<'j> {
    pub(super) proxy: &'j Proxy,
    pub(super) local: &'j Local,
    pub(super) upstream: &'j Rc<LocalUpstream>,
    /// How it ends.
    pub(super) ending: &'j Ending,
    pub(super) request: Request<'j>,
    pub(super) path: &'j [u8],
    /// The trace that it belongs to, where traces are asked for.
    trace: Option<Trace>,
    pub(super) framing: BodyFraming,
    key: Option<u64>,
    upgrade: Option<&'j [u8]>,
    /// When all of it must have ended.
    pub(super) until: Moment,
    /// The client can be sent trailers.
    takes_trailers: bool,
    /// Servers that it was sent to.
    tried: SmallVec<[usize; 4]>,
    pub(super) attempts: u32,
    was_stale: &'j Cell<bool>,
}

impl<'j> Job<'j> {
    /// Forwards a request that can be sent again.
    async fn run_held(&mut self, body: &[u8], response: &mut Response<'_>) -> Reply {
        let mut head = pool::take(pool::Class::Small);
        let mut last = None;
        loop {
            let Some(admission) = self.admit() else { return Err(self.nobody(last)) };
            let server = admission.server();
            self.note_attempt(server);
            let result = match self.hedge_after() {
                // Boxed, as all that few requests need: what every request pays for is the size of the largest.
                Some(after) => Box::pin(hedge::ask_two(self, admission, after, body)).await,
                None => {
                    head.clear();
                    self.write_head(&mut head, server);
                    let request = self.held(&head, body);
                    let asked = ask(self.local, self.upstream, server, &request, self.until).await;
                    self.admitted(asked, admission)
                }
            };
            let error = match result {
                Ok((answer, admission)) if !self.is_retried_status(&answer) => {
                    return self.respond(answer, admission, response).await;
                }
                Ok((answer, admission)) => {
                    self.note_status(admission, answer.head.status);
                    self.local.give_head(answer.head);
                    continue;
                }
                Err(error) => error,
            };
            let safe = self.may_repeat() || error.is_before_sending();
            if !safe || !self.may_retry() {
                return Err(self.fail(error));
            }
            last = Some(error);
        }
    }

    /// Forwards a request whose body goes out as it comes in. It is sent again only if nothing of it was sent.
    async fn run_streamed(&mut self, exchange: &mut Exchange<'_>) -> Reply {
        let mut last = None;
        loop {
            let Some(admission) = self.admit() else { return Err(self.nobody(last)) };
            self.note_attempt(admission.server());
            match connect(self.local, self.upstream, admission.server(), false, self.until).await {
                Ok(connected) => return self.stream(connected, admission, exchange).await,
                Err(error) => {
                    self.note_error(admission, error);
                    if !self.may_retry() {
                        return Err(self.fail(error));
                    }
                    last = Some(error);
                }
            }
        }
    }

    async fn stream(&mut self, connected: Connected, admission: Admission, exchange: &mut Exchange<'_>) -> Reply {
        let Connected { mut connection, in_flight } = connected;
        let server = connection.server();
        let timeouts = self.upstream.shared.spec.timeouts;
        connection.begin();
        let connect = connection.connect_took();
        self.upstream.server_counters(server).add(ServerCounter::Requests, 1);
        let mut out = pool::take(pool::Class::Small);
        self.write_head(&mut out, server);
        let progress = Progress::default();
        let Exchange { body, response, .. } = exchange;
        let Connection { reading, send, .. } = &mut *connection;
        let withheld = response.withheld_names().map(str::to_owned).collect();
        let trailers = TrailerRules { request: self.request, edits: &self.proxy.spec.request_fields, withheld };
        let upload = upload(send, &out, body, self.framing, trailers, timeouts.idle, &progress);
        let mut beside = Beside::new(upload, &progress);
        let mut head = self.local.take_head();
        let kind = request_kind(&self.request);
        let until = self.until;
        let due = || progress.done.get().map_or(until, |done| until.min(done + timeouts.response));
        let read = poll_fn(|cx| {
            if progress.done.get().is_some() {
                self.ending.enter(Phase::Head);
            }
            reading.poll_head(cx, &RESPONSE_LIMITS, kind, &mut head, due())
        });
        if let Err(error) = beside.run(read).await? {
            self.note_error(admission, error);
            return Err(self.fail(error));
        }
        self.ending.enter(Phase::Head);
        self.ending.note_head(server, connect);
        if let Some(done) = progress.done.get() {
            self.upstream.note_latency(server, elapsed(done), clock::turn());
        }
        let admission = self.note_head(admission, &head);
        let relayed = beside.run(self.relay(reading, &mut head, response)).await?;
        drop(beside);
        let whole = self.note_relayed(server, admission, relayed)?;
        let reusable = whole && progress.done.get().is_some() && !progress.refused.get();
        finish(connection, in_flight, reusable);
        self.local.give_head(head);
        Ok(())
    }

    /// Answers the client with what a server began to answer.
    async fn respond(&mut self, answer: Answering, admission: Admission, response: &mut Response<'_>) -> Reply {
        let Answering { mut connection, in_flight, mut head } = answer;
        let server = connection.server();
        self.ending.note_head(server, connection.connect_took());
        if head.status == Status::SWITCHING_PROTOCOLS {
            return self.switch(connection, in_flight, admission, &head, response);
        }
        let admission = self.note_head(admission, &head);
        let relayed = self.relay(&mut connection.reading, &mut head, response).await;
        let whole = self.note_relayed(server, admission, relayed)?;
        finish(connection, in_flight, whole);
        self.local.give_head(head);
        Ok(())
    }

    /// Relays a response whose first head has come: interim ones, then the final one. Whether the connection can go on.
    async fn relay(
        &self,
        reading: &mut Reading,
        head: &mut ResponseHead,
        response: &mut Response<'_>,
    ) -> Result<(bool, Status), RelayError> {
        let timeouts = &self.upstream.shared.spec.timeouts;
        let kind = request_kind(&self.request);
        let mut interim = 0;
        while head.is_interim() {
            if head.status == Status::SWITCHING_PROTOCOLS || interim == INTERIM_RESPONSES_MAX {
                return Err(AttemptError::Upgrade.into());
            }
            interim += 1;
            Box::pin(self.relay_interim(reading, head, response)).await?;
            let until = self.until.min(clock::turn() + timeouts.response);
            poll_fn(|cx| reading.poll_head(cx, &RESPONSE_LIMITS, kind, head, until)).await?;
        }
        let view = head.view(reading.bytes());
        self.write_fields(&view, response)?;
        let length = match (head.framing, head.content_length) {
            (ResponseFraming::Length(length), _) | (ResponseFraming::None, Some(length)) => BodyLength::Known(length),
            (ResponseFraming::None, None) | (ResponseFraming::Chunked | ResponseFraming::UntilClose, _) => {
                BodyLength::Unknown
            }
        };
        let trailers = self.takes_trailers.then(|| TrailerTerms::new(&view));
        response.start(length)?;
        self.ending.enter(Phase::Body);
        reading.consume(head.len);
        let pace = RelayPace { idle: timeouts.idle, until: self.until };
        relay_body(reading, response, head.framing, pace, trailers).await?;
        Ok((head.persistent && !reading.has_leftover(), head.status))
    }

    async fn relay_interim(
        &self,
        reading: &mut Reading,
        head: &ResponseHead,
        response: &mut Response<'_>,
    ) -> Result<(), RelayError> {
        // The client gets its 100 when its body is wanted, from the gateway.
        if head.status.code() != 100 {
            let mut lines = pool::take(pool::Class::Small);
            for (name, value) in forwarded_fields(&head.view(reading.bytes())) {
                encode::write_field(&mut lines, name, value);
            }
            response.interim(head.status, &lines).await?;
        }
        reading.consume(head.len);
        Ok(())
    }

    fn write_fields(&self, view: &ResponseView<'_>, response: &mut Response<'_>) -> Result<(), Failure> {
        response.status(view.status());
        let fields = response.fields();
        let too_large = |_| Failure::Status(Status::BAD_GATEWAY, "the upstream sent too many header fields");
        for (name, value) in forwarded_fields(view) {
            fields.push_parsed(name.as_bytes(), value).map_err(too_large)?;
        }
        if let Some([http10, http11]) = &self.proxy.via {
            // The version is the server's, not the client's (RFC 9110 section 7.6.3).
            let via = if view.version() == Version::Http10 { http10 } else { http11 };
            fields.push_parsed(b"Via", via.as_bytes()).map_err(too_large)?;
        }
        head::edit_response(fields, &self.proxy.spec.response_fields).map_err(too_large)
    }

    fn switch(
        &self,
        mut connection: Box<Connection>,
        in_flight: InFlight,
        admission: Admission,
        head: &ResponseHead,
        response: &mut Response<'_>,
    ) -> Reply {
        let is_asked = self.upgrade.is_some();
        #[cfg(feature = "sim")]
        let is_asked = is_asked || crate::rt::sim::planted(crate::rt::sim::Bug::UnaskedSwitch);
        if !is_asked || !head.upgrade {
            self.note_error(admission, AttemptError::Upgrade);
            return Err(self.fail(AttemptError::Upgrade));
        }
        self.note_status(admission, head.status);
        let mut lines = pool::take(pool::Class::Small);
        let view = head.view(connection.reading.bytes());
        let upgrade = view.header_values("upgrade").map(|protocol| ("Upgrade", protocol));
        for (name, value) in forwarded_fields(&view).chain(upgrade) {
            encode::write_field(&mut lines, name, value);
        }
        connection.reading.consume(head.len);
        let idle = self.upstream.shared.spec.timeouts.idle;
        response
            .switch_protocols(&lines, Box::new(Tunnel { connection, in_flight, ending: self.ending.hand_over(), idle }))
    }

    /// The next server, and the leave to send to it.
    fn admit(&mut self) -> Option<Admission> {
        let now = clock::turn();
        self.attempts += 1;
        let upstream: &'j Rc<LocalUpstream> = self.upstream;
        loop {
            let server = upstream.pick(&self.tried, self.key, now)?;
            self.tried.push(server);
            // Somebody else may have taken the one probe of a server that comes back.
            if let Some(admission) = upstream.shared.standings.admit(server, now) {
                return Some(admission);
            }
        }
    }

    fn note_attempt(&self, server: usize) {
        self.ending.note_attempt(server, self.attempts);
        if self.attempts > 1 {
            self.upstream.server_counters(server).add(ServerCounter::Retries, 1);
        }
    }

    pub(super) fn write_head(&self, out: &mut Vec<u8>, server: usize) {
        self.write_head_to(out, &self.upstream.server(server).name, self.upgrade);
    }

    /// The head of a copy for a server of another upstream. A copy never switches protocols.
    pub(super) fn write_head_for(&self, out: &mut Vec<u8>, server: &str) {
        self.write_head_to(out, server, None);
    }

    fn write_head_to(&self, out: &mut Vec<u8>, server: &str, upgrade: Option<&[u8]>) {
        let (spec, path, framing) = (&self.proxy.spec, self.path, self.framing);
        let trace = self.trace;
        write_request_head(out, &self.request, &Outgoing { spec, path, server, framing, upgrade, trace });
    }

    pub(super) fn kind(&self) -> RequestKind {
        request_kind(&self.request)
    }

    /// The leave to ask one more server beside the first, where there is one and the budget allows it.
    pub(super) fn admit_hedge(&mut self) -> Option<Admission> {
        let other = (self.has_another() && self.may_retry()).then(|| self.admit()).flatten()?;
        self.ending.note_attempt(other.server(), self.attempts);
        Some(other)
    }

    pub(super) fn held<'h>(&self, head: &'h [u8], body: &'h [u8]) -> Held<'h>
    where
        'j: 'h,
    {
        let (kind, may_repeat) = (request_kind(&self.request), self.may_repeat());
        Held { head, body, kind, may_repeat, was_stale: self.was_stale }
    }

    /// Whether a second sending does no harm (RFC 9110 section 9.2.2).
    fn may_repeat(&self) -> bool {
        #[cfg(feature = "sim")]
        if crate::rt::sim::planted(crate::rt::sim::Bug::PostAgain) {
            return true;
        }
        self.upgrade.is_none()
            && matches!(
                self.request.method(),
                Method::Get | Method::Head | Method::Put | Method::Delete | Method::Options | Method::Trace
            )
    }

    /// When a second server is asked beside the first.
    fn hedge_after(&self) -> Option<std::time::Duration> {
        self.upstream.shared.spec.hedge_after.filter(|_| self.may_repeat())
    }

    /// Whether one more attempt is allowed.
    fn may_retry(&self) -> bool {
        let now = clock::turn();
        if self.attempts >= self.upstream.shared.spec.retry.attempts.min(ATTEMPTS_MAX) || now >= self.until {
            return false;
        }
        let allowed = self.upstream.budget.borrow_mut().try_retry(now);
        if !allowed {
            self.upstream.counters.add(UpstreamCounter::BudgetExhausted, 1);
        }
        allowed
    }

    /// Whether the answer is given up for another attempt, which is allowed then.
    fn is_retried_status(&self, answer: &Answering) -> bool {
        let retry = &self.upstream.shared.spec.retry;
        self.may_repeat()
            && self.attempts < retry.attempts
            && retry.statuses.contains(&answer.head.status.code())
            && self.has_another()
            && self.may_retry()
    }

    /// Whether there is a server left for one more attempt: the answer in hand is better than none.
    fn has_another(&self) -> bool {
        self.upstream.pick(&self.tried, self.key, clock::turn()).is_some()
    }
}

/// Keeps a connection whose exchange ended cleanly, closes any other.
fn finish(connection: Box<Connection>, in_flight: InFlight, reusable: bool) {
    drop(in_flight);
    if reusable {
        connection.release();
    }
}

/// Whether the client says that it keeps trailers (RFC 9110 section 6.5.1).
fn takes_trailers(request: &Request<'_>) -> bool {
    #[cfg(feature = "sim")]
    if crate::rt::sim::planted(crate::rt::sim::Bug::UnaskedTrailers) {
        return true;
    }
    request.header_values("te").flat_map(list_members).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
}

fn request_kind(request: &Request<'_>) -> RequestKind {
    if request.method() == Method::Head { RequestKind::Head } else { RequestKind::Other }
}
