//! What every scenario is made of: how a world is built, workers with their master in it, and how all of that ends.

use super::app;
use super::clients::Talk;
use ringfort::clock::{self, Moment};
use ringfort::conn::{Rates, Settings, Timeouts};
use ringfort::handler::Routes;
use ringfort::http::HeadLimits;
use ringfort::limits::TIMER_GRAIN_MS;
use ringfort::master::{Crew, Note, Orders, ServeError, Signal, Supervisor};
use ringfort::metrics::ShardWriter;
use ringfort::metrics::shard::Shard;
use ringfort::pool;
use ringfort::rt::sim::{self, CoreOptions, Faults, Joined, Options, Random, Report, Socket, Style};
use ringfort::rt::{self, Mailbox, Postbox};
use ringfort::worker::{End, News, Order, Worker};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// What the world's delays may add to any bound: pauses, polls that take time, retries for want of buffers.
pub(super) const SLACK: Duration = Duration::from_millis(250);
pub(super) const LATENCY_MAX_MS: u64 = 20;
/// Workers of which each has its share of what is bounded for the process.
pub(super) const WORKERS_MAX: usize = 2;
pub(super) const PIPE_BYTES_MAX: usize = 64 * 1024;
/// Longer than any handler takes.
pub(super) const GENEROUS: Duration = Duration::from_secs(20);
/// After how long a worker counts as stalled.
pub(super) const STALL: Duration = Duration::from_secs(2);

/// What all parts of one run know.
pub(super) struct Shared {
    pub(super) address: SocketAddr,
    pub(super) settings: Settings,
    /// When the drain began.
    pub(super) drained: Cell<Option<Moment>>,
    /// The drain has time for all, and the core has buffers for all: what has arrived when it begins is answered.
    pub(super) is_patient: bool,
    /// Reads of the disk may fail.
    pub(super) disk_fails: bool,
    /// The worker that broke down last.
    pub(super) killed: Cell<Option<usize>>,
    /// A worker was down when the drain began, or broke down in it: it was not started again.
    pub(super) is_lost: Cell<bool>,
    signals: RefCell<Option<Postbox<Signal>>>,
    /// Connections that workers left open at their end.
    pub(super) cut: Cell<usize>,
    /// Bytes that came before their connections were accepted.
    pub(super) early: RefCell<BTreeMap<usize, Vec<u8>>>,
    /// Answers that were checked and right.
    pub(super) answered: Cell<u64>,
    pub(super) talks: RefCell<Vec<Rc<Talk>>>,
}

impl Shared {
    pub(super) fn new(settings: Settings, is_patient: bool, disk_fails: bool) -> Self {
        Self {
            address: SocketAddr::from(([10, 1, 0, 1], 80)),
            settings,
            drained: Cell::new(None),
            is_patient,
            disk_fails,
            killed: Cell::new(None),
            is_lost: Cell::new(false),
            signals: RefCell::default(),
            cut: Cell::new(0),
            early: RefCell::default(),
            answered: Cell::new(0),
            talks: RefCell::default(),
        }
    }

    /// The workers drain.
    pub(super) fn is_ending(&self) -> bool {
        self.drained.get().is_some()
    }

