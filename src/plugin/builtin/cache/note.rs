//! What a hit keeps from the hook before the handler to that of the response: a number, so that it costs no heap.

use super::told::Handling;
use crate::plugin::Slot;

/// What is told of a response that comes from the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HitNote {
    /// Seconds; fits 32 bits.
    pub(super) age: u32,
    /// Seconds for which it is fresh still.
    pub(super) ttl: i32,
}

impl HitNote {
    pub(super) fn new(age: u32, ttl: i64) -> Self {
        Self { age, ttl: ttl.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32 }
    }

    pub(super) fn pack(self) -> u64 {
        u64::from(self.age) << 32 | u64::from(self.ttl as u32)
    }

    pub(super) fn pack_into_slot(self) -> Slot {
        Slot::Number(self.pack())
    }

    pub(super) fn unpack(packed: u64) -> Self {
        Self { age: (packed >> 32) as u32, ttl: packed as u32 as i32 }
    }

    pub(super) fn handling(self) -> Handling {
        Handling::Hit { ttl: i64::from(self.ttl) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_comes_back_as_it_was() {
        for (age, ttl) in [(0, 0), (1, -1), (u32::MAX, i64::MIN), (7, i64::MAX), (5, -3600)] {
            let note = HitNote::new(age, ttl);
            assert_eq!(HitNote::unpack(note.pack()), note);
            assert_eq!(i64::from(note.ttl), ttl.clamp(i64::from(i32::MIN), i64::from(i32::MAX)));
        }
    }
}
