//! Per-core pools of byte buffers: taken, filled, and returned when dropped, so that serving does not allocate.
//!
//! A pool belongs to its thread; nothing is shared. What a core keeps for reuse is bounded by
//! [`SMALL_BUFFERS_KEPT`] and [`LARGE_BUFFERS_KEPT`]; a buffer that grew past its class is freed, not kept.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use crate::limits::{LARGE_BUFFER_BYTES, LARGE_BUFFERS_KEPT, SMALL_BUFFER_BYTES, SMALL_BUFFERS_KEPT};

/// The size of a pooled buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// [`SMALL_BUFFER_BYTES`]: response heads and small bodies.
    Small,
    /// [`LARGE_BUFFER_BYTES`]: pieces of files and long bodies.
    Large,
}

impl Class {
    const fn bytes(self) -> usize {
        match self {
            Self::Small => SMALL_BUFFER_BYTES,
            Self::Large => LARGE_BUFFER_BYTES,
        }
    }

    const fn kept(self) -> usize {
        match self {
            Self::Small => SMALL_BUFFERS_KEPT,
            Self::Large => LARGE_BUFFERS_KEPT,
        }
    }
}

/// What this core's pool has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Buffers in use now.
    pub in_use: usize,
    /// The most that were in use at once.
    pub high_water: usize,
    /// Buffers that had to be allocated because none was kept.
    pub allocated: u64,
}

/// Buffers of one class that wait to be taken again; the last one that came is the next to go.
#[derive(Default)]
struct Kept {
    buffers: Vec<Vec<u8>>,
    /// How many there always were since the last [`free_unused`].
    unused: usize,
}

impl Kept {
    fn pop(&mut self) -> Option<Vec<u8>> {
        let buffer = self.buffers.pop();
        self.unused = self.unused.min(self.buffers.len());
        buffer
    }

    fn free_unused(&mut self) {
        self.buffers.drain(..self.unused);
        if self.buffers.is_empty() {
            self.buffers = Vec::new();
        }
        self.unused = self.buffers.len();
    }
}

#[derive(Default)]
struct Pool {
    small: Kept,
    large: Kept,
    counters: Counters,
}

impl Pool {
    fn kept(&mut self, class: Class) -> &mut Kept {
        match class {
            Class::Small => &mut self.small,
            Class::Large => &mut self.large,
        }
    }
}

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

/// A pooled buffer, empty when taken. It reads and grows like a `Vec<u8>`.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    class: Class,
}

/// Takes an empty buffer of `class` from this core's pool.
pub fn take(class: Class) -> Buffer {
    let bytes = POOL.with_borrow_mut(|pool| {
        pool.counters.in_use += 1;
        pool.counters.high_water = pool.counters.high_water.max(pool.counters.in_use);
        let kept = pool.kept(class).pop();
        pool.counters.allocated += u64::from(kept.is_none());
        kept
    });
    Buffer { bytes: bytes.unwrap_or_else(|| Vec::with_capacity(class.bytes())), class }
}

/// Frees the buffers that this core has kept and not needed since it was last told so; to be called every second or so.
pub fn free_unused() {
    POOL.with_borrow_mut(|pool| {
        pool.small.free_unused();
        pool.large.free_unused();
    });
}

/// What this core's pool has done so far.
pub fn counters() -> Counters {
    POOL.with_borrow(|pool| pool.counters)
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        // At thread exit the pool may be gone before the last buffer: that one is simply freed.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            pool.counters.in_use -= 1;
            let fits = (self.class.bytes()..=2 * self.class.bytes()).contains(&bytes.capacity());
            let kept = &mut pool.kept(self.class).buffers;
            if fits && kept.len() < self.class.kept() {
                bytes.clear();
                kept.push(bytes);
            }
        });
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_returned_buffer_is_taken_again_empty() {
        let mut first = take(Class::Small);
        first.extend_from_slice(b"left over");
        let address = first.as_ptr();
        drop(first);
        let second = take(Class::Small);
        assert_eq!((second.as_ptr(), second.len()), (address, 0));
        assert_eq!(counters(), Counters { in_use: 1, high_water: 1, allocated: 1 });
    }

    #[test]
    fn a_buffer_that_outgrew_its_class_is_not_kept() {
        let mut grown = take(Class::Small);
        grown.resize(10 * SMALL_BUFFER_BYTES, 0);
        drop(grown);
        let _next = take(Class::Small);
        assert_eq!(counters().allocated, 2);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let many: Vec<Buffer> = (0..LARGE_BUFFERS_KEPT + 5).map(|_| take(Class::Large)).collect();
        drop(many);
        assert_eq!(POOL.with_borrow(|pool| pool.large.buffers.len()), LARGE_BUFFERS_KEPT);
    }

    #[test]
    fn what_was_not_needed_since_the_last_look_is_freed() {
        let kept = || POOL.with_borrow(|pool| pool.small.buffers.len());
        let use_at_once = |count: usize| drop((0..count).map(|_| take(Class::Small)).collect::<Vec<_>>());
        use_at_once(10);
        free_unused();
        assert_eq!(kept(), 10, "they were all in use since");
        use_at_once(3);
        use_at_once(2);
        free_unused();
        assert_eq!(kept(), 3);
        free_unused();
        assert_eq!(kept(), 0);
        use_at_once(1);
        assert_eq!(counters().allocated, 11);
    }
}
