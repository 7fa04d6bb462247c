//! What can be wrong with a request: closed enums, each variant with the status to answer and a fixed text. What is wrong
//! with a response is in [`super::response`], and shares the framing and the chunks.
//!
//! The peer is to blame for all of them. The answer is sent and the connection closed, because after an error nobody
//! can say where the next request starts. Texts are constants: an error body never echoes input.

use super::status::Status;

/// A framing that cannot be trusted (RFC 9112 section 6.3); all are 400 in a request, and 502 in an upstream's response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramingError {
    /// `Content-Length` is not `1*DIGIT`, or does not fit 64 bits.
    LengthMalformed,
    /// More than one `Content-Length` field.
    LengthRepeated,
    /// `Transfer-Encoding` in an HTTP/1.0 message.
    EncodingInHttp10,
    /// Both `Transfer-Encoding` and `Content-Length`.
    EncodingAndLength,
    /// `Transfer-Encoding` other than exactly `chunked`.
    EncodingUnsupported,
    /// More than one `Transfer-Encoding` field.
    EncodingRepeated,
    /// A body announced by a 1xx response.
    BodyInInterim,
}

impl FramingError {
    /// What was wrong, for the error body.
    pub fn detail(self) -> &'static str {
        match self {
            FramingError::LengthMalformed => "Content-Length is not a decimal number that fits 64 bits",
            FramingError::LengthRepeated => "more than one Content-Length",
            FramingError::EncodingInHttp10 => "Transfer-Encoding in an HTTP/1.0 message",
            FramingError::EncodingAndLength => "both Transfer-Encoding and Content-Length",
            FramingError::EncodingUnsupported => "Transfer-Encoding is not exactly chunked",
            FramingError::EncodingRepeated => "more than one Transfer-Encoding",
            FramingError::BodyInInterim => "an interim response announces a body",
        }
    }
}

/// A request target that is refused; all are 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetError {
    /// Not a form that the method may use (RFC 9112 section 3.2).
    Form,
    /// An absolute-form whose scheme is neither `http` nor `https`.
    Scheme,
    /// An authority that is not a host with an optional port.
    Authority,
    /// A byte that has no place in a target: a control, a space, `#`, non-ASCII and some others.
    Byte,
    /// `%` without two hexadecimal digits in the path.
    Escape,
    /// `%00` in the path.
    EncodedNul,
    /// `%2F` in the path where it is not allowed, or where it would hide a dot segment.
    EncodedSlash,
    /// `..` above the root.
    AboveRoot,
}

impl TargetError {
    /// What was wrong, for the error body.
    pub fn detail(self) -> &'static str {
        match self {
            TargetError::Form => "the request target has no form that fits its method",
            TargetError::Scheme => "the scheme of the request target is neither http nor https",
            TargetError::Authority => "the authority of the request target is invalid",
            TargetError::Byte => "the request target has a byte that must be escaped",
            TargetError::Escape => "the path has an incomplete percent-escape",
            TargetError::EncodedNul => "the path has an escaped NUL",
            TargetError::EncodedSlash => "the path has an escaped slash",
            TargetError::AboveRoot => "the path leads above the root",
        }
    }
}

/// What is wrong with the lines of a head, whichever direction it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineError {
    BareLf,
    BareCr,
    FieldName,
    FieldNameEmpty,
    SpaceBeforeColon,
    ObsFold,
    FieldValue,
    TooManyFields,
}

