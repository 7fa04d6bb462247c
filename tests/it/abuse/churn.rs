//! Connections that come and go: resets at every point, half-closed ones, random bytes.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use super::{crowd, endure, on_threads};
use crate::support::{Client, PATIENCE, Server, Start, on_each_driver, wait_until};

/// How far a client comes before it resets its connection.
const BEGUN: [&str; 6] = [
    "",
    "GET /users/1 HTTP/1.1\r\nHo",
    "GET /users/1 HTTP/1.1\r\nHost: test\r\n\r\n",
    "GET /slow/100 HTTP/1.1\r\nHost: test\r\n\r\n",
    "POST /collect HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\nhalf",
    "GET /large/1 HTTP/1.1\r\nHost: test\r\n\r\n",
];

fn connect_and_reset(server: &Server, begun: &str) {
    let mut stream = TcpStream::connect_timeout(&server.address, PATIENCE).unwrap();
    // The server may be done with it already.
    let _ = stream.write_all(begun.as_bytes());
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
}

#[test]
fn thousands_of_connects_and_resets_leave_nothing_behind_and_hold_nobody_up() {
    endure(
        "connects and resets",
        |start| start,
        |server, strength| {
            let count = strength.of(2000, 50_000);
            on_threads(4, count, |number| connect_and_reset(server, BEGUN[number % BEGUN.len()]));
        },
    );
}

#[test]
fn half_closed_connections_leave_nothing_behind_and_hold_nobody_up() {
    endure(
        "half-closed",
        |start| start.timeout("idle", "500ms").timeout("head", "500ms").timeout("body", "500ms"),
        |server, strength| {
            on_threads(4, strength.of(300, 6000), |number| {
                // `/large` is more than a socket holds, and is read to its end below.
                let mut client = server.client();
                client.send(BEGUN[number % BEGUN.len()]).finish_sending();
                client.rest();
            });
        },
    );
}

/// A small generator: the same bytes in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // Vigna's splitmix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }
}

/// Bytes of any kind, or such as HTTP is made of, behind a part of a request or nothing.
fn noise(random: &mut Random) -> Vec<u8> {
    const STARTS: [&str; 5] = [
        "",
        "GET ",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: test\r\n",
        "POST /echo HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n",
    ];
    const LETTERS: &[u8] = b"GETPOST / HTTP/1.1\r\n\r\n:;,=\"%0aAfF\t\0\x7f\x80\xff";
    let mut bytes = STARTS[random.below(5) as usize].as_bytes().to_vec();
    let is_like_http = random.below(2) == 0;
    for _ in 0..random.below(3000) {
        bytes.push(if is_like_http {
            LETTERS[random.below(LETTERS.len() as u64) as usize]
        } else {
            random.next() as u8
        });
    }
    bytes
}

#[test]
fn random_bytes_are_refused_and_hold_nobody_up() {
    endure(
        "random bytes",
        |start| start.timeout("head", "500ms").timeout("body", "500ms").timeout("idle", "500ms"),
        |server, strength| {
            on_threads(4, strength.of(500, 20_000), |number| {
                let mut client: Client = server.client();
                // The server may have refused it before all was sent.
                let _ = client.try_send(noise(&mut Random(number as u64)));
                let _ = client.stream().shutdown(std::net::Shutdown::Write);
                client.rest();
            });
        },
    );
}

#[test]
fn descriptors_that_run_out_hold_new_clients_up_and_nobody_else() {
    on_each_driver(|driver| {
        let server = Start::app(driver).workers(1).serve();
        let mut kept = server.client();
        assert_eq!(kept.get("/users/7").text(), "user 7");
        let process = rustix::process::Pid::from_raw(server.pid().cast_signed()).unwrap();
        let few = rustix::process::Rlimit { current: Some(32), maximum: Some(32) };
        rustix::process::prlimit(Some(process), rustix::process::Resource::Nofile, few).unwrap();
        // The kernel completes all of them; the server can accept some.
        let waiting = crowd(&server, 100);
        wait_until("accepting rests", || {
            assert_eq!(kept.get("/users/7").text(), "user 7");
            server.log().iter().any(|line| line.contains("accepting rests: the process or the host"))
        });
        assert_eq!(kept.get("/users/7").text(), "user 7");
        drop(waiting);
        assert_eq!(server.get("/users/8").text(), "user 8");
    });
}
