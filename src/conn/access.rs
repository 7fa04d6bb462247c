//! The access log's side of a connection: what is kept of a request until its response is sent, and the line that is made of
//! it then.
//!
//! When a response is sent, its request's bytes are gone. So what the line will say is copied when the request is answered,
//! into storage that the batch reuses. Nothing here runs while the access log is off.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::net::SocketAddr;
use std::ops::Range;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use super::core::Core;
use super::observe::Observing;
use crate::clock;
use crate::handler::Told;
use crate::handler::{BodyError, Failure, Notes, RequestId, RouteIndex, Routes, Trace};
use crate::http::{RequestHead, Status, Version};
use crate::limits::{ACCESS_BUFFER_KEPT_BYTES, ACCESS_HAND_OVER_MS, ACCESS_TEXT_BYTES_MAX, METHOD_BYTES_MAX};
use crate::log::access::{Field, Forwarded, Lane, Record, Spec};
use crate::metrics::Counter;
use crate::rt::Deadline;

// How requests end that are not forwarded, in the letters of those that are (`proxy::Termination`).

/// The client has the whole response.
pub(super) const DONE: &str = "--";
/// The client's head or body came too slowly.
pub(super) const CLIENT_TIMEOUT: &str = "CQ-timeout";
/// Its head or body breaks the rules.
pub(super) const CLIENT_INVALID: &str = "CQ-invalid";
/// Its head or body is larger than allowed.
pub(super) const CLIENT_TOO_LARGE: &str = "CQ-too_large";
const CLIENT_GONE_IN_REQUEST: &str = "CQ-gone";
/// The client left before there was an answer; or the server was stopped.
pub(super) const CLIENT_GONE_BEFORE_HEAD: &str = "CH-gone";
const CLIENT_GONE_IN_BODY: &str = "CB-gone";
const TUNNEL_DONE: &str = "-T";
/// The handler failed.
pub(super) const INTERNAL: &str = "GH-internal";

/// The code of a request whose handler ended so; `is_open`: nothing was answered before.
pub(super) fn code_of(failure: &Failure, is_open: bool) -> &'static str {
    match failure {
        Failure::Status(..) => DONE,
        Failure::Body(BodyError::Malformed(_) | BodyError::Undecodable) => CLIENT_INVALID,
        Failure::Body(BodyError::TooLarge) => CLIENT_TOO_LARGE,
        Failure::Body(BodyError::Timeout) => CLIENT_TIMEOUT,
        Failure::Body(BodyError::Gone) => CLIENT_GONE_IN_REQUEST,
        Failure::Gone if is_open => CLIENT_GONE_BEFORE_HEAD,
        Failure::Gone => CLIENT_GONE_IN_BODY,
        Failure::Internal(_) => INTERNAL,
    }
}

/// How the log calls a route.
pub(super) fn route_label(routes: &Routes, index: RouteIndex) -> Option<&str> {
    routes.names().get(index.get()).map(|name| name.label.as_str())
}

/// What was understood of a request, as far as the log wants it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Understood<'r> {
    method: Option<&'r [u8]>,
    path: Option<&'r [u8]>,
    query: Option<&'r [u8]>,
    host: Option<&'r [u8]>,
    protocol: Option<&'static str>,
    user_agent: Option<&'r [u8]>,
    referer: Option<&'r [u8]>,
}

impl<'r> Understood<'r> {
    pub(super) fn of(head: &RequestHead<'r>, spec: &Spec) -> Self {
        let raw_path = head.raw_path().as_bytes();
        let path = if raw_path.is_empty() { head.path_bytes() } else { raw_path };
        Self {
            method: Some(head.method_str().as_bytes()),
            path: Some(path).filter(|path| !path.is_empty()),
            query: head.query().map(str::as_bytes),
            host: head.authority().map(str::as_bytes),
            protocol: Some(match head.version() {
                Version::Http10 => "HTTP/1.0",
                Version::Http11 => "HTTP/1.1",
            }),
            user_agent: spec.has(Field::UserAgent).then(|| head.header("user-agent")).flatten(),
            referer: spec.has(Field::Referer).then(|| head.header("referer")).flatten(),
        }
    }

    /// Of a head that could not be parsed, or has not come whole: method and path, where the first line looks as if it had them.
    /// Nothing else of it, for it may be anything, also a password.
    pub(super) fn of_refused(bytes: &'r [u8]) -> Self {
        let line = bytes.split(|b| matches!(b, b'\r' | b'\n')).find(|line| !line.is_empty()).unwrap_or_default();
        let mut words = line.split(|b| *b == b' ');
        let is_method =
            |word: &&[u8]| (1..=METHOD_BYTES_MAX).contains(&word.len()) && word.iter().all(u8::is_ascii_uppercase);
        let Some(method) = words.next().filter(is_method) else { return Self::default() };
        let target = words.next().filter(|target| target.first() == Some(&b'/'));
        let end = |target: &[u8]| target.iter().position(|b| *b == b'?').unwrap_or(target.len());
        Self {
            method: Some(method),
            path: target.map(|target| &target[..end(target)]),
            query: target.and_then(|target| target.get(end(target) + 1..)),
            ..Self::default()
        }
    }
}

