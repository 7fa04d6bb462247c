//! Trace contexts (W3C Trace Context, level 1): read from `traceparent`, passed on with a new parent.

/// Bytes of `traceparent` in its version 00.
pub const TRACEPARENT_BYTES: usize = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".len();

/// A request's place in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// The whole trace's id; not zero.
    pub id: [u8; 16],
    /// What the request's own upstreams take for their parent: this gateway's part in it; not zero.
    pub parent: [u8; 8],
    /// Whether who called may have recorded it.
    pub is_sampled: bool,
    /// Whether the client began it, so that its `tracestate` belongs to it.
    pub is_continued: bool,
}

impl Trace {
    /// A trace that begins here. `next` gives 64 bits by chance each time. It counts as sampled: servers that decide for
    /// themselves where no parent has decided would else stop recording behind the gateway.
    pub fn begin(mut next: impl FnMut() -> u64) -> Self {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&next().to_be_bytes());
        // Not zero, whatever chance says.
        id[8..].copy_from_slice(&(next() | 1).to_be_bytes());
        Self { id, parent: new_parent(next()), is_sampled: true, is_continued: false }
    }

    /// The trace of a request with this `traceparent`; `None` where that is not valid (section 3.2 of the recommendation). Of a
    /// version above 00 what version 00 knows is read.
    pub fn resume(value: &[u8], next: impl FnOnce() -> u64) -> Option<Self> {
        let (fields, rest) = value.split_at_checked(TRACEPARENT_BYTES)?;
        let dashes_fit = [2, 35, 52].iter().all(|at| fields[*at] == b'-');
        let [version] = read_hex::<1>(&fields[..2])?;
        let rest_fits = match version {
            0x00 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest[0] == b'-',
        };
        let id = read_hex::<16>(&fields[3..35])?;
        let parent = read_hex::<8>(&fields[36..52])?;
        let [flags] = read_hex::<1>(&fields[53..])?;
        let is_valid = dashes_fit && rest_fits && id != [0; 16] && parent != [0; 8];
        let trace = Self { id, parent: new_parent(next()), is_sampled: flags & 1 == 1, is_continued: true };
        is_valid.then_some(trace)
    }

    /// `traceparent` for the servers behind.
    pub fn traceparent(&self) -> [u8; TRACEPARENT_BYTES] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&mut text[3..35], &self.id);
        write_hex(&mut text[36..52], &self.parent);
        text[54] = b'0' + u8::from(self.is_sampled);
        text
    }
}

/// Not zero, whatever chance says.
fn new_parent(number: u64) -> [u8; 8] {
    number.max(1).to_be_bytes()
}

/// Hexadecimal digits in lower case, as the recommendation has them alone.
fn read_hex<const N: usize>(digits: &[u8]) -> Option<[u8; N]> {
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    for (byte, two) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(two[0])? << 4 | value(two[1])?;
    }
    Some(bytes)
}

fn write_hex(digits: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (two, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        two[0] = DIGITS[usize::from(byte >> 4)];
        two[1] = DIGITS[usize::from(byte & 15)];
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn resume(value: &str) -> Option<Trace> {
        Trace::resume(value.as_bytes(), || 0x0123_4567_89ab_cdef)
    }

    fn passed_on(value: &str) -> Option<String> {
        resume(value).map(|trace| str::from_utf8(&trace.traceparent()).unwrap().to_owned())
    }

    #[test]
    fn a_valid_trace_goes_on_with_a_new_parent_and_its_sampling() {
        let on = "00-4bf92f3577b34da6a3ce929d0e0e4736-0123456789abcdef-01";
        assert_eq!(passed_on(VALID).as_deref(), Some(on));
        // Flags that version 00 does not know are not set.
        assert_eq!(passed_on(&VALID.replace("-01", "-ff")).as_deref(), Some(on));
        let unsampled = "00-4bf92f3577b34da6a3ce929d0e0e4736-0123456789abcdef-00";
        assert_eq!(passed_on(&VALID.replace("-01", "-02")).as_deref(), Some(unsampled));
    }

    #[test]
    fn of_a_later_version_what_is_known_is_read() {
        for later in ["cc", "01", "fe"] {
            let value = VALID.replacen("00", later, 1);
            assert!(passed_on(&value).is_some(), "{value}");
            assert!(passed_on(&format!("{value}-what-the-future-will-be-like")).is_some());
            assert_eq!(passed_on(&format!("{value}.what-the-future-will-not-be-like")), None);
        }
    }

    #[test]
    fn what_is_not_valid_is_no_trace() {
        let wrong = [
            String::new(),
            VALID[..54].to_owned(),
            format!("{VALID}-"),
            format!("{VALID}0"),
            format!(" {VALID}"),
            VALID.replacen("00", "ff", 1),
            VALID.to_uppercase(),
            VALID.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            VALID.replace("00f067aa0ba902b7", &"0".repeat(16)),
            VALID.replace("00f067aa0ba902b7", "00f067aa0ba902bg"),
            VALID.replace('-', "_"),
            VALID.replace("-01", "-0x"),
        ];
        for value in wrong {
            assert_eq!(resume(&value), None, "{value:?}");
        }
    }

    #[test]
    fn a_trace_that_begins_here_is_valid_whatever_chance_says() {
        for number in [0, 1, u64::MAX, 0x8000_0000_0000_0000] {
            let begun = Trace::begin(|| number);
            let text = begun.traceparent();
            let read = Trace::resume(&text, || number).unwrap();
            assert_eq!((read.id, read.is_sampled), (begun.id, true));
            assert!(!begun.is_continued && read.is_continued);
        }
    }

    /// The recommendation read another way: by its dashes. The id in digits, and the flags.
    fn naive(value: &[u8]) -> Option<(Vec<u8>, u8)> {
        let parts: Vec<_> = value.splitn(5, |b| *b == b'-').collect();
        let ([version, id, parent, flags] | [version, id, parent, flags, _]) = parts.as_slice() else { return None };
        let is_hex = |part: &[u8], len| part.len() == len && part.iter().all(|b| b"0123456789abcdef".contains(b));
        let is_zero = |part: &[u8]| part.iter().all(|b| *b == b'0');
        let is_valid = is_hex(version, 2)
            && is_hex(id, 32)
            && is_hex(parent, 16)
            && is_hex(flags, 2)
            && *version != b"ff"
            && (*version != b"00" || parts.len() == 4)
            && !is_zero(id)
            && !is_zero(parent);
        is_valid.then(|| (id.to_vec(), flags[1]))
    }

    proptest! {
        #[test]
        fn what_is_a_trace_is_what_another_reading_takes_for_one(
            edits in prop::collection::vec((0..58_usize, prop::sample::select(b"0123456789abcdefgABF-. \xff".as_slice())), 0..4),
            length in 50..60_usize,
            keeps_length in prop::bool::weighted(0.7),
        ) {
            let mut value = format!("{VALID}-more").into_bytes();
            value.truncate(if keeps_length { TRACEPARENT_BYTES } else { length });
            for (at, byte) in edits {
                if let Some(place) = value.get_mut(at) {
                    *place = byte;
                }
            }
            let read = Trace::resume(&value, || 7).map(|trace| (trace.traceparent()[3..35].to_vec(), trace.is_sampled));
            let is_odd = |digit: u8| b"13579bdf".contains(&digit);
            let expected = naive(&value).map(|(id, flag)| (id, is_odd(flag)));
            prop_assert_eq!(read, expected, "{}", value.escape_ascii());
        }
    }
}
