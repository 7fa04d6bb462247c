//! Which server of an upstream gets a request. One balancer per core and upstream; it knows what this core sees.
//!
//! | file | policy |
//! |---|---|
//! | `round_robin` | in turn, smoothly weighted |
//! | `random` | by weighted chance |
//! | `least_conn` | the fewest requests in flight for its weight |
//! | `p2c` | the better of two drawn by chance, by latency and load |
//! | `rendezvous`, `maglev` | the same one for the same key |
//!
//! and `draw` (a weighted draw in constant time), `ewma` (a server's latency), `key` (the hash of a request's key).
//!
//! All policies share three rules. A server that is not available is never chosen, and one that is available is always
//! found. Backups are only looked at when no other server is available. A server that has come back gets a tenth of its
//! share at first, all of it after the upstream's `slow_start`, rising in proportion to the time between.

mod draw;
mod ewma;
mod key;
mod least_conn;
mod maglev;
mod p2c;
mod random;
mod rendezvous;
mod round_robin;

pub use ewma::PeakEwma;
pub use key::hash_key;

use super::chance::Chance;
use super::spec::{Balance, HashAlgorithm, ServerSpec, UpstreamSpec};
use crate::clock::Moment;
use std::collections::HashMap;
use std::time::Duration;

/// What a balancer asks about the servers of its upstream, on this core, now.
///
/// The answers may change from one call to the next: other cores share some of what they rest on.
pub trait Servers {
    /// How many there are: those of the spec that the balancer was made from, in its order.
    fn len(&self) -> usize;
    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Whether this request may go to it: neither drained, unhealthy, ejected, broken nor full, and not tried before.
    fn is_available(&self, server: usize) -> bool;
    /// Requests that this core has there.
    fn in_flight(&self, server: usize) -> u32;
    /// How fast it answered this core.
    fn latency(&self, server: usize) -> &PeakEwma;
    /// When it came back, for slow start; `None`: since ever.
    fn available_since(&self, server: usize) -> Option<Moment>;
}

/// Chooses servers by one upstream's policy.
#[derive(Debug, Clone)]
pub struct Balancer {
    /// The primaries, then the backups; none of them empty.
    groups: Vec<Policy>,
    slow_start: Duration,
    chance: Chance,
}

impl Balancer {
    /// The balancer of an upstream. `seed` decides what is up to chance (not where keys go), so that cores differ.
    ///
    /// A Maglev table takes some milliseconds: it is built once, and the other cores get theirs by
    /// [`Balancer::for_core`].
    pub fn new(spec: &UpstreamSpec, seed: u64) -> Self {
        let members = members(&spec.servers);
        let (backups, primaries): (Vec<Member>, Vec<Member>) =
            members.into_iter().partition(|member| spec.servers[member.server].backup);
        let groups = [primaries, backups].into_iter().filter(|group| !group.is_empty());
        let groups = groups.map(|group| Policy::new(&spec.balance, group)).collect();
        Self { groups, slow_start: spec.slow_start, chance: Chance::new(seed) }.for_core(seed)
    }

    /// A balancer of the same upstream for another core, at its start; shares what never changes.
    #[must_use]
    pub fn for_core(&self, seed: u64) -> Self {
        let mut own = self.clone();
        own.chance = Chance::new(seed);
        own.groups.iter_mut().for_each(|group| group.restart(&mut own.chance));
        own
    }

    /// The server that gets a request; `None` when none is available. `key` is the hash of the request's key
    /// ([`hash_key`]), for policies that have one; a request without goes where chance has it.
    #[inline]
    pub fn pick<S: Servers>(&mut self, servers: &S, key: Option<u64>, now: Moment) -> Option<usize> {
        let view = View { servers, slow_start: self.slow_start, now };
        let Self { groups, chance, .. } = self;
        groups.iter_mut().find_map(|group| group.pick(&view, key, chance))
    }
}

/// One server, as policies know it.
#[derive(Debug, Clone, Copy)]
struct Member {
    /// Its index in the upstream.
    server: usize,
    /// From 1 on.
    weight: u64,
    /// Hash of its address: what keys are matched with, so that they stay where they are when the config lists the same
    /// servers in another order, or others beside them.
    hash: u64,
}

