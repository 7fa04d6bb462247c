//! What is looked at after each step, and whenever nothing can run: bounds, counts, breakers, ejections and drains of
//! every upstream; and at the end, how requests were split between them.

use super::super::set_up::WORKERS_MAX;
use ringfort::clock::{self, Moment};
use ringfort::proxy::{Availability, BreakerState, Upstream, UpstreamCounter, UpstreamCounters, share};
use ringfort::rt::sim;
use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// For how long a server has to have been available before a core may be blamed that does not know of it.
const KNOWN: Duration = Duration::from_millis(10);

/// After so many steps one looks for cores that begin to use an upstream.
const STEPS: u64 = 16;

/// What a server was last seen to be.
#[derive(Debug, Clone, Default)]
struct Seen {
    breaker_opens: u64,
    opened: Option<Moment>,
    ejections: u64,
    is_drained: bool,
    available_since: Option<Moment>,
}

/// What a core was last seen to have counted.
struct Counted {
    counters: Arc<UpstreamCounters>,
    unavailable: u64,
    /// By server.
    in_flight: Vec<u64>,
}

struct Watch {
    upstream: Arc<Upstream>,
    workers: usize,
    servers: Vec<Seen>,
    cores: Vec<Counted>,
}

struct Watches {
    workers: usize,
    steps: u64,
    each: Vec<Watch>,
}

