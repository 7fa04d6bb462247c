//! Slow clients in virtual time: when exactly each kind of slowness ends, and what does not count as slow.

use super::answers::Answers;
use ringfort::clock::{self, Moment};
use ringfort::conn::{Settings, Timeouts};
use ringfort::handler::{Action, BodyLength, Exchange, Failure, Reply, Routes};
use ringfort::http::HeadLimits;
use ringfort::metrics::{Counter, Shard, ShardWriter};
use ringfort::router::RouterBuf;
use ringfort::rt::sim::{self, Client, CoreOptions, Options, Style};
use ringfort::rt::{self, Socket};
use ringfort::worker::{News, Order, Worker};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

ringfort::routes! {
    static ROUTES: Action = {
        POST "/collect" => ringfort::suspending!(collect),
        POST "/sip" => ringfort::suspending!(sip),
        POST "/turn-away" => ringfort::suspending!(turn_away),
        GET "/large/:bytes" => ringfort::suspending!(large),
        GET "/drip" => ringfort::suspending!(drip),
    }
}

/// Of a body, and of a response.
const PAUSE: Duration = Duration::from_secs(4);
/// Of a head, a body and a response.
const TOTAL: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(5);
const RATE: u64 = 500;
/// How often slow clients move something.
const STEP: Duration = Duration::from_millis(100);
/// What the network and the timers' grain may add.
const SLACK: Duration = Duration::from_millis(200);

/// Reads all of the body.
async fn collect(exchange: &mut Exchange<'_>) -> Reply {
    let body = exchange.body.read_to_end(usize::MAX).await?;
    exchange.response.text(&body.len().to_string())
}

/// Takes much longer over the first pieces of the body than a client may take.
async fn sip(exchange: &mut Exchange<'_>) -> Reply {
    let (mut length, mut pieces) = (0, 0);
    while let Some(piece) = exchange.body.next().await? {
        length += piece.len();
        pieces += 1;
        if pieces <= 3 {
            rt::sleep_until(clock::now() + 6 * PAUSE).await;
        }
    }
    exchange.response.text(&length.to_string())
}

/// Begins to wait for the body, does something else for long, and then reads it.
async fn turn_away(exchange: &mut Exchange<'_>) -> Reply {
    let soon = clock::now() + Duration::from_secs(1);
    if let Some(early) = rt::timeout(soon, exchange.body.next()).await {
        return Err(Failure::internal(format!("a piece came early: {early:?}")));
    }
    rt::sleep_until(clock::now() + 3 * PAUSE).await;
    collect(exchange).await
}

async fn large(exchange: &mut Exchange<'_>) -> Reply {
    let bytes: u64 = exchange.request.param("bytes").unwrap_or_default().parse().map_err(Failure::internal)?;
    exchange.response.start(BodyLength::Known(bytes))?;
    for _ in 0..bytes / 1000 {
        exchange.response.write(&[b'x'; 1000]).await?;
    }
    Ok(())
}

/// Gives ten bytes at a time, with pauses that no client would be allowed.
async fn drip(exchange: &mut Exchange<'_>) -> Reply {
    exchange.response.start(BodyLength::Unknown)?;
    for _ in 0..10 {
        exchange.response.write(b"0123456789").await?;
        rt::sleep_until(clock::now() + 3 * PAUSE).await;
    }
    Ok(())
}

fn settings() -> Settings {
    Settings {
        head: HeadLimits { head: 64 * 1024, ..HeadLimits::default() },
        body: 1 << 30,
        connections: 10,
        timeouts: Timeouts {
            head: TOTAL,
            body: PAUSE,
            body_total: TOTAL,
            idle: PAUSE,
            write: PAUSE,
            write_total: TOTAL,
        },
        // Grace and rates as they are by default.
        rates: ringfort::conn::Rates::default(),
        keepalive_requests: 1000,
        keepalive_age: Duration::from_secs(3600),
        server_name: None,
        observing: ringfort::conn::Observing::default(),
    }
}

/// A server, and one client of it.
struct Pair {
    client: Client,
    shard: Arc<Shard>,
    started: Moment,
}

