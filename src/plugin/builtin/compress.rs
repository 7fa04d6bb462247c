//! `compress`: responses with gzip, Brotli or Zstandard, by what the client prefers.
//!
//! What a handler writes goes out at once, compressed: nobody here knows whether it will write again soon, or whether its
//! client waits for just these bytes (server-sent events). Only pieces behind which more is at hand are gathered, which a
//! proxy knows: see [`BodyHook::more_follows`].

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::rc::Rc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::codec::{CodecError, CodingName, Encoder, Levels, Step};
use super::media_types::{TypePattern, essence_of, parse_types};
use crate::handler::Coding;
use crate::handler::encoding::negotiate;
use crate::http::head::list_members;
use crate::http::{FieldError, Fields, Status};
use crate::limits::{ENCODERS_KEPT, ENCODERS_MAX};
use crate::plugin::registry::Build;
use crate::plugin::{
    BodyHook, BodyPlan, BuildContext, Hook, Hooks, Mistake, Plugin, PluginError, PostHandler, PostResponse,
    Registration,
};
use crate::units::{self, ByteSize};

pub(super) const REGISTRATION: Registration = Registration::new(
    "compress",
    "compresses responses with gzip, Brotli or Zstandard, by what the client prefers",
    PhantomData::<(Options, Compress)>,
);

/// Compresses responses for clients that say they take it. Left as they are: those that are encoded already, parts of a whole
/// (ranges), those that `Cache-Control: no-transform` protects, those with a digest, and answers to HEAD.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Options {
    /// Codings that may be used. Their order decides where a client likes several as well.
    #[schemars(length(min = 1), extend("uniqueItems" = true))]
    pub codings: Vec<CodingName>,
    /// Bytes of a body from which it is worth it, where its length is known ahead.
    #[serde(with = "units::as_byte_size")]
    #[schemars(with = "ByteSize", extend("minimum" = 0, "maximum" = 1_u64 << 30))]
    pub min_size: u64,
    /// Media types of bodies that are compressed: `type/subtype`, `type/*`, or `+suffix`. A response without `Content-Type` is
    /// not.
    pub types: Vec<String>,
    /// How much work is done for fewer bytes.
    pub levels: Levels,
}

impl Default for Options {
    fn default() -> Self {
        let types = [
            "text/*",
            "application/json",
            "application/javascript",
            "application/xml",
            "application/wasm",
            "image/svg+xml",
            "+json",
            "+xml",
        ];
        Self {
            codings: vec![CodingName::Br, CodingName::Zstd, CodingName::Gzip],
            min_size: 1024,
            types: types.map(str::to_owned).to_vec(),
            levels: Levels::default(),
        }
    }
}

struct Compress {
    codings: Vec<Coding>,
    min_size: u64,
    types: Vec<TypePattern>,
    levels: Levels,
}

impl Build<Options> for Compress {
    const KEEPS_STATE: bool = true;

    fn build(options: Options, _: &BuildContext<'_>) -> Result<Self, Vec<Mistake>> {
        let types = parse_types("types", &options.types)?;
        let codings = options.codings.into_iter().map(Coding::from).collect();
        let Options { min_size, levels, .. } = options;
        Ok(Self { codings, min_size, types, levels })
    }
}

/// What one core keeps: encoders that wait for the next response.
#[derive(Default)]
struct Pool {
    kept: RefCell<Vec<Encoder>>,
    in_use: Cell<usize>,
}

impl Pool {
    fn take(&self, coding: Coding, levels: &Levels) -> Result<Encoder, CodecError> {
        let mut kept = self.kept.borrow_mut();
        match kept.iter().rposition(|encoder| encoder.coding() == coding) {
            Some(at) => Ok(kept.swap_remove(at)),
            None => Encoder::new(coding, levels),
        }
    }

    fn give(&self, encoder: Encoder) {
        let coding = encoder.coding();
        let mut kept = self.kept.borrow_mut();
        if kept.iter().filter(|other| other.coding() == coding).count() < ENCODERS_KEPT {
            kept.extend(encoder.renew());
        }
    }
}

/// A response that is being compressed.
struct Stream {
    pool: Rc<Pool>,
    coding: Coding,
    /// Made with the first piece.
    encoder: Option<Encoder>,
    /// It has something that did not come out yet.
    is_gathering: bool,
}

impl Stream {
    /// `None` where there are too many.
    fn new(pool: Rc<Pool>, coding: Coding) -> Option<Self> {
        let in_use = pool.in_use.get();
        if in_use >= ENCODERS_MAX {
            return None;
        }
        pool.in_use.set(in_use + 1);
        Some(Self { pool, coding, encoder: None, is_gathering: false })
    }

    fn write(&mut self, piece: &[u8], step: Step, levels: &Levels, out: &mut Vec<u8>) -> Result<(), CodecError> {
        if piece.is_empty() && (step == Step::Gather || step == Step::Flush && !self.is_gathering) {
            return Ok(());
        }
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            none => none.insert(self.pool.take(self.coding, levels)?),
        };
        encoder.write(piece, step, out)?;
        self.is_gathering = step == Step::Gather;
        Ok(())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.pool.in_use.set(self.pool.in_use.get() - 1);
        if let Some(encoder) = self.encoder.take() {
            self.pool.give(encoder);
        }
    }
}

