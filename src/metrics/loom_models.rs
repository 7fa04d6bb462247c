//! Models of a shard and its reader: what the headers of [`super::shard`] and `super::pulse` promise, and that each model can
//! fail.
//!
//! A histogram has three buckets here (see [`super::histogram`]). The writer is always the model's first thread and the
//! reader the second: loom remembers one access of each atomic, so in the other order a writer's own load, which comes
//! before each of its stores, hides from it that the reader's load came before both, and it would try one order only.

use std::sync::Arc;
use std::time::Duration;

use loom::thread;

use super::aggregate::{Aggregator, Window};
use super::histogram::FullHistogram;
use super::shard::{Shard, ShardSnapshot, ShardWriter};
use super::{Activity, Class, Counter, FreshCells};
use crate::clock::Moment;
use crate::sync::{Bug, check, check_fails};

/// Values of the buckets 0, 1 and 2.
const NANOS: [u64; 3] = [0, 1, 3];

fn assert_not_backwards(before: &ShardSnapshot, after: &ShardSnapshot) {
    assert!(before.counters.iter().zip(&after.counters).all(|(before, after)| before <= after));
    for (before, after) in before.latency.iter().zip(&after.latency) {
        assert!(before.buckets.iter().zip(&after.buckets).all(|(before, after)| before <= after));
        assert!(before.sum <= after.sum && before.max <= after.max);
    }
}

/// Two reads while the writer counts: never backwards, never more than was counted, and in the end all of it.
fn counters_are_read() {
    let writer = ShardWriter::create(0, 1, 0);
    let shard = writer.shard();
    let reader = thread::spawn({
        let shard = shard.clone();
        move || {
            let (first, second) = (shard.read(), shard.read());
            assert_not_backwards(&first, &second);
            assert!([0, 5, 12].contains(&second.counters[Counter::RequestBytes as usize]), "{second:?}");
            second
        }
    });
    writer.add(Counter::RequestBytes, 5);
    writer.add(Counter::RequestBytes, 7);
    writer.add(Counter::ResponseBytes, 1);
    let second = reader.join().unwrap();
    let last = shard.read();
    assert_not_backwards(&second, &last);
    assert_eq!(last.counters[Counter::RequestBytes as usize], 12);
}

#[test]
fn loom_a_reader_sees_counters_whole_and_never_backwards() {
    check(None, counters_are_read);
}

#[test]
fn loom_finds_a_counter_that_changes_in_two_steps() {
    check_fails(Some(Bug::CountsInTwoSteps), None, counters_are_read);
}

/// A worker beats and turns to a request while the master looks: a beat is whole and never goes back, so no stall is found
/// that there was not; an activity is one that was begun, and comes to rest with the beat behind it.
fn a_worker_beats() {
    let (first, second) = (Moment::from_nanos(5), Moment::from_nanos(9));
    let writer = ShardWriter::create(0, 1, 0);
    let shard = writer.shard();
    let master = thread::spawn({
        let shard = shard.clone();
        move || {
            let looks = [(); 2].map(|()| (shard.last_beat(), shard.last_activity()));
            for (beat, activity) in looks {
                assert!([None, Some(first), Some(second)].contains(&beat), "{looks:?}");
                assert!([Activity::Start, Activity::Idle, Activity::Route(3)].contains(&activity), "{looks:?}");
            }
            assert!(looks[0].0 <= looks[1].0, "{looks:?}");
        }
    });
    writer.beat(first);
    writer.note_activity(Activity::Route(3));
    writer.beat(second);
    master.join().unwrap();
    assert_eq!((shard.last_beat(), shard.last_activity()), (Some(second), Activity::Idle));
}

#[test]
fn loom_a_beat_is_seen_whole_and_never_goes_back() {
    check(None, a_worker_beats);
}

#[test]
fn loom_finds_a_beat_that_changes_in_two_steps() {
    check_fails(Some(Bug::BeatsInTwoSteps), None, a_worker_beats);
}

#[test]
fn loom_finds_a_beat_that_leaves_an_activity_behind() {
    check_fails(Some(Bug::BeatKeepsActivity), None, a_worker_beats);
}

/// A histogram that is written and read: no bucket, sum or maximum is torn, or ahead of what was recorded.
#[test]
fn loom_a_histogram_is_never_ahead_of_what_was_recorded() {
    check(None, || {
        let histogram = Arc::new(FullHistogram::default());
        let reader = thread::spawn({
            let histogram = histogram.clone();
            move || {
                let read = histogram.read();
                assert!(read.buckets.iter().zip([0, 1, 1]).all(|(count, most)| *count <= most), "{read:?}");
                assert!([0, 3, 4].contains(&read.sum) && [0, 3].contains(&read.max), "{read:?}");
            }
        });
        histogram.record(NANOS[2]);
        histogram.record(NANOS[1]);
        reader.join().unwrap();
        let last = histogram.read();
        assert_eq!((last.buckets, last.sum, last.max), (vec![0, 1, 1], 4, 3));
    });
}

