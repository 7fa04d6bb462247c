//! The store of one cache, for all cores: stored responses in shards, each behind a lock that is held for a look-up or a
//! change of pointers, and never over a body.
//!
//! All that it holds counts into its size: six eighths are for the store itself, one for what single cores keep at hand
//! ([`super::near`]), one for bodies that are coming.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use smallvec::SmallVec;

use super::entry::Entry;
use super::flight::{Flight, Landing, Wait};
use super::key;
use super::queues::Queues;
use super::vary::Selected;
use crate::clock::Moment;
use crate::http::RequestHead;
use crate::limits::{
    CACHE_FLIGHTS_MAX, CACHE_PASS_SECONDS, CACHE_PASSES_MAX, CACHE_SHARDS_MAX, CACHE_VARIANTS_MAX, CACHE_WAITING_MAX,
};
use crate::plugin::Purge;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// Changes of what is stored, counted by hash: a response that was asked for before one is not stored after it.
const STAMPS: usize = 4096;
/// How many of the largest responses fit into a shard, at least.
const LARGEST_PER_SHARD: usize = 16;

/// Stored responses.
#[derive(Debug)]
pub(super) struct Store {
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
    /// Bytes of a shard.
    capacity: usize,
    /// Bytes that may be coming.
    coming_max: usize,
    coming: AtomicUsize,
}

#[derive(Debug)]
struct Shard {
    resources: HashMap<u64, Resource>,
    queues: Queues,
    stamps: Box<[u32]>,
    /// What is being fetched, by the hash of its variant.
    flights: HashMap<u64, Arc<Flight>>,
    /// What was not stored of late, until when that is believed.
    passes: HashMap<u64, Moment>,
    stored: u64,
    evicted: u64,
}

/// What is stored of one target.
#[derive(Debug)]
struct Resource {
    key: Box<[u8]>,
    variants: SmallVec<[Arc<Entry>; 1]>,
}

/// What a look-up found.
#[derive(Debug)]
pub(super) enum Lookup {
    /// The response that was chosen by the same fields.
    Found(Arc<Entry>),
    /// Responses that were chosen by others; the fields that count, as one of them has them.
    Other(Arc<Entry>),
    Nothing,
}

/// The leave to fetch something.
pub(super) enum Fetching {
    /// Others wait for it.
    Lead(Lead),
    /// Somebody else does, who can be waited for.
    Join(Wait),
    /// By oneself.
    Alone,
}

/// What a fetch is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// For a request, which may wait for somebody else's.
    Shared,
    /// For a request, which may not.
    Own,
    /// For those who come later: one is enough, and nobody waits for it who would not for another.
    Refresh,
}

/// Numbers of a store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) entries: u64,
    pub(super) bytes: u64,
    pub(super) stored: u64,
    pub(super) evicted: u64,
}

impl Store {
    /// A store of `size` bytes, for responses of at most `largest`.
    pub(super) fn new(size: usize, largest: usize) -> Arc<Self> {
        let room = size / 8 * 6;
        let shards = (room / (LARGEST_PER_SHARD * largest.max(1))).clamp(1, CACHE_SHARDS_MAX);
        let shards = 1 << shards.ilog2();
        Arc::new(Self {
            hasher: RandomState::new(),
            shards: (0..shards).map(|_| Mutex::new(Shard::new())).collect(),
            capacity: room / shards,
            coming_max: size / 8,
            coming: AtomicUsize::new(0),
        })
    }

    /// The hash of a key. Clients choose keys, so it is one that they cannot foresee.
    pub(super) fn hash(&self, key: &[u8]) -> u64 {
        self.hasher.hash_one(key)
    }