impl Pair {
    fn count(&self, counter: Counter) -> u64 {
        self.shard.read().counters[counter as usize]
    }

    /// What time-outs were counted, by the name of their phase.
    fn timeouts(&self) -> Vec<&'static str> {
        let phases = [
            (Counter::HeadTimeouts, "head"),
            (Counter::HeadRateTimeouts, "head_rate"),
            (Counter::BodyTimeouts, "body"),
            (Counter::BodyTotalTimeouts, "body_total"),
            (Counter::WriteTimeouts, "write"),
            (Counter::WriteTotalTimeouts, "write_total"),
        ];
        let counted = phases.iter().filter(|(counter, _)| self.count(*counter) > 0);
        counted.map(|(_, phase)| *phase).collect()
    }

    fn elapsed(&self) -> Duration {
        clock::now().since(self.started)
    }

    /// Sends `bytes` of `filler` each [`STEP`] until the server answers or ends; the answer's status, and when it came.
    async fn trickle(&self, filler: &[u8], most: Duration) -> (Option<u16>, Duration) {
        let (mut answers, mut next) = (Answers::default(), clock::now());
        while self.elapsed() < most {
            if self.client.send(filler).await.is_err() {
                break;
            }
            next = next + STEP;
            if let Some(Ok(bytes)) = rt::timeout(next, self.client.recv(65_536)).await {
                answers.push(&bytes);
                break;
            }
        }
        let took = self.elapsed();
        (self.status(answers).await, took)
    }

    /// The status of the next answer.
    async fn status(&self, mut answers: Answers) -> Option<u16> {
        loop {
            if let Some(answer) = answers.next(false).unwrap() {
                return Some(answer.status);
            }
            match self.client.recv(65_536).await {
                Ok(bytes) if !bytes.is_empty() => answers.push(&bytes),
                _ => return None,
            }
        }
    }

    /// Reads `most` bytes each [`STEP`] until the server ends the connection; how many bytes came, and when it ended.
    async fn sip(&self, most: usize) -> (usize, Duration) {
        let (mut received, mut next) = (0, clock::now());
        while self.client.closed_at().is_none() && self.elapsed() < 3 * TOTAL {
            next = next + STEP;
            let wanted = received + most;
            while received < wanted {
                match rt::timeout(next, self.client.recv(wanted - received)).await {
                    Some(Ok(bytes)) if !bytes.is_empty() => received += bytes.len(),
                    _ => break,
                }
            }
            rt::sleep_until(next).await;
        }
        (received, self.client.closed_at().map_or(Duration::MAX, |at| at.since(self.started)))
    }
}

/// Runs `test` with a client on its own in several worlds: seeds, and both styles of receiving.
#[track_caller]
fn in_worlds(test: impl AsyncFn(Pair) + Copy + Send + 'static) {
    for seed in 0..8 {
        let style = if seed % 2 == 0 { Style::Multishot } else { Style::Readiness };
        // Small pipes: what stands in them is no one's delay.
        let options = Options { seed, latency_max_ms: 1, pipe_bytes_max: 4096, ..Options::default() };
        let report = sim::run(options, move || async move {
            let address = SocketAddr::from(([10, 1, 0, 1], 80));
            let routes = Routes::new(&[&ROUTES], RouterBuf::build(&[]).unwrap(), Vec::new(), Vec::new());
            let metrics = ShardWriter::create(0, 1, routes.names().len());
            let shard = metrics.shard();
            let ((orders, inbox), (news, told)) = (rt::mailbox(16), rt::mailbox(16));
            let worker = Worker {
                index: 0,
                count: 1,
                pin: None,
                executor: rt::Options::default(),
                listeners: vec![(address, Socket::from(sim::listen(address)))],
                stall: Duration::from_secs(5),
                settings: settings(),
                routes: Arc::new(routes),
                metrics,
                access: None,
                context: Arc::new(|| Rc::new(())),
                orders: inbox,
                news,
            };
            let started =
                rt::Started { executor: rt::Executor::default(), driver: rt::Driver::IoUring, fallback: None };
            let core = CoreOptions { style, buffers: 64, buffer_bytes: 1024 };
            let ended = sim::core(core, async move { worker.serve(started).await });
            assert!(matches!(told.next().await, Some(News::Accepting(..))));
            let client = sim::connect(address).await.expect("somebody listens");
            test(Pair { client, shard, started: clock::now() }).await;
            orders.post(Order::Drain(clock::now() + TOTAL)).expect("room for an order");
            ended.await
        });
        assert_eq!(report.outcome, Ok(0), "seed {seed}\n{}", report.trace.join("\n"));
    }
}

