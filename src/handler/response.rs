//! The response: written in one piece behind those before it, or streamed as it comes to be.

mod held;
mod prepared;
mod relay;
mod through;

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::task::{Context, Poll, ready};

use super::pipeline::Run;
use super::{Failure, Reply, RequestId};
use crate::clock::{self, Moment};
use crate::http::encode::{self, FieldError, Fields};
use crate::http::{Status, StatusClass, Version, write_problem};
use crate::limits::{COPY_BYTES_MAX, DISCARD_BYTES_MAX, FILE_PIECE_BYTES};
#[cfg(feature = "sim")]
use crate::rt;
use crate::rt::fs::File;

pub use prepared::Prepared;
use prepared::allows_body;
pub use relay::{ClientIo, Takeover};

/// Where a response's bytes go: the connection, or a test.
pub trait Sink {
    /// Sends a part of `slices`, at least one byte.
    ///
    /// # Errors
    /// When the client is gone or took nothing for too long; it stays so.
    fn poll_send(&mut self, cx: &mut Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>>;

    /// Sends a part of `head`, or where that is empty at most `most` bytes of `file` from `offset` on; zero where the file
    /// has none.
    ///
    /// # Errors
    /// As `poll_send`; `Unsupported` where only bytes in memory can be sent.
    fn poll_send_file(
        &mut self,
        _cx: &mut Context<'_>,
        _head: &[u8],
        _file: &File,
        _offset: u64,
        _most: usize,
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }
}

/// What the client may still send of the request that is being answered: it decides whether the connection can go on
/// after an answer that does not wait for it.
#[derive(Debug, Default)]
pub struct BodyState {
    /// The client waits for `100 Continue`: answered without it, it may send the body or not.
    pub awaited: Cell<bool>,
    /// Bytes of body that were not read yet, as far as its length is known ahead.
    pub unread: Cell<u64>,
    /// A part of `100 Continue` was sent, and nobody waits for the socket to take the rest: nothing may follow it.
    pub torn: Cell<bool>,
}

impl BodyState {
    /// Whether so much is unread that the connection is not kept for it. For an answer after which nothing is read; one
    /// that is streamed may be an answer to what is read meanwhile.
    fn is_too_long_to_discard(&self) -> bool {
        self.unread.get() > DISCARD_BYTES_MAX
    }
}

/// What the connection lays down for a response.
#[derive(Debug, Clone)]
pub struct Terms<'x> {
    /// The client's version: a 1.0 client gets no chunks.
    pub version: Version,
    /// The request was HEAD: the response ends behind its head.
    pub head_only: bool,
    /// The connection stays open after this response.
    pub persistent: bool,
    /// The `Server` field's line; empty where it is left out.
    pub server: &'x [u8],
    /// The request's id, for error bodies.
    pub id: RequestId<'x>,
    /// The field in which the response tells it; `None`: none.
    pub id_field: Option<&'x str>,
    /// What the client may still send of the request.
    pub body: &'x BodyState,
    /// When the core began to drain. A response whose head is written after that announces the close, although the
    /// request came before it.
    pub draining: &'x Cell<Option<Moment>>,
}

/// How a streamed response's length is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// Exactly so many bytes: `Content-Length`.
    Known(u64),
    /// Not ahead: chunked, or until the connection closes for a 1.0 client.
    Unknown,
}

/// How the body that is being streamed is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// So many bytes are still to be written.
    Length(u64),
    Chunked,
    UntilClose,
    /// The response has no body (HEAD, 204, 304): what is written is counted for nothing.
    Discard,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Whole,
    Streaming(Framing),
    /// A plugin holds the head. With the length of the body, where that is known.
    Held(Option<u64>),
}

/// How a response ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is complete; the connection may go on if the terms said so still.
    Complete(Status),
    /// It was begun and cannot be completed: the connection has to be closed.
    Cut(Status),
    /// Nothing was answered.
    Unanswered,
}

