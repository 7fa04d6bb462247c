//! The perfect hash of static paths and of hosts: hash and displace, built by one const fn for const and config routes.
//!
//! A key's hash picks a bucket, the bucket's multiplier picks the slot: one probe, one compare, hit or miss. Nothing
//! chains, so a client that knows the hash gains nothing by choosing paths.
//!
//! Rejected: a table keyed by length or first byte (degenerates on `/api/...`), `phf` (a build-time dependency, and its
//! tables cannot be built by the same code at run time).

use super::scan::same_bytes;

/// Bytes of the router's text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) len: u32,
}

impl Span {
    pub(crate) const EMPTY: Self = Self { start: 0, len: 0 };

    pub(crate) fn of(self, text: &[u8]) -> &[u8] {
        // Out of range cannot happen for a table and its own text; an empty answer is cheaper than a panic path.
        text.get(self.start as usize..(self.start + self.len) as usize).unwrap_or_default()
    }

    pub(crate) fn of_str(self, text: &str) -> &str {
        text.get(self.start as usize..(self.start + self.len) as usize).unwrap_or_default()
    }
}

/// What a key belongs to, so that one table serves hosts and the paths of all host groups.
pub(crate) const SPACE_EXACT_HOSTS: u32 = 0;
/// Suffixes of `*.suffix` hosts.
pub(crate) const SPACE_SUFFIX_HOSTS: u32 = 1;
/// Static paths of host group `g` are in space `SPACE_PATHS + g`.
pub(crate) const SPACE_PATHS: u32 = 2;

/// No space: marks a free slot. Its key is empty, and no key looked up has this space.
const FREE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    key: Span,
    space: u32,
    value: u32,
}

impl Slot {
    pub(crate) const FREE: Self = Self { key: Span::EMPTY, space: FREE, value: 0 };
}

/// One key to place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MapKey {
    pub(crate) key: Span,
    pub(crate) space: u32,
    pub(crate) value: u32,
}

impl MapKey {
    pub(crate) const EMPTY: Self = Self { key: Span::EMPTY, space: FREE, value: 0 };
}

/// Slots for `keys` keys: a power of two, at most four fifths full, or the last keys would search long for a place.
pub(crate) const fn slots_for(keys: usize) -> usize {
    (keys + keys / 4 + 1).next_power_of_two()
}

/// Buckets for `keys` keys: two to four keys in each.
pub(crate) const fn buckets_for(keys: usize) -> usize {
    (keys / 4 + 1).next_power_of_two()
}

/// A built map, borrowing its arrays; both have a power of two as length.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Map<'a> {
    pub(crate) slots: &'a [Slot],
    pub(crate) multipliers: &'a [u32],
    pub(crate) seed: u64,
    /// The lengths that keys have, by `length_bit`: a path of another length is settled without hashing it.
    pub(crate) lengths: u64,
}

impl Map<'_> {
    #[inline(always)]
    pub(crate) fn find(&self, text: &[u8], space: u32, key: &[u8]) -> Option<u32> {
        if self.lengths & length_bit(key.len()) == 0 {
            return None;
        }
        let hash = hash_key(space, key, self.seed);
        let multiplier = *self.multipliers.get(bucket_of(hash, self.multipliers.len()))?;
        let slot = self.slots.get(slot_of(hash, multiplier, self.slots.len()))?;
        (slot.space == space && same_bytes(slot.key.of(text), key)).then_some(slot.value)
    }
}

/// Working memory of [`place_keys`]; `hashes` and `next` are as long as the keys, `heads` and `sizes` as the buckets.
pub(crate) struct Scratch<'b> {
    pub(crate) hashes: &'b mut [u64],
    pub(crate) next: &'b mut [u32],
    pub(crate) heads: &'b mut [u32],
    pub(crate) sizes: &'b mut [u32],
}

