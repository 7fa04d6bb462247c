//! `decompress`: the bodies of requests, before their handler.
//!
//! A small body may decompress to a thousand times its length. So nothing is decompressed ahead: each piece is made when it is
//! asked for, and the body is refused at the first byte that is too many.

use std::cell::Cell;
use std::marker::PhantomData;
use std::rc::Rc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::codec::{CodecError, CodingName, Decoder};
use crate::handler::encoding::coding_of;
use crate::handler::{BodyDecoder, BodyError, Coding};
use crate::http::head::list_members;
use crate::http::{BodyFraming, FieldError, Status};
use crate::limits::{CODINGS_MAX, DECODED_FREE_BYTES, DECODERS_BYTES_MAX};
use crate::plugin::registry::Build;
use crate::plugin::{BuildContext, Hook, Hooks, LocalAnswer, Mistake, Plugin, PreHandler, Registration, Step, Verdict};
use crate::units::{self, ByteSize};

pub(super) const REGISTRATION: Registration = Registration::new(
    "decompress",
    "decompresses the bodies of requests before their handler, within limits",
    PhantomData::<(Options, Decompress)>,
);

/// Decompresses the bodies of requests that say by `Content-Encoding` that they are compressed. The handler, or an upstream, gets
/// a body without that field and of unknown length. `server.limits.body` holds for the body as it comes, these limits for what
/// is made of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Options {
    /// Bytes that a body may come to. More: 413.
    #[serde(with = "units::as_byte_size")]
    #[schemars(with = "ByteSize", extend("minimum" = 1, "maximum" = 1_u64 << 40))]
    pub max: u64,
    /// How many times its own length a body may come to, beyond 64 KiB. More: 413.
    #[schemars(range(min = 1, max = 100_000))]
    pub max_ratio: u32,
    /// Codings that are taken. Another one: 415.
    #[schemars(length(min = 1), extend("uniqueItems" = true))]
    pub codings: Vec<CodingName>,
}

impl Default for Options {
    fn default() -> Self {
        Self { max: 8 << 20, max_ratio: 100, codings: vec![CodingName::Gzip, CodingName::Br, CodingName::Zstd] }
    }
}

struct Decompress {
    bounds: Bounds,
    codings: Vec<Coding>,
    /// The codings, as `Accept-Encoding` has them.
    names: String,
}

#[derive(Clone, Copy, Debug)]
struct Bounds {
    max: u64,
    max_ratio: u32,
}

impl Build<Options> for Decompress {
    const KEEPS_STATE: bool = true;

    fn build(options: Options, _: &BuildContext<'_>) -> Result<Self, Vec<Mistake>> {
        let codings: Vec<Coding> = options.codings.into_iter().map(Coding::from).collect();
        let names: Vec<_> = codings.iter().map(|coding| coding.name()).collect();
        let bounds = Bounds { max: options.max, max_ratio: options.max_ratio };
        Ok(Self { bounds, names: names.join(", "), codings })
    }
}

/// Bytes that the decoders may come to which one core has at work.
#[derive(Default)]
struct Tally(Cell<u64>);

/// Those of one body, until this is dropped.
struct Counted(Rc<Tally>, u64);

impl Counted {
    /// `None` where they are too many with these.
    fn new(tally: Rc<Tally>, codings: &[Coding], most: u64) -> Option<Self> {
        let bytes = codings.iter().map(|coding| Decoder::bytes_max(*coding, most)).sum();
        let in_all = tally.0.get() + bytes;
        if in_all > DECODERS_BYTES_MAX {
            return None;
        }
        tally.0.set(in_all);
        Some(Self(tally, bytes))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.set(self.0.0.get() - self.1);
    }
}

/// One decoder, and what it has come to. Each is held to the bounds: a bomb in a bomb is one in the middle already.
struct Stage {
    decoder: Decoder,
    taken: u64,
    made: u64,
}

impl Stage {
    fn read(&mut self, input: &[u8], out: &mut Vec<u8>, bounds: Bounds) -> Result<usize, BodyError> {
        let before = out.len();
        let taken = self.decoder.read(input, out).map_err(undecodable)?;
        self.taken += taken as u64;
        self.made += (out.len() - before) as u64;
        let by_ratio = self.taken.saturating_mul(u64::from(bounds.max_ratio)).max(DECODED_FREE_BYTES);
        if self.made > bounds.max.min(by_ratio) {
            return Err(BodyError::TooLarge);
        }
        Ok(taken)
    }
}

fn undecodable(_: CodecError) -> BodyError {
    BodyError::Undecodable
}

/// What undoes the codings of one body.
struct Undo {
    bounds: Bounds,
    first: Stage,
    second: Option<Second>,
    _counted: Counted,
}

/// What is behind the first.
struct Second {
    stage: Stage,
    /// What the first has made.
    middle: Vec<u8>,
    /// Bytes of it that were read.
    used: usize,
}

