//! What one core has taken from the shared cells ahead, and what it knows of them: most requests touch nothing that another
//! core writes.
//!
//! A core takes up to [`Leases::batch`] permits of a key at once and keeps those that it does not need yet. A key that has none
//! left is refused until the moment at which its cell has one again, without looking at the cell: cells only grow.
//!
//! **The error.** Permits that are kept were paid for before, and each of `n` cores keeps at most `batch - 1` of a key. So in
//! any span of time `w` a key gets at most `burst + w / interval + n * (batch - 1)` requests through; and it is refused early, while
//! other cores keep permits, by no more than `n * (batch - 1)`. With `batch = max(1, min(64, burst / (8 * n)))` the error is
//! below an eighth of the burst, and there is none where the burst is below `16 * n`.

use super::gcra::Limit;
use super::table::{Table, Taken};
use crate::limits::{RATE_BATCH_MAX, RATE_LEASES_PER_CORE};

const _: () = assert!(RATE_LEASES_PER_CORE.is_power_of_two());

/// Permits of one key.
#[derive(Debug, Clone, Copy, Default)]
struct Lease {
    /// 0: of none.
    key: u64,
    /// The shared cell, as it was seen last; it may have grown.
    cell: u64,
    left: u32,
    /// Until then no other key takes its place while permits are left.
    until: u64,
}

/// Those of one core.
#[derive(Debug)]
pub(super) struct Leases {
    /// By the low bits of the key.
    entries: Vec<Lease>,
    batch: u32,
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// It goes on. Permits that are left, and the cell, as far as this core knows.
    Admitted { left: u32, cell: u64 },
    /// There was no permit; the cell.
    Refused { cell: u64 },
    /// The key is not counted: there is no room.
    NoRoom,
}

/// Permits that one of so many cores takes at once.
pub(super) fn batch(limit: &Limit, cores: usize) -> u32 {
    let cores = u32::try_from(cores).unwrap_or(u32::MAX).max(1);
    (limit.burst / 8 / cores).clamp(1, RATE_BATCH_MAX)
}

impl Leases {
    /// Of one of so many cores.
    pub(super) fn new(limit: &Limit, cores: usize) -> Self {
        Self { entries: vec![Lease::default(); RATE_LEASES_PER_CORE], batch: batch(limit, cores) }
    }

    /// Decides of one request of a key.
    pub(super) fn take(&mut self, table: &Table, key: u64, now: u64, limit: &Limit) -> Decision {
        let lease = &mut self.entries[key as usize & (RATE_LEASES_PER_CORE - 1)];
        let is_own = lease.key == key;
        if is_own && lease.left > 0 {
            lease.left -= 1;
            return Decision::Admitted { left: lease.left + limit.left(lease.cell, now), cell: lease.cell };
        }
        if is_own && now < limit.next(lease.cell) {
            return Decision::Refused { cell: lease.cell };
        }
        // A key that shares the place with a busy one goes without: the other's permits would be lost.
        let keeps = is_own || lease.left == 0 || now >= lease.until;
        match table.take(key, now, limit, if keeps { self.batch } else { 1 }) {
            Taken::Some(cell, count) => {
                let left = count.saturating_sub(1);
                if keeps {
                    let until = now.saturating_add(limit.interval.saturating_mul(self.batch.into()));
                    *lease = Lease { key, cell, left, until };
                }
                Decision::Admitted { left: left + limit.left(cell, now), cell }
            }
            Taken::None(cell) => {
                if keeps {
                    *lease = Lease { key, cell, left: 0, until: 0 };
                }
                Decision::Refused { cell }
            }
            Taken::NoRoom => Decision::NoRoom,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: u64 = 0x1234_5678_9abc_def1;

    fn cores(limit: &Limit, count: usize) -> Vec<Leases> {
        (0..count).map(|_| Leases::new(limit, count)).collect()
    }

    proptest! {
        #[test]
        fn no_span_of_time_has_more_than_the_bound_however_cores_interleave(
            count in 1_usize..5,
            interval in 1_u64..20,
            burst in 1_u32..400,
            steps in prop::collection::vec((0_u64..40, 0_usize..5, 0_u64..8, 1_u32..60), 1..150),
        ) {
            let limit = Limit { interval, burst };
            let (table, mut cores) = (Table::new(8), cores(&limit, count));
            let (mut now, mut admitted) = (1000, Vec::new());
            for (gap, core, other, repeats) in steps {
                now += gap;
                let core = &mut cores[core % count];
                for _ in 0..repeats {
                    if let Decision::Admitted { .. } = core.take(&table, KEY, now, &limit) {
                        admitted.push(now);
                    }
                }
                // One that shares the lease's place, and one that does not.
                core.take(&table, KEY ^ (other << 33), now, &limit);
                core.take(&table, KEY ^ other, now, &limit);
            }
            let error = count as u64 * u64::from(batch(&limit, count) - 1);
            prop_assert!(error * 8 <= u64::from(burst));
            // Each moment once, with all that came up to it.
            for (index, first) in admitted.iter().enumerate().filter(|(index, at)| *index == 0 || admitted[index - 1] != **at) {
                for (last, at) in admitted.iter().enumerate().skip(index) {
                    let within = (last - index + 1) as u64;
                    let bound = u64::from(burst) + (at - first) / interval + error;
                    prop_assert!(within <= bound, "{within} in {} of at most {bound}", at - first);
                }
            }
        }

        #[test]
        fn a_key_that_is_always_asked_for_gets_its_due(
            count in 1_usize..5, interval in 1_u64..20, burst in 1_u32..400, ticks in 1_u64..500,
        ) {
            let limit = Limit { interval, burst };
            let (table, mut cores) = (Table::new(8), cores(&limit, count));
            let mut admitted = 0;
            for now in 1000..1000 + ticks {
                for turn in 0..cores.len() {
                    // Until it is refused.
                    let core = (turn + now as usize) % count;
                    while let Decision::Admitted { .. } = cores[core].take(&table, KEY, now, &limit) {
                        admitted += 1;
                    }
                }
            }
            prop_assert_eq!(admitted, u64::from(burst) + (ticks - 1) / interval);
        }

        #[test]
        fn whoever_is_refused_early_is_so_by_no_more_than_the_error(
            count in 1_usize..5, interval in 1_u64..20, burst in 1_u32..400,
            order in prop::collection::vec(0_usize..5, 1..600),
        ) {
            let limit = Limit { interval, burst };
            let (table, mut cores) = (Table::new(8), cores(&limit, count));
            let error = count as u64 * u64::from(batch(&limit, count) - 1);
            let mut admitted = 0;
            for core in order {
                match cores[core % count].take(&table, KEY, 1000, &limit) {
                    Decision::Admitted { .. } => admitted += 1,
                    Decision::Refused { .. } => prop_assert!(admitted + error >= u64::from(burst)),
                    Decision::NoRoom => prop_assert!(false),
                }
            }
            prop_assert!(admitted <= u64::from(burst));
        }
    }

    #[test]
    fn a_refused_key_is_refused_without_a_look_at_the_table() {
        let limit = Limit { interval: 10, burst: 1 };
        let (table, mut core) = (Table::new(8), Leases::new(&limit, 1));
        assert_eq!(core.take(&table, KEY, 100, &limit), Decision::Admitted { left: 0, cell: 110 });
        let empty = Table::new(8);
        assert_eq!(core.take(&empty, KEY, 109, &limit), Decision::Refused { cell: 110 });
        assert_eq!(core.take(&table, KEY, 110, &limit), Decision::Admitted { left: 0, cell: 120 });
    }
}
