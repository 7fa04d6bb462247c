//! How the allocator gives memory back.
#![allow(unsafe_code, reason = "mallopt and malloc_trim have no safe wrapper")]

use crate::limits::MMAP_THRESHOLD_BYTES;

/// Has large allocations always be mappings of their own, which go back to the system when they are freed (mallopt(3)).
/// By default glibc raises its threshold to the largest one that was ever freed, and keeps twice that from then on: one
/// client that once sent megabytes ahead would cost that memory for ever. Other C libraries have no such habit.
pub fn return_large_allocations() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: it takes two integers and changes a setting of the allocator, which locks it.
        let _ = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES) };
    }
}

/// Gives what the allocator keeps of freed memory back to the system (malloc_trim(3), Linux 2.6.8 and glibc 2.8 for all
/// arenas): without it the memory of a flood of connections stays until the next one. Takes milliseconds for many
/// megabytes, and holds up allocations meanwhile. Other C libraries keep little.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: it takes an integer and locks what it works on. Whether it found something is of no concern.
        let _ = unsafe { libc::malloc_trim(0) };
    }
}

#[cfg(all(test, target_env = "gnu"))]
mod tests {
    use super::*;

    #[test]
    fn glibc_takes_the_threshold() {
        // SAFETY: as above.
        assert_eq!(unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD_BYTES) }, 1);
    }
}
