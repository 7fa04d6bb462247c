//! Binary upgrades in the simulated world: processes that follow one another on the same listening sockets, some of which
//! fail, under clients that connect all the time. Nobody is turned away, every request is answered once, and in the end one
//! process serves.

mod clients;
mod process;
mod stage;

use super::set_up::{
    self, PIPE_BYTES_MAX, SLACK, Summary, assert_nothing_is_left, core_options, join, pause, play_seed, start_after,
};
use super::{find_bugs, keep_promises};
use process::{Asked, Fate, Life, Process, SERVES_WITHIN};
use ringfort::admin::UpgradeOutcome;
use ringfort::clock;
use ringfort::conn::Settings;
use ringfort::limits::UPGRADE_END_SECONDS;
use ringfort::master::Signal;
use ringfort::rt::sim::{self, Bug, CoreOptions, Faults, Joined, Random, Report};
use stage::{Stage, handled};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// Seeds that the plain `cargo test` runs.
const SEEDS: u64 = 60;
const ALL_FATES: &[Fate] =
    &[Fate::Serves, Fate::Serves, Fate::Serves, Fate::EndsEarly, Fate::Crashes, Fate::GivesUp, Fate::Hangs, Fate::Deaf];

struct Plan {
    random: Random,
    clients: usize,
    core: CoreOptions,
    settings: Settings,
    first: Life,
    /// Each upgrade's successor, and whether it is asked for twice.
    upgrades: Vec<(Life, bool)>,
    /// It is told to stop in the middle of the last.
    stops_midway: bool,
}

fn plan(seed: u64) -> (Plan, Faults) {
    let mut random = Random::new(seed ^ 0x0bab_e1e5);
    let clients = random.between(2, 10) as usize;
    let ample = |_: &mut Random, bytes: usize| clients * (PIPE_BYTES_MAX / bytes + 1);
    let core = core_options(&mut random, &[100, 1024, 4096], ample);
    let faults = Faults {
        pauses: *random.pick(&[0, 1, 5]),
        failed_accepts: *random.pick(&[0, 0, 100]),
        ..set_up::faults(&mut random)
    };
    let mut settings = set_up::settings(&mut random);
    settings.connections = *random.pick(&[2, 10, 100]);
    (settings.keepalive_requests, settings.keepalive_age) = (1000, Duration::from_secs(3600));
    let first = Life::pick(&mut random, &[Fate::Serves]);
    let upgrades =
        (0..random.between(1, 5)).map(|_| (Life::pick(&mut random, ALL_FATES), random.chance(300))).collect();
    let stops_midway = random.chance(200);
    (Plan { random, clients, core, settings, first, upgrades, stops_midway }, faults)
}

/// Runs one seed.
fn run(seed: u64, planted: Option<Bug>, trace_lines: usize) -> Report<Summary> {
    let (plan, faults) = plan(seed);
    play_seed(seed, faults, planted, trace_lines, move || scenario(plan))
}

async fn scenario(plan: Plan) -> Summary {
    let Plan { mut random, clients, core, settings, first, upgrades, stops_midway } = plan;
    let stage = Stage::new(settings, core);
    Process::start(&stage, first, Vec::new(), None);
    while stage.newest().is_none() {
        pause(1).await;
    }
    let mut talking = Vec::new();
    for _ in 0..clients {
        talking.push(start_after(random.below(1500), clients::run(stage.clone(), random.fork())));
    }
    let last = upgrades.len() - 1;
    for (number, (life, twice)) in upgrades.into_iter().enumerate() {
        pause(random.below(600)).await;
        let stop = (stops_midway && number == last).then(|| random.below(1500));
        upgrade(&stage, life, twice, stop).await;
    }
    join(talking.into_iter()).await;
    let expected =
        if stage.is_stopping.get() { stage.living().iter().filter(|process| process.serves()).count() } else { 1 };
    settle(&stage, expected.min(1)).await;
    if !stage.is_stopping.get() {
        // Whoever is left serves.
        clients::run(stage.clone(), random.fork()).await;
    }
    stage.is_stopping.set(true);
    stage.living().iter().for_each(|process| process.signal(Signal("TERM")));
    settle(&stage, 0).await;
    assert_nothing_is_left();
    for id in 0..stage.asked.get() {
        assert!(handled(id) <= 1, "request {id} was handled {} times", handled(id));
    }
    Summary { answered: stage.answered.get(), clients }
}

