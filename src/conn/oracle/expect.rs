//! What a script's connection must answer: the client's bytes read as one piece, request by request.
//!
//! Only the sans-I/O parts are used: [`parse_head`] and the chunked decoder, each of which has a fuzz target of its own.
//! Responses are written out as text, not with the encoder.

use std::time::Duration;

use super::app::{self, Resource};
use super::script::{Act, Ending, LONG, Script};
use crate::conn::Settings;
use crate::http::oracle::decode_chunked;
use crate::http::target::TargetForm;
use crate::http::{BodyFraming, ChunkError, ChunkStep, Head, Method, Parse, RequestHead, Status, Version, parse_head};
use crate::limits::DISCARD_BYTES_MAX;

/// Stands for a byte that differs from run to run: of a date, of a request's number.
pub(super) const ANY_BYTE: u8 = 0;

/// Whether a response says `Connection: close`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Close {
    No,
    Yes,
    /// It depends on the moment.
    Either,
}

impl Close {
    const fn when(closes: bool) -> Self {
        if closes { Self::Yes } else { Self::No }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// No body, and no word of one.
    None,
    Length(usize),
    /// Where chunks begin depends on how the request came.
    Chunked,
    ToEnd,
}

/// How much of a body is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    Whole,
    /// None: the request was HEAD.
    HeadOnly,
    /// All of `Reply::body`, and then the connection is cut.
    Cut,
    /// Some of it, and then the connection is cut.
    CutAnywhere,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) status: Status,
    pub(super) version: Version,
    /// The lines that are the application's.
    pub(super) fields: String,
    pub(super) framing: Framing,
    pub(super) close: Close,
    pub(super) body: Vec<u8>,
    pub(super) extent: Extent,
}

/// Whether `100 Continue` comes before a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Interim {
    Never,
    /// It depends on whether the body is there when it is asked for.
    Maybe,
    Must,
}

/// What follows a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    /// The next request, at this offset.
    Next(usize),
    /// The end of the connection.
    End,
    /// Either: it depends on how the request was split whether the rest of its body is worth reading.
    Unknown,
}

/// One request's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) interim: Interim,
    /// One of these; none when the client is gone before it can be answered.
    pub(super) replies: Vec<Reply>,
    pub(super) after: After,
}

/// The answers of a connection.
#[derive(Debug)]
pub(super) struct Expectation {
    pub(super) answers: Vec<Expected>,
    /// Any number of bytes at the end may be missing: the client did not wait for them, or made the server's close a
    /// reset.
    pub(super) is_lossy: bool,
    /// The client may learn of the end by a reset: it sent what nobody read.
    pub(super) may_reset: bool,
}

/// What there is of a request's body.
struct BodySeen {
    data: Vec<u8>,
    end: BodyEnd,
    /// Its length, as far as the head says it.
    announced: u64,
    /// Nothing follows the head, not even a byte of framing.
    is_missing: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyEnd {
    /// After so many bytes.
    Whole(usize),
    Short,
    Bad(ChunkError),
    TooLarge,
}

impl BodySeen {
    fn read(framing: BodyFraming, rest: &[u8], limit: u64) -> Self {
        let (data, end) = match framing {
            BodyFraming::None => (Vec::new(), BodyEnd::Whole(0)),
            BodyFraming::Length(length) => match usize::try_from(length).ok().and_then(|length| rest.get(..length)) {
                Some(data) => (data.to_vec(), BodyEnd::Whole(data.len())),
                None => (rest.to_vec(), BodyEnd::Short),
            },
            BodyFraming::Chunked => {
                let (data, end) = decode_chunked(&[rest]);
                let end = match end {
                    _ if data.len() as u64 > limit => BodyEnd::TooLarge,
                    Ok(ChunkStep::Done { consumed }) => BodyEnd::Whole(consumed),
                    Ok(_) => BodyEnd::Short,
                    Err(error) => BodyEnd::Bad(error),
                };
                (data, end)
            }
        };
        let announced = match framing {
            BodyFraming::Length(length) => length,
            BodyFraming::None | BodyFraming::Chunked => 0,
        };
        Self { data, end, announced, is_missing: rest.is_empty() }
    }

