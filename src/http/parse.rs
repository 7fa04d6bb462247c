//! Request heads in one pass: each byte is judged as it comes, then the parts are weighed against each other.
//!
//! The promise kept here is that the verdict is a function of the byte stream alone. For every split: a prefix is
//! [`Parse::Partial`] up to one deciding byte, and from there on every longer input has the same verdict. So nothing may
//! look behind the head's bound, and no check may depend on how much has arrived.
//!
//! Our own and not `httparse`, which this began with: that takes bare LF, raw non-ASCII targets and more, so that much of
//! each head had to be looked at again, and what it says of an error had to be found out anew. One strict pass takes 0.74
//! of that time for a short head and 0.85 for a browser's (perf/NOTES.md). `httparse` stays as the tests' oracle:
//! whatever is taken here it takes too, with the same parts.
//!
//! A head that arrives in pieces is parsed anew with each. That is cheaper than it sounds: nearly all heads arrive whole,
//! the head's bound bounds the rest, and a peer pays more per packet than this does.

use super::error::{HeadError, TargetError};
use super::framing::{ContentLength, TransferEncoding, decide_framing};
use super::head::{Head, PathSource, Span};
use super::lines::{ConnectionFact, scan_fields};
use super::syntax;
use super::target::{Normalized, TargetForm, TargetParts, normalize_path, parse_authority, split_target};
use super::{Method, Version};
use crate::limits::{HEAD_BYTES_MAX, HEADERS_MAX, METHOD_BYTES_MAX};

/// An operator's bounds on a request head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLimits {
    /// Bytes of the whole head, with the empty line at its end; at most [`HEAD_BYTES_MAX`]. Beyond it: 431, or 414 where
    /// the target alone is to blame.
    pub head: usize,
    /// Header fields; at most [`HEADERS_MAX`]. Beyond it: 431.
    pub headers: usize,
    /// Bytes of the request target. Beyond it: 414.
    pub target: usize,
}

impl HeadLimits {
    /// What any head may have. For heads that are made of those of clients, who were held to their own limits.
    pub const MOST: Self = Self { head: HEAD_BYTES_MAX, headers: HEADERS_MAX, target: HEAD_BYTES_MAX };
}

impl Default for HeadLimits {
    /// The defaults of the config: 16 KiB, 100 fields, 8 KiB.
    fn default() -> HeadLimits {
        HeadLimits { head: 16 * 1024, headers: 100, target: 8 * 1024 }
    }
}

/// What becomes of `%2F` in a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EncodedSlash {
    /// 400: routers and file systems disagree about whether it separates segments.
    #[default]
    Refuse,
    /// Kept as it is, not a separator.
    Allow,
}

/// How far parsing came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parse {
    /// The head has not ended; call again with more bytes behind the same ones.
    Partial,
    /// The head has ended, after `Head::len` bytes.
    Complete,
}

/// [`parse_head_with`] that refuses `%2F` in paths.
///
/// # Errors
/// See [`parse_head_with`].
pub fn parse_head(input: &[u8], limits: &HeadLimits, head: &mut Head) -> Result<Parse, HeadError> {
    parse_head_with(input, limits, EncodedSlash::Refuse, head)
}

/// Parses the request head at the start of `input` (RFC 9112 sections 2 to 3 and 5) into `head`, which is of meaning only
/// after [`Parse::Complete`]. Bytes behind the head are not looked at.
///
/// # Errors
/// The first violation. Syntax is judged byte by byte as it arrives; the whole head, once it has ended, in this order:
/// target, `Host`, framing, expectation.
pub fn parse_head_with(
    input: &[u8],
    limits: &HeadLimits,
    slash: EncodedSlash,
    head: &mut Head,
) -> Result<Parse, HeadError> {
    head.clear();
    let bound = limits.head.min(HEAD_BYTES_MAX);
    let window = &input[..input.len().min(bound)];
    match parse_window(window, limits, slash, head)? {
        Progress::Complete => Ok(Parse::Complete),
        Progress::InTarget | Progress::Elsewhere if input.len() < bound => Ok(Parse::Partial),
        Progress::InTarget => Err(HeadError::TargetTooLong),
        Progress::Elsewhere => Err(HeadError::HeadTooLarge),
    }
}

/// Where the input ended.
enum Progress {
    Complete,
    InTarget,
    Elsewhere,
}