    fn shard<T>(&self, hash: u64, work: impl FnOnce(&mut Shard) -> T) -> T {
        let shard = &self.shards[hash as usize & (self.shards.len() - 1)];
        work(&mut shard.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is stored for a request.
    pub(super) fn find(&self, hash: u64, key: &[u8], request: &RequestHead<'_>) -> Lookup {
        self.shard(hash, |shard| {
            let Some(resource) = shard.resources.get(&hash).filter(|resource| *resource.key == *key) else {
                return Lookup::Nothing;
            };
            // The newest first: after a change of `Vary` more than one may match (RFC 9111 section 4.1).
            let mut variants = resource.variants.iter().rev();
            match variants.find(|entry| entry.record.selected.matches(request)) {
                Some(entry) => Lookup::Found(entry.clone()),
                None => resource.variants.last().map_or(Lookup::Nothing, |entry| Lookup::Other(entry.clone())),
            }
        })
    }

    /// To be taken before a response is asked for that may be stored.
    pub(super) fn stamp(&self, hash: u64) -> u32 {
        self.shard(hash, |shard| shard.stamps[Shard::stamp_of(hash)])
    }

    /// Stores a response, unless what is stored of its target was changed or purged since `stamp`; says whether it did.
    pub(super) fn insert(&self, entry: &Arc<Entry>, stamp: u32) -> bool {
        if entry.bytes > self.capacity / 2 {
            return false;
        }
        let hash = entry.record.hash;
        // Freed when the lock is open again.
        let mut gone = Vec::new();
        self.shard(hash, |shard| {
            if shard.stamps[Shard::stamp_of(hash)] != stamp {
                return false;
            }
            shard.passes.remove(&hash);
            shard.make_room(entry.bytes, self.capacity, &mut gone);
            shard.insert(entry, &mut gone);
            true
        })
    }

    /// Forgets all that is stored of a target, and what is coming of it.
    pub(super) fn forget(&self, hash: u64, key: &[u8]) -> u64 {
        let gone = self.shard(hash, |shard| {
            shard.bump(hash);
            let is_it = shard.resources.get(&hash).is_some_and(|resource| *resource.key == *key);
            let resource = if is_it { shard.resources.remove(&hash) } else { None }?;
            resource.variants.iter().for_each(|entry| shard.queues.remove(entry));
            Some(resource)
        });
        gone.map_or(0, |resource| resource.variants.len() as u64)
    }

    /// Forgets one response.
    pub(super) fn forget_entry(&self, entry: &Arc<Entry>) {
        self.shard(entry.record.hash, |shard| {
            if entry.is_live() {
                shard.queues.remove(entry);
                shard.take_out(entry);
            }
        });
    }

    /// Forgets what a purge is about, and all that is coming.
    pub(super) fn purge(&self, purge: &Purge<'_>) -> u64 {
        let mut count = 0;
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let Shard { resources, queues, stamps, passes, .. } = &mut *shard;
            stamps.iter_mut().for_each(|stamp| *stamp = stamp.wrapping_add(1));
            passes.clear();
            let is_covered = |resource: &Resource| {
                let (host, path) = key::parts(&resource.key);
                purge.covers(host, path)
            };
            let gone: Vec<_> = resources.extract_if(|_, resource| is_covered(resource)).collect();
            for entry in gone.iter().flat_map(|(_, resource)| &resource.variants) {
                queues.remove(entry);
                count += 1;
            }
            drop(shard);
            drop(gone);
        }
        count
    }

    /// Asks for the leave to fetch what `variant` is the hash of, of the target of `hash`.
    pub(super) fn fly(self: &Arc<Self>, hash: u64, variant: u64, purpose: Purpose, now: Moment) -> Fetching {
        self.shard(hash, |shard| {
            let is_passed = purpose != Purpose::Refresh && shard.is_passed(hash, now);
            if let Some(flight) = shard.flights.get(&variant) {
                let may_wait = purpose == Purpose::Shared && !is_passed;
                let wait = if may_wait { flight.join(CACHE_WAITING_MAX) } else { None };
                return wait.map_or(Fetching::Alone, Fetching::Join);
            }
            if shard.flights.len() >= CACHE_FLIGHTS_MAX || is_passed {
                return Fetching::Alone;
            }
            let flight = Arc::<Flight>::default();
            shard.flights.insert(variant, flight.clone());
            Fetching::Lead(Lead { store: self.clone(), hash, variant, flight: Some(flight) })
        })
    }

    /// Whether responses of the target were not stored of late, so that nobody should wait for one.
    pub(super) fn is_passed(&self, hash: u64, now: Moment) -> bool {
        self.shard(hash, |shard| shard.is_passed(hash, now))
    }

    /// Notes that a response of the target could not be stored.
    pub(super) fn pass(&self, hash: u64, now: Moment) {
        self.shard(hash, |shard| {
            if shard.passes.len() >= CACHE_PASSES_MAX {
                shard.passes.retain(|_, until| *until > now);
            }
            if shard.passes.len() < CACHE_PASSES_MAX {
                shard.passes.insert(hash, now + Duration::from_secs(CACHE_PASS_SECONDS));
            }
        });
    }

    /// Room for so many bytes more of a response that is coming; false where there is none.
    pub(super) fn reserve(&self, bytes: usize) -> bool {
        // Of no order: only the sum counts.
        let before = self.coming.fetch_add(bytes, Ordering::Relaxed);
        let fits = before + bytes <= self.coming_max;
        if !fits {
            self.release(bytes);
        }
        fits
    }

    pub(super) fn release(&self, bytes: usize) {
        self.coming.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> Counts {
        let mut sum = Counts::default();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            sum.entries += shard.queues.count() as u64;
            sum.bytes += shard.queues.bytes() as u64;
            sum.stored += shard.stored;
            sum.evicted += shard.evicted;
        }
        sum
    }
}

impl Shard {
    fn new() -> Self {
        Self {
            resources: HashMap::new(),
            queues: Queues::default(),
            stamps: vec![0; STAMPS].into(),
            flights: HashMap::new(),
            passes: HashMap::new(),
            stored: 0,
            evicted: 0,
        }
    }

