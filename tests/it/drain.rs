//! Leaving: what is in flight is finished, nobody new is let in, and it takes no longer than it may.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ringfort::clock;

use crate::support::{Client, PATIENCE, Server, Start, on_each_driver, wait_until};

/// A request whose handler runs and waits for the rest of the body.
#[track_caller]
fn begin(server: &Server, fields: &str) -> Client {
    let mut client = server.client();
    client.send(format!("POST /collect HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\n{fields}\r\n"));
    assert_eq!(client.response().status, 100);
    client
}

#[track_caller]
fn expect_no_admittance(server: &Server) {
    wait_until("new connections are refused", || {
        Client::try_connect(server.address).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
}

#[test]
fn what_is_in_flight_when_a_signal_comes_is_finished_and_announces_the_end() {
    on_each_driver(|driver| {
        for signal in [libc::SIGTERM, libc::SIGINT] {
            let mut server = Start::app(driver).timeout("drain", "60s").serve();
            let mut idle: Vec<Client> = (0..8).map(|_| server.client()).collect();
            for client in &mut idle {
                assert_eq!(client.get("/").text(), "hello");
            }
            let mut in_flight: Vec<Client> = (0..8).map(|_| begin(&server, "Content-Length: 5\r\n")).collect();
            let mut chunked = begin(&server, "Transfer-Encoding: chunked\r\n");
            server.signal(signal);
            assert!(server.log_line("draining").is_some());
            idle.iter_mut().for_each(Client::expect_end);
            expect_no_admittance(&server);
            for client in &mut in_flight {
                let response = client.send("hello").response();
                assert_eq!((response.text(), response.closes()), ("5 bytes, sum 532", true));
                client.expect_end();
            }
            let response = chunked.send("5\r\nhello\r\n0\r\n\r\n").response();
            assert_eq!((response.text(), response.closes()), ("5 bytes, sum 532", true));
            assert_eq!(server.wait_exit(PATIENCE).code(), Some(0), "it leaves when nothing is in flight");
            assert!(server.log_line("stopped").is_some());
        }
    });
}

#[test]
fn a_response_begun_before_the_signal_may_be_followed_by_one_more_request() {
    on_each_driver(|driver| {
        let mut server = Start::app(driver).timeout("drain", "60s").serve();
        let mut idle = server.client();
        assert_eq!(idle.get("/").text(), "hello");
        let mut streaming = server.client();
        streaming.send("POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n");
        streaming.wait_for(b"ab");
        server.signal(libc::SIGTERM);
        idle.expect_end();
        let before = clock::now();
        let response = streaming.send("0\r\n\r\n").response();
        assert_eq!((response.text(), response.closes()), ("ab", false), "its head went out before the signal");
        let next = streaming.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").next(false);
        match next {
            Ok(Some(next)) => assert_eq!((next.text(), next.closes()), ("hello", true)),
            // A client that pauses is idle, and idle connections are closed in a drain.
            outcome => assert!(clock::now().since(before) > IDLE, "{outcome:?}"),
        }
        assert_eq!(server.wait_exit(PATIENCE).code(), Some(0));
    });
}

/// A client that paused this long may have been idle in the eyes of a server that drains.
const IDLE: Duration = Duration::from_millis(45);

/// What became of the requests of one client that asks without end.
#[derive(Default)]
struct Tally {
    answered: usize,
    /// Requests on a used connection that got no whole answer although nothing had announced its end.
    lost: Vec<String>,
}

/// Asks again and again, on a new connection wherever the end of the last was announced, until none is accepted.
fn ask_without_end(server: &Server, answered: &AtomicUsize) -> Tally {
    let mut tally = Tally::default();
    while let Ok(mut client) = Client::try_connect(server.address) {
        let (mut used, mut asked) = (false, clock::now());
        loop {
            let before = std::mem::replace(&mut asked, clock::now());
            let path = if tally.answered % 3 == 0 { "later" } else { "users" };
            let sent = client.try_send(format!("GET /{path}/{} HTTP/1.1\r\nHost: test\r\n\r\n", tally.answered));
            match sent.and_then(|()| client.next(false)) {
                Ok(Some(response)) => {
                    assert!(response.text().ends_with(&format!(" {}", tally.answered)), "{response:?}");
                    tally.answered += 1;
                    answered.fetch_add(1, Ordering::Relaxed);
                    used = true;
                    if response.closes() {
                        break;
                    }
                }
                outcome => {
                    if used && asked.since(before) <= IDLE {
                        tally.lost.push(format!("{:?} after the one before: {outcome:?}", asked.since(before)));
                    }
                    break;
                }
            }
        }
    }
    tally
}

#[test]
fn no_request_is_lost_when_a_loaded_server_leaves() {
    on_each_driver(|driver| {
        let mut server = Start::app(driver).timeout("drain", "60s").serve();
        let answered = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            let clients: Vec<_> = (0..6).map(|_| scope.spawn(|| ask_without_end(&server, &answered))).collect();
            wait_until("requests are under way", || answered.load(Ordering::Relaxed) > 500);
            server.signal(libc::SIGTERM);
            for client in clients {
                let tally = client.join().unwrap();
                assert!(tally.lost.is_empty(), "{} answered; lost: {:?}", tally.answered, tally.lost);
            }
        });
        assert_eq!(server.wait_exit(PATIENCE).code(), Some(0));
    });
}

#[test]
fn a_request_that_does_not_end_is_cut_at_the_drain_time_out() {
    on_each_driver(|driver| {
        let mut server = Start::app(driver).timeout("drain", "300ms").serve();
        let mut stuck = server.client();
        stuck.send("GET /stuck HTTP/1.1\r\nHost: test\r\n\r\n").wait_for(b"begun");
        server.signal(libc::SIGTERM);
        assert_eq!(server.wait_exit(PATIENCE).code(), Some(0));
        assert!(server.log_line("the drain time-out cut connections").is_some());
        let error = stuck.next(false).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{error}");
    });
}

#[test]
fn a_second_signal_ends_it_at_once() {
    on_each_driver(|driver| {
        for second in [libc::SIGTERM, libc::SIGINT] {
            let mut server = Start::app(driver).timeout("drain", "10m").serve();
            let mut stuck = server.client();
            stuck.send("GET /stuck HTTP/1.1\r\nHost: test\r\n\r\n").wait_for(b"begun");
            server.signal(libc::SIGTERM);
            assert!(server.log_line("draining").is_some());
            server.signal(second);
            server.wait_exit(PATIENCE);
            assert!(server.log_line("stopping at once").is_some());
        }
    });
}

#[test]
fn an_idle_server_leaves_on_a_signal() {
    on_each_driver(|driver| {
        let mut server = Start::app(driver).timeout("drain", "60s").serve();
        server.signal(libc::SIGTERM);
        assert_eq!(server.wait_exit(PATIENCE).code(), Some(0));
        expect_no_admittance(&server);
    });
}