/// Places the first `count` keys, all different, and returns the seed. All slots must be free.
pub(crate) const fn place_keys(
    text: &[u8],
    keys: &[MapKey],
    count: usize,
    slots: &mut [Slot],
    multipliers: &mut [u32],
    scratch: &mut Scratch<'_>,
) -> u64 {
    let mut seed = 0x9E37_79B9_7F4A_7C15;
    let mut round = 0;
    while round < ROUNDS_MAX {
        let largest = fill_buckets(text, keys, count, multipliers, scratch, seed);
        if place_all(keys, slots, multipliers, scratch, largest) {
            return seed;
        }
        let mut at = 0;
        while at < slots.len() {
            slots[at] = Slot::FREE;
            at += 1;
        }
        seed = fold(seed, SECRET[1]) | 1;
        round += 1;
    }
    panic!("no seed places these keys: two of them are equal")
}

/// A round fails when two keys of a bucket collide in all bits that count: under one in eight even for the smallest
/// table, so 64 rounds never all fail for different keys.
const ROUNDS_MAX: u32 = 64;
/// Multipliers tried for a bucket. The last key finds one of the free fifth of the slots in some dozens of tries.
const TRIES_MAX: u32 = 1 << 14;
const END: u32 = u32::MAX;

/// Chains each key to its bucket; returns the size of the largest.
const fn fill_buckets(
    text: &[u8],
    keys: &[MapKey],
    count: usize,
    multipliers: &mut [u32],
    scratch: &mut Scratch<'_>,
    seed: u64,
) -> u32 {
    let mut at = 0;
    while at < multipliers.len() {
        multipliers[at] = 1;
        scratch.heads[at] = END;
        scratch.sizes[at] = 0;
        at += 1;
    }
    let mut largest = 0;
    let mut at = 0;
    while at < count {
        let key = text.split_at(keys[at].key.start as usize).1.split_at(keys[at].key.len as usize).0;
        let hash = hash_key(keys[at].space, key, seed);
        let bucket = bucket_of(hash, multipliers.len());
        scratch.hashes[at] = hash;
        scratch.next[at] = scratch.heads[bucket];
        scratch.heads[bucket] = at as u32;
        scratch.sizes[bucket] += 1;
        if scratch.sizes[bucket] > largest {
            largest = scratch.sizes[bucket];
        }
        at += 1;
    }
    largest
}

/// Largest buckets first: they are the hard ones, and find the table empty.
const fn place_all(
    keys: &[MapKey],
    slots: &mut [Slot],
    multipliers: &mut [u32],
    scratch: &Scratch<'_>,
    largest: u32,
) -> bool {
    let mut size = largest;
    while size > 0 {
        let mut bucket = 0;
        while bucket < multipliers.len() {
            if scratch.sizes[bucket] == size {
                let mut tries = 0_u32;
                loop {
                    let multiplier = tries.wrapping_mul(0x9E37_79B1).rotate_left(7) | 1;
                    if place_bucket(keys, slots, scratch, scratch.heads[bucket], multiplier) {
                        multipliers[bucket] = multiplier;
                        break;
                    }
                    tries += 1;
                    if tries == TRIES_MAX {
                        return false;
                    }
                }
            }
            bucket += 1;
        }
        size -= 1;
    }
    true
}

/// Places all keys of a bucket with `multiplier`, or none.
const fn place_bucket(keys: &[MapKey], slots: &mut [Slot], scratch: &Scratch<'_>, head: u32, multiplier: u32) -> bool {
    let mut at = head;
    while at != END {
        let index = slot_of(scratch.hashes[at as usize], multiplier, slots.len());
        if slots[index].space != FREE {
            let mut undo = head;
            while undo != at {
                slots[slot_of(scratch.hashes[undo as usize], multiplier, slots.len())] = Slot::FREE;
                undo = scratch.next[undo as usize];
            }
            return false;
        }
        let MapKey { key, space, value } = keys[at as usize];
        slots[index] = Slot { key, space, value };
        at = scratch.next[at as usize];
    }
    true
}

/// One bit for each length; 63 and longer share the last.
#[inline]
pub(crate) const fn length_bit(len: usize) -> u64 {
    1 << if len < 63 { len } else { 63 }
}

#[inline]
const fn bucket_of(hash: u64, buckets: usize) -> usize {
    (hash >> 32) as usize & (buckets - 1)
}

