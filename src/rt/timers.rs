//! Deadlines of one core: a heap of moments with lazy moves, so that pushing a deadline back costs one store.
//!
//! An entry has a deadline (set and cleared freely) and at most one live node in the heap, never later than the
//! deadline. When a node comes due and the deadline has moved on meanwhile, the node is put back further on. Nodes that
//! an earlier one overtook are recognised by their generation and dropped when they surface.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::task::Waker;
use std::time::Duration;

use crate::clock::Moment;
use crate::limits::TIMER_GRAIN_MS;

/// Nodes that may be dead, besides one for each entry, before the heap is swept.
const DEAD_NODES_KEPT: usize = 64;

/// Which entry of a [`Timers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key(u32);

#[derive(Debug)]
struct Entry {
    deadline: Moment,
    /// The live node's moment; `NEVER` when there is none.
    node: Moment,
    generation: u32,
    waker: Option<Waker>,
    used: bool,
    /// The deadline has come due: by [`Timers::fire`] alone, so that what is done then is done in its batches, whatever
    /// else wakes the task.
    has_fired: bool,
}

/// The deadlines of one core. Pure: `now` is passed in.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Moment, Key, u32)>>,
    entries: Vec<Entry>,
    free: Vec<u32>,
}

impl Timers {
    pub(super) fn insert(&mut self) -> Key {
        if let Some(index) = self.free.pop() {
            self.entries[index as usize].used = true;
            return Key(index);
        }
        let entry = Entry {
            deadline: Moment::NEVER,
            node: Moment::NEVER,
            generation: 0,
            waker: None,
            used: true,
            has_fired: false,
        };
        self.entries.push(entry);
        Key(self.entries.len() as u32 - 1)
    }

    pub(super) fn remove(&mut self, key: Key) {
        let entry = &mut self.entries[key.0 as usize];
        entry.deadline = Moment::NEVER;
        entry.node = Moment::NEVER;
        entry.generation = entry.generation.wrapping_add(1);
        entry.waker = None;
        entry.used = false;
        entry.has_fired = false;
        self.free.push(key.0);
    }

    /// Sets the deadline; `Moment::NEVER` clears it. It comes due up to [`TIMER_GRAIN_MS`] late, never early.
    pub(super) fn set(&mut self, key: Key, deadline: Moment) {
        let entry = &mut self.entries[key.0 as usize];
        if entry.has_fired && entry.deadline == deadline {
            return;
        }
        (entry.deadline, entry.has_fired) = (deadline, false);
        let due = round_up(deadline);
        #[cfg(feature = "sim")]
        if entry.node != Moment::NEVER && super::sim::planted(super::sim::Bug::LostDeadline) {
            return;
        }
        if due < entry.node {
            entry.node = due;
            entry.generation = entry.generation.wrapping_add(1);
            self.heap.push(Reverse((entry.node, key, entry.generation)));
            // Nodes of entries that are gone stay until their moment: with a minute's time-outs and thousands of short
            // connections a second they would be most of the heap.
            if self.heap.len() > 2 * self.entries.len() + DEAD_NODES_KEPT {
                let entries = &self.entries;
                self.heap.retain(|Reverse((_, key, generation))| entries[key.0 as usize].generation == *generation);
            }
        }
    }

    /// Whether the deadline has come due.
    pub(super) fn has_fired(&self, key: Key) -> bool {
        self.entries[key.0 as usize].has_fired
    }

    /// Keeps the waker to be woken when the deadline comes due.
    pub(super) fn watch(&mut self, key: Key, waker: &Waker) {
        let kept = &mut self.entries[key.0 as usize].waker;
        match kept {
            Some(kept) => kept.clone_from(waker),
            None => *kept = Some(waker.clone()),
        }
    }

    /// When the first node comes due; `None` when there is none.
    pub(super) fn first(&self) -> Option<Moment> {
        self.heap.peek().map(|Reverse((at, _, _))| *at)
    }

    /// Time from `now` until the first node comes due; `None` when there is none.
    pub(super) fn until_next(&self, now: Moment) -> Option<Duration> {
        self.first().map(|at| at.since(now))
    }

    /// Moves nodes that are due at `now`, and hands the wakers of deadlines that came due to `wake`, until that holds
    /// `most`. What is left is still due.
    pub(super) fn fire(&mut self, now: Moment, most: usize, wake: &mut Vec<Waker>) {
        while let Some(&Reverse((at, key, generation))) = self.heap.peek() {
            if at > now || wake.len() >= most {
                return;
            }
            self.heap.pop();
            let entry = &mut self.entries[key.0 as usize];
            if entry.generation != generation {
                continue;
            }
            entry.node = Moment::NEVER;
            if entry.deadline <= now {
                entry.has_fired = true;
                wake.extend(entry.waker.take());
            } else if entry.deadline < Moment::NEVER {
                entry.node = round_up(entry.deadline);
                self.heap.push(Reverse((entry.node, key, generation)));
            }
        }
    }

    /// Frees what many deadlines at once have left behind.
    pub(super) fn shrink(&mut self) {
        let entries = &mut self.entries;
        self.heap.retain(|Reverse((_, key, generation))| entries[key.0 as usize].generation == *generation);
        let used = entries.iter().rposition(|entry| entry.used).map_or(0, |last| last + 1);
        entries.truncate(used);
        self.free.retain(|index| (*index as usize) < used);
        entries.shrink_to_fit();
        self.free.shrink_to_fit();
        self.heap.shrink_to_fit();
    }

