//! Character classes of RFC 9110 and RFC 3986 in one table of bits, so that each check is one load and one test.

/// `tchar` (RFC 9110 section 5.6.2): methods and field names.
pub(super) const TCHAR: u8 = 1;
/// A byte of a field value (RFC 9110 section 5.5): HTAB, SP, VCHAR and obs-text.
pub(super) const FIELD_VALUE: u8 = 1 << 1;
/// A byte that a path may hold as it is and that can never start a dot segment or an escape: `pchar` and `/`,
/// without `.` and `%`.
pub(super) const PATH_PLAIN: u8 = 1 << 2;
/// Not a `pchar`, yet sent raw by browsers and curl: `[ ] ^ { | }`. Taken, and written as escapes.
pub(super) const PATH_RAW: u8 = 1 << 3;
/// A byte of a registered name as this server takes it (see [`super::target::parse_authority`]).
pub(super) const REG_NAME: u8 = 1 << 4;
/// A byte of a query: every VCHAR but `#`. Applications treat queries as opaque and so does the server.
pub(super) const QUERY: u8 = 1 << 5;
/// `unreserved` (RFC 3986 section 2.3): its escapes are decoded.
pub(super) const UNRESERVED: u8 = 1 << 6;

static CLASS: [u8; 256] = build_classes();

const fn build_classes() -> [u8; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let b = i as u8;
        let mut bits = 0;
        let unreserved = b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_' | b'~');
        let sub_delim = matches!(b, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=');
        if unreserved {
            bits |= UNRESERVED;
        }
        if b.is_ascii_alphanumeric()
            || matches!(b, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+')
            || matches!(b, b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~')
        {
            bits |= TCHAR;
        }
        if b == b'\t' || (b >= b' ' && b != 0x7f) {
            bits |= FIELD_VALUE;
        }
        if b != b'.' && (unreserved || sub_delim || matches!(b, b':' | b'@' | b'/')) {
            bits |= PATH_PLAIN;
        }
        if matches!(b, b'[' | b']' | b'^' | b'{' | b'|' | b'}') {
            bits |= PATH_RAW;
        }
        if unreserved || (sub_delim && b != b',') {
            bits |= REG_NAME;
        }
        if b > b' ' && b < 0x7f && b != b'#' {
            bits |= QUERY;
        }
        table[i] = bits;
        i += 1;
    }
    table
}

/// Whether `b` is in any of the classes `class`.
#[inline]
pub(super) fn is(b: u8, class: u8) -> bool {
    CLASS[b as usize] & class != 0
}

/// Whether every byte is in `class`; true for no bytes.
#[inline]
pub(super) fn all(bytes: &[u8], class: u8) -> bool {
    bytes.iter().all(|&b| is(b, class))
}

/// Whether `bytes` is a `token`: at least one `tchar` and nothing else.
#[inline]
pub(super) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && all(bytes, TCHAR)
}

/// `bytes` without optional white space (SP, HTAB; RFC 9110 section 5.6.3) at both ends. `trim_ascii` would also take
/// CR, LF and FF, which are not white space here.
pub(super) fn trim_ows(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}
