//! Servers that have names, and name servers that answer, fail and lie.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use serde_json::json;

use super::gateway;
use crate::support::dns::{NameServer, Says};
use crate::support::upstream::{Upstream, ok};
use crate::support::{PATIENCE, Server, Start, on_each_driver, wait_until};

/// A gateway before `backend.test` on this port, which it looks up with these name servers.
fn named(driver: &'static str, name_servers: &[&NameServer], port: u16) -> Start {
    let addresses: Vec<_> = name_servers.iter().map(|server| server.address).collect();
    // A new connection for each request shows which address counts.
    let spec = json!({
        "servers": [{ "address": format!("backend.test.:{port}") }],
        "pool": { "idle_per_core": 0 },
        "retry": { "attempts": 1 },
    });
    gateway(driver, &[], json!({})).upstream("api", spec).name_servers(&addresses)
}

/// Answers every request with this text.
fn at(address: SocketAddr, text: &'static str) -> Upstream {
    Upstream::start_at(address, move |peer| {
        while peer.request().is_some() {
            peer.write(ok(text));
        }
    })
}

/// Two servers with one port, at different addresses.
fn two() -> (Upstream, Upstream) {
    let one = at(SocketAddr::from(([127, 0, 0, 1], 0)), "one");
    let other = at(SocketAddr::from(([127, 0, 0, 2], one.address.port())), "two");
    (one, other)
}

fn ip(upstream: &Upstream) -> IpAddr {
    upstream.address.ip()
}

/// Waits until requests are answered with this text.
#[track_caller]
fn wait_answer(server: &Server, text: &str) {
    let mut client = server.client();
    wait_until(&format!("{text:?} answers"), || client.get("/").text() == text);
}

#[test]
fn a_server_that_moves_is_followed_when_the_ttl_is_over() {
    on_each_driver(|driver| {
        let (one, other) = two();
        let dns = NameServer::start(Says::Addresses(vec![ip(&one)], 1));
        let mut server = named(driver, &[&dns], one.address.port()).serve();
        wait_answer(&server, "one");
        dns.say(Says::Addresses(vec![ip(&other)], 1));
        wait_answer(&server, "two");
        let before = one.requests();
        let mut client = server.client();
        for _ in 0..4 {
            assert_eq!(client.get("/").text(), "two");
        }
        assert_eq!(one.requests(), before, "nobody goes where it was");
        assert_eq!(server.log_line("resolved").unwrap()["addresses"], 1);
    });
}

#[test]
fn an_answer_is_not_asked_for_again_while_it_holds() {
    let (one, _other) = two();
    let dns = NameServer::start(Says::Addresses(vec![ip(&one)], 300));
    let short = NameServer::start(Says::Addresses(vec![ip(&one)], 0));
    let (long_lived, short_lived) =
        (named("auto", &[&dns], one.address.port()).serve(), named("auto", &[&short], one.address.port()).serve());
    wait_answer(&long_lived, "one");
    wait_answer(&short_lived, "one");
    wait_until("the other one has been asked again", || short.questions() >= 6);
    assert_eq!(dns.questions(), 2, "one for each kind of address");
}

#[test]
fn a_name_that_has_no_address_is_502_until_it_has_one() {
    let (one, _other) = two();
    let dns = NameServer::start(Says::NoSuchName);
    let mut server = named("auto", &[&dns], one.address.port()).serve();
    let line = server.log_line("the name of a server cannot be resolved").unwrap();
    assert_eq!(line["server"], format!("backend.test.:{}", one.address.port()));
    let mut client = server.client();
    assert_eq!(client.get("/").status, 502);
    wait_until("it has been asked for again", || dns.questions() >= 4);
    assert_eq!(client.get("/").status, 502);
    dns.say(Says::Addresses(vec![ip(&one)], 1));
    wait_answer(&server, "one");
    let told = server.log().iter().filter(|line| line.contains("cannot be resolved")).count();
    assert_eq!(told, 1, "failures in a row are told once");
}

#[test]
fn known_addresses_stay_while_name_servers_fail_deny_and_are_silent() {
    let (one, other) = two();
    let dns = NameServer::start(Says::Addresses(vec![ip(&one)], 1));
    let server = named("auto", &[&dns], one.address.port()).serve();
    wait_answer(&server, "one");
    // The first one is asked more than a look-up asks, so that a whole one has failed; then the pauses grow.
    for (says, questions) in [(Says::Failure, 5), (Says::NoSuchName, 2), (Says::Nothing, 2)] {
        let before = dns.questions();
        dns.say(says);
        wait_until("it was asked again", || dns.questions() >= before + questions);
        let mut client = server.client();
        for _ in 0..4 {
            assert_eq!(client.get("/").text(), "one");
        }
    }
    drop(other);
}

#[test]
fn an_answer_that_was_cut_short_is_asked_for_again_over_tcp() {
    let (one, _other) = two();
    let dns = NameServer::start(Says::TooLongForUdp(vec![ip(&one)]));
    let server = named("auto", &[&dns], one.address.port()).serve();
    wait_answer(&server, "one");
    assert!(dns.questions_over_tcp() >= 2);
}

#[test]
fn answers_with_another_id_question_or_sender_are_ignored() {
    let (one, other) = two();
    let dns = NameServer::start(Says::Forged(ip(&other), ip(&one)));
    let server = named("auto", &[&dns], one.address.port()).serve();
    wait_answer(&server, "one");
    wait_until("it was asked a few times", || dns.questions() >= 6);
    wait_answer(&server, "one");
    assert_eq!(other.requests(), 0);
}

#[test]
fn a_name_with_an_ipv6_address_alone_is_found() {
    #[allow(clippy::disallowed_methods, reason = "whether this host has the address")]
    let has_ipv6 = std::net::TcpListener::bind("[::1]:0").is_ok();
    if !has_ipv6 {
        eprintln!("IPv6 is not tested on this host: it has no ::1");
        return;
    }
    let six = at(SocketAddr::from((Ipv6Addr::LOCALHOST, 0)), "six");
    let dns = NameServer::start(Says::Addresses(vec![ip(&six)], 1));
    let server = named("auto", &[&dns], six.address.port()).serve();
    wait_answer(&server, "six");
}

#[test]
fn half_an_answer_serves_and_the_next_name_server_is_asked_after_one_that_cannot_tell() {
    let (one, other) = two();
    let half = NameServer::start(Says::HalfOf(vec![ip(&one)]));
    let server = named("auto", &[&half], one.address.port()).serve();
    wait_answer(&server, "one");
    let fails = NameServer::start(Says::Failure);
    let tells = NameServer::start(Says::Addresses(vec![ip(&other)], 1));
    let server = named("auto", &[&fails, &tells], one.address.port()).serve();
    wait_answer(&server, "two");
    assert!(fails.questions() >= 2, "it comes first");
}

#[test]
fn a_stop_does_not_wait_for_name_servers() {
    on_each_driver(|driver| {
        // So many that a look-up lasts longer than the stop may.
        let silent: Vec<_> = (0..4).map(|_| NameServer::start(Says::Nothing)).collect();
        let mut server = named(driver, &silent.iter().collect::<Vec<_>>(), 1).serve();
        wait_until("a look-up is under way", || silent[0].questions() > 0);
        server.signal(libc::SIGTERM);
        assert!(server.wait_exit(PATIENCE).success());
    });
}
