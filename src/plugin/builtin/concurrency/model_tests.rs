//! The adaptive limit before a modelled upstream, with all times passed in: a server that works on so many requests at once,
//! and has the others wait in the order in which they came. Above its capacity the time of an answer is that of the queue
//! (Little's law). Requests come whether they are answered or not, as those of many clients do.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;

use super::adaptive::{Adaptive, Base, Bounds};
use crate::clock::Moment;

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1000 * MILLISECOND;

/// The server, as it is for a while.
#[derive(Clone, Copy)]
struct Server {
    slots: u32,
    /// Of one answer, without waiting.
    nanos: u64,
    /// How times are spread.
    spread: Spread,
}

#[derive(Clone, Copy)]
enum Spread {
    Even,
    /// Exponentially.
    Random,
    /// One in ten takes ten times as long.
    TwoKinds,
}

/// What came of a while.
#[derive(Debug, Default)]
struct Outcome {
    answered: u64,
    shed: u64,
    /// Nanoseconds of all answers.
    nanos: u64,
}

impl Outcome {
    fn mean_ms(&self) -> f64 {
        self.nanos as f64 / self.answered.max(1) as f64 / 1e6
    }
}

struct World {
    now: u64,
    state: u64,
    cores: Vec<(Adaptive, u32)>,
    /// Which core's, and when it began.
    waiting: VecDeque<(usize, u64)>,
    /// When it ends, which core's, when it began.
    at_work: BinaryHeap<Reverse<(u64, usize, u64)>>,
}

impl World {
    fn new(cores: usize, bounds: Bounds) -> Self {
        let base = Arc::<Base>::default();
        let cores = (0..cores).map(|_| (Adaptive::new(bounds, base.clone()), 0)).collect();
        Self { now: 0, state: 0x9e37_79b9_7f4a_7c15, cores, waiting: VecDeque::new(), at_work: BinaryHeap::new() }
    }

    /// Evenly spread over 0 to 1.
    fn chance(&mut self) -> f64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Lets so many seconds pass, with so many requests a second.
    fn pass(&mut self, server: Server, rate: f64, seconds: u64) -> Outcome {
        let mut outcome = Outcome::default();
        let end = self.now + seconds * SECOND;
        let mut next = self.now + self.gap(rate);
        loop {
            let done = self.at_work.peek().map_or(u64::MAX, |Reverse((end, ..))| *end);
            self.now = next.min(done).min(end);
            if self.now == end {
                return outcome;
            }
            if done <= next {
                self.finish(&mut outcome);
            } else {
                self.arrive(&mut outcome);
                next = self.now + self.gap(rate);
            }
            self.work(server);
        }
    }

    fn gap(&mut self, rate: f64) -> u64 {
        (-(1.0 - self.chance()).ln() / rate * SECOND as f64) as u64 + 1
    }

    fn arrive(&mut self, outcome: &mut Outcome) {
        let core = (self.chance() * self.cores.len() as f64) as usize;
        let (adaptive, under_way) = &mut self.cores[core];
        if *under_way < adaptive.limit(Moment::from_nanos(self.now)) {
            *under_way += 1;
            self.waiting.push_back((core, self.now));
        } else {
            outcome.shed += 1;
        }
    }

    fn finish(&mut self, outcome: &mut Outcome) {
        let Some(Reverse((_, core, began))) = self.at_work.pop() else { return };
        let (adaptive, under_way) = &mut self.cores[core];
        adaptive.note(Moment::from_nanos(began), Moment::from_nanos(self.now), *under_way);
        *under_way -= 1;
        outcome.answered += 1;
        outcome.nanos += self.now - began;
    }

    /// Begins with those that wait, as far as there is room.
    fn work(&mut self, server: Server) {
        while (self.at_work.len() as u32) < server.slots
            && let Some((core, began)) = self.waiting.pop_front()
        {
            let factor = match server.spread {
                Spread::Even => 1.0,
                Spread::Random => -(1.0 - self.chance()).ln(),
                Spread::TwoKinds if self.chance() < 0.1 => 10.0,
                Spread::TwoKinds => 1.0,
            };
            self.at_work.push(Reverse((self.now + (server.nanos as f64 * factor) as u64 + 1, core, began)));
        }
    }

    /// The limits of all cores together, outside of a window.
    fn limit(&self) -> u32 {
        // Never in a window, which are all at the beginning of a power of two.
        let outside = Moment::from_nanos((1 << 40) - 1);
        self.cores.iter().map(|(adaptive, _)| adaptive.limit(outside)).sum()
    }
}

