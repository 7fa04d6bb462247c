//! Request targets (RFC 9112 section 3.2): their forms, the authority they or `Host` name, and the one path that is
//! routed and forwarded.

use std::net::Ipv6Addr;

use super::Method;
use super::error::TargetError;
use super::head::Span;
use super::syntax;
use crate::limits::HOST_BYTES_MAX;

/// The four forms of a request target.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetForm {
    /// `/path?query`: what clients send to servers.
    #[default]
    Origin,
    /// `http://host/path?query`: what clients send to proxies, and every server must take.
    Absolute,
    /// `host:port`: `CONNECT` only.
    Authority,
    /// `*`: `OPTIONS` only.
    Asterisk,
}

/// A target taken apart; offsets are those of the bytes that hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TargetParts {
    pub(super) form: TargetForm,
    /// Host and port of the absolute and authority forms; empty for the others.
    pub(super) authority: Span,
    /// The port that the form implies when the authority has none.
    pub(super) default_port: u16,
    /// The path; empty for the authority form and where an absolute-form has none, `*` for the asterisk form.
    pub(super) path: Span,
    /// The path is known to be normal as it is; where this is false it may be all the same.
    pub(super) is_path_normal: bool,
    /// The query without its `?`.
    pub(super) query: Option<Span>,
}

/// Takes the target at `target` apart by the forms that `method` may use. Checks the bytes of the query; those of the
/// path are [`normalize_path`]'s, those of the authority [`parse_authority`]'s.
pub(super) fn split_target(method: Method, bytes: &[u8], target: Span) -> Result<TargetParts, TargetError> {
    let raw = target.of(bytes);
    let parts = TargetParts {
        form: TargetForm::Origin,
        authority: Span::default(),
        default_port: 80,
        path: Span::default(),
        is_path_normal: false,
        query: None,
    };
    if method == Method::Connect {
        return Ok(TargetParts { form: TargetForm::Authority, authority: target, ..parts });
    }
    if raw == b"*" {
        return match method {
            Method::Options => Ok(TargetParts { form: TargetForm::Asterisk, path: target, ..parts }),
            _ => Err(TargetError::Form),
        };
    }
    if raw.first() == Some(&b'/') {
        return split_query(bytes, target, parts);
    }
    let (scheme_len, default_port) = absolute_scheme(raw)?;
    let rest = &raw[scheme_len..];
    let authority_len = rest.iter().position(|&b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
    let authority = Span::new(target.start() + scheme_len, authority_len);
    let tail = Span::new(authority.end(), target.end() - authority.end());
    split_query(bytes, tail, TargetParts { form: TargetForm::Absolute, authority, default_port, ..parts })
}

/// The length of `http://` or `https://` at the start of `raw`, and the scheme's port. The scheme of a request says how
/// it came to the first proxy; it does not say anything about this connection.
fn absolute_scheme(raw: &[u8]) -> Result<(usize, u16), TargetError> {
    let starts_with = |scheme: &[u8]| raw.get(..scheme.len()).is_some_and(|s| s.eq_ignore_ascii_case(scheme));
    if starts_with(b"http://") {
        Ok((7, 80))
    } else if starts_with(b"https://") {
        Ok((8, 443))
    } else if memchr::memmem::find(raw, b"://").is_some() {
        Err(TargetError::Scheme)
    } else {
        Err(TargetError::Form)
    }
}

fn split_query(bytes: &[u8], span: Span, parts: TargetParts) -> Result<TargetParts, TargetError> {
    let raw = span.of(bytes);
    // One scan finds that the usual path is normal and where it ends.
    let normal = normal_len(raw);
    let (is_path_normal, mark) = match raw.get(normal) {
        None => return Ok(TargetParts { path: span, is_path_normal: true, ..parts }),
        Some(b'?') => (true, normal),
        Some(_) => match memchr::memchr(b'?', raw) {
            None => return Ok(TargetParts { path: span, ..parts }),
            Some(mark) => (false, mark),
        },
    };
    if !syntax::all(&raw[mark + 1..], syntax::QUERY) {
        return Err(TargetError::Byte);
    }
    let query = Some(Span::new(span.start() + mark + 1, raw.len() - mark - 1));
    Ok(TargetParts { path: Span::new(span.start(), mark), is_path_normal, query, ..parts })
}

/// A host and an optional port, as `Host` and request targets name them (RFC 3986 section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// The host as it was sent, in any case; an IPv6 address with its brackets.
    pub host: &'a [u8],
    /// The port; `None` where it is missing or empty (`host:`).
    pub port: Option<u16>,
}