/// Begins to watch. Worker `n` runs on the world's core `n + 1`.
pub(super) fn begin(upstreams: Vec<Arc<Upstream>>, workers: usize) {
    let each = upstreams.into_iter().map(|upstream| Watch {
        servers: vec![Seen::default(); upstream.servers.len()],
        cores: Vec::new(),
        workers,
        upstream,
    });
    let watches = Rc::new(RefCell::new(Watches { workers, steps: 0, each: each.collect() }));
    let quiet = watches.clone();
    sim::check_each_step(move || watches.borrow_mut().step());
    sim::check_when_quiet(move || quiet.borrow_mut().quiet());
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

fn open(upstream: &Upstream, core: &UpstreamCounters) -> u64 {
    (0..upstream.servers.len()).map(|server| core.server(server).open()).sum()
}

/// Requests were split by weight: how many each got is as near to its share as chance has it, in all but one of many
/// millions of runs (Hoeffding's bound).
pub(super) fn assert_split(targets: &[Arc<Upstream>], weights: &[u32]) {
    let ended = |upstream: &Arc<Upstream>| -> u64 {
        upstream.sample(clock::now()).terminations.iter().map(|(_, count)| count).sum()
    };
    let counts: Vec<u64> = targets.iter().map(ended).collect();
    let (all, total) = (counts.iter().sum::<u64>() as f64, f64::from(weights.iter().sum::<u32>()));
    for (count, weight) in counts.iter().zip(weights) {
        let (due, most) = (all * f64::from(*weight) / total, 3.5 * all.sqrt());
        assert!((*count as f64 - due).abs() <= most, "split by {weights:?}, upstreams got {counts:?} requests");
    }
}

impl Watches {
    fn step(&mut self) -> Result<(), String> {
        self.steps += 1;
        // A core is there from its first request on. To look for them at each step would be dear.
        if self.steps.is_multiple_of(STEPS) {
            self.meet_cores();
        }
        self.each.iter_mut().try_for_each(Watch::step)?;
        for worker in 0..self.workers {
            let is_open = sim::outward_connections(worker + 1);
            let most = self.each.iter().map(|watch| watch.connections_max(worker)).sum();
            if is_open > most {
                return Err(format!("worker {worker} has {is_open} connections to servers, at most {most}"));
            }
            if is_open as u64 > self.counted(worker) {
                self.meet_cores();
            }
            let counted = self.counted(worker);
            if is_open as u64 > counted {
                return Err(format!("worker {worker} has {is_open} connections to servers, and counts {counted}"));
            }
        }
        Ok(())
    }

    fn meet_cores(&mut self) {
        self.each.iter_mut().for_each(Watch::meet_cores);
    }

    /// Connections to servers, as a worker counts them.
    fn counted(&self, worker: usize) -> u64 {
        let of = |watch: &Watch| -> u64 {
            let cores = watch.cores.iter().filter(|core| core.counters.core() == worker);
            cores.map(|core| open(&watch.upstream, &core.counters)).sum()
        };
        self.each.iter().map(of).sum()
    }

    fn quiet(&mut self) -> Result<(), String> {
        self.meet_cores();
        self.each.iter().try_for_each(Watch::quiet)
    }
}

impl Watch {
    fn connections_max(&self, worker: usize) -> usize {
        share(self.upstream.spec.limits.connections, WORKERS_MAX, worker)
    }

    fn step(&mut self) -> Result<(), String> {
        for core in &self.cores {
            let (worker, pending) = (core.counters.core(), core.counters.pending());
            let most = share(self.upstream.spec.limits.pending, WORKERS_MAX, worker) as u64;
            if pending > most {
                return Err(format!("worker {worker}: {pending} requests wait for a connection, at most {most}"));
            }
            let (open, most) = (open(&self.upstream, &core.counters), self.connections_max(worker) as u64);
            if open > most {
                return Err(format!("worker {worker} has {open} connections to an upstream, at most {most}"));
            }
        }
        self.check_counts()?;
        self.check_servers()
    }

    fn meet_cores(&mut self) {
        if self.cores.len() == self.workers {
            return;
        }
        for counters in self.upstream.counters.cores().into_iter().skip(self.cores.len()) {
            let in_flight = (0..self.servers.len()).map(|server| counters.server(server).in_flight()).collect();
            let unavailable = counters.get(UpstreamCounter::Unavailable);
            self.cores.push(Counted { counters, unavailable, in_flight });
        }
    }

    /// A drained server gets no more requests, and nobody is turned away while there is another.
    fn check_counts(&mut self) -> Result<(), String> {
        let now = clock::now();
        for core in &mut self.cores {
            for (server, (seen, before)) in self.servers.iter().zip(&mut core.in_flight).enumerate() {
                let in_flight = core.counters.server(server).in_flight();
                if seen.is_drained && in_flight > *before {
                    return Err(format!("server {server} is drained, and gets one more request"));
                }
                *before = in_flight;
            }
            let unavailable = core.counters.get(UpstreamCounter::Unavailable);
            let is_known = |seen: &Seen| seen.available_since.is_some_and(|since| since + KNOWN <= now);
            if unavailable > core.unavailable
                && let Some(server) = self.servers.iter().position(is_known)
            {
                return Err(format!("a request is told that no server is available, and server {server} is"));
            }
            core.unavailable = unavailable;
        }
        Ok(())
    }

    /// A breaker is open for exactly as long as it should be, and so is an ejection.
    fn check_servers(&mut self) -> Result<(), String> {
        let now = clock::now();
        let spec = &self.upstream.spec;
        for (server, seen) in self.servers.iter_mut().enumerate() {
            let standing = self.upstream.standings.read(server, now);
            seen.is_drained = standing.is_drained;
            let is_available = standing.availability == Availability::Available;
            seen.available_since = seen.available_since.filter(|_| is_available).or(is_available.then_some(now));
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
        for core in &self.cores {
            let (worker, pending) = (core.counters.core(), core.counters.pending());
            let (open, most) = (open(&self.upstream, &core.counters), self.connections_max(worker) as u64);
            if pending > 0 && open < most {
                return Err(format!(
                    "worker {worker}: {pending} requests wait for a connection, and there are {open} of {most}"
                ));
            }
        }
        Ok(())
    }
}

/// Waits until nothing is in flight to any upstream and nothing waits, by `until` at the latest.
pub(super) async fn settle(upstreams: &[Arc<Upstream>], until: Moment) {
    for upstream in upstreams {
        loop {
            let (open, in_flight, pending) = counts(upstream);
            if (in_flight, pending) == (0, 0) {
                break;
            }
            if clock::now() >= until {
                let index = upstream.slot;
                sim::fail(format!(
                    "upstream {index}: {open} connections, {in_flight} requests in flight and {pending} that wait are \
                     left"
                ));
                return;
            }
            ringfort::rt::sleep_until(clock::now() + Duration::from_millis(20)).await;
        }
    }
}
