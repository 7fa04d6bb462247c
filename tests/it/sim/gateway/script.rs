//! Scripted runs of a gateway: simple servers, and a client that asks one thing after another.

use super::super::answers::Answers;
use super::super::set_up::{GENEROUS, Shared, settings, start_master, start_worker_with, stop};
use super::plan::{self, Plan};
use ringfort::clock;
use ringfort::conn::Settings;
use ringfort::proxy::{
    Attendants, Balance, PoolSpec, RetrySpec, UpstreamLimits, UpstreamSpec, UpstreamTimeouts, Upstreams,
};
use ringfort::rt;
use ringfort::rt::sim::{self, Bug, Client, CoreOptions, Options, Random, Report, Style};
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

pub(super) const SECOND: Duration = Duration::from_secs(1);
/// From one request to the next.
pub(super) const BEAT: Duration = Duration::from_millis(50);
const SEEDS: u64 = 10;
/// It is never heard of again.
pub(super) const SILENT: u16 = 0;
/// It closes instead.
pub(super) const CLOSES: u16 = 1;
/// It sends a byte of its answer now and then, for ever.
pub(super) const DRIPS: u16 = 2;
/// It sends interim responses for ever.
pub(super) const CHATTERS: u16 = 3;

/// A server that answers with a status that the test sets, or as one of the constants above says.
#[derive(Clone)]
pub(super) struct Simple {
    pub(super) status: Rc<Cell<u16>>,
    /// When requests came.
    pub(super) asked: Rc<RefCell<Vec<Duration>>>,
}

pub(super) fn since_start() -> Duration {
    Duration::from_nanos(clock::now().as_nanos())
}

impl Simple {
    pub(super) fn start(address: SocketAddr, status: u16) -> Self {
        let simple = Self { status: Rc::new(Cell::new(status)), asked: Rc::default() };
        let (acceptor, own) = (sim::serve(address), simple.clone());
        sim::task(async move {
            loop {
                let (peer, own) = (acceptor.accept().await, own.clone());
                sim::task(async move { own.serve(peer).await });
            }
        });
        simple
    }

    async fn serve(&self, peer: Client) {
        while self.serve_one(&peer).await.is_some() {}
    }

    async fn serve_one(&self, peer: &Client) -> Option<()> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            match peer.recv(1000).await {
                Ok(more) if !more.is_empty() => bytes.extend(more),
                _ => return None,
            }
        }
        if bytes.starts_with(b"GET /p/") {
            self.asked.borrow_mut().push(since_start());
        }
        match self.status.get() {
            SILENT => std::future::pending().await,
            DRIPS => {
                peer.send(b"HTTP/1.1 200 X\r\nContent-Length: 1000000\r\n\r\n").await.ok()?;
                repeat(peer, b".").await
            }
            CHATTERS => repeat(peer, b"HTTP/1.1 103 X\r\n\r\n").await,
            CLOSES => None,
            status => {
                let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
                peer.send(answer.as_bytes()).await.ok()
            }
        }
    }

    /// When requests came after `since`.
    pub(super) fn asked_after(&self, since: Duration) -> Vec<Duration> {
        self.asked.borrow().iter().filter(|at| **at > since).copied().collect()
    }
}

pub(super) fn upstream(index: usize, servers: usize) -> UpstreamSpec {
    UpstreamSpec {
        name: format!("api{index}"),
        servers: (0..servers).map(|server| plan::server(index, server)).collect(),
        balance: Balance::RoundRobin,
        slow_start: Duration::ZERO,
        pool: PoolSpec::default(),
        timeouts: UpstreamTimeouts { connect: SECOND, response: SECOND, idle: SECOND, total: 3 * SECOND },
        retry: RetrySpec { attempts: 1, budget: 0.0, statuses: Vec::new() },
        hedge_after: None,
        health: None,
        ejection: None,
        breaker: None,
        limits: UpstreamLimits::default(),
    }
}

async fn repeat(peer: &Client, bytes: &[u8]) -> Option<()> {
    loop {
        peer.send(bytes).await.ok()?;
        rt::sleep_until(clock::now() + BEAT).await;
    }
}

#[derive(Clone)]
pub(super) struct Gateway {
    pub(super) shared: Rc<Shared>,
    pub(super) upstreams: Rc<Upstreams>,
}

impl Gateway {
    /// The status of the answer to one request.
    pub(super) async fn ask(&self) -> u16 {
        let client = sim::connect(self.shared.address).await.expect("it listens");
        client.send(b"GET /p/1 HTTP/1.1\r\nHost: sim\r\nConnection: close\r\n\r\n").await.expect("the way is open");
        let mut answers = Answers::default();
        loop {
            if let Some(answer) = answers.next(false).expect("it is well-formed") {
                return answer.status;
            }
            answers.push(&client.recv(1000).await.expect("nobody resets it"));
        }
    }

    /// Asks once a [`BEAT`] for so long: the statuses of the answers.
    pub(super) async fn ask_for(&self, how_long: Duration) -> Vec<u16> {
        let (mut statuses, until) = (Vec::new(), clock::now() + how_long);
        while clock::now() < until {
            let next = clock::now() + BEAT;
            statuses.push(self.ask().await);
            rt::sleep_until(next).await;
        }
        statuses
    }
}

/// Plays `work` before one worker that forwards to the upstreams, for several seeds and both styles.
pub(super) fn in_worlds(plan: Plan, specs: Vec<UpstreamSpec>, work: impl AsyncFn(&Gateway) + Clone + Send + 'static) {
    for seed in 0..SEEDS {
        let report = in_world(seed, None, plan.clone(), specs.clone(), work.clone());
        if let Err(cause) = report.outcome {
            panic!("{}\nseed {seed}: {cause}", report.trace.join("\n"));
        }
    }
}

/// As [`in_worlds`], once and with a mistake.
pub(super) fn in_world(
    seed: u64,
    planted: Option<Bug>,
    plan: Plan,
    specs: Vec<UpstreamSpec>,
    work: impl AsyncFn(&Gateway) + Send + 'static,
) -> Report<()> {
    let style = if seed.is_multiple_of(2) { Style::Multishot } else { Style::Readiness };
    let core = CoreOptions { style, buffers: 64, buffer_bytes: 4096 };
    let options = Options { seed, planted, latency_max_ms: 2, ..Options::default() };
    sim::run(options, move || async move {
        let upstreams = Rc::new(Upstreams::new(specs));
        let settings = Settings { connections: 100, ..settings(&mut Random::new(0)) };
        let shared = Rc::new(Shared::new(settings, false, false));
        let (news, inbox) = rt::mailbox(16);
        let serving = vec![start_worker_with(plan.routes(&upstreams), 0, &shared, core, &news, &[])];
        let master = start_master(&shared, &serving, inbox, GENEROUS);
        let over = Rc::new(Cell::new(false));
        let (told, checked) = (over.clone(), upstreams.clone());
        let checking = sim::core(core, async move {
            let mut attendants = Attendants::new(1);
            attendants.attend(&checked, &[]);
            while !told.get() {
                rt::sleep_until(clock::now() + BEAT).await;
            }
        });
        rt::sleep_until(clock::now() + BEAT).await;
        work(&Gateway { shared: shared.clone(), upstreams }).await;
        stop(&shared, master, serving, GENEROUS, None).await;
        over.set(true);
        checking.await;
    })
}
