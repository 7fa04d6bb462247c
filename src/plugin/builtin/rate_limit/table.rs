//! The cells of all keys, shared by the cores: a table of fixed size without a lock for keys that are in it.
//!
//! A key, as 64 bits that a keyed hash makes of it, has its place in one bucket of [`WAYS`] cells. A cell whose moment has
//! passed is as good as an absent one, so that it is taken for another key whenever there is need, the oldest first.
//!
//! What makes this exact with several cores: a cell only ever grows, and the key beside it changes only while the cell is
//! [`BUSY`], which only the holder of the bucket's `inserting` does. Thus who reads a cell, then its key, and then replaces the
//! very value that it read, has replaced the cell of that key. `inserting` is held for some dozens of instructions, and only where
//! a key is new; who does not get it soon goes on as if there were no room.

use super::gcra::Limit;
use crate::limits::{RATE_CLAIMS_MAX, RATE_SPINS_MAX};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Cells of a bucket. With half of all cells in use, fewer than four buckets in a thousand are full. Models have few, for each is
/// a step.
const WAYS: usize = if cfg!(loom) { 2 } else { 16 };
/// Times that a core looks whether another is done with making a cell.
const SPINS: u32 = if cfg!(loom) { 2 } else { RATE_SPINS_MAX };
/// Of a cell that is being taken for another key.
const BUSY: u64 = u64::MAX;

#[derive(Default)]
struct Bucket {
    keys: [AtomicU64; WAYS],
    cells: [AtomicU64; WAYS],
    inserting: AtomicBool,
}

/// What taking permits comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// So many; the cell is this now.
    Some(u64, u32),
    /// None is left; the cell is this.
    None(u64),
    /// The key has no cell, and there is none for it.
    NoRoom,
}

/// The cells.
pub(super) struct Table {
    buckets: Box<[Bucket]>,
}

impl Table {
    /// With two to four cells for each of so many keys.
    pub(super) fn new(keys: usize) -> Self {
        let buckets = (2 * keys).div_ceil(WAYS).next_power_of_two();
        Self { buckets: (0..buckets).map(|_| Bucket::default()).collect() }
    }

    /// Takes up to `most` permits of a key.
    pub(super) fn take(&self, key: u64, now: u64, limit: &Limit, most: u32) -> Taken {
        // 0 stands in cells that never had a key.
        let key = key.max(1);
        // The low bits choose a lease (see `lease`), so that the high ones are left for this.
        let bucket = &self.buckets[(key >> 32) as usize & (self.buckets.len() - 1)];
        bucket.take_known(key, now, limit, most).unwrap_or_else(|| bucket.take_new(key, now, limit, most))
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        size_of_val(&*self.buckets)
    }
}

impl Bucket {
    /// `None`: the key has no cell, or one that is just made.
    fn take_known(&self, key: u64, now: u64, limit: &Limit, most: u32) -> Option<Taken> {
        let at = self.keys.iter().position(|known| known.load(Ordering::Relaxed) == key)?;
        let cell = &self.cells[at];
        loop {
            let value = cell.load(Ordering::Acquire);
            if value == BUSY || self.keys[at].load(Ordering::Relaxed) != key {
                return None;
            }
            let Some((next, count)) = limit.take(value, now, most) else { return Some(Taken::None(value)) };
            if cell.compare_exchange(value, next, Ordering::AcqRel, Ordering::Acquire).is_ok() {
                return Some(Taken::Some(next, count));
            }
        }
    }

    fn take_new(&self, key: u64, now: u64, limit: &Limit, most: u32) -> Taken {
        let is_free = || self.inserting.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok();
        let is_held = (0..SPINS).any(|_| {
            std::hint::spin_loop();
            is_free()
        });
        if !is_held {
            return Taken::NoRoom;
        }
        // Another core may have made it meanwhile.
        let taken = self.take_known(key, now, limit, most).unwrap_or_else(|| self.insert(key, now, limit, most));
        self.inserting.store(false, Ordering::Release);
        taken
    }