/// Waits until so many processes are left, as they must be soon.
async fn settle(stage: &Stage, expected: usize) {
    let longest = stage.living().iter().map(|process| process.life.patience).max().unwrap_or_default();
    let until = clock::now() + longest + Duration::from_secs(3);
    while let Err(cause) = stage.check_settled(expected) {
        if clock::now() >= until {
            return sim::fail(cause);
        }
        pause(10).await;
    }
}

/// Asks for an upgrade, perhaps twice at once, perhaps with an end to all after so many milliseconds; looks at what came of
/// it.
async fn upgrade(stage: &Rc<Stage>, life: Life, twice: bool, stop: Option<u64>) {
    let process = stage.newest().expect("somebody serves");
    let asked: Vec<_> = (0..1 + usize::from(twice)).map(|_| ask(&process, life)).collect();
    if let Some(after) = stop {
        pause(after).await;
        stage.is_stopping.set(true);
        process.signal(Signal("TERM"));
    }
    let began = clock::now();
    let mut outcomes = Vec::new();
    for asked in asked {
        outcomes.push(asked.await);
    }
    let took = clock::now().since(began);
    let most = SERVES_WITHIN + 2 * Duration::from_secs(UPGRADE_END_SECONDS) + 2 * SLACK;
    assert!(took <= most, "an upgrade took {took:?}");
    // One of them comes first.
    outcomes.sort_by_key(|outcome| matches!(outcome, UpgradeOutcome::Refused(_)));
    let second = outcomes.get(1);
    assert!(second.is_none_or(|outcome| matches!(outcome, UpgradeOutcome::Refused(_))), "both of two: {outcomes:?}");
    let is_done = matches!(outcomes[0], UpgradeOutcome::Done(_));
    match (&outcomes[0], life.fate) {
        (UpgradeOutcome::Done(_), Fate::Serves) => {}
        (UpgradeOutcome::Failed(_), _) if stop.is_some() => {}
        (UpgradeOutcome::Failed(reason), fate) if fate != Fate::Serves => check_reason(fate, reason),
        // It had been told to stop first.
        (UpgradeOutcome::Refused(_), _) if stop.is_some() => {}
        (outcome, fate) => sim::fail(format!("a successor that {fate:?}: {outcome:?}")),
    }
    // It is seen off before that is said.
    let is_left = stage.living().iter().any(|other| other.number > process.number);
    assert!(is_done || !is_left, "a successor that failed is there still");
}

fn check_reason(fate: Fate, reason: &str) {
    let expected = match fate {
        Fate::EndsEarly | Fate::Crashes | Fate::GivesUp => "ended before it served",
        Fate::Hangs | Fate::Deaf => "did not serve within",
        Fate::Serves => return,
    };
    assert!(reason.contains(expected), "{fate:?}: {reason}");
}

/// Asks a process for an upgrade, as its master does.
fn ask(process: &Rc<Process>, life: Life) -> Joined<UpgradeOutcome> {
    let asked = Asked { process: process.clone(), life, outcome: RefCell::default() };
    let refusal = process.succession.refusal();
    sim::task(async move {
        match refusal {
            Some(refusal) => refusal,
            None => {
                asked.process.succession.hand_over(&asked).await;
                asked.outcome.take().expect("it was answered")
            }
        }
    })
}

#[test]
fn every_seed_of_upgrades_keeps_the_promises() {
    keep_promises(run, SEEDS);
}

#[test]
fn every_mistake_in_an_upgrade_is_found() {
    const BUGS: &[Bug] = &[
        Bug::HastyLeave,
        Bug::BothLeave,
        Bug::FailureLeaves,
        Bug::SecondSuccessor,
        Bug::KeptTurn,
        Bug::ForcedAtOnce,
        Bug::DeafSuccessorKept,
        Bug::SocketLeftOut,
    ];
    find_bugs(run, BUGS.iter().map(|bug| (*bug, 0)), SEEDS);
}
