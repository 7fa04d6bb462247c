//! Reloads: another config is read, checked and compiled off every core that serves, then published, and each worker takes
//! it up between two requests. Whatever goes wrong before that changes nothing.
//!
//! One at a time, by one task of the master's executor; whoever asks meanwhile waits.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::sockets::{Group, Listening, open_group};
use super::supervisor::Orders;
use super::{ServeError, logs};
use crate::admin::{Cause, Outcome, ReloadRequest, State};
use crate::clock::{self, Moment};
use crate::config::{Beside, Changes, Config, Failure, Fingerprint, Prepared, Snapshot, Watch};
use crate::lifecycle::Phase;
use crate::limits::{CONFIG_LOOK_SECONDS, CONFIG_SETTLE_MS, CONFIG_SETTLE_MS_MAX, GENERATIONS_MAX, TAKE_UP_MS_MAX};
use crate::log::access::AccessLog;
use crate::metrics::FreshCells;
use crate::plugin;
use crate::proxy::Attendants;
use crate::rt::{self, Mailbox, Postbox};
use crate::worker::{Order, TakeUp};

/// How often a reload looks whether its workers have followed.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Where the next config comes from.
pub struct Source {
    /// The file, where it is watched.
    pub watched: Option<PathBuf>,
    /// What the file held when it was read.
    pub known: Fingerprint,
    /// Reads, checks and compiles it, as what comes after the config in force.
    #[allow(clippy::type_complexity, reason = "a function is what it is")]
    pub load: Arc<dyn Fn(Option<&Snapshot>) -> Result<Prepared, Failure> + Send + Sync>,
}

/// What is being changed: one thing at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changing {
    /// Nothing.
    Nothing,
    /// The config, by a reload.
    Config,
    /// The program, by an upgrade; for good, once a successor serves.
    Program,
}

/// What a reload works on.
pub(super) struct Reloader {
    pub(super) source: Source,
    pub(super) state: Rc<State>,
    pub(super) changing: Rc<Cell<Changing>>,
    pub(super) orders: Rc<Orders>,
    /// The workers' cores, for new listening sockets.
    pub(super) cores: Vec<usize>,
    pub(super) listening: Rc<RefCell<Listening>>,
    pub(super) attendants: RefCell<Attendants>,
    pub(super) plugin_attendants: RefCell<plugin::Attendants>,
    /// The generation that each worker serves by.
    pub(super) taken_up: RefCell<Vec<u64>>,
    /// How long a drain may take, as the config in force says.
    pub(super) drain: Rc<Cell<Duration>>,
    pub(super) access: Arc<AccessLog>,
}

/// A config that can be published.
struct Ready {
    snapshot: Snapshot,
    changes: Changes,
    /// For each worker.
    cells: Vec<FreshCells>,
}

/// Addresses that are new.
struct Opened {
    groups: Vec<Group>,
    /// Their sockets for each worker.
    duplicates: Vec<Vec<(SocketAddr, rt::Socket)>>,
}

impl Reloader {
    /// Makes reloads until nobody can ask for one any more.
    pub(super) async fn run(self: Rc<Self>, requests: Mailbox<ReloadRequest>) {
        while let Some(ReloadRequest { cause, reply }) = requests.next().await {
            // A successor reads the config itself; should it fail, this is the process whose config counts.
            let has_turn = || self.changing.get() == Changing::Nothing;
            rt::look_every(LOOK_EVERY, Moment::NEVER, || has_turn().then_some(())).await;
            self.changing.set(Changing::Config);
            if cause == Cause::Signal {
                logs::reopen();
            }
            let outcome = self.reload().await;
            self.changing.set(Changing::Nothing);
            tell(cause, &outcome);
            let answer = self.state.reloads_mut().note(cause, &outcome);
            if let Some(reply) = reply {
                // Who asked may be gone.
                let _ = reply.post(answer);
            }
        }
    }

    /// A worker serves by this generation.
    pub(super) fn note_taken_up(&self, worker: usize, generation: u64) {
        if let Some(known) = self.taken_up.borrow_mut().get_mut(worker) {
            *known = generation;
        }
    }

    /// Frees the configs that nobody uses any more, elsewhere.
    pub(super) fn free_unused(&self) {
        let unused = self.state.take_unused();
        if !unused.is_empty() {
            rt::spawn(rt::blocking(move || drop(unused)));
        }
    }

    async fn reload(&self) -> Outcome {
        match self.prepare().await {
            Ok(ready) => self.publish(ready).await,
            Err(outcome) => outcome,
        }
    }

