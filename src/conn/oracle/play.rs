//! Plays a script: the real connection code on a core of a simulated world, and one client.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use super::app;
use super::script::{Act, Ending, LONG, Script};
use crate::clock::{self, Moment};
use crate::conn::{Core, Door, accept};
use crate::handler::Context;
use crate::metrics::shard::ShardSnapshot;
use crate::metrics::{Counter, Gauge, ShardWriter};
use crate::pool;
use crate::rt::sim::{self, Bug, Client, Options, Report};
use crate::rt::{self, Either, Listener, Mailbox, Postbox, Socket};

const ADDRESS: ([u8; 4], u16) = ([10, 1, 0, 1], 80);
/// How long a connection may live once its client does nothing more, or waits for its end: all time-outs and handlers of
/// one script together.
const END_WITHIN: Duration = Duration::from_secs(60);

/// How the client's side of the connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// The server ended it.
    End,
    /// The server reset it.
    Reset,
    /// The client left.
    Left,
    /// It never began: the core drained.
    Refused,
}

/// What a run showed.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) received: Vec<u8>,
    pub(super) ended: Ended,
    /// Requests that the core's metrics count.
    pub(super) recorded: u64,
}

/// Runs a script; the run fails by itself when something is not given back or does not end.
pub(super) fn play(script: &Script, planted: Option<Bug>, trace_lines: usize) -> Report<Seen> {
    let options = Options {
        seed: script.seed,
        faults: script.faults,
        latency_max_ms: script.latency_max_ms,
        pipe_bytes_max: script.pipe_bytes_max,
        steps_max: 3_000_000,
        time_max: Duration::from_secs(3600),
        trace_lines,
        planted,
    };
    let script = script.clone();
    sim::run_here(options, move || scenario(script))
}

async fn scenario(script: Script) -> Seen {
    let (drain, orders) = rt::mailbox(4);
    let serving = sim::core(script.core, serve(script.clone(), Socket::from(sim::listen(ADDRESS.into())), orders));
    let received = Rc::new(RefCell::new(Vec::new()));
    let is_patient = !script.acts.contains(&Act::Drain);
    let ended = match sim::connect(SocketAddr::from(ADDRESS)).await {
        Ok(client) => talk(&client, &script.acts, &drain, &received).await,
        Err(_) if !is_patient => Ended::Refused,
        Err(error) => panic!("{error}, and no drain"),
    };
    // Without waiting for the end, a drain would take the time-outs' place.
    if is_patient && ended != Ended::Refused {
        let until = clock::now() + END_WITHIN;
        rt::sleep_until(clock::now() + Duration::from_millis(5)).await;
        while sim::open_connections_in_all() > 0 {
            assert!(clock::now() < until, "the connection outlives every time-out");
            rt::sleep_until(clock::now() + Duration::from_millis(50)).await;
        }
    }
    drop(drain);
    let snapshot = serving.await;
    assert_eq!(pool::counters().in_use, 0, "pooled buffers are in use after the end");
    assert_eq!(snapshot.gauges[Gauge::ConnectionsOpen as usize], 0, "connections are counted as open");
    assert_eq!(snapshot.gauges[Gauge::RequestsInFlight as usize], 0, "requests are counted as in flight");
    let counts = [Counter::ConnectionsAccepted, Counter::ConnectionsClosed].map(|at| snapshot.counters[at as usize]);
    assert!(counts[0] == counts[1] && counts[0] <= 1, "{counts:?} connections accepted and closed");
    let recorded = snapshot.routes.cells.iter().map(|(_, cell)| cell.requests.iter().sum::<u64>()).sum();
    Seen { received: received.take(), ended, recorded }
}

/// One core: as a worker does, but for what it does for the master.
async fn serve(script: Script, socket: Socket, orders: Mailbox<()>) -> ShardSnapshot {
    let routes = app::routes();
    let metrics = ShardWriter::create(0, 1, routes.names().len());
    let shard = metrics.shard();
    let core = Core::new(script.settings, routes, metrics, 0, Context::default());
    let loose = Rc::downgrade(&core);
    rt::spawn(accept(Listener::new(socket), Door::default(), core.clone()));
    orders.next().await;
    core.close();
    core.drain();
    let idle = poll_fn(|cx| core.poll_idle(cx));
    assert!(rt::timeout(clock::now() + END_WITHIN, idle).await.is_some(), "a drain does not end");
    drop(core);
    // The last task that holds the core ends in this turn or the next.
    rt::yield_now().await;
    assert_eq!(loose.strong_count(), 0, "a task outlives the last connection");
    let snapshot = Arc::clone(&shard);
    snapshot.read()
}

/// The client: sends as the script says, and reads all the while.
async fn talk(client: &Client, acts: &[Act], drain: &Postbox<()>, received: &RefCell<Vec<u8>>) -> Ended {
    let reads_from = Cell::new(Moment::default());
    let mut reading = pin!(read_all(client, &reads_from, received));
    let mut writing = pin!(write_all(client, acts, drain, &reads_from));
    match rt::select(reading.as_mut(), writing.as_mut()).await {
        Either::First(ended) => {
            writing.await;
            ended
        }
        Either::Second(Ending::Silence | Ending::HalfClose) => {
            let until = clock::now().max(reads_from.get()) + END_WITHIN;
            rt::timeout(until, reading).await.expect("the connection outlives every time-out")
        }
        Either::Second(Ending::Reset | Ending::Close | Ending::Vanish) => Ended::Left,
    }
}

async fn read_all(client: &Client, reads_from: &Cell<Moment>, received: &RefCell<Vec<u8>>) -> Ended {
    loop {
        while clock::now() < reads_from.get() {
            rt::sleep_until(reads_from.get()).await;
        }
        match client.recv(4096).await {
            Ok(bytes) if bytes.is_empty() => return Ended::End,
            Ok(bytes) => received.borrow_mut().extend_from_slice(&bytes),
            Err(error) => {
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
                return Ended::Reset;
            }
        }
    }
}

/// Sends until it is told that nobody listens any more; what the script ends with is done in any case.
async fn write_all(client: &Client, acts: &[Act], drain: &Postbox<()>, reads_from: &Cell<Moment>) -> Ending {
    let mut is_heard = true;
    for act in acts {
        match act {
            Act::Send(bytes) if is_heard => is_heard = client.send(bytes).await.is_ok(),
            Act::Send(_) => {}
            Act::Pause(time) => rt::sleep_until(clock::now() + *time).await,
            Act::Stall(time) => reads_from.set(clock::now().max(reads_from.get()) + *time),
            Act::Drain => {
                // A second order finds the box closed, or nobody who reads it: one drain is enough.
                let _ = drain.post(());
            }
            Act::End(ending) => {
                match ending {
                    Ending::Silence | Ending::Close => {}
                    Ending::HalfClose => client.shutdown(),
                    Ending::Reset => client.reset(),
                    Ending::Vanish => client.vanish(),
                }
                return *ending;
            }
        }
    }
    Ending::Silence
}

const _: () = assert!(LONG.as_secs() > END_WITHIN.as_secs());
