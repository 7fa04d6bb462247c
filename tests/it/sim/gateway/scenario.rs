//! One seed: workers that forward, clients before them, servers behind them, checks of these, and the drain at the end.

use super::super::scenario::{
    GENEROUS, LATENCY_MAX_MS, PIPE_BYTES_MAX, Serving, Shared, Summary, join, settings, start_master,
    start_worker_with, stop,
};
use super::clients::{self, Asking};
use super::ledger::Ledger;
use super::servers::{self, Server};
use super::watch;
use ringfort::clock;
use ringfort::conn::Settings;
use ringfort::handler::{Handler, RouteName, Routes};
use ringfort::http::MethodSet;
use ringfort::pool;
use ringfort::proxy::{
    Balance, BreakerSpec, EjectionSpec, HashAlgorithm, HashKey, HealthSpec, HostRewrite, PathRewrite, PoolSpec, Probe,
    Proxy, ProxySpec, RetrySpec, ServerAddress, ServerSpec, Target, UpstreamLimits, UpstreamSpec, UpstreamTimeouts,
    Upstreams, run_checks,
};
use ringfort::router::{Predicates, RouteSpec, RouterBuf};
use ringfort::rt;
use ringfort::rt::sim::{self, CoreOptions, Faults, Options, Random, Report, Style};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// For an exchange in all.
const TOTAL: Duration = Duration::from_secs(6);
/// For one step of it.
const STEP: Duration = Duration::from_secs(1);
/// What an answer may take beyond [`TOTAL`]: its way through small pipes.
const WAY: Duration = Duration::from_secs(5);

/// What goes wrong by itself. The faults of the network excuse clients from most checks, so most seeds have none.
fn faults(random: &mut Random) -> Faults {
    Faults {
        spurious_polls: *random.pick(&[0, 10, 100]),
        pauses: *random.pick(&[0, 0, 1]),
        short_sends: *random.pick(&[0, 100, 500]),
        refused_sends: *random.pick(&[0, 20, 200]),
        failed_sends: *random.pick(&[0, 0, 0, 10]),
        resets: *random.pick(&[0, 0, 0, 2]),
        stalls: *random.pick(&[0, 0, 0, 2]),
        shortages: *random.pick(&[0, 50, 500]),
        ..Faults::default()
    }
}

/// A server's address.
pub(super) fn address(server: usize) -> SocketAddr {
    SocketAddr::from(([10, 2, 0, server as u8 + 1], 80))
}

fn balance(random: &mut Random) -> Balance {
    let hash = |algorithm| Balance::Hash { algorithm, key: HashKey::Path };
    match random.below(6) {
        0 => Balance::RoundRobin,
        1 => Balance::Random,
        2 => Balance::LeastConn,
        3 => hash(HashAlgorithm::Rendezvous),
        _ => Balance::P2c,
    }
}

fn upstream(random: &mut Random) -> UpstreamSpec {
    let server =
        |server| ServerSpec { address: ServerAddress::Socket(address(server)), weight: 1, backup: false, drain: false };
    let probe = Probe::Http { path: "/healthz".to_owned(), host: None, statuses: vec![Probe::SUCCESS] };
    UpstreamSpec {
        name: "api".to_owned(),
        servers: (0..random.between(1, 3) as usize).map(server).collect(),
        balance: balance(random),
        slow_start: Duration::from_secs(random.below(2)),
        pool: PoolSpec {
            idle_per_core: *random.pick(&[0, 1, 4, 4]),
            idle_timeout: *random.pick(&[Duration::from_millis(200), 2 * STEP]),
            age: *random.pick(&[STEP, 100 * STEP]),
            requests: *random.pick(&[2, 1000]),
        },
        timeouts: UpstreamTimeouts { connect: STEP / 2, response: STEP, idle: STEP, total: TOTAL },
        retry: RetrySpec {
            attempts: random.between(1, 3) as u32,
            budget: *random.pick(&[0.2, 1.0]),
            statuses: if random.chance(500) { vec![503] } else { Vec::new() },
        },
        hedge_after: random.chance(200).then_some(STEP / 5),
        health: random.chance(500).then(|| HealthSpec {
            probe,
            interval: STEP / 3,
            timeout: STEP / 4,
            fall: 2,
            rise: 1,
            ..HealthSpec::default()
        }),
        ejection: random.chance(500).then(|| EjectionSpec {
            consecutive_failures: 3,
            duration: STEP / 2,
            duration_max: 2 * STEP,
            percent_max: 50,
        }),
        breaker: random.chance(500).then(|| BreakerSpec { consecutive_failures: 3, open: STEP / 2 }),
        limits: UpstreamLimits { connections: *random.pick(&[1, 2, 4, 100]), pending: *random.pick(&[1, 4, 100]) },
    }
}