    /// Reads the config and makes everything that it takes, as far as that can be taken back.
    async fn prepare(&self) -> Result<Ready, Outcome> {
        let has_started = || !matches!(self.state.phase(), Phase::Initializing | Phase::Starting);
        rt::look_every(LOOK_EVERY, Moment::NEVER, || has_started().then_some(())).await;
        if self.state.phase() != Phase::Serving {
            return Err(Outcome::Impossible(format!("the process is {}", self.state.phase().name())));
        }
        // Nobody has more than one config to take up: a mailbox would fill, or a worker miss one.
        let late = self.wait_for_workers(self.state.generation()).await;
        if let Some(worker) = late.first() {
            let reason = format!("worker {worker} has not taken up the config before this one: it stands still");
            return Err(Outcome::Impossible(reason));
        }
        self.free_unused();
        if self.state.generations_live() > GENERATIONS_MAX {
            let reason = format!("requests that are under way use {GENERATIONS_MAX} configs from before");
            return Err(Outcome::Impossible(reason));
        }
        let (load, before) = (self.source.load.clone(), self.state.snapshot());
        let (next, workers) = (self.state.generation() + 1, self.orders.count());
        rt::background(move || {
            let Prepared { snapshot, .. } = load(Some(&before)).map_err(Outcome::Invalid)?;
            let changes = Changes::between(&before.config, &snapshot.config);
            if !changes.can_be_reloaded() {
                return Err(Outcome::Fixed(Box::new(changes)));
            }
            if let Err((name, reason)) = snapshot.plugins.init() {
                return Err(Outcome::Impossible(format!("the plugin {name:?} refuses: {reason}")));
            }
            let routes = snapshot.routes.names().len();
            let cells = (0..workers).map(|_| FreshCells::new(next, routes)).collect();
            Ok(Ready { snapshot, changes, cells })
        })
        .await
    }

    /// Puts a config in force.
    async fn publish(&self, ready: Ready) -> Outcome {
        let Ready { snapshot, changes, cells } = ready;
        let opened = match self.open(&snapshot.config) {
            Ok(opened) => opened,
            Err(error) => return Outcome::Impossible(error.to_string()),
        };
        let before = self.state.snapshot();
        if let Err(reason) = logs::take_up(&self.access, &before, &snapshot) {
            return Outcome::Impossible(reason);
        }
        let snapshot = Arc::new(snapshot);
        self.attendants.borrow_mut().attend(&snapshot.upstreams, &snapshot.config.resolver.name_servers());
        self.plugin_attendants.borrow_mut().attend(&snapshot.plugins);
        // A server that is new has no address before its name is looked up, and requests would find it unavailable.
        Attendants::wait_for_new_addresses(&before.upstreams, &snapshot.upstreams, patience()).await;
        before.upstreams.retire_all_but(&snapshot.upstreams);
        let closed = self.change_listening(&snapshot.config, opened.groups);
        self.drain.set(snapshot.config.server.timeouts.drain);
        let generation = self.state.succeed(snapshot.clone());
        drop(before);
        let mut orders = take_ups(&snapshot, cells, opened.duplicates, &closed).into_iter();
        self.orders.give(|_| match orders.next() {
            Some(next) => Order::TakeUp(Box::new(next)),
            None => unreachable!("there is one for each worker"),
        });
        drop(snapshot);
        let late = self.wait_for_workers(generation).await;
        Outcome::Done { generation, changes: Box::new(changes), late }
    }

    /// Waits for the workers to serve by this generation; returns those that do not after a while.
    async fn wait_for_workers(&self, generation: u64) -> Vec<usize> {
        let find_late = || {
            let is_late = |(worker, taken_up): (usize, &u64)| (*taken_up < generation).then_some(worker);
            self.taken_up.borrow().iter().enumerate().filter_map(is_late).collect::<Vec<_>>()
        };
        rt::look_every(LOOK_EVERY, patience(), || find_late().is_empty().then_some(())).await;
        find_late()
    }

    /// Opens the addresses that are new.
    fn open(&self, config: &Config) -> Result<Opened, ServeError> {
        let listening = self.listening.borrow();
        let mut opened = Opened { groups: Vec::new(), duplicates: self.cores.iter().map(|_| Vec::new()).collect() };
        for wanted in config.server.listen.iter().filter(|wanted| !listening.has(**wanted)) {
            let group = open_group(*wanted, config.cores.steering, &self.cores)?;
            for (index, own) in opened.duplicates.iter_mut().enumerate() {
                let duplicates = group.for_worker(index, self.cores.len()).map_err(ServeError::Duplicate)?;
                own.extend(duplicates.into_iter().map(|(address, socket)| (address, socket.into())));
            }
            opened.groups.push(group);
        }
        Ok(opened)
    }

