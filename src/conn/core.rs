//! What all connections of one core share: settings, routes, the metric shard, counts, and whether it drains.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{self, Poll, Waker};
use std::time::Duration;

use super::access::Access;
use super::observe::Observing;
use super::pace::Rates;
use super::turn::Turn;
use crate::clock::{self, Moment};
use crate::handler::{BodyState, Context, Found, RequestId, RouteIndex, Routes, Terms};
use crate::http::{HeadLimits, Version, encode};
use crate::limits::{DRAIN_GRACE_MS, TURNS_KEPT};
use crate::metrics::{Activity, Counter, FreshCells, Gauge, OTHER_ROUTE, ShardWriter};
use crate::{pool, rt};

/// How long a connection may take for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// From a head's first byte to its last; for the first request from the accept.
    pub head: Duration,
    /// Waiting for more of a request body, beyond what its bytes have earned at the minimum rate.
    pub body: Duration,
    /// Waiting for one request body in all.
    pub body_total: Duration,
    /// Between requests.
    pub idle: Duration,
    /// Waiting for the client to take more of its responses, beyond what it has earned at the minimum rate.
    pub write: Duration,
    /// Waiting for that in all, over the connection's life.
    pub write_total: Duration,
}

impl Default for Timeouts {
    /// The defaults of the config. A head: what a bad mobile link needs several times over. A body, a response: as long as a
    /// phone takes to change networks. The totals: above what an honest transfer waits for, and not for ever.
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            body: Duration::from_secs(30),
            body_total: Duration::from_secs(3600),
            idle: Duration::from_secs(75),
            write: Duration::from_secs(30),
            write_total: Duration::from_secs(24 * 3600),
        }
    }
}

/// How connections are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Bounds on a request head.
    pub head: HeadLimits,
    /// Bytes of a request body.
    pub body: u64,
    /// Connections that this core holds at once.
    pub connections: usize,
    /// Time-outs.
    pub timeouts: Timeouts,
    /// Minimum rates.
    pub rates: Rates,
    /// Requests that one connection serves.
    pub keepalive_requests: u64,
    /// How long one connection serves requests.
    pub keepalive_age: Duration,
    /// The `Server` field's value; `None` leaves it out.
    pub server_name: Option<String>,
    /// Request ids, traces, and the access log.
    pub observing: Observing,
}

/// What is served and how: of one generation of the config. A request keeps the one that it began with.
pub(super) struct Serving {
    pub(super) settings: Settings,
    pub(super) routes: Arc<Routes>,
    /// Which one, as metrics count routes by it.
    pub(super) generation: u64,
    /// `Settings::server_name` as a field line.
    server_field: Vec<u8>,
}

impl Serving {
    fn new(settings: Settings, routes: Arc<Routes>, generation: u64) -> Rc<Self> {
        let mut server_field = Vec::new();
        if let Some(name) = &settings.server_name {
            encode::write_field(&mut server_field, "Server", name);
        }
        Rc::new(Self { settings, routes, generation, server_field })
    }

    /// The route that was found, as it is counted.
    pub(super) fn route(&self, found: &Found<'_>) -> CountedRoute {
        CountedRoute { index: found.index(), generation: self.generation }
    }
}

/// A route as metrics count it. Its index means something in its own generation alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CountedRoute {
    index: RouteIndex,
    generation: u64,
}

impl CountedRoute {
    /// None: what the server answers itself.
    pub(super) const NONE: Self = Self { index: RouteIndex::NONE, generation: 0 };

    /// Its cell where the routes of `generation` are counted.
    pub(super) fn cell(self, generation: u64) -> usize {
        if self.generation == generation { self.index.get() } else { OTHER_ROUTE }
    }
}