impl Compress {
    /// Whether a response is one that is compressed for clients that take it.
    fn is_for(&self, hook: &mut PostHandler<'_, '_>) -> bool {
        let (status, length) = (hook.status(), hook.length());
        let (request, fields) = hook.parts();
        let has_content = !status.is_bodiless() && status != Status::PARTIAL_CONTENT && status.code() != 205;
        if !has_content || length.is_some_and(|length| length < self.min_size) || !self.is_type(fields) {
            return false;
        }
        // Of those with a digest it is of the bytes as they are (RFC 9530).
        let kept = ["content-range", "content-digest", "repr-digest", "digest", "content-md5"];
        if kept.iter().any(|name| fields.contains(name)) {
            return false;
        }
        let is_no_transform = |value: &[u8]| {
            list_members(value).any(|directive| directive.trim_ascii().eq_ignore_ascii_case(b"no-transform"))
        };
        let is_encoded = |value: &[u8]| list_members(value).any(|coding| !coding.eq_ignore_ascii_case(b"identity"));
        !request.header_values("cache-control").any(is_no_transform)
            && !fields.values("cache-control").any(is_no_transform)
            && !fields.values("content-encoding").any(is_encoded)
    }

    fn is_type(&self, fields: &Fields) -> bool {
        let Some(value) = fields.get("content-type") else { return false };
        self.types.iter().any(|pattern| pattern.matches(essence_of(value)))
    }
}

/// Has the fields tell of a body that is coded. The last step is the one that must not be without a coded body.
fn lay_fields(fields: &mut Fields, coding: Coding) -> Result<(), FieldError> {
    // Other bytes: the same by meaning alone (RFC 9110 section 8.8.1).
    let strong = fields.get("etag").filter(|tag| tag.starts_with(b"\""));
    if let Some(weak) = strong.map(|tag| [b"W/", tag].concat()) {
        fields.set("ETag", weak)?;
    }
    fields.set("Content-Encoding", coding.name())?;
    fields.remove("Accept-Ranges");
    Ok(())
}

impl Plugin for Compress {
    fn hooks(&self) -> Hooks {
        Hooks::NONE.with(Hook::PostHandler).with(Hook::PostHandlerBody).with(Hook::PostResponse)
    }

    fn post_handler(&self, hook: &mut PostHandler<'_, '_>) -> Result<BodyPlan, PluginError> {
        if !self.is_for(hook) {
            return Ok(BodyPlan::AsIs);
        }
        hook.fields().add_vary("Accept-Encoding")?;
        if hook.is_head_only() {
            return Ok(BodyPlan::AsIs);
        }
        let preference = negotiate(hook.request().header_values("accept-encoding"), &self.codings);
        let Some(&coding) = preference.codings.first() else { return Ok(BodyPlan::AsIs) };
        let Some(stream) = Stream::new(hook.local(Pool::default), coding) else { return Ok(BodyPlan::AsIs) };
        lay_fields(hook.fields(), coding)?;
        hook.slot().put(stream);
        Ok(BodyPlan::Changed)
    }

    fn post_handler_body(&self, hook: &mut BodyHook<'_>, piece: &[u8], end: bool) -> Result<(), PluginError> {
        let step = match (end, hook.more_follows()) {
            (true, _) => Step::End,
            (false, true) => Step::Gather,
            (false, false) => Step::Flush,
        };
        let (slot, out) = hook.parts();
        let stream = slot.get_mut::<Stream>().ok_or_else(|| PluginError("a body without its encoder".to_owned()))?;
        let failed = |error: CodecError| PluginError(format!("a body could not be compressed: {error}"));
        stream.write(piece, step, &self.levels, out).map_err(failed)?;
        if end {
            // The connection may wait long for its next request.
            slot.take::<Stream>();
        }
        Ok(())
    }

    fn post_response(&self, hook: &mut PostResponse<'_>) {
        hook.slot().take::<Stream>();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vary_is_said_once_and_tags_become_weak() {
        for (before, after) in
            [(None, "Accept-Encoding"), (Some("Origin, accept-encoding"), "Origin, accept-encoding"), (Some("*"), "*")]
        {
            let mut fields = Fields::new();
            before.into_iter().for_each(|value| fields.push("vary", value).unwrap());
            fields.add_vary("Accept-Encoding").unwrap();
            assert_eq!(fields.values("vary").collect::<Vec<_>>(), [after.as_bytes()]);
        }
        for (before, after) in [("\"a\"", "W/\"a\""), ("W/\"a\"", "W/\"a\"")] {
            let mut fields = Fields::new();
            fields.push("ETag", before).unwrap();
            fields.push("Accept-Ranges", "bytes").unwrap();
            lay_fields(&mut fields, Coding::Gzip).unwrap();
            assert_eq!((fields.get("etag"), fields.get("accept-ranges")), (Some(after.as_bytes()), None));
        }
    }

    #[test]
    fn a_core_keeps_few_encoders_and_lends_a_bounded_number() {
        let (pool, levels) = (Rc::new(Pool::default()), Levels::default());
        let mut streams: Vec<_> = (0..ENCODERS_MAX).map_while(|_| Stream::new(pool.clone(), Coding::Zstd)).collect();
        assert_eq!(streams.len(), ENCODERS_MAX);
        assert!(Stream::new(pool.clone(), Coding::Gzip).is_none());
        for stream in streams.iter_mut().take(2 * ENCODERS_KEPT) {
            stream.write(b"half of a", Step::Gather, &levels, &mut Vec::new()).unwrap();
        }
        drop(streams);
        assert_eq!((pool.kept.borrow().len(), pool.in_use.get()), (ENCODERS_KEPT, 0));
        // What the one before left is gone.
        let mut out = Vec::new();
        Stream::new(pool, Coding::Zstd).unwrap().write(b"whole", Step::End, &levels, &mut out).unwrap();
        assert_eq!(super::super::codec::decoded(Coding::Zstd, &out).unwrap(), b"whole");
    }
}
