//! Chance from the kernel, fit for secrets.

use std::io;

use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

/// Fills `bytes`.
///
/// # Errors
/// On a kernel without such a call, or where it is forbidden.
pub fn fill(mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        // At most 256 bytes come in one piece; a signal may end a longer call early.
        match getrandom(&mut *bytes, GetRandomFlags::empty()) {
            Ok(filled) => bytes = &mut bytes[filled..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_fills_differ() {
        let (mut one, mut other) = ([0; 4096], [0; 4096]);
        super::fill(&mut one).unwrap();
        super::fill(&mut other).unwrap();
        assert!(one != other && one[4000..] != [0; 96]);
    }
}