/// Why a request head is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// More than one empty line before the request line (RFC 9112 section 2.2 forgives one).
    LeadingLines,
    /// LF without CR as a line end.
    BareLf,
    /// CR without LF.
    BareCr,
    /// The method is not a token.
    MethodInvalid,
    /// The method is longer than any that could be meant; 501, as RFC 9112 section 3 asks.
    MethodTooLong,
    /// The request line is not `method SP target SP version CRLF`.
    RequestLine,
    /// The request target is longer than the limit; 414.
    TargetTooLong,
    /// The version is not `HTTP/` DIGIT `.` DIGIT.
    VersionMalformed,
    /// A version other than 1.0 and 1.1; 505.
    VersionUnsupported,
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
    /// More fields than the limit; 431.
    TooManyFields,
    /// The head is longer than the limit; 431.
    HeadTooLarge,
    /// HTTP/1.1 without `Host` (RFC 9112 section 3.2).
    HostMissing,
    /// More than one `Host`.
    HostRepeated,
    /// `Host` is not a host with an optional port; an empty value too.
    HostInvalid,
    /// The authority of the request target is not that of `Host`.
    HostMismatch,
    /// An expectation other than `100-continue`; 417.
    Expectation,
    /// The body's end is ambiguous.
    Framing(FramingError),
    /// The request target is refused.
    Target(TargetError),
}

impl HeadError {
    /// The status to answer before the connection is closed.
    pub fn status(self) -> Status {
        match self {
            HeadError::MethodTooLong => Status::NOT_IMPLEMENTED,
            HeadError::TargetTooLong => Status::URI_TOO_LONG,
            HeadError::VersionUnsupported => Status::HTTP_VERSION_NOT_SUPPORTED,
            HeadError::TooManyFields | HeadError::HeadTooLarge => Status::REQUEST_HEADER_FIELDS_TOO_LARGE,
            HeadError::Expectation => Status::EXPECTATION_FAILED,
            HeadError::LeadingLines
            | HeadError::BareLf
            | HeadError::BareCr
            | HeadError::MethodInvalid
            | HeadError::RequestLine
            | HeadError::VersionMalformed
            | HeadError::FieldName
            | HeadError::FieldNameEmpty
            | HeadError::SpaceBeforeColon
            | HeadError::ObsFold
            | HeadError::FieldValue
            | HeadError::HostMissing
            | HeadError::HostRepeated
            | HeadError::HostInvalid
            | HeadError::HostMismatch
            | HeadError::Framing(_)
            | HeadError::Target(_) => Status::BAD_REQUEST,
        }
    }

    /// What was wrong, for the error body.
    pub fn detail(self) -> &'static str {
        match self {
            HeadError::LeadingLines => "more than one empty line before the request line",
            HeadError::BareLf => "a line ends with a bare LF",
            HeadError::BareCr => "a CR is not followed by LF",
            HeadError::MethodInvalid => "the method is not a token",
            HeadError::MethodTooLong => "the method is too long",
            HeadError::RequestLine => "the request line is malformed",
            HeadError::TargetTooLong => "the request target is too long",
            HeadError::VersionMalformed => "the protocol version is malformed",
            HeadError::VersionUnsupported => "the protocol version is not supported",
            HeadError::FieldName => "a header field name is not a token",
            HeadError::FieldNameEmpty => "a header field has no name",
            HeadError::SpaceBeforeColon => "white space between a header field name and its colon",
            HeadError::ObsFold => "a header line starts with white space",
            HeadError::FieldValue => "a control byte in a header field value",
            HeadError::TooManyFields => "too many header fields",
            HeadError::HeadTooLarge => "the request head is too large",
            HeadError::HostMissing => "HTTP/1.1 without Host",
            HeadError::HostRepeated => "more than one Host",
            HeadError::HostInvalid => "Host is not a host with an optional port",
            HeadError::HostMismatch => "the authority of the request target differs from Host",
            HeadError::Expectation => "unknown expectation",
            HeadError::Framing(error) => error.detail(),
            HeadError::Target(error) => error.detail(),
        }
    }
}