    /// Keeps account of what is listened on; returns the addresses that no longer are, with their real ports.
    fn change_listening(&self, config: &Config, opened: Vec<Group>) -> Vec<SocketAddr> {
        let mut listening = self.listening.borrow_mut();
        opened.into_iter().for_each(|group| listening.add(group));
        let closed = listening.retain(&config.server.listen);
        self.state.set_listen(listening.addresses());
        closed
    }
}

/// What each worker takes up.
fn take_ups(
    snapshot: &Arc<Snapshot>,
    cells: Vec<FreshCells>,
    opened: Vec<Vec<(SocketAddr, rt::Socket)>>,
    closed: &[SocketAddr],
) -> Vec<TakeUp> {
    let workers = cells.len();
    let take_up = |(cells, opened)| TakeUp {
        settings: snapshot.settings_of_each(workers),
        routes: snapshot.routes.clone(),
        upstreams: snapshot.upstreams.clone(),
        plugins: snapshot.plugins.clone(),
        cells,
        opened,
        closed: closed.to_vec(),
    };
    cells.into_iter().zip(opened).map(take_up).collect()
}

fn patience() -> Moment {
    clock::now() + Duration::from_millis(TAKE_UP_MS_MAX)
}

fn tell(cause: Cause, outcome: &Outcome) {
    let cause = cause.name();
    match outcome {
        Outcome::Done { generation, changes, late } => {
            tracing::info!(cause, generation, changes = changes.summary(), "the config was reloaded");
            for worker in late {
                tracing::warn!(worker, generation, "the worker has not taken up the config yet: it stands still");
            }
        }
        Outcome::Invalid(failure) => {
            for error in &failure.errors {
                tracing::error!(cause, origin = failure.origin, %error, "the config is wrong: the one before stays in force");
            }
        }
        Outcome::Fixed(_) | Outcome::Impossible(_) => {
            tracing::error!(cause, reason = %outcome, "no reload: the config before stays in force");
        }
    }
}

/// Asks for a reload whenever the content of `file` has changed, once it has settled; ends with the executor. `known` is
/// the content that is in force, or one from before: it is compared as soon as changes are watched.
///
/// `beside` tells the directories whose files belong to the config in force.
pub(super) async fn watch_file(
    file: PathBuf,
    mut known: Fingerprint,
    beside: impl Fn() -> Beside,
    requests: Postbox<ReloadRequest>,
) {
    // One is enough, however many events there are.
    let (event_post, events) = rt::mailbox(1);
    let on_event = move || {
        let _ = event_post.post(());
    };
    let mut watch = match Watch::start(&file, on_event) {
        Ok(watch) => Some(watch),
        Err(error) => {
            let every = CONFIG_LOOK_SECONDS;
            tracing::warn!(file = %file.display(), %error, every, "no events of the config file: it is looked at now and then");
            None
        }
    };
    let mut asked_beside = None;
    loop {
        let Beside { directories, known: known_beside } = beside();
        if let Some(watch) = &mut watch {
            watch.set_beside(directories.clone());
            if let Err(error) = watch.follow() {
                tracing::debug!(file = %file.display(), %error, "a directory of the config cannot be watched now");
            }
        }
        let (found, found_beside) = fingerprints(&file, directories).await;
        // What was asked for once may have been refused: the config in force has other files then, and goes on with them.
        let is_new_beside = found_beside != known_beside && asked_beside != Some(found_beside);
        if found != known || is_new_beside {
            (known, asked_beside) = (found, Some(found_beside));
            if requests.post(ReloadRequest { cause: Cause::File, reply: None }).is_err() {
                // So many wait already that one of them will see it.
                tracing::debug!("as many reloads wait as may");
            }
        }
        let look = clock::now() + Duration::from_secs(CONFIG_LOOK_SECONDS);
        if rt::timeout(look, events.next()).await.is_some() {
            settle(&events).await;
        }
    }
}

/// Waits until no event has come for a while, and not for ever.
async fn settle(events: &Mailbox<()>) {
    let last = clock::now() + Duration::from_millis(CONFIG_SETTLE_MS_MAX);
    while clock::now() < last {
        let quiet = (clock::now() + Duration::from_millis(CONFIG_SETTLE_MS)).min(last);
        if rt::timeout(quiet, events.next()).await.is_none() {
            return;
        }
    }
}

/// Reads the file, and looks at those in `directories`, off this thread: they may be on a file system that hangs.
async fn fingerprints(file: &Path, directories: Vec<PathBuf>) -> (Fingerprint, Fingerprint) {
    let file = file.to_owned();
    rt::blocking(move || (Fingerprint::of(&file), Fingerprint::of_directories(&directories))).await
}