    /// What follows a response that left the body, or the rest of it, unread.
    fn after_discard(&self, at: usize) -> After {
        match self.end {
            BodyEnd::Whole(used) if self.data.len() as u64 <= DISCARD_BYTES_MAX => After::Next(at + used),
            BodyEnd::Whole(_) | BodyEnd::Short | BodyEnd::Bad(_) | BodyEnd::TooLarge => After::End,
        }
    }
}

/// What a script must be answered.
pub(super) fn expect(script: &Script) -> Expectation {
    let is_long = |act: &Act| *act == Act::Pause(LONG);
    // Nothing outlives a long pause, so that it is the end of what counts, and a silent one.
    let heard = script.acts.split(is_long).next().unwrap_or_default();
    let ending = if heard.len() == script.acts.len() { script.ending() } else { Ending::Silence };
    let stream = Script::stream(heard);
    let drains = heard.contains(&Act::Drain);
    let stalls = script.acts.contains(&Act::Stall(LONG));
    let mut reader = Reader {
        settings: &script.settings,
        stream: &stream,
        silent: ending != Ending::HalfClose,
        drains,
        answers: Vec::new(),
        is_abrupt: false,
        is_reset: false,
        at: 0,
    };
    reader.read();
    let unread = reader.at < stream.len() || heard.len() < script.acts.len();
    let leaves = matches!(ending, Ending::Reset | Ending::Close | Ending::Vanish);
    Expectation {
        is_lossy: drains || stalls || leaves || reader.is_reset || (reader.is_abrupt && unread),
        may_reset: unread,
        answers: reader.answers,
    }
}

struct Reader<'s> {
    settings: &'s Settings,
    stream: &'s [u8],
    /// The client says nothing behind the stream, rather than that it is at its end.
    silent: bool,
    drains: bool,
    answers: Vec<Expected>,
    /// The connection closes without waiting for what the client still sends.
    is_abrupt: bool,
    /// The connection ends in a reset.
    is_reset: bool,
    /// Where the last head or body that was read ends.
    at: usize,
}

impl Reader<'_> {
    fn read(&mut self) {
        let mut head = Head::new();
        loop {
            let rest = &self.stream[self.at..];
            match parse_head(rest, &self.settings.head, &mut head) {
                Ok(Parse::Complete) => {}
                Ok(Parse::Partial) => {
                    if !rest.is_empty() && self.silent {
                        self.push_problem(Status::REQUEST_TIMEOUT, "the request head came too slowly");
                    }
                    self.at = self.stream.len();
                    return;
                }
                Err(error) => return self.push_problem(error.status(), error.detail()),
            }
            let expected = self.answer(&head.view(rest), rest);
            let after = expected.after;
            self.answers.push(expected);
            match after {
                After::Next(at) => self.at = at,
                After::End | After::Unknown => return,
            }
        }
    }

    fn push_problem(&mut self, status: Status, detail: &str) {
        let reply = problem(Version::Http11, Extent::Whole, Close::Yes, status, detail);
        self.answers.push(Expected { interim: Interim::Never, replies: vec![reply], after: After::End });
    }

    fn answer(&mut self, head: &RequestHead<'_>, rest: &[u8]) -> Expected {
        let settings = self.settings;
        let persistent = head.head().persistent
            && (self.answers.len() as u64) + 1 < settings.keepalive_requests
            && settings.keepalive_age > Duration::ZERO;
        let length = head.head().len;
        let body = BodySeen::read(head.framing(), &rest[length..], settings.body);
        let mut request = Request {
            version: head.version(),
            extent: if head.method() == Method::Head { Extent::HeadOnly } else { Extent::Whole },
            persistent,
            awaits: head.head().expect_continue,
            silent: self.silent,
            body,
            body_at: self.at + length,
        };
        let mut expected = match head.framing() {
            BodyFraming::Length(length) if length > settings.body => {
                // Whether it has come does not matter: it is refused unread.
                request.body.end = BodyEnd::TooLarge;
                request.end_with(vec![request.too_large()])
            }
            _ => request.route(head),
        };
        if expected.after == After::End && !head.head().persistent {
            self.is_abrupt = true;
        }
        for reply in &mut expected.replies {
            self.is_abrupt |= matches!(reply.extent, Extent::Cut | Extent::CutAnywhere);
            if self.drains && reply.close == Close::No {
                reply.close = Close::Either;
            }
        }
        // A cut 1.0 response has no other sign of it than a reset, which may take bytes along.
        let is_reset = |reply: &Reply| reply.framing == Framing::ToEnd && reply.extent != Extent::Whole;
        self.is_reset |= expected.replies.iter().any(is_reset);
        if let BodyEnd::Whole(used) = request.body.end {
            self.at = request.body_at + used;
        } else if !matches!(request.body.end, BodyEnd::Bad(_) | BodyEnd::TooLarge) {
            self.at = self.stream.len();
        }
        expected
    }
}

