//! Many who ask for the same at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::json;

use super::{gateway, respond};
use crate::support::upstream::Upstream;
use crate::support::{Client, Server, pause, wait_until};

/// An origin that answers nobody before it is let.
struct Gate {
    upstream: Upstream,
    is_open: Arc<AtomicBool>,
    arrived: Arc<AtomicUsize>,
}

impl Gate {
    fn new(answer: impl Fn(usize) -> String + Send + Sync + 'static) -> Self {
        let (is_open, arrived) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (opens, count) = (is_open.clone(), arrived.clone());
        let upstream = Upstream::start(move |peer| {
            while peer.request().is_some() {
                let number = count.fetch_add(1, Ordering::SeqCst) + 1;
                while !opens.load(Ordering::SeqCst) {
                    pause();
                }
                peer.write(answer(number));
            }
        });
        Self { upstream, is_open, arrived }
    }

    fn open(&self) {
        self.is_open.store(true, Ordering::SeqCst);
    }

    fn wait_arrived(&self, count: usize) {
        wait_until(&format!("{count} have come to the origin"), || self.arrived.load(Ordering::SeqCst) == count);
    }
}

/// So many clients, each of which has asked for the same.
fn crowd(server: &Server, count: usize) -> Vec<Client> {
    (0..count)
        .map(|_| {
            let mut client = server.client();
            client.send("GET /cold HTTP/1.1\r\nHost: test\r\n\r\n");
            client
        })
        .collect()
}

#[test]
fn five_hundred_clients_of_one_cold_key_reach_the_origin_once() {
    let gate = Gate::new(|number| respond("200 OK", number, "Cache-Control: max-age=60\r\n", "body"));
    let server = gateway(&gate.upstream, json!({ "wait": "1m" }));
    let clients = crowd(&server, 500);
    server.wait_metric("ringfort_requests_in_flight", "", 500.0);
    gate.open();
    for mut client in clients {
        let response = client.response();
        assert_eq!((response.status, response.text(), response.field("x-count")), (200, "body", Some("1")));
    }
    assert_eq!(gate.upstream.requests(), 1);
}

#[test]
fn when_the_response_is_not_to_be_stored_all_who_waited_go_on_at_once() {
    let gate = Gate::new(|number| respond("200 OK", number, "Cache-Control: no-store\r\n", "own"));
    let server = gateway(&gate.upstream, json!({ "wait": "1m" }));
    let mut clients = crowd(&server, 1);
    gate.wait_arrived(1);
    clients.extend(crowd(&server, 20));
    server.wait_metric("ringfort_requests_in_flight", "", 21.0);
    assert_eq!(gate.upstream.requests(), 1);
    gate.open();
    for client in &mut clients {
        assert_eq!(client.response().text(), "own");
    }
    assert_eq!(gate.upstream.requests(), 21);
    // From now on nobody waits for anybody there: all are at the origin at once.
    gate.is_open.store(false, Ordering::SeqCst);
    let clients = crowd(&server, 5);
    gate.wait_arrived(26);
    gate.open();
    clients.into_iter().for_each(|mut client| assert_eq!(client.response().text(), "own"));
}

#[test]
fn when_the_client_leaves_for_whom_it_was_fetched_another_takes_over() {
    let gate = Gate::new(|number| respond("200 OK", number, "Cache-Control: max-age=60\r\n", "body"));
    let server = gateway(&gate.upstream, json!({ "wait": "1m" }));
    let first = crowd(&server, 1);
    gate.wait_arrived(1);
    let others = crowd(&server, 10);
    server.wait_metric("ringfort_requests_in_flight", "", 11.0);
    // Closed with a reset: an end of sending alone would not say that it is gone.
    let socket = rustix::net::sockopt::set_socket_linger;
    for client in &first {
        socket(client.stream(), Some(std::time::Duration::ZERO)).unwrap();
    }
    drop(first);
    gate.wait_arrived(2);
    gate.open();
    for mut client in others {
        assert_eq!(client.response().text(), "body");
    }
    assert_eq!(gate.upstream.requests(), 2);
}

#[test]
fn nobody_waits_longer_than_the_config_says() {
    let gate = Gate::new(|number| respond("200 OK", number, "Cache-Control: max-age=60\r\n", "body"));
    let server = gateway(&gate.upstream, json!({ "wait": "50ms" }));
    let clients = crowd(&server, 3);
    gate.wait_arrived(3);
    gate.open();
    clients.into_iter().for_each(|mut client| assert_eq!(client.response().text(), "body"));
}