/// What became of it.
pub(super) struct Answered<'r> {
    id: RequestId<'r>,
    status: Status,
    code: &'static str,
    pub(super) route: Option<&'r str>,
    pub(super) request_bytes: u64,
    /// Bytes of the response that are sent already.
    pub(super) sent: u64,
    /// Those that wait to be sent, in the batch's output.
    pub(super) out: Range<usize>,
    pub(super) trace: Option<Trace>,
    pub(super) notes: Option<&'r Notes>,
}

impl<'r> Answered<'r> {
    pub(super) fn new(id: RequestId<'r>, status: Status, code: &'static str) -> Self {
        Self { id, status, code, route: None, request_bytes: 0, sent: 0, out: 0..0, trace: None, notes: None }
    }
}

/// A text in [`Pending`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    start: u32,
    /// `u32::MAX`: there is no text.
    len: u32,
}

impl Piece {
    const NONE: Piece = Piece { start: 0, len: u32::MAX };

    fn of(self, text: &[u8]) -> Option<&[u8]> {
        let (start, len) = (self.start as usize, self.len as usize);
        (self != Self::NONE).then(|| text.get(start..start + len)).flatten()
    }
}

/// One request until its line is written.
#[derive(Debug)]
struct Entry {
    number: u64,
    id: Piece,
    method: Piece,
    path: Piece,
    query: Piece,
    host: Piece,
    user_agent: Piece,
    referer: Piece,
    route: Piece,
    upstream: Piece,
    server: Piece,
    protocol: Option<&'static str>,
    status: Status,
    code: &'static str,
    request_bytes: u64,
    sent: u64,
    out: Range<usize>,
    trace: Option<[u8; 16]>,
    told: Told,
}

impl Entry {
    /// What a tunnel moved, and how it ended.
    fn add_tunnel(&mut self, told: &Told) {
        let (from_client, to_client) = told.tunnel;
        self.told = *told;
        self.code = told.termination.unwrap_or(CLIENT_GONE_IN_BODY);
        self.request_bytes += from_client;
        self.sent += to_client;
    }

    /// Once `taken` bytes of the batch's output were sent.
    fn settle(&mut self, taken: usize) {
        let delivered = taken.clamp(self.out.start, self.out.end) - self.out.start;
        if delivered < self.out.len() && self.code == DONE {
            self.code = CLIENT_GONE_IN_BODY;
        }
        self.sent += delivered as u64;
        self.out = 0..0;
    }

    fn has_failed(&self) -> bool {
        self.status.code() >= 400 || (self.code != DONE && self.code != TUNNEL_DONE)
    }

    fn record<'a>(&self, text: &'a [u8], peer: SocketAddr, time: Duration, duration: Duration) -> Record<'a> {
        Record {
            time,
            id: self.id.of(text).unwrap_or_default(),
            peer,
            method: self.method.of(text),
            path: self.path.of(text),
            query: self.query.of(text),
            host: self.host.of(text),
            protocol: self.protocol,
            status: self.status.code(),
            request_bytes: self.request_bytes,
            response_bytes: self.sent,
            duration,
            route: self.route.of(text),
            user_agent: self.user_agent.of(text),
            referer: self.referer.of(text),
            forwarded: self.upstream.of(text).map(|upstream| Forwarded {
                upstream,
                server: self.server.of(text),
                attempts: self.told.attempts,
                connect: self.told.connect,
                head: self.told.head,
                total: self.told.total,
            }),
            termination: self.code,
            trace: self.trace,
        }
    }
}

/// The answered requests of a batch whose lines are not written yet. Once grown, it allocates no more.
#[derive(Debug, Default)]
pub(super) struct Pending {
    entries: Vec<Entry>,
    text: Vec<u8>,
    under_way: UnderWay,
}

/// What is not answered yet, or not ended.
#[derive(Debug, Default)]
enum UnderWay {
    #[default]
    Nothing,
    /// A request whose handler takes its time.
    Request,
    /// A tunnel; its texts stay.
    Tunnel(Box<Entry>),
}

impl Pending {
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A request is being answered, which is logged whatever becomes of it.
    pub(super) fn open(&mut self, is_logged: bool) {
        if is_logged {
            self.under_way = UnderWay::Request;
        }
    }

