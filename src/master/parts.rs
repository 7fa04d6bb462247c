//! The server's own parts as services of a launcher, and what a program adds put between them.
//!
//! Up: `admin`, `log`, then `metrics`, `upstreams` and the program's services, then `workers`, unless one of the program's
//! says that it comes after them, then `config`. Down in reverse: the workers drain while everything that their handlers may
//! need still runs; when all of these have stopped, what they logged is written; and whoever watches the process can do so on
//! the admin listener until the end.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::supervisor::{Crew, Note, PATIENCE, Signal, Supervisor};
use super::{Master, ServeError, reload};
use crate::admin::{ReloadRequest, UpgradeRequest};
use crate::clock::{self, Moment};
use crate::lifecycle::{Finding, Handle, Launcher, Outcome};
use crate::limits::CONTROL_MESSAGES_MAX;
use crate::proxy::{self, Availability};
use crate::rt::{self, Either, Mailbox, Postbox};
use crate::worker::{News, Order};

const ADMIN: &str = "admin";
const LOG: &str = "log";
const METRICS: &str = "metrics";
const UPSTREAMS: &str = "upstreams";
const WORKERS: &str = "workers";
const CONFIG: &str = "config";

/// How often the master aggregates what the workers count.
const AGGREGATE_EVERY: Duration = Duration::from_secs(1);
/// What the workers' service may take to stop: the longest drain that there may be, and the supervisor's patience with them
/// and with their threads. The supervisor minds the drain that is in force.
const WORKERS_STOP_WITHIN: Duration = Duration::from_secs(24 * 3600 + 2 * PATIENCE.as_secs() + 1);

/// Declares the server's own services and checks beside those that the launcher has. None of them keeps a config: another
/// may come into force.
pub(super) fn declare(launcher: &mut Launcher, master: &Rc<Master>, news: Mailbox<News>, changes: Changes) {
    let before_workers = launcher.enclose(LOG, WORKERS);
    let timeouts = master.state.snapshot().config.server.timeouts.clone();
    let of_admin = master.clone();
    launcher.service(ADMIN, move |handle: Handle| serve(of_admin, handle));
    let of_log = master.clone();
    launcher.service(LOG, move |handle: Handle| write_logs(of_log, handle)).after(ADMIN);
    let of_metrics = master.clone();
    launcher.service(METRICS, move |handle: Handle| aggregate(of_metrics, handle)).after(LOG);
    let of_upstreams = master.clone();
    launcher.service(UPSTREAMS, move |handle: Handle| attend(of_upstreams, handle)).after(LOG);
    let of_workers = master.clone();
    let serving = move |handle: Handle| supervise(of_workers, news, handle);
    let options = launcher.service(WORKERS, serving).stop_within(WORKERS_STOP_WITHIN).drains();
    for name in [METRICS, UPSTREAMS].into_iter().chain(before_workers.iter().map(String::as_str)) {
        options.after(name);
    }
    let of_config = master.clone();
    launcher.service(CONFIG, move |handle: Handle| take_changes(of_config, changes, handle)).after(WORKERS);
    launcher.linger(timeouts.pre_stop_delay);
    if master.state.snapshot().upstreams.iter().next().is_some() {
        let of_check = master.clone();
        launcher.check("upstreams", move || std::future::ready(find_upstreams(&of_check))).informative();
    }
}

/// Is there from its start to its stop: its work is tasks that end with the executor. Whoever has something to wait for after
/// that keeps the handle: without one a service that was told to stop is taken for ended.
async fn wait(handle: &Handle) {
    handle.ready();
    handle.stopping().await;
}

/// The admin listener.
async fn serve(master: Rc<Master>, handle: Handle) -> Outcome {
    master.upgrader.open_admin()?;
    // Early: what the others are at can be seen while they start.
    if let Some(address) = master.state.admin() {
        tracing::info!(%address, "admin listening");
    }
    wait(&handle).await;
    master.upgrader.close_admin().await;
    Ok(())
}

/// The logs' writers, which are threads that run by themselves: here they are waited for.
async fn write_logs(master: Rc<Master>, handle: Handle) -> Outcome {
    wait(&handle).await;
    master.unwritten.finish().await;
    Ok(())
}

async fn aggregate(master: Rc<Master>, handle: Handle) -> Outcome {
    handle.ready();
    loop {
        master.tick();
        let tick = rt::sleep_until(clock::now() + AGGREGATE_EVERY);
        if let Either::First(_) = rt::select(handle.stopping(), tick).await {
            return Ok(());
        }
    }
}