/// A chunked body that is refused (RFC 9112 section 7.1); all are 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkError {
    /// A chunk size that is empty or holds anything but hexadecimal digits.
    Size,
    /// A chunk size beyond 64 bits.
    SizeOverflow,
    /// A chunk extension without a name, or with a control or non-ASCII byte.
    Extension,
    /// A chunk-size line longer than [`crate::limits::CHUNK_LINE_BYTES_MAX`].
    LineTooLong,
    /// All extensions of the body together, with needless zeros of sizes, exceed
    /// [`crate::limits::CHUNK_EXTENSIONS_BYTES_MAX`].
    ExtensionsTooLong,
    /// A CR without LF, or an LF without CR, at the end of a line.
    LineEnd,
    /// Chunk data that is not followed by CRLF.
    Terminator,
    /// A trailer line that is not a field.
    Trailer,
    /// The trailer section exceeds [`crate::limits::TRAILERS_BYTES_MAX`].
    TrailersTooLarge,
    /// More trailer fields than [`crate::limits::TRAILERS_MAX`].
    TooManyTrailers,
}

impl ChunkError {
    /// The status to answer before the connection is closed.
    pub fn status(self) -> Status {
        Status::BAD_REQUEST
    }

    /// What was wrong, for the error body.
    pub fn detail(self) -> &'static str {
        match self {
            ChunkError::Size => "a chunk size is not a hexadecimal number",
            ChunkError::SizeOverflow => "a chunk size does not fit 64 bits",
            ChunkError::Extension => "a chunk extension is malformed",
            ChunkError::LineTooLong => "a chunk-size line is too long",
            ChunkError::ExtensionsTooLong => "too many bytes of chunk extensions",
            ChunkError::LineEnd => "a line of a chunked body does not end with CRLF",
            ChunkError::Terminator => "chunk data is not followed by CRLF",
            ChunkError::Trailer => "a trailer field is malformed",
            ChunkError::TrailersTooLarge => "the trailer section is too large",
            ChunkError::TooManyTrailers => "too many trailer fields",
        }
    }
}

/// Any reason for which the server answers a request itself and closes the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestError {
    /// The head is refused.
    Head(HeadError),
    /// The chunked body is malformed.
    Chunk(ChunkError),
    /// The body is longer than the limit; 413.
    BodyTooLarge,
    /// The head did not arrive in time; 408.
    HeadTooSlow,
    /// The body did not arrive in time; 408.
    BodyTooSlow,
}

impl RequestError {
    /// The status to answer before the connection is closed.
    pub fn status(self) -> Status {
        match self {
            RequestError::Head(error) => error.status(),
            RequestError::Chunk(error) => error.status(),
            RequestError::BodyTooLarge => Status::CONTENT_TOO_LARGE,
            RequestError::HeadTooSlow | RequestError::BodyTooSlow => Status::REQUEST_TIMEOUT,
        }
    }

    /// What was wrong, for the error body.
    pub fn detail(self) -> &'static str {
        match self {
            RequestError::Head(error) => error.detail(),
            RequestError::Chunk(error) => error.detail(),
            RequestError::BodyTooLarge => "the request body is too large",
            RequestError::HeadTooSlow => "the request head took too long",
            RequestError::BodyTooSlow => "the request body took too long",
        }
    }
}

impl From<LineError> for HeadError {
    #[cold]
    fn from(error: LineError) -> HeadError {
        match error {
            LineError::BareLf => HeadError::BareLf,
            LineError::BareCr => HeadError::BareCr,
            LineError::FieldName => HeadError::FieldName,
            LineError::FieldNameEmpty => HeadError::FieldNameEmpty,
            LineError::SpaceBeforeColon => HeadError::SpaceBeforeColon,
            LineError::ObsFold => HeadError::ObsFold,
            LineError::FieldValue => HeadError::FieldValue,
            LineError::TooManyFields => HeadError::TooManyFields,
        }
    }
}

impl From<FramingError> for HeadError {
    fn from(error: FramingError) -> HeadError {
        HeadError::Framing(error)
    }
}

impl From<TargetError> for HeadError {
    fn from(error: TargetError) -> HeadError {
        HeadError::Target(error)
    }
}

impl From<HeadError> for RequestError {
    fn from(error: HeadError) -> RequestError {
        RequestError::Head(error)
    }
}

impl From<ChunkError> for RequestError {
    fn from(error: ChunkError) -> RequestError {
        RequestError::Chunk(error)
    }
}

