//! One core's whole world: its executor, its listening sockets, its connections, its metric shard.
//!
//! Nothing in here is shared with another core but the immutable routes. The master talks to a worker through a mailbox,
//! a worker to the master through another; neither waits for the other.

use std::any::Any;
use std::fmt;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{self, Moment};
use crate::conn::{self, Core, Door, Settings};
use crate::handler::pipeline::Repeats;
use crate::handler::{self, Routes};
use crate::log::access::Lane;
use crate::metrics::keys::Driver as DriverCode;
use crate::metrics::{self, Activity, Counter, FreshCells, Gauge, ShardWriter};
use crate::plugin::{self, Plugins};
use crate::proxy::{self, Upstreams};
use crate::rt::{self, Deadline, Listener, Mailbox, Postbox, RunError, Started};
use crate::sync::Farewell;
use crate::sys;

/// How often a worker copies its executor's numbers into its shard.
const PUBLISH_EVERY: Duration = Duration::from_secs(1);

/// How long before its connections a worker's listening sockets close, when it drains.
const CLOSE_AHEAD: Duration = Duration::from_millis(5);

/// Makes what handlers of one core find under `Exchange::context`.
pub type MakeContext = Arc<dyn Fn() -> Rc<dyn Any> + Send + Sync>;

/// What a worker is made of.
pub struct Worker {
    /// Which worker, counted from 0.
    pub index: usize,
    /// How many there are: what is bounded for the whole process is shared out among them.
    pub count: usize,
    /// The core to pin the thread to.
    pub pin: Option<usize>,
    /// How its executor is built.
    pub executor: rt::Options,
    /// Its own listening sockets, with their addresses.
    pub listeners: Vec<(SocketAddr, rt::Socket)>,
    /// How long it may go without coming round before it counts as stalled.
    pub stall: Duration,
    /// How it serves connections.
    pub settings: Settings,
    /// The routes.
    pub routes: Arc<Routes>,
    /// Its shard.
    pub metrics: ShardWriter,
    /// Its queue for lines of the access log; `None`: it has none, whatever its settings say.
    pub access: Option<Lane>,
    /// Makes the handlers' context.
    pub context: MakeContext,
    /// Orders of the master.
    pub orders: Mailbox<Order>,
    /// News for the master.
    pub news: Postbox<News>,
}

/// What the master tells a worker.
#[derive(Debug)]
pub enum Order {
    /// Serve by another config.
    TakeUp(Box<TakeUp>),
    /// Listen on these too, instead of what was listened on at the same addresses: that was shared with another worker.
    Listen(Vec<(SocketAddr, rt::Socket)>),
    /// Stop accepting, finish what is in flight, leave when idle, at this moment at the latest.
    Drain(Moment),
    /// Leave at once.
    Stop,
}

/// Another config, as one worker takes it up: requests under way end with the one that they began with.
pub struct TakeUp {
    /// How it serves connections.
    pub settings: Settings,
    /// The routes.
    pub routes: Arc<Routes>,
    /// What they forward to.
    pub upstreams: Arc<Upstreams>,
    /// What their requests go through.
    pub plugins: Arc<Plugins>,
    /// Where it counts the routes' requests; says which generation it is.
    pub cells: FreshCells,
    /// Listening sockets that are new.
    pub opened: Vec<(SocketAddr, rt::Socket)>,
    /// Addresses that are listened on no more.
    pub closed: Vec<SocketAddr>,
}

impl fmt::Debug for TakeUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { opened, closed, .. } = self;
        f.debug_struct("TakeUp").field("opened", opened).field("closed", closed).finish_non_exhaustive()
    }
}

/// What a worker tells the master.
#[derive(Debug)]
pub enum News {
    /// It serves by the config of this generation.
    TookUp(usize, u64),
    /// It accepts connections.
    Accepting(usize, Started),
    /// Its thread ended.
    Ended(usize, End),
}

/// How a worker ended.
#[derive(Debug)]
pub enum End {
    /// As it was told; so many connections were cut.
    Left {
        /// Connections that were still open.
        cut: usize,
    },
    /// Its executor could not be built.
    Failed(RunError),
    /// It panicked.
    Panicked,
}

impl Worker {
    /// Runs the worker on this thread until it is told to leave.
    pub fn run(self) {
        let index = self.index;
        let mut farewell = Farewell::new(self.news.clone(), News::Ended(index, End::Panicked));
        if let Some(core) = self.pin
            && !sys::cpu::pin(core)
        {
            tracing::warn!(worker = index, core, "cannot pin to this core; the kernel places the worker");
        }
        let executor = self.executor;
        let result = rt::run(&executor, |started| self.serve(started));
        let end = match result {
            Ok(cut) => End::Left { cut },
            Err(error) => End::Failed(error),
        };
        farewell.say(News::Ended(index, end));
    }