/// What a request's answer depends on, besides its resource.
struct Request {
    version: Version,
    extent: Extent,
    /// The connection may go on, as far as head and settings say.
    persistent: bool,
    /// The client waits for `100 Continue`.
    awaits: bool,
    silent: bool,
    body: BodySeen,
    body_at: usize,
}

impl Request {
    fn route(&self, head: &RequestHead<'_>) -> Expected {
        let path = head.path();
        if head.form() == TargetForm::Authority {
            return self.unread(self.problem(Status::NOT_IMPLEMENTED, "this server is no forward proxy"));
        }
        if !path.starts_with('/') {
            return self.unread(self.plain(Status::NO_CONTENT, String::new(), Vec::new()));
        }
        let Some((resource, takes)) = Resource::at(path) else {
            return self.unread(self.problem(Status::NOT_FOUND, "no route matches this path"));
        };
        let method = head.method();
        if method == takes || (method == Method::Head && takes == Method::Get) {
            return self.resource(resource);
        }
        let allow = match takes {
            Method::Get => "Allow: GET, HEAD, OPTIONS\r\n",
            _ => "Allow: POST, OPTIONS\r\n",
        };
        if method == Method::Options {
            return self.unread(self.plain(Status::NO_CONTENT, allow.to_owned(), Vec::new()));
        }
        let mut reply = self.problem(Status::METHOD_NOT_ALLOWED, "this resource does not take this method");
        reply.fields.insert_str(0, allow);
        self.unread(reply)
    }

    fn resource(&self, resource: Resource<'_>) -> Expected {
        let internal = || self.problem(Status::INTERNAL_SERVER_ERROR, "the server failed to answer this request");
        match resource {
            Resource::Text(text) => self.unread(self.text(text)),
            Resource::Configured => self.unread(self.configured("configured")),
            Resource::ConfiguredLong => self.unread_streamed(self.configured(&app::long_text())),
            Resource::Empty => self.unread(self.plain(Status::NO_CONTENT, String::new(), Vec::new())),
            Resource::Large(bytes) => self.unread_streamed(self.streamed(Framing::Length(bytes), app::pattern(bytes))),
            Resource::Chunks(bytes) => self.unread_streamed(self.streamed(self.unknown(), app::pattern(bytes))),
            Resource::Cut(bytes) => {
                let mut reply = self.streamed(Framing::Length(bytes + 1), app::pattern(bytes));
                if self.extent == Extent::HeadOnly {
                    return self.unread_streamed(reply);
                }
                reply.extent = Extent::Cut;
                // Without a piece, the head was not sent either.
                self.end_with(if bytes == 0 { Vec::new() } else { vec![reply] })
            }
            Resource::Panic => self.end_with(vec![Reply { close: Close::Yes, ..internal() }]),
            Resource::Fail => self.unread(internal()),
            Resource::Sum => match self.body.end {
                BodyEnd::Whole(used) => self.read_whole(self.text(&app::sum_of(&self.body.data)), used),
                end => self.end_with(self.body_failure(end)),
            },
            Resource::Echo => self.echo(),
            Resource::Peek => self.peek(),
        }
    }

    fn echo(&self) -> Expected {
        let mut reply = self.streamed(self.unknown(), self.body.data.clone());
        // The head is written before the body is asked for.
        if self.awaits {
            reply.close = Close::Yes;
        }
        match self.body.end {
            BodyEnd::Whole(used) => self.read_whole(reply, used),
            BodyEnd::TooLarge => {
                // The piece that goes beyond the limit is not echoed, and may be the first.
                reply.extent = Extent::CutAnywhere;
                self.end_with(vec![self.too_large(), reply])
            }
            end if self.body.data.is_empty() => self.end_with(self.body_failure(end)),
            BodyEnd::Short | BodyEnd::Bad(_) => {
                reply.extent = Extent::Cut;
                self.end_with(vec![reply])
            }
        }
    }

    fn peek(&self) -> Expected {
        let mut reply = self.text("peeked");
        if self.persistent && self.body.announced > DISCARD_BYTES_MAX {
            // What is left after the first piece may be little enough.
            reply.close = Close::Either;
        }
        match self.body.end {
            BodyEnd::TooLarge => self.end_with(vec![self.too_large(), reply]),
            BodyEnd::Whole(_) if self.body.data.len() as u64 > DISCARD_BYTES_MAX => {
                Expected { after: After::Unknown, ..self.end_with(vec![reply]) }
            }
            BodyEnd::Whole(used) => self.read_whole(reply, used),
            end if self.body.data.is_empty() => self.end_with(self.body_failure(end)),
            BodyEnd::Short | BodyEnd::Bad(_) => self.end_with(vec![reply]),
        }
    }

