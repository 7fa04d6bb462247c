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
/// Routes that have a metric cell of their own on each core (1792 bytes each); all further ones share the cell `other`.
pub const ROUTE_CELLS_MAX: usize = 1024;
/// Bytes of a route's pattern that are shown as a metric label; a longer one is cut, for scrapers pay per label byte.
pub const ROUTE_LABEL_BYTES_MAX: usize = 256;
/// Cores whose metrics the master keeps, with history; a core id that appears after this many others is not counted.
pub const METRIC_CORES_MAX: usize = 1024;
/// Log lines that wait for the writer thread; beyond it lines are dropped and counted, for a core never waits for stderr.
pub const LOG_LINES_QUEUED_MAX: usize = 16 * 1024;
