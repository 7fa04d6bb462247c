//! What the whole process knows of an upstream's servers: drained, healthy, ejected, broken. Every core reads it with each
//! request; it is written when something changes.
//!
//! | file | holds |
//! |---|---|
//! | `breaker` | the circuit breaker of one server, in one atomic word |
//! | `ejection` | failures in a row and ejection of one server, in another; how many are ejected at once |
//!
//! A request asks for [`StandingSet::availability`], is admitted ([`StandingSet::admit`]), and hands its [`Admission`] back
//! with what came of it ([`StandingSet::note_success`], [`StandingSet::note_failure`]). Where all is well, that is a few
//! loads of lines that no core writes.
//!
//! Each word changes by compare-exchange from one whole state to the next, so cores that note things at the same time never
//! mix two states. No word depends on the order in which another one is seen.

mod breaker;
mod ejection;

use breaker::{Breaker, Entry};
use ejection::{Ejection, Slots};

use super::checks::{Health, HealthChange};
use super::spec::{BreakerSpec, EjectionSpec, UpstreamSpec};
use crate::clock::Moment;
pub use crate::metrics::keys::BreakerState;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::Arc;

/// Whether a server gets requests, and if not, why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Availability {
    /// It does.
    Available,
    /// The operator wants it to get none.
    Drained,
    /// Its active checks fail.
    Unhealthy,
    /// It failed too many requests in a row.
    Ejected,
    /// It could not be reached too many times in a row.
    BreakerOpen,
    /// Its breaker is half open, and another request is finding out whether it is back.
    ProbeTaken,
}

/// How an attempt failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// No connection.
    Connect,
    /// The connection ended, or time was up, before the response head.
    NoResponse,
    /// A response of status 5xx, or one that the config counts as a failure.
    Status5xx,
    /// Something that is no response.
    Protocol,
}

impl FailureKind {
    /// Whether the server counts as unreachable: what the breaker is for. One that answers 5xx was reached.
    const fn is_unreachable(self) -> bool {
        match self {
            Self::Connect | Self::NoResponse | Self::Protocol => true,
            Self::Status5xx => false,
        }
    }
}

/// One server's standing, read: for the admin listener and metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StandingSnapshot {
    /// Whether it gets requests.
    pub availability: Availability,
    /// Whether the operator drained it.
    pub is_drained: bool,
    /// What active checks say.
    pub health: Health,
    /// Until when it is ejected.
    pub ejected_until: Option<Moment>,
    /// Its breaker.
    pub breaker: BreakerState,
    /// How often it was ejected.
    pub ejections: u64,
    /// How often its breaker opened, by failed probes too.
    pub breaker_opens: u64,
    /// How often its health changed.
    pub health_changes: u64,
}

/// The permission to send one request to one server. Handed back with its result; dropped, it was not used.
#[derive(Debug)]
#[must_use = "an admission that is dropped was not used"]
pub struct Admission {
    server: usize,
    /// Only where it matters what becomes of it: counting references for every request would have all cores write to one
    /// line.
    probe: Option<Probe>,
}

impl Admission {
    /// The server it is for.
    pub fn server(&self) -> usize {
        self.server
    }

    /// Whether this request finds out if the server is back.
    pub fn is_probe(&self) -> bool {
        self.probe.is_some()
    }
}

/// The one request that may try a server whose breaker is half open.
#[derive(Debug)]
struct Probe {
    set: Arc<StandingSet>,
    server: usize,
    /// Until when the breaker was open.
    opened_until: Moment,
}

impl Drop for Probe {
    fn drop(&mut self) {
        // Without effect where the result has been noted.
        self.set.servers[self.server].breaker.give_back(self.opened_until);
    }
}

/// What of a server's standing goes over to another config.
#[cfg(not(loom))]
#[derive(Debug, Clone, Copy)]
pub(in crate::proxy) struct Kept {
    /// Both configs say the same of its drain, so the operator's last order stands.
    pub(in crate::proxy) drain: bool,
    /// It is checked: or nobody would find it healthy again.
    pub(in crate::proxy) health: bool,
}

// A pair of lines for each server: what is noted of one does not slow the look at its neighbour.
#[repr(align(128))]
#[derive(Debug)]
struct Standing {
    is_drained: AtomicBool,
    is_unhealthy: AtomicBool,
    ejection: Ejection,
    breaker: Breaker,
    /// Nanoseconds; 0: since ever.
    available_since: AtomicU64,
    ejections: AtomicU64,
    breaker_opens: AtomicU64,
    health_changes: AtomicU64,
}

