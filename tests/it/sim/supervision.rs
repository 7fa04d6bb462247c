//! What the master owes its workers, in virtual time: a restart after just the wait that is documented, a queue that
//! outlives the worker, and word of a stall before twice `cores.stall` is over.

use super::scenario::start_worker;
use super::set_up::{Found, GENEROUS, SLACK, STALL, Serving, Shared, pause, settings, start_master, stop};
use ringfort::clock;
use ringfort::conn::Settings;
use ringfort::metrics::beat_every;
use ringfort::rt;
use ringfort::rt::sim::{self, Bug, CoreOptions, Options, Random, Report, Style};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);

/// What a test sees of its world.
struct Stage {
    shared: Rc<Shared>,
    serving: Vec<Rc<Serving>>,
    found: Rc<RefCell<Vec<Found>>>,
}

/// Plays `work` in the world of a seed, against workers whose lives end after so many milliseconds each; then drains.
fn play<T: Send + 'static>(
    seed: u64,
    lives: &'static [&'static [u64]],
    planted: Option<Bug>,
    work: impl AsyncFnOnce(&Stage) -> T + Send + 'static,
) -> Report<T> {
    sim::run(Options { seed, planted, ..Options::default() }, move || async move {
        let (news, inbox) = rt::mailbox(16);
        let settings = Settings { connections: 10, keepalive_requests: 1000, ..settings(&mut Random::new(0)) };
        let shared = Rc::new(Shared::new(settings, true, false));
        let core = CoreOptions { style: Style::Multishot, buffers: 100, buffer_bytes: 1000 };
        let start = |(index, lives): (usize, &&[u64])| {
            let kills: Vec<Duration> = lives.iter().map(|ms| Duration::from_millis(*ms)).collect();
            start_worker(index, &shared, core, &news, &kills)
        };
        let serving: Vec<_> = lives.iter().enumerate().map(start).collect();
        let watched = serving.clone();
        sim::check_when_quiet(move || watched.iter().try_for_each(|worker| worker.check_down()));
        let master = start_master(&shared, &serving, inbox, GENEROUS);
        master.started(lives.len()).await;
        let stage = Stage { shared: shared.clone(), serving: serving.clone(), found: master.found.clone() };
        let outcome = work(&stage).await;
        stop(&shared, master, serving, GENEROUS, None).await;
        outcome
    })
}

fn outcome<T>(report: Report<T>) -> T {
    report.outcome.unwrap_or_else(|cause| panic!("{}\n{cause}", report.trace.join("\n")))
}

/// How long it took from each start of a worker that breaks down after 10 ms to the next.
fn break_down_again_and_again(planted: Option<Bug>) -> Report<Vec<Duration>> {
    play(1, &[&[10; 9]], planted, async |stage| {
        let starts = &stage.serving[0].starts;
        while starts.borrow().len() < 10 {
            pause(10).await;
        }
        let starts = starts.borrow();
        starts.windows(2).map(|pair| pair[1].since(pair[0])).collect()
    })
}

#[test]
fn a_worker_that_breaks_down_again_and_again_is_started_with_back_off_and_never_given_up() {
    let took = outcome(break_down_again_and_again(None));
    let waits = [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000];
    assert_eq!(took.len(), waits.len());
    for (took, wait) in took.iter().zip(waits) {
        let least = Duration::from_millis(10 + wait);
        assert!((least..least + SLACK).contains(took), "{took:?}, not {least:?}");
    }
    let cause = break_down_again_and_again(Some(Bug::NoBackoff)).outcome.unwrap_err();
    assert!(cause.contains("was down for"), "{cause}");
    let cause = break_down_again_and_again(Some(Bug::NoRestart)).outcome.unwrap_err();
    assert!(cause.contains("has been down for"), "{cause}");
}

/// A client that connects while the only worker is down: how long it took to be answered.
fn connect_to_a_worker_that_is_down(planted: Option<Bug>) -> Report<Duration> {
    play(2, &[&[100]], planted, async |stage| {
        while stage.serving[0].down_since.get().is_none() {
            pause(1).await;
        }
        let asked = clock::now();
        let client = sim::connect(stage.shared.address).await.expect("somebody listens");
        assert!(stage.serving[0].down_since.get().is_some(), "it is in the queue of a worker that is down");
        client.send(b"GET /fixed HTTP/1.1\r\nHost: sim\r\n\r\n").await.expect("the way is open");
        let answer = client.recv(1000).await.expect("an answer");
        assert!(answer.starts_with(b"H"), "{answer:?}");
        clock::now().since(asked)
    })
}

#[test]
fn a_client_in_the_queue_of_a_worker_that_is_down_is_answered_when_it_is_back() {
    let took = outcome(connect_to_a_worker_that_is_down(None));
    assert!(took < 100 * MS + SLACK, "{took:?}");
    let cause = connect_to_a_worker_that_is_down(Some(Bug::QueueLost)).outcome.unwrap_err();
    assert!(cause.contains("somebody listens"), "{cause}");
}

/// One of two workers stands still for so long: what the master found of it, each with the time since then.
fn stand_still(seed: u64, length: Duration, planted: Option<Bug>) -> Report<Vec<(Found, Duration)>> {
    play(seed, &[&[], &[]], planted, async move |stage| {
        // Anywhere between two beats.
        pause(sim::random().below(1000)).await;
        let began = clock::now();
        sim::freeze(stage.serving[1].core.get(), length);
        rt::sleep_until(began + length + 2 * STALL).await;
        let found = stage.found.borrow();
        let since = |found: &Found| match found {
            Found::Stalled(_, at, _) | Found::Resumed(_, at, _) => at.since(began),
        };
        found.iter().map(|found| (*found, since(found))).collect()
    })
}

#[test]
fn a_worker_that_stands_still_is_found_within_twice_the_limit_and_once() {
    let length = 5 * STALL;
    for seed in 0..20 {
        let found = outcome(stand_still(seed, length, None));
        let [(Found::Stalled(1, _, age), told), (Found::Resumed(1, _, lasted), back)] = found[..] else {
            panic!("seed {seed}: {found:?}");
        };
        assert!(told > STALL && told < 2 * STALL, "seed {seed}: told after {told:?}");
        assert!(age > STALL && age < 2 * STALL, "seed {seed}: {age:?} without a beat");
        let soon = 2 * beat_every(STALL);
        assert!((length..length + soon).contains(&back), "seed {seed}: back after {back:?}");
        assert!((length..length + soon).contains(&lasted), "seed {seed}: it lasted {lasted:?}");
    }
    assert_eq!(outcome(stand_still(0, length, Some(Bug::UnseenStall))), []);
}

#[test]
fn a_worker_that_stands_still_for_less_is_not_blamed() {
    for seed in 0..20 {
        assert_eq!(outcome(stand_still(seed, STALL - 10 * MS, None)), [], "seed {seed}");
    }
}