    fn insert(&self, key: u64, now: u64, limit: &Limit, most: u32) -> Taken {
        for _ in 0..RATE_CLAIMS_MAX {
            let cells = self.cells.iter().enumerate().map(|(at, cell)| (cell.load(Ordering::Acquire), at));
            let Some((oldest, at)) = cells.filter(|(value, _)| *value <= now).min() else { return Taken::NoRoom };
            if !self.claim(at, oldest) {
                // Its key has come back.
                continue;
            }
            self.keys[at].store(key, Ordering::Relaxed);
            let taken = limit.take(0, now, most);
            let (next, count) = taken.unwrap_or((now, 0));
            self.cells[at].store(next, Ordering::Release);
            return Taken::Some(next, count);
        }
        Taken::NoRoom
    }

    /// Makes a cell that is idle the holder's alone.
    fn claim(&self, at: usize, idle: u64) -> bool {
        let cell = &self.cells[at];
        #[cfg(loom)]
        if crate::sync::planted(crate::sync::Bug::ClaimsInTwoSteps) {
            let is_idle = cell.load(Ordering::Acquire) == idle;
            cell.store(BUSY, Ordering::Release);
            return is_idle;
        }
        cell.compare_exchange(idle, BUSY, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    //! What cores do to one bucket at once.

    use std::sync::Arc;

    use loom::thread;

    use super::*;
    use crate::sync::{Bug, check, check_fails};

    const ONE: Limit = Limit { interval: 10, burst: 1 };

    fn admitted(taken: &[Taken]) -> usize {
        taken.iter().filter(|taken| matches!(taken, Taken::Some(..))).count()
    }

    /// One permit of a key that is new to both.
    fn one_cell_a_key() {
        let table = Arc::new(Table::new(1));
        let other = table.clone();
        let other = thread::spawn(move || other.take(7, 10, &ONE, 1));
        let taken = [table.take(7, 10, &ONE, 1), other.join().expect("no panic")];
        assert_eq!(admitted(&taken), 1, "{taken:?}");
        assert_eq!(table.take(7, 10, &ONE, 1), Taken::None(20));
    }

    /// A key comes back while another one takes its idle cell, the only one that is.
    fn one_key_a_cell() {
        let table = Arc::new(Table::new(1));
        table.take(7, 0, &ONE, 1);
        table.take(8, 90, &ONE, 1);
        let other = table.clone();
        let other = thread::spawn(move || other.take(9, 50, &ONE, 1));
        let taken = [table.take(7, 50, &ONE, 1), other.join().expect("no panic")];
        assert_eq!(admitted(&taken), 1, "{taken:?}");
    }

    #[test]
    fn loom_two_cores_make_one_cell_for_a_key() {
        check(None, one_cell_a_key);
    }

    #[test]
    fn loom_a_cell_is_of_one_key() {
        check(Some(3), one_key_a_cell);
    }

    #[test]
    fn loom_finds_a_cell_that_is_taken_from_under_its_key() {
        check_fails(Some(Bug::ClaimsInTwoSteps), Some(3), one_key_a_cell);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const LIMIT: Limit = Limit { interval: 10, burst: 5 };

    fn key(number: u64) -> u64 {
        // Odd, so that it is a permutation: no two numbers are one key.
        (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    proptest! {
        #[test]
        fn a_table_with_room_is_a_map_of_cells(
            steps in prop::collection::vec((0_u64..12, 0_u64..30, 1_u32..4), 1..300),
        ) {
            let (table, mut naive, mut now) = (Table::new(8), HashMap::<u64, u64>::new(), 1000);
            for (number, gap, most) in steps {
                now += gap;
                let cell = naive.entry(number).or_default();
                let expected = match LIMIT.take(*cell, now, most) {
                    Some((next, count)) => {
                        *cell = next;
                        Taken::Some(next, count)
                    }
                    None => Taken::None(*cell),
                };
                // All twelve fit into the one bucket, so that none is ever forgotten.
                prop_assert_eq!(table.take(key(number), now, &LIMIT, most), expected);
            }
        }
    }

    #[test]
    fn a_full_bucket_says_so_until_a_cell_is_idle_and_forgets_the_oldest() {
        let table = Table::new(8);
        for number in 0..16 {
            assert_eq!(table.take(key(number), 100 + number, &LIMIT, 5), Taken::Some(150 + number, 5));
        }
        assert_eq!(table.take(key(16), 149, &LIMIT, 1), Taken::NoRoom);
        assert_eq!(table.take(key(3), 149, &LIMIT, 1), Taken::Some(163, 1), "those that are known go on");
        assert_eq!(table.take(key(16), 152, &LIMIT, 1), Taken::Some(162, 1));
        // Instead of 0, which was idle for longer than 1 and 2.
        assert_eq!(table.take(key(1), 152, &LIMIT, 5), Taken::Some(202, 5));
        assert_eq!(table.take(key(2), 152, &LIMIT, 5), Taken::Some(202, 5));
        assert_eq!(table.take(key(0), 152, &LIMIT, 1), Taken::NoRoom);
    }

    #[test]
    fn a_million_keys_take_no_more_room_than_there_is() {
        let table = Table::new(10_000);
        let bytes = table.bytes();
        assert!(bytes <= 64 * 10_000 + 16 * 10_000, "{bytes}");
        let busy = key(u64::MAX - 1);
        let (mut admitted, mut rejected, mut of_busy) = (0, 0, 0);
        for number in 0..1_000_000 {
            match table.take(key(number), 100, &LIMIT, 1) {
                Taken::Some(..) => admitted += 1,
                Taken::NoRoom => rejected += 1,
                Taken::None(_) => unreachable!("each comes once"),
            }
            if number % 1000 == 0 && matches!(table.take(busy, 100, &LIMIT, 1), Taken::Some(..)) {
                of_busy += 1;
            }
        }
        assert_eq!((admitted + rejected, of_busy), (1_000_000, LIMIT.burst));
        assert!((10_000..=40_000).contains(&admitted), "{admitted}");
        // Later all are idle, and there is room again.
        assert_eq!(table.take(key(2_000_000), 1000, &LIMIT, 1), Taken::Some(1010, 1));
        assert_eq!(table.bytes(), bytes);
    }

    #[test]
    fn twice_as_many_cells_as_keys_leave_few_without() {
        let table = Table::new(64 * 1024);
        let without = (0..64 * 1024).filter(|number| table.take(key(*number), 100, &LIMIT, 1) == Taken::NoRoom).count();
        assert!(without < 64 * 1024 / 250, "{without}");
    }

    #[test]
    fn cores_that_take_at_once_never_take_more_than_there_is() {
        const KEYS: u64 = 64;
        let limit = Limit { interval: 1 << 20, burst: 300 };
        // Around the keys that are counted, others come and go.
        let table = Table::new(128);
        let totals: Vec<u64> = std::thread::scope(|scope| {
            let run = |thread: u64| {
                let table = &table;
                move || {
                    let mut taken = vec![0; KEYS as usize];
                    for round in 0..200 {
                        for number in 0..KEYS {
                            if let Taken::Some(_, count) = table.take(key(number), 1 << 40, &limit, 2) {
                                taken[number as usize] += u64::from(count);
                            }
                            // Of short lives, far in the past of the others: they take each other's cells.
                            let noise = Limit { interval: 1, burst: 1 };
                            table.take(key(1_000_000 + number + 100 * round + thread), 5 + 2 * round, &noise, 1);
                        }
                    }
                    taken
                }
            };
            let threads: Vec<_> = (0..4).map(|thread| scope.spawn(run(thread))).collect();
            let all: Vec<Vec<u64>> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
            (0..KEYS as usize).map(|number| all.iter().map(|taken| taken[number]).sum()).collect()
        });
        assert!(totals.iter().all(|total| *total == 300), "{totals:?}");
    }
}