impl Undo {
    /// `None` where there is no memory. `codings` as they were applied, two at most.
    fn new(bounds: Bounds, codings: &[Coding], counted: Counted) -> Option<Self> {
        let stage = |coding: &Coding| Some(Stage { decoder: Decoder::new(*coding).ok()?, taken: 0, made: 0 });
        let (last, before) = codings.split_last()?;
        let second = match before.last() {
            Some(coding) => Some(Second { stage: stage(coding)?, middle: Vec::new(), used: 0 }),
            None => None,
        };
        Some(Self { bounds, first: stage(last)?, second, _counted: counted })
    }
}

impl BodyDecoder for Undo {
    fn decode(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, BodyError> {
        let Self { bounds, first, second, .. } = self;
        let Some(Second { stage, middle, used }) = second else { return first.read(input, out, *bounds) };
        let mut taken = 0;
        loop {
            let before = out.len();
            let read = stage.read(&middle[*used..], out, *bounds)?;
            *used += read;
            if out.len() > before {
                return Ok(taken);
            }
            if *used < middle.len() {
                if read == 0 {
                    return Err(BodyError::Undecodable);
                }
                continue;
            }
            middle.clear();
            *used = 0;
            let step = first.read(&input[taken..], middle, *bounds)?;
            taken += step;
            if middle.is_empty() && step == 0 {
                return Ok(taken);
            }
        }
    }

    fn end(&mut self) -> Result<(), BodyError> {
        let is_whole = self.first.decoder.is_whole()
            && self.second.as_ref().is_none_or(|second| second.stage.decoder.is_whole() && second.middle.is_empty());
        if is_whole { Ok(()) } else { Err(BodyError::Undecodable) }
    }
}

impl Decompress {
    /// The codings of the request's body, in the order in which they were applied; `None` where one is not known, or they are
    /// too many.
    fn codings_of(&self, hook: &mut PreHandler<'_, '_>) -> Result<Option<SmallVec<[Coding; CODINGS_MAX]>>, Verdict> {
        let Ok(request) = hook.request() else {
            let status = Status::REQUEST_HEADER_FIELDS_TOO_LARGE;
            return Err(hook.answer(LocalAnswer::problem(status, "the request head is too large")));
        };
        let mut codings = SmallVec::new();
        for name in request.header_values("content-encoding").flat_map(list_members) {
            if name.eq_ignore_ascii_case(b"identity") {
                continue;
            }
            match coding_of(name).filter(|coding| self.codings.contains(coding)) {
                Some(coding) if codings.len() < CODINGS_MAX => codings.push(coding),
                _ => return Ok(None),
            }
        }
        Ok(Some(codings))
    }

    fn undo(&self, hook: &mut PreHandler<'_, '_>) -> Result<(), Verdict> {
        if hook.framing() == BodyFraming::None || hook.header("content-encoding").is_none() {
            return Ok(());
        }
        let codings = self.codings_of(hook)?.ok_or_else(|| self.refuse(hook))?;
        if !codings.is_empty() && hook.framing() != BodyFraming::Length(0) {
            let counted = Counted::new(hook.local(Tally::default), &codings, self.bounds.max);
            let Some(undo) = counted.and_then(|counted| Undo::new(self.bounds, &codings, counted)) else {
                let busy = "too many compressed request bodies at a time";
                return Err(hook.answer(LocalAnswer::problem(Status::SERVICE_UNAVAILABLE, busy)));
            };
            hook.decode_body(Box::new(undo));
        }
        let remove = |name| hook.remove_header(name).map_err(|error: FieldError| Verdict::Fail(error.into()));
        // A digest of the coded bytes is none of these.
        ["Content-Encoding", "Content-Digest", "Repr-Digest", "Digest", "Content-MD5"].into_iter().try_for_each(remove)
    }

    /// 415, and what would be taken (RFC 9110 section 12.5.3).
    fn refuse(&self, hook: &mut PreHandler<'_, '_>) -> Verdict {
        let answer = LocalAnswer::problem(
            Status::UNSUPPORTED_MEDIA_TYPE,
            "the request body has a content coding that is not taken here",
        );
        let answer = answer.with("Accept-Encoding", &self.names);
        answer.map_or_else(|error| Verdict::Fail(error.into()), |answer| hook.answer(answer))
    }
}

impl Plugin for Decompress {
    fn hooks(&self) -> Hooks {
        Hooks::NONE.with(Hook::PreHandler)
    }

    fn pre_handler<'a>(&'a self, hook: &'a mut PreHandler<'_, '_>) -> Step<'a> {
        Step::Now(self.undo(hook).map_or_else(|verdict| verdict, |()| Verdict::Continue))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoders_are_lent_by_what_they_may_come_to_and_given_back() {
        for (codings, most, expected) in [
            (&[Coding::Gzip][..], 8 << 20, 16_384),
            (&[Coding::Brotli], 8 << 20, 124),
            (&[Coding::Brotli], 1 << 40, 63),
            (&[Coding::Zstd, Coding::Gzip], 64 << 10, 2730),
        ] {
            let tally = Rc::new(Tally::default());
            let lent: Vec<_> = (0..20_000).map_while(|_| Counted::new(tally.clone(), codings, most)).collect();
            assert_eq!(lent.len(), expected, "{codings:?} {most}");
            drop(lent);
            assert_eq!(tally.0.get(), 0);
        }
    }
}