/// Why there is one writer: a second one loses counts. `ShardWriter` is neither `Clone` nor `Sync` for this.
#[test]
fn loom_finds_that_two_writers_lose_counts() {
    check_fails(None, None, || {
        let histogram = Arc::new(FullHistogram::default());
        let thread = thread::spawn({
            let histogram = histogram.clone();
            move || histogram.record(1)
        });
        histogram.record(1);
        thread.join().unwrap();
        assert_eq!(histogram.read().count(), 2);
    });
}

/// Routes are replaced twice while a reader walks: it always ends at cells that were written before it sees them, of a
/// generation that is no older than the last one it saw; and once the writer is done, at the newest.
fn routes_are_replaced() {
    let writer = ShardWriter::create(0, 1, 0);
    let shard = writer.shard();
    let reader = thread::spawn({
        let shard = shard.clone();
        move || {
            let (first, second) = (shard.read().routes, shard.read().routes);
            assert!((1..=3).contains(&first.generation) && first.generation <= second.generation);
            assert!(second.generation == 3 || second.cells.is_empty(), "{second:?}");
        }
    });
    writer.replace_routes(FreshCells::new(2, 0));
    writer.replace_routes(FreshCells::new(3, 0));
    writer.record_request(0, Class::Success, NANOS[1]);
    reader.join().unwrap();
    let last = shard.read().routes;
    assert_eq!((last.generation, last.cells.len()), (3, 1));
}

#[test]
fn loom_a_reader_finds_the_newest_routes_while_they_are_replaced() {
    check(Some(2), routes_are_replaced);
}

#[test]
fn loom_finds_routes_that_are_seen_before_they_are_written() {
    check_fails(Some(Bug::PublishesRelaxed), Some(2), routes_are_replaced);
}

#[test]
fn loom_finds_a_reader_that_does_not_walk_to_the_end() {
    check_fails(Some(Bug::WalksOneStep), Some(2), routes_are_replaced);
}

/// Two readers at once (the master and a command that reads by the side) walk the same chain: both end at the newest.
#[test]
fn loom_two_readers_walk_the_same_chain() {
    check(Some(2), || {
        let writer = ShardWriter::create(0, 1, 0);
        let shard = writer.shard();
        let generation = |shard: &Shard| shard.read().routes.generation;
        let thread = thread::spawn({
            let shard = shard.clone();
            move || generation(&shard)
        });
        writer.replace_routes(FreshCells::new(2, 0));
        let here = generation(&shard);
        let there = thread.join().unwrap();
        assert!(here == 2 && (there == 1 || there == 2));
    });
}

/// What a tick misses because it fell into a record comes with a later one; nothing is lost, nothing is counted twice, in
/// no window.
fn ticks_fall_into_a_record() {
    let writer = ShardWriter::create(0, 1, 0);
    let shard = writer.shard();
    let master = thread::spawn({
        let shard = shard.clone();
        move || {
            let mut aggregator = Aggregator::new(Duration::ZERO);
            aggregator.tick(Duration::from_secs(1), vec![shard.read()]);
            aggregator
        }
    });
    writer.record_request(0, Class::Success, NANOS[2]);
    let mut aggregator = master.join().unwrap();
    for second in [2, 3] {
        aggregator.tick(Duration::from_secs(second), vec![shard.read()]);
    }
    for window in [Window::Lifetime, Window::Minute] {
        let sums = aggregator.sums(window);
        let (core, class) = (&sums.cores[&0], &sums.classes[Class::Success as usize]);
        assert_eq!(core.counters[Counter::Requests2xx as usize], 1, "{window:?}");
        assert_eq!((core.latency.count(), core.latency.sum, core.latency.max), (1, 3, 3), "{window:?}");
        assert_eq!((class.count(), class.sum), (1, 3), "{window:?}");
        let (_, mut routes) = aggregator.route_sums(window);
        let (_, route) = routes.next().expect("the route was asked for once");
        let found = (route.requests, route.latency.count(), route.latency.sum);
        assert_eq!(found, ([0, 1, 0, 0, 0], 1, 3), "{window:?}");
    }
    let (_, second) = aggregator.route_sums(Window::Second);
    assert_eq!(second.map(|(_, sum)| sum.latency.count()).sum::<u64>(), 0, "nothing came in the last tick");
}

#[test]
fn loom_what_a_tick_misses_comes_with_the_next_and_only_once() {
    check(Some(2), ticks_fall_into_a_record);
}

#[test]
fn loom_finds_buckets_that_are_dropped_because_they_came_late() {
    check_fails(Some(Bug::SkipsLateBuckets), Some(2), ticks_fall_into_a_record);
}
