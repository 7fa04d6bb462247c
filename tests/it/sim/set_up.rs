//! What every scenario is made of: how a world is built, workers with their master in it, and how all of that ends.

use super::app;
use super::clients::Talk;
use ringfort::clock::{self, Moment};
use ringfort::conn::{Rates, Settings, Timeouts};
use ringfort::handler::Routes;
use ringfort::http::HeadLimits;
use ringfort::limits::TIMER_GRAIN_MS;
use ringfort::master::{Note, Signal, Supervisor};
use ringfort::metrics::ShardWriter;
use ringfort::metrics::shard::Shard;
use ringfort::pool;
use ringfort::rt::sim::{self, CoreOptions, Faults, Joined, Options, Random, Report, Style};
use ringfort::rt::{self, Mailbox, Postbox, Socket};
use ringfort::worker::{End, News, Order, Worker};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
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
    /// The worker that broke down.
    pub(super) killed: Cell<Option<usize>>,
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
            signals: RefCell::default(),
            cut: Cell::new(0),
            early: RefCell::default(),
            answered: Cell::new(0),
            talks: RefCell::default(),
        }
    }

    /// The workers drain, or one broke down and the others are about to.
    pub(super) fn is_ending(&self) -> bool {
        self.drained.get().is_some() || self.killed.get().is_some()
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
        observing: ringfort::conn::Observing::default(),
    }
}

/// A worker in its own core, and the box for its orders.
pub(super) struct Serving {
    pub(super) orders: Postbox<Order>,
    pub(super) shard: Arc<Shard>,
    ended: Joined<()>,
}

/// Starts a worker with these routes, which breaks down at `kill_at`.
pub(super) fn start_worker_with(
    routes: Arc<Routes>,
    index: usize,
    shared: &Rc<Shared>,
    core: CoreOptions,
    news: &Postbox<News>,
    kill_at: Option<Duration>,
) -> Serving {
    let metrics = ShardWriter::create(index as u32, 1, routes.names().len());
    let shard = metrics.shard();
    let (orders, inbox) = rt::mailbox(16);
    let worker = Worker {
        index,
        count: WORKERS_MAX,
        pin: None,
        executor: rt::Options::default(),
        listeners: vec![Socket::from(sim::listen(shared.address))],
        settings: shared.settings.clone(),
        routes,
        metrics,
        access: None,
        context: Arc::new(app::context),
        orders: inbox,
        news: news.clone(),
    };
    let (shared, news) = (shared.clone(), news.clone());
    let killed = async move {
        match kill_at {
            Some(after) => rt::sleep_until(clock::now() + after).await,
            None => std::future::pending().await,
        }
    };
    let started = rt::Started { executor: rt::Executor::default(), driver: rt::Driver::IoUring, fallback: None };
    let ended = sim::core(core, async move {
        let end = match rt::select(worker.serve(started), killed).await {
            rt::Either::First(cut) => {
                shared.note_end(index, cut);
                End::Left { cut }
            }
            rt::Either::Second(()) => {
                shared.killed.set(Some(index));
                sim::disturb(index + 1);
                End::Panicked
            }
        };
        // After a second signal the master does not wait.
        let _ = news.post(News::Ended(index, end));
    });
    Serving { orders, shard, ended }
}

/// The master's part: its supervisor over these workers, and the box for its signals.
pub(super) struct Mastering {
    pub(super) accepting: Rc<Cell<usize>>,
    ended: Joined<Result<(), String>>,
}

impl Mastering {
    /// Waits until so many workers accept connections.
    pub(super) async fn started(&self, workers: usize) {
        while self.accepting.get() < workers {
            pause(1).await;
        }
    }
}

pub(super) fn start_master(
    shared: &Rc<Shared>,
    serving: &[Serving],
    news: Mailbox<News>,
    patience: Duration,
) -> Mastering {
    let (post, signals) = rt::mailbox(16);
    *shared.signals.borrow_mut() = Some(post);
    let accepting = Rc::new(Cell::new(0));
    let orders = serving.iter().map(|worker| worker.orders.clone()).collect();
    let (shared, count) = (shared.clone(), accepting.clone());
    let note = move |note: Note| match note {
        Note::Accepting(..) => count.set(count.get() + 1),
        Note::Draining => shared.note_drain(patience),
        Note::Tick | Note::Ended(..) | Note::Hangup => {}
    };
    let supervisor = Supervisor::new(orders, patience);
    let ended = sim::task(async move {
        let result = supervisor.run(&news, &signals, note).await;
        result.map_err(|error| error.to_string())
    });
    Mastering { accepting, ended }
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
    serving: Vec<Serving>,
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
    let all_alive = shared.killed.get().is_none();
    assert_eq!(result.is_ok(), all_alive, "{result:?}");
    for worker in serving {
        worker.ended.await;
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
