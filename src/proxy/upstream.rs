//! Upstreams as the whole process knows them: what the config says, and what was learnt of their servers' health.

use std::sync::{Arc, Mutex, PoisonError};

use super::balance::Balancer;
use super::counters::AllCounters;
use super::spec::{ServerAddress, ServerSpec, UpstreamSpec};
use super::standing::StandingSet;
use crate::rt::Remote;
use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The upstreams of one config, in the order of their names.
#[derive(Debug, Default)]
pub struct Upstreams(Vec<Arc<Upstream>>);

impl Upstreams {
    /// Upstreams made of what the config says.
    pub fn new(specs: Vec<UpstreamSpec>) -> Self {
        Self(specs.into_iter().enumerate().map(|(index, spec)| Arc::new(Upstream::new(index, spec))).collect())
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
    /// Its place among the upstreams of its config.
    pub index: usize,
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
}

impl Upstream {
    fn new(index: usize, spec: UpstreamSpec) -> Self {
        let servers = spec.servers.iter().map(|server| Server::new(server.clone())).collect();
        let standings = Arc::new(StandingSet::new(&spec));
        let balancer = Balancer::new(&spec, 0);
        Self { index, spec, servers, balancer, standings, counters: AllCounters::default() }
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
