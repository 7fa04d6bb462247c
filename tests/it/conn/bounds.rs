//! Time-outs, the limit on connections, and receive buffers that run out.

use std::time::Duration;

use ringfort::clock;

use crate::support::{Client, Start, on_each_driver, wait_until};

#[test]
fn slow_heads_are_ended_with_408_and_hold_nobody_up() {
    const SLOW: usize = 200;
    on_each_driver(|driver| {
        let server = Start::app(driver).timeout("head", "1000ms").serve();
        let mut other = server.client();
        let mut slow: Vec<Client> = (0..SLOW).map(|_| server.client()).collect();
        let head = b"GET / HTTP/1.1\r\nHost: test\r\nX: and so on";
        let (mut sent, mut next) = (0, clock::now());
        wait_until("all slow heads have timed out", || {
            if clock::now() >= next && sent < head.len() {
                // Some may be closed by now.
                slow.iter_mut().for_each(|client| drop(client.try_send([head[sent]])));
                (sent, next) = (sent + 1, clock::now() + Duration::from_millis(200));
            }
            assert_eq!(other.get("/").text(), "hello");
            server.metric("ringfort_timeouts_total", "phase=\"head\"") >= SLOW as f64
        });
        for client in &mut slow {
            let response = client.response();
            assert_eq!((response.status, response.closes()), (408, true));
            client.expect_end();
        }
        assert_eq!(other.get("/").text(), "hello");
        drop(other);
        server.wait_metric("ringfort_connections_open", "", 0.0);
    });
}

#[test]
fn the_head_time_out_counts_for_each_request_of_a_connection() {
    on_each_driver(|driver| {
        let server = Start::app(driver).timeout("head", "300ms").serve();
        let mut client = server.client();
        assert_eq!(client.get("/").text(), "hello");
        let response = client.send("GET / HT").response();
        assert_eq!((response.status, response.closes()), (408, true));
        client.expect_end();
        // Nothing was asked, so nothing is answered.
        server.client().expect_end();
        server.wait_metric("ringfort_timeouts_total", "phase=\"head\"", 2.0);
    });
}

#[test]
fn an_idle_connection_is_ended_without_a_word() {
    on_each_driver(|driver| {
        let server = Start::app(driver).timeout("idle", "300ms").serve();
        let mut clients: Vec<Client> = (0..50).map(|_| server.client()).collect();
        for client in &mut clients {
            assert_eq!(client.get("/").text(), "hello");
        }
        clients.iter_mut().for_each(Client::expect_end);
        server.wait_metric("ringfort_timeouts_total", "phase=\"idle\"", 50.0);
    });
}

#[test]
fn a_body_that_stops_coming_is_answered_408() {
    on_each_driver(|driver| {
        let server = Start::app(driver).timeout("body", "300ms").serve();
        for framing in ["Content-Length: 10\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\na\r\nhalf"] {
            let mut client = server.client();
            client.send(format!("POST /collect HTTP/1.1\r\nHost: test\r\n{framing}"));
            let response = client.response();
            assert_eq!((response.status, response.closes()), (408, true));
            client.expect_end();
        }
        server.wait_metric("ringfort_timeouts_total", "phase=\"body\"", 2.0);
    });
}

#[test]
fn a_client_that_does_not_read_is_cut_and_one_that_reads_gets_all() {
    on_each_driver(|driver| {
        let server = Start::app(driver).timeout("write", "300ms").serve();
        let mut deaf: Vec<Client> = (0..4).map(|_| server.client()).collect();
        for client in &mut deaf {
            client.send("GET /large/64 HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        // One that sends request after request and reads no answer is no better.
        let mut flooding = server.client();
        let requests = "GET /large/1 HTTP/1.1\r\nHost: test\r\n\r\n".repeat(64);
        flooding.send(requests);
        let response = server.get("/large/16");
        assert_eq!(response.body.len(), 16 << 20);
        assert!(
            response.body.chunks(1 << 16).all(|piece| piece.iter().enumerate().all(|(at, &b)| b == (at % 251) as u8))
        );
        server.wait_metric("ringfort_timeouts_total", "phase=\"write\"", 5.0);
        server.wait_metric("ringfort_connections_open", "", 0.0);
        server.wait_metric("ringfort_requests_in_flight", "", 0.0);
    });
}

#[test]
fn connections_beyond_the_limit_wait_and_are_served_when_others_close() {
    on_each_driver(|driver| {
        let server = Start::app(driver).workers(1).limit("connections", 4).serve();
        let mut clients: Vec<Client> = (0..12).map(|_| server.client()).collect();
        for (id, client) in clients.iter_mut().enumerate() {
            client.send(format!("GET /users/{id} HTTP/1.1\r\nHost: test\r\n\r\n"));
        }
        for (id, client) in clients.iter_mut().enumerate().take(4) {
            assert_eq!(client.response().text(), format!("user {id}"));
        }
        server.wait_metric("ringfort_connections_open", "", 4.0);
        assert_eq!(server.metric("ringfort_connections_accepted_total", ""), 4.0);
        assert!(server.metric("ringfort_connections_backpressured_total", "") >= 1.0);
        for id in 4..12 {
            clients[id - 4] = server.client();
            assert_eq!(clients[id].response().text(), format!("user {id}"));
        }
        drop(clients);
        server.wait_metric("ringfort_connections_open", "", 0.0);
    });
}

#[test]
fn receive_buffers_that_run_out_hold_clients_up_and_lose_none() {
    on_each_driver(|driver| {
        let server = Start::app(driver).workers(1).limit("body", 1 << 20).buffers(16).serve();
        let clients: Vec<Client> = (0..96).map(|_| server.client()).collect();
        std::thread::scope(|scope| {
            for (id, mut client) in clients.into_iter().enumerate() {
                scope.spawn(move || {
                    for round in 0..10 {
                        let size = 1 + id * 499;
                        let body = "b".repeat(size);
                        let head =
                            "GET /users/1 HTTP/1.1\r\nHost: test\r\n\r\nPOST /collect HTTP/1.1\r\nHost: test\r\n";
                        client.send(format!("{head}Content-Length: {size}\r\n\r\n{body}"));
                        assert_eq!(client.response().text(), "user 1", "client {id}, round {round}");
                        assert_eq!(client.response().text(), format!("{size} bytes, sum {}", size * usize::from(b'b')));
                    }
                });
            }
        });
        server.wait_metric("ringfort_connections_open", "", 0.0);
        server.wait_metric("ringfort_buffers_in_use", "", 0.0);
    });
}
