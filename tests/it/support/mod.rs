//! What the tests of the running server share: the server as a process, a strict client, waiting with a deadline.

pub(crate) mod app;
mod client;
pub(crate) mod dns;
mod message;
mod plugin;
mod server;
pub(crate) mod upstream;

pub(crate) use client::Client;
pub(crate) use message::Response;
pub(crate) use server::{Server, Start};

use std::time::Duration;

use ringfort::clock;
use ringfort::rt::{DriverChoice, Executor, ExecutorChoice};

/// How long anything may take that should come to be: far above what it takes, for hosts that are busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Polls until `reached` holds; panics with `what` when it does not within [`PATIENCE`].
#[track_caller]
pub(crate) fn wait_until(what: &str, reached: impl FnMut() -> bool) {
    wait_within(PATIENCE, what, reached);
}

/// As [`wait_until`], for what may take so long.
#[track_caller]
pub(crate) fn wait_within(patience: Duration, what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = clock::now() + patience;
    while !reached() {
        assert!(clock::now() < deadline, "waited in vain: {what}");
        pause();
    }
}

/// Between two looks at a condition: the one place in the tests that sleeps.
#[allow(clippy::disallowed_methods, reason = "a pause between two polls of a condition")]
pub(crate) fn pause() {
    std::thread::sleep(Duration::from_millis(5));
}

/// The executor that servers run on: what `RINGFORT_TEST_EXECUTOR` names, else what a server takes by itself.
pub(crate) fn executor() -> Executor {
    let choice = match std::env::var("RINGFORT_TEST_EXECUTOR") {
        Ok(name) => name.parse().unwrap(),
        Err(_) => ExecutorChoice::Auto,
    };
    choice.resolve().unwrap_or_else(|missing| panic!("RINGFORT_TEST_EXECUTOR={}: {missing}", choice.name()))
}

/// This driver, or where the executor has no epoll the one that it has: for tests to which the driver is all the same.
pub(crate) fn on_hand(driver: &'static str) -> &'static str {
    if driver == "epoll" && executor().refusal(DriverChoice::Epoll).is_some() { "auto" } else { driver }
}

/// Runs a test on each driver that this host and the executor have, all at once.
pub(crate) fn on_each_driver(test: impl Fn(&'static str) + Sync) {
    let io_uring = ringfort::sys::probe::io_uring();
    if let Err(refusal) = &io_uring {
        eprintln!("io_uring is not tested on this host: {refusal}");
    }
    let no_epoll = executor().refusal(DriverChoice::Epoll);
    if let Some(reason) = no_epoll {
        eprintln!("epoll is not tested on {}: {reason}", executor().name());
    }
    let test = &test;
    std::thread::scope(|scope| {
        let first = io_uring.is_ok().then(|| scope.spawn(|| test("io_uring")));
        if no_epoll.is_none() {
            test("epoll");
        }
        if let Some(Err(panic)) = first.map(std::thread::ScopedJoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
    });
}