impl Standing {
    fn new(is_drained: bool) -> Self {
        Self {
            is_drained: AtomicBool::new(is_drained),
            is_unhealthy: AtomicBool::new(false),
            ejection: Ejection::default(),
            breaker: Breaker::default(),
            available_since: AtomicU64::new(0),
            ejections: AtomicU64::new(0),
            breaker_opens: AtomicU64::new(0),
            health_changes: AtomicU64::new(0),
        }
    }

    /// Several causes may keep a server away at once: it is back with the last of them.
    fn comes_back(&self, when: Moment) {
        self.available_since.fetch_max(when.as_nanos(), Relaxed);
    }

    fn health(&self) -> Health {
        if self.is_unhealthy.load(Relaxed) { Health::Unhealthy } else { Health::Healthy }
    }

    fn availability(&self, now: Moment) -> Availability {
        let is_drained = self.is_drained.load(Relaxed);
        #[cfg(all(feature = "sim", not(loom)))]
        let is_drained = is_drained && !crate::rt::sim::planted(crate::rt::sim::Bug::DrainedPicked);
        if is_drained {
            Availability::Drained
        } else if self.is_unhealthy.load(Relaxed) {
            Availability::Unhealthy
        } else if self.ejection.ejected_until(now).is_some() {
            Availability::Ejected
        } else {
            match self.breaker.entry(now) {
                Entry::Closed | Entry::Probe(_) => Availability::Available,
                Entry::Open => Availability::BreakerOpen,
                Entry::ProbeTaken => Availability::ProbeTaken,
            }
        }
    }
}

/// The standing of all servers of an upstream: one for the process, in the order of the spec.
///
/// Indexes of servers must be below [`StandingSet::len`]; methods that take one panic otherwise.
#[derive(Debug)]
pub struct StandingSet {
    servers: Box<[Standing]>,
    ejection: Option<EjectionSpec>,
    breaker: Option<BreakerSpec>,
    slots: Slots,
}

impl StandingSet {
    /// Servers of which nothing is known: all are available, but those that the config drains.
    pub fn new(spec: &UpstreamSpec) -> Self {
        let servers: Box<[Standing]> = spec.servers.iter().map(|server| Standing::new(server.drain)).collect();
        let percent_max = spec.ejection.map_or(0, |ejection| ejection.percent_max);
        let slots = Slots::new(servers.len(), percent_max);
        Self { servers, ejection: spec.ejection, breaker: spec.breaker, slots }
    }

    /// Begins with what is known of a server that is `known` in the set that this one replaces. To be called before anybody
    /// else sees this one.
    #[cfg(not(loom))]
    pub(in crate::proxy) fn take_over(&self, server: usize, before: &Self, known: usize, kept: Kept, now: Moment) {
        let (next, before) = (&self.servers[server], &before.servers[known]);
        if kept.drain {
            next.is_drained.store(before.is_drained.load(Relaxed), Relaxed);
        }
        if kept.health {
            next.is_unhealthy.store(before.is_unhealthy.load(Relaxed), Relaxed);
        }
        if self.breaker.is_some() {
            next.breaker.take_over(&before.breaker);
        }
        if self.ejection.is_some() {
            next.ejection.take_over(&before.ejection, &self.slots, now);
        }
        for (next, before) in [
            (&next.available_since, &before.available_since),
            (&next.ejections, &before.ejections),
            (&next.breaker_opens, &before.breaker_opens),
            (&next.health_changes, &before.health_changes),
        ] {
            next.store(before.load(Relaxed), Relaxed);
        }
    }

    /// The servers.
    pub fn len(&self) -> usize {
        self.servers.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.servers.is_empty()
    }

    /// Whether a server gets requests. A server whose breaker is half open is available to who takes the probe.
    #[inline]
    pub fn availability(&self, server: usize, now: Moment) -> Availability {
        self.servers[server].availability(now)
    }

    /// When a server came back last, for slow start; `None`: it never was away. Later than now while it is ejected.
    #[inline]
    pub fn available_since(&self, server: usize) -> Option<Moment> {
        match self.servers[server].available_since.load(Relaxed) {
            0 => None,
            nanos => Some(Moment::from_nanos(nanos)),
        }
    }

