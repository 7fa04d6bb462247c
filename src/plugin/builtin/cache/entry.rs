//! One stored response: what never changes of it, and the little that does.

use std::time::Duration;

use bytes::Bytes;

use super::freshness::Freshness;
use super::vary::Selected;
use crate::clock::Moment;
use crate::http::{Fields, Status};
use crate::limits::CACHE_ENTRY_BYTES;
use crate::sync::atomic::{AtomicBool, AtomicU8, Ordering};

/// What is known of a stored response.
#[derive(Debug)]
pub(super) struct Record {
    /// By what it is found.
    pub(super) key: Box<[u8]>,
    pub(super) hash: u64,
    pub(super) status: Status,
    /// As they are sent; without `Age`.
    pub(super) fields: Fields,
    pub(super) body: Bytes,
    pub(super) selected: Selected,
    pub(super) freshness: Freshness,
    /// When it came, or was validated last.
    pub(super) since: Moment,
}

/// A stored response.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) record: Record,
    pub(super) bytes: usize,
    /// It is in the store: what holds it elsewhere lets go of it once it is not.
    is_live: AtomicBool,
    /// Looked up so often, up to [`USES_MAX`], since it was last looked at for its usefulness.
    uses: AtomicU8,
    /// It has shown to be of use.
    is_main: AtomicBool,
}

/// More uses than this are not told apart.
pub(super) const USES_MAX: u8 = 3;

impl Entry {
    pub(super) fn new(record: Record) -> Self {
        let Record { key, fields, body, selected, .. } = &record;
        let bytes = CACHE_ENTRY_BYTES + 2 * key.len() + 2 * fields.encoded().len() + body.len() + selected.bytes();
        let (is_live, is_main) = (AtomicBool::new(true), AtomicBool::new(false));
        Self { record, bytes, is_live, uses: AtomicU8::new(0), is_main }
    }

    /// Seconds of its age.
    pub(super) fn age(&self, now: Moment) -> u32 {
        self.record.freshness.age(now.since(self.record.since).max(Duration::ZERO))
    }

    pub(super) fn is_live(&self) -> bool {
        // Acquire: whoever sees it gone sees what came in its place.
        self.is_live.load(Ordering::Acquire)
    }

    pub(super) fn leave(&self) {
        self.is_live.store(false, Ordering::Release);
    }

    /// Notes a use. Of no order: a lost one is no loss. What is used much is written to no more.
    pub(super) fn note_use(&self) {
        let uses = self.uses.load(Ordering::Relaxed);
        if uses < USES_MAX {
            self.uses.store(uses + 1, Ordering::Relaxed);
        }
    }

    pub(super) fn uses(&self) -> u8 {
        self.uses.load(Ordering::Relaxed)
    }

    /// Takes one use away; false where there was none.
    pub(super) fn take_use(&self) -> bool {
        let uses = self.uses();
        self.uses.store(uses.saturating_sub(1), Ordering::Relaxed);
        uses > 0
    }

    pub(super) fn is_main(&self) -> bool {
        self.is_main.load(Ordering::Relaxed)
    }

    /// Moves it to those that are of use.
    pub(super) fn promote(&self) {
        self.uses.store(0, Ordering::Relaxed);
        self.is_main.store(true, Ordering::Relaxed);
    }
}
