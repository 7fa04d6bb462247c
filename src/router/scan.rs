//! Compares and searches of a few bytes. Labels, keys and segments are mostly under twenty bytes, where a call to `bcmp`
//! or `memchr` costs more than the work: words of eight bytes, inlined, measured a third off a two-parameter lookup.

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;

#[inline]
fn word(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |chunk| u64::from_le_bytes(*chunk))
}

#[inline]
fn half(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |chunk| u32::from_le_bytes(*chunk))
}

/// Whether two slices are equal.
#[inline]
pub(crate) fn same_bytes(one: &[u8], other: &[u8]) -> bool {
    let len = one.len();
    if len != other.len() {
        return false;
    }
    match len {
        0 => true,
        // First, middle and last cover up to three bytes.
        1..=3 => one[0] == other[0] && one[len / 2] == other[len / 2] && one[len - 1] == other[len - 1],
        4..=7 => half(one, 0) == half(other, 0) && half(one, len - 4) == half(other, len - 4),
        8..=16 => word(one, 0) == word(other, 0) && word(one, len - 8) == word(other, len - 8),
        _ => one == other,
    }
}

/// Whether `bytes` begins with `prefix`.
#[inline]
pub(crate) fn begins_with(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes.get(..prefix.len()).is_some_and(|head| same_bytes(head, prefix))
}

/// Length of the segment that `bytes` begins with: up to a slash or the end.
#[inline]
pub(crate) fn segment_len(bytes: &[u8]) -> usize {
    let (mut at, mut rest) = (0, bytes);
    while let Some((chunk, tail)) = rest.split_first_chunk::<8>() {
        let differs = u64::from_le_bytes(*chunk) ^ (ONES * b'/' as u64);
        // The lowest high bit set here is that of the first zero byte (Mycroft); higher ones may be false.
        let zeros = differs.wrapping_sub(ONES) & !differs & HIGHS;
        if zeros != 0 {
            return at + (zeros.trailing_zeros() / 8) as usize;
        }
        at += 8;
        rest = tail;
    }
    at + rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_end_at_the_first_slash_wherever_it_stands() {
        for len in 0..40 {
            for at in 0..=len {
                let mut bytes = vec![b'.'; len];
                assert_eq!(segment_len(&bytes), len);
                bytes[at..].fill(b'/');
                assert_eq!(segment_len(&bytes), at);
                bytes[at..].fill(b'0');
                assert_eq!(segment_len(&bytes), len, "0 follows the slash in ASCII");
            }
        }
    }

    #[test]
    fn slices_of_every_small_length_are_compared_whole() {
        for len in 0..40 {
            let one: Vec<u8> = (0..len as u8).collect();
            assert!(same_bytes(&one, &one) && begins_with(&one, &one));
            for at in 0..len {
                let mut other = one.clone();
                other[at] ^= 0x80;
                assert!(!same_bytes(&one, &other), "{len} {at}");
                assert!(
                    !same_bytes(&one, &one[..at]) && begins_with(&one, &one[..at]) && !begins_with(&one[..at], &one)
                );
            }
        }
    }
}
