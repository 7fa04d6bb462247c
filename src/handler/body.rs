//! The request body, in pieces as they come.

use std::fmt;
use std::future::poll_fn;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::http::{BodyFraming, RequestError, Status, Trailers};
use crate::limits::DECODED_PIECE_BYTES;

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
    /// It is framed well, but it is not what its `Content-Encoding` says.
    Undecodable,
}

impl BodyError {
    /// The status and the sentence for the client; `None` when it is gone.
    pub fn answer(&self) -> Option<(Status, &'static str)> {
        match self {
            Self::Malformed(error) => Some((error.status(), error.detail())),
            Self::TooLarge => Some((Status::CONTENT_TOO_LARGE, "the request body is larger than allowed")),
            Self::Timeout => Some((Status::REQUEST_TIMEOUT, "the request body came too slowly")),
            Self::Gone => None,
            Self::Undecodable => Some((Status::BAD_REQUEST, "the request body is not what its Content-Encoding says")),
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

/// Makes another body of the one that comes, on its way to the reader. What it makes of a piece may be any number of bytes:
/// it says how much of the piece it took, and is asked again for the rest.
pub trait BodyDecoder {
    /// Takes some of `input` and appends what comes of it to `out`, at most some [`DECODED_PIECE_BYTES`]. With nothing taken
    /// and nothing appended it needs more; an empty `input` asks for what is left of the pieces before it.
    ///
    /// # Errors
    /// [`BodyError::Undecodable`], [`BodyError::TooLarge`].
    fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, BodyError>;

    /// The body has ended, and nothing is left to be appended.
    ///
    /// # Errors
    /// [`BodyError::Undecodable`] when it may not end here.
    fn end(&mut self) -> Result<(), BodyError>;
}

/// A decoder in a body's way.
struct Decoding {
    decoder: Box<dyn BodyDecoder>,
    /// The present piece.
    out: Vec<u8>,
    /// Bytes of the source's present piece that were decoded.
    used: usize,
    state: DecodingState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DecodingState {
    Reading,
    Ended,
    Failed(BodyError),
}

impl Decoding {
    /// The next piece into `out`; false at the end.
    async fn advance(&mut self, source: &mut dyn BodySource) -> Result<bool, BodyError> {
        self.out.clear();
        match self.state {
            DecodingState::Reading => {}
            DecodingState::Ended => return Ok(false),
            DecodingState::Failed(error) => return Err(error),
        }
        self.out.reserve(DECODED_PIECE_BYTES);
        let result = self.read(source).await;
        match result {
            Ok(true) => {}
            Ok(false) => self.state = DecodingState::Ended,
            Err(error) => self.state = DecodingState::Failed(error),
        }
        result
    }

    async fn read(&mut self, source: &mut dyn BodySource) -> Result<bool, BodyError> {
        loop {
            let input = &source.piece()[self.used..];
            let taken = self.decoder.decode(input, &mut self.out)?;
            self.used += taken;
            if !self.out.is_empty() {
                return Ok(true);
            }
            if taken < input.len() {
                // Neither taken nor made into anything: it would go on like this.
                if taken == 0 {
                    return Err(BodyError::Undecodable);
                }
                continue;
            }
            self.used = 0;
            if !wait(source).await? {
                self.decoder.end()?;
                return Ok(false);
            }
        }
    }
}

/// What digests a body as it was sent: in trailers of one that was decoded they would be lies.
const DIGESTS: [&[u8]; 3] = [b"content-digest", b"repr-digest", b"digest"];

async fn wait(source: &mut dyn BodySource) -> Result<bool, BodyError> {
    let waiting = Waiting(source);
    poll_fn(|cx| waiting.0.poll_piece(cx)).await
}

/// The request body. Nothing of it is read before it is asked for, and no faster than it is asked for.
pub struct Body<'x> {
    source: &'x mut dyn BodySource,
    /// Boxed: few bodies have one.
    decoding: Option<Box<Decoding>>,
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
        Self { source, decoding: None, instead: Instead::Source }
    }

    /// Puts a decoder in its way. One body has at most one: a second takes the place of the first. Before the first piece is
    /// asked for.
    pub(crate) fn decode_by(&mut self, decoder: Box<dyn BodyDecoder>) {
        let out = Vec::new();
        self.decoding = Some(Box::new(Decoding { decoder, out, used: 0, state: DecodingState::Reading }));
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
        if let Some(decoding) = &mut self.decoding {
            // Boxed with its state, so that the futures of other bodies do not grow by it.
            let more = Box::pin(decoding.advance(&mut *self.source)).await?;
            return Ok(more.then_some(decoding.out.as_slice()));
        }
        let more = wait(&mut *self.source).await?;
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
        if !matches!(self.instead, Instead::Source) {
            return None;
        }
        let trailers = self.source.trailers()?;
        if self.decoding.is_some() {
            trailers.forwardable(DIGESTS.into_iter());
        }
        Some(trailers)
    }

    /// Bytes still to come; `None` when the body's length is not known ahead (chunked, or decoded on its way).
    pub fn remaining(&self) -> Option<u64> {
        match (&self.instead, self.decoding.as_ref().map(|decoding| decoding.state)) {
            (Instead::Whole(bytes), _) => Some(bytes.len() as u64),
            (Instead::Given(_), _) | (_, Some(DecodingState::Ended | DecodingState::Failed(_))) => Some(0),
            (Instead::Source, Some(DecodingState::Reading)) => None,
            (Instead::Source, None) => self.source.remaining(),
        }
    }
}