/// What the connections of one core share.
pub struct Core {
    /// The generation in force. Cloning the `Rc` touches only this core, cloning what it holds would touch all.
    serving: RefCell<Rc<Serving>>,
    pub(super) metrics: Rc<ShardWriter>,
    /// What handlers find under `Exchange::context`.
    pub(super) context: Context,
    /// When the drain began.
    draining: Cell<Option<Moment>>,
    open: Cell<usize>,
    /// Accept loops that still run.
    accepting: Cell<usize>,
    /// The accept loops are told to end.
    closed: Cell<bool>,
    next_id: Cell<u64>,
    /// State of the numbers by chance that traces are made of.
    pub(super) chance: Cell<u64>,
    /// Where lines of the access log go; unset on a core that has none.
    pub(super) access: OnceCell<Access>,
    #[allow(clippy::vec_box, reason = "a turn goes from here to a connection and back; only its pointer moves")]
    turns: RefCell<Vec<Box<Turn>>>,
    /// Who waits for a connection to close: the accept loops at the limit, and the drain.
    waiting: RefCell<Vec<Waker>>,
}

impl Core {
    /// `id` tells this core's request numbers from those of others.
    pub fn new(
        settings: Settings,
        routes: Arc<Routes>,
        metrics: impl Into<Rc<ShardWriter>>,
        id: u64,
        context: Context,
    ) -> Rc<Self> {
        // Numbers differ between cores and between runs, without a lock: they identify, they do not protect.
        let seed = (u64::from(clock::wall().subsec_nanos()) << 32) ^ clock::wall().as_secs() ^ (id << 56);
        let metrics = metrics.into();
        Rc::new(Self {
            serving: RefCell::new(Serving::new(settings, routes, metrics.routes_generation())),
            metrics,
            context,
            draining: Cell::new(None),
            open: Cell::new(0),
            accepting: Cell::new(0),
            closed: Cell::new(false),
            next_id: Cell::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            chance: Cell::new(clock::wall().as_nanos() as u64 ^ id << 48),
            access: OnceCell::new(),
            turns: RefCell::default(),
            waiting: RefCell::default(),
        })
    }

    /// The core's metric shard.
    pub fn metrics(&self) -> &ShardWriter {
        &self.metrics
    }

    /// A handler is about to run, or to go on: should it never come back, the master can name it.
    #[inline]
    pub(super) fn note_route(&self, route: RouteIndex) {
        self.metrics.note_activity(Activity::Route(route.get()));
    }

    /// What is in force now. To be held for a request, not for a connection: an old one lives as long as somebody has it.
    pub(super) fn serving(&self) -> Rc<Serving> {
        self.serving.borrow().clone()
    }

    /// Serves by these from now on: requests whose head has not been parsed yet, and every wait that begins. `cells` are
    /// those of the routes' metrics.
    pub fn take_up(&self, settings: Settings, routes: Arc<Routes>, cells: FreshCells) {
        #[cfg(feature = "sim")]
        if rt::sim::planted(rt::sim::Bug::KeptGeneration) {
            let kept = self.serving();
            rt::spawn(async move {
                std::future::pending::<()>().await;
                drop(kept);
            });
        }
        self.metrics.replace_routes(cells);
        let next = Serving::new(settings, routes, self.metrics.routes_generation());
        // Whoever made the routes frees them, elsewhere: there may be many.
        drop(self.serving.replace(next));
        // There may be room for more connections now.
        self.wake_waiting();
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.open.get()
    }

    /// Whether the core drains.
    pub fn is_draining(&self) -> bool {
        self.draining.get().is_some()
    }

    /// Until when a connection that has been without a request since `idle_since` is kept during a drain; `None` outside
    /// one. A request that was sent before the client could know of the drain is still answered, with
    /// `Connection: close`.
    pub(super) fn grace_until(&self, idle_since: Moment) -> Option<Moment> {
        self.draining.get().map(|since| since.max(idle_since) + Duration::from_millis(DRAIN_GRACE_MS))
    }

    /// Whether new connections are taken no more.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Stops accepting: the accept loops take who stands in their queues, close their sockets and end. Comes before
    /// [`Core::drain`]: a client that is told `Connection: close` connects anew, and must not do so to a queue that is
    /// about to be thrown away.
    pub fn close(&self) {
        self.closed.set(true);
        rt::wake_all();
        self.wake_waiting();
    }

