//! Runs a handler without a server: a request as bytes in, the response's parts out.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::{Answer, Body, Exchange, Failure, Handler, Outcome, Pace};
use super::{Request, RequestId, Response, Sink, Terms};
use crate::http::{EncodedSlash, Fields, Head, HeadLimits, Method, MethodSet, Parse, parse_head_with};
use crate::router::{Lookup, Predicates, RouteSpec, RouterBuf, Spans};
use crate::rt;

/// What a client gets.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) status: u16,
    /// Names in lower case.
    pub(super) fields: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    pub(super) outcome: Outcome,
    pub(super) failure: Option<Failure>,
}

impl Answered {
    #[track_caller]
    fn parse(bytes: &[u8], outcome: Outcome, failure: Option<Failure>) -> Self {
        let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a whole head");
        let head = str::from_utf8(&bytes[..end]).unwrap();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap()[9..12].parse().unwrap();
        let fields = lines.map(|line| line.split_once(": ").unwrap());
        let fields = fields.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
        Self { status, fields, body: bytes[end + 4..].to_vec(), outcome, failure }
    }

    /// The only field of this name.
    #[track_caller]
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let mut values = self.fields.iter().filter(|(own, _)| own == name).map(|(_, value)| value.as_str());
        let value = values.next();
        assert!(values.next().is_none(), "{name} twice: {:?}", self.fields);
        value
    }

    pub(super) fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }
}

/// Takes what is sent, `most` bytes at a time.
struct Collector {
    bytes: Vec<u8>,
    most: usize,
}

impl Sink for Collector {
    fn poll_send(&mut self, _: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut taken = 0;
        for slice in slices {
            let part = &slice[..slice.len().min(self.most - taken)];
            self.bytes.extend_from_slice(part);
            taken += part.len();
        }
        Poll::Ready(Ok(taken))
    }
}

/// A whole request head: `GET /a HTTP/1.1`, `Host` and these lines.
pub(super) fn get(path: &str, lines: &[&str]) -> String {
    request("GET", path, lines)
}

/// A whole request head.
pub(super) fn request(method: &str, path: &str, lines: &[&str]) -> String {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: test\r\n");
    for line in lines {
        text.push_str(line);
        text.push_str("\r\n");
    }
    text + "\r\n"
}

/// The parsed head of `raw`; `%2F` is let through, for handlers must hold without the parser's help.
#[track_caller]
pub(super) fn parse(raw: &str) -> Head {
    let mut head = Head::new();
    let limits = HeadLimits { head: 64 * 1024, headers: 100, target: 60 * 1024 };
    let parsed = parse_head_with(raw.as_bytes(), &limits, EncodedSlash::Allow, &mut head);
    assert_eq!(parsed, Ok(Parse::Complete), "{raw}");
    head
}

/// What `handler` on a route of `pattern` answers to `raw`.
#[track_caller]
pub(super) fn ask(handler: &dyn Handler, pattern: &str, raw: &str) -> Answered {
    ask_slowly(handler, pattern, raw, usize::MAX)
}

/// [`ask`] by a client that takes `most` bytes at a time.
#[track_caller]
pub(super) fn ask_slowly(handler: &dyn Handler, pattern: &str, raw: &str, most: usize) -> Answered {
    let work = exchange(handler, pattern, raw, most);
    let (bytes, outcome, failure) = match handler.pace() {
        // Without an executor: what answers at once needs none.
        Pace::Immediate => match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(answered) => answered,
            Poll::Pending => panic!("an immediate handler took its time"),
        },
        Pace::Suspending => {
            let options = rt::Options { driver: rt::DriverChoice::Epoll, ring_entries: 64, ..rt::Options::default() };
            rt::run(&options, |_| work).unwrap()
        }
    };
    Answered::parse(&bytes, outcome, failure)
}

/// Does what a connection does around a handler.
async fn exchange(handler: &dyn Handler, pattern: &str, raw: &str, most: usize) -> (Vec<u8>, Outcome, Option<Failure>) {
    let head = parse(raw);
    let view = head.view(raw.as_bytes());
    let spec = RouteSpec { host: None, pattern, methods: MethodSet::EMPTY, predicates: Predicates::NONE };
    let router = RouterBuf::build(&[spec]).unwrap();
    let mut spans = Spans::NONE;
    let Lookup::Found(found) = router.lookup(None, view.path_bytes(), view.method(), &mut spans) else {
        panic!("{pattern} does not take {}", view.path())
    };
    let (mut out, mut fields, mut no_body, body) =
        (Vec::new(), Fields::new(), super::NoBody, super::BodyState::default());
    let mut sink = Collector { bytes: Vec::new(), most };
    let terms = Terms {
        version: view.version(),
        head_only: view.method() == Method::Head,
        persistent: true,
        server: b"",
        id: RequestId::made(7),
        id_field: None,
        body: &body,
        draining: &Cell::new(None),
    };
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let (outcome, failure) = {
        let mut exchange = Exchange {
            request: Request { head: view, params: found.params(&spans), peer, id: RequestId::made(7) },
            body: Body::new(&mut no_body),
            response: Response::new(&mut out, &mut fields, &mut sink, terms),
            context: &super::Context::default(),
            notes: None,
            edited: None,
        };
        let reply = match handler.handle(&mut exchange) {
            Answer::Now(reply) => reply,
            Answer::Later(answering) => answering.await,
        };
        let failure = reply.err();
        match failure.as_ref().map(Failure::answer) {
            None => (exchange.response.finish(), failure),
            Some(Some((status, detail))) if exchange.response.restart(0) => {
                exchange.response.problem(status, detail).unwrap();
                (exchange.response.finish(), failure)
            }
            Some(_) => (Outcome::Cut(exchange.response.current_status()), failure),
        }
    };
    sink.bytes.extend_from_slice(&out);
    (sink.bytes, outcome, failure)
}