    fn stamp_of(hash: u64) -> usize {
        (hash >> 32) as usize % STAMPS
    }

    fn bump(&mut self, hash: u64) {
        let stamp = &mut self.stamps[Self::stamp_of(hash)];
        *stamp = stamp.wrapping_add(1);
    }

    fn is_passed(&self, hash: u64, now: Moment) -> bool {
        self.passes.get(&hash).is_some_and(|until| *until > now)
    }

    fn make_room(&mut self, bytes: usize, capacity: usize, gone: &mut Vec<Arc<Entry>>) {
        while self.queues.bytes() + bytes > capacity {
            let Some(entry) = self.queues.evict(capacity) else { return };
            self.evicted += 1;
            self.take_out(&entry);
            gone.push(entry);
        }
    }

    /// Takes an entry out of the map that has left the queues.
    fn take_out(&mut self, entry: &Arc<Entry>) {
        let Some(resource) = self.resources.get_mut(&entry.record.hash) else { return };
        resource.variants.retain(|own| !Arc::ptr_eq(own, entry));
        if resource.variants.is_empty() {
            self.resources.remove(&entry.record.hash);
        }
    }

    fn insert(&mut self, entry: &Arc<Entry>, gone: &mut Vec<Arc<Entry>>) {
        self.stored += 1;
        let Self { resources, queues, .. } = self;
        let record = &entry.record;
        let resource = resources
            .entry(record.hash)
            .or_insert_with(|| Resource { key: record.key.clone(), variants: SmallVec::new() });
        if resource.key != record.key {
            // Two keys of one hash: the older one goes.
            resource.key.clone_from(&record.key);
            resource.variants.iter().for_each(|other| queues.remove(other));
            gone.extend(resource.variants.drain(..));
        }
        let same = resource.variants.iter().position(|other| other.record.selected.replaces(&record.selected));
        match same.map(|at| resource.variants.remove(at)) {
            Some(old) => {
                queues.replace(&old, entry);
                gone.push(old);
            }
            None => queues.add(entry),
        }
        if resource.variants.len() >= CACHE_VARIANTS_MAX {
            let oldest = resource.variants.remove(0);
            queues.remove(&oldest);
            gone.push(oldest);
        }
        resource.variants.push(entry.clone());
    }
}

/// A fetch that others wait for. Dropped before it has landed, it has failed: they find out for themselves.
pub(super) struct Lead {
    store: Arc<Store>,
    hash: u64,
    variant: u64,
    flight: Option<Arc<Flight>>,
}

impl Lead {
    /// Tells those who wait what came of it, once.
    pub(super) fn land(&mut self, landing: Landing) {
        if let Some(flight) = self.flight.take() {
            // Who comes now finds what was stored, or leads anew.
            self.store.shard(self.hash, |shard| shard.flights.remove(&self.variant));
            flight.land(landing);
        }
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.land(Landing::Failed);
    }
}

/// The hash by which requests wait for each other: of all that are answered alike, as far as it is known.
pub(super) fn variant_hash(
    store: &Store,
    (hash, key): (u64, &[u8]),
    selected: Option<&Selected>,
    request: &RequestHead<'_>,
) -> u64 {
    if selected.is_none() {
        return hash;
    }
    let mut variant = Vec::new();
    key::write_variant(key, selected, request, &mut variant);
    store.hash(&variant)
}
