//! When a server is let alone, and for how long: by its breaker, by ejection, by active checks, each to the millisecond of
//! virtual time.

use super::super::answers::Answers;
use super::super::scenario::{GENEROUS, Shared, settings, start_master, start_worker_with, stop};
use super::scenario::{address, routes};
use ringfort::clock;
use ringfort::conn::Settings;
use ringfort::proxy::{
    Balance, BreakerSpec, EjectionSpec, HealthSpec, PoolSpec, Probe, RetrySpec, ServerAddress, ServerSpec,
    UpstreamLimits, UpstreamSpec, UpstreamTimeouts, Upstreams, run_checks,
};
use ringfort::rt;
use ringfort::rt::sim::{self, Client, CoreOptions, Options, Random, Style};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);
/// From one request to the next.
const BEAT: Duration = Duration::from_millis(50);
/// What a request takes on its way, and the timers' grain.
const SLACK: Duration = Duration::from_millis(40);
const SEEDS: u64 = 10;
const CLOSES: u16 = 1;

/// A server that answers with a status that the test sets; 0: it is never heard of again; [`CLOSES`]: it closes instead.
#[derive(Clone)]
struct Simple {
    status: Rc<Cell<u16>>,
    /// When requests came.
    asked: Rc<RefCell<Vec<Duration>>>,
}

fn since_start() -> Duration {
    Duration::from_nanos(clock::now().as_nanos())
}

impl Simple {
    fn start(number: usize, status: u16) -> Self {
        let simple = Self { status: Rc::new(Cell::new(status)), asked: Rc::default() };
        let (acceptor, own) = (sim::serve(address(number)), simple.clone());
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
            0 => std::future::pending().await,
            CLOSES => None,
            status => {
                let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n");
                peer.send(answer.as_bytes()).await.ok()
            }
        }
    }

    /// When requests came after `since`.
    fn asked_after(&self, since: Duration) -> Vec<Duration> {
        self.asked.borrow().iter().filter(|at| **at > since).copied().collect()
    }
}