impl From<FramingError> for RequestError {
    fn from(error: FramingError) -> RequestError {
        RequestError::Head(error.into())
    }
}

impl From<TargetError> for RequestError {
    fn from(error: TargetError) -> RequestError {
        RequestError::Head(error.into())
    }
}

macro_rules! impl_error {
    ($($error:ty),*) => {$(
        impl std::fmt::Display for $error {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.detail())
            }
        }
        impl std::error::Error for $error {}
    )*};
}
impl_error!(FramingError, TargetError, HeadError, ChunkError, RequestError);

/// The media type of what [`write_problem`] writes.
pub const PROBLEM_CONTENT_TYPE: &str = "application/problem+json";

/// Appends the body of an error response (RFC 9457): `type`, `title`, `status`, `detail` and the extension member
/// `request_id`, each of the last two left out when empty. `detail` must not echo input; it is escaped all the same.
pub fn write_problem(out: &mut Vec<u8>, status: Status, detail: &str, request_id: &str) {
    out.extend_from_slice(b"{\"type\":\"about:blank\",\"title\":");
    write_json_string(out, status.reason());
    out.extend_from_slice(b",\"status\":");
    out.extend_from_slice(itoa::Buffer::new().format(status.code()).as_bytes());
    if !detail.is_empty() {
        out.extend_from_slice(b",\"detail\":");
        write_json_string(out, detail);
    }
    if !request_id.is_empty() {
        out.extend_from_slice(b",\"request_id\":");
        write_json_string(out, request_id);
    }
    out.push(b'}');
}

/// Appends `text` as a JSON string (RFC 8259 section 7). `<`, `>` and `&` are escaped too, so that a browser that sniffs
/// the body finds no markup in it.
fn write_json_string(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for &b in text.as_bytes() {
        match b {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', b]),
            0..0x20 | 0x7f | b'<' | b'>' | b'&' => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[HEX[usize::from(b >> 4)], HEX[usize::from(b & 15)]]);
            }
            _ => out.push(b),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problem_body_is_json_whatever_the_texts_hold() {
        let mut out = Vec::new();
        write_problem(&mut out, Status::BAD_REQUEST, "a \"b\" \\ \r\n\0 <x> é", "id-1");
        let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(value["type"], "about:blank");
        assert_eq!(value["title"], "Bad Request");
        assert_eq!(value["status"], 400);
        assert_eq!(value["detail"], "a \"b\" \\ \r\n\0 <x> é");
        assert_eq!(value["request_id"], "id-1");
        assert!(!out.contains(&b'<'));
    }

    #[test]
    fn problem_body_leaves_out_what_is_unknown() {
        let mut out = Vec::new();
        write_problem(&mut out, Status::NOT_FOUND, "", "");
        assert_eq!(out, br#"{"type":"about:blank","title":"Not Found","status":404}"#);
    }

    #[test]
    fn errors_convert_into_one_with_the_same_status_and_text() {
        let error = RequestError::from(FramingError::EncodingAndLength);
        assert_eq!(error, RequestError::Head(HeadError::Framing(FramingError::EncodingAndLength)));
        assert_eq!(error.detail(), FramingError::EncodingAndLength.detail());
        assert_eq!(RequestError::from(HeadError::HeadTooLarge).status().code(), 431);
        assert_eq!(RequestError::from(HeadError::TargetTooLong).status().code(), 414);
        assert_eq!(RequestError::from(HeadError::VersionUnsupported).status().code(), 505);
        assert_eq!(RequestError::from(HeadError::Expectation).status().code(), 417);
        assert_eq!(RequestError::from(TargetError::AboveRoot).status().code(), 400);
        assert_eq!(RequestError::from(ChunkError::Size).status().code(), 400);
        assert_eq!(RequestError::BodyTooLarge.status().code(), 413);
        assert_eq!(RequestError::HeadTooSlow.status().code(), 408);
    }
}