impl Authority<'_> {
    /// Whether both name the same host (in any case) and port, `default_port` standing for a missing one.
    pub fn is_same(&self, other: &Authority<'_>, default_port: u16) -> bool {
        self.port.unwrap_or(default_port) == other.port.unwrap_or(default_port)
            && self.host.eq_ignore_ascii_case(other.host)
    }
}

/// Parses `host [":" port]`; `None` for anything else, an empty host too (`http` and `https` URIs have none: RFC 9110
/// section 4.2.1).
///
/// Stricter than RFC 3986: no user information (RFC 9110 section 4.2.4 calls it an attack), no IPvFuture and no zone
/// identifier, and in names no percent-escapes (nothing decodes them alike) and no comma (it is how an intermediary folds
/// two `Host` fields into one). A host has at most [`HOST_BYTES_MAX`] bytes, a port at most five digits.
pub fn parse_authority(raw: &[u8]) -> Option<Authority<'_>> {
    let host_len = match raw.first()? {
        b'[' => {
            let close = memchr::memchr(b']', raw)?;
            let address = str::from_utf8(&raw[1..close]).ok()?;
            // No zone identifier: `Ipv6Addr`, unlike `SocketAddrV6`, takes none.
            address.parse::<Ipv6Addr>().ok()?;
            close + 1
        }
        _ => raw.iter().position(|&b| !syntax::is(b, syntax::REG_NAME)).unwrap_or(raw.len()),
    };
    if host_len == 0 || host_len > HOST_BYTES_MAX {
        return None;
    }
    let (host, rest) = raw.split_at(host_len);
    let port = match rest {
        [] | [b':'] => None,
        [b':', digits @ ..] if digits.len() <= 5 => Some(parse_port(digits)?),
        _ => return None,
    };
    Some(Authority { host, port })
}

/// At most five digits that fit 16 bits.
fn parse_port(digits: &[u8]) -> Option<u16> {
    let port = digits.iter().try_fold(0u32, |n, &b| match b {
        b'0'..=b'9' => Some(n * 10 + u32::from(b - b'0')),
        _ => None,
    });
    port.and_then(|port| port.try_into().ok())
}

/// Whether [`normalize_path`] had to change anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Normalized {
    /// The path was normal already; `out` is of no meaning.
    AsIs,
    /// The normal path is in `out`.
    Rewritten,
}

/// Brings a path to the one spelling that is routed and forwarded. `raw` starts with `/` and has no query.
///
/// - Escapes of unreserved bytes are decoded, then dot segments are removed (RFC 3986 sections 6.2.2 and 5.2.4), so
///   that `/%2e%2e/` is `/../`. A path is decoded once: `%252e` stays `%252e`.
/// - Other escapes stay, with uppercase digits. Their bytes may be anything but NUL.
/// - `[ ] ^ { | }`, which browsers and curl send raw although RFC 3986 has them escaped, become escapes.
/// - Empty segments stay: `//` is not `/`, as RFC 3986 has it and applications may mean.
///
/// The usual path costs one scan and no copy. Normalising a normal path changes nothing.
///
/// # Errors
/// - [`TargetError::Byte`] for any other byte that is not a `pchar`: controls, space, `"`, `#`, `<`, `>`, `\`, `` ` ``,
///   non-ASCII. Browsers send none of these raw (`\` they send as `/`), and systems behind us disagree about them.
/// - [`TargetError::Escape`] for `%` without two hexadecimal digits, [`TargetError::EncodedNul`] for `%00`.
/// - [`TargetError::EncodedSlash`] for `%2F` unless `allow_encoded_slash`; even then where a part between two slashes,
///   escaped or not, is a dot segment: who decodes `..%2F` behind us would leave the directory that was routed.
/// - [`TargetError::AboveRoot`] for `..` above the root. RFC 3986 drops it; no honest client sends it.
/// - [`TargetError::Form`] for a path that does not start with `/`.
pub fn normalize_path(raw: &[u8], allow_encoded_slash: bool, out: &mut Vec<u8>) -> Result<Normalized, TargetError> {
    if raw.first() != Some(&b'/') {
        return Err(TargetError::Form);
    }
    if normal_len(raw) == raw.len() { Ok(Normalized::AsIs) } else { rewrite_path(raw, allow_encoded_slash, out) }
}

