//! Clients that send slowly: heads and bodies, byte by byte.

use std::time::Duration;

use ringfort::clock;

use super::{Strength, crowd, endure, wait_growth};
use crate::support::{Client, Server, wait_until};

/// Sends `piece` on each connection every 100 ms, until so many of them have been counted as timed out in `phase`; all of
/// them must have been answered 408 then, and be closed.
fn trickle(server: &Server, mut clients: Vec<Client>, piece: &[u8], phase: &str, before: f64) {
    let labels = format!("phase=\"{phase}\"");
    let mut next = clock::now();
    wait_until(&format!("{} slow clients have timed out: {phase}", clients.len()), || {
        if clock::now() >= next {
            next = next + Duration::from_millis(100);
            // Some may be closed by now.
            clients.iter_mut().for_each(|client| drop(client.try_send(piece)));
        }
        server.metric("ringfort_timeouts_total", &labels) >= before + clients.len() as f64
    });
    let count = clients.len();
    // What was sent after the end makes the kernel answer with a reset, which may overtake the answer.
    let answered =
        clients.into_iter().filter_map(|mut client| client.rest().starts_with(b"HTTP/1.1 408 ").then_some(())).count();
    assert!(answered * 2 >= count, "{answered} of {count} were told why");
}

fn timed_out(server: &Server, phase: &str) -> f64 {
    server.metric("ringfort_timeouts_total", &format!("phase=\"{phase}\""))
}

fn slow_heads(server: &Server, strength: Strength, phase: &str) {
    let before = timed_out(server, phase);
    let mut clients = crowd(server, strength.of(100, 2000));
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: test\r\nX: ");
    }
    trickle(server, clients, b"x", phase, before);
}

#[test]
fn slow_heads_end_at_their_total_deadline_and_hold_nobody_up() {
    endure("slow heads", |start| start.timeout("head", "1s"), |server, strength| slow_heads(server, strength, "head"));
}

#[test]
fn heads_below_the_minimum_rate_end_soon_after_the_grace_and_hold_nobody_up() {
    endure(
        "slow heads, by their rate",
        |start| start.timeout("head", "1h").rate("grace", "500ms"),
        |server, strength| slow_heads(server, strength, "head_rate"),
    );
}

fn slow_bodies(server: &Server, strength: Strength, bytes: usize, phase: &str) {
    for chunked in [false, true] {
        let before = timed_out(server, phase);
        let mut clients = crowd(server, strength.of(50, 1000));
        let framing = if chunked { "Transfer-Encoding: chunked" } else { "Content-Length: 1000000" };
        let head = format!("POST /collect HTTP/1.1\r\nHost: test\r\n{framing}\r\n\r\n");
        for client in &mut clients {
            client.send(&head);
        }
        let piece = if chunked { format!("{bytes:x}\r\n{}\r\n", "x".repeat(bytes)) } else { "x".repeat(bytes) };
        trickle(server, clients, piece.as_bytes(), phase, before);
    }
}

#[test]
fn bodies_below_the_minimum_rate_end_and_hold_nobody_up() {
    endure(
        "slow bodies",
        |start| start.timeout("body", "500ms"),
        |server, strength| slow_bodies(server, strength, 1, "body"),
    );
}

#[test]
fn bodies_at_the_minimum_rate_end_at_their_total_deadline_and_hold_nobody_up() {
    endure(
        "slow bodies, by their total",
        // A busy machine may hold the clients themselves up for longer than a pause that is allowed.
        |start| start.timeout("body", "1s").timeout("body_total", "1s").rate("body", "1B"),
        |server, strength| slow_bodies(server, strength, 100, "body_total"),
    );
}

#[test]
fn silent_clients_end_at_the_head_deadline_without_a_word() {
    endure(
        "silence",
        |start| start.timeout("head", "500ms"),
        |server, strength| {
            let before = timed_out(server, "head");
            let mut clients = crowd(server, strength.of(200, 5000));
            wait_growth(server, "ringfort_timeouts_total", "phase=\"head\"", before, clients.len());
            clients.iter_mut().for_each(Client::expect_end);
        },
    );
}
