//! One seed: a server, its clients, what goes wrong, and the drain at the end.

use super::app;
use super::clients::{self, Kind};
use super::reload::Generations;
use super::set_up::{
    self, GENEROUS, PIPE_BYTES_MAX, Serving, Shared, Summary, assert_nothing_is_left, core_options, join, play_seed,
    settings, start_after, start_master, start_worker_with, stop,
};
use super::watch;
use ringfort::clock;
use ringfort::conn::Settings;
use ringfort::handler::Routes;
use ringfort::limits::LINGER_MS;
use ringfort::router::RouterBuf;
use ringfort::rt::sim::{self, CoreOptions, Faults, Random, Report};
use ringfort::rt::{self, Postbox};
use ringfort::worker::News;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

struct Plan {
    random: Random,
    clients: usize,
    workers: usize,
    core: CoreOptions,
    settings: Settings,
    is_tight: bool,
    disk_fails: bool,
    /// No fault makes a patient drain's promise empty.
    keeps_promises: bool,
    /// Configs come into force meanwhile.
    reloads: Option<Random>,
    /// When the drain begins, if not after all clients.
    drain_at: Option<Duration>,
    patience: Duration,
    /// How long after the first signal the second comes.
    stop_after: Option<Duration>,
    /// After how long each life of the last worker ends, but for the one that stays.
    kills: Vec<Duration>,
}

fn plan(seed: u64) -> (Plan, Faults) {
    let mut random = Random::new(seed ^ 0x5eed);
    let is_tight = random.chance(300);
    let clients = random.between(2, 12) as usize;
    let core = core_options(&mut random, &[16, 100, 1024, 4096], |random, bytes| {
        // Either next to none, or enough for what every client may have under way.
        let ample = clients * (PIPE_BYTES_MAX / bytes + 1);
        if is_tight { random.between(1, 3) as usize } else { ample }
    });
    let faults = faults(&mut random);
    let drain_at = random.chance(500).then(|| Duration::from_millis(random.below(2500)));
    let patience = if random.chance(700) { GENEROUS } else { Duration::from_millis(random.below(400)) };
    let workers = random.between(1, 2) as usize;
    let settings = settings(&mut random);
    let stop_after = random.chance(200).then(|| Duration::from_millis(random.below(300)));
    let kills = if random.chance(120) { random.between(1, 3) } else { 0 };
    let kills: Vec<Duration> = (0..kills).map(|_| Duration::from_millis(random.below(1500))).collect();
    let keeps_promises = faults.shortages == 0 && stop_after.is_none() && kills.is_empty();
    let disk_fails = faults.failed_reads > 0;
    // Chance of its own: what the seeds do besides stays as it was.
    let mut other = Random::new(seed ^ 0x0ec0_4f16);
    let reloads = other.chance(300).then(|| other.fork());
    let plan = Plan {
        random,
        clients,
        workers,
        core,
        settings,
        is_tight,
        disk_fails,
        keeps_promises,
        reloads,
        drain_at,
        patience,
        stop_after,
        kills,
    };
    (plan, faults)
}

/// What goes wrong.
fn faults(random: &mut Random) -> Faults {
    Faults {
        pauses: *random.pick(&[0, 1, 5]),
        failed_accepts: *random.pick(&[0, 0, 100, 500]),
        aborted_accepts: *random.pick(&[0, 0, 0, 200]),
        failed_sends: *random.pick(&[0, 0, 0, 20]),
        resets: *random.pick(&[0, 0, 0, 2, 20]),
        stalls: *random.pick(&[0, 0, 0, 2, 10]),
        shortages: *random.pick(&[0, 0, 0, 50]),
        failed_reads: *random.pick(&[0, 0, 100]),
        short_reads: *random.pick(&[0, 200]),
        ..set_up::faults(random)
    }
}

/// Runs one seed.
pub(super) fn run(seed: u64, planted: Option<sim::Bug>, trace_lines: usize) -> Report<Summary> {
    let (plan, faults) = plan(seed);
    play_seed(seed, faults, planted, trace_lines, move || scenario(plan))
}

/// Starts a worker, whose lives end after so long each but for the last.
pub(super) fn start_worker(
    index: usize,
    shared: &Rc<Shared>,
    core: CoreOptions,
    news: &Postbox<News>,
    kills: &[Duration],
) -> Rc<Serving> {
    start_worker_with(routes(), index, shared, core, news, kills)
}

/// The application's routes.
pub(super) fn routes() -> Arc<Routes> {
    let none = RouterBuf::build(&[]).expect("no routes are no conflict");
    Arc::new(Routes::new(&[&app::ROUTES], none, Vec::new(), Vec::new()))
}

async fn scenario(plan: Plan) -> Summary {
    let Plan { mut random, clients, workers, core, settings, is_tight, drain_at, patience, .. } = plan;
    // With a buffer or two, one client's requests ahead can hold up another's for longer than the drain's grace.
    let is_patient = patience == GENEROUS && !is_tight && plan.keeps_promises;
    let shared = Rc::new(Shared::new(settings, is_patient, plan.disk_fails));
    app::put_files();
    let (news, inbox) = rt::mailbox(16);
    let kills = |index: usize| if index + 1 == workers { plan.kills.as_slice() } else { &[] };
    let start = |index: usize| start_worker(index, &shared, core, &news, kills(index));
    let serving: Vec<_> = (0..workers).map(start).collect();
    watch::begin(shared.clone(), &serving);
    let master = start_master(&shared, &serving, inbox, patience);
    master.started(workers).await;
    let generations = Generations::new(&shared, &serving);
    let reloading = plan.reloads.map(|random| sim::task(generations.clone().run(random)));
    let mut talking = Vec::new();
    for number in 0..clients {
        let kind = Kind::pick(&mut random, is_tight);
        let start = random.below(1000);
        sim::note(format_args!("client {number}: {kind:?}, starts after {start} ms"));
        talking.push(start_after(start, clients::run(kind, shared.clone(), random.fork())));
    }
    match drain_at {
        Some(after) => rt::sleep_until(clock::now() + after).await,
        None => {
            join(talking.drain(..)).await;
            all_gone(&shared).await;
        }
    }
    if reloading.is_some() && drain_at.is_none() {
        generations.assert_let_go().await;
    }
    stop(&shared, master, serving, patience, plan.stop_after).await;
    join(talking.into_iter()).await;
    assert_nothing_is_left();
    Summary { answered: shared.answered.get(), clients }
}

/// With every client gone or silent, the time-outs leave no connection.
async fn all_gone(shared: &Shared) {
    let timeouts = shared.settings.timeouts;
    let longest = timeouts.head.max(timeouts.body).max(timeouts.idle).max(timeouts.write);
    // One for what the client left undone, and, for one that vanished, another for the answer that nobody takes.
    let bound = shared.bound(2 * longest + timeouts.write + Duration::from_millis(LINGER_MS));
    let until = clock::now() + bound;
    while sim::open_connections_in_all() > 0 {
        assert!(clock::now() < until, "{} connections outlive every time-out", sim::open_connections_in_all());
        rt::sleep_until(clock::now() + Duration::from_millis(20)).await;
    }
}