    /// Takes every waker, for an event that concerns all who wait (a drain).
    pub(super) fn take_all(&mut self, wake: &mut Vec<Waker>) {
        wake.extend(self.entries.iter_mut().filter_map(|entry| entry.waker.take()));
    }

    /// Deadlines that exist.
    #[cfg(feature = "sim")]
    pub(super) fn live(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// For how long the most urgent of the deadlines that are watched has been due.
    #[cfg(feature = "sim")]
    pub(super) fn overdue(&self, now: Moment) -> Duration {
        let watched = self.entries.iter().filter(|entry| entry.waker.is_some());
        watched.map(|entry| now.since(entry.deadline)).max().unwrap_or_default()
    }

    #[cfg(test)]
    fn nodes(&self) -> usize {
        self.heap.len()
    }
}

/// Up to the next grain, so that deadlines set within one grain come due in one wake-up.
fn round_up(moment: Moment) -> Moment {
    const GRAIN: u64 = TIMER_GRAIN_MS * 1_000_000;
    Moment::from_nanos(moment.as_nanos().div_ceil(GRAIN).saturating_mul(GRAIN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn millis(ms: u64) -> Moment {
        Moment::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn pushing_a_deadline_back_costs_no_node() {
        let mut timers = Timers::default();
        let key = timers.insert();
        for ms in 1..1000 {
            timers.set(key, millis(100 + ms));
        }
        assert_eq!(timers.nodes(), 1);
    }

    #[test]
    fn entries_that_come_and_go_leave_no_pile_of_nodes() {
        let mut timers = Timers::default();
        for _ in 0..10_000 {
            let key = timers.insert();
            timers.set(key, millis(60_000));
            timers.remove(key);
        }
        assert!(timers.nodes() < 200, "{}", timers.nodes());
    }

    #[test]
    fn many_deadlines_that_have_gone_leave_nothing_behind() {
        let mut timers = Timers::default();
        let keys: Vec<Key> = (0..1000).map(|_| timers.insert()).collect();
        for (ms, key) in (1..).zip(&keys) {
            timers.set(*key, millis(ms));
        }
        keys.iter().skip(1).for_each(|key| timers.remove(*key));
        timers.shrink();
        assert_eq!((timers.nodes(), timers.entries.len(), timers.free.len()), (1, 1, 0));
        let mut woken = Vec::new();
        let again = timers.insert();
        timers.watch(again, Waker::noop());
        timers.fire(millis(2000), usize::MAX, &mut woken);
        assert!(woken.is_empty(), "the new entry has no deadline");
    }

    #[test]
    fn a_removed_entry_never_wakes_its_successor() {
        let mut timers = Timers::default();
        let first = timers.insert();
        timers.set(first, millis(8));
        timers.remove(first);
        let second = timers.insert();
        let count = Arc::new(Count(AtomicUsize::new(0)));
        timers.watch(second, &Waker::from(count));
        let mut woken = Vec::new();
        timers.fire(millis(1000), usize::MAX, &mut woken);
        assert!(woken.is_empty());
    }

    proptest! {
        #[test]
        fn every_deadline_wakes_once_due_and_never_before(script in prop::collection::vec((0_usize..6, 0_u64..300, 0_u64..40), 1..200)) {
            let mut timers = Timers::default();
            let keys: Vec<Key> = (0..6).map(|_| timers.insert()).collect();
            let mut wanted = [Moment::NEVER; 6];
            let counts: Vec<Arc<Count>> = (0..6).map(|_| Arc::new(Count(AtomicUsize::new(0)))).collect();
            let mut now = 0;
            for (which, ahead, step) in script {
                wanted[which] = millis(now + ahead);
                timers.set(keys[which], wanted[which]);
                for (key, count) in keys.iter().zip(&counts) {
                    timers.watch(*key, &Waker::from(count.clone()));
                }
                now += step;
                let before: Vec<usize> = counts.iter().map(|c| c.0.load(Ordering::Relaxed)).collect();
                while timers.first().is_some_and(|first| first <= millis(now)) {
                    let mut woken = Vec::new();
                    timers.fire(millis(now), 2, &mut woken);
                    prop_assert!(woken.len() <= 2);
                    woken.drain(..).for_each(Waker::wake);
                }
                if step % 3 == 0 { timers.shrink(); }
                for index in 0..6 {
                    let fired = counts[index].0.load(Ordering::Relaxed) > before[index];
                    if fired { prop_assert!(wanted[index] <= millis(now)); }
                    let late = wanted[index] < Moment::NEVER && wanted[index] + Duration::from_millis(TIMER_GRAIN_MS) <= millis(now);
                    if late { prop_assert!(fired, "due at {:?}, now {now} ms", wanted[index]); }
                    if fired { wanted[index] = Moment::NEVER; timers.set(keys[index], Moment::NEVER); }
                }
                if let Some(wait) = timers.until_next(millis(now)) {
                    prop_assert!(wanted.iter().all(|w| *w == Moment::NEVER || millis(now) + wait <= *w + Duration::from_millis(TIMER_GRAIN_MS)));
                }
            }
        }
    }
}
