//! Permits of the whole process, of which each core keeps a few at hand.
//!
//! A core that has a permit at hand takes it without touching what other cores write; one that has none takes some from those
//! that are free, and what it has too many of it gives back. Permits are never made, so that there are never more out than the
//! limit. What other cores keep at hand is the error: a core may find none while [`Permits::kept_most`] a core are idle.

use std::cell::Cell;
use std::sync::Arc;

use crate::limits::CONCURRENCY_KEPT_MAX;
use crate::sync::atomic::{AtomicU32, Ordering};

/// Those that no core has.
#[derive(Debug)]
pub(super) struct Pool {
    free: AtomicU32,
    limit: u32,
}

impl Pool {
    pub(super) fn new(limit: u32) -> Arc<Self> {
        Arc::new(Self { free: AtomicU32::new(limit), limit })
    }

    /// Takes up to `most`; how many.
    fn take(&self, most: u32) -> u32 {
        let rest = |free: u32| (free > 0).then(|| free - free.min(most));
        #[cfg(loom)]
        if crate::sync::planted(crate::sync::Bug::TakesPermitsInTwoSteps) {
            let free = self.free.load(Ordering::Acquire);
            self.free.store(free - free.min(most), Ordering::Release);
            return free.min(most);
        }
        self.free.fetch_update(Ordering::AcqRel, Ordering::Acquire, rest).map_or(0, |free| free.min(most))
    }

    fn give(&self, count: u32) {
        if count > 0 {
            self.free.fetch_add(count, Ordering::AcqRel);
        }
    }
}

/// One core's.
#[derive(Debug)]
pub(super) struct Permits {
    pool: Arc<Pool>,
    at_hand: Cell<u32>,
    /// How many it takes at once, besides the one that it needs; at most twice as many stay.
    batch: u32,
}

impl Permits {
    /// Of one of so many cores.
    pub(super) fn new(pool: Arc<Pool>, cores: usize) -> Self {
        let cores = u32::try_from(cores).unwrap_or(u32::MAX).max(1);
        let batch = (pool.limit / 16 / cores).min(CONCURRENCY_KEPT_MAX);
        Self { pool, at_hand: Cell::new(0), batch }
    }

    /// Takes one; false: there is none.
    pub(super) fn take(&self) -> bool {
        if self.at_hand.get() == 0 {
            self.at_hand.set(self.pool.take(1 + self.batch));
        }
        let left = self.at_hand.get().checked_sub(1);
        self.at_hand.set(left.unwrap_or(0));
        left.is_some()
    }

    /// Gives one back.
    pub(super) fn give(&self) {
        let have = self.at_hand.get() + 1;
        let is_many = have > 2 * self.batch;
        let kept = if is_many { self.batch } else { have };
        self.pool.give(have - kept);
        self.at_hand.set(kept);
    }

    /// How many it keeps at most while nobody needs them.
    #[cfg(all(test, not(loom)))]
    fn kept_most(&self) -> u32 {
        2 * self.batch
    }
}

impl Drop for Permits {
    fn drop(&mut self) {
        self.pool.give(self.at_hand.take());
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    //! Cores that take permits of one pool at once, and give them back.

    use loom::thread;

    use super::*;
    use crate::sync::{Bug, check, check_fails};

    /// Two cores and three permits; a core takes two at once where it can, and keeps one at hand.
    fn no_permit_is_made_or_lost() {
        let limit = 3;
        let pool = Arc::new(Pool { free: AtomicU32::new(limit), limit });
        let out = Arc::new(AtomicU32::new(0));
        let core = |pool: &Arc<Pool>| Permits { pool: pool.clone(), at_hand: Cell::new(0), batch: 1 };
        let work = move |permits: Permits, out: Arc<AtomicU32>| {
            let taken = [permits.take(), permits.take()].into_iter().filter(|taken| *taken).count();
            let had = out.fetch_add(taken as u32, Ordering::AcqRel);
            assert!(had + taken as u32 <= limit, "{had} and {taken} are out");
            out.fetch_sub(taken as u32, Ordering::AcqRel);
            (0..taken).for_each(|_| permits.give());
        };
        let (permits, other) = (core(&pool), out.clone());
        let other = thread::spawn(move || work(permits, other));
        work(core(&pool), out);
        other.join().expect("no panic");
        assert_eq!(pool.free.load(Ordering::Relaxed), limit, "all are back");
    }

    #[test]
    fn loom_permits_are_never_made_or_lost() {
        check(Some(3), no_permit_is_made_or_lost);
    }

    #[test]
    fn loom_finds_permits_that_two_cores_take_at_once() {
        check_fails(Some(Bug::TakesPermitsInTwoSteps), Some(3), no_permit_is_made_or_lost);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn there_are_never_more_out_than_the_limit_and_few_are_kept(
            limit in 1_u32..300, count in 1_usize..5, steps in prop::collection::vec((0_usize..5, any::<bool>()), 1..600),
        ) {
            let pool = Pool::new(limit);
            let cores: Vec<_> = (0..count).map(|_| Permits::new(pool.clone(), count)).collect();
            let mut out = vec![0_u32; count];
            for (core, takes) in steps {
                let core = core % count;
                let busy: u32 = out.iter().sum();
                if takes {
                    let kept: u32 = cores.iter().map(Permits::kept_most).sum();
                    if cores[core].take() {
                        out[core] += 1;
                    } else {
                        prop_assert!(busy + kept >= limit, "{busy} of {limit} out, and none to be had");
                    }
                } else if out[core] > 0 {
                    out[core] -= 1;
                    cores[core].give();
                }
                prop_assert!(out.iter().sum::<u32>() <= limit);
                prop_assert!(cores.iter().all(|core| core.at_hand.get() <= core.kept_most().max(core.batch + 1)));
            }
            for (core, out) in cores.iter().zip(out) {
                (0..out).for_each(|_| core.give());
            }
            drop(cores);
            prop_assert_eq!(pool.free.load(Ordering::Relaxed), limit);
        }
    }

    #[test]
    fn a_small_limit_is_exact() {
        let pool = Pool::new(3);
        let (one, two) = (Permits::new(pool.clone(), 2), Permits::new(pool, 2));
        assert!(one.take() && two.take() && two.take());
        assert!(!one.take() && !two.take());
        two.give();
        assert!(one.take());
    }
}
