//! Loads an HTTP server on this host and checks every answer: the load generator of `scripts/bench`.

mod arguments;
mod engine;
mod report;
mod response;
mod schedule;
mod sink;
#[cfg(test)]
mod tests;

use std::io::{self, BufRead, Read, Write};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use arguments::{Mode, Plan, Task};
use engine::{Engine, Tally};
use schedule::{Pace, Schedule};
use sink::Sink;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.iter().any(|word| word == "--help") {
        println!("{}", arguments::USAGE);
        return ExitCode::SUCCESS;
    }
    let done = match Task::parse(words.into_iter()) {
        Err(message) => {
            eprintln!("ringfort-load: {message}\n\n{}", arguments::USAGE);
            return ExitCode::from(64);
        }
        Ok(Task::Load(plan)) => run(&plan),
        Ok(Task::Sink(address)) => Sink::bind(address).and_then(Sink::run).map(|()| 0),
    };
    match done {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ringfort-load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the plan and prints its result; returns the errors that were counted.
fn run(plan: &Plan) -> io::Result<u64> {
    let mut engine = Engine::new(plan)?;
    let mut tally = warm_up(plan, &mut engine)?;
    if plan.gate {
        say("ready")?;
        io::stdin().lock().read_line(&mut String::new())?;
    }
    // A server that fails already while it warms up is not measured.
    if engine.errors.count == 0 {
        tally = measure(plan, &mut engine, tally)?;
    }
    say(&report::to_json(&engine, &tally))?;
    if plan.gate {
        io::stdin().lock().read_to_end(&mut Vec::new())?;
    }
    Ok(engine.errors.count)
}

fn say(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

fn pace(plan: &Plan, length: Duration) -> Pace {
    let start = Instant::now();
    match plan.mode {
        Mode::Closed | Mode::Connect | Mode::Hold => Pace::Closed { until: start + length },
        Mode::Open => Pace::Open(Schedule::new(start, plan.rate, length)),
    }
}

/// Opens all connections, gently, and loads the server for a while.
fn warm_up(plan: &Plan, engine: &mut Engine<'_>) -> io::Result<Tally> {
    let tally = engine.visit_all()?;
    if plan.mode == Mode::Hold || engine.errors.count > 0 || plan.warmup.is_zero() {
        return Ok(tally);
    }
    engine.run(&mut pace(plan, plan.warmup))
}

/// The measured window. In mode hold it is the opening, which has passed, and all connections must still be there.
fn measure(plan: &Plan, engine: &mut Engine<'_>, mut opening: Tally) -> io::Result<Tally> {
    match plan.mode {
        Mode::Closed | Mode::Connect | Mode::Open => engine.run(&mut pace(plan, plan.window)),
        Mode::Hold => {
            engine.look(&mut opening)?;
            Ok(opening)
        }
    }
}