/// Active checks, and names resolved again and again. Their tasks end with their upstreams, or here.
async fn attend(master: Rc<Master>, handle: Handle) -> Outcome {
    let snapshot = master.state.snapshot();
    let name_servers = snapshot.config.resolver.name_servers();
    master.reloader.attendants.borrow_mut().attend(&snapshot.upstreams, &name_servers);
    master.reloader.plugin_attendants.borrow_mut().attend(&snapshot.plugins);
    // Another config may come into force.
    drop(snapshot);
    wait(&handle).await;
    master.reloader.attendants.borrow_mut().leave();
    master.reloader.plugin_attendants.borrow_mut().leave();
    Ok(())
}

/// Requests for another config, and for another program.
type Changes = ((Postbox<ReloadRequest>, Mailbox<ReloadRequest>), Mailbox<UpgradeRequest>);

/// Another config when somebody asks for it, or its file has changed; another program when somebody asks for that.
async fn take_changes(master: Rc<Master>, ((post, reloads), upgrades): Changes, handle: Handle) -> Outcome {
    handle.ready();
    let reloading = master.reloader.clone().run(reloads);
    let upgrading = master.upgrader.clone().run(upgrades);
    let watching = async {
        if let Some(file) = master.reloader.source.watched.clone() {
            let known = master.reloader.source.known;
            let beside = || master.state.snapshot().beside.clone();
            reload::watch_file(file, known, beside, post).await;
        }
        pending::<()>().await;
    };
    rt::select(handle.stopping(), rt::select(watching, rt::select(reloading, upgrading))).await;
    Ok(())
}

/// What the supervisor is to the launcher: a service that has a say.
struct Watched<'w> {
    master: &'w Master,
    handle: &'w Handle,
    is_draining: Cell<bool>,
    died: RefCell<Option<String>>,
}

impl Crew for Watched<'_> {
    fn start(&self, index: usize) -> Result<Postbox<Order>, ServeError> {
        self.master.restart_worker(index)
    }

    fn last_beat(&self, index: usize) -> Option<Moment> {
        self.master.threads.last_beat(index)
    }

    fn note(&self, note: Note) {
        match &note {
            Note::Ended(index, Err(reason)) => {
                self.died.borrow_mut().get_or_insert_with(|| format!("worker {index} ended: {reason}"));
            }
            Note::Draining => {
                self.is_draining.set(true);
                // By itself: nothing can go on, but what is in flight may end, and the others must hear of it.
                if !self.handle.is_stopping() {
                    self.handle.give_up(self.died.borrow().as_deref().unwrap_or("the workers drain"));
                }
            }
            Note::Tick
            | Note::Accepting(..)
            | Note::TookUp(..)
            | Note::Down(..)
            | Note::Stalled(..)
            | Note::Resumed(..)
            | Note::Ended(_, Ok(())) => {}
        }
        self.master.note(note);
        if self.master.all_accept() {
            self.handle.ready();
        }
    }
}

/// The workers, under their supervisor. It is ready when all of them accept. What it is told as a service, the supervisor is
/// told as a signal.
async fn supervise(master: Rc<Master>, news: Mailbox<News>, handle: Handle) -> Outcome {
    master.start_workers()?;
    let (signal_post, signals) = rt::mailbox(CONTROL_MESSAGES_MAX);
    let (is_draining, died) = (Cell::new(false), RefCell::default());
    let watched = Watched { master: &master, handle: &handle, is_draining, died };
    let told = async {
        let stop = handle.stopping().await;
        // A second signal would cut what it is about to finish.
        if !watched.is_draining.get() {
            let _ = signal_post.post(Signal(stop.signal.unwrap_or("the program")));
        }
        pending::<()>().await;
    };
    let supervisor = Supervisor::new(master.orders.clone(), master.drain.clone(), master.stall);
    let result = match rt::select(supervisor.run(&news, &signals, &watched), told).await {
        Either::First(result) => result,
        Either::Second(()) => Ok(()),
    };
    master.join().await;
    Ok(result?)
}

/// Whether every upstream has a server that takes requests.
fn find_upstreams(master: &Master) -> Finding {
    let (snapshot, now) = (master.state.snapshot(), clock::now());
    let is_served = |upstream: &&Arc<proxy::Upstream>| {
        let mut servers = 0..upstream.servers.len();
        servers.any(|index| upstream.standings.read(index, now).availability == Availability::Available)
    };
    let (served, dark): (Vec<_>, Vec<_>) = snapshot.upstreams.iter().partition(is_served);
    match dark.iter().map(|upstream| upstream.spec.name.as_str()).collect::<Vec<_>>().join(", ") {
        names if names.is_empty() => Ok(format!("{} with servers", served.len())),
        names => Err(format!("no server is available in {names}").into()),
    }
}