fn parse_window(
    window: &[u8],
    limits: &HeadLimits,
    slash: EncodedSlash,
    head: &mut Head,
) -> Result<Progress, HeadError> {
    let Some(start) = skip_leading_line(window)? else { return Ok(Progress::Elsewhere) };
    let Some(method_len) = scan_method(&window[start..])? else { return Ok(Progress::Elsewhere) };
    let target_at = start + method_len + 1;
    let Some(target_len) = scan_target(&window[target_at..], limits.target)? else { return Ok(Progress::InTarget) };
    head.method_name = Span::new(start, method_len);
    head.method = Method::from_bytes(head.method_name.of(window)).ok_or(HeadError::MethodInvalid)?;
    head.target = Span::new(target_at, target_len);
    let version_at = head.target.end() + 1;
    let Some(version) = scan_version(&window[version_at..])? else { return Ok(Progress::Elsewhere) };
    head.version = version;
    let mut facts = Facts::default();
    let fields_at = version_at + VERSION_LINE_LEN;
    let most = limits.headers.min(HEADERS_MAX);
    let note = |name: &[u8], value: &[u8], span| facts.note(name, value, span);
    let Some(len) = scan_fields(window, fields_at, most, &mut head.fields, note)? else {
        return Ok(Progress::Elsewhere);
    };
    head.len = len;
    decide_target(window, &facts, slash, head)?;
    decide_message(&facts, head)?;
    Ok(Progress::Complete)
}

/// Bytes of `HTTP/1.1` and CRLF.
const VERSION_LINE_LEN: usize = 10;

/// The offset of the request line: a client may send one empty line too many behind a body, and a server should forgive
/// that (RFC 9112 section 2.2). More than one is somebody trying something.
fn skip_leading_line(window: &[u8]) -> Result<Option<usize>, HeadError> {
    match window {
        [] | [b'\r'] => Ok(None),
        [b'\r', b'\n', b'\r' | b'\n', ..] => Err(HeadError::LeadingLines),
        [b'\r', b'\n', ..] => Ok(Some(2)),
        [b'\r', ..] => Err(HeadError::BareCr),
        [b'\n', ..] => Err(HeadError::BareLf),
        _ => Ok(Some(0)),
    }
}

/// The length of the method, once the space behind it is there.
fn scan_method(line: &[u8]) -> Result<Option<usize>, HeadError> {
    for (at, &b) in line.iter().enumerate() {
        match b {
            b' ' if at != 0 => return Ok(Some(at)),
            _ if !syntax::is(b, syntax::TCHAR) => return Err(HeadError::MethodInvalid),
            _ if at == METHOD_BYTES_MAX => return Err(HeadError::MethodTooLong),
            _ => {}
        }
    }
    Ok(None)
}

/// The length of the target, once the space behind it is there. Which of its bytes may stand where is decided with the
/// whole head; here, what can be in no target.
fn scan_target(rest: &[u8], limit: usize) -> Result<Option<usize>, HeadError> {
    let bounded = &rest[..rest.len().min(limit.saturating_add(1))];
    let Some(stop) = syntax::find_non_graphic(bounded) else {
        return if rest.len() > limit { Err(HeadError::TargetTooLong) } else { Ok(None) };
    };
    match bounded[stop] {
        b' ' if stop != 0 => Ok(Some(stop)),
        0x80.. => Err(TargetError::Byte.into()),
        _ => Err(HeadError::RequestLine),
    }
}

/// The version, once its line has ended.
fn scan_version(rest: &[u8]) -> Result<Option<Version>, HeadError> {
    match rest.get(..VERSION_LINE_LEN) {
        Some(b"HTTP/1.1\r\n") => Ok(Some(Version::Http11)),
        Some(b"HTTP/1.0\r\n") => Ok(Some(Version::Http10)),
        _ => explain_version(rest).map_or(Ok(None), Err),
    }
}

/// What is wrong with a version line that is not one of the two, or not yet: 505 only once it is known to be a version,
/// that is, with its CRLF (RFC 9112 section 2.3).
#[cold]
fn explain_version(bytes: &[u8]) -> Option<HeadError> {
    for (at, &want) in b"HTTP/0.0\r\n".iter().enumerate() {
        let &b = bytes.get(at)?;
        if b == want || (want == b'0' && b.is_ascii_digit()) {
            continue;
        }
        return Some(match at {
            8 if b == b'\n' => HeadError::BareLf,
            8 => HeadError::RequestLine,
            9 => HeadError::BareCr,
            _ => HeadError::VersionMalformed,
        });
    }
    Some(HeadError::VersionUnsupported)
}

/// What the fields that concern the server amount to.
#[derive(Default)]
struct Facts {
    host: HostFact,
    connection: ConnectionFact,
    expectation: Expectation,
    content_length: ContentLength,
    transfer_encoding: TransferEncoding,
}

#[derive(Clone, Copy, Default)]
enum HostFact {
    #[default]
    Absent,
    Once(Span),
    Repeated,
}

#[derive(Clone, Copy, Default)]
enum Expectation {
    #[default]
    None,
    Continue,
    Unknown,
}

