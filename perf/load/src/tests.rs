//! The whole generator against small servers, some of them faulty.

use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use crate::arguments::{Mode, Plan};
use crate::engine::{Engine, Tally};
use crate::sink::{Sink, answer};
use crate::{measure, warm_up};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

/// A server with a thread for each connection. It ends with the test's process.
struct Server {
    address: SocketAddrV4,
    answered: Arc<AtomicU64>,
}

/// Reads requests up to their empty line; `answer` gets the number of each over all connections, and may end one.
fn serve(answer: impl Fn(u64, &mut TcpStream) -> bool + Send + Sync + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string().parse().unwrap();
    let (answer, answered) = (Arc::new(answer), Arc::new(AtomicU64::new(0)));
    let count = Arc::clone(&answered);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (answer, count, mut stream) = (Arc::clone(&answer), Arc::clone(&count), stream.unwrap());
            thread::spawn(move || {
                let (mut bytes, mut seen) = ([0; 4096], Vec::new());
                while let Ok(1..) = stream.read(&mut bytes[..1]) {
                    seen.push(bytes[0]);
                    if seen.ends_with(b"\r\n\r\n") {
                        let closes = seen.windows(17).any(|window| window == b"Connection: close");
                        seen.clear();
                        if !answer(count.fetch_add(1, Relaxed), &mut stream) || closes {
                            return;
                        }
                    }
                }
            });
        }
    });
    Server { address, answered }
}

fn plan(mode: Mode, server: &Server) -> Plan {
    Plan {
        connections: 3,
        window: Duration::from_millis(200),
        warmup: Duration::from_millis(20),
        ..Plan::new(mode, server.address)
    }
}

/// The measured window, what the server counted in it, the errors and the first of them.
fn run(plan: &Plan, server: &Server) -> (Tally, u64, u64, String) {
    let mut engine = Engine::new(plan).unwrap();
    let opening = warm_up(plan, &mut engine).unwrap();
    let before = server.answered.load(Relaxed);
    let tally = if engine.errors.count == 0 { measure(plan, &mut engine, opening).unwrap() } else { opening };
    let counted = server.answered.load(Relaxed) - before;
    (tally, counted, engine.errors.count, engine.errors.first.unwrap_or_default())
}

#[test]
fn every_answer_is_counted_once() {
    let server = serve(|_, stream| stream.write_all(ANSWER).is_ok());
    for (mode, pipeline) in [(Mode::Closed, 1), (Mode::Closed, 16), (Mode::Connect, 1)] {
        let plan = Plan { pipeline, body_length: Some(5), ..plan(mode, &server) };
        let (tally, counted, errors, first) = run(&plan, &server);
        assert_eq!((tally.answered, errors, first.as_str()), (counted, 0, ""), "{mode:?}");
        assert!(counted > 0 && counted % pipeline as u64 == 0);
        assert_eq!(tally.bytes, counted * ANSWER.len() as u64);
        assert_eq!(tally.latency.len(), counted);
    }
}

#[test]
fn held_connections_get_one_answer_each_and_stay() {
    let server = serve(|_, stream| stream.write_all(ANSWER).is_ok());
    let plan = Plan { connections: 100, ..plan(Mode::Hold, &server) };
    let (tally, _, errors, _) = run(&plan, &server);
    assert_eq!((tally.answered, errors, server.answered.load(Relaxed)), (100, 0, 100));
}

#[test]
fn held_connection_that_is_closed_is_an_error() {
    let server = serve(|number, stream| stream.write_all(ANSWER).is_ok() && number != 7);
    let plan = Plan { connections: 10, ..plan(Mode::Hold, &server) };
    let (_, _, errors, first) = run(&plan, &server);
    assert_eq!((errors, first.as_str()), (1, "expected an open connection, found it closed with 0 answers to come"));
}

#[test]
fn open_loop_sends_at_its_rate() {
    let server = serve(|_, stream| stream.write_all(ANSWER).is_ok());
    let plan = Plan { rate: 1000.0, window: Duration::from_millis(500), ..plan(Mode::Open, &server) };
    let (tally, counted, errors, _) = run(&plan, &server);
    assert_eq!((tally.answered, counted, errors), (500, 500, 0));
    assert!((0.45..5.0).contains(&tally.elapsed.as_secs_f64()), "{:?}", tally.elapsed);
}

