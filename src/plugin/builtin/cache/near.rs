//! What one core keeps at hand of a store: responses that it found there of late, so that a hit touches nothing that other
//! cores write to. A response that has left the store is not used any more, and is let go when its place comes round.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use super::entry::Entry;
use super::note::HitNote;
use super::wanted::Wanted;
use crate::http::{Fields, RequestHead};
use crate::limits::CACHE_NEAR_MAX;
use crate::plugin::Stored;
use crate::sync::atomic::{AtomicU64, Ordering};

/// A stored response, as one core has it: passing it on touches no count that cores share.
#[derive(Debug)]
pub(super) struct Held(pub(super) Arc<Entry>);

impl Stored for Held {
    fn fields(&self) -> &Fields {
        &self.0.record.fields
    }

    fn body(&self) -> &[u8] {
        &self.0.record.body
    }
}

/// What a core counts. Only that core writes to it.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
}

impl Tally {
    pub(super) fn add(counter: &AtomicU64) {
        // One writer, so that no addition is lost between the two.
        counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

/// What a request was found to come to before its hooks ran.
pub(super) struct Promise {
    pub(super) ticket: u64,
    pub(super) held: Rc<Held>,
    pub(super) note: HitNote,
    pub(super) wanted: Wanted,
    pub(super) refresh: Refresh,
}

/// Whether a response that is sent is fetched anew meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refresh {
    No,
    Yes,
}

/// One core's.
pub(super) struct Near {
    places: RefCell<Vec<Option<Rc<Held>>>>,
    bytes: Cell<usize>,
    bytes_max: usize,
    /// The place that is looked at next for what has left the store.
    hand: Cell<usize>,
    /// For keys.
    pub(super) key: RefCell<Vec<u8>>,
    pub(super) promise: RefCell<Option<Promise>>,
    pub(super) tally: Arc<Tally>,
}

impl Near {
    /// With room for so many bytes.
    pub(super) fn new(bytes_max: usize, tally: Arc<Tally>) -> Self {
        Self {
            places: RefCell::new(vec![None; CACHE_NEAR_MAX]),
            bytes: Cell::new(0),
            bytes_max,
            hand: Cell::new(0),
            key: RefCell::default(),
            promise: RefCell::default(),
            tally,
        }
    }

    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    fn place(hash: u64) -> usize {
        // Other bits than those by which the store has its shards.
        (hash >> 40) as usize % CACHE_NEAR_MAX
    }

    /// The response of this key that was chosen by the fields of the request, where it is at hand.
    pub(super) fn find(&self, hash: u64, key: &[u8], request: &RequestHead<'_>) -> Option<Rc<Held>> {
        self.sweep();
        let places = self.places.borrow();
        let held = places[Self::place(hash)].as_ref()?;
        let record = &held.0.record;
        let is_it = record.hash == hash && *record.key == *key && held.0.is_live() && record.selected.matches(request);
        is_it.then(|| held.clone())
    }

    /// Keeps a response at hand, where there is room for it.
    pub(super) fn keep(&self, entry: Arc<Entry>) -> Rc<Held> {
        let held = Rc::new(Held(entry));
        let place = Self::place(held.0.record.hash);
        let before = self.clear(place);
        // One large response must not push out all the others.
        if held.0.bytes <= self.bytes_max / 8 {
            let mut looked_at = 0;
            while self.bytes.get() + held.0.bytes > self.bytes_max && looked_at < CACHE_NEAR_MAX {
                drop(self.clear(self.step()));
                looked_at += 1;
            }
            self.bytes.set(self.bytes.get() + held.0.bytes);
            self.places.borrow_mut()[place] = Some(held.clone());
        }
        drop(before);
        held
    }

    fn step(&self) -> usize {
        let hand = self.hand.get();
        self.hand.set((hand + 1) % CACHE_NEAR_MAX);
        hand
    }

    fn clear(&self, place: usize) -> Option<Rc<Held>> {
        let before = self.places.borrow_mut()[place].take();
        if let Some(held) = &before {
            self.bytes.set(self.bytes.get() - held.0.bytes);
        }
        before
    }

    /// Lets go of one response that has left the store, if the next place has one.
    fn sweep(&self) {
        let hand = self.step();
        let is_gone = self.places.borrow()[hand].as_ref().is_some_and(|held| !held.0.is_live());
        if is_gone {
            drop(self.clear(hand));
        }
    }
}
