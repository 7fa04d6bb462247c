//! The server's own parts as services of a launcher, and what a program adds put between them.
//!
//! Up: `admin`, then `metrics`, `names`, `upstream-checks` and the program's services, then `workers`, unless one of the
//! program's says that it comes after them. Down in reverse: the workers drain while everything that their handlers may
//! need still runs, and whoever watches the process can do so on the admin listener until the end.

use std::cell::{Cell, RefCell};
use std::future::pending;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::supervisor::{Note, PATIENCE, Signal, Supervisor};
use super::{Master, Workers, serve_admin};
use crate::clock;
use crate::lifecycle::{Finding, Handle, Launcher, Outcome};
use crate::limits::CONTROL_MESSAGES_MAX;
use crate::proxy::{self, Availability};
use crate::rt::{self, Either};

const ADMIN: &str = "admin";
const METRICS: &str = "metrics";
const NAMES: &str = "names";
const UPSTREAM_CHECKS: &str = "upstream-checks";
const WORKERS: &str = "workers";

/// How often the master aggregates what the workers count.
const AGGREGATE_EVERY: Duration = Duration::from_secs(1);
/// What the workers' service may take to stop: the longest drain that there may be, and the supervisor's patience with them
/// and with their threads. The supervisor minds the drain that is in force.
const WORKERS_STOP_WITHIN: Duration = Duration::from_secs(24 * 3600 + 2 * PATIENCE.as_secs() + 1);

/// Declares the server's own services and checks beside those that the launcher has. None of them keeps a config: another
/// may come into force.
pub(super) fn declare(launcher: &mut Launcher, master: &Rc<Master>, admin_socket: Option<OwnedFd>, workers: Workers) {
    let before_workers = launcher.enclose(ADMIN, WORKERS);
    let timeouts = master.state.snapshot().config.server.timeouts.clone();
    let of_admin = master.clone();
    launcher.service(ADMIN, move |handle: Handle| serve(of_admin, admin_socket, handle));
    let of_metrics = master.clone();
    launcher.service(METRICS, move |handle: Handle| aggregate(of_metrics, handle)).after(ADMIN);
    let of_names = master.clone();
    let names = move |handle: Handle| {
        let config = of_names.state.snapshot();
        proxy::resolve_names(&config.upstreams, &config.config.resolver.name_servers());
        wait(handle)
    };
    launcher.service(NAMES, names).after(ADMIN);
    let of_checks = master.clone();
    let checks = move |handle: Handle| {
        proxy::run_checks(&of_checks.state.snapshot().upstreams, clock::wall().as_nanos() as u64);
        wait(handle)
    };
    launcher.service(UPSTREAM_CHECKS, checks).after(ADMIN);
    let (of_workers, drain) = (master.clone(), timeouts.drain);
    let serving = move |handle: Handle| supervise(of_workers, workers, drain, handle);
    let options = launcher.service(WORKERS, serving).stop_within(WORKERS_STOP_WITHIN).drains();
    for name in [METRICS, NAMES, UPSTREAM_CHECKS].into_iter().chain(before_workers.iter().map(String::as_str)) {
        options.after(name);
    }
    launcher.linger(timeouts.pre_stop_delay);
    if master.state.snapshot().upstreams.iter().next().is_some() {
        let of_check = master.clone();
        launcher.check("upstreams", move || std::future::ready(find_upstreams(&of_check))).informative();
    }
}

/// Is there from its start to its stop: its work is tasks that end with the executor.
async fn wait(handle: Handle) -> Outcome {
    handle.ready();
    handle.stopping().await;
    Ok(())
}

/// The admin listener.
async fn serve(master: Rc<Master>, socket: Option<OwnedFd>, handle: Handle) -> Outcome {
    let core = socket.map(|socket| serve_admin(socket, &master.state, &master.state.snapshot()));
    // Early: what the others are at can be seen while they start.
    if let Some(address) = master.state.admin() {
        tracing::info!(%address, "admin listening");
    }
    wait(handle).await?;
    if let Some(core) = core {
        core.close();
    }
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

/// The workers, under their supervisor. It is ready when all of them accept. What it is told as a service, the supervisor is
/// told as a signal.
async fn supervise(master: Rc<Master>, workers: Workers, drain: Duration, handle: Handle) -> Outcome {
    let (news_post, news) = rt::mailbox(CONTROL_MESSAGES_MAX);
    let orders = master.start_workers(workers, &news_post)?;
    let (signal_post, signals) = rt::mailbox(CONTROL_MESSAGES_MAX);
    let is_draining = Cell::new(false);
    let died = RefCell::new(None::<String>);
    let note = |note: Note| {
        match &note {
            Note::Ended(index, Err(reason)) => {
                died.borrow_mut().get_or_insert_with(|| format!("worker {index} ended: {reason}"));
            }
            Note::Draining => {
                is_draining.set(true);
                // By itself: nothing can go on, but what is in flight may end, and the others must hear of it.
                if !handle.is_stopping() {
                    handle.give_up(died.borrow().as_deref().unwrap_or("the workers drain"));
                }
            }
            Note::Tick | Note::Accepting(..) | Note::Ended(_, Ok(())) => {}
        }
        master.note(note);
        if master.all_accept() {
            handle.ready();
        }
    };
    let told = async {
        let stop = handle.stopping().await;
        // A second signal would cut what it is about to finish.
        if !is_draining.get() {
            let _ = signal_post.post(Signal(stop.signal.unwrap_or("the program")));
        }
        pending::<()>().await;
    };
    let supervisor = Supervisor::new(orders, drain);
    let result = match rt::select(supervisor.run(&news, &signals, note), told).await {
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