#[track_caller]
fn assert_near(found: Duration, expected: Duration, what: &str) {
    // What is earned while nothing was lost yet does not count.
    let range = expected - STEP..expected + SLACK;
    assert!(range.contains(&found), "{what} after {found:?}, expected {range:?}");
}

/// How long a client lasts that moves `per_step` bytes each [`STEP`], if it is less than the minimum rate.
fn lasts(pause: Duration, per_step: u64) -> Duration {
    let rate = per_step as f64 / STEP.as_secs_f64();
    pause.div_f64(1.0 - rate / RATE as f64)
}

const HEAD: &[u8] = b"GET /large/1000 HTTP/1.1\r\nHost: sim\r\nX: ";

#[test]
fn a_head_below_its_minimum_rate_ends_soon_after_the_grace() {
    in_worlds(async |pair| {
        pair.client.send(HEAD).await.unwrap();
        let (status, took) = pair.trickle(b"x", TOTAL).await;
        assert_near(took, lasts(GRACE, 1), "the head ended");
        assert_eq!((status, pair.timeouts()), (Some(408), vec!["head_rate"]));
    });
}

#[test]
fn a_head_at_its_minimum_rate_ends_at_its_total() {
    in_worlds(async |pair| {
        pair.client.send(HEAD).await.unwrap();
        let (status, took) = pair.trickle(&[b'x'; 52], 2 * TOTAL).await;
        assert_near(took, TOTAL, "the head ended");
        assert_eq!((status, pair.timeouts()), (Some(408), vec!["head"]));
    });
}

#[test]
fn a_head_with_a_pause_within_the_grace_is_served() {
    in_worlds(async |pair| {
        pair.client.send(HEAD).await.unwrap();
        rt::sleep_until(clock::now() + (GRACE - SLACK)).await;
        pair.client.send(b"x\r\n\r\n").await.unwrap();
        assert_eq!((pair.status(Answers::default()).await, pair.timeouts()), (Some(200), vec![]));
    });
}

/// Heads of requests with long bodies, and 25 bytes on the wire that belong to such a body.
const BODIES: [(&str, &[u8]); 2] = [
    ("Content-Length: 1000000", b"0123456789012345678901234"),
    ("Transfer-Encoding: chunked", b"13\r\n0123456789012345678\r\n"),
];

fn post(path: &str, framing: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nHost: sim\r\n{framing}\r\n\r\n").into_bytes()
}

#[test]
fn a_body_that_stops_ends_after_the_pause_that_is_allowed() {
    in_worlds(async |pair| {
        pair.client.send(&post("/collect", BODIES[0].0)).await.unwrap();
        let mut answers = Answers::default();
        answers.push(&pair.client.recv(1).await.unwrap());
        assert_near(pair.elapsed(), PAUSE, "the body ended");
        assert_eq!((pair.status(answers).await, pair.timeouts()), (Some(408), vec!["body"]));
    });
}

#[test]
fn a_body_below_its_minimum_rate_ends_when_it_is_a_pause_behind() {
    for (framing, piece) in BODIES {
        in_worlds(async move |pair: Pair| {
            pair.client.send(&post("/collect", framing)).await.unwrap();
            let (status, took) = pair.trickle(piece, TOTAL).await;
            assert_near(took, lasts(PAUSE, piece.len() as u64), "the body ended");
            assert_eq!((status, pair.timeouts()), (Some(408), vec!["body"]));
        });
    }
}

