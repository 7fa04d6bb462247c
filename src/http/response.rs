//! Upstream responses: their heads in one strict pass, with the verdict a function of the byte stream alone.
//!
//! An upstream is trusted with what it says, not with how: what two readers could take differently is refused, the client
//! gets 502 and the connection is closed, so that no response is smuggled into the place of another. The field lines are
//! read by the code that reads those of requests, and the promise about splits is the one of [`super::parse`].

use super::Version;
use super::error::{FramingError, LineError};
use super::framing::{ContentLength, RequestKind, ResponseFraming, TransferEncoding, decide_response_framing};
use super::head::{Field, Span};
use super::lines::{ConnectionFact, FieldLines, line_end, scan_fields, scan_value};
use super::parse::{HeadLimits, Parse};
use super::status::{Status, StatusClass};
use super::syntax;
use crate::limits::{HEAD_BYTES_MAX, HEADERS_MAX};

/// Why an upstream's response head is refused. The upstream is to blame for all of them: the client gets 502, and the
/// connection to the upstream is closed. Texts are constants, so that a log or an error body never echoes input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseError {
    /// An empty line, or half of one, where the status line should be. Before a request one is forgiven, for a client may
    /// send it behind a body; from an upstream it is a byte too many of the last response.
    LeadingLine,
    /// The version is not `HTTP/` DIGIT `.` DIGIT SP.
    VersionMalformed,
    /// A version other than 1.0 and 1.1.
    VersionUnsupported,
    /// The status code is not three digits, or is below 100.
    Status,
    /// A control byte in the reason phrase.
    Reason,
    /// LF without CR as a line end.
    BareLf,
    /// CR without LF.
    BareCr,
    /// A field name that is not a token.
    FieldName,
    /// A field without a name.
    FieldNameEmpty,
    /// White space between a field name and its colon (RFC 9112 section 5.1).
    SpaceBeforeColon,
    /// A line that starts with white space: obs-fold (RFC 9112 section 5.2).
    ObsFold,
    /// A control byte in a field value.
    FieldValue,
    /// More fields than the limit.
    TooManyFields,
    /// The head is longer than the limit.
    HeadTooLarge,
    /// The body's end is ambiguous.
    Framing(FramingError),
}

impl ResponseError {
    /// What was wrong, for logs and the reason of a termination.
    pub fn detail(self) -> &'static str {
        match self {
            ResponseError::LeadingLine => "the upstream sent an empty line before the status line",
            ResponseError::VersionMalformed => "the upstream's response does not start with an HTTP version",
            ResponseError::VersionUnsupported => "the upstream's protocol version is not supported",
            ResponseError::Status => "the upstream's status code is not a number from 100 to 999",
            ResponseError::Reason => "a control byte in the upstream's reason phrase",
            ResponseError::BareLf => "a line of the upstream's head ends with a bare LF",
            ResponseError::BareCr => "a CR in the upstream's head is not followed by LF",
            ResponseError::FieldName => "a header field name of the upstream is not a token",
            ResponseError::FieldNameEmpty => "a header field of the upstream has no name",
            ResponseError::SpaceBeforeColon => "white space between an upstream's header field name and its colon",
            ResponseError::ObsFold => "a header line of the upstream starts with white space",
            ResponseError::FieldValue => "a control byte in a header field value of the upstream",
            ResponseError::TooManyFields => "the upstream sent too many header fields",
            ResponseError::HeadTooLarge => "the upstream's response head is too large",
            ResponseError::Framing(error) => error.detail(),
        }
    }
}

impl std::fmt::Display for ResponseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.detail())
    }
}

impl std::error::Error for ResponseError {}

impl From<FramingError> for ResponseError {
    fn from(error: FramingError) -> ResponseError {
        ResponseError::Framing(error)
    }
}

