//! Which server gets a request.

use std::collections::HashMap;

use serde_json::json;

use super::gateway;
use crate::support::upstream::{Upstream, ok};
use crate::support::{Start, on_hand, wait_until};

fn named(name: &'static str) -> Upstream {
    Upstream::answering(move |_| ok(name))
}

#[test]
fn every_balance_reaches_all_servers_and_a_hash_always_the_same() {
    let (one, two, three) = (named("one"), named("two"), named("three"));
    for balance in ["round_robin", "random", "least_conn", "p2c"] {
        let server = gateway("epoll", &[&one, &two, &three], json!({ "balance": balance })).serve();
        let mut client = server.client();
        let mut seen = HashMap::new();
        for _ in 0..60 {
            *seen.entry(client.get("/").text().to_owned()).or_insert(0) += 1;
        }
        assert_eq!(seen.len(), 3, "{balance}: {seen:?}");
        if balance == "round_robin" {
            assert!(seen.values().all(|count| *count == 20), "{seen:?}");
        }
    }
}

#[test]
fn a_split_sends_each_upstream_its_share() {
    let (stable, canary) = (named("stable"), named("canary"));
    let route = json!([{ "match": { "path": "/" }, "proxy": { "split": [
        { "upstream": "stable", "weight": 9 }, { "upstream": "canary", "weight": 1 } ] } }]);
    let servers = |upstream: &Upstream| json!({ "servers": [{ "address": upstream.address.to_string() }] });
    let start = Start::command(on_hand("epoll"), route).workers(1);
    let server = start.upstream("stable", servers(&stable)).upstream("canary", servers(&canary)).serve();
    let mut client = server.client();
    let canaries = (0..500).filter(|_| client.get("/").text() == "canary").count();
    assert!((15..=100).contains(&canaries), "{canaries} of 500, where 50 are to be expected");
}

#[test]
fn copies_go_to_the_mirror_and_their_answers_nowhere() {
    let (main, copies) = (named("main"), Upstream::answering(|_| ok("copy")));
    let route = json!([{ "match": { "path": "/" }, "proxy": { "upstream": "main", "mirror": { "upstream": "copies", "share": 1.0 } } }]);
    let servers = |upstream: &Upstream| json!({ "servers": [{ "address": upstream.address.to_string() }] });
    let start = Start::command(on_hand("epoll"), route).workers(1);
    let server = start.upstream("main", servers(&main)).upstream("copies", servers(&copies)).serve();
    let mut client = server.client();
    for _ in 0..10 {
        assert_eq!(client.get("/").text(), "main");
    }
    wait_until("all copies arrive", || copies.requests() == 10);
}
