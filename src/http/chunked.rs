//! The chunked transfer coding (RFC 9112 section 7.1), decoded in place: the decoder names the bytes of its input that
//! are body and copies none.
//!
//! One state per place in the grammar, one byte per step, so that the result cannot depend on how the input was split.
//! Only chunk data is taken in runs.

use super::error::ChunkError;
use super::syntax;
use super::trailers::Trailers;
use crate::limits::{CHUNK_EXTENSIONS_BYTES_MAX, CHUNK_LINE_BYTES_MAX, TRAILERS_BYTES_MAX, TRAILERS_MAX};

/// What one call of [`ChunkedDecoder::decode`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkStep {
    /// `input[skip..skip + len]` is body; `skip + len` bytes are consumed, and `len` is never zero. Call again with the
    /// rest.
    Data {
        /// Bytes of framing before the data.
        skip: usize,
        /// Bytes of body.
        len: usize,
    },
    /// All input is consumed and the body has not ended.
    NeedMore {
        /// Bytes consumed: all of the input.
        consumed: usize,
    },
    /// The body and its trailers have ended; what follows belongs to the next message.
    Done {
        /// Bytes consumed.
        consumed: usize,
    },
}

/// Hexadecimal digits of the largest size. A size that is padded to this width is common enough.
const SIZE_DIGITS: u16 = 16;

/// The place in the grammar: what the next byte is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// The first digit of a chunk size.
    #[default]
    SizeFirst,
    /// A further digit, `;` or CR.
    Size,
    /// White space or the first byte of an extension's name.
    ExtensionStart,
    /// Anything printable in an extension, or CR.
    Extension,
    /// The LF of a size line.
    SizeLf,
    /// Chunk data, `ChunkedDecoder::size` bytes of it.
    Data,
    /// The CR after chunk data.
    DataCr,
    /// The LF after chunk data.
    DataLf,
    /// The first byte of a trailer field, or the CR of the final empty line.
    TrailerStart,
    /// A byte of a trailer's name, or its colon.
    TrailerName,
    /// A byte of a trailer's value, or CR.
    TrailerValue,
    /// The LF of a trailer.
    TrailerLf,
    /// The final LF.
    EndLf,
    /// After the body.
    Done,
    /// An error is final.
    Failed(ChunkError),
}

/// A decoder for one chunked body; 24 bytes, no heap.
///
/// Strictness, beyond the grammar:
/// - A size is hexadecimal digits alone: no sign, no prefix, no white space before `;` (the grammar's "bad white space").
///   At most 16 significant digits; leading zeros are bounded by the line, and those that make a size longer than 16
///   digits count as bytes of extensions.
/// - An extension needs a name after its `;` and holds printable ASCII, SP and HTAB only. Its meaning is ignored
///   (section 7.1.1 says a recipient must ignore extensions that it does not know; none is known here). One size line is
///   bounded by [`CHUNK_LINE_BYTES_MAX`], the extensions of the whole body by [`CHUNK_EXTENSIONS_BYTES_MAX`].
/// - Trailers are checked as fields, bounded by [`TRAILERS_BYTES_MAX`] and [`TRAILERS_MAX`], and **dropped**, all of
///   them, as RFC 9110 section 6.5.1 allows. So a trailer named `Content-Length`, `Transfer-Encoding` or `Host` can
///   never reach framing, routing or an upstream. A proxy keeps those that may be forwarded:
///   [`ChunkedDecoder::decode_with`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChunkedDecoder {
    /// The size as far as it has been read; then the bytes of data still to come.
    size: u64,
    /// Bytes of extensions in the body so far, and of digits that no size needs.
    padding_bytes: u16,
    /// Bytes of the current size line, or of the trailer section.
    line_bytes: u16,
    /// Trailer fields so far.
    trailers: u8,
    state: State,
}

const _: () = assert!(size_of::<ChunkedDecoder>() <= 32);

impl ChunkedDecoder {
    /// A decoder at the start of a body.
    pub fn new() -> ChunkedDecoder {
        ChunkedDecoder::default()
    }

    /// Whether the body has ended.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Walks `input`, the bytes that follow those consumed so far, up to the next run of body bytes, the end of the
    /// body or the end of the input. Never consumes a byte after the body.
    ///
    /// # Errors
    /// The first violation; every later call returns it again.
    pub fn decode(&mut self, input: &[u8]) -> Result<ChunkStep, ChunkError> {
        self.walk(input, |_, _| {})
    }

    /// [`ChunkedDecoder::decode`] that keeps, in `trailers`, those that may be forwarded. The same ones for every call of
    /// a body, and empty before the first.
    ///
    /// # Errors
    /// See [`ChunkedDecoder::decode`].
    pub fn decode_with(&mut self, input: &[u8], trailers: &mut Trailers) -> Result<ChunkStep, ChunkError> {
        self.walk(input, |state, b| match (state, b) {
            (State::TrailerStart | State::TrailerValue, b'\r') => {}
            (State::TrailerStart, _) => trailers.begin_line(b),
            (State::TrailerName | State::TrailerValue, _) => trailers.push_byte(b),
            (State::TrailerLf, _) => trailers.end_line(),
            _ => {}
        })
    }