/// The routes of a gateway: everything below `/p/` goes to the only upstream.
pub(super) fn routes(upstreams: &Upstreams) -> Arc<Routes> {
    let spec = ProxySpec {
        targets: vec![Target { upstream: 0, weight: 1 }],
        path: PathRewrite::Keep,
        host: HostRewrite::Keep,
        trust: Vec::new(),
        x_forwarded: true,
        forwarded: false,
        via: Some("ringfort".to_owned()),
        request_fields: Vec::new(),
        response_fields: Vec::new(),
        upgrade: false,
        mirror: None,
    };
    let proxy = Proxy::new(spec, &["id"], upstreams).expect("the path has no template");
    let route = RouteSpec { host: None, pattern: "/p/:id", methods: MethodSet::EMPTY, predicates: Predicates::NONE };
    let router = RouterBuf::build(&[route]).expect("one route is no conflict");
    let handlers: Vec<Box<dyn Handler>> = vec![Box::new(proxy)];
    let names = vec![RouteName { label: "/p/:id".to_owned(), kind: "proxy" }];
    Arc::new(Routes::new(&[], router, handlers, names))
}

/// Runs one seed.
pub(super) fn run(seed: u64, planted: Option<sim::Bug>, trace_lines: usize) -> Report<Summary> {
    let mut random = Random::new(seed ^ 0x9a7e);
    let faults = faults(&mut random);
    let options = Options {
        seed,
        faults,
        planted,
        trace_lines,
        latency_max_ms: LATENCY_MAX_MS,
        pipe_bytes_max: PIPE_BYTES_MAX,
        ..Options::default()
    };
    sim::run(options, move || scenario(random))
}

fn start_servers(random: &mut Random, ledger: &Rc<Ledger>, count: usize) {
    for number in 0..count {
        let server = Server {
            ledger: ledger.clone(),
            faulty: *random.pick(&[0, 100, 300, 700]),
            away: *random.pick(&[0, 0, 100, 400]),
            slowest: STEP + STEP / 2,
            random: RefCell::new(random.fork()),
        };
        sim::task(servers::run(sim::serve(address(number)), Rc::new(server)));
    }
}

async fn scenario(mut random: Random) -> Summary {
    let upstreams = Upstreams::new(vec![upstream(&mut random)]);
    let upstream = upstreams.get(0).expect("it is the only one").clone();
    sim::note(format_args!("{:?}", upstream.spec));
    let workers = random.between(1, 2) as usize;
    let clients = random.between(2, 8) as usize;
    let style = *random.pick(&[Style::Multishot, Style::Multishot, Style::Readiness]);
    let buffer_bytes = *random.pick(&[100, 1024, 4096]);
    // Enough for all that may be under way at once.
    let core = CoreOptions { style, buffers: 4 * clients * (PIPE_BYTES_MAX / buffer_bytes + 1), buffer_bytes };
    let settings = Settings { connections: 100, body: 1 << 20, ..settings(&mut random) };
    let shared = Rc::new(Shared::new(settings, false, false));
    let ledger = Rc::new(Ledger::new(upstream.spec.retry.attempts));
    start_servers(&mut random, &ledger, upstream.servers.len());
    let (news, inbox) = rt::mailbox(16);
    let routes = routes(&upstreams);
    let start = |index| start_worker_with(routes.clone(), index, &shared, core, &news, None);
    let serving: Vec<Serving> = (0..workers).map(start).collect();
    watch::begin(upstream.clone(), workers);
    let over = Rc::new(Cell::new(false));
    let (told, seed) = (over.clone(), random.next());
    let checking = sim::core(CoreOptions { style, buffers: 64, buffer_bytes: 1024 }, async move {
        run_checks(&upstreams, seed);
        while !told.get() {
            pause(20).await;
        }
    });
    let master = start_master(&shared, &serving, inbox, GENEROUS);
    while master.accepting.get() < workers {
        pause(1).await;
    }
    let mut talking = Vec::new();
    for _ in 0..clients {
        let start = random.below(1000);
        let (shared, ledger, random) = (shared.clone(), ledger.clone(), random.fork());
        let asking = Asking { shared, ledger, random, patience: TOTAL + WAY };
        talking.push(sim::task(async move {
            pause(start).await;
            clients::run(asking).await;
        }));
    }
    if random.chance(300) {
        pause(random.below(3000)).await;
    } else {
        join(talking.drain(..)).await;
        watch::settle(&upstream, clock::now() + TOTAL + WAY).await;
    }
    stop(&shared, master, serving, GENEROUS, None).await;
    join(talking.into_iter()).await;
    over.set(true);
    checking.await;
    assert_eq!(
        watch::counts(&upstream),
        (0, 0, 0),
        "connections, requests in flight, requests that wait after the drain"
    );
    assert_eq!(sim::open_connections_in_all(), 0, "connections are open after the drain");
    assert_eq!(pool::counters().in_use, 0, "pooled buffers are in use after the drain");
    Summary { answered: ledger.relayed.get(), clients }
}

async fn pause(ms: u64) {
    rt::sleep_until(clock::now() + Duration::from_millis(ms)).await;
}
