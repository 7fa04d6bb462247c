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

/// Sees a body as its reader does: decoded, and with what is read instead of it.
pub trait BodyWatch {
    /// The next piece.
    fn piece(&mut self, piece: &[u8]);

    /// It was read to its end. It may be told more than once.
    fn end(&mut self);

    /// What was seen so far was read by a plugin, and another body comes instead ([`Body::replace`]).
    fn restart(&mut self);
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
    /// What is read instead of what the client sent.
    instead: Option<Whole>,
    /// Who sees what is read: few bodies have one.
    watches: Vec<Box<dyn BodyWatch>>,
}

/// A body that is in hand: one piece.
struct Whole {
    bytes: Bytes,
    state: WholeState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum WholeState {
    Unread,
    Present,
    Read,
}

impl BodySource for Whole {
    fn poll_piece(&mut self, _: &mut Context<'_>) -> Poll<Result<bool, BodyError>> {
        self.state = match self.state {
            WholeState::Unread if !self.bytes.is_empty() => WholeState::Present,
            WholeState::Unread | WholeState::Present | WholeState::Read => WholeState::Read,
        };
        Poll::Ready(Ok(self.state == WholeState::Present))
    }

    fn piece(&self) -> &[u8] {
        if self.state == WholeState::Present { &self.bytes } else { &[] }
    }

    fn remaining(&self) -> Option<u64> {
        Some(if self.state == WholeState::Unread { self.bytes.len() as u64 } else { 0 })
    }
}

impl<'x> Body<'x> {
    pub(crate) fn new(source: &'x mut dyn BodySource) -> Self {
        Self { source, decoding: None, instead: None, watches: Vec::new() }
    }

    /// Puts a decoder in its way. One body has at most one: a second takes the place of the first. Before the first piece is
    /// asked for.
    pub(crate) fn decode_by(&mut self, decoder: Box<dyn BodyDecoder>) {
        let out = Vec::new();
        self.decoding = Some(Box::new(Decoding { decoder, out, used: 0, state: DecodingState::Reading }));
    }

    /// Has it seen by `watch`, besides those that see it already: as many as a route's plugins add.
    pub fn watch_by(&mut self, watch: Box<dyn BodyWatch>) {
        self.watches.push(watch);
    }

    fn show(&mut self, more: bool) {
        let mut watches = std::mem::take(&mut self.watches);
        for watch in &mut watches {
            if more { watch.piece(self.piece()) } else { watch.end() }
        }
        self.watches = watches;
    }

    /// The next piece; `None` at the end. A client that waits for `100 Continue` gets it at the first call.
    ///
    /// # Errors
    /// See [`BodyError`].
    pub async fn next(&mut self) -> Result<Option<&[u8]>, BodyError> {
        let source: &mut dyn BodySource = match &mut self.instead {
            Some(whole) => whole,
            None => &mut *self.source,
        };
        let more = match &mut self.decoding {
            // Boxed with its state, so that the futures of other bodies do not grow by it.
            Some(decoding) => Box::pin(decoding.advance(source)).await?,
            None => wait(source).await?,
        };
        if !self.watches.is_empty() {
            self.show(more);
        }
        Ok(more.then(|| self.piece()))
    }

    /// The present piece, as its reader gets it.
    fn piece(&self) -> &[u8] {
        match &self.decoding {
            Some(decoding) => &decoding.out,
            None => self.source().piece(),
        }
    }

    fn source(&self) -> &dyn BodySource {
        self.instead.as_ref().map_or(&*self.source, |whole| whole)
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

    /// Has `bytes` read instead of what the client sends. For what has read the body to its end, and hands it on to the
    /// handler as it was or changed; trailers are lost, as a body of known length has none.
    pub fn replace(&mut self, bytes: Bytes) {
        self.decoding = None;
        self.watches.iter_mut().for_each(|watch| watch.restart());
        self.instead = Some(Whole { bytes, state: WholeState::Unread });
    }

    /// How the body ends that is read: as the request's head, `sent`, says, unless it was replaced and is not decoded since.
    pub fn framing(&self, sent: BodyFraming) -> BodyFraming {
        match (&self.instead, &self.decoding) {
            (Some(whole), None) => BodyFraming::Length(whole.bytes.len() as u64),
            (None, _) | (Some(_), Some(_)) => sent,
        }
    }

    /// Has the trailers kept that may be forwarded. Before the first piece is asked for, or some may be lost.
    pub(crate) fn keep_trailers(&mut self) {
        self.source.keep_trailers();
    }

    /// Those that were kept; all of them, when the body is at its end.
    pub(crate) fn trailers(&mut self) -> Option<&mut Trailers> {
        if self.instead.is_some() {
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
        match self.decoding.as_ref().map(|decoding| decoding.state) {
            None => self.source().remaining(),
            Some(DecodingState::Reading) => None,
            Some(DecodingState::Ended | DecodingState::Failed(_)) => Some(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::Waker;

    /// Makes two bytes of each.
    struct Doubles;

    impl BodyDecoder for Doubles {
        fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, BodyError> {
            out.extend(input.iter().flat_map(|byte| [*byte, *byte]));
            Ok(input.len())
        }

        fn end(&mut self) -> Result<(), BodyError> {
            Ok(())
        }
    }

    fn read(body: &mut Body<'_>) -> Vec<u8> {
        match pin!(body.read_to_end(100)).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(read) => read.unwrap(),
            Poll::Pending => panic!("nothing is waited for"),
        }
    }

    #[test]
    fn a_body_that_was_replaced_goes_through_a_decoder_that_comes_later_and_through_none_from_before() {
        let mut no_body = NoBody;
        let mut body = Body::new(&mut no_body);
        body.replace(Bytes::from_static(b"ab"));
        assert_eq!((body.remaining(), body.framing(BodyFraming::Chunked)), (Some(2), BodyFraming::Length(2)));
        body.decode_by(Box::new(Doubles));
        assert_eq!((body.remaining(), body.framing(BodyFraming::Chunked)), (None, BodyFraming::Chunked));
        assert_eq!(read(&mut body), b"aabb");
        assert_eq!((body.remaining(), read(&mut body)), (Some(0), Vec::new()));
        body.replace(Bytes::from_static(b"c"));
        assert_eq!((body.framing(BodyFraming::Chunked), read(&mut body)), (BodyFraming::Length(1), b"c".to_vec()));
        body.replace(Bytes::new());
        assert_eq!((body.remaining(), read(&mut body)), (Some(0), Vec::new()));
    }
}