impl From<LineError> for ResponseError {
    #[cold]
    fn from(error: LineError) -> ResponseError {
        match error {
            LineError::BareLf => ResponseError::BareLf,
            LineError::BareCr => ResponseError::BareCr,
            LineError::FieldName => ResponseError::FieldName,
            LineError::FieldNameEmpty => ResponseError::FieldNameEmpty,
            LineError::SpaceBeforeColon => ResponseError::SpaceBeforeColon,
            LineError::ObsFold => ResponseError::ObsFold,
            LineError::FieldValue => ResponseError::FieldValue,
            LineError::TooManyFields => ResponseError::TooManyFields,
        }
    }
}

/// The offsets and facts of one response head, filled by [`parse_response_head`]. Meant to be kept and reused: once grown,
/// it allocates no more. Of no meaning unless parsing was complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResponseHead {
    fields: Vec<Field>,
    present: Present,
    /// The status.
    pub status: Status,
    /// The version.
    pub version: Version,
    /// The reason phrase without white space around it; often empty.
    pub reason: Span,
    /// Where the body ends.
    pub framing: ResponseFraming,
    /// The length that `Content-Length` states, to be forwarded: that of the body or, in an answer to `HEAD` and in a 304,
    /// that of the body which is not there. Never set for 1xx and 204, which must not state one (RFC 9110 section 8.6).
    pub content_length: Option<u64>,
    /// Whether the connection can carry another response behind this one (RFC 9112 section 9.3), if this one's body ends as
    /// its framing says. Never set for [`ResponseFraming::UntilClose`], nor for a 204 that announces a body. Of no meaning
    /// for 1xx: the final response decides.
    pub persistent: bool,
    /// Whether the upstream names a protocol: `Upgrade`, named by `Connection`, in HTTP/1.1 (RFC 9110 section 7.8). In a
    /// 101 it is the one that follows. A 101 that nobody asked for, or without this, is for the caller to refuse.
    pub upgrade: bool,
    /// Bytes of the head, with the empty line at its end. The body, or the next response, starts here.
    pub len: usize,
}

/// A set of fields that the server adds where they are missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Present(u8);

impl Present {
    const DATE: u8 = 1;
    const SERVER: u8 = 1 << 1;
}

impl Default for ResponseHead {
    fn default() -> ResponseHead {
        ResponseHead {
            fields: Vec::new(),
            present: Present::default(),
            // What a response that cannot be read amounts to.
            status: Status::BAD_GATEWAY,
            version: Version::default(),
            reason: Span::default(),
            framing: ResponseFraming::None,
            content_length: None,
            persistent: false,
            upgrade: false,
            len: 0,
        }
    }
}

impl ResponseHead {
    /// Empty storage, without heap.
    pub fn new() -> ResponseHead {
        ResponseHead::default()
    }

    /// Forgets the parsed head and keeps the storage.
    pub fn clear(&mut self) {
        let mut fields = std::mem::take(&mut self.fields);
        fields.clear();
        *self = ResponseHead { fields, ..ResponseHead::default() };
    }

    /// The header fields, in order.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Whether there is a `Date`.
    pub fn has_date(&self) -> bool {
        self.present.0 & Present::DATE != 0
    }

    /// Whether there is a `Server`.
    pub fn has_server(&self) -> bool {
        self.present.0 & Present::SERVER != 0
    }

    /// Whether this is an interim response: another one follows for the same request, unless it is a 101.
    pub fn is_interim(&self) -> bool {
        self.status.class() == StatusClass::Informational
    }

    /// The head together with `bytes`, which start where parsing started; see [`ResponseView::new`].
    pub fn view<'a>(&'a self, bytes: &'a [u8]) -> ResponseView<'a> {
        ResponseView::new(bytes, self)
    }
}

/// What the proxy sees of a response head: the bytes and what was found in them.
#[derive(Clone, Copy, Debug)]
pub struct ResponseView<'a> {
    bytes: &'a [u8],
    head: &'a ResponseHead,
}

