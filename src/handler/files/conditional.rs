//! Validators and the conditional requests that compare them (RFC 9110 sections 8.8 and 13).

use std::io::Write;
use std::time::Duration;

use super::Coding;
use crate::clock;
use crate::http::RequestHead;
use crate::rt::fs::Metadata;

/// A strong entity tag, with its quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Etag {
    bytes: [u8; ETAG_BYTES_MAX],
    length: usize,
}

/// Two quotes and three dashes, sizes and inodes of 64 bits, nanoseconds of 96, a coding's name.
const ETAG_BYTES_MAX: usize = 72;

impl Etag {
    /// Out of what changes with a file's content: size, modification time to the nanosecond, inode (a rename over it).
    /// Each coding has its own: a strong tag stands for exactly these bytes (section 8.8.3.3).
    fn new(metadata: &Metadata, coding: Option<Coding>) -> Self {
        let Metadata { size, modified, inode, .. } = metadata;
        let (dash, name) = coding.map_or(("", ""), |coding| ("-", coding.name()));
        let mut bytes = [0; ETAG_BYTES_MAX];
        let mut rest = bytes.as_mut_slice();
        let written = write!(rest, "\"{size:x}-{:x}-{inode:x}{dash}{name}\"", modified.as_nanos());
        debug_assert!(written.is_ok());
        let length = ETAG_BYTES_MAX - rest.len();
        Self { bytes, length }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// What tells this version of a representation from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Validators {
    /// The entity tag.
    pub(super) etag: Etag,
    /// Last modification, whole seconds since the Unix epoch.
    pub(super) modified: Duration,
}

impl Validators {
    /// Those of a file at the wall-clock time `now`. A modification time to come is taken for now: `Last-Modified` must
    /// not be later than `Date` (section 8.8.2.1).
    pub(super) fn new(metadata: &Metadata, coding: Option<Coding>, now: Duration) -> Self {
        let modified = Duration::from_secs(metadata.modified.min(now).as_secs());
        Self { etag: Etag::new(metadata, coding), modified }
    }
}

/// What the preconditions of a GET or HEAD come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// They hold.
    Proceed,
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

/// Evaluates the preconditions of a GET or HEAD in the order of section 13.2.2, but for `If-Range`.
pub(super) fn evaluate(request: &RequestHead<'_>, validators: &Validators) -> Verdict {
    let etag = validators.etag.as_bytes();
    if has(request, "if-match") {
        // Section 13.1.1: strong comparison; the representation exists, so that `*` holds.
        if !matches_any(request, "if-match", |tag| tag == Tag::Strong(etag)) {
            return Verdict::Failed;
        }
    } else if date(request, "if-unmodified-since").is_some_and(|date| validators.modified > date) {
        return Verdict::Failed;
    }
    if has(request, "if-none-match") {
        // Section 13.1.2: weak comparison.
        if matches_any(request, "if-none-match", |tag| tag.opaque() == etag) {
            return Verdict::NotModified;
        }
    } else if date(request, "if-modified-since").is_some_and(|date| validators.modified <= date) {
        return Verdict::NotModified;
    }
    Verdict::Proceed
}

/// Whether a `Range` is to be looked at: there is no `If-Range`, or it names this very version (section 13.1.5).
///
/// A tag is compared strongly. A date has to be the same one, and its second over at the wall-clock time `now`: within
/// it the file could change again without a new date (section 8.8.2.2).
pub(super) fn range_applies(request: &RequestHead<'_>, validators: &Validators, now: Duration) -> bool {
    let mut values = request.header_values("if-range");
    match (values.next(), values.next()) {
        (None, _) => true,
        (Some(value), None) if value.starts_with(b"\"") => value == validators.etag.as_bytes(),
        (Some(_), None) => date(request, "if-range")
            .is_some_and(|date| date == validators.modified && now.saturating_sub(date) >= Duration::from_secs(1)),
        (Some(_), Some(_)) => false,
    }
}

fn has(request: &RequestHead<'_>, name: &str) -> bool {
    request.header(name).is_some()
}

/// Whether a list of tags is `*` or has one that `matches`.
fn matches_any(request: &RequestHead<'_>, name: &str, matches: impl Fn(Tag<'_>) -> bool) -> bool {
    request.header_values(name).any(|value| value == b"*" || Tags::new(value).any(&matches))
}

/// The date in the only field of this name; `None` where it is none (then the field is ignored: sections 13.1.3 and
/// 13.1.4).
fn date(request: &RequestHead<'_>, name: &str) -> Option<Duration> {
    let mut values = request.header_values(name);
    match (values.next(), values.next()) {
        (Some(value), None) => clock::parse_date(str::from_utf8(value).ok()?),
        _ => None,
    }
}

/// An entity tag of a request, with its quotes (section 8.8.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tag<'a> {
    /// Byte for byte the same.
    Strong(&'a [u8]),
    /// As good as the same.
    Weak(&'a [u8]),
}

impl<'a> Tag<'a> {
    /// What is compared weakly.
    pub(crate) fn opaque(self) -> &'a [u8] {
        match self {
            Self::Strong(opaque) | Self::Weak(opaque) => opaque,
        }
    }
}

/// The tags of a list, up to the first thing that is none. A tag may hold commas.
pub(crate) struct Tags<'a>(&'a [u8]);

impl<'a> Tags<'a> {
    /// Those of a field's value.
    pub(crate) fn new(list: &'a [u8]) -> Self {
        Self(list)
    }
}

impl<'a> Iterator for Tags<'a> {
    type Item = Tag<'a>;

    fn next(&mut self) -> Option<Tag<'a>> {
        let mut rest = std::mem::take(&mut self.0);
        while let [b' ' | b'\t' | b',', after @ ..] = rest {
            rest = after;
        }
        let (is_weak, quoted) = match rest.strip_prefix(b"W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let inside = quoted.strip_prefix(b"\"")?;
        let length = memchr::memchr(b'"', inside)?;
        // `etagc` has no white space.
        if inside[..length].iter().any(|&b| b <= b' ' || b == 0x7f) {
            return None;
        }
        let (opaque, after) = quoted.split_at(length + 2);
        if !matches!(after.trim_ascii_start(), [] | [b',', ..]) {
            return None;
        }
        self.0 = after;
        Some(if is_weak { Tag::Weak(opaque) } else { Tag::Strong(opaque) })
    }
}

#[cfg(test)]
mod tests;
