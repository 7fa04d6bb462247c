//! Upstreams as the whole process knows them: what the config says, and what was learnt of their servers' health.

use std::sync::{Arc, Mutex, PoisonError};

use super::balance::Balancer;
use super::counters::AllCounters;
use super::spec::{ServerAddress, ServerSpec, UpstreamSpec};
use super::standing::{Kept, StandingSet};
use crate::clock::Moment;
use crate::rt::Remote;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// The upstreams of one config, in the order of their names.
#[derive(Debug, Default)]
pub struct Upstreams(Vec<Arc<Upstream>>);

impl Upstreams {
    /// Upstreams made of what the config says.
    pub fn new(specs: Vec<UpstreamSpec>) -> Self {
        Self::succeed(specs, &Self::default(), Moment::default())
    }

    /// Upstreams made of what the config says, in the place of those `before`. One of which it says the same as before is
    /// the same one, with all its connections. What is known of a server stays where its upstream has changed too.
    pub fn succeed(specs: Vec<UpstreamSpec>, before: &Self, now: Moment) -> Self {
        let mut taken: Vec<_> = specs.iter().filter_map(|spec| before.find(&spec.name)).map(|one| one.slot).collect();
        taken.sort_unstable();
        let mut free = (0..).filter(|slot| taken.binary_search(slot).is_err());
        let upstreams = specs.into_iter().map(|spec| match before.find(&spec.name) {
            Some(same) if same.spec == spec => same.clone(),
            Some(known) => Arc::new(Upstream::succeed(spec, known, now)),
            None => Arc::new(Upstream::new(free.next().unwrap_or_default(), spec)),
        });
        Self(upstreams.collect())
    }

    /// Says of all that are not among `next` that they are not in force any more.
    pub fn retire_all_but(&self, next: &Self) {
        for upstream in self.iter().filter(|upstream| !next.has(upstream)) {
            upstream.retired.store(true, Relaxed);
        }
    }

    /// Whether this very upstream is among them.
    pub fn has(&self, upstream: &Arc<Upstream>) -> bool {
        self.find(&upstream.spec.name).is_some_and(|found| Arc::ptr_eq(found, upstream))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one at `index`.
    pub fn get(&self, index: usize) -> Option<&Arc<Upstream>> {
        self.0.get(index)
    }

    /// What the config says of all of them.
    pub fn specs(&self) -> Vec<UpstreamSpec> {
        self.0.iter().map(|upstream| upstream.spec.clone()).collect()
    }

    /// The one that is called so.
    pub fn find(&self, name: &str) -> Option<&Arc<Upstream>> {
        self.0.iter().find(|upstream| upstream.spec.name == name)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.0.iter()
    }
}

/// One upstream.
#[derive(Debug)]
pub struct Upstream {
    /// Its place with each core. That of one that was replaced is its successor's.
    pub slot: usize,
    /// What the config says.
    pub spec: UpstreamSpec,
    /// Its servers, in the order of the config.
    pub servers: Vec<Server>,
    /// The balancer from which each core makes its own.
    pub balancer: Balancer,
    /// Whether each of them may be asked.
    pub standings: Arc<StandingSet>,
    /// What the cores count.
    pub counters: AllCounters,
    retired: AtomicBool,
}

impl Upstream {
    fn new(slot: usize, spec: UpstreamSpec) -> Self {
        let servers = spec.servers.iter().map(|server| Server::new(server.clone())).collect();
        let standings = Arc::new(StandingSet::new(&spec));
        let balancer = Balancer::new(&spec, 0);
        let retired = AtomicBool::new(false);
        Self { slot, spec, servers, balancer, standings, counters: AllCounters::default(), retired }
    }

    /// One of the same name as `before`, of which the config says something else.
    fn succeed(spec: UpstreamSpec, before: &Self, now: Moment) -> Self {
        let next = Self::new(before.slot, spec);
        for (at, server) in next.servers.iter().enumerate() {
            let Some(known) = before.find_server(&server.spec.address) else { continue };
            server.remotes.replace(before.servers[known].remotes.known().to_vec());
            let drain = before.servers[known].spec.drain == server.spec.drain;
            let kept = Kept { drain, health: next.spec.health.is_some() };
            next.standings.take_over(at, &before.standings, known, kept, now);
        }
        next
    }

    /// The server at this address.
    pub fn find_server(&self, address: &ServerAddress) -> Option<usize> {
        self.servers.iter().position(|server| server.spec.address == *address)
    }

    /// Whether another config is in force, without it: requests that began before still use it.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Relaxed)
    }
}

/// One server of an upstream.
#[derive(Debug)]
pub struct Server {
    /// What the config says.
    pub spec: ServerSpec,
    /// As metrics, logs and the admin listener call it.
    pub name: String,
    /// Where it is, as far as that is known.
    pub remotes: Remotes,
}

impl Server {
    fn new(spec: ServerSpec) -> Self {
        let known = match &spec.address {
            ServerAddress::Socket(address) => vec![Remote::Tcp(*address)],
            ServerAddress::Unix(path) => vec![Remote::Unix(path.clone())],
            ServerAddress::Name { .. } => Vec::new(),
        };
        Self { name: spec.address.to_string(), remotes: Remotes::new(known), spec }
    }
}

/// The addresses of one server. Names are resolved off the data path; a core looks at the version before it connects and
/// takes a copy where that has changed.
#[derive(Debug)]
pub struct Remotes {
    version: AtomicU64,
    known: Mutex<Arc<[Remote]>>,
}

impl Remotes {
    fn new(known: Vec<Remote>) -> Self {
        Self { version: AtomicU64::new(1), known: Mutex::new(known.into()) }
    }

    /// Which version is in force; counts from 1.
    pub fn version(&self) -> u64 {
        self.version.load(Relaxed)
    }

    /// The addresses; none as long as the name has not been resolved.
    pub fn known(&self) -> Arc<[Remote]> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces them; whether they differ from those before.
    pub fn replace(&self, remotes: Vec<Remote>) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if **known == *remotes {
            return false;
        }
        *known = remotes.into();
        self.version.fetch_add(1, Relaxed);
        true
    }
}
