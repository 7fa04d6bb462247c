//! Which part of a file a `Range` field asks for (RFC 9110 section 14).

/// What is sent of a representation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All of it, with 200.
    Whole,
    /// The bytes from `first` to `last`, both included: 206.
    Part {
        /// At most `last`.
        first: u64,
        /// Below the size.
        last: u64,
    },
    /// 416.
    Unsatisfiable,
}

/// Decides by the request's `Range` fields.
///
/// Whatever is not exactly one well-formed range of bytes is ignored, which section 14.2 allows: other units, malformed
/// ranges, and several ranges. Answering those (`multipart/byteranges`) costs a server more than it serves anybody:
/// many small overlapping ranges of one file were an attack on every server that did.
pub(crate) fn decide<'a>(mut values: impl Iterator<Item = &'a [u8]>, size: u64) -> Extent {
    match (values.next(), values.next()) {
        (Some(value), None) => parse(value, size).unwrap_or(Extent::Whole),
        _ => Extent::Whole,
    }
}

fn parse(value: &[u8], size: u64) -> Option<Extent> {
    let (unit, range) = split(value, b'=')?;
    if !unit.eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let (first, last) = split(range, b'-')?;
    if first.is_empty() {
        let suffix = parse_number(last)?;
        return Some(match size.saturating_sub(suffix) {
            _ if suffix == 0 => Extent::Unsatisfiable,
            // Satisfiable by section 14.1.2, but no `Content-Range` can say so: there is no last byte.
            _ if size == 0 => Extent::Whole,
            first => Extent::Part { first, last: size - 1 },
        });
    }
    let first = parse_number(first)?;
    let last = if last.is_empty() { u64::MAX } else { parse_number(last)? };
    if last < first {
        return None;
    }
    Some(if first < size { Extent::Part { first, last: last.min(size - 1) } } else { Extent::Unsatisfiable })
}

fn split(value: &[u8], mark: u8) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(mark, value)?;
    Some((&value[..at], &value[at + 1..]))
}

/// A number of any length: beyond 64 bits it is as good as the largest, for no file reaches either.
fn parse_number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, &b| match b {
        b'0'..=b'9' => Some(number.saturating_mul(10).saturating_add(u64::from(b - b'0'))),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(first: u64, last: u64) -> Extent {
        Extent::Part { first, last }
    }

    fn of(value: &str, size: u64) -> Extent {
        decide([value.as_bytes()].into_iter(), size)
    }

    #[test]
    fn the_examples_of_the_rfc_hold() {
        // RFC 9110 section 14.1.2, a representation of 10000 bytes.
        assert_eq!(of("bytes=0-499", 10_000), part(0, 499));
        assert_eq!(of("bytes=500-999", 10_000), part(500, 999));
        assert_eq!(of("bytes=-500", 10_000), part(9500, 9999));
        assert_eq!(of("bytes=9500-", 10_000), part(9500, 9999));
        assert_eq!(of("bytes=0-0,-1", 10_000), Extent::Whole);
        assert_eq!(of("bytes= 0-999, 4500-5499, -1000", 10_000), Extent::Whole);
    }

    #[test]
    fn ends_are_clamped_and_beginnings_are_not() {
        assert_eq!(of("bytes=0-0", 1), part(0, 0));
        assert_eq!(of("bytes=0-", 1), part(0, 0));
        assert_eq!(of("bytes=5-100", 10), part(5, 9));
        assert_eq!(of("bytes=9-9", 10), part(9, 9));
        assert_eq!(of("bytes=-11", 10), part(0, 9));
        assert_eq!(of("BYTES=1-2", 10), part(1, 2));
        assert_eq!(of("bytes=0-99999999999999999999999999", 10), part(0, 9));
        for value in ["bytes=10-", "bytes=10-10", "bytes=99999999999999999999999-", "bytes=-0"] {
            assert_eq!(of(value, 10), Extent::Unsatisfiable, "{value}");
        }
    }

    #[test]
    fn an_empty_file_has_no_first_byte() {
        assert_eq!(of("bytes=0-", 0), Extent::Unsatisfiable);
        assert_eq!(of("bytes=0-0", 0), Extent::Unsatisfiable);
        assert_eq!(of("bytes=-0", 0), Extent::Unsatisfiable);
        assert_eq!(of("bytes=-1", 0), Extent::Whole);
    }

    #[test]
    fn malformed_ranges_and_other_units_are_ignored() {
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=1",
            "bytes=2-1",
            "bytes=1-2-3",
            "bytes=+1-2",
            "bytes=1 -2",
            "bytes=--1",
            "bytes =1-2",
            "lines=1-2",
            "bytes=0x1-",
            "bytes=1-2,",
            ",bytes=1-2",
        ] {
            assert_eq!(of(value, 10), Extent::Whole, "{value}");
        }
        assert_eq!(decide([].into_iter(), 10), Extent::Whole);
        assert_eq!(decide([&b"bytes=0-1"[..], b"bytes=0-1"].into_iter(), 10), Extent::Whole);
    }

    proptest::proptest! {
        #[test]
        fn a_part_lies_within_the_file(value in "bytes=[0-9]{0,21}-[0-9]{0,21}", size in 0u64..100) {
            if let Extent::Part { first, last } = of(&value, size) {
                assert!(first <= last && last < size);
            }
        }
    }
}