    /// Serves until told to leave, on the executor that runs already; returns how many connections are cut by that.
    /// [`Worker::run`] is the same on an executor of its own; this is for a simulated one.
    pub async fn serve(self, started: Started) -> usize {
        let Self { index, count, listeners, stall, settings, routes, metrics, access, context, orders, news, .. } =
            self;
        metrics.set(Gauge::DriverCode, driver_code(started.driver) as u64);
        metrics.add(Counter::DriverFallbacks, u64::from(started.fallback.is_some()));
        let metrics = Rc::new(metrics);
        let seed = clock::wall().as_nanos() as u64 ^ (index as u64) << 48;
        let upstreams = proxy::Local::new(metrics.clone(), index, count, seed);
        let plugins = plugin::Local::new(index, count);
        // What is looked for with every request that has plugins comes first.
        let context = handler::Context::default().with(plugins.clone()).with(context()).with(upstreams.clone());
        let context = context.with(Rc::<Repeats>::default());
        rt::spawn(beat(metrics.clone(), metrics::beat_every(stall)));
        let core = Core::new(settings, routes, metrics, index as u64, context);
        conn::make_repeats(&core);
        if let Some(lane) = access {
            core.attach_access_log(lane);
            rt::spawn(conn::hand_over_access_log(core.clone()));
        }
        let mut doors = Vec::new();
        open_doors(&mut doors, listeners, &core);
        // A full mailbox means that the master is gone; its end is the end of the orders below.
        let _ = news.post(News::Accepting(index, started));
        let mut published = rt::Stats::default();
        let until = loop {
            publish(&core, &mut published);
            upstreams.sweep(clock::turn());
            core.free_unused();
            match rt::timeout(clock::now() + PUBLISH_EVERY, orders.next()).await {
                None => {}
                Some(Some(Order::TakeUp(next))) => {
                    let generation = take_up(*next, &core, (&upstreams, &plugins), &mut doors);
                    let _ = news.post(News::TookUp(index, generation));
                }
                Some(Some(Order::Listen(listeners))) => {
                    close_doors(&mut doors, |address| listeners.iter().any(|(own, _)| own == address));
                    open_doors(&mut doors, listeners, &core);
                }
                Some(Some(Order::Drain(until))) => break until,
                Some(Some(Order::Stop) | None) => {
                    core.settle_access_log();
                    return core.open();
                }
            }
        };
        #[cfg(feature = "sim")]
        let until = if rt::sim::planted(rt::sim::Bug::EndlessDrain) { Moment::NEVER } else { until };
        core.metrics().note_activity(Activity::Drain);
        core.close();
        // The other workers get the same order at this moment; a client that is turned away by one should not find
        // another's queue still open.
        rt::sleep_until(clock::now() + CLOSE_AHEAD).await;
        core.drain();
        let idle = poll_fn(|cx| core.poll_idle(cx));
        let told = async { while !matches!(orders.next().await, Some(Order::Stop) | None) {} };
        rt::timeout(until, rt::select(idle, told)).await;
        publish(&core, &mut published);
        core.open()
    }
}

/// Shows the master, as long as the worker runs, that its executor comes round. A task like any other, and a timer's: it
/// beats late when a task holds the thread up, when timers do, and when there is so much to do that nobody gets his turn.
async fn beat(metrics: Rc<ShardWriter>, every: Duration) {
    let next = Deadline::new();
    loop {
        metrics.beat(clock::now());
        next.set(clock::now() + every);
        poll_fn(|cx| next.poll_due(cx)).await;
    }
}

/// Begins to accept.
fn open_doors(doors: &mut Vec<(SocketAddr, Door)>, listeners: Vec<(SocketAddr, rt::Socket)>, core: &Rc<Core>) {
    for (address, listener) in listeners {
        let door = Door::default();
        rt::spawn(conn::accept(Listener::new(listener), door.clone(), core.clone()));
        doors.push((address, door));
    }
}

/// Serves by another config from now on; returns which one.
fn take_up(
    next: TakeUp,
    core: &Rc<Core>,
    (local, of_plugins): (&proxy::Local, &plugin::Local),
    doors: &mut Vec<(SocketAddr, Door)>,
) -> u64 {
    let TakeUp { settings, routes, upstreams, plugins, cells, opened, closed } = next;
    core.take_up(settings, routes, cells);
    local.take_up(&upstreams);
    of_plugins.take_up(&plugins);
    open_doors(doors, opened, core);
    #[cfg(feature = "sim")]
    if rt::sim::planted(rt::sim::Bug::DoorsShut) {
        close_doors(doors, |_| true);
    }
    close_doors(doors, |address| closed.contains(address));
    core.metrics().routes_generation()
}

/// Accepts no more at these addresses, once whoever stands in their queues has been let in.
fn close_doors(doors: &mut Vec<(SocketAddr, Door)>, is_closed: impl Fn(&SocketAddr) -> bool) {
    for (_, door) in doors.extract_if(.., |(address, _)| is_closed(address)) {
        door.close();
    }
}

/// Copies the executor's numbers into the shard.
fn publish(core: &Core, published: &mut rt::Stats) {
    let (now, before) = (rt::stats(), std::mem::replace(published, rt::stats()));
    let metrics = core.metrics();
    metrics.set(Gauge::BuffersTotal, now.buffers_total as u64);
    metrics.set(Gauge::BuffersInUse, now.buffers_in_use as u64);
    metrics.set(Gauge::BuffersHighWater, now.buffers_high_water as u64);
    metrics.add(Counter::PoolExhaustions, now.buffers_exhausted - before.buffers_exhausted);
    metrics.add(Counter::ReceiveRearms, now.receives_rearmed - before.receives_rearmed);
    metrics.add(Counter::ShortSends, now.short_sends - before.short_sends);
    metrics.add(Counter::WaitedSends, now.send_waits - before.send_waits);
    core.settle_access_log();
}

fn driver_code(driver: rt::Driver) -> DriverCode {
    match driver {
        rt::Driver::IoUring => DriverCode::IoUring,
        rt::Driver::Epoll => DriverCode::Epoll,
    }
}
