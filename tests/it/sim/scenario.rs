//! One seed: a server, its clients, what goes wrong, and the drain at the end.

use super::app;
use super::clients::{self, Kind, Talk};
use ringfort::clock::{self, Moment};
use ringfort::conn::{Rates, Settings, Timeouts};
use ringfort::handler::Routes;
use ringfort::http::HeadLimits;
use ringfort::limits::{LINGER_MS, TIMER_GRAIN_MS};
use ringfort::metrics::ShardWriter;
use ringfort::pool;
use ringfort::router::RouterBuf;
use ringfort::rt::sim::{self, CoreOptions, Faults, Joined, Options, Random, Report, Style};
use ringfort::rt::{self, Postbox, Socket};
use ringfort::worker::{News, Order, Worker};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// What the world's delays may add to any bound: pauses, polls that take time, retries for want of buffers.
pub(super) const SLACK: Duration = Duration::from_millis(250);
const LATENCY_MAX_MS: u64 = 20;
const PIPE_BYTES_MAX: usize = 64 * 1024;
/// Longer than any handler takes.
const GENEROUS: Duration = Duration::from_secs(20);

/// What all parts of one run know.
pub(super) struct Shared {
    pub(super) address: SocketAddr,
    pub(super) settings: Settings,
    /// When the drain began.
    pub(super) drained: Cell<Option<Moment>>,
    /// The drain has time for all, and the core has buffers for all: what has arrived when it begins is answered.
    pub(super) is_patient: bool,
    /// Answers that were checked and right.
    pub(super) answered: Cell<u64>,
    pub(super) talks: RefCell<Vec<Rc<Talk>>>,
}

impl Shared {
    fn new(settings: Settings, is_patient: bool) -> Self {
        Self {
            address: SocketAddr::from(([10, 1, 0, 1], 80)),
            settings,
            drained: Cell::new(None),
            is_patient,
            answered: Cell::new(0),
            talks: RefCell::default(),
        }
    }

    /// A time-out's bound as a client can see it.
    pub(super) fn bound(&self, timeout: Duration) -> Duration {
        timeout + Duration::from_millis(TIMER_GRAIN_MS + 2 * LATENCY_MAX_MS) + SLACK
    }
}

/// What a run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Summary {
    pub(super) answered: u64,
    pub(super) clients: usize,
}

struct Plan {
    random: Random,
    clients: usize,
    workers: usize,
    core: CoreOptions,
    settings: Settings,
    is_tight: bool,
    /// When the drain begins, if not after all clients.
    drain_at: Option<Duration>,
    patience: Duration,
}

fn settings(random: &mut Random) -> Settings {
    let second = Duration::from_secs(1);
    Settings {
        head: HeadLimits::default(),
        body: 1 << 20,
        connections: random.between(1, 12) as usize,
        timeouts: Timeouts {
            head: 2 * second,
            body: 2 * second,
            idle: 4 * second,
            write: 2 * second,
            ..Timeouts::default()
        },
        rates: Rates::default(),
        keepalive_requests: if random.chance(200) { random.between(1, 8) } else { 1000 },
        keepalive_age: Duration::from_secs(if random.chance(100) { 1 } else { 3600 }),
        server_name: random.chance(500).then(|| "ringfort".to_owned()),
    }
}

fn plan(seed: u64) -> (Plan, Faults) {
    let mut random = Random::new(seed ^ 0x5eed);
    let is_tight = random.chance(300);
    let clients = random.between(2, 12) as usize;
    let buffer_bytes = *random.pick(&[16, 100, 1024, 4096]);
    // Either next to none, or enough for what every client may have under way.
    let ample = clients * (PIPE_BYTES_MAX / buffer_bytes + 1);
    let buffers = if is_tight { random.between(1, 3) as usize } else { ample };
    let style = *random.pick(&[Style::Multishot, Style::Multishot, Style::Readiness]);
    let core = CoreOptions { style, buffers, buffer_bytes };
    let faults = Faults {
        spurious_polls: *random.pick(&[0, 10, 100]),
        pauses: *random.pick(&[0, 1, 5]),
        short_sends: *random.pick(&[0, 100, 500]),
        refused_sends: *random.pick(&[0, 20, 200]),
        failed_accepts: *random.pick(&[0, 0, 100]),
    };
    let drain_at = random.chance(500).then(|| Duration::from_millis(random.below(2500)));
    let patience = if random.chance(700) { GENEROUS } else { Duration::from_millis(random.below(400)) };
    let workers = random.between(1, 2) as usize;
    let settings = settings(&mut random);
    (Plan { random, clients, workers, core, settings, is_tight, drain_at, patience }, faults)
}

/// Runs one seed.
pub(super) fn run(seed: u64, planted: Option<sim::Bug>, trace_lines: usize) -> Report<Summary> {
    let (plan, faults) = plan(seed);
    let options = Options {
        seed,
        faults,
        planted,
        trace_lines,
        latency_max_ms: LATENCY_MAX_MS,
        pipe_bytes_max: PIPE_BYTES_MAX,
        ..Options::default()
    };
    sim::run(options, move || scenario(plan))
}