#[test]
fn a_body_at_its_minimum_rate_ends_at_its_total() {
    for (framing, piece) in BODIES {
        in_worlds(async move |pair: Pair| {
            pair.client.send(&post("/collect", framing)).await.unwrap();
            let (status, took) = pair.trickle(&piece.repeat(3), 2 * TOTAL).await;
            assert_near(took, TOTAL, "the body ended");
            assert_eq!((status, pair.timeouts()), (Some(408), vec!["body_total"]));
        });
    }
}

#[test]
fn a_handler_that_is_slow_to_read_costs_the_client_nothing() {
    in_worlds(async |pair| {
        pair.client.send(&post("/sip", "Content-Length: 10000")).await.unwrap();
        let sending = async {
            for _ in 0..10 {
                pair.client.send(&[b'x'; 1000]).await.unwrap();
                // By far less than the handler takes over it.
                rt::sleep_until(clock::now() + PAUSE / 2).await;
            }
        };
        sending.await;
        assert_eq!((pair.status(Answers::default()).await, pair.timeouts()), (Some(200), vec![]));
        assert!(pair.elapsed() > TOTAL, "the handler took {:?}", pair.elapsed());
    });
}

#[test]
fn a_handler_that_turns_away_from_a_body_costs_the_client_nothing() {
    in_worlds(async |pair| {
        pair.client.send(&post("/turn-away", "Content-Length: 20")).await.unwrap();
        rt::sleep_until(clock::now() + PAUSE).await;
        pair.client.send(b"0123456789").await.unwrap();
        rt::sleep_until(pair.started + 4 * PAUSE).await;
        pair.client.send(b"0123456789").await.unwrap();
        assert_eq!((pair.status(Answers::default()).await, pair.timeouts()), (Some(200), vec![]));
    });
}

#[test]
fn a_client_that_reads_below_the_minimum_rate_is_cut_when_it_is_a_pause_behind() {
    for per_step in [0, 1, 25] {
        in_worlds(async move |pair: Pair| {
            pair.client.send(b"GET /large/10000000 HTTP/1.1\r\nHost: sim\r\n\r\n").await.unwrap();
            let (_, took) = pair.sip(per_step).await;
            assert_near(took, lasts(PAUSE, per_step as u64), &format!("{per_step} bytes a step: cut"));
            assert_eq!(pair.timeouts(), ["write"]);
        });
    }
}

#[test]
fn a_client_that_reads_at_the_minimum_rate_is_cut_at_the_total() {
    in_worlds(async |pair| {
        pair.client.send(b"GET /large/10000000 HTTP/1.1\r\nHost: sim\r\n\r\n").await.unwrap();
        let (_, took) = pair.sip(60).await;
        assert!((TOTAL..TOTAL + 2 * SLACK).contains(&took), "cut after {took:?}");
        assert_eq!(pair.timeouts(), ["write_total"]);
    });
}

#[test]
fn a_client_that_reads_slowly_but_within_the_rate_gets_all() {
    in_worlds(async |pair| {
        let request = b"GET /large/20000 HTTP/1.1\r\nHost: sim\r\nConnection: close\r\n\r\n";
        pair.client.send(request).await.unwrap();
        let mut received = 0;
        loop {
            match pair.client.recv(1).await.unwrap().len() {
                0 => break,
                count => received += count,
            }
            if received.is_multiple_of(60) {
                rt::sleep_until(pair.started + STEP * (received as u32 / 60)).await;
            }
        }
        assert!(received > 20_000 && pair.elapsed() > 7 * PAUSE, "{received} bytes in {:?}", pair.elapsed());
        assert_eq!(pair.timeouts(), Vec::<&str>::new());
    });
}

#[test]
fn a_handler_that_is_slow_to_write_costs_the_client_nothing() {
    in_worlds(async |pair| {
        pair.client.send(b"GET /drip HTTP/1.1\r\nHost: sim\r\n\r\n").await.unwrap();
        assert_eq!((pair.status(Answers::default()).await, pair.timeouts()), (Some(200), vec![]));
        assert!(pair.elapsed() > TOTAL, "the handler took {:?}", pair.elapsed());
    });
}
