//! The server in a simulated world: many seeds, each with its own clients, network and mishaps.
//!
//! `SIM_SEEDS` and `SIM_FROM` choose the seeds (see `scripts/sim`); a failing one is printed with its trace.

mod answers;
mod app;
mod clients;
mod dialogue;
mod gateway;
mod oracle;
mod outward;
mod regressions;
mod reload;
mod requests;
mod scenario;
mod set_up;
mod slow;
mod supervision;
mod upgrade;
mod watch;

use ringfort::rt::sim::{Bug, Report};
use set_up::Summary;
use std::collections::BTreeSet;
use std::env;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Seeds that the plain `cargo test` runs.
const SEEDS: u64 = 200;
/// Lines of a failing seed's trace that are shown, unless `SIM_TRACE` says otherwise.
const TRACE_LINES: u64 = 300;
/// From so many seeds on a run says how far it has come.
const PROGRESS_SEEDS: u64 = 2000;

fn number(variable: &str, default: u64) -> u64 {
    env::var(variable).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is not a number")))
}

fn describe(seed: u64, report: &Report<Summary>) -> String {
    let cause = report.outcome.as_ref().err().map_or("passed", String::as_str);
    format!(
        "{}\nseed {seed}: {cause}\n{} steps, {:?} of virtual time, {} events, trace hash {:016x}\nto replay: scripts/sim \
         --from {seed} --seeds 1",
        report.trace.join("\n"),
        report.steps,
        report.elapsed,
        report.trace_lines,
        report.hash
    )
}

/// Says how far a long run has come.
fn tell_progress(done: u64, seeds: u64) {
    if seeds >= PROGRESS_SEEDS && done.is_multiple_of(seeds / 20) {
        eprintln!("{done} of {seeds} seeds");
    }
}

/// Runs one seed.
type Run = fn(u64, Option<Bug>, usize) -> Report<Summary>;

fn on_every_core(work: impl Fn() + Sync) {
    let threads = thread::available_parallelism().map_or(1, |count| count.get());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(&work);
        }
    });
}

/// The first failing seed of a range, with the cause, and the answers that were checked before it.
fn find_failure(run: Run, from: u64, seeds: u64) -> (Option<(u64, String)>, u64) {
    let (next, answered) = (AtomicU64::new(from), AtomicU64::new(0));
    let failed = Mutex::new(None::<(u64, String)>);
    let is_behind = |seed: u64| failed.lock().unwrap().as_ref().is_some_and(|(first, _)| seed >= *first);
    on_every_core(|| {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= from + seeds || is_behind(seed) {
                return;
            }
            tell_progress(seed - from, seeds);
            match run(seed, None, 0).outcome {
                Ok(summary) => _ = answered.fetch_add(summary.answered, Ordering::Relaxed),
                Err(cause) => {
                    let mut failed = failed.lock().unwrap();
                    if failed.as_ref().is_none_or(|(first, _)| seed < *first) {
                        *failed = Some((seed, cause));
                    }
                }
            }
        }
    });
    (failed.into_inner().unwrap(), answered.into_inner())
}

#[test]
fn every_seed_keeps_the_promises() {
    keep_promises(scenario::run, SEEDS);
}

/// Runs the seeds that were asked for, or so many, and fails with the first that does.
fn keep_promises(run: Run, default: u64) {
    let (from, seeds) = (number("SIM_FROM", 0), number("SIM_SEEDS", default));
    let (failure, answered) = find_failure(run, from, seeds);
    if let Some((seed, _)) = failure {
        panic!("{}", describe(seed, &run(seed, None, number("SIM_TRACE", TRACE_LINES) as usize)));
    }
    eprintln!("{seeds} seeds from {from} passed, {answered} answers checked");
    assert!(answered > seeds, "so few answers show little");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..10 {
        let (first, second) = (scenario::run(seed, None, usize::MAX), scenario::run(seed, None, usize::MAX));
        assert_eq!(
            (first.hash, first.steps, first.outcome),
            (second.hash, second.steps, second.outcome),
            "seed {seed}"
        );
        assert!(first.trace == second.trace && !first.trace.is_empty(), "seed {seed}");
    }
}

#[test]
fn every_planted_bug_is_found() {
    // With the seed that found it last: see `find_bugs`.
    let bugs = [
        (Bug::LostLeftover, 0),
        (Bug::ForgottenWaiter, 6),
        (Bug::NoRetry, 32),
        (Bug::ShortSendTakenForWhole, 0),
        (Bug::NoLinger, 0),
        (Bug::LingerKeepsBuffer, 9),
        (Bug::EndlessLinger, 3),
        (Bug::HeldPiece, 21),
        (Bug::UnseenRest, 0),
        (Bug::LeakedBuffer, 0),
        (Bug::PatientHead, 0),
        (Bug::EndlessWrite, 47),
        (Bug::EndlessIdle, 7),
        (Bug::LostDeadline, 9),
        (Bug::ForgottenRest, 17),
        (Bug::OneTooMany, 8),
        (Bug::NoMoreAccepts, 3),
        (Bug::ImpatientBody, 5),
        (Bug::IgnoredSendError, 1),
        (Bug::PanicStaysInFlight, 8),
        (Bug::ShortReadTakenForEnd, 0),
        (Bug::EndlessDrain, 8),
        (Bug::ForgottenWorker, 0),
        (Bug::DeafMaster, 34),
        (Bug::NoRestart, 1),
        (Bug::NoBackoff, 1),
        (Bug::QueueLost, 1),
        (Bug::KeptGeneration, 29),
        (Bug::DoorsShut, 14),
        (Bug::StaleDate, 0),
    ];
    find_bugs(scenario::run, bugs, SEEDS);
}

/// Plants each of the mistakes and shows that one of the seeds finds it, of so many from the one that is named with it: that
/// which found it last, for a look at those before it again would take most of the time. Where a change has given seeds
/// another meaning, the search goes on behind it; `SIM_PLANTED_FROM=0` begins with the first again, to see what to name.
fn find_bugs(run: Run, bugs: impl IntoIterator<Item = (Bug, u64)>, seeds: u64) {
    let first = number("SIM_PLANTED_FROM", u64::MAX);
    let bugs = bugs.into_iter().map(|(bug, from)| (bug, from.min(first)));
    let (left, sound) = (Mutex::new(bugs.collect::<Vec<_>>()), Mutex::new(BTreeSet::new()));
    on_every_core(|| {
        loop {
            let Some((bug, from)) = left.lock().unwrap().pop() else { return };
            let fails = |seed| run(seed, Some(bug), 0).outcome.err().map(|cause| (seed, cause));
            let found = (from..from + seeds).find_map(fails);
            let Some((seed, cause)) = found else { panic!("{bug:?} was not found within {seeds} seeds from {from}") };
            // One seed finds several.
            let is_new = sound.lock().unwrap().insert(seed);
            assert!(!is_new || run(seed, None, 0).outcome.is_ok(), "seed {seed} fails without {bug:?} too");
            eprintln!("{bug:?} was found by seed {seed}: {cause}");
        }
    });
}
