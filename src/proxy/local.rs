//! An upstream as one core sees it: its connections, its load, its choices.

use std::cell::{Cell, OnceCell, RefCell, RefMut};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::balance::{Balancer, PeakEwma, Servers};
use super::budget::RetryBudget;
use super::chance::Chance;
use super::connection::Connection;
use super::counters::{ServerCounter, ServerCounters, UpstreamCounters};
use super::limit;
use super::spec::ServerAddress;
use super::standing::Availability;
use super::upstream::{Server, Upstream, Upstreams};
use crate::clock::Moment;
use crate::handler::Origin;
use crate::http::ResponseHead;
use crate::limits::RESPONSE_HEADS_KEPT;
use crate::metrics::ShardWriter;
use crate::rt::Remote;

/// What one core keeps for its proxy routes; handlers find it in their context.
pub struct Local {
    /// The core's shard.
    pub(super) metrics: Rc<ShardWriter>,
    core: usize,
    cores: usize,
    seed: u64,
    upstreams: RefCell<Vec<Option<Rc<LocalUpstream>>>>,
    #[allow(clippy::vec_box, reason = "a head goes from here to a request and back; only its pointer moves")]
    heads: RefCell<Vec<Box<ResponseHead>>>,
    chance: RefCell<Chance>,
    /// Copies of requests that are under way to mirrors.
    pub(super) mirrors: Cell<usize>,
    own: Weak<Local>,
}

impl Local {
    /// For core `core` of `cores`. `seed` makes chance differ between cores and runs.
    pub fn new(metrics: Rc<ShardWriter>, core: usize, cores: usize, seed: u64) -> Rc<Self> {
        Rc::new_cyclic(|own| Self {
            metrics,
            core,
            cores,
            seed,
            upstreams: RefCell::default(),
            heads: RefCell::default(),
            chance: RefCell::new(Chance::new(seed)),
            mirrors: Cell::new(0),
            own: own.clone(),
        })
    }

    /// This core's view of `upstream`.
    pub(super) fn upstream(&self, upstream: &Arc<Upstream>) -> Rc<LocalUpstream> {
        let mut upstreams = self.upstreams.borrow_mut();
        if upstreams.len() <= upstream.slot {
            upstreams.resize_with(upstream.slot + 1, || None);
        }
        let slot = &mut upstreams[upstream.slot];
        match slot {
            Some(known) if Arc::ptr_eq(&known.shared, upstream) => known.clone(),
            // For a request that began before a reload: it keeps no connection.
            _ if upstream.is_retired() => {
                let local = LocalUpstream::new(upstream.clone(), self);
                let _ = local.successor.set(None);
                Rc::new(local)
            }
            _ => slot.insert(Rc::new(LocalUpstream::new(upstream.clone(), self))).clone(),
        }
    }

    /// Goes over to these upstreams, those of another config. Of one that has changed, the idle connections to servers that
    /// it still has are kept, and so are those that requests come back with; the others are closed.
    pub fn take_up(&self, upstreams: &Upstreams) {
        let replaced = |known: &mut Rc<LocalUpstream>| !upstreams.has(&known.shared);
        let gone: Vec<_> = self.upstreams.borrow_mut().iter_mut().filter_map(|slot| slot.take_if(replaced)).collect();
        for known in gone {
            let next = upstreams.find(&known.shared.spec.name).map(|next| self.upstream(next));
            known.hand_over(next);
        }
    }

    /// Closes connections that have been idle for too long, or were closed by their servers; to be called every second or
    /// so.
    pub fn sweep(&self, now: Moment) {
        for upstream in self.known() {
            upstream.retain_idle(|connection| connection.is_usable(now));
        }
    }

    /// Those that were asked for so far.
    fn known(&self) -> Vec<Rc<LocalUpstream>> {
        self.upstreams.borrow().iter().flatten().cloned().collect()
    }

    /// Itself, for a task that outlives a request.
    pub(super) fn own(&self) -> Option<Rc<Local>> {
        self.own.upgrade()
    }

    /// A number by chance: for choices, not for secrets.
    pub(super) fn chance(&self) -> RefMut<'_, Chance> {
        self.chance.borrow_mut()
    }

    pub(super) fn take_head(&self) -> Box<ResponseHead> {
        self.heads.borrow_mut().pop().unwrap_or_default()
    }

    pub(super) fn give_head(&self, head: Box<ResponseHead>) {
        let mut heads = self.heads.borrow_mut();
        if heads.len() < RESPONSE_HEADS_KEPT {
            heads.push(head);
        }
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        // Idle connections hold the upstream that holds them.
        for upstream in self.known() {
            upstream.retain_idle(|_| false);
        }
    }
}