    /// How a handler's failure to read the body is answered.
    fn body_failure(&self, end: BodyEnd) -> Vec<Reply> {
        let (status, detail) = match end {
            BodyEnd::Bad(error) => (Status::BAD_REQUEST, error.detail()),
            BodyEnd::Short if self.silent => (Status::REQUEST_TIMEOUT, "the request body came too slowly"),
            BodyEnd::Short => return Vec::new(),
            BodyEnd::TooLarge | BodyEnd::Whole(_) => return vec![self.too_large()],
        };
        vec![Reply { close: Close::Yes, ..self.problem(status, detail) }]
    }

    fn too_large(&self) -> Reply {
        let reply = self.problem(Status::CONTENT_TOO_LARGE, "the request body is larger than allowed");
        Reply { close: Close::Yes, ..reply }
    }

    /// An answer that is sent in one piece and leaves the body unread.
    fn unread(&self, mut reply: Reply) -> Expected {
        if self.body.announced > DISCARD_BYTES_MAX {
            reply.close = Close::Yes;
        }
        self.unread_streamed(reply)
    }

    /// An answer that leaves the body unread.
    fn unread_streamed(&self, mut reply: Reply) -> Expected {
        if self.awaits {
            reply.close = Close::Yes;
        }
        let after = if reply.close == Close::Yes { After::End } else { self.body.after_discard(self.body_at) };
        Expected { interim: Interim::Never, replies: vec![reply], after }
    }

    /// An answer after the whole body was read.
    fn read_whole(&self, reply: Reply, used: usize) -> Expected {
        let after = if reply.close == Close::Yes { After::End } else { After::Next(self.body_at + used) };
        Expected { interim: self.interim(), replies: vec![reply], after }
    }

    fn end_with(&self, replies: Vec<Reply>) -> Expected {
        Expected { interim: self.interim(), replies, after: After::End }
    }

    fn interim(&self) -> Interim {
        match (self.awaits, self.body.is_missing) {
            (false, _) => Interim::Never,
            (true, false) => Interim::Maybe,
            (true, true) => Interim::Must,
        }
    }

    fn unknown(&self) -> Framing {
        match (self.version, self.extent) {
            (Version::Http11, _) => Framing::Chunked,
            (Version::Http10, Extent::HeadOnly) => Framing::None,
            (Version::Http10, _) => Framing::ToEnd,
        }
    }

    fn plain(&self, status: Status, fields: String, body: Vec<u8>) -> Reply {
        let framing = if status == Status::NO_CONTENT { Framing::None } else { Framing::Length(body.len()) };
        Reply {
            status,
            version: self.version,
            fields,
            framing,
            close: Close::when(!self.persistent),
            body,
            extent: self.extent,
        }
    }

    fn text(&self, text: &str) -> Reply {
        self.plain(Status::OK, "Content-Type: text/plain; charset=utf-8\r\n".to_owned(), text.as_bytes().to_vec())
    }

    fn configured(&self, text: &str) -> Reply {
        let mut reply = self.text(text);
        reply.fields.push_str("X-From: config\r\n");
        reply
    }

    fn streamed(&self, framing: Framing, body: Vec<u8>) -> Reply {
        let close = Close::when(!self.persistent || framing == Framing::ToEnd);
        Reply { framing, close, ..self.plain(Status::OK, String::new(), body) }
    }

    fn problem(&self, status: Status, detail: &str) -> Reply {
        problem(self.version, self.extent, Close::when(!self.persistent), status, detail)
    }
}

fn problem(version: Version, extent: Extent, close: Close, status: Status, detail: &str) -> Reply {
    let id = str::from_utf8(&[ANY_BYTE; 16]).unwrap_or_default().to_owned();
    let body = format!(
        r#"{{"type":"about:blank","title":"{}","status":{},"detail":"{detail}","request_id":"{id}"}}"#,
        status.reason(),
        status.code()
    );
    let fields = "Content-Type: application/problem+json\r\n".to_owned();
    Reply { status, version, fields, framing: Framing::Length(body.len()), close, body: body.into_bytes(), extent }
}