    /// Whether a request was opened and nothing has become of it.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.under_way, UnderWay::Request)
    }

    /// Adds a request that was answered.
    pub(super) fn add(&mut self, spec: &Spec, understood: &Understood<'_>, answered: &Answered<'_>) {
        let text = &mut self.text;
        let mut keep = |field: Field, value: Option<&[u8]>| match value {
            Some(value) if spec.has(field) => copy(text, value),
            Some(_) | None => Piece::NONE,
        };
        let told = answered.notes.map(Notes::told).unwrap_or_default();
        let origin = answered.notes.and_then(Notes::origin);
        let upstream = origin.as_ref().map(|origin| origin.upstream().as_bytes());
        let server = origin.as_ref().zip(told.server).map(|(origin, index)| origin.server(index).as_bytes());
        let entry = Entry {
            number: answered.id.number(),
            id: keep(Field::Id, Some(answered.id.text(&mut [0; 16]).as_bytes())),
            method: keep(Field::Method, understood.method),
            path: keep(Field::Path, understood.path),
            query: keep(Field::Query, understood.query),
            host: keep(Field::Host, understood.host),
            user_agent: keep(Field::UserAgent, understood.user_agent),
            referer: keep(Field::Referer, understood.referer),
            route: keep(Field::Route, answered.route.map(str::as_bytes)),
            // Always: it says that the request was forwarded.
            upstream: upstream.map_or(Piece::NONE, |upstream| copy(&mut self.text, upstream)),
            server: server.map_or(Piece::NONE, |server| copy(&mut self.text, server)),
            protocol: understood.protocol,
            status: answered.status,
            code: told.termination.unwrap_or(answered.code),
            request_bytes: answered.request_bytes,
            sent: answered.sent,
            out: answered.out.clone(),
            trace: answered.trace.map(|trace| trace.id),
            told,
        };
        self.entries.push(entry);
        self.under_way = UnderWay::Nothing;
    }

    /// The last request becomes a tunnel: its line has to wait.
    pub(super) fn hold(&mut self) {
        if let Some(mut held) = self.entries.pop() {
            // The 101 is sent before anything else, or nothing is.
            held.settle(usize::MAX);
            self.under_way = UnderWay::Tunnel(Box::new(held));
        }
    }

    /// The tunnel has ended: whether there was one.
    pub(super) fn put_back(&mut self, told: &Told) -> bool {
        match std::mem::take(&mut self.under_way) {
            UnderWay::Tunnel(mut held) => {
                held.add_tunnel(told);
                self.entries.push(*held);
                true
            }
            other => {
                self.under_way = other;
                false
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.entries.clear();
        self.text.clear();
        self.under_way = UnderWay::Nothing;
        if self.text.capacity() > ACCESS_BUFFER_KEPT_BYTES {
            self.text = Vec::new();
        }
    }
}

/// Copies a text, or as much of it as may be.
fn copy(text: &mut Vec<u8>, value: &[u8]) -> Piece {
    const CUT: &str = "…";
    let start = text.len();
    let whole = value.len().min(ACCESS_TEXT_BYTES_MAX);
    text.extend_from_slice(&value[..whole]);
    if whole < value.len() {
        text.extend_from_slice(CUT.as_bytes());
    }
    Piece { start: start as u32, len: (text.len() - start) as u32 }
}

/// Where a core's lines go.
pub(super) struct Access {
    lane: RefCell<Lane>,
    /// Who hands over what waits, when there is something.
    waiting: Cell<Option<Waker>>,
}

impl Core {
    /// Has the core's lines go there. Without it, the core has no access log whatever its settings say.
    pub fn attach_access_log(&self, lane: Lane) {
        // The first one stays.
        let _ = self.access.set(Access { lane: RefCell::new(lane), waiting: Cell::new(None) });
    }

    /// What the access log wants; `None` while it is off.
    #[inline]
    pub(super) fn access_spec<'o>(&self, observing: &'o Observing) -> Option<&'o Spec> {
        let spec = &observing.access;
        (spec.is_on() && self.access.get().is_some()).then_some(spec)
    }

    /// Makes the lines of requests of one connection, and has them handed over in a while; of the batch's output, `taken` bytes
    /// were sent.
    pub(super) fn log_access(&self, peer: SocketAddr, pending: &mut Pending, taken: usize, took: Duration) {
        self.write_lines(peer, pending, taken, took);
        if let Some(access) = self.access.get()
            && !access.lane.borrow().is_empty()
            && let Some(waiting) = access.waiting.take()
        {
            waiting.wake();
        }
    }

    /// The same without the handing over: for when there may be nobody left to wake.
    pub(super) fn write_lines(&self, peer: SocketAddr, pending: &mut Pending, taken: usize, took: Duration) {
        let Some(access) = self.access.get() else { return };
        let serving = self.serving();
        let spec = &serving.settings.observing.access;
        let time = clock::wall();
        let mut lane = access.lane.borrow_mut();
        for entry in &mut pending.entries {
            entry.settle(taken);
            if spec.which().takes(entry.has_failed(), entry.number) {
                lane.push(spec, &entry.record(&pending.text, peer, time, took));
            }
        }
        pending.clear();
    }

    /// Hands over the lines that wait, and counts those that were lost; to be called every second or so, and at the end.
    pub fn settle_access_log(&self) {
        let Some(access) = self.access.get() else { return };
        let mut lane = access.lane.borrow_mut();
        lane.hand_over();
        let (dropped, unwritten) = (lane.take_dropped(), lane.take_unwritten());
        if dropped > 0 {
            self.metrics.add(Counter::AccessLinesDropped, dropped);
        }
        if unwritten > 0 {
            self.metrics.add(Counter::AccessLinesUnwritten, unwritten);
        }
    }
}