/// One upstream on one core.
pub(super) struct LocalUpstream {
    pub(super) shared: Arc<Upstream>,
    pub(super) counters: Arc<UpstreamCounters>,
    balancer: RefCell<Balancer>,
    pub(super) budget: RefCell<RetryBudget>,
    servers: Vec<LocalServer>,
    /// How fast each answered.
    latencies: RefCell<Vec<PeakEwma>>,
    /// Connections open, and the most there may be.
    open: Cell<usize>,
    open_max: usize,
    /// Idle connections of all servers.
    idle: Cell<usize>,
    /// Requests that wait for a connection.
    pending: RefCell<VecDeque<(u64, Waker)>>,
    pending_now: Cell<usize>,
    next_ticket: Cell<u64>,
    pending_max: usize,
    /// Who took its place; once it was replaced it keeps no idle connection.
    successor: OnceCell<Option<Rc<LocalUpstream>>>,
}

/// One server on one core.
struct LocalServer {
    in_flight: Cell<u32>,
    /// The one that was used last is the last, and used next: the others get to be closed for idleness.
    #[allow(clippy::vec_box, reason = "a connection goes from here to an exchange and back; only its pointer moves")]
    idle: RefCell<Vec<Box<Connection>>>,
    /// The addresses of a version, and which is next.
    remotes: RefCell<(u64, Arc<[Remote]>)>,
    next_remote: Cell<usize>,
}

impl Origin for LocalUpstream {
    fn upstream(&self) -> &str {
        &self.shared.spec.name
    }

    fn server(&self, index: usize) -> &str {
        self.shared.servers.get(index).map_or("", |server| &server.name)
    }
}

impl LocalUpstream {
    fn new(shared: Arc<Upstream>, local: &Local) -> Self {
        let limits = shared.spec.limits;
        let server = |_: &Server| LocalServer {
            in_flight: Cell::new(0),
            idle: RefCell::default(),
            remotes: RefCell::new((0, Arc::from([]))),
            next_remote: Cell::new(local.core),
        };
        Self {
            balancer: RefCell::new(shared.balancer.for_core(local.seed ^ shared.slot as u64)),
            budget: RefCell::new(RetryBudget::new(shared.spec.retry.budget, local.cores)),
            servers: shared.servers.iter().map(server).collect(),
            latencies: RefCell::new(shared.servers.iter().map(|_| PeakEwma::default()).collect()),
            counters: shared.counters.add_core(local.core, shared.servers.len()),
            open: Cell::new(0),
            open_max: limit::share(limits.connections, local.cores, local.core),
            idle: Cell::new(0),
            pending: RefCell::default(),
            pending_now: Cell::new(0),
            next_ticket: Cell::new(0),
            pending_max: limit::share(limits.pending, local.cores, local.core),
            successor: OnceCell::new(),
            shared,
        }
    }

    /// The server for a request that has not been sent to those in `tried`.
    pub(super) fn pick(&self, tried: &[usize], key: Option<u64>, now: Moment) -> Option<usize> {
        self.balancer.borrow_mut().pick(
            &View { upstream: self, latencies: &self.latencies.borrow(), tried, now },
            key,
            now,
        )
    }

    pub(super) fn server(&self, server: usize) -> &Server {
        &self.shared.servers[server]
    }

    pub(super) fn server_counters(&self, server: usize) -> &ServerCounters {
        self.counters.server(server)
    }

    /// How long a server took for a response head.
    pub(super) fn note_latency(&self, server: usize, sample: std::time::Duration, now: Moment) {
        let latency = &mut self.latencies.borrow_mut()[server];
        latency.record(sample, now);
        self.server_counters(server).record(sample, latency.latency().unwrap_or(sample));
    }

    /// The address to connect to next; `None` while a name has none.
    pub(super) fn next_remote(&self, server: usize) -> Option<Remote> {
        let own = &self.servers[server];
        let shared = &self.shared.servers[server].remotes;
        let mut remotes = own.remotes.borrow_mut();
        let version = shared.version();
        if remotes.0 != version {
            *remotes = (version, shared.known());
        }
        let at = own.next_remote.get();
        own.next_remote.set(at.wrapping_add(1));
        remotes.1.get(at.checked_rem(remotes.1.len())?).cloned()
    }

