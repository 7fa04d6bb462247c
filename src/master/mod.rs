//! The master: opens the listening sockets, starts the workers, watches over them, aggregates their metrics, answers on
//! the admin listener, and stops all of it on a signal.
//!
//! It runs on the thread that called it and never stands on a request's path.

mod logs;
mod memory;
mod sockets;
mod supervisor;

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::admin::{self, Ended, Phase, State, WorkerState};
use crate::clock;
use crate::config::{Plan, Snapshot};
use crate::conn::{self, Core, Settings};
use crate::handler::{self, Routes};
use crate::limits::CONTROL_MESSAGES_MAX;
use crate::log::access::AccessLog;
use crate::metrics::{Counter, Gauge, Shard, ShardWriter};
use crate::proxy;
use crate::router::RouterBuf;
use crate::rt::{self, Listener, Mailbox, Postbox, RunError};
use crate::sys;
use crate::worker::{MakeContext, News, Order, Worker};
use memory::GiveBack;
use supervisor::PATIENCE;

pub use supervisor::{Note, Signal, Supervisor};

/// Submission queue entries of the master's executor.
const MASTER_RING_ENTRIES: u32 = 256;
/// Receive buffers of the master's executor.
const MASTER_RING_BUFFERS: u16 = 64;
/// Descriptors besides those of client connections: listeners, rings, logs, files that are being sent.
const DESCRIPTORS_TO_SPARE: u64 = 1024;
/// How long after connections have gone their memory is given back: two of the workers' looks at themselves, and some.
const GIVE_BACK_AFTER: Duration = Duration::from_millis(2500);
/// Connections that the admin listener holds at once.
const ADMIN_CONNECTIONS: usize = 256;

/// What is served, and how.
pub struct Service {
    /// The compiled config.
    pub snapshot: Snapshot,
    /// Which cores do what.
    pub plan: Plan,
    /// Makes what handlers find under `Exchange::context`, once for each worker.
    pub context: MakeContext,
    /// How many log lines were dropped so far.
    pub log_lines_dropped: Box<dyn Fn() -> u64>,
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
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen { address, error } => write!(f, "cannot listen on {address}: {error}"),
            Self::Steer(error) => write!(f, "cannot steer connections by CPU (cores.steering): {error}"),
            Self::Signals(error) => write!(f, "cannot arm signals: {error}"),
            Self::AccessLog(error) => write!(f, "cannot open the access log (log.access_file): {error}"),
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
            Self::Executor(error) => error.fmt(f),
            Self::Worker { index, reason } => write!(f, "worker {index} ended: {reason}"),
        }
    }
}

impl std::error::Error for ServeError {}

/// A started worker.
struct Running {
    orders: Postbox<Order>,
    thread: JoinHandle<()>,
    shard: Arc<Shard>,
}

