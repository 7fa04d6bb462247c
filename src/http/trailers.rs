//! The trailer fields of a chunked body that a proxy may pass on (RFC 9110 section 6.5).
//!
//! What a field in the head decides is decided before the body comes, and by then the proxy has replaced, added or removed
//! it. A trailer of the same name would arrive behind all that, and there are receivers that put trailers among the
//! headers, so that it would speak in the proxy's place. Section 6.5.1 has no sender generate such a trailer; none gets
//! through here.

use super::encode::Fields;
use crate::limits::{RESPONSE_FIELDS_BYTES_MAX, RESPONSE_FIELDS_MAX, TRAILERS_BYTES_MAX, TRAILERS_MAX};

/// Names that are no trailers, in lower case.
const DENIED: &[&str] = &[
    // Where the message ends.
    "content-length",
    "trailer",
    "transfer-encoding",
    // What is said on this connection alone (RFC 9110 section 7.6.1).
    "connection",
    "http2-settings",
    "keep-alive",
    "te",
    "upgrade",
    // Where a request goes, and where it came from: the proxy's own word.
    "forwarded",
    "host",
    "max-forwards",
    "via",
    "x-real-ip",
    // Who is asking, and what is remembered of it.
    "authentication-info",
    "authorization",
    "cookie",
    "cookie2",
    "set-cookie",
    "set-cookie2",
    "www-authenticate",
    // What a request wants done, decided before its body is read.
    "expect",
    "origin",
    "pragma",
    "prefer",
    "range",
    "referer",
    "user-agent",
    "x-http-method-override",
    // How a response is to be treated, decided (and stored in caches) with its head.
    "age",
    "allow",
    "alt-svc",
    "cache-control",
    "clear-site-data",
    "date",
    "expires",
    "last-modified",
    "location",
    "refresh",
    "retry-after",
    "server",
    "strict-transport-security",
    "vary",
    "warning",
    "x-content-type-options",
    "x-frame-options",
];

/// Beginnings of such names, in lower case.
const DENIED_PREFIXES: &[&str] = &[
    // Negotiation, and what ranges may be asked for.
    "accept",
    // Who may read a response in a browser.
    "access-control-",
    // What the body is and how it is read; but for the digest, which is what trailers are for (RFC 9530).
    "content-",
    // Conditions.
    "if-",
    // Authentication at proxies, and `Proxy-Connection`.
    "proxy-",
    // What a browser vouches for, and the handshake of WebSocket.
    "sec-",
    // The proxy's own word.
    "x-forwarded-",
];

/// What [`DENIED_PREFIXES`] has too much.
const ALLOWED: &[&str] = &["content-digest"];

const _: () = assert!(TRAILERS_MAX <= RESPONSE_FIELDS_MAX, "no trailer that the decoder takes is one too many");
const _: () = assert!(TRAILERS_BYTES_MAX + TRAILERS_MAX <= RESPONSE_FIELDS_BYTES_MAX, "a line may grow by one space");

/// Whether a trailer of this name, in any case, may be passed on, as far as the name alone tells.
pub fn is_forwardable(name: &[u8]) -> bool {
    let is = |own: &&str| name.eq_ignore_ascii_case(own.as_bytes());
    let begins = |own: &&str| name.get(..own.len()).is_some_and(|start| start.eq_ignore_ascii_case(own.as_bytes()));
    !DENIED.iter().any(is) && (!DENIED_PREFIXES.iter().any(begins) || ALLOWED.iter().any(is))
}

/// The forwardable trailers of one chunked body, filled by [`super::ChunkedDecoder::decode_with`]. The decoder bounds them
/// by [`TRAILERS_BYTES_MAX`] and [`TRAILERS_MAX`]. Reused from body to body; once grown it allocates no more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trailers {
    /// The line that is being read, without its CRLF.
    line: Vec<u8>,
    fields: Fields,
}

impl Trailers {
    /// An empty list, without heap.
    pub const fn new() -> Trailers {
        Trailers { line: Vec::new(), fields: Fields::new() }
    }

    /// Forgets all trailers and keeps the storage. Needed before the next body.
    pub fn clear(&mut self) {
        self.line.clear();
        self.fields.clear();
    }