#[inline]
const fn slot_of(hash: u64, multiplier: u32, slots: usize) -> usize {
    (hash.wrapping_mul(multiplier as u64) >> 32) as usize & (slots - 1)
}

const SECRET: [u64; 2] = [0xA076_1D64_78BD_642F, 0xE703_7ED1_A0B4_28DB];

/// Folded multiplication over eight-byte words, in the manner of wyhash: the cheapest mixing that a const fn can do.
#[inline]
const fn hash_key(space: u32, key: &[u8], seed: u64) -> u64 {
    let mut state = seed ^ (space as u64).wrapping_mul(SECRET[0]);
    let mut rest = key;
    while rest.len() > 16 {
        let (block, tail) = rest.split_at(16);
        state = fold(word(block, 0) ^ SECRET[1], word(block, 8) ^ state);
        rest = tail;
    }
    let len = rest.len();
    let (one, two) = if len >= 8 {
        (word(rest, 0), word(rest, len - 8))
    } else if len >= 4 {
        (half(rest, 0), half(rest, len - 4))
    } else if len > 0 {
        ((rest[0] as u64) << 16 | (rest[len / 2] as u64) << 8 | rest[len - 1] as u64, 0)
    } else {
        (0, 0)
    };
    // One multiplication and not wyhash's two: the buckets' multipliers see to the rest, and this is all latency.
    fold(one ^ state, two ^ SECRET[1] ^ (key.len() as u64) << 56)
}

#[inline]
const fn word(bytes: &[u8], at: usize) -> u64 {
    match bytes.split_at(at).1.first_chunk::<8>() {
        Some(chunk) => u64::from_le_bytes(*chunk),
        None => 0,
    }
}

#[inline]
const fn half(bytes: &[u8], at: usize) -> u64 {
    match bytes.split_at(at).1.first_chunk::<4>() {
        Some(chunk) => u32::from_le_bytes(*chunk) as u64,
        None => 0,
    }
}

#[inline]
const fn fold(one: u64, two: u64) -> u64 {
    let product = one as u128 * two as u128;
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(words: &[(u32, String)]) {
        let mut text = Vec::new();
        let mut keys = Vec::new();
        for (at, (space, word)) in words.iter().enumerate() {
            keys.push(MapKey {
                key: Span { start: text.len() as u32, len: word.len() as u32 },
                space: *space,
                value: at as u32,
            });
            text.extend_from_slice(word.as_bytes());
        }
        let mut slots = vec![Slot::FREE; slots_for(keys.len())];
        let mut multipliers = vec![0; buckets_for(keys.len())];
        let (mut hashes, mut next) = (vec![0; keys.len()], vec![0; keys.len()]);
        let (mut heads, mut sizes) = (vec![0; multipliers.len()], vec![0; multipliers.len()]);
        let mut scratch = Scratch { hashes: &mut hashes, next: &mut next, heads: &mut heads, sizes: &mut sizes };
        let seed = place_keys(&text, &keys, keys.len(), &mut slots, &mut multipliers, &mut scratch);
        let lengths = keys.iter().fold(0, |lengths, key| lengths | length_bit(key.key.len as usize));
        let map = Map { slots: &slots, multipliers: &multipliers, seed, lengths };
        for (at, (space, word)) in words.iter().enumerate() {
            assert_eq!(map.find(&text, *space, word.as_bytes()), Some(at as u32), "{space} {word}");
            assert_eq!(map.find(&text, space + 1_000_000, word.as_bytes()), None);
            assert_eq!(map.find(&text, *space, format!("{word}?").as_bytes()), None);
        }
        assert_eq!(map.find(&text, 0, b"?"), None);
    }

    #[test]
    fn every_key_is_found_in_tables_of_every_small_size() {
        for count in 0..70 {
            check(&(0..count).map(|at| (at % 3, format!("/{at}"))).collect::<Vec<_>>());
        }
    }

    #[test]
    fn every_key_is_found_among_twenty_thousand() {
        check(&(0..20_000).map(|at| (SPACE_PATHS, format!("/api/v1/tenants/{at:05}/items"))).collect::<Vec<_>>());
    }
}