/// Serves until SIGTERM or SIGINT, and returns when everything in flight has ended or the drain time-out has run out. A
/// second signal ends it at once.
///
/// # Errors
/// See [`ServeError`]; nothing is left running then.
pub fn serve(service: Service) -> Result<(), ServeError> {
    // Armed first, so that a signal during the start is not lost but stops what has started.
    let (signal_post, signals) = rt::mailbox(CONTROL_MESSAGES_MAX);
    let armed = sys::signal::arm(move |name| {
        // A full mailbox holds signals enough.
        let _ = signal_post.post(Signal(name));
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
    let access = logs::open_access_log(&service.snapshot).map_err(ServeError::AccessLog)?;
    let groups = sockets::open(config, &service.plan.workers)?;
    if let Some(address) = config.admin.listen {
        sockets::probe_free(address)?;
    }
    let admin_socket = config.admin.listen.map(sockets::open_one).transpose()?;
    // The admin listener needs few buffers; the memory of a worker's ring would be wasted on it.
    let executor = rt::Options {
        ring_entries: MASTER_RING_ENTRIES,
        ring_buffers: MASTER_RING_BUFFERS,
        ..service.snapshot.executor
    };
    let result = rt::run(&executor, |_| Master::run(service, groups, admin_socket, signals, &access));
    drop(armed);
    logs::finish_access_log(&access);
    result.map_err(ServeError::Executor)?
}

struct Master {
    state: Rc<State>,
    workers: Vec<Running>,
    give_back: RefCell<GiveBack>,
}

impl Master {
    async fn run(
        service: Service,
        groups: sockets::Groups,
        admin_socket: Option<(OwnedFd, SocketAddr)>,
        signals: Mailbox<Signal>,
        access: &AccessLog,
    ) -> Result<(), ServeError> {
        let Service { snapshot, plan, context, log_lines_dropped } = service;
        if plan.pin
            && let Some(core) = plan.master
        {
            sys::cpu::pin(core);
        }
        for note in &plan.notes {
            tracing::info!("{note}");
        }
        let snapshot = Arc::new(snapshot);
        let (news_post, news) = rt::mailbox(CONTROL_MESSAGES_MAX);
        let workers = start_workers(&snapshot, &plan, groups.per_worker, &context, &news_post, access)?;
        let states = (0..workers.len()).map(|index| WorkerState {
            core: label(&plan, index),
            pinned: plan.pin.then(|| plan.workers[index]),
            started: None,
            ended: None,
        });
        let admin_address = admin_socket.as_ref().map(|(_, address)| *address);
        let state = State::new(snapshot.clone(), states.collect(), groups.addresses, admin_address, log_lines_dropped);
        let master = Self { state: Rc::new(state), workers, give_back: RefCell::default() };
        if let Some((socket, _)) = admin_socket {
            serve_admin(socket, &master.state, &snapshot);
        }
        proxy::resolve_names(&snapshot.upstreams, &snapshot.config.resolver.name_servers());
        proxy::run_checks(&snapshot.upstreams, clock::wall().as_nanos() as u64);
        let orders = master.workers.iter().map(|worker| worker.orders.clone()).collect();
        let supervisor = Supervisor::new(orders, snapshot.config.server.timeouts.drain);
        let result = supervisor.run(&news, &signals, |note| master.note(note)).await;
        master.join().await;
        result
    }

    /// Keeps the state that the admin listener shows.
    fn note(&self, note: Note) {
        match note {
            Note::Tick => self.tick(),
            Note::Accepting(index, started) => self.note_accepting(index, started),
            Note::Ended(index, Ok(())) => self.state.workers_mut()[index].ended = Some(Ended::Stopped),
            Note::Ended(index, Err(reason)) => self.state.workers_mut()[index].ended = Some(Ended::Died(reason)),
            Note::Draining => self.state.set_phase(Phase::Draining),
            Note::Hangup => logs::reopen(),
        }
    }

    fn note_accepting(&self, index: usize, started: rt::Started) {
        let mut workers = self.state.workers_mut();
        workers[index].started = Some(started);
        if workers.iter().all(|worker| worker.started.is_some()) && self.state.phase() == Phase::Starting {
            self.state.set_phase(Phase::Serving);
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
            if let Some(address) = self.state.admin() {
                tracing::info!(%address, "admin listening");
            }
        }
    }

    fn tick(&self) {
        let shards: Vec<_> = self.workers.iter().map(|worker| worker.shard.read()).collect();
        let open = shards.iter().map(|shard| shard.gauges[Gauge::ConnectionsOpen as usize]).sum();
        let closed = shards.iter().map(|shard| shard.counters[Counter::ConnectionsClosed as usize]).sum();
        self.give_back(open, closed);
        let now = Duration::from_nanos(clock::now().as_nanos());
        // Too early is right: events come between the ticks.
        let _ = self.state.aggregator_mut().tick(now, shards);
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
    async fn join(self) {
        let until = clock::now() + PATIENCE;
        for worker in self.workers {
            while !worker.thread.is_finished() && clock::now() < until {
                rt::sleep_until(clock::now() + Duration::from_millis(1)).await;
            }
            if worker.thread.is_finished() {
                // Its panic, if any, was reported by its farewell.
                let _ = worker.thread.join();
            }
        }
        tracing::info!("stopped");
    }
}

/// The number that tells a worker's metrics from others': its core where that is its alone, else its own number.
fn label(plan: &Plan, index: usize) -> u32 {
    let core = plan.workers[index];
    let shared = plan.workers.iter().filter(|other| **other == core).count() > 1;
    if shared { index as u32 } else { core as u32 }
}

fn start_workers(
    snapshot: &Arc<Snapshot>,
    plan: &Plan,
    listeners: Vec<Vec<OwnedFd>>,
    context: &MakeContext,
    news: &Postbox<News>,
    access: &AccessLog,
) -> Result<Vec<Running>, ServeError> {
    let mut running = Vec::new();
    let count = plan.workers.len();
    for (index, listeners) in listeners.into_iter().enumerate() {
        let metrics = ShardWriter::create(label(plan, index), 1, snapshot.routes.names().len());
        let (orders_post, orders) = rt::mailbox(CONTROL_MESSAGES_MAX);
        let shard = metrics.shard();
        let connections = snapshot.settings.connections.div_ceil(count);
        let worker = Worker {
            index,
            count,
            pin: plan.pin.then(|| plan.workers[index]),
            executor: snapshot.executor,
            listeners: listeners.into_iter().map(rt::Socket::from).collect(),
            settings: Settings { connections, ..snapshot.settings.clone() },
            routes: snapshot.routes.clone(),
            metrics,
            access: Some(access.lane(index)),
            context: context.clone(),
            orders,
            news: news.clone(),
        };
        match thread::Builder::new().name(format!("ringfort-{index}")).spawn(|| worker.run()) {
            Ok(thread) => running.push(Running { orders: orders_post, thread, shard }),
            Err(error) => {
                stop_started(running);
                return Err(ServeError::Thread(error));
            }
        }
    }
    Ok(running)
}

/// Takes back a start that failed: the workers so far leave, and are waited for.
fn stop_started(running: Vec<Running>) {
    for worker in running {
        drop(worker.orders);
        // Its panic, if any, was reported by its farewell.
        let _ = worker.thread.join();
    }
}

/// Serves the admin routes on the master's executor.
fn serve_admin(socket: OwnedFd, state: &Rc<State>, snapshot: &Snapshot) {
    let empty = RouterBuf::build(&[]).unwrap_or_else(|_| unreachable!("a router without routes has no errors"));
    let routes = Arc::new(Routes::new(&[&admin::ROUTES], empty, Vec::new(), Vec::new()));
    let settings = Settings { connections: ADMIN_CONNECTIONS, ..snapshot.settings.clone() };
    let metrics = ShardWriter::create(u32::MAX, 1, routes.names().len());
    let context = handler::Context::default().with(state.clone());
    let core = Core::new(settings, routes, metrics, u64::from(u8::MAX), context);
    rt::spawn(conn::accept(Listener::new(socket), core));
}