    /// Shows `pass` each byte of framing that is in its place, with the place.
    #[inline]
    fn walk(&mut self, input: &[u8], mut pass: impl FnMut(State, u8)) -> Result<ChunkStep, ChunkError> {
        for (at, &b) in input.iter().enumerate() {
            match self.state {
                State::Data => return Ok(self.take_data(at, input.len() - at)),
                State::Done => return Ok(ChunkStep::Done { consumed: at }),
                _ => {}
            }
            match self.step(b) {
                Ok(state) => {
                    pass(self.state, b);
                    self.state = state;
                }
                Err(error) => {
                    self.state = State::Failed(error);
                    return Err(error);
                }
            }
        }
        match self.state {
            State::Done => Ok(ChunkStep::Done { consumed: input.len() }),
            State::Failed(error) => Err(error),
            _ => Ok(ChunkStep::NeedMore { consumed: input.len() }),
        }
    }

    /// A run of data that starts at `skip`, with `available` bytes of input from there on (at least one).
    fn take_data(&mut self, skip: usize, available: usize) -> ChunkStep {
        let len = usize::try_from(self.size).map_or(available, |left| left.min(available));
        self.size -= len as u64;
        if self.size == 0 {
            self.state = State::DataCr;
        }
        ChunkStep::Data { skip, len }
    }

    /// The state after `b`.
    fn step(&mut self, b: u8) -> Result<State, ChunkError> {
        match (self.state, b) {
            (State::SizeFirst, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                self.size = 0;
                self.line_bytes = 0;
                self.push_digit(b)
            }
            (State::Size, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => self.push_digit(b),
            (State::Size, b';') => self.count_extension(State::ExtensionStart),
            (State::Size | State::Extension, b'\r') => Ok(State::SizeLf),
            (State::Size | State::Extension, b'\n') => Err(ChunkError::LineEnd),
            (State::SizeFirst | State::Size, _) => Err(ChunkError::Size),
            (State::ExtensionStart, b' ' | b'\t') => self.count_extension(State::ExtensionStart),
            (State::ExtensionStart, _) if syntax::is(b, syntax::TCHAR) => self.count_extension(State::Extension),
            (State::Extension, b'\t' | b' '..=b'~') => self.count_extension(State::Extension),
            (State::ExtensionStart | State::Extension, _) => Err(ChunkError::Extension),
            (State::SizeLf, b'\n') => Ok(self.end_size_line()),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::SizeFirst),
            (State::DataCr | State::DataLf, _) => Err(ChunkError::Terminator),
            (State::TrailerStart, b'\r') => Ok(State::EndLf),
            (State::TrailerStart | State::TrailerName, _) if syntax::is(b, syntax::TCHAR) => {
                self.count_trailer_byte(State::TrailerName)
            }
            (State::TrailerName, b':') => self.count_trailer_byte(State::TrailerValue),
            (State::TrailerValue, b'\r') => self.count_trailer_byte(State::TrailerLf),
            (State::TrailerStart | State::TrailerValue, b'\n') => Err(ChunkError::LineEnd),
            (State::TrailerValue, _) if syntax::is(b, syntax::FIELD_VALUE) => {
                self.count_trailer_byte(State::TrailerValue)
            }
            (State::TrailerStart | State::TrailerName | State::TrailerValue, _) => Err(ChunkError::Trailer),
            (State::TrailerLf, b'\n') => self.end_trailer(),
            (State::EndLf, b'\n') => Ok(State::Done),
            (State::SizeLf | State::TrailerLf | State::EndLf, _) => Err(ChunkError::LineEnd),
            (State::Failed(error), _) => Err(error),
            // `decode` steps in neither of these.
            (State::Data | State::Done, _) => Ok(self.state),
        }
    }

    fn push_digit(&mut self, b: u8) -> Result<State, ChunkError> {
        self.count_line_byte()?;
        // Zeros before it, or the size would overflow: as much to read for nothing as an extension.
        if self.line_bytes > SIZE_DIGITS {
            self.count_padding()?;
        }
        if self.size >> 60 != 0 {
            return Err(ChunkError::SizeOverflow);
        }
        let digit = match b {
            b'0'..=b'9' => b - b'0',
            _ => (b | 0x20) - b'a' + 10,
        };
        self.size = self.size << 4 | u64::from(digit);
        Ok(State::Size)
    }

    fn count_line_byte(&mut self) -> Result<(), ChunkError> {
        self.line_bytes += 1;
        if usize::from(self.line_bytes) > CHUNK_LINE_BYTES_MAX {
            return Err(ChunkError::LineTooLong);
        }
        Ok(())
    }

    fn count_extension(&mut self, next: State) -> Result<State, ChunkError> {
        self.count_line_byte()?;
        self.count_padding()?;
        Ok(next)
    }

    fn count_padding(&mut self) -> Result<(), ChunkError> {
        self.padding_bytes += 1;
        if usize::from(self.padding_bytes) > CHUNK_EXTENSIONS_BYTES_MAX {
            return Err(ChunkError::ExtensionsTooLong);
        }
        Ok(())
    }

    fn end_size_line(&mut self) -> State {
        self.line_bytes = 0;
        if self.size == 0 { State::TrailerStart } else { State::Data }
    }

    fn count_trailer_byte(&mut self, next: State) -> Result<State, ChunkError> {
        if next == State::TrailerName && self.state == State::TrailerStart {
            self.trailers += 1;
            if usize::from(self.trailers) > TRAILERS_MAX {
                return Err(ChunkError::TooManyTrailers);
            }
        }
        self.line_bytes += 1;
        if usize::from(self.line_bytes) > TRAILERS_BYTES_MAX {
            return Err(ChunkError::TrailersTooLarge);
        }
        Ok(next)
    }

    fn end_trailer(&mut self) -> Result<State, ChunkError> {
        self.count_trailer_byte(State::TrailerStart)
    }
}

#[cfg(test)]
mod tests;