/// The response to one request.
pub struct Response<'x> {
    /// The connection's output that is not sent yet; the responses to earlier requests come first in it.
    out: &'x mut Vec<u8>,
    fields: &'x mut Fields,
    sink: &'x mut dyn Sink,
    terms: Terms<'x>,
    status: Status,
    state: State,
    /// Some of it was sent.
    sent: bool,
    /// A write was begun and has not ended: it is under way, or it failed, or its future was dropped in the middle, and
    /// then nobody knows how much of it went out. Nothing may follow it.
    torn: bool,
    takeover: Option<Box<dyn Takeover>>,
    /// What plugins do with it.
    pub(super) run: Option<Run<'x>>,
    /// What becomes of the body because of them.
    body: BodyWay,
}

/// What becomes of the body that a handler sends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum BodyWay {
    /// It is sent.
    #[default]
    Plain,
    /// It goes through plugins.
    ThroughHooks,
    /// A plugin has answered in the handler's place, when that had begun: there is no use in sending more.
    Nowhere,
}

impl<'x> Response<'x> {
    pub(crate) fn new(out: &'x mut Vec<u8>, fields: &'x mut Fields, sink: &'x mut dyn Sink, terms: Terms<'x>) -> Self {
        fields.clear();
        Self {
            out,
            fields,
            sink,
            terms,
            status: Status::OK,
            state: State::Open,
            sent: false,
            torn: false,
            takeover: None,
            run: None,
            body: BodyWay::Plain,
        }
    }

    /// With these plugins around it.
    pub(crate) fn through(mut self, run: Option<Run<'x>>) -> Self {
        self.run = run;
        self
    }

    /// Sets the status; 200 when it is never set. An interim (1xx) status is taken for 500: interim responses are the
    /// server's.
    pub fn status(&mut self, status: Status) -> &mut Self {
        self.status = if status.class() == StatusClass::Informational { Status::INTERNAL_SERVER_ERROR } else { status };
        self
    }

    /// Adds a header field.
    ///
    /// # Errors
    /// When the name or the value is not one, or the field is the server's to set.
    pub fn field(&mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<&mut Self, FieldError> {
        self.fields.push(name, value)?;
        Ok(self)
    }

    /// The header fields so far.
    pub fn fields(&mut self) -> &mut Fields {
        self.fields
    }

    /// What the connection lays down for this response.
    pub fn terms(&self) -> &Terms<'x> {
        &self.terms
    }

    /// Answers with `body` and the fields so far.
    ///
    /// # Errors
    /// When the response was begun already.
    pub fn send(&mut self, body: &[u8]) -> Reply {
        self.begin()?;
        if self.goes_through() {
            return self.send_through(body);
        }
        self.send_plain(body);
        Ok(())
    }

    fn send_plain(&mut self, body: &[u8]) {
        self.terms.persistent &= !self.terms.body.is_too_long_to_discard();
        let length = allows_body(self.status).then_some(body.len() as u64);
        self.write_head(length, false);
        if length.is_some() && !self.terms.head_only {
            self.out.extend_from_slice(body);
        }
        self.state = State::Whole;
    }

    /// Answers with text: `text/plain; charset=utf-8`.
    ///
    /// # Errors
    /// As [`Response::send`].
    pub fn text(&mut self, text: &str) -> Reply {
        self.fields.set("Content-Type", "text/plain; charset=utf-8")?;
        self.send(text.as_bytes())
    }

    /// Answers with JSON that is written out already: `application/json`.
    ///
    /// # Errors
    /// As [`Response::send`].
    pub fn json(&mut self, json: &[u8]) -> Reply {
        self.fields.set("Content-Type", "application/json")?;
        self.send(json)
    }

