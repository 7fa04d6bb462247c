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
mod requests;
mod scenario;
mod slow;
mod watch;

use ringfort::rt::sim::{Bug, Report};
use scenario::Summary;
use std::env;
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

/// The first failing seed of a range, with its report, and the answers that were checked before it.
fn find_failure(run: Run, from: u64, seeds: u64, planted: Option<Bug>) -> (Option<(u64, Report<Summary>)>, u64) {
    let (next, failed, answered) = (AtomicU64::new(from), AtomicU64::new(u64::MAX), AtomicU64::new(0));
    let threads = thread::available_parallelism().map_or(1, |count| count.get());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds || seed >= failed.load(Ordering::Relaxed) {
                        return;
                    }
                    tell_progress(seed - from, seeds);
                    match run(seed, planted, 0).outcome {
                        Ok(summary) => answered.fetch_add(summary.answered, Ordering::Relaxed),
                        Err(_) => failed.fetch_min(seed, Ordering::Relaxed),
                    };
                }
            });
        }
    });
    let failed = failed.into_inner();
    let report = (failed < u64::MAX).then(|| (failed, run(failed, planted, number("SIM_TRACE", TRACE_LINES) as usize)));
    (report, answered.into_inner())
}

#[test]
fn every_seed_keeps_the_promises() {
    keep_promises(scenario::run);
}

/// Runs the seeds that were asked for, and fails with the first that does.
fn keep_promises(run: Run) {
    let (from, seeds) = (number("SIM_FROM", 0), number("SIM_SEEDS", SEEDS));
    let (failure, answered) = find_failure(run, from, seeds, None);
    if let Some((seed, report)) = failure {
        panic!("{}", describe(seed, &report));
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
    const BUGS: &[Bug] = &[
        Bug::LostLeftover,
        Bug::ForgottenWaiter,
        Bug::NoRetry,
        Bug::ShortSendTakenForWhole,
        Bug::NoLinger,
        Bug::LingerKeepsBuffer,
        Bug::EndlessLinger,
        Bug::HeldPiece,
        Bug::UnseenRest,
        Bug::LeakedBuffer,
        Bug::PatientHead,
        Bug::EndlessWrite,
        Bug::EndlessIdle,
        Bug::LostDeadline,
        Bug::ForgottenRest,
        Bug::OneTooMany,
        Bug::NoMoreAccepts,
        Bug::ImpatientBody,
        Bug::IgnoredSendError,
        Bug::PanicStaysInFlight,
        Bug::ShortReadTakenForEnd,
        Bug::EndlessDrain,
        Bug::ForgottenWorker,
        Bug::DeafMaster,
        Bug::StaleDate,
    ];
    find_bugs(scenario::run, BUGS, SEEDS);
}

/// Plants each of `bugs` and shows that one of the first seeds finds it.
fn find_bugs(run: Run, bugs: &[Bug], seeds: u64) {
    for bug in bugs {
        let (failure, _) = find_failure(run, 0, seeds, Some(*bug));
        let Some((seed, report)) = failure else { panic!("{bug:?} was not found within {seeds} seeds") };
        assert!(run(seed, None, 0).outcome.is_ok(), "seed {seed} fails without {bug:?} too");
        eprintln!("{bug:?} was found by seed {seed}: {}", report.outcome.unwrap_err());
    }
}
