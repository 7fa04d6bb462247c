//! When a server is let alone, and for how long: by its breaker, by ejection, by active checks, each to the millisecond of
//! virtual time.

use super::plan::{Plan, address};
use super::script::{BEAT, CLOSES, SECOND, SILENT, Simple, in_worlds, since_start, upstream};
use ringfort::clock;
use ringfort::proxy::{BreakerSpec, EjectionSpec, HealthSpec, Probe, RetrySpec, UpstreamSpec};
use ringfort::rt;
use ringfort::rt::sim;
use std::time::Duration;

/// What a request takes on its way, and the timers' grain.
const SLACK: Duration = Duration::from_millis(40);

#[test]
fn a_breaker_opens_lets_one_probe_through_and_closes_again() {
    let breaker = Some(BreakerSpec { consecutive_failures: 3, open: 2 * SECOND });
    in_worlds(Plan::plain(), vec![UpstreamSpec { breaker, ..upstream(0, 1) }], async |gateway| {
        let server = Simple::start(address(0, 0), SILENT);
        for _ in 0..3 {
            assert_eq!(gateway.ask().await, 504, "the server says nothing");
        }
        let opened = since_start();
        let statuses = gateway.ask_for(2 * SECOND - BEAT).await;
        assert!(statuses.iter().all(|status| *status == 503), "{statuses:?}");
        assert!(server.asked_after(opened).is_empty());
        // The probe fails, and whoever comes meanwhile is turned away.
        rt::sleep_until(clock::now() + BEAT).await;
        let own = gateway.clone();
        let probing = sim::task(async move { own.ask().await });
        rt::sleep_until(clock::now() + BEAT).await;
        assert_eq!(gateway.ask().await, 503, "the probe is under way");
        let probes = server.asked_after(opened);
        assert_eq!(probes.len(), 1, "{probes:?}");
        assert!(probes[0] >= opened + 2 * SECOND - SLACK, "opened at {opened:?}, probed at {probes:?}");
        assert_eq!(probing.await, 504);
        let opened = since_start();
        server.status.set(200);
        let statuses = gateway.ask_for(2 * SECOND - BEAT).await;
        assert!(statuses.iter().all(|status| *status == 503), "{statuses:?}");
        assert!(server.asked_after(opened).is_empty());
        rt::sleep_until(clock::now() + BEAT).await;
        let statuses = gateway.ask_for(SECOND).await;
        assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    });
}

#[test]
fn a_server_is_ejected_for_exactly_as_long_as_it_should_be() {
    let ejection =
        EjectionSpec { consecutive_failures: 3, duration: SECOND, duration_max: 10 * SECOND, percent_max: 50 };
    in_worlds(Plan::plain(), vec![UpstreamSpec { ejection: Some(ejection), ..upstream(0, 2) }], async |gateway| {
        let (bad, good) = (Simple::start(address(0, 0), 500), Simple::start(address(0, 1), 200));
        // Each time in a row it takes a second longer.
        for row in 1..=3 {
            while gateway.upstreams.get(0).expect("it is there").standings.count_ejected(clock::now()) == 0 {
                gateway.ask().await;
            }
            let ejected = since_start();
            let statuses = gateway.ask_for(row * SECOND + 6 * BEAT).await;
            let again = bad.asked_after(ejected);
            let back = again.first().expect("it is asked again");
            let (least, most) = (row * SECOND - SLACK, row * SECOND + 3 * BEAT);
            assert!((ejected + least..ejected + most).contains(back), "row {row}: {ejected:?}, back at {back:?}");
            assert!(statuses.iter().filter(|status| **status != 200).count() <= 3, "{statuses:?}");
        }
        assert!(good.asked.borrow().len() > 60);
    });
}

#[test]
fn active_checks_take_a_server_out_and_bring_it_back_in_time() {
    let probe = Probe::Http { path: "/healthz".to_owned(), host: None, statuses: vec![Probe::SUCCESS] };
    let health = HealthSpec { probe, interval: SECOND, jitter: 0.1, timeout: SECOND / 2, fall: 3, rise: 2 };
    in_worlds(Plan::plain(), vec![UpstreamSpec { health: Some(health), ..upstream(0, 1) }], async |gateway| {
        let server = Simple::start(address(0, 0), 200);
        assert!(gateway.ask_for(2 * SECOND).await.iter().all(|status| *status == 200));
        let wait_for = async |wanted: u16| {
            let began = since_start();
            while gateway.ask().await != wanted {
                rt::sleep_until(clock::now() + BEAT).await;
            }
            since_start() - began
        };
        server.status.set(500);
        let took = wait_for(503).await;
        // Three checks, the first of them within an interval.
        assert!(took >= 2 * SECOND && took <= Duration::from_millis(3400) + BEAT + SLACK, "it fell after {took:?}");
        server.status.set(200);
        let took = wait_for(200).await;
        assert!(took >= SECOND && took <= Duration::from_millis(2300) + BEAT + SLACK, "it rose after {took:?}");
    });
}

#[test]
fn each_time_out_of_an_upstream_fires_when_it_is_due() {
    in_worlds(Plan::plain(), vec![upstream(0, 1)], async |gateway| {
        let _server = Simple::start(address(0, 0), SILENT);
        let began = clock::now();
        assert_eq!(gateway.ask().await, 504);
        let took = clock::now().since(began);
        assert!(took >= SECOND && took < SECOND + SLACK, "no answer, for {took:?}");
    });
    in_worlds(Plan::plain(), vec![upstream(0, 1)], async |gateway| {
        let acceptor = sim::serve(address(0, 0));
        acceptor.receive_as(sim::Reception::Silent);
        let began = clock::now();
        assert_eq!(gateway.ask().await, 504);
        let took = clock::now().since(began);
        assert!(took >= SECOND && took < SECOND + SLACK, "no connection, for {took:?}");
    });
}

#[test]
fn a_request_meets_a_connection_that_was_closed_meanwhile_once_at_most() {
    let retry = RetrySpec { attempts: 2, budget: 1.0, statuses: Vec::new() };
    in_worlds(Plan::plain(), vec![UpstreamSpec { retry, ..upstream(0, 2) }], async |gateway| {
        let servers = [Simple::start(address(0, 0), 200), Simple::start(address(0, 1), 200)];
        // In turn: each has an idle connection then.
        assert_eq!([gateway.ask().await, gateway.ask().await], [200, 200]);
        let before = since_start();
        servers.iter().for_each(|server| server.status.set(CLOSES));
        assert_eq!(gateway.ask().await, 502);
        let times: usize = servers.iter().map(|server| server.asked_after(before).len()).sum();
        // The idle connection, a new one to the same server, and a new one to the other.
        assert_eq!(times, 3);
    });
}