    /// Lets a request through to a server that is available. Where its breaker is half open this takes the one probe, so
    /// another core may come first although the server was available a moment ago.
    #[inline]
    pub fn admit(self: &Arc<Self>, server: usize, now: Moment) -> Option<Admission> {
        let standing = &self.servers[server];
        if standing.availability(now) != Availability::Available {
            return None;
        }
        match standing.breaker.enter(now) {
            Entry::Closed => Some(Admission { server, probe: None }),
            Entry::Probe(opened_until) => {
                Some(Admission { server, probe: Some(Probe { set: Arc::clone(self), server, opened_until }) })
            }
            Entry::Open | Entry::ProbeTaken => None,
        }
    }

    /// A server answered well.
    #[inline]
    pub fn note_success(&self, admission: Admission, now: Moment) {
        let standing = &self.servers[admission.server];
        standing.ejection.note_success();
        self.note_reached(&admission, now);
    }

    /// A server failed a request. What was under way to it when it was ejected, or its breaker opened, changes nothing any
    /// more.
    pub fn note_failure(&self, admission: Admission, kind: FailureKind, now: Moment) {
        let standing = &self.servers[admission.server];
        if kind.is_unreachable() {
            self.note_unreachable(&admission, now);
        } else {
            self.note_reached(&admission, now);
        }
        let Some(spec) = &self.ejection else { return };
        let others = self.servers.iter().map(|other| &other.ejection);
        if let Some(until) = standing.ejection.note_failure(spec, &self.slots, others, now) {
            standing.ejections.fetch_add(1, Relaxed);
            standing.comes_back(until);
        }
    }

    fn note_reached(&self, admission: &Admission, now: Moment) {
        let standing = &self.servers[admission.server];
        match &admission.probe {
            None => standing.breaker.note_success(),
            Some(probe) => {
                if standing.breaker.close(probe.opened_until) {
                    standing.comes_back(now);
                }
            }
        }
    }

    fn note_unreachable(&self, admission: &Admission, now: Moment) {
        let Some(spec) = &self.breaker else { return };
        let breaker = &self.servers[admission.server].breaker;
        let opened = match &admission.probe {
            None => breaker.note_failure(spec, now),
            Some(probe) => breaker.reopen(probe.opened_until, now + spec.open),
        };
        if opened {
            self.servers[admission.server].breaker_opens.fetch_add(1, Relaxed);
        }
    }

    /// What a check of a server has changed (see [`super::CheckSchedule::note`]).
    pub fn note_check(&self, server: usize, change: HealthChange, now: Moment) {
        let is_unhealthy = match change {
            HealthChange::Unchanged => return,
            HealthChange::BecameHealthy => false,
            HealthChange::BecameUnhealthy => true,
        };
        let standing = &self.servers[server];
        if !is_unhealthy {
            standing.comes_back(now);
        }
        if standing.is_unhealthy.swap(is_unhealthy, Relaxed) != is_unhealthy {
            standing.health_changes.fetch_add(1, Relaxed);
        }
    }

    /// Drains a server, or ends that, by the operator's order; whether that changed anything.
    pub fn set_drained(&self, server: usize, is_drained: bool, now: Moment) -> bool {
        let standing = &self.servers[server];
        let changed = standing.is_drained.load(Relaxed) != is_drained;
        if changed && !is_drained {
            // First, or a core could see the server without its slow start.
            standing.comes_back(now);
        }
        standing.is_drained.swap(is_drained, Relaxed) != is_drained
    }

    /// Servers that are ejected now.
    pub fn count_ejected(&self, now: Moment) -> usize {
        self.servers.iter().filter(|standing| standing.ejection.ejected_until(now).is_some()).count()
    }

    /// All that is known of a server.
    pub fn read(&self, server: usize, now: Moment) -> StandingSnapshot {
        let standing = &self.servers[server];
        StandingSnapshot {
            availability: standing.availability(now),
            is_drained: standing.is_drained.load(Relaxed),
            health: standing.health(),
            ejected_until: standing.ejection.ejected_until(now),
            breaker: match standing.breaker.entry(now) {
                Entry::Closed => BreakerState::Closed,
                Entry::Open => BreakerState::Open,
                Entry::Probe(_) | Entry::ProbeTaken => BreakerState::HalfOpen,
            },
            ejections: standing.ejections.load(Relaxed),
            breaker_opens: standing.breaker_opens.load(Relaxed),
            health_changes: standing.health_changes.load(Relaxed),
        }
    }
}

#[cfg(test)]
#[cfg(loom)]
mod loom_models;
#[cfg(test)]
mod tests;
