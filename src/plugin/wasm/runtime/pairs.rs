//! Lists of names and values as guests pass them: a count, all lengths, all bytes, each with a zero behind it; little-endian.

use super::abi::Status;
use crate::limits::{WASM_FIELDS_BYTES_MAX, WASM_FIELDS_MAX};

/// A name and its value.
pub(crate) type Pair<'a> = (&'a [u8], &'a [u8]);

/// Appends `pairs`; nothing where there are none.
pub(crate) fn write<'a>(out: &mut Vec<u8>, pairs: impl Iterator<Item = Pair<'a>> + Clone) {
    let count = pairs.clone().count();
    if count == 0 {
        return;
    }
    out.extend_from_slice(&(count as u32).to_le_bytes());
    for (name, value) in pairs.clone() {
        out.extend_from_slice(&(name.len() as u32).to_le_bytes());
        out.extend_from_slice(&(value.len() as u32).to_le_bytes());
    }
    for (name, value) in pairs {
        out.extend_from_slice(name);
        out.push(0);
        out.extend_from_slice(value);
        out.push(0);
    }
}

/// Bytes that [`write`] appends.
pub(crate) fn size<'a>(pairs: impl Iterator<Item = Pair<'a>>) -> usize {
    let (count, bytes) =
        pairs.fold((0, 0), |(count, bytes), (name, value)| (count + 1, bytes + name.len() + value.len()));
    if count == 0 { 0 } else { 4 + 10 * count + bytes }
}

/// Reads what a guest wrote. The zeros are skipped, not checked: SDKs differ in the last one.
///
/// # Errors
/// [`Status::ParseFailure`] where the lengths do not fit the bytes, [`Status::BadArgument`] for more than
/// [`WASM_FIELDS_MAX`] pairs or [`WASM_FIELDS_BYTES_MAX`] bytes.
pub(crate) fn read(bytes: &[u8]) -> Result<Vec<Pair<'_>>, Status> {
    if bytes.len() > WASM_FIELDS_BYTES_MAX {
        return Err(Status::BadArgument);
    }
    if bytes.is_empty() || bytes == [0] {
        return Ok(Vec::new());
    }
    let number = |at: usize| {
        let four = bytes.get(at..at.checked_add(4)?)?;
        Some(u32::from_le_bytes(four.try_into().ok()?) as usize)
    };
    let count = number(0).ok_or(Status::ParseFailure)?;
    if count > WASM_FIELDS_MAX {
        return Err(Status::BadArgument);
    }
    let mut at = 4 + 8 * count;
    let mut take = |length: usize| {
        let end = at.checked_add(length)?;
        let part = bytes.get(at..end)?;
        at = end + 1;
        Some(part)
    };
    let mut pair = |index: usize| {
        let (name, value) = (number(4 + 8 * index)?, number(8 + 8 * index)?);
        Some((take(name)?, take(value)?))
    };
    (0..count).map(|index| pair(index).ok_or(Status::ParseFailure)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_again(pairs in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..20), prop::collection::vec(any::<u8>(), 0..20)), 0..20)) {
            let views = || pairs.iter().map(|(name, value)| (name.as_slice(), value.as_slice()));
            let mut out = Vec::new();
            write(&mut out, views());
            prop_assert_eq!(out.len(), size(views()));
            prop_assert_eq!(read(&out).unwrap(), views().collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(prop_oneof![Just(0u8), Just(1), Just(255), any::<u8>()], 0..100)) {
            let _ = read(&bytes);
        }
    }

    #[test]
    fn the_example_of_the_specification_is_read() {
        let bytes = b"\x02\0\0\0\x01\0\0\0\x01\0\0\0\x01\0\0\0\x02\0\0\0a\x001\0b\x0022\0";
        assert_eq!(read(bytes).unwrap(), [(&b"a"[..], &b"1"[..]), (b"b", b"22")]);
        assert!(read(b"").unwrap().is_empty() && read(b"\0").unwrap().is_empty());
    }

    #[test]
    fn lengths_that_overflow_are_refused() {
        let mut bytes = b"\x01\0\0\0".to_vec();
        bytes.extend_from_slice(&[0xff; 8]);
        assert_eq!(read(&bytes), Err(Status::ParseFailure));
        assert_eq!(read(&[0xff; 4]), Err(Status::BadArgument));
    }
}