fn upstream(servers: usize) -> UpstreamSpec {
    let server =
        |server| ServerSpec { address: ServerAddress::Socket(address(server)), weight: 1, backup: false, drain: false };
    UpstreamSpec {
        name: "api".to_owned(),
        servers: (0..servers).map(server).collect(),
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

#[derive(Clone)]
struct Gateway {
    shared: Rc<Shared>,
    upstreams: Rc<Upstreams>,
}

impl Gateway {
    /// The status of the answer to one request.
    async fn ask(&self) -> u16 {
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
    async fn ask_for(&self, how_long: Duration) -> Vec<u16> {
        let (mut statuses, until) = (Vec::new(), clock::now() + how_long);
        while clock::now() < until {
            let next = clock::now() + BEAT;
            statuses.push(self.ask().await);
            rt::sleep_until(next).await;
        }
        statuses
    }
}

/// Plays `work` before one worker that forwards to the upstream, for several seeds and both styles.
fn in_worlds(spec: UpstreamSpec, work: impl AsyncFn(&Gateway) + Clone + Send + 'static) {
    for seed in 0..SEEDS {
        let (spec, work) = (spec.clone(), work.clone());
        let style = if seed % 2 == 0 { Style::Multishot } else { Style::Readiness };
        let core = CoreOptions { style, buffers: 64, buffer_bytes: 4096 };
        let options = Options { seed, latency_max_ms: 2, ..Options::default() };
        let report = sim::run(options, move || async move {
            let upstreams = Rc::new(Upstreams::new(vec![spec]));
            let settings = Settings { connections: 100, ..settings(&mut Random::new(0)) };
            let shared = Rc::new(Shared::new(settings, false, false));
            let (news, inbox) = rt::mailbox(16);
            let serving = vec![start_worker_with(routes(&upstreams), 0, &shared, core, &news, None)];
            let master = start_master(&shared, &serving, inbox, GENEROUS);
            let over = Rc::new(Cell::new(false));
            let (told, checked) = (over.clone(), upstreams.clone());
            let checking = sim::core(core, async move {
                run_checks(&checked, 1);
                while !told.get() {
                    rt::sleep_until(clock::now() + BEAT).await;
                }
            });
            rt::sleep_until(clock::now() + BEAT).await;
            work(&Gateway { shared: shared.clone(), upstreams }).await;
            stop(&shared, master, serving, GENEROUS, None).await;
            over.set(true);
            checking.await;
        });
        if let Err(cause) = report.outcome {
            panic!("{}\nseed {seed}: {cause}", report.trace.join("\n"));
        }
    }
}

#[test]
fn a_breaker_opens_lets_one_probe_through_and_closes_again() {
    let breaker = Some(BreakerSpec { consecutive_failures: 3, open: 2 * SECOND });
    in_worlds(UpstreamSpec { breaker, ..upstream(1) }, async |gateway| {
        let server = Simple::start(0, 0);
        for _ in 0..3 {
            assert_eq!(gateway.ask().await, 504, "the server says nothing");
        }
        let opened = since_start();
        let statuses = gateway.ask_for(2 * SECOND - BEAT).await;
        assert!(statuses.iter().all(|status| *status == 503), "{statuses:?}");
        assert!(server.asked_after(opened).is_empty());
        // The probe fails, and whoever comes meanwhile is turned away.
        rt::sleep_until(clock::now() + BEAT).await;
        let own = gateway.clone();
        let probing = sim::task(async move { own.ask().await });
        rt::sleep_until(clock::now() + BEAT).await;
        assert_eq!(gateway.ask().await, 503, "the probe is under way");
        let probes = server.asked_after(opened);
        assert_eq!(probes.len(), 1, "{probes:?}");
        assert!(probes[0] >= opened + 2 * SECOND - SLACK, "opened at {opened:?}, probed at {probes:?}");
        assert_eq!(probing.await, 504);
        let opened = since_start();
        server.status.set(200);
        let statuses = gateway.ask_for(2 * SECOND - BEAT).await;
        assert!(statuses.iter().all(|status| *status == 503), "{statuses:?}");
        assert!(server.asked_after(opened).is_empty());
        rt::sleep_until(clock::now() + BEAT).await;
        let statuses = gateway.ask_for(SECOND).await;
        assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    });
}

#[test]
fn a_server_is_ejected_for_exactly_as_long_as_it_should_be() {
    let ejection =
        EjectionSpec { consecutive_failures: 3, duration: SECOND, duration_max: 10 * SECOND, percent_max: 50 };
    in_worlds(UpstreamSpec { ejection: Some(ejection), ..upstream(2) }, async |gateway| {
        let (bad, good) = (Simple::start(0, 500), Simple::start(1, 200));
        // Each time in a row it takes a second longer.
        for row in 1..=3 {
            while gateway.upstreams.get(0).expect("it is there").standings.count_ejected(clock::now()) == 0 {
                gateway.ask().await;
            }
            let ejected = since_start();
            let statuses = gateway.ask_for(row * SECOND + 6 * BEAT).await;
            let again = bad.asked_after(ejected);
            let back = again.first().expect("it is asked again");
            let (least, most) = (row * SECOND - SLACK, row * SECOND + 3 * BEAT);
            assert!((ejected + least..ejected + most).contains(back), "row {row}: {ejected:?}, back at {back:?}");
            assert!(statuses.iter().filter(|status| **status != 200).count() <= 3, "{statuses:?}");
        }
        assert!(good.asked.borrow().len() > 60);
    });
}

#[test]
fn active_checks_take_a_server_out_and_bring_it_back_in_time() {
    let probe = Probe::Http { path: "/healthz".to_owned(), host: None, statuses: vec![Probe::SUCCESS] };
    let health = HealthSpec { probe, interval: SECOND, jitter: 0.1, timeout: SECOND / 2, fall: 3, rise: 2 };
    in_worlds(UpstreamSpec { health: Some(health), ..upstream(1) }, async |gateway| {
        let server = Simple::start(0, 200);
        assert!(gateway.ask_for(2 * SECOND).await.iter().all(|status| *status == 200));
        let wait_for = async |wanted: u16| {
            let began = since_start();
            while gateway.ask().await != wanted {
                rt::sleep_until(clock::now() + BEAT).await;
            }
            since_start() - began
        };
        server.status.set(500);
        let took = wait_for(503).await;
        // Three checks, the first of them within an interval.
        assert!(took >= 2 * SECOND && took <= Duration::from_millis(3400) + BEAT + SLACK, "it fell after {took:?}");
        server.status.set(200);
        let took = wait_for(200).await;
        assert!(took >= SECOND && took <= Duration::from_millis(2300) + BEAT + SLACK, "it rose after {took:?}");
    });
}

#[test]
fn each_time_out_of_an_upstream_fires_when_it_is_due() {
    in_worlds(upstream(1), async |gateway| {
        let _server = Simple::start(0, 0);
        let began = clock::now();
        assert_eq!(gateway.ask().await, 504);
        let took = clock::now().since(began);
        assert!(took >= SECOND && took < SECOND + SLACK, "no answer, for {took:?}");
    });
    in_worlds(upstream(1), async |gateway| {
        let acceptor = sim::serve(address(0));
        acceptor.receive_as(sim::Reception::Silent);
        let began = clock::now();
        assert_eq!(gateway.ask().await, 504);
        let took = clock::now().since(began);
        assert!(took >= SECOND && took < SECOND + SLACK, "no connection, for {took:?}");
    });
}

#[test]
fn a_request_meets_a_connection_that_was_closed_meanwhile_once_at_most() {
    let retry = RetrySpec { attempts: 2, budget: 1.0, statuses: Vec::new() };
    in_worlds(UpstreamSpec { retry, ..upstream(2) }, async |gateway| {
        let servers = [Simple::start(0, 200), Simple::start(1, 200)];
        // In turn: each has an idle connection then.
        assert_eq!([gateway.ask().await, gateway.ask().await], [200, 200]);
        let before = since_start();
        servers.iter().for_each(|server| server.status.set(CLOSES));
        assert_eq!(gateway.ask().await, 502);
        let times: usize = servers.iter().map(|server| server.asked_after(before).len()).sum();
        // The idle connection, a new one to the same server, and a new one to the other.
        assert_eq!(times, 3);
    });
}
