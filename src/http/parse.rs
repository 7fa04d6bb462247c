//! Request heads: `httparse` finds the parts, this file refuses what it lets pass and decides what the parts mean.
//!
//! The promise kept here is that the verdict is a function of the byte stream alone. For every split: a prefix is
//! [`Parse::Partial`] up to one deciding byte, and from there on every longer input has the same verdict. So nothing may
//! look behind the head's bound, no check may depend on how much has arrived, and errors that `httparse` finds only
//! once it has the whole head (bare LF) stay unreported until then.
//!
//! A head that arrives in pieces is parsed anew with each. That is cheaper than it sounds: nearly all heads arrive whole,
//! the head's bound bounds the rest, and a peer pays more per packet than this does.

use std::mem::MaybeUninit;

use super::error::{HeadError, TargetError};
use super::framing::{ContentLength, TransferEncoding, decide_framing};
use super::head::{Field, Head, PathSource, Span, list_members};
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
/// line ends, target, `Host`, framing, expectation.
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
    let rest = &window[target_at..];
    // Before `httparse`, which would go on to whatever comes behind a target that is too long.
    if let Some(cut) = rest.get(..=limits.target)
        && memchr::memchr(b' ', cut).is_none()
    {
        return Err(if cut.iter().all(|&b| is_target_byte(b)) {
            HeadError::TargetTooLong
        } else {
            HeadError::RequestLine
        });
    }

    let mut slots = [const { MaybeUninit::uninit() }; HEADERS_MAX];
    let slots = &mut slots[..limits.headers.min(HEADERS_MAX)];
    let mut request = httparse::Request::new(&mut []);
    let outcome = request.parse_with_uninit_headers(&window[start..], slots);
    let target = request.path.map(|path| Span::new(target_at, path.len()));
    let len = match (outcome, target) {
        (Ok(httparse::Status::Complete(len)), Some(_)) => start + len,
        (Ok(_), None) => return Ok(Progress::InTarget),
        (Ok(_), Some(_)) => return Ok(Progress::Elsewhere),
        (Err(error), target) => return explain_error(error, window, target_at, target),
    };
    let target = target.unwrap_or_default();

    head.len = len;
    head.target = target;
    head.method_name = Span::new(start, method_len);
    head.method = Method::from_bytes(head.method_name.of(window)).ok_or(HeadError::MethodInvalid)?;
    head.version = if request.version == Some(0) { Version::Http10 } else { Version::Http11 };
    let facts = collect_fields(&window[..len], target.end() + VERSION_PART_LEN, request.headers, head)?;
    decide_target(window, &facts, slash, head)?;
    decide_message(&facts, head)?;
    Ok(Progress::Complete)
}

/// Bytes of ` HTTP/1.1`.
const VERSION_PART_LEN: usize = 9;

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

/// What `httparse` takes for a byte of a target. Wider than what is allowed: obs-text and much else is refused later.
fn is_target_byte(b: u8) -> bool {
    b > b' ' && b != 0x7f
}

/// Says what was wrong where `httparse` only says that something was; or that nothing is wrong yet.
///
/// Each answer depends only on bytes up to the one at which `httparse` stopped, which it does at the first offending
/// byte whatever follows. The version is the exception: with eight bytes at hand it compares them at once, with fewer one
/// by one; so the version is read again here.
#[cold]
fn explain_error(
    error: httparse::Error,
    window: &[u8],
    target_at: usize,
    target: Option<Span>,
) -> Result<Progress, HeadError> {
    let Some(target) = target else {
        // A target in UTF-8 that is not ASCII passes for now; one that is not even UTF-8 stops here, at its end.
        let rest = &window[target_at..];
        let stop = rest.iter().position(|&b| !is_target_byte(b)).unwrap_or(rest.len());
        return Err(match rest.get(stop) {
            Some(b' ') if stop != 0 => TargetError::Byte.into(),
            _ => HeadError::RequestLine,
        });
    };
    let version = &window[target.end() + 1..];
    match error {
        httparse::Error::Version => explain_version(version),
        httparse::Error::NewLine => match version.get(8) {
            // Of the request line, or of the empty line at the end of the head.
            Some(b'\r' | b'\n') => Err(HeadError::BareCr),
            _ => Err(HeadError::RequestLine),
        },
        httparse::Error::TooManyHeaders => Err(HeadError::TooManyFields),
        httparse::Error::HeaderName | httparse::Error::HeaderValue => {
            let fields_at = memchr::memchr(b'\n', version).map_or(version.len(), |lf| lf + 1);
            Err(explain_field(&version[fields_at..]))
        }
        httparse::Error::Token | httparse::Error::Status => Err(HeadError::RequestLine),
    }
}

/// A version other than 1.0 and 1.1, from its first byte on: 505 only once it is known to be one (RFC 9112 section 2.3),
/// that is, with its CRLF.
fn explain_version(bytes: &[u8]) -> Result<Progress, HeadError> {
    for (at, &want) in b"HTTP/0.0\r\n".iter().enumerate() {
        let Some(&b) = bytes.get(at) else { return Ok(Progress::Elsewhere) };
        if b == want || (want == b'0' && b.is_ascii_digit()) {
            continue;
        }
        return Err(match at {
            8 if b == b'\n' => HeadError::BareLf,
            8 => HeadError::RequestLine,
            9 => HeadError::BareCr,
            _ => HeadError::VersionMalformed,
        });
    }
    Err(HeadError::VersionUnsupported)
}

