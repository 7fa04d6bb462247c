//! What is looked at after each step, and whenever nothing can run: bounds, counts, breakers and ejections.

use super::super::scenario::WORKERS_MAX;
use ringfort::clock::{self, Moment};
use ringfort::proxy::{BreakerState, Upstream, share};
use ringfort::rt::sim;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// What a server was last seen to be.
#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    breaker_opens: u64,
    opened: Option<Moment>,
    ejections: u64,
}

struct Watch {
    upstream: Arc<Upstream>,
    workers: usize,
    seen: Vec<Seen>,
}

/// Begins to watch. Worker `n` runs on the world's core `n + 1`.
pub(super) fn begin(upstream: Arc<Upstream>, workers: usize) {
    let seen = vec![Seen::default(); upstream.servers.len()];
    let watch = Rc::new(RefCell::new(Watch { upstream, workers, seen }));
    let quiet = watch.clone();
    sim::check_each_step(move || watch.borrow_mut().step());
    sim::check_when_quiet(move || quiet.borrow().quiet());
}

/// Connections, requests in flight and requests that wait, as the workers count them.
pub(super) fn counts(upstream: &Upstream) -> (u64, u64, u64) {
    let (mut open, mut in_flight, mut pending) = (0, 0, 0);
    for core in upstream.counters.cores() {
        pending += core.pending();
        for server in 0..upstream.servers.len() {
            open += core.server(server).open();
            in_flight += core.server(server).in_flight();
        }
    }
    (open, in_flight, pending)
}

impl Watch {
    fn step(&mut self) -> Result<(), String> {
        let limits = self.upstream.spec.limits;
        for worker in 0..self.workers {
            let open = sim::outward_connections(worker + 1);
            let most = share(limits.connections, WORKERS_MAX, worker);
            if open > most {
                return Err(format!("worker {worker} has {open} connections to servers, at most {most}"));
            }
        }
        for core in self.upstream.counters.cores() {
            let (worker, pending) = (core.core(), core.pending());
            let most = share(limits.pending, WORKERS_MAX, worker) as u64;
            let open: u64 = (0..self.upstream.servers.len()).map(|server| core.server(server).open()).sum();
            let is_open = sim::outward_connections(worker + 1) as u64;
            if pending > most {
                return Err(format!("worker {worker}: {pending} requests wait for a connection, at most {most}"));
            }
            if is_open > open {
                return Err(format!("worker {worker} has {is_open} connections to servers, and counts {open}"));
            }
        }
        self.check_protection()
    }

    /// A breaker is open for exactly as long as it should be, and so is an ejection.
    fn check_protection(&mut self) -> Result<(), String> {
        let now = clock::now();
        let spec = &self.upstream.spec;
        for (server, seen) in self.seen.iter_mut().enumerate() {
            let standing = self.upstream.standings.read(server, now);
            if let Some(breaker) = &spec.breaker {
                if standing.breaker_opens > seen.breaker_opens {
                    (seen.breaker_opens, seen.opened) = (standing.breaker_opens, Some(now));
                }
                let is_due = seen.opened.is_some_and(|opened| now < opened + breaker.open);
                if (standing.breaker == BreakerState::Open) != is_due {
                    return Err(format!(
                        "server {server}: its breaker is {:?}, open since {:?}",
                        standing.breaker, seen.opened
                    ));
                }
            }
            if let Some(ejection) = &spec.ejection
                && standing.ejections > seen.ejections
            {
                seen.ejections = standing.ejections;
                let took = standing.ejected_until.map(|until| until.since(now));
                let lengths = (1..=8).map(|row| ejection.duration.saturating_mul(row).min(ejection.duration_max));
                if !lengths.into_iter().any(|length| Some(length) == took) {
                    return Err(format!("server {server} is ejected for {took:?}"));
                }
            }
        }
        Ok(())
    }

    /// Nothing can run, and nothing is due: nobody waits for a connection that there may be.
    fn quiet(&self) -> Result<(), String> {
        for core in self.upstream.counters.cores() {
            let open: u64 = (0..self.upstream.servers.len()).map(|server| core.server(server).open()).sum();
            let most = share(self.upstream.spec.limits.connections, WORKERS_MAX, core.core()) as u64;
            if core.pending() > 0 && open < most {
                return Err(format!(
                    "worker {}: {} requests wait for a connection, and there are {open} of {most}",
                    core.core(),
                    core.pending()
                ));
            }
        }
        Ok(())
    }
}

/// Waits until nothing is in flight to the upstream and nothing waits, by `until` at the latest.
pub(super) async fn settle(upstream: &Upstream, until: Moment) {
    loop {
        let (open, in_flight, pending) = counts(upstream);
        if (in_flight, pending) == (0, 0) {
            return;
        }
        if clock::now() >= until {
            sim::fail(format!("{open} connections, {in_flight} requests in flight and {pending} that wait are left"));
            return;
        }
        ringfort::rt::sleep_until(clock::now() + Duration::from_millis(20)).await;
    }
}
