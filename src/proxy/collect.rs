//! The body of a response that is wanted as a whole: short, or given up.

use std::fmt;

use crate::http::{ChunkError, ChunkStep, ChunkedDecoder, Fields, ResponseFraming, Trailers};

/// Why there is no whole body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CollectError {
    /// It is longer than it may be.
    TooLarge,
    /// Its chunks are none.
    Chunk(ChunkError),
    /// The connection ended before it did.
    Cut,
}

impl fmt::Display for CollectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str("the response is too long"),
            Self::Chunk(error) => write!(f, "invalid response body: {error}"),
            Self::Cut => f.write_str("the connection was closed within the response body"),
        }
    }
}

/// Where a body ends.
enum Rest {
    Bytes(u64),
    Chunks(Box<ChunkedDecoder>),
    UntilClose,
    Over,
}

/// A body as it comes in.
pub(super) struct Collector {
    rest: Rest,
    body: Vec<u8>,
    trailers: Trailers,
    max: usize,
}

impl Collector {
    /// Of a body of this framing, which may have `max` bytes.
    ///
    /// # Errors
    /// When it says ahead that it is longer.
    pub(super) fn new(framing: ResponseFraming, max: usize) -> Result<Self, CollectError> {
        let rest = match framing {
            ResponseFraming::None | ResponseFraming::Length(0) => Rest::Over,
            ResponseFraming::Length(length) if length > max as u64 => return Err(CollectError::TooLarge),
            ResponseFraming::Length(length) => Rest::Bytes(length),
            ResponseFraming::Chunked => Rest::Chunks(Box::default()),
            ResponseFraming::UntilClose => Rest::UntilClose,
        };
        Ok(Self { rest, body: Vec::new(), trailers: Trailers::new(), max })
    }

    /// Whether it has come to its end.
    pub(super) fn is_whole(&self) -> bool {
        matches!(self.rest, Rest::Over)
    }

    /// Takes what came, and says how many bytes of it are the body's.
    ///
    /// # Errors
    /// [`CollectError::TooLarge`], [`CollectError::Chunk`].
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<usize, CollectError> {
        let mut used = 0;
        while used < bytes.len() {
            let rest = &bytes[used..];
            let (data, step, is_over) = match &mut self.rest {
                Rest::Over => break,
                Rest::UntilClose => (rest, rest.len(), false),
                Rest::Bytes(left) => {
                    let length = usize::try_from(*left).map_or(rest.len(), |left| left.min(rest.len()));
                    *left -= length as u64;
                    (&rest[..length], length, *left == 0)
                }
                Rest::Chunks(decoder) => {
                    match decoder.decode_with(rest, &mut self.trailers).map_err(CollectError::Chunk)? {
                        ChunkStep::Data { skip, len } => (&rest[skip..skip + len], skip + len, false),
                        ChunkStep::NeedMore { consumed } => (&rest[..0], consumed, false),
                        ChunkStep::Done { consumed } => (&rest[..0], consumed, true),
                    }
                }
            };
            if self.body.len() + data.len() > self.max {
                return Err(CollectError::TooLarge);
            }
            self.body.extend_from_slice(data);
            used += step;
            if is_over {
                self.rest = Rest::Over;
            }
        }
        Ok(used)
    }

    /// The trailers that came behind a body in chunks, those that may be forwarded.
    pub(super) fn take_trailers(&mut self) -> Fields {
        std::mem::take(&mut self.trailers).forwardable(std::iter::empty()).clone()
    }

    /// The body, when no more can come.
    ///
    /// # Errors
    /// [`CollectError::Cut`].
    pub(super) fn finish(self) -> Result<Vec<u8>, CollectError> {
        match self.rest {
            Rest::Over | Rest::UntilClose => Ok(self.body),
            Rest::Bytes(_) | Rest::Chunks(_) => Err(CollectError::Cut),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(
        framing: ResponseFraming,
        max: usize,
        text: &[u8],
        piece: usize,
    ) -> Result<(Vec<u8>, usize), CollectError> {
        let mut collector = Collector::new(framing, max)?;
        let mut used = 0;
        for piece in text.chunks(piece) {
            used += collector.push(piece)?;
        }
        Ok((collector.finish()?, used))
    }

    #[test]
    fn trailers_behind_the_chunks_are_kept_and_those_of_the_framing_are_not() {
        let text = b"3\r\nabc\r\n0\r\nX-Sum: 7\r\nContent-Length: 9\r\n\r\n";
        for piece in 1..text.len() {
            let mut collector = Collector::new(ResponseFraming::Chunked, 5).unwrap();
            text.chunks(piece).for_each(|piece| assert_eq!(collector.push(piece), Ok(piece.len())));
            let trailers = collector.take_trailers();
            assert_eq!(trailers.iter().collect::<Vec<_>>(), [("X-Sum", &b"7"[..])]);
            assert_eq!(collector.finish(), Ok(b"abc".to_vec()));
        }
    }

    #[test]
    fn a_body_is_the_same_however_it_comes() {
        use ResponseFraming::{Chunked, Length, None, UntilClose};
        let chunks = b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n";
        for piece in 1..30 {
            assert_eq!(collect(Length(5), 5, b"abcdeHTTP", piece), Ok((b"abcde".to_vec(), 5)));
            assert_eq!(collect(Length(5), 5, b"abcd", piece), Err(CollectError::Cut));
            assert_eq!(collect(Length(5), 4, b"abcde", piece), Err(CollectError::TooLarge));
            assert_eq!(collect(None, 0, b"abc", piece), Ok((vec![], 0)));
            assert_eq!(collect(UntilClose, 5, b"abcde", piece), Ok((b"abcde".to_vec(), 5)));
            assert_eq!(collect(UntilClose, 4, b"abcde", piece), Err(CollectError::TooLarge));
            assert_eq!(collect(Chunked, 5, chunks, piece), Ok((b"abcde".to_vec(), chunks.len())));
            assert_eq!(collect(Chunked, 4, chunks, piece), Err(CollectError::TooLarge));
            assert_eq!(collect(Chunked, 5, &chunks[..12], piece), Err(CollectError::Cut));
            assert!(matches!(collect(Chunked, 5, b"zz\r\n", piece), Err(CollectError::Chunk(_))));
        }
    }
}
