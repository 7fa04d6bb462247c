//! What only a proxy does with a response: interim ones, trailers, and handing the connection over.

use std::future::Future;
use std::pin::Pin;

use super::{BodyWay, Framing, Response, State};
use crate::handler::{Failure, Reply};
use crate::http::encode::{self, Fields};
use crate::http::{Status, StatusClass, Version};
use crate::limits::COPY_BYTES_MAX;
use crate::rt::{Input, RecvHalf, SendHalf};

/// What runs on a client's connection after `101 Switching Protocols`. The connection closes when it ends.
pub trait Takeover {
    /// Runs it to its end.
    fn run<'c>(self: Box<Self>, client: ClientIo<'c>) -> Pin<Box<dyn Future<Output = ()> + 'c>>;
}

/// A client's connection without HTTP.
pub struct ClientIo<'c> {
    /// What came behind the request and is not read yet.
    pub unread: &'c mut Input,
    /// Its receiving half.
    pub recv: &'c mut RecvHalf,
    /// Its sending half; nobody else sends.
    pub send: SendHalf,
}

impl Response<'_> {
    /// Sends an interim response (1xx but 101) before the final one. Clients that speak 1.0 do not know them (RFC 9110
    /// section 15.2): they get none. `lines` are complete field lines, of bytes that were checked.
    ///
    /// # Errors
    /// As [`Response::write`]; an internal failure when the final response was begun.
    pub(crate) async fn interim(&mut self, status: Status, lines: &[u8]) -> Reply {
        self.begin()?;
        if self.terms.version == Version::Http10 || status.class() != StatusClass::Informational {
            return Ok(());
        }
        encode::write_status_line(self.out, status);
        self.out.extend_from_slice(lines);
        self.out.extend_from_slice(b"\r\n");
        self.flush().await?;
        // What was sent so far takes nothing from the final response: it can still be any.
        self.sent = false;
        Ok(())
    }

    /// As [`Response::write`], but may keep a short piece back for the next one, or for [`Response::flush`].
    ///
    /// # Errors
    /// As [`Response::write`].
    pub(crate) async fn gather(&mut self, piece: &[u8]) -> Reply {
        if self.body != BodyWay::Plain {
            return self.write_through(piece, true).await;
        }
        self.gather_plain(piece).await
    }

    pub(super) async fn gather_plain(&mut self, piece: &[u8]) -> Reply {
        let framing = match self.state {
            State::Streaming(framing) if !self.is_torn() => framing,
            State::Open | State::Whole | State::Streaming(_) | State::Held(_) => return self.write_plain(piece).await,
        };
        // The size line, and the line end behind the chunk.
        const CHUNK_LINES_BYTES: usize = 20;
        if self.out.len() + piece.len() + CHUNK_LINES_BYTES > COPY_BYTES_MAX {
            return self.write_plain(piece).await;
        }
        match framing {
            Framing::Length(left) if piece.len() as u64 <= left => {
                self.state = State::Streaming(Framing::Length(left - piece.len() as u64));
                self.out.extend_from_slice(piece);
            }
            Framing::Length(_) => return self.write_plain(piece).await,
            Framing::Chunked if !piece.is_empty() => {
                encode::write_chunk_head(self.out, piece.len() as u64);
                self.out.extend_from_slice(piece);
                self.out.extend_from_slice(encode::CHUNK_END);
            }
            Framing::UntilClose => self.out.extend_from_slice(piece),
            Framing::Chunked | Framing::Discard => {}
        }
        Ok(())
    }

    /// Answers with `101 Switching Protocols` and hands the connection over. `lines` are complete field lines, with
    /// `Upgrade` among them.
    ///
    /// # Errors
    /// As [`Response::send`].
    pub(crate) fn switch_protocols(&mut self, lines: &[u8], takeover: Box<dyn Takeover>) -> Reply {
        self.begin()?;
        self.status = Status::SWITCHING_PROTOCOLS;
        encode::write_status_line(self.out, self.status);
        self.out.extend_from_slice(lines);
        self.write_id();
        self.out.extend_from_slice(b"Connection: upgrade\r\n\r\n");
        self.terms.persistent = false;
        self.takeover = Some(takeover);
        self.state = State::Whole;
        Ok(())
    }

    /// Who takes the connection over, where the response said so.
    pub(crate) fn take_takeover(&mut self) -> Option<Box<dyn Takeover>> {
        self.takeover.take()
    }

    /// Ends a streamed response with trailers; they are left out where it is not chunked. All are fields that may be trailers.
    ///
    /// # Errors
    /// [`Failure::Gone`] after a write that failed; an internal failure when the response was not started.
    pub(crate) async fn end_with_trailers(&mut self, mut trailers: Fields) -> Reply {
        if self.body == BodyWay::ThroughHooks && !self.is_torn() {
            let has_trailers = !trailers.is_empty();
            if let Some(run) = &mut self.run {
                run.state.trailers = Some(trailers);
            }
            if self.may_wait() {
                Box::pin(self.settle(has_trailers)).await?;
            } else {
                self.end_through()?;
            }
            trailers = self.run.as_mut().and_then(|run| run.state.trailers.take()).unwrap_or_default();
        }
        if self.is_answered_instead() {
            return Ok(());
        }
        let State::Streaming(framing) = self.state else {
            return Err(Failure::internal("trailers for a response that was not started"));
        };
        if self.is_torn() {
            return Err(Failure::Gone);
        }
        if framing == Framing::Chunked && !trailers.is_empty() {
            self.out.extend_from_slice(b"0\r\n");
            trailers.write_to(self.out);
            self.out.extend_from_slice(b"\r\n");
            self.state = State::Whole;
        }
        Ok(())
    }
}