/// One client sends more than the core's buffers hold behind a request that takes its time; how long another, whose
/// request comes then, waits for its answer.
pub(super) fn run_greedy() -> Report<Duration> {
    sim::run(Options { seed: 1, ..Options::default() }, move || async move {
        let core = CoreOptions { style: Style::Multishot, buffers: 8, buffer_bytes: 100 };
        let (news, _inbox) = rt::mailbox(16);
        let settings = Settings { connections: 10, keepalive_requests: 1000, ..settings(&mut Random::new(0)) };
        let shared = Shared::new(settings, true);
        let serving = start_worker(0, &shared, core, &news);
        rt::sleep_until(clock::now() + Duration::from_millis(10)).await;
        let greedy = sim::connect(shared.address).await.expect("somebody listens");
        let ahead = "GET /fixed HTTP/1.1\r\nHost: sim\r\n\r\n".repeat(50);
        greedy.send(b"GET /slow/1500 HTTP/1.1\r\nHost: sim\r\n\r\n").await.expect("the way is open");
        rt::sleep_until(clock::now() + Duration::from_millis(100)).await;
        greedy.send(ahead.as_bytes()).await.expect("the way is open");
        rt::sleep_until(clock::now() + Duration::from_millis(200)).await;
        let asked = clock::now();
        let modest = sim::connect(shared.address).await.expect("somebody listens");
        modest.send(b"GET /fixed HTTP/1.1\r\nHost: sim\r\n\r\n").await.expect("the way is open");
        let mut answer = modest.recv(1000).await.expect("an answer");
        let waited = clock::now().since(asked);
        // The network delivers in pieces of any size.
        while answer.len() < 12 {
            answer.extend_from_slice(&modest.recv(1000).await.expect("more of the answer"));
        }
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
        drop((greedy, modest));
        drain(&shared, vec![serving], GENEROUS).await;
        waited
    })
}

/// A worker in its own core, and the box for its orders.
struct Serving {
    orders: Postbox<Order>,
    ended: Joined<usize>,
}

fn start_worker(index: usize, shared: &Shared, core: CoreOptions, news: &Postbox<News>) -> Serving {
    let none = RouterBuf::build(&[]).expect("no routes are no conflict");
    let routes = Arc::new(Routes::new(&[&app::ROUTES], none, Vec::new(), Vec::new()));
    let metrics = ShardWriter::create(index as u32, 1, routes.names().len());
    let (orders, inbox) = rt::mailbox(16);
    let worker = Worker {
        index,
        pin: None,
        executor: rt::Options::default(),
        listeners: vec![Socket::from(sim::listen(shared.address))],
        settings: shared.settings.clone(),
        routes,
        metrics,
        context: Arc::new(|| Rc::new(())),
        orders: inbox,
        news: news.clone(),
    };
    let started = rt::Started { executor: rt::Executor::default(), driver: rt::Driver::IoUring, fallback: None };
    Serving { orders, ended: sim::core(core, async move { worker.serve(started).await }) }
}

async fn scenario(plan: Plan) -> Summary {
    let Plan { mut random, clients, workers, core, settings, is_tight, drain_at, patience } = plan;
    // With a buffer or two, one client's requests ahead can hold up another's for longer than the drain's grace.
    let shared = Rc::new(Shared::new(settings, patience == GENEROUS && !is_tight));
    let limit = shared.settings.connections;
    sim::check_each_step(move || {
        let open = sim::open_connections_on_fullest();
        if open > limit { Err(format!("{open} connections open on one core, limit {limit}")) } else { Ok(()) }
    });
    let (news, inbox) = rt::mailbox(16);
    let serving: Vec<Serving> = (0..workers).map(|index| start_worker(index, &shared, core, &news)).collect();
    for _ in 0..workers {
        assert!(matches!(inbox.next().await, Some(News::Accepting(..))), "a worker says that it accepts");
    }
    let mut talking = Vec::new();
    for number in 0..clients {
        let kind = Kind::pick(&mut random, is_tight);
        let start = clock::now() + Duration::from_millis(random.below(1000));
        sim::note(format_args!("client {number}: {kind:?}, starts at {} ms", start.as_nanos() / 1_000_000));
        let (shared, random) = (shared.clone(), random.fork());
        talking.push(sim::task(async move {
            rt::sleep_until(start).await;
            clients::run(kind, shared, random).await;
        }));
    }
    match drain_at {
        Some(after) => rt::sleep_until(clock::now() + after).await,
        None => {
            join(talking.drain(..)).await;
            all_gone(&shared).await;
        }
    }
    drain(&shared, serving, patience).await;
    join(talking.into_iter()).await;
    assert_eq!(sim::open_connections_in_all(), 0, "connections are open after the drain");
    assert_eq!(pool::counters().in_use, 0, "pooled buffers are in use after the drain");
    Summary { answered: shared.answered.get(), clients }
}

async fn join(tasks: impl Iterator<Item = Joined<()>>) {
    for task in tasks {
        task.await;
    }
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

async fn drain(shared: &Shared, serving: Vec<Serving>, patience: Duration) {
    let until = clock::now() + patience;
    for talk in shared.talks.borrow().iter() {
        talk.note_drain();
    }
    shared.drained.set(Some(clock::now()));
    sim::note(format_args!("drain, patience {patience:?}"));
    for worker in &serving {
        worker.orders.post(Order::Drain(until)).expect("room for an order");
    }
    for worker in serving {
        let cut = worker.ended.await;
        let late = clock::now().since(until);
        assert!(late <= SLACK, "the drain ended {late:?} after its deadline");
        assert!(cut == 0 || patience < GENEROUS, "{cut} connections were cut by a patient drain");
    }
}