/// How much of a path, from its start, is normal as it is: up to a dot that starts a segment, an escape, or a byte that is
/// not welcome.
fn normal_len(raw: &[u8]) -> usize {
    let mut before = 0;
    for (at, &b) in raw.iter().enumerate() {
        if !syntax::is(b, syntax::PATH_PLAIN) && (b != b'.' || before == b'/') {
            return at;
        }
        before = b;
    }
    raw.len()
}

#[cold]
fn rewrite_path(raw: &[u8], allow_encoded_slash: bool, out: &mut Vec<u8>) -> Result<Normalized, TargetError> {
    out.clear();
    out.reserve(raw.len());
    out.push(b'/');
    let mut segments = raw[1..].split(|&b| b == b'/').peekable();
    while let Some(segment) = segments.next() {
        let start = out.len();
        push_segment(segment, allow_encoded_slash, out)?;
        match &out[start..] {
            b"." => out.truncate(start),
            b".." => {
                // `start` is behind the slash that ends the parent; the root has no parent.
                let parent = out[..start - 1].iter().rposition(|&b| b == b'/').ok_or(TargetError::AboveRoot)?;
                out.truncate(parent + 1);
            }
            _ if segments.peek().is_some() => out.push(b'/'),
            _ => {}
        }
    }
    // A path may pass through here and be normal: `/.well-known/x`, `/a%20b`.
    Ok(if out == raw { Normalized::AsIs } else { Normalized::Rewritten })
}

/// Appends one segment, without slashes, with its escapes normalised.
fn push_segment(segment: &[u8], allow_encoded_slash: bool, out: &mut Vec<u8>) -> Result<(), TargetError> {
    let mut part = out.len();
    let mut has_encoded_slash = false;
    let mut bytes = segment.iter();
    while let Some(&b) = bytes.next() {
        if b == b'.' || syntax::is(b, syntax::PATH_PLAIN) {
            out.push(b);
        } else if syntax::is(b, syntax::PATH_RAW) {
            push_escape(b, out);
        } else if b != b'%' {
            return Err(TargetError::Byte);
        } else {
            let [Some(high), Some(low)] = [bytes.next(), bytes.next()].map(|b| b.copied().and_then(hex_value)) else {
                return Err(TargetError::Escape);
            };
            match high << 4 | low {
                0 => return Err(TargetError::EncodedNul),
                b'/' if !allow_encoded_slash || is_dots(&out[part..]) => return Err(TargetError::EncodedSlash),
                b'/' => {
                    push_escape(b'/', out);
                    part = out.len();
                    has_encoded_slash = true;
                }
                byte if syntax::is(byte, syntax::UNRESERVED) => out.push(byte),
                byte => push_escape(byte, out),
            }
        }
    }
    if has_encoded_slash && is_dots(&out[part..]) {
        return Err(TargetError::EncodedSlash);
    }
    Ok(())
}

fn is_dots(part: &[u8]) -> bool {
    part == b"." || part == b".."
}

fn push_escape(b: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[b'%', HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
}

fn hex_value(b: u8) -> Option<u8> {
    (b as char).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests;
