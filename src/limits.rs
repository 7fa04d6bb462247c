//! Every bound and time-out that is not an operator's to set: one const, the unit in its name, one sentence why.

/// Parameters that one route pattern may have; a route's parameters are kept in a fixed array, without heap.
pub const ROUTE_PARAMS_MAX: usize = 16;
/// Bytes of a request head that the offsets of a parsed head can address; `limits.head` in the config is at most this.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Header fields of one request that can be parsed at all; `limits.headers` in the config is at most this.
pub const HEADERS_MAX: usize = 256;
/// Bytes of a chunk-size line with its extension, without CRLF (RFC 9112 section 7.1.1): real extensions are tiny.
pub const CHUNK_LINE_BYTES_MAX: usize = 1024;
/// Bytes of all chunk extensions of one body together: without it, one-byte chunks with a full line of extension each
/// would make the server read a thousand bytes per byte of body, for as long as the body limit allows.
pub const CHUNK_EXTENSIONS_BYTES_MAX: usize = 16 * 1024;
/// Bytes of one message's trailer section (RFC 9112 section 7.1.2).
pub const TRAILERS_BYTES_MAX: usize = 8 * 1024;
/// Fields in one message's trailer section.
pub const TRAILERS_MAX: usize = 64;
/// Bytes of a request method: the longest registered one (`UPDATEREDIRECTREF`) has 17.
pub const METHOD_BYTES_MAX: usize = 32;
/// Bytes of a host name: what DNS can carry (RFC 1035 section 2.3.4).
pub const HOST_BYTES_MAX: usize = 255;
/// Bytes of the header fields of one response, as they are sent.
pub const RESPONSE_FIELDS_BYTES_MAX: usize = 64 * 1024;
/// Header fields of one response.
pub const RESPONSE_FIELDS_MAX: usize = 256;

const _: () = assert!(HEADERS_MAX <= HEAD_BYTES_MAX / 4, "a header field takes at least four bytes (`a:` CRLF)");
const _: () = assert!(CHUNK_LINE_BYTES_MAX < TRAILERS_BYTES_MAX);
const _: () = assert!(CHUNK_LINE_BYTES_MAX <= CHUNK_EXTENSIONS_BYTES_MAX, "one full line must be possible");
const _: () = assert!(TRAILERS_BYTES_MAX < u16::MAX as usize, "the chunked decoder counts lines in 16 bits");
const _: () =
    assert!(CHUNK_EXTENSIONS_BYTES_MAX < u16::MAX as usize, "the chunked decoder counts extensions in 16 bits");
const _: () = assert!(TRAILERS_MAX < u8::MAX as usize, "the chunked decoder counts trailers in 8 bits");