    /// An idle connection to the server that can be used.
    pub(super) fn take_idle(&self, server: usize, now: Moment) -> Option<Box<Connection>> {
        loop {
            let mut connection = self.servers[server].idle.borrow_mut().pop()?;
            self.idle.set(self.idle.get() - 1);
            if connection.is_usable(now) {
                self.server_counters(server).add(ServerCounter::Reused, 1);
                return Some(connection);
            }
        }
    }

    /// Leaves its place to another one, or to nobody.
    fn hand_over(&self, next: Option<Rc<LocalUpstream>>) {
        if let Some(next) = &next {
            let (from, mut to) = (self.latencies.borrow(), next.latencies.borrow_mut());
            for (server, latency) in self.shared.servers.iter().zip(from.iter()) {
                if let Some(at) = next.shared.find_server(&server.spec.address) {
                    to[at] = latency.clone();
                }
            }
        }
        // Set once, by who took it out of its slot.
        let _ = self.successor.set(next);
        for server in &self.servers {
            let idle = std::mem::take(&mut *server.idle.borrow_mut());
            self.idle.set(self.idle.get() - idle.len());
            idle.into_iter().for_each(|connection| self.give_idle(connection));
        }
    }

    /// Takes over a connection of its predecessor, to a server that it has too; closes it where there is no room.
    fn adopt(self: &Rc<Self>, mut connection: Box<Connection>, address: &ServerAddress) {
        let Some(server) = self.shared.find_server(address) else { return };
        if self.open.get() < self.open_max {
            connection.move_to(self.occupy(server));
            self.give_idle(connection);
        }
    }

    /// Keeps a connection for the next request, or closes it.
    pub(super) fn give_idle(&self, connection: Box<Connection>) {
        match self.successor.get() {
            None => {}
            // Whoever waits here for a connection makes one in its place.
            Some(Some(next)) if self.pending.borrow().is_empty() => {
                let server = self.server(connection.server());
                return next.adopt(connection, &server.spec.address);
            }
            Some(_) => return,
        }
        let pool = &self.shared.spec.pool;
        if pool.idle_per_core == 0 {
            return;
        }
        if self.idle.get() >= pool.idle_per_core && !self.close_oldest() {
            return;
        }
        self.idle.set(self.idle.get() + 1);
        self.servers[connection.server()].idle.borrow_mut().push(connection);
        self.wake_pending();
    }

    /// Closes the connection that has been idle for longest, of whichever server; false when none is idle.
    fn close_oldest(&self) -> bool {
        // The first of each is its oldest.
        let oldest = |server: &&LocalServer| server.idle.borrow().first().map(|first| first.idle_since());
        let Some(server) = self.servers.iter().filter(|server| oldest(server).is_some()).min_by_key(oldest) else {
            return false;
        };
        let oldest = server.idle.borrow_mut().remove(0);
        self.idle.set(self.idle.get() - 1);
        // Its slot looks at the others.
        drop(oldest);
        true
    }

    /// Closes the idle connections that `keep` does not want.
    fn retain_idle(&self, mut keep: impl FnMut(&mut Connection) -> bool) {
        for server in &self.servers {
            // Not borrowed meanwhile: closing one looks at the others.
            let mut idle = std::mem::take(&mut *server.idle.borrow_mut());
            let before = idle.len();
            idle.retain_mut(|connection| keep(connection));
            self.idle.set(self.idle.get() - (before - idle.len()));
            *server.idle.borrow_mut() = idle;
        }
    }

    /// Room for one more connection; makes some of an idle one where there is none.
    pub(super) fn open(self: &Rc<Self>, server: usize) -> Option<Slot> {
        let open_max = self.open_max;
        #[cfg(feature = "sim")]
        let open_max = open_max + usize::from(crate::rt::sim::planted(crate::rt::sim::Bug::OneConnectionTooMany));
        if self.open.get() >= open_max && !self.close_oldest() {
            return None;
        }
        self.server_counters(server).add(ServerCounter::Connections, 1);
        Some(self.occupy(server))
    }