fn members(servers: &[ServerSpec]) -> Vec<Member> {
    let mut times = HashMap::new();
    let member = |(server, spec): (usize, &ServerSpec)| {
        let hash = hash_key(spec.address.to_string().as_bytes());
        // An address that is listed twice is two servers: the second one gets keys too.
        let time = times.entry(hash).and_modify(|time| *time += 1).or_insert(0_u64);
        let hash = if *time == 0 { hash } else { hash_key(&[hash.to_le_bytes(), time.to_le_bytes()].concat()) };
        Member { server, weight: u64::from(spec.weight.max(1)), hash }
    };
    servers.iter().enumerate().map(member).collect()
}

/// A server's whole share, in parts: what slow start is counted in.
const SHARE_WHOLE: u64 = 1024;
/// The share of a server that has just come back: enough to warm it, and to find out that it is well.
const SHARE_START: u64 = SHARE_WHOLE / 10;

/// What [`Servers`] say, as of one request.
struct View<'s, S> {
    servers: &'s S,
    slow_start: Duration,
    now: Moment,
}

impl<S: Servers> View<'_, S> {
    #[inline]
    fn is_usable(&self, member: &Member) -> bool {
        // Fewer servers than the spec has would be a caller's mistake; it costs them their requests and no more.
        member.server < self.servers.len() && self.servers.is_available(member.server)
    }

    /// What slow start leaves a server of its share, of [`SHARE_WHOLE`].
    #[inline]
    fn share(&self, member: &Member) -> u64 {
        if self.slow_start.is_zero() {
            return SHARE_WHOLE;
        }
        match self.servers.available_since(member.server) {
            None => SHARE_WHOLE,
            Some(since) => rising_share(self.now.since(since), self.slow_start),
        }
    }

    /// A server's weight with what slow start leaves of it: at most 2^42.
    #[inline]
    fn weight(&self, member: &Member) -> u64 {
        member.weight * self.share(member)
    }
}

fn rising_share(elapsed: Duration, slow_start: Duration) -> u64 {
    if elapsed >= slow_start {
        return SHARE_WHOLE;
    }
    let risen = elapsed.as_nanos() * u128::from(SHARE_WHOLE - SHARE_START) / slow_start.as_nanos().max(1);
    SHARE_START + risen as u64
}

/// A policy with the servers that it chooses from.
#[derive(Debug, Clone)]
enum Policy {
    RoundRobin(round_robin::RoundRobin),
    Random(random::Random),
    LeastConn(least_conn::LeastConn),
    P2c(p2c::P2c),
    Rendezvous(rendezvous::Rendezvous),
    Maglev(maglev::Maglev),
}

impl Policy {
    fn new(balance: &Balance, members: Vec<Member>) -> Self {
        match balance {
            Balance::RoundRobin => Self::RoundRobin(round_robin::RoundRobin::new(members)),
            Balance::Random => Self::Random(random::Random::new(members)),
            Balance::LeastConn => Self::LeastConn(least_conn::LeastConn::new(members)),
            Balance::P2c => Self::P2c(p2c::P2c::new(members)),
            Balance::Hash { algorithm: HashAlgorithm::Rendezvous, .. } => {
                Self::Rendezvous(rendezvous::Rendezvous::new(members))
            }
            Balance::Hash { algorithm: HashAlgorithm::Maglev, .. } => Self::Maglev(maglev::Maglev::new(members)),
        }
    }

    fn restart(&mut self, chance: &mut Chance) {
        match self {
            Self::RoundRobin(policy) => policy.restart(chance),
            Self::LeastConn(policy) => policy.restart(chance),
            Self::P2c(policy) => policy.restart(),
            Self::Random(_) | Self::Rendezvous(_) | Self::Maglev(_) => {}
        }
    }

    #[inline]
    fn pick<S: Servers>(&mut self, view: &View<'_, S>, key: Option<u64>, chance: &mut Chance) -> Option<usize> {
        match self {
            Self::RoundRobin(policy) => policy.pick(view),
            Self::Random(policy) => policy.pick(view, chance),
            Self::LeastConn(policy) => policy.pick(view),
            Self::P2c(policy) => policy.pick(view, chance),
            Self::Rendezvous(policy) => policy.pick(view, key.unwrap_or_else(|| chance.next())),
            Self::Maglev(policy) => policy.pick(view, key.unwrap_or_else(|| chance.next())),
        }
    }
}

#[cfg(test)]
mod tests;
