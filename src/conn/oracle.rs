//! A whole connection as a check that holds for every input: the body of the fuzz target `conn_script`.
//!
//! The input is a script (`script.rs`): how the world is built, what the client sends, and when. The real connection code
//! answers it in the simulated world (`play.rs`), with routes of every kind (`app.rs`). What it must answer follows from the
//! bytes alone, read as one piece (`expect.rs`): it knows nothing of splits, pauses, buffers or batches, so agreement
//! (`compare.rs`) also says that none of these changes the answers.

mod app;
mod compare;
mod expect;
mod play;
mod script;

use crate::rt::sim::Bug;
use expect::Expectation;
use script::Script;

/// Longest script; what it makes the client send is bounded apart from that.
const SCRIPT_BYTES_MAX: usize = 4096;
/// Lines of a failing run's trace that are shown.
const TRACE_LINES: usize = 400;

/// Runs `data` as a script. Panics, with the run's trace, unless the connection did what its bytes ask for, ended in time
/// and gave everything back.
///
/// # Panics
/// When the connection is wrong.
pub fn check_conn_script(data: &[u8]) {
    if let Err(cause) = run_conn_script(data, None) {
        let (script, _) = read(data);
        let trace = play::play(&script, None, TRACE_LINES).trace.join("\n");
        panic!("{trace}\n{script:?}\n{cause}");
    }
}

/// As [`check_conn_script`], with a mistake of the simulator's to make.
///
/// # Errors
/// What was wrong first.
pub fn run_conn_script(data: &[u8], planted: Option<Bug>) -> Result<(), String> {
    let (script, expectation) = read(data);
    let seen = play::play(&script, planted, 0).outcome?;
    compare::compare(&script, &expectation, &seen)
}

fn read(data: &[u8]) -> (Script, Expectation) {
    let mut script = Script::decode(&data[..data.len().min(SCRIPT_BYTES_MAX)]);
    let expectation = expect::expect(&script);
    let bodies = expectation.answers.iter().flat_map(|answer| &answer.replies).map(|reply| reply.body.len());
    script.hasten(Script::stream(&script.acts).len() + bodies.sum::<usize>());
    (script, expectation)
}
