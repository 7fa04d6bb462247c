//! What compresses.

use brotli::enc::StandardAlloc;
use brotli::enc::encode::{BrotliEncoderOperation, BrotliEncoderParameter, BrotliEncoderStateStruct};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zlib_rs::{Deflate, DeflateFlush};
use zstd_safe::zstd_sys::ZSTD_EndDirective;
use zstd_safe::{CCtx, CParameter, InBuffer, OutBuffer, ResetDirective};

use super::{CodecError, ROOM_BYTES, into_room};
use crate::handler::Coding;
use crate::limits::{BROTLI_ENCODER_WINDOW_LOG, ZSTD_ENCODER_WINDOW_LOG, ZSTD_TABLE_LOG};

/// How much work each coding does for fewer bytes. The highest levels of the codings are left out: they take many times as
/// long, and memory, for some percent, which is for files that are compressed once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "CompressionLevels")]
pub(in super::super) struct Levels {
    /// Of gzip.
    #[schemars(range(min = 1, max = 9))]
    pub gzip: u8,
    /// Of Brotli.
    #[schemars(range(min = 0, max = 6))]
    pub br: u8,
    /// Of Zstandard.
    #[schemars(range(min = 1, max = 9))]
    pub zstd: u8,
}

impl Default for Levels {
    fn default() -> Self {
        Self { gzip: 4, br: 4, zstd: 3 }
    }
}

/// What is to happen behind the bytes that an encoder is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Step {
    /// More follow: it may keep them.
    Gather,
    /// All that it has kept comes out, so that whoever gets it can decode everything so far.
    Flush,
    /// That was all.
    End,
}

/// Compresses one stream after another.
pub(in super::super) enum Encoder {
    /// With its header and check, RFC 1952; some 400 KiB.
    Gzip(Box<Deflate>),
    /// Up to 4 MiB at level 6, 2.3 MiB at level 4. It ends with its stream: a new one takes its place.
    Brotli(Box<BrotliEncoderStateStruct<StandardAlloc>>),
    /// Some 2 MiB.
    Zstd(CCtx<'static>),
}

/// Windows of 32 KiB, and a gzip header: what zlib adds to its window bits for that.
const GZIP_WINDOW_BITS: u8 = 15 + 16;

impl Encoder {
    /// Begins a stream.
    ///
    /// # Errors
    /// When there is no memory for it.
    pub(in super::super) fn new(coding: Coding, levels: &Levels) -> Result<Self, CodecError> {
        Ok(match coding {
            Coding::Gzip => Self::Gzip(Box::new(Deflate::new(i32::from(levels.gzip), true, GZIP_WINDOW_BITS))),
            Coding::Brotli => {
                let mut state = BrotliEncoderStateStruct::new(StandardAlloc::default());
                state.set_parameter(BrotliEncoderParameter::BROTLI_PARAM_QUALITY, u32::from(levels.br));
                state.set_parameter(BrotliEncoderParameter::BROTLI_PARAM_LGWIN, BROTLI_ENCODER_WINDOW_LOG);
                Self::Brotli(Box::new(state))
            }
            Coding::Zstd => {
                let mut context = CCtx::try_create().ok_or(CodecError)?;
                for parameter in [
                    CParameter::CompressionLevel(i32::from(levels.zstd)),
                    CParameter::WindowLog(ZSTD_ENCODER_WINDOW_LOG),
                    CParameter::HashLog(ZSTD_TABLE_LOG),
                    CParameter::ChainLog(ZSTD_TABLE_LOG),
                ] {
                    context.set_parameter(parameter).map_err(|_| CodecError)?;
                }
                Self::Zstd(context)
            }
        })
    }

    /// Compresses `input` behind `out`.
    ///
    /// # Errors
    /// The codec failed: the stream cannot go on.
    pub(in super::super) fn write(&mut self, input: &[u8], step: Step, out: &mut Vec<u8>) -> Result<(), CodecError> {
        match self {
            Self::Gzip(deflate) => write_gzip(deflate, input, step, out),
            Self::Brotli(state) => write_brotli(state, input, step, out),
            Self::Zstd(context) => write_zstd(context, input, step, out),
        }
    }