fn bounds(cores: usize) -> Bounds {
    Bounds { min: (10 / cores as u32).max(1), max: 1000 / cores as u32, tolerance: 1.5, cores: cores as u32 }
}

/// Twenty at once, ten a second each: two hundred a second.
const SERVER: Server = Server { slots: 20, nanos: 100 * MILLISECOND, spread: Spread::Even };

#[test]
fn under_a_load_that_lasts_the_limit_stays_at_what_the_server_can_do() {
    for (cores, spread) in [(1, Spread::Even), (2, Spread::Even), (2, Spread::Random), (8, Spread::Even)] {
        let mut world = World::new(cores, bounds(cores));
        let server = Server { spread, ..SERVER };
        world.pass(server, 400.0, 120);
        for minute in 3..=5 {
            let outcome = world.pass(server, 400.0, 60);
            let told = format!("{cores} cores, minute {minute}: limit {}, {outcome:?}", world.limit());
            println!("{told}, {:.0} ms", outcome.mean_ms());
            assert!((20..=70).contains(&world.limit()), "{told}");
            assert!(outcome.answered > 60 * 185, "{told}");
            assert!(outcome.mean_ms() < 350.0, "{told}");
        }
    }
}

#[test]
fn a_server_that_loses_its_power_is_not_flooded_and_gets_all_again_when_it_has_it_back() {
    for cores in [1, 2] {
        let mut world = World::new(cores, bounds(cores));
        world.pass(SERVER, 400.0, 30);
        // A tenth: half of the places, each five times as slow.
        let weak = Server { slots: 10, nanos: 500 * MILLISECOND, ..SERVER };
        world.pass(weak, 400.0, 90);
        let outcome = world.pass(weak, 400.0, 60);
        let told = format!("{cores} cores, weak: limit {}, {outcome:?}", world.limit());
        println!("{told}, {:.0} ms", outcome.mean_ms());
        assert!((10..=40).contains(&world.limit()), "{told}");
        assert!(outcome.answered > 60 * 18, "{told}");
        world.pass(SERVER, 400.0, 60);
        let outcome = world.pass(SERVER, 400.0, 60);
        let told = format!("{cores} cores, as before: limit {}, {outcome:?}", world.limit());
        println!("{told}, {:.0} ms", outcome.mean_ms());
        assert!(outcome.answered > 60 * 185 && outcome.mean_ms() < 350.0, "{told}");
    }
}

#[test]
fn a_server_that_takes_longer_for_each_answer_does_not_have_the_limit_collapse() {
    for cores in [1, 2] {
        let mut world = World::new(cores, bounds(cores));
        world.pass(SERVER, 400.0, 30);
        let slow = Server { nanos: 600 * MILLISECOND, ..SERVER };
        let at_first = world.pass(slow, 400.0, 30);
        world.pass(slow, 400.0, 60);
        let outcome = world.pass(slow, 400.0, 120);
        let told = format!("{cores} cores: limit {}, {at_first:?}, {outcome:?}", world.limit());
        println!("{told}, {:.0} ms", outcome.mean_ms());
        assert!((18..=70).contains(&world.limit()), "{told}");
        // Half of what it could do at first, and nearly all in the long run.
        assert!(at_first.answered > 30 * 16 && outcome.answered > 120 * 30, "{told}");
    }
}

#[test]
fn a_load_that_the_server_can_bear_is_let_through_whatever_times_are_like() {
    for spread in [Spread::Even, Spread::Random, Spread::TwoKinds] {
        for cores in [1, 2] {
            let mut world = World::new(cores, bounds(cores));
            // A fifth of what it could do with times that are all the same.
            let server = Server { slots: 100, spread, ..SERVER };
            world.pass(server, 200.0, 60);
            let outcome = world.pass(server, 200.0, 60);
            let told = format!("{cores} cores: limit {}, {outcome:?}", world.limit());
            println!("{told}, {:.0} ms", outcome.mean_ms());
            assert!(outcome.shed * 100 < outcome.answered, "{told}");
        }
    }
}

#[test]
fn a_load_that_comes_after_a_quiet_time_is_borne() {
    let mut world = World::new(1, bounds(1));
    world.pass(SERVER, 4.0, 300);
    let outcome = world.pass(SERVER, 160.0, 60);
    println!("limit {}, {:.0} ms, {outcome:?}", world.limit(), outcome.mean_ms());
    assert!(outcome.shed * 20 < outcome.answered, "{outcome:?}");
}
