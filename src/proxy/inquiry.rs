//! A short question to an upstream, beside a request: over its pooled connections, with its retries and under its protection.
//! The answer is wanted whole, so it is short or given up.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use super::ask::{Answering, Held, RESPONSE_LIMITS, ask};
use super::collect::{CollectError, Collector};
use super::counters::{ServerCounter, UpstreamCounter};
use super::failure::AttemptError;
use super::head::forwarded_fields;
use super::local::{Local, LocalUpstream};
use super::standing::{Admission, FailureKind};
use super::termination::{Ending, Phase, Termination};
use super::upstream::Upstream;
use crate::clock::{self, Moment};
use crate::handler::Context;
use crate::http::{Fields, RequestKind, Status, StatusClass, encode};
use crate::limits::{ATTEMPTS_MAX, INTERIM_RESPONSES_MAX};
use crate::pool;

/// What is asked.
pub struct Question<'q> {
    /// The method.
    pub method: &'q str,
    /// Path and query.
    pub target: &'q str,
    /// `Host`; the server's name where it is `None`.
    pub host: Option<&'q str>,
    /// The other fields; none of the framing.
    pub fields: &'q Fields,
    /// The body; it may be empty.
    pub body: &'q [u8],
    /// A server that gets it twice does the same as one that gets it once.
    pub may_repeat: bool,
    /// How long all of it may take.
    pub within: Duration,
    /// Bytes of the answer's body.
    pub body_max: usize,
}

/// What was answered.
#[derive(Debug)]
pub struct Told {
    /// The status; never an interim one.
    pub status: Status,
    /// The fields that were wanted.
    pub fields: Fields,
    /// The body.
    pub body: Vec<u8>,
    /// The trailers behind it, those that may be forwarded.
    pub trailers: Fields,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum InquiryError {
    /// It was asked on a core that has no connections.
    NoWorker,
    /// No server of the upstream is available.
    Unavailable,
    /// The last attempt failed, for this reason.
    Failed(String),
    /// The answer is longer than it may be.
    TooLarge,
}

impl fmt::Display for InquiryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoWorker => f.write_str("this core asks no upstreams"),
            Self::Unavailable => f.write_str("no server of the upstream is available"),
            Self::Failed(reason) => f.write_str(reason),
            Self::TooLarge => f.write_str("the upstream's answer is too long"),
        }
    }
}

impl Question<'_> {
    fn write(&self, out: &mut Vec<u8>, server: &str) {
        for part in [self.method, " ", self.target, " HTTP/1.1\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        let host = self.host.unwrap_or(server);
        encode::write_field(out, "Host", if host.starts_with("unix:") { "" } else { host });
        self.fields.write_to(out);
        if !self.body.is_empty() || !matches!(self.method, "GET" | "HEAD") {
            // RFC 9110 section 8.6: servers expect a length with methods that mostly have a body.
            encode::write_content_length(out, self.body.len() as u64);
        }
        out.extend_from_slice(b"\r\n");
    }

    fn kind(&self) -> RequestKind {
        if self.method == "HEAD" { RequestKind::Head } else { RequestKind::Other }
    }
}

/// Asks an upstream; of the answer's fields, those that `wanted` wants are kept.
///
/// # Errors
/// See [`InquiryError`].
pub async fn inquire(
    context: &Context,
    upstream: &Arc<Upstream>,
    question: &Question<'_>,
    wanted: impl Fn(&str) -> bool,
) -> Result<Told, InquiryError> {
    let local: &Local = context.get().ok_or(InquiryError::NoWorker)?;
    let upstream = local.upstream(upstream);
    let now = clock::turn();
    upstream.budget.borrow_mut().note_request(now);
    let ending = Ending::new(&upstream, now, None);
    ending.enter(Phase::Head);
    let until = now + question.within.min(upstream.shared.spec.timeouts.total);
    let was_stale = Cell::new(false);
    let mut head = pool::take(pool::Class::Small);
    let mut tried = SmallVec::<[usize; 4]>::new();
    let mut last = None;
    loop {
        let Some(admission) = admit(&upstream, &mut tried) else {
            return Err(nobody(&upstream, &ending, last));
        };
        let server = admission.server();
        if tried.len() > 1 {
            upstream.server_counters(server).add(ServerCounter::Retries, 1);
        }
        head.clear();
        question.write(&mut head, &upstream.server(server).name);
        let held = Held {
            head: &head,
            body: question.body,
            kind: question.kind(),
            may_repeat: question.may_repeat,
            was_stale: &was_stale,
        };
        let error = match ask(local, &upstream, server, &held, until).await {
            Ok(answer) => {
                let told = take_answer(&upstream, answer, admission, question, until, &wanted).await;
                return conclude(&ending, told);
            }
            Err(error) => error,
        };
        note_error(&upstream, admission, error);
        let is_safe = question.may_repeat || error.is_before_sending();
        if !is_safe || !may_retry(&upstream, tried.len() as u32, until) {
            return Err(failed(&ending, error));
        }
        last = Some(error);
    }
}