/// Hands a core's lines over a moment after the first of them was made, for ever.
pub async fn hand_over_access_log(core: Rc<Core>) {
    let Some(access) = core.access.get() else { return };
    let deadline = Deadline::new();
    loop {
        poll_fn(|cx| {
            if !access.lane.borrow().is_empty() {
                return Poll::Ready(());
            }
            access.waiting.set(Some(cx.waker().clone()));
            Poll::Pending
        })
        .await;
        deadline.set(clock::turn() + Duration::from_millis(ACCESS_HAND_OVER_MS));
        poll_fn(|cx| deadline.poll_due(cx)).await;
        core.settle_access_log();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bytes: &[u8]) -> [Option<&[u8]>; 3] {
        let Understood { method, path, query, .. } = Understood::of_refused(bytes);
        [method, path, query]
    }

    #[test]
    fn of_a_refused_head_only_its_first_line_is_understood_and_only_where_it_looks_like_one() {
        let some = |text: &'static str| Some(text.as_bytes());
        for (bytes, understood) in [
            (&b"GET /a?b=c HTTP/1.1\r\nHost : x\r\n"[..], [some("GET"), some("/a"), some("b=c")]),
            (b"\r\nPOST /a", [some("POST"), some("/a"), None]),
            (b"GET /a\xff\x00\"b HTTP/9", [some("GET"), Some(b"/a\xff\x00\"b"), None]),
            (b"GET http://me:secret@x/ HTTP/1.1\r\n", [some("GET"), None, None]),
            (b"GET", [some("GET"), None, None]),
            (b"Authorization: Bearer secret\r\nGET / HTTP/1.1\r\n", [None, None, None]),
            (b"secret\r\n", [None, None, None]),
            (b"", [None, None, None]),
        ] {
            assert_eq!(refused(bytes), understood, "{}", bytes.escape_ascii());
        }
    }

    /// A batch of three responses of ten bytes, of which the socket took so many.
    fn delivered(taken: usize) -> Vec<(u64, &'static str)> {
        let (spec, mut pending) = (Spec::default(), Pending::default());
        for at in 0..3 {
            let mut answered = Answered::new(RequestId::made(at), Status::OK, DONE);
            answered.out = 10 * at as usize..10 * at as usize + 10;
            pending.add(&spec, &Understood::default(), &answered);
        }
        pending.entries.iter_mut().for_each(|entry| entry.settle(taken));
        pending.entries.iter().map(|entry| (entry.sent, entry.code)).collect()
    }

    #[test]
    fn a_client_that_did_not_take_its_response_is_told_from_one_that_did() {
        assert_eq!(delivered(30), [(10, "--"), (10, "--"), (10, "--")]);
        assert_eq!(delivered(20), [(10, "--"), (10, "--"), (0, "CB-gone")]);
        assert_eq!(delivered(13), [(10, "--"), (3, "CB-gone"), (0, "CB-gone")]);
        assert_eq!(delivered(0), [(0, "CB-gone"), (0, "CB-gone"), (0, "CB-gone")]);
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_and_says_so() {
        let mut text = b"before".to_vec();
        let long = vec![b'a'; 3 * ACCESS_TEXT_BYTES_MAX];
        let piece = copy(&mut text, &long);
        let kept = str::from_utf8(piece.of(&text).unwrap()).unwrap();
        assert_eq!(kept, format!("{}…", "a".repeat(ACCESS_TEXT_BYTES_MAX)));
        assert_eq!(copy(&mut text, b"").of(&text), Some(&b""[..]));
        assert_eq!(Piece::NONE.of(&text), None);
    }
}