    /// Begins the drain: connections close after the response they are at, idle ones after a short grace.
    pub fn drain(&self) {
        self.draining.set(Some(clock::now()));
        self.metrics.set(Gauge::Draining, 1);
        rt::wake_all();
        self.wake_waiting();
    }

    /// Ready when the core has no connection and will get none, because its accept loops have ended.
    pub fn poll_idle(&self, cx: &mut task::Context<'_>) -> Poll<()> {
        self.poll_until(cx, || self.open.get() == 0 && self.accepting.get() == 0)
    }

    /// Ready when the core may accept: it has room, or drains and will not accept any more.
    pub(super) fn poll_room(&self, cx: &mut task::Context<'_>) -> Poll<()> {
        self.poll_until(cx, || self.has_room() || self.closed.get())
    }

    /// Whether there are fewer connections than there may be.
    pub(super) fn has_room(&self) -> bool {
        let limit = self.serving.borrow().settings.connections;
        #[cfg(feature = "sim")]
        let limit = limit + usize::from(rt::sim::planted(rt::sim::Bug::OneTooMany));
        self.open.get() < limit
    }

    fn poll_until(&self, cx: &mut task::Context<'_>, reached: impl Fn() -> bool) -> Poll<()> {
        if reached() {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    fn wake_waiting(&self) {
        let waiting = std::mem::take(&mut *self.waiting.borrow_mut());
        waiting.into_iter().for_each(Waker::wake);
    }

    /// The next number of a request.
    pub(super) fn next_number(&self) -> u64 {
        let number = self.next_id.get();
        self.next_id.set(number.wrapping_add(1));
        number
    }

    /// What this core lays down for the next response.
    pub(super) fn terms<'a>(
        &'a self,
        serving: &'a Serving,
        body: &'a BodyState,
        id: RequestId<'a>,
        version: Version,
        head_only: bool,
        persistent: bool,
    ) -> Terms<'a> {
        let server = &serving.server_field;
        let id_field = serving.settings.observing.request_id.respond.as_deref();
        Terms { version, head_only, persistent, server, id, id_field, body, draining: &self.draining }
    }

    /// Frees what the core keeps for reuse and has not needed of late; to be called every second or so.
    pub fn free_unused(&self) {
        pool::free_unused();
        if self.open.get() == 0 {
            *self.turns.borrow_mut() = Vec::new();
            rt::free_unused();
        }
    }

    pub(super) fn take_turn(&self) -> Box<Turn> {
        self.turns.borrow_mut().pop().unwrap_or_else(|| Box::new(Turn::new()))
    }

    pub(super) fn give_turn(&self, mut turn: Box<Turn>) {
        turn.reset();
        let mut turns = self.turns.borrow_mut();
        if turns.len() < TURNS_KEPT {
            turns.push(turn);
        }
    }
}

/// Counts a connection as open until it is dropped, however it ends.
pub(super) struct Opened(pub(super) Rc<Core>);

impl Opened {
    pub(super) fn new(core: Rc<Core>) -> Self {
        core.open.set(core.open.get() + 1);
        core.metrics.add(Counter::ConnectionsAccepted, 1);
        core.metrics.step(Gauge::ConnectionsOpen, 1);
        Self(core)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        self.0.metrics.add(Counter::ConnectionsClosed, 1);
        self.0.metrics.step(Gauge::ConnectionsOpen, -1);
        self.0.wake_waiting();
    }
}

/// Counts an accept loop as running until it is dropped.
pub(super) struct Accepting(Rc<Core>);

impl Accepting {
    pub(super) fn new(core: Rc<Core>) -> Self {
        core.accepting.set(core.accepting.get() + 1);
        Self(core)
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.accepting.set(self.0.accepting.get() - 1);
        self.0.wake_waiting();
    }
}
