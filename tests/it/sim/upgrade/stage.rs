//! What all processes and clients of a run share: what is served, how often each request was handled, and what is looked at
//! whenever nothing can run.

use super::process::{Fate, Process};
use ringfort::clock::{self, Moment};
use ringfort::conn::Settings;
use ringfort::handler::{Action, Exchange, Failure, Reply};
use ringfort::limits::DRAIN_GRACE_MS;
use ringfort::rt;
use ringfort::rt::sim::{self, Client, CoreOptions};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

pub(super) const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 1, 0, 1)), 80);
/// How long a process may be there after its last connection has closed: accept loops that rest, and what the world adds.
const LEAVES_WITHIN: Duration = Duration::from_millis(500);
/// What the supervisor waits beyond a drain's time, and what the world adds.
const DRAIN_SLACK: Duration = Duration::from_millis(1500);

ringfort::routes! {
    pub(super) static ROUTES: Action = {
        GET "/once/:id/:ms" => ringfort::suspending!(once),
    }
}

thread_local! {
    /// How often each request was handled; a world has its thread to itself.
    static HANDLED: RefCell<BTreeMap<u64, u32>> = RefCell::default();
}

/// How often a request was handled.
pub(super) fn handled(id: u64) -> u32 {
    HANDLED.with_borrow(|handled| handled.get(&id).copied().unwrap_or(0))
}

async fn once(exchange: &mut Exchange<'_>) -> Reply {
    let number = |name: &str| exchange.request.param(name).and_then(|text| text.parse().ok());
    let (Some(id), Some(ms)) = (number("id"), number("ms")) else {
        return Err(Failure::internal("the clients send numbers"));
    };
    HANDLED.with_borrow_mut(|handled| *handled.entry(id).or_default() += 1);
    rt::sleep_until(clock::now() + Duration::from_millis(ms)).await;
    exchange.response.text(&format!("{id}"))
}

/// A connection that waits for an answer.
pub(super) struct Waiting {
    pub(super) client: Client,
    /// Bytes sent on it in all, with the request's.
    pub(super) sent: u64,
    /// The request had come when the process began to drain: it is answered whatever comes.
    pub(super) is_due: Cell<bool>,
}

pub(super) struct Stage {
    pub(super) settings: Settings,
    pub(super) core: CoreOptions,
    pub(super) processes: RefCell<Vec<Rc<Process>>>,
    pub(super) waiting: RefCell<Vec<Rc<Waiting>>>,
    pub(super) asked: Cell<u64>,
    pub(super) answered: Cell<u64>,
    /// All of it is told to stop, not to be replaced.
    pub(super) is_stopping: Cell<bool>,
    /// Since when each process that drains has had no connection.
    idle_since: RefCell<BTreeMap<u32, Moment>>,
}

impl Stage {
    pub(super) fn new(settings: Settings, core: CoreOptions) -> Rc<Self> {
        let stage = Rc::new(Self {
            settings,
            core,
            processes: RefCell::default(),
            waiting: RefCell::default(),
            asked: Cell::new(0),
            answered: Cell::new(0),
            is_stopping: Cell::new(false),
            idle_since: RefCell::default(),
        });
        let watched = stage.clone();
        sim::check_when_quiet(move || watched.check());
        stage
    }

    /// Those that have not ended.
    pub(super) fn living(&self) -> Vec<Rc<Process>> {
        self.processes.borrow().iter().filter(|process| !process.is_gone.get()).cloned().collect()
    }

    /// The one that took over last.
    pub(super) fn newest(&self) -> Option<Rc<Process>> {
        self.processes.borrow().iter().rev().find(|process| process.serves()).cloned()
    }

    /// Whose core that is.
    pub(super) fn process_of(&self, core: usize) -> Rc<Process> {
        let processes = self.processes.borrow();
        processes.iter().find(|process| process.cores.borrow().contains(&core)).expect("only processes accept").clone()
    }

    /// What a process that begins to drain must still answer.
    pub(super) fn note_drain(&self, process: &Process) {
        for waiting in self.waiting.borrow().iter() {
            let client = &waiting.client;
            let is_its = client.core().is_some_and(|core| process.cores.borrow().contains(&core));
            waiting.is_due.set(waiting.is_due.get() || is_its && client.delivered() == waiting.sent);
        }
    }

    fn check(&self) -> Result<(), String> {
        let now = clock::now();
        let processes = self.processes.borrow();
        let has_begun = processes.first().is_some_and(|first| first.serves() || first.drained.get().is_some());
        if has_begun && !self.is_stopping.get() && !processes.iter().any(|process| process.serves()) {
            return Err("no process serves".to_owned());
        }
        for process in processes.iter().filter(|process| !process.is_gone.get()) {
            let Some(since) = process.drained.get() else { continue };
            let number = process.number;
            if now.since(since) > process.life.patience + DRAIN_SLACK {
                return Err(format!("process {number} drains for {:?}", now.since(since)));
            }
            let open: usize = process.cores.borrow().iter().map(|core| sim::open_connections(*core)).sum();
            let mut idle = self.idle_since.borrow_mut();
            if open > 0 {
                idle.remove(&number);
                continue;
            }
            let idle = now.since(*idle.entry(number).or_insert(now));
            if idle > LEAVES_WITHIN + Duration::from_millis(DRAIN_GRACE_MS) {
                return Err(format!("process {number} has drained, and is there for {idle:?} more"));
            }
        }
        Ok(())
    }

    /// Nobody is left of those that failed, and of all others one.
    pub(super) fn check_settled(&self, expected: usize) -> Result<(), String> {
        let living = self.living();
        let is_right = living.len() == expected && living.iter().all(|process| process.serves());
        let describe = |process: &Rc<Process>| format!("process {} ({})", process.number, process.phase().name());
        let found: Vec<_> = living.iter().map(describe).collect();
        let fates: Vec<Fate> = living.iter().map(|process| process.life.fate).collect();
        if is_right { Ok(()) } else { Err(format!("{expected} processes should be left, not {found:?}, {fates:?}")) }
    }
}