    /// Answers with a response made ahead. Its body is copied: for bodies of more than [`COPY_BYTES_MAX`] stream it.
    ///
    /// # Errors
    /// As [`Response::send`].
    pub fn send_prepared(&mut self, prepared: &Prepared) -> Reply {
        self.begin()?;
        if self.goes_through() {
            self.status = prepared.status;
            self.fields.clone_from(&prepared.fields);
            return self.send_through(&prepared.body);
        }
        self.terms.persistent &= !self.terms.body.is_too_long_to_discard();
        self.status = prepared.status;
        self.out.extend_from_slice(&prepared.head);
        if self.terms.id_field.is_some_and(|name| !prepared.fields.contains(name)) {
            self.write_id();
        }
        self.write_server_fields(prepared.dated, prepared.named);
        if !self.terms.head_only {
            self.out.extend_from_slice(&prepared.body);
        }
        self.state = State::Whole;
        Ok(())
    }

    /// Answers with an error: a problem body (RFC 9457) with the request's number. `detail` says nothing of the request.
    ///
    /// # Errors
    /// As [`Response::send`].
    pub fn problem(&mut self, status: Status, detail: &'static str) -> Reply {
        let mut body = Vec::with_capacity(256);
        let mut id = [0; 16];
        write_problem(&mut body, status, detail, self.terms.id.text(&mut id));
        self.status(status).fields.set("Content-Type", "application/problem+json")?;
        self.send(&body)
    }

    /// Starts a streamed response: the head goes out with the first piece.
    ///
    /// # Errors
    /// As [`Response::send`].
    pub fn start(&mut self, length: BodyLength) -> Reply {
        self.begin()?;
        if self.goes_through() {
            return self.start_through(length);
        }
        self.start_plain(length);
        Ok(())
    }

    fn start_plain(&mut self, length: BodyLength) {
        let framing = match length {
            _ if self.terms.head_only || !allows_body(self.status) => Framing::Discard,
            BodyLength::Known(length) => Framing::Length(length),
            BodyLength::Unknown if self.terms.version == Version::Http11 => Framing::Chunked,
            BodyLength::Unknown => {
                self.terms.persistent = false;
                Framing::UntilClose
            }
        };
        let known = match length {
            BodyLength::Known(length) if allows_body(self.status) => Some(length),
            _ => None,
        };
        let chunked =
            length == BodyLength::Unknown && self.terms.version == Version::Http11 && allows_body(self.status);
        self.write_head(known, chunked);
        self.state = State::Streaming(framing);
    }

    /// Sends a piece of a streamed response, with whatever waits to be sent before it. Who drops the future before it ends
    /// gives up the response: it is cut, and the connection closes.
    ///
    /// # Errors
    /// [`Failure::Gone`], also after a write that failed or was given up; an internal failure when the response was not started or the piece is more than was announced.
    pub async fn write(&mut self, piece: &[u8]) -> Reply {
        if self.body != BodyWay::Plain {
            return self.write_through(piece, false).await;
        }
        self.write_plain(piece).await
    }

    async fn write_plain(&mut self, piece: &[u8]) -> Reply {
        let State::Streaming(framing) = self.state else {
            return Err(Failure::internal("a piece was written to a response that was not started"));
        };
        if self.is_torn() {
            return Err(Failure::Gone);
        }
        if piece.is_empty() {
            return self.flush_plain().await;
        }
        let end: &[u8] = match framing {
            Framing::Discard => return self.flush_plain().await,
            Framing::UntilClose => b"",
            Framing::Length(remaining) => {
                let Some(remaining) = remaining.checked_sub(piece.len() as u64) else {
                    return Err(Failure::internal("more was written than the response announced"));
                };
                self.state = State::Streaming(Framing::Length(remaining));
                b""
            }
            Framing::Chunked => {
                encode::write_chunk_head(self.out, piece.len() as u64);
                encode::CHUNK_END
            }
        };
        if self.out.len() + piece.len() <= COPY_BYTES_MAX {
            self.out.extend_from_slice(piece);
            self.out.extend_from_slice(end);
            return self.flush_plain().await;
        }
        let mut sent = 0;
        poll_fn(|cx| self.poll_parts(cx, piece, end, &mut sent)).await
    }

