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
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && all(bytes, TCHAR)
}

/// Whether `bytes` may be the value of a field: no control bytes but TAB (RFC 9110 section 5.5).
#[cfg(feature = "wasm")]
pub(crate) fn is_field_value(bytes: &[u8]) -> bool {
    all(bytes, FIELD_VALUE)
}

const EVERY: u64 = 0x0101_0101_0101_0101;
const HIGH: u64 = 0x80 * EVERY;

/// The high bit of each byte of `word` below `bound` (at most 0x80), or DEL. Exact for the lowest byte that has one; a
/// borrow may set the bits of higher bytes.
#[inline]
const fn below_or_del(word: u64, bound: u8) -> u64 {
    let not_del = word ^ (0x7f * EVERY);
    let below = word.wrapping_sub(bound as u64 * EVERY) & !word;
    let del = not_del.wrapping_sub(EVERY) & !not_del;
    (below | del) & HIGH
}

/// The offset of the first byte that `marks`, eight bytes at a time, says something of.
#[inline]
fn find(bytes: &[u8], marks: impl Fn(u64) -> u64) -> Option<usize> {
    let (words, tail) = bytes.as_chunks::<8>();
    for (at, word) in words.iter().enumerate() {
        let marked = marks(u64::from_le_bytes(*word));
        if marked != 0 {
            return Some(at * 8 + marked.trailing_zeros() as usize / 8);
        }
    }
    let mut last = [b'a'; 8];
    last[..tail.len()].copy_from_slice(tail);
    let marked = marks(u64::from_le_bytes(last));
    (marked != 0).then(|| words.len() * 8 + marked.trailing_zeros() as usize / 8)
}

/// The number of `tchar`s that `bytes` starts with. Byte by byte: names are short, and eight at a time measured no faster.
#[inline]
pub(super) fn token_len(bytes: &[u8]) -> usize {
    bytes.iter().position(|&b| !is(b, TCHAR)).unwrap_or(bytes.len())
}

/// The offset of the first control byte, HTAB and DEL among them.
#[inline]
pub(super) fn find_control(bytes: &[u8]) -> Option<usize> {
    find(bytes, |word| below_or_del(word, b' '))
}

/// The offset of the first byte that is not VCHAR: a control, a space, or not ASCII.
#[inline]
pub(super) fn find_non_graphic(bytes: &[u8]) -> Option<usize> {
    find(bytes, |word| below_or_del(word, b' ' + 1) | (word & HIGH))
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn first_byte_of_a_class_is_found_as_a_plain_search_finds_it(mut bytes in prop::collection::vec(any::<u8>(), 0..40), plain: u8) {
            // Half of the time mostly plain bytes, so that words without a hit are passed.
            if plain & 1 == 0 {
                bytes.iter_mut().filter(|b| **b & 7 != 0).for_each(|b| *b = b' ' + 1 + *b % 94);
            }
            let control = bytes.iter().position(u8::is_ascii_control);
            let non_graphic = bytes.iter().position(|b| !b.is_ascii_graphic());
            prop_assert_eq!(find_control(&bytes), control);
            prop_assert_eq!(find_non_graphic(&bytes), non_graphic);
            let tokens = bytes.iter().position(|b| !is(*b, TCHAR)).unwrap_or(bytes.len());
            prop_assert_eq!(token_len(&bytes), tokens);
        }
    }

    #[test]
    fn every_byte_is_judged_alike_at_every_place_of_a_word() {
        for b in 0..=u8::MAX {
            for place in 0..17 {
                let mut bytes = [b'x'; 17];
                bytes[place] = b;
                assert_eq!(find_control(&bytes), b.is_ascii_control().then_some(place));
                assert_eq!(find_non_graphic(&bytes), (!b.is_ascii_graphic()).then_some(place));
                assert_eq!(token_len(&bytes), if is(b, TCHAR) { 17 } else { place });
            }
        }
    }
}
