//! What decompresses.

use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult};
use zlib_rs::{Inflate, InflateFlush};
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

use super::{BrotliDecoder, CodecError, ROOM_BYTES, into_room};
use crate::handler::Coding;
use crate::limits::{GZIP_MEMBER_BYTES_MIN, GZIP_MEMBERS_FREE, ZSTD_DECODER_WINDOW_LOG};

/// Decompresses one stream.
pub(in super::super) struct Decoder {
    engine: Engine,
    /// Bytes that it took.
    taken: u64,
    /// Whether it may end here: nothing has come, or a whole stream.
    is_whole: bool,
}

enum Engine {
    /// Members one behind the other (RFC 1952 section 2.2), each with its check.
    Gzip { inflate: Box<Inflate>, members: u64 },
    /// Windows of 16 MiB at most (RFC 7932); memory is touched as it is written.
    Brotli(Box<BrotliDecoder>),
    /// Frames one behind the other (RFC 8878 section 3).
    Zstd(DCtx<'static>),
}

/// What a call came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Progress {
    taken: usize,
    is_whole: bool,
}

fn inflate() -> Box<Inflate> {
    // With a gzip header, and none of zlib's.
    Box::new(Inflate::new(true, 15 + 16))
}

impl Decoder {
    /// Begins a stream.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub(in super::super) fn new(coding: Coding) -> Result<Self, CodecError> {
        let allocator = StandardAlloc::default;
        let engine = match coding {
            Coding::Gzip => Engine::Gzip { inflate: inflate(), members: 1 },
            Coding::Brotli => {
                Engine::Brotli(Box::new(BrotliDecoder::new_strict(allocator(), allocator(), allocator())))
            }
            Coding::Zstd => {
                let mut context = DCtx::try_create().ok_or(CodecError)?;
                let most = DParameter::WindowLogMax(ZSTD_DECODER_WINDOW_LOG);
                context.set_parameter(most).map_err(|_| CodecError)?;
                Engine::Zstd(context)
            }
        };
        Ok(Self { engine, taken: 0, is_whole: true })
    }

    /// Decompresses some of `input` behind `out`, some [`ROOM_BYTES`] at most, and says how much of it. With nothing taken
    /// and nothing made it needs more.
    ///
    /// # Errors
    /// The bytes are not what the coding says.
    pub(in super::super) fn read(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, CodecError> {
        if input.is_empty() && self.is_whole {
            return Ok(0);
        }
        let before = self.taken;
        let progress = match &mut self.engine {
            Engine::Gzip { inflate: engine, members } => {
                if self.is_whole && before > 0 {
                    if *members > GZIP_MEMBERS_FREE + before / GZIP_MEMBER_BYTES_MIN {
                        return Err(CodecError);
                    }
                    *members += 1;
                    *engine = inflate();
                }
                read_gzip(engine, input, out)?
            }
            Engine::Brotli(_) if self.is_whole && before > 0 => return Err(CodecError),
            Engine::Brotli(state) => read_brotli(state, input, out)?,
            Engine::Zstd(context) => read_zstd(context, input, out)?,
        };
        self.taken += progress.taken as u64;
        self.is_whole = progress.is_whole;
        Ok(progress.taken)
    }

    /// Whether the stream may end here.
    pub(in super::super) fn is_whole(&self) -> bool {
        self.is_whole
    }
}

fn read_gzip(inflate: &mut Inflate, input: &[u8], out: &mut Vec<u8>) -> Result<Progress, CodecError> {
    let (taken, made) = (inflate.total_in(), inflate.total_out());
    let status = into_room(out, ROOM_BYTES, |room| {
        let status = inflate.decompress(input, room, InflateFlush::NoFlush);
        (status, (inflate.total_out() - made) as usize)
    });
    let is_whole = status.map_err(|_| CodecError)? == zlib_rs::Status::StreamEnd;
    Ok(Progress { taken: (inflate.total_in() - taken) as usize, is_whole })
}

fn read_brotli(state: &mut BrotliDecoder, input: &[u8], out: &mut Vec<u8>) -> Result<Progress, CodecError> {
    let (mut left, mut at, mut total) = (input.len(), 0, 0);
    let result = into_room(out, ROOM_BYTES, |room| {
        let (mut room_left, mut made) = (room.len(), 0);
        let result =
            BrotliDecompressStream(&mut left, &mut at, input, &mut room_left, &mut made, room, &mut total, state);
        (result, made)
    });
    match result {
        BrotliResult::ResultSuccess => Ok(Progress { taken: at, is_whole: true }),
        BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => Ok(Progress { taken: at, is_whole: false }),
        BrotliResult::ResultFailure => Err(CodecError),
    }
}

fn read_zstd(context: &mut DCtx<'static>, input: &[u8], out: &mut Vec<u8>) -> Result<Progress, CodecError> {
    let mut input = InBuffer::around(input);
    let left = into_room(out, ROOM_BYTES, |room| {
        let mut room = OutBuffer::around(room);
        let left = context.decompress_stream(&mut room, &mut input);
        (left, room.pos())
    });
    // Zero: a frame has ended, and all of it is written.
    let is_whole = left.map_err(|_| CodecError)? == 0;
    Ok(Progress { taken: input.pos(), is_whole })
}
