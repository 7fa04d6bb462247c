//! The master: opens the listening sockets, starts the workers, watches over them, aggregates their metrics, answers on
//! the admin listener, and stops all of it on a signal.
//!
//! It runs on the thread that called it and never stands on a request's path. What it does is divided into services of
//! [`crate::lifecycle`] (`parts.rs`), beside those that a program adds.

mod admin_listener;
mod backoff;
mod logs;
mod memory;
mod parts;
mod reload;
mod sockets;
mod spawn;
mod succession;
mod supervisor;
mod upgrade;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::admin::{self, Cause, Ended, ReloadRequest, State, UpgradeRequest, Upgrades, WorkerState};
use crate::clock;
use crate::config::{Plan, Snapshot};
use crate::lifecycle::{LaunchError, Launcher, Phase};
use crate::limits::CONTROL_MESSAGES_MAX;
use crate::log::LogGuard;
use crate::log::access::AccessLog;
use crate::metrics::aggregate::Tick;
use crate::plugin;
use crate::proxy::Attendants;
use crate::rt::{self, Mailbox, Postbox, RunError};
use crate::sys;
use crate::worker::{MakeContext, Order};
use admin_listener::AdminSocket;
use logs::Unwritten;
use memory::GiveBack;
use reload::Reloader;
use spawn::{Spawner, Threads, duplicates, label};
use supervisor::PATIENCE;
use upgrade::Upgrader;

pub use reload::{Changing, Source};
pub use sockets::{Listening, open_group, share_out};
pub use succession::{Host, Succession};
pub use supervisor::{Crew, Note, Orders, Signal, Supervisor};
pub use upgrade::{Origin, OriginError};

/// Submission queue entries of the master's executor.
const MASTER_RING_ENTRIES: u32 = 256;
/// Receive buffers of the master's executor.
const MASTER_RING_BUFFERS: u16 = 64;
/// Descriptors besides those of client connections: listeners, rings, logs, files that are being sent.
const DESCRIPTORS_TO_SPARE: u64 = 1024;
/// How long after connections have gone their memory is given back: two of the workers' looks at themselves, and some.
const GIVE_BACK_AFTER: Duration = Duration::from_millis(2500);

/// What is served, and how.
pub struct Service {
    /// The compiled config.
    pub snapshot: Snapshot,
    /// Which cores do what.
    pub plan: Plan,
    /// Makes what handlers find under `Exchange::context`, once for each worker.
    pub context: MakeContext,
    /// Keeps the process log's writer; `None`: the log is the application's own affair.
    pub log: Option<LogGuard>,
    /// Where the next config comes from.
    pub source: Source,
    /// How this process was started.
    pub origin: Origin,
}