    fn occupy(self: &Rc<Self>, server: usize) -> Slot {
        self.open.set(self.open.get() + 1);
        self.server_counters(server).step_open(1);
        Slot { upstream: self.clone(), server }
    }

    /// Stands in the queue for a connection; `None` when it is full.
    pub(super) fn wait(self: &Rc<Self>) -> Option<Pending> {
        if self.pending_now.get() >= self.pending_max {
            return None;
        }
        self.pending_now.set(self.pending_now.get() + 1);
        self.counters.set_pending(self.pending_now.get());
        let ticket = self.next_ticket.get();
        self.next_ticket.set(ticket + 1);
        Some(Pending { upstream: self.clone(), ticket, is_queued: false })
    }

    fn wake_pending(&self) {
        #[cfg(feature = "sim")]
        if crate::rt::sim::planted(crate::rt::sim::Bug::PendingForgotten) {
            return;
        }
        let next = self.pending.borrow_mut().pop_front();
        if let Some((_, next)) = next {
            next.wake();
        }
    }
}

/// What a balancer asks.
struct View<'a> {
    upstream: &'a LocalUpstream,
    latencies: &'a [PeakEwma],
    tried: &'a [usize],
    now: Moment,
}

impl Servers for View<'_> {
    fn len(&self) -> usize {
        self.upstream.servers.len()
    }

    fn is_available(&self, server: usize) -> bool {
        !self.tried.contains(&server)
            && self.upstream.shared.standings.availability(server, self.now) == Availability::Available
    }

    fn in_flight(&self, server: usize) -> u32 {
        self.upstream.servers[server].in_flight.get()
    }

    fn latency(&self, server: usize) -> &PeakEwma {
        &self.latencies[server]
    }

    fn available_since(&self, server: usize) -> Option<Moment> {
        self.upstream.shared.standings.available_since(server)
    }
}

/// A connection counts as open as long as it has this.
pub(super) struct Slot {
    upstream: Rc<LocalUpstream>,
    pub(super) server: usize,
}

impl Slot {
    pub(super) fn upstream(&self) -> &Rc<LocalUpstream> {
        &self.upstream
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.upstream.open.set(self.upstream.open.get() - 1);
        self.upstream.server_counters(self.server).step_open(-1);
        self.upstream.wake_pending();
    }
}

/// A place in the queue for a connection.
pub(super) struct Pending {
    upstream: Rc<LocalUpstream>,
    ticket: u64,
    is_queued: bool,
}

impl Pending {
    /// Ready when a connection may have become free: look, and wait again if somebody else was faster.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut queue = self.upstream.pending.borrow_mut();
        match queue.iter_mut().find(|(ticket, _)| *ticket == self.ticket) {
            Some((_, waker)) => waker.clone_from(cx.waker()),
            None if std::mem::take(&mut self.is_queued) => return Poll::Ready(()),
            None => {
                self.is_queued = true;
                queue.push_back((self.ticket, cx.waker().clone()));
            }
        }
        Poll::Pending
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        #[cfg(feature = "sim")]
        if crate::rt::sim::planted(crate::rt::sim::Bug::PendingLeaked) {
            return;
        }
        self.upstream.pending_now.set(self.upstream.pending_now.get() - 1);
        self.upstream.counters.set_pending(self.upstream.pending_now.get());
        let mut queue = self.upstream.pending.borrow_mut();
        let before = queue.len();
        queue.retain(|(ticket, _)| *ticket != self.ticket);
        let was_woken = self.is_queued && queue.len() == before;
        drop(queue);
        if was_woken {
            // It was told of a connection and does not look: that is the next one's.
            self.upstream.wake_pending();
        }
    }
}

/// A request counts as in flight as long as it has this.
pub(super) struct InFlight {
    upstream: Rc<LocalUpstream>,
    server: usize,
}

impl InFlight {
    pub(super) fn new(upstream: &Rc<LocalUpstream>, server: usize) -> Self {
        let count = &upstream.servers[server].in_flight;
        count.set(count.get() + 1);
        upstream.server_counters(server).step_in_flight(1);
        Self { upstream: upstream.clone(), server }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        #[cfg(feature = "sim")]
        if crate::rt::sim::planted(crate::rt::sim::Bug::ForgottenInFlight) {
            return;
        }
        let count = &self.upstream.servers[self.server].in_flight;
        count.set(count.get() - 1);
        self.upstream.server_counters(self.server).step_in_flight(-1);
    }
}