    /// Sends `length` bytes of `file` from `offset` on as the next piece of a streamed response, straight from the kernel's
    /// cache. Answers how many: fewer where the rest is not cached, or cannot be sent in this way, and has to be read.
    ///
    /// # Errors
    /// As [`Response::write`]; an internal failure also when the file has become shorter.
    pub(crate) async fn write_file(&mut self, file: &File, offset: u64, length: u64) -> Result<u64, Failure> {
        let State::Streaming(Framing::Length(announced)) = self.state else { return Ok(0) };
        if self.body != BodyWay::Plain {
            return Ok(0);
        }
        if self.torn {
            return Err(Failure::Gone);
        }
        if announced < length {
            return Err(Failure::internal("more was written than the response announced"));
        }
        let (mut head, mut sent) = (0, 0);
        while sent < length {
            let most = (length - sent).min(FILE_PIECE_BYTES);
            if !file.is_cached(offset + sent, most) {
                break;
            }
            self.torn = true;
            let (out, sink) = (&self.out[head..], &mut *self.sink);
            match poll_fn(|cx| sink.poll_send_file(cx, out, file, offset + sent, most as usize)).await {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => break,
                Err(_) => return Err(Failure::Gone),
                Ok(0) => return Err(Failure::internal("a file became shorter while it was sent")),
                Ok(taken) if head < self.out.len() => head += taken,
                Ok(taken) => sent += taken as u64,
            }
            self.sent = true;
            self.terms.body.awaited.set(false);
        }
        self.out.drain(..head);
        self.state = State::Streaming(Framing::Length(announced - sent));
        self.torn = false;
        Ok(sent)
    }

    /// Sends what waits to be sent.
    ///
    /// # Errors
    /// [`Failure::Gone`], as [`Response::write`].
    pub async fn flush(&mut self) -> Reply {
        if self.body != BodyWay::Plain {
            return self.flush_through().await;
        }
        self.flush_plain().await
    }

    async fn flush_plain(&mut self) -> Reply {
        if self.is_torn() {
            return Err(Failure::Gone);
        }
        let mut sent = 0;
        poll_fn(|cx| self.poll_parts(cx, b"", b"", &mut sent)).await
    }

    /// Sends the output that waits, then `piece`, then `end`: `sent` counts on over all three.
    fn poll_parts(&mut self, cx: &mut Context<'_>, piece: &[u8], end: &[u8], sent: &mut usize) -> Poll<Reply> {
        let (first, second) = (self.out.len(), self.out.len() + piece.len());
        let total = second + end.len();
        while *sent < total {
            self.torn = true;
            let slices = [
                IoSlice::new(&self.out[(*sent).min(first)..]),
                IoSlice::new(&piece[sent.saturating_sub(first).min(piece.len())..]),
                IoSlice::new(&end[sent.saturating_sub(second)..]),
            ];
            match ready!(self.sink.poll_send(cx, &slices)) {
                Ok(taken) => {
                    *sent += taken;
                    self.sent = true;
                    // Not before: a handler may start its response and then ask for the body.
                    self.terms.body.awaited.set(false);
                }
                Err(_) => return Poll::Ready(Err(Failure::Gone)),
            }
        }
        self.out.clear();
        self.torn = false;
        Poll::Ready(Ok(()))
    }

    /// Ends the response, as far as it can be ended, and says how it ended.
    pub(crate) fn finish(&mut self) -> Outcome {
        if self.body == BodyWay::ThroughHooks && !self.is_torn() && self.end_through().is_err() {
            return Outcome::Cut(self.status);
        }
        match self.state {
            State::Open | State::Held(_) => Outcome::Unanswered,
            State::Whole | State::Streaming(_) if self.is_torn() => Outcome::Cut(self.status),
            State::Whole | State::Streaming(Framing::Discard | Framing::UntilClose | Framing::Length(0)) => {
                Outcome::Complete(self.status)
            }
            State::Streaming(Framing::Chunked) => {
                self.out.extend_from_slice(encode::LAST_CHUNK);
                Outcome::Complete(self.status)
            }
            State::Streaming(Framing::Length(_)) => Outcome::Cut(self.status),
        }
    }