impl Facts {
    /// Takes note of a field. By length first: most names differ in it from all six.
    fn note(&mut self, name: &[u8], value: &[u8], value_span: Span) {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                self.host = match self.host {
                    HostFact::Absent => HostFact::Once(value_span),
                    HostFact::Once(_) | HostFact::Repeated => HostFact::Repeated,
                };
            }
            6 if name.eq_ignore_ascii_case(b"expect") => {
                self.expectation = match self.expectation {
                    Expectation::None | Expectation::Continue if value.eq_ignore_ascii_case(b"100-continue") => {
                        Expectation::Continue
                    }
                    _ => Expectation::Unknown,
                };
            }
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.connection.note_upgrade_field(),
            10 if name.eq_ignore_ascii_case(b"connection") => self.connection.note_options(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => self.content_length.note(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.transfer_encoding.note(value),
            _ => {}
        }
    }
}

/// Takes the target apart, normalises its path and settles the authority.
fn decide_target(window: &[u8], facts: &Facts, slash: EncodedSlash, head: &mut Head) -> Result<(), HeadError> {
    let parts = split_target(head.method, window, head.target)?;
    head.form = parts.form;
    head.raw_path = parts.path;
    head.query = parts.query;
    head.path_source = match parts.form {
        TargetForm::Authority => PathSource::Nowhere,
        TargetForm::Asterisk => PathSource::Asterisk,
        TargetForm::Origin | TargetForm::Absolute if parts.path.is_empty() => match (head.method, parts.query) {
            (Method::Options, None) => PathSource::Asterisk,
            _ => PathSource::Root,
        },
        TargetForm::Origin | TargetForm::Absolute if parts.is_path_normal => PathSource::Sent,
        TargetForm::Origin | TargetForm::Absolute => {
            let is_slash_allowed = slash == EncodedSlash::Allow;
            match normalize_path(parts.path.of(window), is_slash_allowed, &mut head.path_buf)? {
                Normalized::AsIs => PathSource::Sent,
                Normalized::Rewritten => PathSource::Rewritten,
            }
        }
    };
    decide_authority(window, facts, &parts, head)
}

/// `Host` is needed in 1.1 and valid wherever it is (RFC 9112 section 3.2). Where the target names an authority that one
/// counts (section 3.2.2), and `Host` must say the same: section 3.2 has the client copy it, and who routes by the other
/// of two must not find another answer.
fn decide_authority(window: &[u8], facts: &Facts, parts: &TargetParts, head: &mut Head) -> Result<(), HeadError> {
    let from_host = match facts.host {
        HostFact::Absent if head.version == Version::Http10 => None,
        HostFact::Absent => return Err(HeadError::HostMissing),
        HostFact::Repeated => return Err(HeadError::HostRepeated),
        HostFact::Once(span) => Some((span, parse_authority(span.of(window)).ok_or(HeadError::HostInvalid)?)),
    };
    let authority = match parts.form {
        TargetForm::Origin | TargetForm::Asterisk => from_host,
        TargetForm::Absolute | TargetForm::Authority => {
            let named = parse_authority(parts.authority.of(window)).ok_or(TargetError::Authority)?;
            let default_port = match (parts.form, named.port) {
                // CONNECT has no scheme and so no default: the port is needed (RFC 9112 section 3.2.3).
                (TargetForm::Authority, None) => return Err(TargetError::Authority.into()),
                (TargetForm::Authority, Some(port)) => port,
                _ => parts.default_port,
            };
            if from_host.is_some_and(|(_, host)| !named.is_same(&host, default_port)) {
                return Err(HeadError::HostMismatch);
            }
            Some((parts.authority, named))
        }
    };
    if let Some((span, named)) = authority {
        head.authority = span;
        head.host_len = named.host.len() as u32;
        head.port = named.port;
    }
    Ok(())
}

/// Framing, persistence, upgrade and expectation.
fn decide_message(facts: &Facts, head: &mut Head) -> Result<(), HeadError> {
    head.framing = decide_framing(head.version, &facts.transfer_encoding, &facts.content_length)?;
    head.persistent = facts.connection.is_persistent(head.version);
    if head.version == Version::Http10 {
        // RFC 9110 sections 7.8 and 10.1.1: `Upgrade` and `100-continue` from a 1.0 client are ignored.
        return Ok(());
    }
    head.upgrade = facts.connection.is_upgrade();
    head.expect_continue = match facts.expectation {
        Expectation::None => false,
        Expectation::Continue => head.framing.has_body(),
        Expectation::Unknown => return Err(HeadError::Expectation),
    };
    Ok(())
}

#[cfg(test)]
mod tests;