/// What is wrong with the first bad one of these field lines.
fn explain_field(mut lines: &[u8]) -> HeadError {
    loop {
        let name_len = lines.iter().position(|&b| !syntax::is(b, syntax::TCHAR)).unwrap_or(lines.len());
        match lines.get(name_len) {
            Some(b':') if name_len == 0 => return HeadError::FieldNameEmpty,
            Some(b':') => {}
            Some(b' ' | b'\t') if name_len == 0 => return HeadError::ObsFold,
            Some(b' ' | b'\t') => return HeadError::SpaceBeforeColon,
            _ => return HeadError::FieldName,
        }
        let value = &lines[name_len + 1..];
        let stop = value.iter().position(|&b| !syntax::is(b, syntax::FIELD_VALUE)).unwrap_or(value.len());
        match &value[stop..] {
            [b'\r', b'\n', next @ ..] | [b'\n', next @ ..] => lines = next,
            [b'\r', ..] => return HeadError::BareCr,
            _ => return HeadError::FieldValue,
        }
    }
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

/// A set of what concerns persistence and upgrades.
#[derive(Clone, Copy, Default)]
struct ConnectionFact(u8);

impl ConnectionFact {
    /// `Connection: close`.
    const CLOSE: u8 = 1;
    /// `Connection: keep-alive`.
    const KEEP_ALIVE: u8 = 1 << 1;
    /// `Connection: upgrade`.
    const UPGRADE: u8 = 1 << 2;
    /// The field `Upgrade` itself.
    const UPGRADE_FIELD: u8 = 1 << 3;

    fn has(self, bits: u8) -> bool {
        self.0 & bits == bits
    }

    /// Options are case-insensitive, in a list, in any number of fields (RFC 9110 section 7.6.1).
    fn note_options(&mut self, value: &[u8]) {
        for option in list_members(value) {
            self.0 |= match option.len() {
                5 if option.eq_ignore_ascii_case(b"close") => Self::CLOSE,
                10 if option.eq_ignore_ascii_case(b"keep-alive") => Self::KEEP_ALIVE,
                7 if option.eq_ignore_ascii_case(b"upgrade") => Self::UPGRADE,
                _ => 0,
            };
        }
    }
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
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.connection.0 |= ConnectionFact::UPGRADE_FIELD,
            10 if name.eq_ignore_ascii_case(b"connection") => self.connection.note_options(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => self.content_length.note(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.transfer_encoding.note(value),
            _ => {}
        }
    }
}

/// Stores the fields' offsets, checks that every line ends with CRLF, and notes what concerns the server. `bytes` end with
/// the head; the request line ends, but for its CRLF, at `line_end`.
fn collect_fields(
    bytes: &[u8],
    mut line_end: usize,
    headers: &[httparse::Header<'_>],
    head: &mut Head,
) -> Result<Facts, HeadError> {
    let offset = |part: &[u8]| part.as_ptr().addr() - bytes.as_ptr().addr();
    let mut facts = Facts::default();
    head.fields.reserve(headers.len());
    for header in headers {
        let name = Span::new(offset(header.name.as_bytes()), header.name.len());
        let value = Span::new(offset(header.value), header.value.len());
        check_line_end(&bytes[line_end..name.start()])?;
        line_end = value.end();
        head.fields.push(Field { name, value });
        facts.note(header.name.as_bytes(), header.value, value);
    }
    // `httparse` has seen an LF at the end of the last line and one at the end of the empty line.
    let (last_line_end, empty_line) = bytes[line_end..].split_at(bytes.len() - line_end - 2);
    check_line_end(last_line_end)?;
    if empty_line != b"\r\n" {
        return Err(HeadError::BareLf);
    }
    Ok(facts)
}

/// Checks what lies between a value and the next line: white space that is not part of the value, and CRLF. `httparse`
/// also takes LF alone there, which others take for a byte of the value (RFC 9112 section 2.2 only permits it).
fn check_line_end(gap: &[u8]) -> Result<(), HeadError> {
    match gap {
        b"\r\n" => Ok(()),
        [space @ .., b'\r', b'\n'] if syntax::trim_ows(space).is_empty() => Ok(()),
        _ => Err(HeadError::BareLf),
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
    // RFC 9112 section 9.3: `close` wins; otherwise 1.1 stays, and 1.0 if it asks to.
    let connection = facts.connection;
    head.persistent = !connection.has(ConnectionFact::CLOSE)
        && (head.version == Version::Http11 || connection.has(ConnectionFact::KEEP_ALIVE));
    if head.version == Version::Http10 {
        // RFC 9110 sections 7.8 and 10.1.1: `Upgrade` and `100-continue` from a 1.0 client are ignored.
        return Ok(());
    }
    head.upgrade = connection.has(ConnectionFact::UPGRADE | ConnectionFact::UPGRADE_FIELD);
    head.expect_continue = match facts.expectation {
        Expectation::None => false,
        Expectation::Continue => head.framing.has_body(),
        Expectation::Unknown => return Err(HeadError::Expectation),
    };
    Ok(())
}

#[cfg(test)]
mod tests;