    /// The trailers to pass on, as checked lines; to be asked for when the body has ended. `connection_options` are those
    /// of the head that the body belongs to: what they name is said on that connection alone (RFC 9110 section 7.6.1), and
    /// is removed.
    ///
    /// Whether to pass them on at all is the caller's: it needs a chunked body on the other side, and in a response a
    /// client that says `TE: trailers` (section 6.5.1).
    pub fn forwardable<'n>(&mut self, connection_options: impl Iterator<Item = &'n [u8]>) -> &Fields {
        if !self.fields.is_empty() {
            for option in connection_options {
                self.fields.remove(option);
            }
        }
        &self.fields
    }

    /// Takes the first byte of a line.
    pub(super) fn begin_line(&mut self, b: u8) {
        self.line.clear();
        self.line.push(b);
    }

    /// Takes a further byte of a line.
    pub(super) fn push_byte(&mut self, b: u8) {
        self.line.push(b);
    }

    /// Keeps the line if it may be passed on.
    pub(super) fn end_line(&mut self) {
        let colon = self.line.iter().position(|b| *b == b':').unwrap_or(self.line.len());
        let (name, value) = (&self.line[..colon], self.line.get(colon + 1..).unwrap_or_default());
        if is_forwardable(name) {
            // The decoder has checked the line, and it bounds them. Were it wrong, the line would be dropped.
            let _ = self.fields.push(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{ChunkError, ChunkStep, ChunkedDecoder};

    /// The lines that are kept of this trailer section.
    fn kept(section: &str, options: &[&str]) -> String {
        let wire = format!("1\r\na\r\n0\r\n{section}\r\n");
        let (mut decoder, mut trailers) = (ChunkedDecoder::new(), Trailers::new());
        assert_eq!(decoder.decode_with(wire.as_bytes(), &mut trailers), Ok(ChunkStep::Data { skip: 3, len: 1 }));
        let end = decoder.decode_with(&wire.as_bytes()[4..], &mut trailers);
        assert_eq!(end, Ok(ChunkStep::Done { consumed: wire.len() - 4 }), "{section:?}");
        let fields = trailers.forwardable(options.iter().map(|option| option.as_bytes()));
        String::from_utf8(fields.encoded().to_vec()).unwrap()
    }

    #[test]
    fn trailers_that_may_be_forwarded_are_kept_as_lines_in_order() {
        assert_eq!(kept("", &[]), "");
        assert_eq!(
            kept("grpc-status:0\r\nGrpc-Message: \t a b \t\r\nETag: \"x\"\r\nEmpty:\r\ngrpc-status: 1\r\n", &[]),
            "grpc-status: 0\r\nGrpc-Message: a b\r\nETag: \"x\"\r\nEmpty: \r\ngrpc-status: 1\r\n"
        );
        assert_eq!(
            kept("Content-Digest: x\r\nRepr-Digest: y\r\nDigest: z\r\nServer-Timing: a:b\r\n", &[]),
            "Content-Digest: x\r\nRepr-Digest: y\r\nDigest: z\r\nServer-Timing: a:b\r\n"
        );
    }

    #[test]
    fn trailers_that_would_speak_for_the_head_are_dropped_whatever_their_case() {
        for name in DENIED {
            assert!(!is_forwardable(name.as_bytes()), "{name}");
            assert_eq!(kept(&format!("A: b\r\n{}: x\r\nC: d\r\n", name.to_ascii_uppercase()), &[]), "A: b\r\nC: d\r\n");
        }
        for name in [
            "Transfer-Encoding",
            "content-length",
            "Content-Type",
            "Content-Encoding",
            "Content-Range",
            "Content-Security-Policy",
            "Content-Digests",
            "IF-Match",
            "Accept",
            "Accept-Encoding",
            "Access-Control-Allow-Origin",
            "Proxy-Authorization",
            "Proxy-Connection",
            "Sec-WebSocket-Accept",
            "X-Forwarded-For",
            "X-FORWARDED-proto",
        ] {
            assert_eq!(kept(&format!("{name}: 1\r\n"), &[]), "", "{name}");
        }
    }

    #[test]
    fn trailers_that_connection_names_are_dropped() {
        let section = "X-Hop: 1\r\nX-End: 2\r\nx-hop: 3\r\n";
        assert_eq!(kept(section, &["close", "x-HOP"]), "X-End: 2\r\n");
    }

    #[test]
    fn list_of_trailers_is_in_lower_case_where_it_is_compared() {
        for name in DENIED.iter().chain(DENIED_PREFIXES).chain(ALLOWED) {
            assert_eq!(*name, name.to_ascii_lowercase());
        }
    }

    #[test]
    fn trailers_of_an_unfinished_line_do_not_reach_the_next_body() {
        let mut trailers = Trailers::new();
        let cut = ChunkedDecoder::new().decode_with(b"0\r\nA: b\r\nSecret: x", &mut trailers);
        assert_eq!(cut, Ok(ChunkStep::NeedMore { consumed: 18 }));
        trailers.clear();
        let whole = ChunkedDecoder::new().decode_with(b"0\r\nC: d\r\n\r\n", &mut trailers);
        assert_eq!(whole, Ok(ChunkStep::Done { consumed: 11 }));
        assert_eq!(trailers.forwardable(std::iter::empty()).encoded(), b"C: d\r\n");
    }

    #[test]
    fn trailers_are_bounded_as_those_that_are_dropped_are() {
        let mut trailers = Trailers::new();
        let most = ["0\r\n", &"a:b\r\n".repeat(TRAILERS_MAX)].concat();
        let mut decoder = ChunkedDecoder::new();
        assert!(decoder.decode_with(most.as_bytes(), &mut trailers).is_ok());
        assert_eq!(trailers.forwardable(std::iter::empty()).len(), TRAILERS_MAX);
        assert_eq!(decoder.decode_with(b"a", &mut trailers), Err(ChunkError::TooManyTrailers));
        let large = ["0\r\na:", &"x".repeat(TRAILERS_BYTES_MAX)].concat();
        let error = ChunkedDecoder::new().decode_with(large.as_bytes(), &mut trailers);
        assert_eq!(error, Err(ChunkError::TrailersTooLarge));
        assert!(trailers.line.len() <= TRAILERS_BYTES_MAX);
    }
}
