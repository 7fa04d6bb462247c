//! Which stored response goes when there is no room: S3-FIFO (Yang and others, SOSP 2023), counted by bytes.
//!
//! What is new stands in a short queue, a tenth of the room. What is asked for again while it is there moves to the main
//! queue; the rest goes, and is remembered for a while by its hash alone: asked for again, it comes straight into the main
//! queue. So a scan, each of whose responses is asked for once, passes through the short queue and takes nothing else with
//! it. In the main queue what was used since it came to its head goes round once more. A lookup writes nothing but a count of
//! up to three.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Weak};

use super::entry::Entry;

/// The queues of one shard.
#[derive(Debug, Default)]
pub(super) struct Queues {
    small: VecDeque<Weak<Entry>>,
    main: VecDeque<Weak<Entry>>,
    small_bytes: usize,
    main_bytes: usize,
    /// Entries in both.
    count: usize,
    ghosts: VecDeque<u64>,
    ghost_set: HashSet<u64>,
}

/// The share of the room that is for what is new: one of so many parts.
const SMALL_SHARE: usize = 10;
/// Uses in the short queue by which an entry has shown to be of use: more than the next look at the same page.
const PROMOTING_USES: u8 = 2;
/// Places of entries that are gone, which are kept besides as many as there are entries.
const DEAD_KEPT: usize = 64;

impl Queues {
    /// Bytes of all entries.
    pub(super) fn bytes(&self) -> usize {
        self.small_bytes + self.main_bytes
    }

    /// Entries.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Takes a new entry in.
    pub(super) fn add(&mut self, entry: &Arc<Entry>) {
        self.count += 1;
        let weak = Arc::downgrade(entry);
        if self.ghost_set.remove(&entry.record.hash) {
            entry.promote();
            self.main_bytes += entry.bytes;
            self.main.push_back(weak);
        } else {
            self.small_bytes += entry.bytes;
            self.small.push_back(weak);
        }
        self.clear_dead();
    }

    /// Takes `entry` in instead of `old`, which is of the same use.
    pub(super) fn replace(&mut self, old: &Arc<Entry>, entry: &Arc<Entry>) {
        self.remove(old);
        self.count += 1;
        if old.is_main() {
            entry.promote();
            self.main_bytes += entry.bytes;
            self.main.push_back(Arc::downgrade(entry));
        } else {
            (0..old.uses()).for_each(|_| entry.note_use());
            self.small_bytes += entry.bytes;
            self.small.push_back(Arc::downgrade(entry));
        }
        self.clear_dead();
    }

    /// An entry leaves for another reason than the room. Its place is passed over later.
    pub(super) fn remove(&mut self, entry: &Entry) {
        debug_assert!(entry.is_live());
        entry.leave();
        self.count -= 1;
        let bytes = if entry.is_main() { &mut self.main_bytes } else { &mut self.small_bytes };
        *bytes -= entry.bytes;
    }

    /// The entry that goes for want of room in `capacity` bytes; it has left. `None`: there is none.
    pub(super) fn evict(&mut self, capacity: usize) -> Option<Arc<Entry>> {
        loop {
            let is_small_full = self.small_bytes > capacity / SMALL_SHARE || self.main.is_empty();
            let from_small = is_small_full && !self.small.is_empty();
            let queue = if from_small { &mut self.small } else { &mut self.main };
            let place = queue.pop_front()?;
            let Some(entry) = place.upgrade().filter(|entry| entry.is_live()) else { continue };
            if from_small && entry.uses() >= PROMOTING_USES {
                self.small_bytes -= entry.bytes;
                self.main_bytes += entry.bytes;
                entry.promote();
                self.main.push_back(place);
            } else if !from_small && entry.take_use() {
                self.main.push_back(place);
            } else {
                if from_small {
                    self.remember(entry.record.hash);
                }
                self.remove(&entry);
                return Some(entry);
            }
        }
    }

    fn remember(&mut self, hash: u64) {
        if self.ghost_set.insert(hash) {
            self.ghosts.push_back(hash);
        }
        while self.ghosts.len() > self.count.max(DEAD_KEPT) {
            if let Some(oldest) = self.ghosts.pop_front() {
                self.ghost_set.remove(&oldest);
            }
        }
    }

    /// Entries that left otherwise leave their places behind: they are not let outnumber the others.
    fn clear_dead(&mut self) {
        if self.small.len() + self.main.len() > 2 * self.count + DEAD_KEPT {
            let is_live = |place: &Weak<Entry>| place.upgrade().is_some_and(|entry| entry.is_live());
            self.small.retain(is_live);
            self.main.retain(is_live);
        }
    }
}