/// One stall of 200 ms, once, on a server with one connection: of 1000 requests in a second, 200 come due meanwhile. A
/// closed loop sees one slow request; measured from their intended times, a fifth of them is slow.
#[test]
fn stall_shows_in_the_percentiles_of_an_open_loop_and_not_of_a_closed_one() {
    let stalling = || {
        serve(|number, stream| {
            if number == 100 {
                thread::sleep(Duration::from_millis(200));
            }
            stream.write_all(ANSWER).is_ok()
        })
    };
    let millis = |tally: &Tally, quantile| tally.latency.value_at_quantile(quantile) / 1_000_000;
    let one = |mode, server: &Server| Plan {
        connections: 1,
        warmup: Duration::ZERO,
        window: Duration::from_secs(1),
        ..plan(mode, server)
    };

    let server = stalling();
    let (open, _, errors, _) = run(&Plan { rate: 1000.0, ..one(Mode::Open, &server) }, &server);
    assert_eq!((open.answered, errors), (1000, 0));
    assert!((190..1000).contains(&millis(&open, 0.999)), "{}", millis(&open, 0.999));
    // 190 of them waited longer than 10 ms.
    assert!(millis(&open, 0.85) >= 10, "{}", millis(&open, 0.85));

    let server = stalling();
    let (closed, _, errors, _) = run(&one(Mode::Closed, &server), &server);
    assert_eq!(errors, 0);
    assert!(closed.answered > 1000, "{}", closed.answered);
    assert!(millis(&closed, 0.99) < 100 && millis(&closed, 1.0) >= 190, "{}", millis(&closed, 0.99));
}

#[test]
fn wrong_answers_are_counted_as_errors() {
    let server = serve(|_, stream| stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").is_ok());
    let (tally, _, errors, first) = run(&plan(Mode::Closed, &server), &server);
    assert_eq!(
        (tally.answered, errors, first.as_str()),
        (0, 3, "expected status 200, found \"HTTP/1.1 404 Not Found\"")
    );
}

#[test]
fn connection_closed_in_an_answer_is_an_error() {
    let server = serve(|number, stream| {
        let cut = number == 50;
        stream.write_all(if cut { &ANSWER[..20] } else { ANSWER }).is_ok() && !cut
    });
    let (_, _, errors, first) = run(&plan(Mode::Closed, &server), &server);
    assert_eq!((errors, first.as_str()), (1, "expected an open connection, found it closed with 1 answers to come"));
}

#[test]
fn nobody_listening_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string().parse().unwrap();
    drop(listener);
    let server = Server { address, answered: Arc::default() };
    let (_, _, errors, first) = run(&plan(Mode::Closed, &server), &server);
    assert_eq!(errors, 3);
    assert!(first.contains("refused"), "{first}");
}

/// A sink with a thread of its own, which ends with the test's process.
fn sink() -> Server {
    // A free port, as far as anybody can know before it is bound: the listener that found it is gone by then.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string().parse().unwrap();
    let sink = Sink::bind(address).unwrap();
    thread::spawn(move || sink.run());
    Server { address, answered: Arc::default() }
}

#[test]
fn bodies_are_sent_whole_and_a_sink_says_how_long_they_were() {
    let server = sink();
    for (bytes, pipeline) in [(0, 1), (1, 16), (65_536, 4), (3_000_000, 1)] {
        let plan = Plan { send_bytes: Some(bytes), pipeline, body_length: Some(21), ..plan(Mode::Closed, &server) };
        let (tally, _, errors, first) = run(&plan, &server);
        assert_eq!((errors, first.as_str()), (0, ""), "{bytes} bytes");
        assert!(tally.answered > 0);
        assert_eq!(tally.bytes, tally.answered * answer(bytes as u64).len() as u64);
    }
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello").unwrap();
    let mut found = vec![0; answer(5).len()];
    stream.read_exact(&mut found).unwrap();
    assert_eq!(found, answer(5));
}

#[test]
fn an_answer_before_the_end_of_the_request_is_an_error() {
    let server = serve(|_, stream| stream.write_all(ANSWER).is_ok());
    let plan = Plan { send_bytes: Some(64 << 20), connections: 1, ..plan(Mode::Closed, &server) };
    let (_, _, errors, first) = run(&plan, &server);
    assert!(errors > 0);
    assert!(first.starts_with("expected an answer behind the request, found it "), "{first}");
}
