//! Clients that ask and do not read, or read next to nothing.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use ringfort::clock;

use super::{Strength, crowd, endure};
use crate::support::{Client, Server, wait_until, wait_within};

const BUSY_PATIENCE: Duration = Duration::from_secs(90);

/// So little is taken in ahead by a client that does not read.
fn take_little(client: &Client) {
    rustix::net::sockopt::set_socket_recv_buffer_size(client.stream(), 4096).unwrap();
}

fn late(server: &Server) -> f64 {
    server.metric("ringfort_timeouts_total", "phase=\"write\"")
}

/// Those whose own upload stood still for too long: with a full receive buffer a client drops acknowledgements too, and
/// sends again ever more rarely.
fn stuck(server: &Server) -> f64 {
    let timed_out = |phase| server.metric("ringfort_timeouts_total", &format!("phase=\"{phase}\""));
    ["body", "head", "head_rate"].into_iter().map(timed_out).sum()
}

/// What each of these asks for is far more than sockets hold; each must be reset by the write time-out, so that the kernel
/// keeps nothing for it.
fn ask_and_leave_unread(server: &Server, count: usize, request: &[u8]) {
    let (late_before, stuck_before) = (late(server), stuck(server));
    let clients = crowd(server, count);
    let told = std::thread::scope(|scope| {
        let sending: Vec<_> = clients
            .iter()
            .map(|client| {
                take_little(client);
                client.stream().set_write_timeout(Some(BUSY_PATIENCE)).unwrap();
                // Until all is sent, or the connection is reset.
                scope.spawn(|| client.stream().write_all(request))
            })
            .collect();
        // All sockets have to be filled first, some megabytes each, in a debug build and on a busy machine.
        wait_within(BUSY_PATIENCE, "all of them are late", || {
            late(server) - late_before + stuck(server) - stuck_before >= count as f64
        });
        sending.into_iter().map(|sending| sending.join().unwrap()).collect::<Vec<_>>()
    });
    // Of a reset only one is told, who sends or who reads.
    let ends = clients.iter().zip(told).map(|(client, told)| told.err().or_else(|| read_to_error(client)));
    let ends: Vec<_> = ends.map(|error| error.map(|error| error.kind())).collect();
    let reset = ends.iter().filter(|end| **end == Some(ErrorKind::ConnectionReset)).count();
    let late = late(server) - late_before;
    assert!(reset as f64 >= late, "of {late} responses that were cut some look like ones that ended: {ends:?}");
}

/// Reads what still comes; how that ended, if not well.
fn read_to_error(client: &Client) -> Option<std::io::Error> {
    let mut stream = client.stream();
    loop {
        match stream.read(&mut [0; 65_536]) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) => return Some(error),
        }
    }
}

#[test]
fn clients_that_never_read_a_long_response_are_reset_and_hold_nobody_up() {
    endure(
        "unread responses",
        |start| start.timeout("write", "500ms"),
        |server, strength: Strength| {
            ask_and_leave_unread(server, strength.of(8, 40), b"GET /large/32 HTTP/1.1\r\nHost: test\r\n\r\n");
        },
    );
}

#[test]
fn clients_that_pipeline_and_never_read_are_reset_and_hold_nobody_up() {
    endure(
        "unread pipelines",
        |start| start.timeout("write", "500ms"),
        |server, strength: Strength| {
            let requests = "GET /large/1 HTTP/1.1\r\nHost: test\r\n\r\n".repeat(10_000);
            ask_and_leave_unread(server, strength.of(8, 40), requests.as_bytes());
            let requests = "GET /users/1 HTTP/1.1\r\nHost: test\r\n\r\n".repeat(100_000);
            ask_and_leave_unread(server, strength.of(1, 20), requests.as_bytes());
        },
    );
}

/// Each of these keeps a handler busy with a piece of its body that cannot be sent on: by far more than the core has
/// receive buffers.
#[test]
fn clients_that_send_a_body_and_never_read_its_echo_leave_receive_buffers_to_others() {
    if !Strength::of_run().is_full {
        // With a full receive buffer a client's kernel drops acknowledgements and resets alike until it sends again, ever
        // more rarely: minutes on a busy machine.
        eprintln!("left to scripts/abuse: it may take minutes");
        return;
    }
    endure(
        "unread echoes",
        |start| start.timeout("write", "4s").limit("body", 1 << 30).buffers(16),
        |server, strength| {
            let mut request = b"POST /echo HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000000\r\n\r\n".to_vec();
            request.resize(32 << 20, b'x');
            ask_and_leave_unread(server, strength.of(18, 60), &request);
        },
    );
}

#[test]
fn clients_that_read_below_the_minimum_rate_are_reset_and_hold_nobody_up() {
    endure(
        "slow readers",
        |start| start.timeout("write", "500ms"),
        |server, strength| {
            let before = late(server);
            let clients = crowd(server, strength.of(8, 40));
            for client in &clients {
                take_little(client);
                client.stream().write_all(b"GET /large/32 HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
                client.stream().set_read_timeout(Some(Duration::from_millis(1))).unwrap();
            }
            let mut next = clock::now();
            wait_until("the slow readers are late", || {
                if clock::now() >= next {
                    next = next + Duration::from_millis(100);
                    // It may have been reset by now.
                    clients.iter().for_each(|client| drop(client.stream().read(&mut [0])));
                }
                late(server) >= before + clients.len() as f64
            });
        },
    );
}
