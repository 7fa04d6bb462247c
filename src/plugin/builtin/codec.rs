//! Content codings as plugins use them: what compresses responses, and what decompresses requests. Each codec works on bytes
//! that it is given, piece by piece, within bounds on its memory; none knows of HTTP.

mod decoder;
mod encoder;
#[cfg(test)]
mod reference_tests;
#[cfg(test)]
mod tests;

use std::fmt;

use brotli::BrotliState;
use brotli::enc::StandardAlloc;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(super) use decoder::Decoder;
pub(super) use encoder::{Encoder, Levels, Step};

use crate::handler::Coding;

/// A content coding, as options call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(rename = "ContentCoding")]
pub(super) enum CodingName {
    /// Brotli.
    Br,
    /// Zstandard.
    Zstd,
    /// Gzip.
    Gzip,
}

impl From<CodingName> for Coding {
    fn from(name: CodingName) -> Self {
        match name {
            CodingName::Br => Self::Brotli,
            CodingName::Zstd => Self::Zstd,
            CodingName::Gzip => Self::Gzip,
        }
    }
}

/// The bytes are not what the coding says, or the codec could not work on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CodecError;

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the bytes are not what their coding says")
    }
}

/// Brotli's decoder has an allocator for each kind of its tables.
type BrotliDecoder = BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>;

/// Bytes by which a codec's output grows at a time.
const ROOM_BYTES: usize = 8 * 1024;

/// Has `work` write into `room` fresh bytes behind `out`, of which as many stay as it says it made. It answers the bytes of
/// its input that it took, too.
fn into_room<T>(out: &mut Vec<u8>, room: usize, work: impl FnOnce(&mut [u8]) -> (T, usize)) -> T {
    let start = out.len();
    out.resize(start + room, 0);
    let (result, made) = work(&mut out[start..]);
    out.truncate(start + made.min(room));
    result
}

/// What a whole stream decompresses to.
#[cfg(test)]
pub(super) fn decoded(coding: Coding, bytes: &[u8]) -> Result<Vec<u8>, CodecError> {
    tests::decode(coding, [bytes])
}