/// The next server that was not asked, and the leave to ask it.
fn admit(upstream: &Rc<LocalUpstream>, tried: &mut SmallVec<[usize; 4]>) -> Option<Admission> {
    let now = clock::turn();
    loop {
        let server = upstream.pick(tried, None, now)?;
        tried.push(server);
        if let Some(admission) = upstream.shared.standings.admit(server, now) {
            return Some(admission);
        }
    }
}

fn may_retry(upstream: &LocalUpstream, attempts: u32, until: Moment) -> bool {
    let now = clock::turn();
    if attempts >= upstream.shared.spec.retry.attempts.min(ATTEMPTS_MAX) || now >= until {
        return false;
    }
    let allowed = upstream.budget.borrow_mut().try_retry(now);
    if !allowed {
        upstream.counters.add(UpstreamCounter::BudgetExhausted, 1);
    }
    allowed
}

fn nobody(upstream: &LocalUpstream, ending: &Ending, last: Option<AttemptError>) -> InquiryError {
    match last {
        Some(error) => failed(ending, error),
        None => {
            upstream.counters.add(UpstreamCounter::Unavailable, 1);
            ending.end(Termination::GatewayUnavailable);
            InquiryError::Unavailable
        }
    }
}

fn failed(ending: &Ending, error: AttemptError) -> InquiryError {
    ending.end(Termination::of_error(error, ending.phase()));
    InquiryError::Failed(error.to_string())
}

fn note_error(upstream: &LocalUpstream, admission: Admission, error: AttemptError) {
    if let Some(counter) = error.counter() {
        upstream.server_counters(admission.server()).add(counter, 1);
    }
    if let Some(kind) = error.kind() {
        upstream.shared.standings.note_failure(admission, kind, clock::turn());
    }
}

/// What became of an answer whose head began to come.
enum Taken {
    Whole(Told),
    TooLarge,
    Broken(AttemptError),
}

fn conclude(ending: &Ending, taken: Taken) -> Result<Told, InquiryError> {
    match taken {
        Taken::Whole(told) => {
            ending.end(Termination::Done);
            Ok(told)
        }
        Taken::TooLarge => {
            ending.end(Termination::ServerInvalidHead);
            Err(InquiryError::TooLarge)
        }
        Taken::Broken(error) => Err(failed(ending, error)),
    }
}

/// Reads the rest of an answer; its connection goes back where it can carry another request.
async fn take_answer(
    upstream: &LocalUpstream,
    answer: Answering,
    admission: Admission,
    question: &Question<'_>,
    until: Moment,
    wanted: &impl Fn(&str) -> bool,
) -> Taken {
    let Answering { mut connection, in_flight, mut head } = answer;
    let mut interim = 0;
    while head.is_interim() {
        if head.status == Status::SWITCHING_PROTOCOLS || interim == INTERIM_RESPONSES_MAX {
            note_error(upstream, admission, AttemptError::Upgrade);
            return Taken::Broken(AttemptError::Upgrade);
        }
        interim += 1;
        let reading = &mut connection.reading;
        reading.consume(head.len);
        let next = poll_fn(|cx| reading.poll_head(cx, &RESPONSE_LIMITS, question.kind(), &mut head, until)).await;
        if let Err(error) = next {
            note_error(upstream, admission, error);
            return Taken::Broken(error);
        }
    }
    note_status(upstream, admission, head.status);
    let reading = &mut connection.reading;
    let mut told = Told { status: head.status, fields: Fields::new(), body: Vec::new(), trailers: Fields::new() };
    for (name, value) in forwarded_fields(&head.view(reading.bytes())).filter(|(name, _)| wanted(name)) {
        if told.fields.push_parsed(name.as_bytes(), value).is_err() {
            return Taken::TooLarge;
        }
    }
    reading.consume(head.len);
    let Ok(mut body) = Collector::new(head.framing, question.body_max) else { return Taken::TooLarge };
    loop {
        match body.push(reading.bytes()) {
            Ok(used) => reading.consume(used),
            Err(CollectError::Chunk(error)) => return Taken::Broken(AttemptError::Chunk(error)),
            Err(CollectError::TooLarge | CollectError::Cut) => return Taken::TooLarge,
        }
        if body.is_whole() {
            break;
        }
        match poll_fn(|cx| reading.poll_more(cx, until)).await {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => return Taken::Broken(error),
        }
    }
    let is_whole = body.is_whole();
    told.trailers = body.take_trailers();
    let Ok(body) = body.finish() else { return Taken::Broken(AttemptError::BodyCut) };
    told.body = body;
    drop(in_flight);
    if is_whole && head.persistent && !connection.reading.has_leftover() {
        connection.release();
    }
    Taken::Whole(told)
}

/// The head says what the server is worth.
fn note_status(upstream: &LocalUpstream, admission: Admission, status: Status) {
    let counters = upstream.server_counters(admission.server());
    let standings = &upstream.shared.standings;
    if status.class() == StatusClass::ServerError {
        counters.add(ServerCounter::Status5xx, 1);
        standings.note_failure(admission, FailureKind::Status5xx, clock::turn());
    } else {
        counters.add(ServerCounter::Passed, 1);
        standings.note_success(admission, clock::turn());
    }
}
