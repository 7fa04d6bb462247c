//! The request body, in pieces as they come.

use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::http::{BodyFraming, RequestError, Status, Trailers};

/// Why a request body could not be read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyError {
    /// It breaks the rules of its framing.
    Malformed(RequestError),
    /// It is longer than `limits.body`, or than the reader allows.
    TooLarge,
    /// It came too slowly.
    Timeout,
    /// The client left before its end.
    Gone,
}

impl BodyError {
    /// The status and the sentence for the client; `None` when it is gone.
    pub fn answer(&self) -> Option<(Status, &'static str)> {
        match self {
            Self::Malformed(error) => Some((error.status(), error.detail())),
            Self::TooLarge => Some((Status::CONTENT_TOO_LARGE, "the request body is larger than allowed")),
            Self::Timeout => Some((Status::REQUEST_TIMEOUT, "the request body came too slowly")),
            Self::Gone => None,
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.answer().map_or("the client left in the middle of the request body", |(_, detail)| detail))
    }
}

impl std::error::Error for BodyError {}

/// Where a body's bytes come from: the connection, or a test.
pub trait BodySource {
    /// Gives up the present piece and waits for the next; false when the body is at its end.
    ///
    /// # Errors
    /// Once failed it stays failed, with the same error.
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, BodyError>>;

    /// Nobody waits for the next piece any more, for now: how long that lasts is not the client's fault.
    fn pause(&mut self) {}

    /// The present piece; empty before the first and after the last.
    fn piece(&self) -> &[u8];

    /// Bytes still to come; `None` when the body's length is not known ahead.
    fn remaining(&self) -> Option<u64>;

    /// Keeps the trailers of a chunked body, which are thrown away otherwise; to be called before its first piece is asked
    /// for.
    fn keep_trailers(&mut self) {}

    /// The trailers that were kept, once the body is at its end.
    fn trailers(&mut self) -> Option<&mut Trailers> {
        None
    }
}

/// Waits for a piece until it is dropped, which a handler may do at any time: to answer without the body, or to turn to
/// something else for a while.
struct Waiting<'s, 'x>(&'s mut (dyn BodySource + 'x));

impl Drop for Waiting<'_, '_> {
    fn drop(&mut self) {
        self.0.pause();
    }
}

/// The body of a request without one.
pub struct NoBody;

impl BodySource for NoBody {
    fn poll_piece(&mut self, _: &mut Context<'_>) -> Poll<Result<bool, BodyError>> {
        Poll::Ready(Ok(false))
    }

    fn piece(&self) -> &[u8] {
        &[]
    }

    fn remaining(&self) -> Option<u64> {
        Some(0)
    }
}

/// The request body. Nothing of it is read before it is asked for, and no faster than it is asked for.
pub struct Body<'x> {
    source: &'x mut dyn BodySource,
    instead: Instead,
}

/// What is read instead of what the client sent.
#[derive(Debug, Default)]
enum Instead {
    /// Nothing: what it sent is read.
    #[default]
    Source,
    /// These bytes, in one piece.
    Whole(Bytes),
    /// They were read: they are the present piece.
    Given(Bytes),
}

impl<'x> Body<'x> {
    pub(crate) fn new(source: &'x mut dyn BodySource) -> Self {
        Self { source, instead: Instead::Source }
    }

    /// The next piece; `None` at the end. A client that waits for `100 Continue` gets it at the first call.
    ///
    /// # Errors
    /// See [`BodyError`].
    pub async fn next(&mut self) -> Result<Option<&[u8]>, BodyError> {
        match std::mem::take(&mut self.instead) {
            Instead::Source => {}
            Instead::Whole(bytes) => {
                let is_empty = bytes.is_empty();
                self.instead = Instead::Given(bytes);
                return Ok(self.given().filter(|_| !is_empty));
            }
            Instead::Given(_) => {
                self.instead = Instead::Given(Bytes::new());
                return Ok(None);
            }
        }
        let waiting = Waiting(&mut *self.source);
        let more = poll_fn(|cx| waiting.0.poll_piece(cx)).await?;
        drop(waiting);
        Ok(more.then(|| self.source.piece()))
    }

    /// The whole rest, when it is at most `most` bytes.
    ///
    /// # Errors
    /// [`BodyError::TooLarge`] when it is longer, else as [`Body::next`].
    pub async fn read_to_end(&mut self, most: usize) -> Result<Vec<u8>, BodyError> {
        if self.remaining().is_some_and(|remaining| remaining > most as u64) {
            return Err(BodyError::TooLarge);
        }
        let mut whole = Vec::new();
        while let Some(piece) = self.next().await? {
            if whole.len() + piece.len() > most {
                return Err(BodyError::TooLarge);
            }
            whole.extend_from_slice(piece);
        }
        Ok(whole)
    }

    fn given(&self) -> Option<&[u8]> {
        match &self.instead {
            Instead::Given(bytes) => Some(bytes),
            Instead::Source | Instead::Whole(_) => None,
        }
    }

    /// Has `bytes` read instead of what the client sends. For what has read the body to its end, and hands it on to the
    /// handler as it was or changed; trailers are lost, as a body of known length has none.
    pub fn replace(&mut self, bytes: Bytes) {
        self.instead = Instead::Whole(bytes);
    }

    /// How the body ends that is read: as the request's head, `sent`, says, unless it was replaced.
    pub fn framing(&self, sent: BodyFraming) -> BodyFraming {
        match &self.instead {
            Instead::Source => sent,
            Instead::Whole(bytes) => BodyFraming::Length(bytes.len() as u64),
            Instead::Given(_) => BodyFraming::Length(0),
        }
    }

    /// Has the trailers kept that may be forwarded. Before the first piece is asked for, or some may be lost.
    pub(crate) fn keep_trailers(&mut self) {
        self.source.keep_trailers();
    }

    /// Those that were kept; all of them, when the body is at its end.
    pub(crate) fn trailers(&mut self) -> Option<&mut Trailers> {
        match self.instead {
            Instead::Source => self.source.trailers(),
            Instead::Whole(_) | Instead::Given(_) => None,
        }
    }

    /// Bytes still to come; `None` when the body's length is not known ahead (chunked).
    pub fn remaining(&self) -> Option<u64> {
        match &self.instead {
            Instead::Source => self.source.remaining(),
            Instead::Whole(bytes) => Some(bytes.len() as u64),
            Instead::Given(_) => Some(0),
        }
    }
}