    /// Signals the master.
    pub(super) fn signal(&self) {
        let signals = self.signals.borrow();
        // It may have ended, if a worker broke down.
        let _ = signals.as_ref().expect("the master was started").post(Signal("TERM"));
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

/// Plays a scenario in the world of a seed.
pub(super) fn play_seed<F: Future<Output = Summary> + 'static>(
    seed: u64,
    faults: Faults,
    planted: Option<sim::Bug>,
    trace_lines: usize,
    scenario: impl FnOnce() -> F + Send,
) -> Report<Summary> {
    let options = Options {
        seed,
        faults,
        planted,
        trace_lines,
        latency_max_ms: LATENCY_MAX_MS,
        pipe_bytes_max: PIPE_BYTES_MAX,
        ..Options::default()
    };
    sim::run(options, scenario)
}

/// A core's receives and buffers; how many of these depends on their size.
pub(super) fn core_options(
    random: &mut Random,
    buffer_bytes: &[usize],
    buffers: impl FnOnce(&mut Random, usize) -> usize,
) -> CoreOptions {
    let buffer_bytes = *random.pick(buffer_bytes);
    let buffers = buffers(random, buffer_bytes);
    let style = *random.pick(&[Style::Multishot, Style::Multishot, Style::Readiness]);
    CoreOptions { style, buffers, buffer_bytes }
}

/// Faults that everything must bear; the network's own excuse whom they hit from most checks, so most seeds have none.
pub(super) fn faults(random: &mut Random) -> Faults {
    Faults {
        spurious_polls: *random.pick(&[0, 10, 100]),
        short_sends: *random.pick(&[0, 100, 500]),
        refused_sends: *random.pick(&[0, 20, 200]),
        resets: *random.pick(&[0, 0, 0, 2]),
        stalls: *random.pick(&[0, 0, 0, 2]),
        ..Faults::default()
    }
}

pub(super) fn settings(random: &mut Random) -> Settings {
    let second = Duration::from_secs(1);
    Settings {
        head: HeadLimits::default(),
        body: super::oracle::BODY_MAX,
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

/// A worker in its own core, and all that it takes to start it again.
pub(super) struct Serving {
    routes: Arc<Routes>,
    index: usize,
    shared: Rc<Shared>,
    options: CoreOptions,
    news: Postbox<News>,
    /// Its listening socket, as the master keeps it until the drain.
    socket: RefCell<Option<Socket>>,
    /// After how long its lives end that do not last.
    kills: RefCell<VecDeque<Duration>>,
    orders: RefCell<Option<Postbox<Order>>>,
    shard: RefCell<Option<Arc<Shard>>>,
    ended: RefCell<Option<Joined<()>>>,
    /// The world's core that it runs on, or ran on last.
    pub(super) core: Cell<usize>,
    /// When it broke down, while it is down.
    pub(super) down_since: Cell<Option<Moment>>,
    /// Times that it broke down.
    breakdowns: Cell<u32>,
    /// When it was started, each time.
    pub(super) starts: RefCell<Vec<Moment>>,
}

impl Serving {
    /// What it counts.
    pub(super) fn shard(&self) -> Arc<Shard> {
        self.shard.borrow().clone().expect("it was started")
    }

    fn orders(&self) -> Postbox<Order> {
        self.orders.borrow().clone().expect("it was started")
    }

    /// How long it has to be down: 100 ms at first, and twice as long each time, to ten seconds.
    fn wait(&self) -> Duration {
        Duration::from_millis(100 << (self.breakdowns.get() - 1)).min(Duration::from_secs(10))
    }

    /// Starts it, at first and again.
    fn start(self: &Rc<Self>) {
        let now = clock::now();
        if let Some(since) = self.down_since.take() {
            assert!(self.shared.drained.get().is_none(), "a worker is started again in a drain");
            let (was_down, wait) = (now.since(since), self.wait());
            let range = wait..=wait + SLACK;
            assert!(range.contains(&was_down), "worker {} was down for {was_down:?}, not {wait:?}", self.index);
        }
        self.starts.borrow_mut().push(now);
        let metrics = ShardWriter::create(self.index as u32, 1, self.routes.names().len());
        *self.shard.borrow_mut() = Some(metrics.shard());
        let (orders, inbox) = rt::mailbox(16);
        *self.orders.borrow_mut() = Some(orders);
        let socket = self.socket.borrow().as_ref().expect("not in a drain").another_listener();
        let worker = Worker {
            index: self.index,
            count: WORKERS_MAX,
            pin: None,
            executor: rt::Options::default(),
            listeners: vec![(self.shared.address, rt::Socket::from(socket))],
            stall: STALL,
            settings: self.shared.settings.clone(),
            routes: self.routes.clone(),
            metrics,
            context: Arc::new(app::context),
            orders: inbox,
            news: self.news.clone(),
        };
        let kill_at = self.kills.borrow_mut().pop_front();
        let killed = async move {
            match kill_at {
                Some(after) => rt::sleep_until(clock::now() + after).await,
                None => std::future::pending().await,
            }
        };
        self.core.set(sim::count_cores());
        let serving = self.clone();
        let started = rt::Started { executor: rt::Executor::default(), driver: rt::Driver::IoUring, fallback: None };
        let ended = sim::core(self.options, async move {
            let end = match rt::select(worker.serve(started), killed).await {
                rt::Either::First(cut) => {
                    serving.shared.note_end(serving.index, cut);
                    End::Left { cut }
                }
                rt::Either::Second(()) => {
                    serving.break_down();
                    End::Panicked
                }
            };
            // After a second signal the master does not wait.
            let _ = serving.news.post(News::Ended(serving.index, end));
        });
        *self.ended.borrow_mut() = Some(ended);
    }

    fn break_down(&self) {
        let shared = &self.shared;
        shared.killed.set(Some(self.index));
        shared.is_lost.set(shared.is_lost.get() || shared.drained.get().is_some());
        self.breakdowns.set(self.breakdowns.get() + 1);
        self.down_since.set(Some(clock::now()));
        sim::disturb(self.core.get());
    }

    /// A worker that is down comes back in time.
    pub(super) fn check_down(&self) -> Result<(), String> {
        let is_draining = self.shared.drained.get().is_some();
        let Some(since) = self.down_since.get().filter(|_| !is_draining) else { return Ok(()) };
        let was_down = clock::now().since(since);
        let is_late = was_down > self.wait() + SLACK;
        if is_late { Err(format!("worker {} has been down for {was_down:?}", self.index)) } else { Ok(()) }
    }
}

/// Starts a worker with these routes, whose lives end after so long each; the one after the last of these stays.
pub(super) fn start_worker_with(
    routes: Arc<Routes>,
    index: usize,
    shared: &Rc<Shared>,
    core: CoreOptions,
    news: &Postbox<News>,
    kills: &[Duration],
) -> Rc<Serving> {
    let serving = Rc::new(Serving {
        routes,
        index,
        shared: shared.clone(),
        options: core,
        news: news.clone(),
        socket: RefCell::new(Some(sim::listen(shared.address))),
        kills: RefCell::new(kills.iter().copied().collect()),
        orders: RefCell::default(),
        shard: RefCell::default(),
        ended: RefCell::default(),
        core: Cell::default(),
        down_since: Cell::default(),
        breakdowns: Cell::default(),
        starts: RefCell::default(),
    });
    serving.start();
    serving
}

/// What the master found of a worker's signs of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Stalled(usize, Moment, Duration),
    Resumed(usize, Moment, Duration),
}

/// The master's part: its supervisor over these workers, and the box for its signals.
pub(super) struct Mastering {
    pub(super) accepting: Rc<Cell<usize>>,
    /// What its supervisor found.
    pub(super) found: Rc<RefCell<Vec<Found>>>,
    ended: Joined<Result<(), String>>,
}

impl Mastering {
    /// Waits until workers have begun to accept connections so often.
    pub(super) async fn started(&self, times: usize) {
        while self.accepting.get() < times {
            pause(1).await;
        }
    }
}

/// What the supervisor works through.
struct Workers {
    shared: Rc<Shared>,
    serving: Vec<Rc<Serving>>,
    patience: Duration,
    accepting: Rc<Cell<usize>>,
    found: Rc<RefCell<Vec<Found>>>,
}

impl Crew for Workers {
    fn start(&self, index: usize) -> Result<Postbox<Order>, ServeError> {
        self.serving[index].start();
        Ok(self.serving[index].orders())
    }

    fn last_beat(&self, index: usize) -> Option<Moment> {
        self.serving[index].shard().last_beat()
    }

    fn note(&self, note: Note) {
        let now = clock::now();
        match note {
            Note::Accepting(..) => self.accepting.set(self.accepting.get() + 1),
            Note::Draining => {
                let is_down = self.serving.iter().any(|worker| worker.down_since.get().is_some());
                self.shared.is_lost.set(self.shared.is_lost.get() || is_down);
                self.shared.note_drain(self.patience);
                self.serving.iter().for_each(|worker| drop(worker.socket.take()));
            }
            Note::Stalled(index, age) => self.found.borrow_mut().push(Found::Stalled(index, now, age)),
            Note::Resumed(index, after) => self.found.borrow_mut().push(Found::Resumed(index, now, after)),
            Note::Tick | Note::Down(..) | Note::Ended(..) | Note::TookUp(..) | Note::Hangup | Note::Upgrade => {}
        }
    }
}

pub(super) fn start_master(
    shared: &Rc<Shared>,
    serving: &[Rc<Serving>],
    news: Mailbox<News>,
    patience: Duration,
) -> Mastering {
    let (post, signals) = rt::mailbox(16);
    *shared.signals.borrow_mut() = Some(post);
    let (accepting, found) = (Rc::new(Cell::new(0)), Rc::default());
    let (shared, serving) = (shared.clone(), serving.to_vec());
    let orders = serving.iter().map(|worker| worker.orders()).collect();
    let workers = Workers { shared, serving, patience, accepting: accepting.clone(), found: Rc::clone(&found) };
    let supervisor = Supervisor::new(Orders::new(orders), Rc::new(Cell::new(patience)), STALL);
    let ended = sim::task(async move {
        let result = supervisor.run(&news, &signals, &workers).await;
        result.map_err(|error| error.to_string())
    });
    Mastering { accepting, found, ended }
}

impl Shared {
    /// The workers are told to drain.
    fn note_drain(&self, patience: Duration) {
        for talk in self.talks.borrow().iter() {
            talk.note_drain();
        }
        assert!(self.drained.get().is_none(), "a drain begins anew");
        self.drained.set(Some(clock::now()));
        sim::note(format_args!("drain, patience {patience:?}"));
    }

    /// A worker left as it was told to.
    fn note_end(&self, index: usize, cut: usize) {
        sim::note(format_args!("worker {index} leaves, {cut} connections are cut"));
        self.cut.set(self.cut.get() + cut);
    }
}

/// Signals the master, once or twice, and waits for all of it to end.
pub(super) async fn stop(
    shared: &Rc<Shared>,
    master: Mastering,
    serving: Vec<Rc<Serving>>,
    patience: Duration,
    stop_after: Option<Duration>,
) {
    if shared.drained.get().is_none() {
        shared.signal();
    }
    let signalled = clock::now();
    let again = shared.clone();
    let second = sim::task(async move {
        if let Some(after) = stop_after {
            rt::sleep_until(clock::now() + after).await;
            again.signal();
        }
    });
    let result = master.ended.await;
    // Of a worker that breaks down on its way out a master that does not wait may not learn.
    if stop_after.is_none() || result.is_err() {
        assert_eq!(result.is_err(), shared.is_lost.get(), "{result:?}");
    }
    for worker in serving {
        let ended = worker.ended.take();
        ended.expect("it was started").await;
    }
    let took = clock::now().since(signalled);
    let most = stop_after.map_or(patience, |after| after.min(patience)) + SLACK;
    assert!(took <= most, "the end took {took:?} from the first signal, at most {most:?} were right");
    let excused = patience < GENEROUS || stop_after.is_some();
    assert!(shared.cut.get() == 0 || excused, "{} connections were cut by a patient drain", shared.cut.get());
    second.await;
}

/// Does the work after so many milliseconds.
pub(super) fn start_after(ms: u64, work: impl Future<Output = ()> + 'static) -> Joined<()> {
    sim::task(async move {
        pause(ms).await;
        work.await;
    })
}

pub(super) async fn join(tasks: impl Iterator<Item = Joined<()>>) {
    for task in tasks {
        task.await;
    }
}

pub(super) async fn pause(ms: u64) {
    rt::sleep_until(clock::now() + Duration::from_millis(ms)).await;
}

/// After the drain.
pub(super) fn assert_nothing_is_left() {
    assert_eq!(sim::open_connections_in_all(), 0, "connections are open after the drain");
    assert_eq!(pool::counters().in_use, 0, "pooled buffers are in use after the drain");
}