/// Why serving could not begin, or ended otherwise than it was told to.
#[derive(Debug)]
pub enum ServeError {
    /// An address cannot be listened on.
    Listen {
        /// Which one.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// Connections cannot be steered by CPU.
    Steer(io::Error),
    /// A listening socket could not be duplicated.
    Duplicate(io::Error),
    /// Signals could not be armed.
    Signals(io::Error),
    /// A thread could not be started.
    Thread(io::Error),
    /// The access log's file cannot be opened, or its thread not be started.
    AccessLog(io::Error),
    /// An executor could not be built.
    Executor(RunError),
    /// A worker ended by itself.
    Worker {
        /// Which one.
        index: usize,
        /// Why.
        reason: String,
    },
    /// A plugin refuses its config.
    Plugin {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// A part of the program could not start, or failed.
    Launch(LaunchError),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen { address, error } => write!(f, "cannot listen on {address}: {error}"),
            Self::Steer(error) => write!(f, "cannot steer connections by CPU (cores.steering): {error}"),
            Self::Duplicate(error) => write!(f, "cannot hand a listening socket to a worker: {error}"),
            Self::Signals(error) => write!(f, "cannot arm signals: {error}"),
            Self::AccessLog(error) => write!(f, "cannot open the access log (log.access_file): {error}"),
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
            Self::Executor(error) => error.fmt(f),
            Self::Worker { index, reason } => write!(f, "worker {index} ended: {reason}"),
            Self::Plugin { name, reason } => write!(f, "the plugin {name:?} refuses: {reason}"),
            Self::Launch(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ServeError {}

/// Serves until SIGTERM or SIGINT, and returns when everything in flight has ended or the drain time-out has run out. A
/// second signal ends it at once.
///
/// # Errors
/// See [`ServeError`]; nothing is left running then.
pub fn serve(service: Service) -> Result<(), ServeError> {
    serve_with(service, Launcher::new())
}

/// The same, with the initializers, services and checks of a program: its services start before the workers and stop after
/// them, unless they say that they come after the service `workers`.
///
/// # Errors
/// See [`ServeError`]; nothing is left running then.
pub fn serve_with(mut service: Service, launcher: Launcher) -> Result<(), ServeError> {
    // Armed first, so that a signal during the start is not lost but stops what has started.
    let (signal_post, signals) = rt::mailbox(CONTROL_MESSAGES_MAX);
    let reloads = admin::reload_requests();
    let reload_post = reloads.0.clone();
    let upgrades = Upgrades::new();
    let (posted, upgrade_post) = (signal_post.clone(), upgrades.0.post());
    let armed = sys::signal::arm(move |name| {
        // A full mailbox holds signals enough, and one of the reloads that wait in it will read the config after this.
        let _ = match name {
            "SIGHUP" => reload_post.post(ReloadRequest { cause: Cause::Signal, reply: None }).is_ok(),
            // One of those that wait replaces this process, or says why it cannot be.
            "SIGUSR2" => upgrade_post.post(UpgradeRequest { cause: Cause::Signal, reply: None }).is_ok(),
            name => posted.post(Signal(name)).is_ok(),
        };
    })
    .map_err(ServeError::Signals)?;
    let config = &service.snapshot.config;
    sys::memory::return_large_allocations();
    let open_files = sys::limits::raise_open_files();
    if let Some(limit) = open_files.soft
        && limit < config.server.limits.connections as u64 + DESCRIPTORS_TO_SPARE
    {
        tracing::warn!(
            limit,
            connections = config.server.limits.connections,
            "the limit on open files is below server.limits.connections: when it is reached, accepting rests"
        );
    }
    // A reload may be the first to need it, on a thread that gives way.
    plugin::wasm::start().map_err(ServeError::Thread)?;
    let plugins = service.snapshot.plugins.init();
    plugins.map_err(|(name, reason)| ServeError::Plugin { name, reason })?;
    let access = Arc::new(logs::open_access_log(&service.snapshot).map_err(ServeError::AccessLog)?);
    // Outlives everything that logs.
    let log = service.log.take().map(Rc::new);
    let inheritance = service.origin.inheritance();
    let listening = Listening::open(config, &service.plan.workers, inheritance)?;
    let admin_socket = config.admin.listen.map(|wanted| AdminSocket::open(wanted, inheritance)).transpose()?;
    // The admin listener needs few buffers; the memory of a worker's ring would be wasted on it.
    let executor = rt::Options {
        ring_entries: MASTER_RING_ENTRIES,
        ring_buffers: MASTER_RING_BUFFERS,
        ..service.snapshot.executor
    };
    let requests = Requests { reloads, upgrades, signals: signal_post };
    let logs = (access, log.clone());
    let result = rt::run(&executor, |_| run(service, launcher, listening, admin_socket, signals, requests, logs));
    drop(armed);
    result.map_err(ServeError::Executor)?
}

/// What is asked of the master besides to stop, with who may ask.
struct Requests {
    reloads: (Postbox<ReloadRequest>, Mailbox<ReloadRequest>),
    upgrades: (Upgrades, Mailbox<UpgradeRequest>),
    /// Where a successor's predecessor tells itself to leave.
    signals: Postbox<Signal>,
}

async fn run(
    service: Service,
    mut launcher: Launcher,
    listening: Listening,
    admin_socket: Option<AdminSocket>,
    signals: Mailbox<Signal>,
    requests: Requests,
    (access, log): (Arc<AccessLog>, Option<Rc<LogGuard>>),
) -> Result<(), ServeError> {
    let Service { snapshot, plan, context, log: _, source, origin } = service;
    let Requests { reloads, upgrades: (upgrades, upgrade_requests), signals: signal_post } = requests;
    if plan.pin
        && let Some(core) = plan.master
    {
        sys::cpu::pin(core);
    }
    for note in &plan.notes {
        tracing::info!("{note}");
    }
    let stall = snapshot.config.cores.stall;
    let states = (0..plan.workers.len())
        .map(|index| WorkerState::new(label(&plan, index), plan.pin.then(|| plan.workers[index]), stall));
    let drain = Rc::new(Cell::new(snapshot.config.server.timeouts.drain));
    let state = Rc::new(State::new(
        Arc::new(snapshot),
        states.collect(),
        listening.addresses(),
        admin_socket.as_ref().map(|admin| admin.address),
        count_dropped(log.clone()),
        (reloads.0.clone(), upgrades),
        launcher.overview(),
    ));
    let orders = Orders::new(Vec::new());
    let listening = Rc::new(RefCell::new(listening));
    let changing = Rc::new(Cell::new(Changing::Nothing));
    let admin = admin_socket.map(|socket| socket.listener(&state, &state.snapshot()));
    let shared = (listening.clone(), orders.clone(), plan.workers.clone());
    let upgrader = Upgrader::new(origin, state.clone(), shared, admin, changing.clone(), signal_post);
    let reloader = Rc::new(Reloader {
        source,
        state: state.clone(),
        changing,
        orders: orders.clone(),
        taken_up: RefCell::new(vec![state.generation(); plan.workers.len()]),
        cores: plan.workers.clone(),
        listening: listening.clone(),
        attendants: RefCell::new(Attendants::new(clock::wall().as_nanos() as u64)),
        plugin_attendants: RefCell::default(),
        drain: drain.clone(),
        access: access.clone(),
    });
    let (news_post, news) = rt::mailbox(CONTROL_MESSAGES_MAX);
    let unwritten = Unwritten::new(access.clone(), log);
    let spawner = Spawner { plan, context, news: news_post, access };
    let (threads, give_back) = (Threads::default(), RefCell::default());
    let master = Rc::new(Master {
        state,
        threads,
        spawner,
        orders,
        listening,
        give_back,
        reloader,
        upgrader,
        unwritten,
        drain,
        stall,
    });
    parts::declare(&mut launcher, &master, news, (reloads, upgrade_requests));
    let watching = master.clone();
    let result = launcher.run(&signals, move |phase| watching.note_phase(phase)).await;
    // Whoever still runs was abandoned, or cut by a second signal.
    master.orders.give(|_| Order::Stop);
    master.join().await;
    master.unwritten.finish().await;
    tracing::info!("stopped");
    result.map_err(ServeError::Launch)
}

/// How many log lines were dropped so far.
fn count_dropped(log: Option<Rc<LogGuard>>) -> Box<dyn Fn() -> u64> {
    Box::new(move || log.as_ref().map_or(0, |log| log.dropped()))
}

struct Master {
    state: Rc<State>,
    threads: Threads,
    spawner: Spawner,
    orders: Rc<Orders>,
    /// Gone from the moment when the workers drain: see [`Listening`].
    listening: Rc<RefCell<Listening>>,
    give_back: RefCell<GiveBack>,
    reloader: Rc<Reloader>,
    upgrader: Rc<Upgrader>,
    unwritten: Unwritten,
    /// How long a drain may take, as the config in force says.
    drain: Rc<Cell<Duration>>,
    stall: Duration,
}

impl Master {
    /// Starts the workers' threads.
    fn start_workers(&self) -> Result<(), ServeError> {
        let (snapshot, generation) = (self.state.snapshot(), self.state.generation());
        let (running, posts) = self.spawner.spawn_all(&snapshot, generation, &self.listening.borrow())?;
        for (worker, running) in self.state.workers_mut().iter_mut().zip(&running) {
            worker.start(running.shard.clone());
        }
        self.threads.begin(running);
        self.orders.begin(posts);
        Ok(())
    }

    /// Starts worker `index` anew, by the config that is in force now.
    fn restart_worker(&self, index: usize) -> Result<Postbox<Order>, ServeError> {
        let listeners = duplicates(&self.listening.borrow(), index)?;
        let generation = self.state.generation();
        let (worker, orders) = self.spawner.spawn(index, &self.state.snapshot(), generation, listeners)?;
        self.reloader.note_taken_up(index, generation);
        self.state.workers_mut()[index].start(worker.shard.clone());
        self.threads.replace(index, worker);
        Ok(orders)
    }

    /// Keeps the state that the admin listener shows.
    fn note(&self, note: Note) {
        match note {
            Note::Accepting(index, started) => self.note_accepting(index, started),
            Note::TookUp(index, generation) => self.reloader.note_taken_up(index, generation),
            Note::Down(index, reason, _) => self.note_down(index, reason),
            Note::Stalled(index, age) => self.note_stalled(index, age),
            Note::Resumed(index, after) => tracing::info!(worker = index, ?after, "a worker that had stalled goes on"),
            Note::Ended(index, Ok(())) => self.state.workers_mut()[index].ended = Some(Ended::Stopped),
            Note::Ended(index, Err(reason)) => self.state.workers_mut()[index].ended = Some(Ended::Died(reason)),
            // The workers are the last to hold their sockets, and close them when nobody is left in their queues.
            Note::Draining => drop(self.listening.take()),
            // Time has its own service.
            Note::Tick => {}
        }
    }

    fn note_accepting(&self, index: usize, started: rt::Started) {
        let worker = &mut self.state.workers_mut()[index];
        worker.started = Some(started);
        if worker.restarts > 0 {
            tracing::info!(worker = index, "a worker that broke down accepts connections again");
        }
    }

    /// Whether every worker accepts connections, or has done so.
    fn all_accept(&self) -> bool {
        self.state.workers().iter().all(|worker| worker.started.is_some())
    }

    /// Tells whoever waits for it that the process serves, or that it stops to.
    fn note_phase(&self, phase: Phase) {
        match phase {
            Phase::Serving => self.note_serving(),
            Phase::Draining => self.upgrader.note_draining(),
            Phase::Initializing | Phase::Starting | Phase::RollingBack | Phase::Stopping | Phase::Stopped => {}
        }
    }

    /// Tells where the process listens: who waits for that line may send requests, and signals.
    fn note_serving(&self) {
        let workers = self.state.workers();
        if let Some(refusal) = workers.iter().find_map(|worker| worker.started.as_ref()?.fallback.as_ref()) {
            tracing::warn!(
                cause = %refusal,
                fix = refusal.fix(),
                "io_uring cannot be used: the workers run on epoll, which costs more CPU per request"
            );
        }
        let executor = workers[0].started.as_ref().map(|started| started.executor.name());
        let driver = workers[0].started.as_ref().map(|started| started.driver.name());
        for address in self.state.listen() {
            tracing::info!(%address, workers = workers.len(), executor, driver, "listening");
        }
        drop(workers);
        self.upgrader.note_serving();
        self.upgrader.complete_listening(self.state.snapshot().config.cores.steering);
    }

    /// A worker broke down.
    fn note_down(&self, index: usize, reason: String) {
        self.threads.note_down(index);
        self.state.workers_mut()[index].ended = Some(Ended::Restarts(reason));
    }

    fn note_stalled(&self, index: usize, age: Duration) {
        let worker = &mut self.state.workers_mut()[index];
        worker.stalls += 1;
        let last_activity = worker.last_activity(&self.state.route_labels());
        tracing::warn!(worker = index, ?age, last_activity, "a worker has stalled: it turns to nobody else");
    }

    fn tick(&self) {
        self.reloader.free_unused();
        let (shards, open, closed) = self.threads.read();
        self.give_back(open, closed);
        let now = Duration::from_nanos(clock::now().as_nanos());
        // Too early is right: events come between the ticks.
        if self.state.aggregator_mut().tick(now, shards) == Tick::Taken {
            self.threads.forget_last_words();
        }
    }

    fn give_back(&self, open: u64, closed: u64) {
        if self.give_back.borrow_mut().is_due(open, closed, clock::now()) {
            rt::spawn(async {
                // After the workers have freed what they keep.
                rt::sleep_until(clock::now() + GIVE_BACK_AFTER).await;
                rt::blocking(sys::memory::give_back).await;
            });
        }
    }

    /// Joins the threads that end; one that hangs is left to the end of the process.
    async fn join(&self) {
        let until = clock::now() + PATIENCE;
        for thread in self.threads.take() {
            let ended = rt::look_every(Duration::from_millis(1), until, || thread.is_finished().then_some(())).await;
            if ended.is_some() {
                // Its panic, if any, was reported by its farewell.
                let _ = thread.join();
            }
        }
    }
}
