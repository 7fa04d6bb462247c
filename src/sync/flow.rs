//! How far a queue is worked off that another thread empties: what was put in, and what that thread is done with. So somebody
//! can wait until all of it is done, while more may still come.

use super::atomic::{AtomicU64, Ordering};

/// Counts of a queue's both ends.
#[derive(Debug, Default)]
pub struct Flow {
    queued: AtomicU64,
    done: AtomicU64,
}

impl Flow {
    /// One more is about to be put in.
    pub fn note_queued(&self) {
        self.queued.fetch_add(1, Ordering::Release);
    }

    /// One more is done with.
    pub fn note_done(&self) {
        #[cfg(loom)]
        if super::planted(super::Bug::CountsRelaxed) {
            self.done.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.done.fetch_add(1, Ordering::Release);
    }

    /// Whether each that was put in is done with, or one of those that were `dropped`, because there was no room. Whoever
    /// finds that it is sees what was done.
    pub fn is_over(&self, dropped: impl FnOnce() -> u64) -> bool {
        // In this order: what comes meanwhile counts as not done.
        let gone = self.done.load(Ordering::Acquire) + dropped();
        self.queued.load(Ordering::Acquire) <= gone
    }
}