impl<'a> ResponseView<'a> {
    /// Joins a parsed head with its bytes: the same ones that were parsed, at least `head.len` of them. With others the
    /// accessors return nonsense or nothing, but do not panic.
    pub fn new(bytes: &'a [u8], head: &'a ResponseHead) -> ResponseView<'a> {
        debug_assert!(bytes.len() >= head.len);
        ResponseView { bytes, head }
    }

    /// The offsets and facts.
    pub fn head(&self) -> &'a ResponseHead {
        self.head
    }

    /// The status.
    pub fn status(&self) -> Status {
        self.head.status
    }

    /// The version.
    pub fn version(&self) -> Version {
        self.head.version
    }

    /// The reason phrase, without white space around it: any bytes but controls.
    pub fn reason(&self) -> &'a [u8] {
        self.head.reason.of(self.bytes)
    }

    /// Where the body ends.
    pub fn framing(&self) -> ResponseFraming {
        self.head.framing
    }

    /// The value of the first field of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.lines().values(name).next()
    }

    /// The values of all fields of this name, in any case, in order.
    pub fn header_values<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        self.lines().values(name)
    }

    /// All fields, in order, with their names as they were sent.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        self.lines().all()
    }

    /// The members of all `Connection` fields, as they were sent: `close` and the like, and the names of the fields that
    /// a proxy must not forward (RFC 9110 section 7.6.1). Empty members are left out.
    pub fn connection_options(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.lines().connection_options()
    }

    fn lines(&self) -> FieldLines<'a> {
        FieldLines { bytes: self.bytes, fields: &self.head.fields }
    }
}

/// Parses the response head at the start of `input` (RFC 9112 sections 2, 4 and 5), which answers `request`, into `head`,
/// which is of meaning only after [`Parse::Complete`]. Bytes behind the head are not looked at. Of `limits`, the target's
/// is of no concern.
///
/// # Errors
/// The first violation. Syntax is judged byte by byte as it arrives, the framing with the whole head.
pub fn parse_response_head(
    input: &[u8],
    limits: &HeadLimits,
    request: RequestKind,
    head: &mut ResponseHead,
) -> Result<Parse, ResponseError> {
    head.clear();
    let bound = limits.head.min(HEAD_BYTES_MAX);
    let window = &input[..input.len().min(bound)];
    match parse_window(window, limits, request, head)? {
        Parse::Partial if input.len() >= bound => Err(ResponseError::HeadTooLarge),
        parse => Ok(parse),
    }
}

fn parse_window(
    window: &[u8],
    limits: &HeadLimits,
    request: RequestKind,
    head: &mut ResponseHead,
) -> Result<Parse, ResponseError> {
    let Some(version) = scan_version(window)? else { return Ok(Parse::Partial) };
    head.version = version;
    let Some(status) = scan_status(&window[VERSION_LEN..])? else { return Ok(Parse::Partial) };
    head.status = status;
    let Some(fields_at) = scan_reason(window, head)? else { return Ok(Parse::Partial) };
    let mut facts = Facts::default();
    let most = limits.headers.min(HEADERS_MAX);
    let note = |name: &[u8], value: &[u8], _| facts.note(name, value);
    let Some(len) = scan_fields(window, fields_at, most, &mut head.fields, note)? else { return Ok(Parse::Partial) };
    head.len = len;
    decide_message(&facts, request, head)?;
    Ok(Parse::Complete)
}

/// Bytes of `HTTP/1.1` and the space behind it.
const VERSION_LEN: usize = 9;
/// Digits of a status code.
const STATUS_LEN: usize = 3;

/// The version, once the space behind it is there.
fn scan_version(line: &[u8]) -> Result<Option<Version>, ResponseError> {
    match line.get(..VERSION_LEN) {
        Some(b"HTTP/1.1 ") => Ok(Some(Version::Http11)),
        Some(b"HTTP/1.0 ") => Ok(Some(Version::Http10)),
        _ => explain_version(line).map_or(Ok(None), Err),
    }
}

/// What is wrong with a beginning that is not one of the two versions, or not yet.
#[cold]
fn explain_version(line: &[u8]) -> Option<ResponseError> {
    for (at, &want) in b"HTTP/0.0 ".iter().enumerate() {
        let &b = line.get(at)?;
        match b {
            b'\r' | b'\n' if at == 0 => return Some(ResponseError::LeadingLine),
            _ if b == want || (want == b'0' && b.is_ascii_digit()) => {}
            _ => return Some(ResponseError::VersionMalformed),
        }
    }
    Some(ResponseError::VersionUnsupported)
}

