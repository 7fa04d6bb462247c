//! One seed: workers that forward, clients before them, servers behind them, checks of these, an operator who drains
//! them, and the drain of it all at the end.

use super::super::set_up::{
    self, GENEROUS, PIPE_BYTES_MAX, Shared, Summary, assert_nothing_is_left, core_options, join, pause, play_seed,
    settings, start_after, start_master, start_worker_with, stop,
};
use super::clients::{self, Asking};
use super::ledger::Ledger;
use super::operator;
use super::plan::{Plan, STEP, Weather, address};
use super::servers::{self, Role, Server};
use super::watch;
use ringfort::clock;
use ringfort::conn::Settings;
use ringfort::proxy::{Attendants, Upstream, Upstreams};
use ringfort::rt;
use ringfort::rt::sim::{self, CoreOptions, Faults, Joined, Random, Report};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

/// What goes wrong by itself.
fn faults(random: &mut Random, weather: Weather) -> Faults {
    let faults = Faults {
        pauses: *random.pick(&[0, 0, 1]),
        failed_sends: *random.pick(&[0, 0, 10]),
        shortages: *random.pick(&[0, 50, 500]),
        ..set_up::faults(random)
    };
    match weather {
        Weather::Calm | Weather::Fair => Faults { failed_sends: 0, resets: 0, stalls: 0, ..faults },
        Weather::Foul => faults,
    }
}

/// Runs one seed.
pub(super) fn run(seed: u64, planted: Option<sim::Bug>, trace_lines: usize) -> Report<Summary> {
    let mut random = Random::new(seed ^ 0x9a7e);
    let plan = Plan::random(&mut random);
    let faults = faults(&mut random, plan.weather);
    play_seed(seed, faults, planted, trace_lines, move || scenario(plan, random))
}

fn start_servers(random: &mut Random, plan: &Plan, ledger: &Rc<Ledger>, upstreams: &Upstreams) {
    for upstream in upstreams.iter() {
        let is_mirror = plan.mirror() == Some(upstream.slot);
        let is_calm = plan.weather == Weather::Calm && !is_mirror;
        for number in 0..upstream.servers.len() {
            let server = Server {
                ledger: ledger.clone(),
                place: (upstream.slot, number),
                role: match (is_mirror, is_calm) {
                    (true, _) => Role::Mirror,
                    (false, true) => Role::Faultless,
                    (false, false) => Role::Ordinary,
                },
                faulty: *random.pick(&[0, 100, 300, 700]),
                away: if is_calm { 0 } else { *random.pick(&[0, 0, 100, 400]) },
                slowest: STEP + STEP / 2,
                random: RefCell::new(random.fork()),
            };
            sim::task(servers::run(sim::serve(address(upstream.slot, number)), Rc::new(server)));
        }
    }
}

/// The process's checks of its servers, until it is over.
fn start_checks(upstreams: Upstreams, options: CoreOptions, seed: u64, over: Rc<Cell<bool>>) -> Joined<()> {
    sim::core(CoreOptions { buffers: 64, buffer_bytes: 1024, ..options }, async move {
        let mut attendants = Attendants::new(seed);
        attendants.attend(&upstreams, &[]);
        while !over.get() {
            pause(20).await;
        }
    })
}

async fn scenario(plan: Plan, mut random: Random) -> Summary {
    let upstreams = plan.upstreams(&mut random);
    let all: Vec<Arc<Upstream>> = upstreams.iter().cloned().collect();
    sim::note(format_args!("{plan:?}, {:?}", upstreams.specs()));
    let workers = random.between(1, 2) as usize;
    let clients = random.between(2, 8) as usize;
    // Enough for all that may be under way at once, copies too.
    let under_way = 4 * clients * (1 + usize::from(plan.mirrored.is_some()));
    let core = core_options(&mut random, &[100, 1024, 4096], |_, bytes| under_way * (PIPE_BYTES_MAX / bytes + 1));
    let settings = Settings { connections: 100, body: 1 << 20, ..settings(&mut random) };
    let shared = Rc::new(Shared::new(settings, false, false));
    let ledger = Rc::new(Ledger::new(&plan, &upstreams));
    start_servers(&mut random, &plan, &ledger, &upstreams);
    let (news, inbox) = rt::mailbox(16);
    let routes = plan.routes(&upstreams);
    let start = |index| start_worker_with(routes.clone(), index, &shared, core, &news, &[]);
    let serving: Vec<_> = (0..workers).map(start).collect();
    watch::begin(all.clone(), workers);
    let over = Rc::new(Cell::new(false));
    let checking = start_checks(upstreams, core, random.next(), over.clone());
    let master = start_master(&shared, &serving, inbox, GENEROUS);
    master.started(workers).await;
    if plan.drains {
        sim::task(operator::run(all.clone(), ledger.clone(), random.fork()));
    }
    let mut talking = Vec::new();
    for _ in 0..clients {
        let (shared, ledger, start) = (shared.clone(), ledger.clone(), random.below(1000));
        let asking = Asking { shared, ledger, random: random.fork(), patience: plan.patience() };
        talking.push(start_after(start, clients::run(asking)));
    }
    if random.chance(300) {
        pause(random.below(3000)).await;
    } else {
        join(talking.drain(..)).await;
        watch::settle(&all, clock::now() + plan.patience()).await;
    }
    stop(&shared, master, serving, GENEROUS, None).await;
    join(talking.into_iter()).await;
    over.set(true);
    checking.await;
    for upstream in &all {
        assert_eq!(
            watch::counts(upstream),
            (0, 0, 0),
            "connections, requests in flight, requests that wait after the drain"
        );
    }
    watch::assert_split(&all[..plan.weights.len()], &plan.weights);
    assert_nothing_is_left();
    Summary { answered: ledger.relayed.get(), clients }
}
