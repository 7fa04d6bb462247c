//! Every bound and time-out that is not an operator's to set: one const, the unit in its name, one sentence why.

/// Parameters that one route pattern may have; a route's parameters are kept in a fixed array, without heap.
pub const ROUTE_PARAMS_MAX: usize = 16;
/// Bytes of a request head that the offsets of a parsed head can address; `limits.head` in the config is at most this.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Header fields of one request that can be parsed at all; `limits.headers` in the config is at most this.
pub const HEADERS_MAX: usize = 256;
/// Bytes of a chunk-size line with its extension, without CRLF (RFC 9112 section 7.1.1): real extensions are tiny.
pub const CHUNK_LINE_BYTES_MAX: usize = 1024;
/// Bytes of one message's trailer section (RFC 9112 section 7.1.2).
pub const TRAILERS_BYTES_MAX: usize = 8 * 1024;
/// Fields in one message's trailer section.
pub const TRAILERS_MAX: usize = 64;

const _: () = assert!(HEADERS_MAX <= HEAD_BYTES_MAX / 4, "a header field takes at least four bytes (`a:` CRLF)");
const _: () = assert!(CHUNK_LINE_BYTES_MAX < TRAILERS_BYTES_MAX);
/// Bytes of one route pattern: far above any real one, and small enough that offsets into a pattern fit 16 bits.
pub const ROUTE_PATTERN_BYTES_MAX: usize = 4 * 1024;
/// Bytes of a host name, without port and trailing dot (RFC 1035 section 2.3.4, in its text form).
pub const HOST_BYTES_MAX: usize = 253;
/// Routes of one table: bounds its memory and keeps every offset into its text within 32 bits.
pub const ROUTES_MAX: usize = 256 * 1024;
/// Routes that lost which one `explain` lists; the rest is only counted, or a large table would drown its reader.
pub const EXPLAIN_LOSERS_MAX: usize = 50;

const _: () =
    assert!(HEAD_BYTES_MAX <= u16::MAX as usize + 1, "a path is shorter than its head: its offsets fit 16 bits");
const _: () = assert!(ROUTE_PATTERN_BYTES_MAX <= u16::MAX as usize);
const _: () = assert!(ROUTES_MAX * (2 * ROUTE_PATTERN_BYTES_MAX + HOST_BYTES_MAX) < u32::MAX as usize);
