//! Percent-decoding (RFC 3986 section 2.1) of slices of the normalised path, whose escapes are known to be whole.

/// Appends `raw` to `out` with its escapes decoded. A `%` that two hexadecimal digits do not follow stays: no normalised
/// path has one.
pub(crate) fn decode(raw: &[u8], out: &mut Vec<u8>) {
    let mut rest = raw;
    while let Some(mark) = memchr::memchr(b'%', rest) {
        out.extend_from_slice(&rest[..mark]);
        match rest[mark + 1..] {
            [high, low, ..] if let (Some(high), Some(low)) = (hex_value(high), hex_value(low)) => {
                out.push(high << 4 | low);
                rest = &rest[mark + 3..];
            }
            _ => {
                out.push(b'%');
                rest = &rest[mark + 1..];
            }
        }
    }
    out.extend_from_slice(rest);
}

fn hex_value(b: u8) -> Option<u8> {
    (b as char).to_digit(16).map(|digit| digit as u8)
}

/// The bytes that `raw` stands for in a form's encoding: escapes decoded, and `+` a space. What is no escape stays. For
/// comparisons, which need no copy.
pub(crate) fn form_bytes(raw: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = raw;
    std::iter::from_fn(move || {
        let (byte, after) = match *rest {
            [b'%', high, low, ref after @ ..] if let (Some(high), Some(low)) = (hex_value(high), hex_value(low)) => {
                (high << 4 | low, after)
            }
            [b'+', ref after @ ..] => (b' ', after),
            [byte, ref after @ ..] => (byte, after),
            [] => return None,
        };
        rest = after;
        Some(byte)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_decoded_once_and_what_is_none_stays() {
        for (raw, wanted) in [
            ("", &b""[..]),
            ("plain", b"plain"),
            ("a%20b", b"a b"),
            ("%C3%a9", b"\xc3\xa9"),
            ("%252e", b"%2e"),
            ("%", b"%"),
            ("%4", b"%4"),
            ("%zz%41", b"%zzA"),
        ] {
            let mut out = Vec::new();
            decode(raw.as_bytes(), &mut out);
            assert_eq!(out, wanted, "{raw}");
        }
    }
}