    /// Makes it ready for another stream, whatever became of the one before; `None` where it cannot be.
    pub(in super::super) fn renew(mut self) -> Option<Self> {
        match &mut self {
            Self::Gzip(deflate) => deflate.reset(),
            Self::Brotli(_) => return None,
            Self::Zstd(context) => {
                context.reset(ResetDirective::SessionOnly).ok()?;
            }
        }
        Some(self)
    }

    /// Its coding.
    pub(in super::super) fn coding(&self) -> Coding {
        match self {
            Self::Gzip(_) => Coding::Gzip,
            Self::Brotli(_) => Coding::Brotli,
            Self::Zstd(_) => Coding::Zstd,
        }
    }

    /// Bytes that it takes, where it can tell.
    #[cfg(test)]
    pub(super) fn size(&self) -> Option<usize> {
        match self {
            Self::Zstd(context) => Some(context.sizeof()),
            Self::Gzip(_) | Self::Brotli(_) => None,
        }
    }
}

fn write_gzip(deflate: &mut Deflate, mut input: &[u8], step: Step, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let flush = match step {
        Step::Gather => DeflateFlush::NoFlush,
        Step::Flush => DeflateFlush::SyncFlush,
        Step::End => DeflateFlush::Finish,
    };
    loop {
        let (taken, made) = (deflate.total_in(), deflate.total_out());
        let status = into_room(out, ROOM_BYTES, |room| {
            let status = deflate.compress(input, room, flush);
            (status, (deflate.total_out() - made) as usize)
        });
        let status = status.map_err(|_| CodecError)?;
        input = &input[(deflate.total_in() - taken) as usize..];
        match (status, step) {
            (zlib_rs::Status::StreamEnd, _) => return Ok(()),
            // It had room to spare, and so has nothing left; but for the end, which it says.
            (_, Step::Gather | Step::Flush) if input.is_empty() && deflate.total_out() - made < ROOM_BYTES as u64 => {
                return Ok(());
            }
            (zlib_rs::Status::BufError, _) if deflate.total_out() == made => return Err(CodecError),
            _ => {}
        }
    }
}

fn write_brotli(
    state: &mut BrotliEncoderStateStruct<StandardAlloc>,
    input: &[u8],
    step: Step,
    out: &mut Vec<u8>,
) -> Result<(), CodecError> {
    let operation = |step| match step {
        Step::Gather => BrotliEncoderOperation::BROTLI_OPERATION_PROCESS,
        Step::Flush => BrotliEncoderOperation::BROTLI_OPERATION_FLUSH,
        Step::End => BrotliEncoderOperation::BROTLI_OPERATION_FINISH,
    };
    let (mut left, mut at) = (input.len(), 0);
    loop {
        let is_good = into_room(out, ROOM_BYTES, |room| {
            let (mut room_left, mut made) = (room.len(), 0);
            let is_good = state.compress_stream(
                operation(step),
                &mut left,
                input,
                &mut at,
                &mut room_left,
                room,
                &mut made,
                &mut None,
                &mut |_, _, _, _| (),
            );
            (is_good, made)
        });
        if !is_good {
            return Err(CodecError);
        }
        let is_done = match step {
            Step::Gather | Step::Flush => left == 0 && !state.has_more_output(),
            Step::End => state.is_finished(),
        };
        if is_done {
            return Ok(());
        }
    }
}

fn write_zstd(context: &mut CCtx<'static>, input: &[u8], step: Step, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let directive = || match step {
        Step::Gather => ZSTD_EndDirective::ZSTD_e_continue,
        Step::Flush => ZSTD_EndDirective::ZSTD_e_flush,
        Step::End => ZSTD_EndDirective::ZSTD_e_end,
    };
    let mut input = InBuffer::around(input);
    loop {
        let left = into_room(out, ROOM_BYTES, |room| {
            let mut room = OutBuffer::around(room);
            let left = context.compress_stream2(&mut room, &mut input, directive());
            (left, room.pos())
        });
        let left = left.map_err(|_| CodecError)?;
        let is_taken = input.pos() == input.src.len();
        if is_taken && (left == 0 || step == Step::Gather) {
            return Ok(());
        }
    }
}