    /// Takes back what was written since `start`, for another answer. False when some of it was sent already.
    pub(crate) fn restart(&mut self, start: usize) -> bool {
        if self.sent || self.terms.body.torn.get() || self.out.len() < start {
            return false;
        }
        self.out.truncate(start);
        self.torn = false;
        self.fields.clear();
        self.status = Status::OK;
        self.state = State::Open;
        self.body = BodyWay::Plain;
        if let Some(run) = &mut self.run {
            run.forget_held();
        }
        true
    }

    /// Whether something was sent in part, so that nothing may follow it.
    fn is_torn(&self) -> bool {
        self.torn || self.terms.body.torn.get()
    }

    /// Has the connection closed after this response.
    pub(crate) fn close_after(&mut self) {
        self.terms.persistent = false;
    }

    /// Whether the connection may go on after this response, as far as the response told the client.
    pub(crate) fn is_persistent(&self) -> bool {
        self.terms.persistent
    }

    /// Whether the response is streamed to a client that knows its end by the connection's alone.
    pub(crate) fn is_open_ended(&self) -> bool {
        self.state == State::Streaming(Framing::UntilClose)
    }

    /// Whether nothing was answered yet.
    pub fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether its head has not gone on: nothing was answered yet, or a plugin holds it.
    pub(crate) fn is_unsent(&self) -> bool {
        matches!(self.state, State::Open | State::Held(_))
    }

    /// The status that was answered, or would be.
    pub fn current_status(&self) -> Status {
        self.status
    }

    fn begin(&self) -> Reply {
        match self.state {
            State::Open => Ok(()),
            State::Whole | State::Streaming(_) | State::Held(_) => {
                Err(Failure::internal("a second response to one request"))
            }
        }
    }

    fn write_head(&mut self, length: Option<u64>, chunked: bool) {
        if let Some(name) = self.terms.id_field {
            // What an upstream calls it is its own affair.
            self.fields.remove(name);
        }
        encode::write_status_line(self.out, self.status);
        self.fields.write_to(self.out);
        self.write_id();
        if let Some(length) = length {
            encode::write_content_length(self.out, length);
        }
        if chunked {
            self.out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        self.write_server_fields(self.fields.contains("date"), self.fields.contains("server"));
    }

    /// The request's id, where responses tell it.
    fn write_id(&mut self) {
        if let Some(name) = self.terms.id_field {
            encode::write_field(self.out, name, self.terms.id.text(&mut [0; 16]));
        }
    }

    /// The fields that are the server's, and the empty line.
    fn write_server_fields(&mut self, dated: bool, named: bool) {
        if self.terms.body.awaited.get() || self.terms.draining.get().is_some() {
            self.terms.persistent = false;
        }
        if !named {
            self.out.extend_from_slice(self.terms.server);
        }
        if !dated {
            let date = clock::http_date();
            #[cfg(feature = "sim")]
            let date = if rt::sim::planted(rt::sim::Bug::StaleDate) {
                clock::format_date(clock::wall() - std::time::Duration::from_secs(86_400))
            } else {
                date
            };
            encode::write_date(self.out, &date);
        }
        match (self.terms.persistent, self.terms.version) {
            (false, _) => self.out.extend_from_slice(b"Connection: close\r\n"),
            // A 1.0 client takes silence for close (RFC 9112 section 9.3).
            (true, Version::Http10) => self.out.extend_from_slice(b"Connection: keep-alive\r\n"),
            (true, Version::Http11) => {}
        }
        self.out.extend_from_slice(b"\r\n");
    }
}
