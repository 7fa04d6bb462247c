//! Upgrades: a tunnel after the upstream's 101, and not before.

use serde_json::json;

use super::{gateway, gateway_with};
use crate::support::on_each_driver;
use crate::support::upstream::{Upstream, ok};

const OFFER: &str = "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";

/// Switches to a protocol that says everything twice.
fn doubling() -> Upstream {
    Upstream::start(|peer| {
        let head = peer.head().unwrap();
        if !head.contains("Upgrade: echo\r\n") || !head.contains("Connection: upgrade\r\n") {
            peer.write(ok("no upgrade"));
            return peer.wait_end();
        }
        peer.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello ");
        while let Some(byte) = peer.take(1) {
            peer.write([byte[0], byte[0]]);
        }
        peer.write("bye");
    })
}

#[test]
fn an_upgraded_connection_carries_bytes_both_ways_until_both_sides_have_ended() {
    on_each_driver(|driver| {
        let upstream = doubling();
        let server = gateway(driver, &[&upstream], json!({})).serve();
        let mut client = server.client();
        // Some of it comes with the head.
        client.send(format!("{OFFER}abc"));
        client.wait_for(b"hello aabbcc");
        client.send("de");
        client.wait_for(b"ddee");
        client.finish_sending();
        let text = String::from_utf8(client.rest()).unwrap();
        assert!(text.starts_with("HTTP/1.1 101 Switching Protocols\r\n"), "{text}");
        assert!(text.to_ascii_lowercase().contains("\r\nupgrade: echo\r\n"), "{text}");
        assert!(text.ends_with("hello aabbccddeebye"), "{text}");
    });
}

#[test]
fn an_upgrade_that_the_upstream_declines_is_an_ordinary_exchange() {
    let upstream = Upstream::answering(|_| ok("declined"));
    let server = gateway("epoll", &[&upstream], json!({})).serve();
    let mut client = server.client();
    assert_eq!(client.send(OFFER).response().text(), "declined");
    assert_eq!(client.get("/").text(), "declined", "the connection goes on with HTTP");
}

#[test]
fn an_upgrade_does_not_go_through_where_the_route_forbids_it() {
    let upstream = doubling();
    let server = gateway_with("epoll", &[&upstream], json!({}), json!({ "upgrade": false })).serve();
    assert_eq!(server.client().send(OFFER).response().text(), "no upgrade");
}

#[test]
fn a_tunnel_in_which_nothing_moves_ends_at_the_idle_time_out() {
    on_each_driver(|driver| {
        let upstream = doubling();
        let server = gateway(driver, &[&upstream], json!({ "timeouts": { "idle": "300ms" } })).serve();
        let mut client = server.client();
        client.send(OFFER).wait_for(b"hello ");
        client.rest();
    });
}