/// The status, once the byte behind its digits is there: SP, or the end of the line.
///
/// The space before an empty reason is a server's to send (RFC 9112 section 4) and is left out by some; there is no other
/// way to read the line, so that it is forgiven.
fn scan_status(rest: &[u8]) -> Result<Option<Status>, ResponseError> {
    let mut code = 0;
    for at in 0..STATUS_LEN {
        code = match rest.get(at) {
            None => return Ok(None),
            Some(b'0') if at == 0 => return Err(ResponseError::Status),
            Some(b @ b'0'..=b'9') => code * 10 + u16::from(b - b'0'),
            Some(_) => return Err(ResponseError::Status),
        };
    }
    match rest.get(STATUS_LEN) {
        None => Ok(None),
        Some(b' ' | b'\r' | b'\n') => Status::new(code).map(Some).ok_or(ResponseError::Status),
        Some(_) => Err(ResponseError::Status),
    }
}

/// Notes the reason phrase; the offset of the fields, once the line has ended.
fn scan_reason(window: &[u8], head: &mut ResponseHead) -> Result<Option<usize>, ResponseError> {
    let reason = scan_value(window, VERSION_LEN + STATUS_LEN).map_err(|_| ResponseError::Reason)?;
    let Some(reason) = reason else { return Ok(None) };
    head.reason = Span::new(reason.start(), syntax::trim_ows(reason.of(window)).len());
    Ok(line_end(window, reason.end())?)
}

/// What the fields that concern the server amount to.
#[derive(Default)]
struct Facts {
    connection: ConnectionFact,
    content_length: ContentLength,
    transfer_encoding: TransferEncoding,
    present: Present,
}

impl Facts {
    /// Takes note of a field. By length first: most names differ in it from all six.
    fn note(&mut self, name: &[u8], value: &[u8]) {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"date") => self.present.0 |= Present::DATE,
            6 if name.eq_ignore_ascii_case(b"server") => self.present.0 |= Present::SERVER,
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.connection.note_upgrade_field(),
            10 if name.eq_ignore_ascii_case(b"connection") => self.connection.note_options(value),
            14 if name.eq_ignore_ascii_case(b"content-length") => self.content_length.note(value),
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => self.transfer_encoding.note(value),
            _ => {}
        }
    }

    /// Whether the fields speak of a body, at least one byte of it; for fields that were found to be sound.
    fn announce_body(&self) -> bool {
        self.transfer_encoding != TransferEncoding::Absent || matches!(self.content_length, ContentLength::Valid(1..))
    }
}

/// Framing, persistence and upgrade.
fn decide_message(facts: &Facts, request: RequestKind, head: &mut ResponseHead) -> Result<(), ResponseError> {
    let (encoding, length) = (&facts.transfer_encoding, &facts.content_length);
    head.present = facts.present;
    head.framing = decide_response_framing(head.status, request, head.version, encoding, length)?;
    let states_length = !head.is_interim() && head.status != Status::NO_CONTENT;
    head.content_length = match length {
        ContentLength::Valid(n) if states_length => Some(*n),
        ContentLength::Valid(_) | ContentLength::Absent | ContentLength::Malformed | ContentLength::Repeated => None,
    };
    let is_end_known = match head.framing {
        ResponseFraming::Length(_) | ResponseFraming::Chunked => true,
        ResponseFraming::UntilClose => false,
        // The body that it may not have, and says it has, would be read as the next response.
        ResponseFraming::None => head.status != Status::NO_CONTENT || !facts.announce_body(),
    };
    head.persistent = is_end_known && facts.connection.is_persistent(head.version);
    head.upgrade = head.version == Version::Http11 && facts.connection.is_upgrade();
    Ok(())
}

#[cfg(test)]
mod tests;
