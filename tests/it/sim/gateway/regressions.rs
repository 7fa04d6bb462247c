//! Mistakes of the gateway that seeds once found, each as the few events that show it.

use super::plan::{Plan, address};
use super::script::{BEAT, CHATTERS, DRIPS, Gateway, SECOND, SILENT, Simple, in_world, upstream};
use super::watch;
use ringfort::clock;
use ringfort::limits::MIRRORS_MAX;
use ringfort::proxy::{UpstreamCounter, UpstreamLimits, UpstreamSpec, UpstreamTimeouts};
use ringfort::rt;
use ringfort::rt::sim::{Bug, Report};

fn copying() -> (Plan, Vec<UpstreamSpec>) {
    (Plan { mirrored: Some(1.0), ..Plan::plain() }, vec![upstream(0, 1), upstream(1, 1)])
}

/// Copies that are under way.
fn copies(gateway: &Gateway) -> u64 {
    watch::counts(gateway.upstreams.get(1).expect("there are two")).1
}

/// Two requests are copied to a server that never comes to an end with them.
fn copy_to_an_endless_server(planted: Option<Bug>, manner: u16) -> Report<()> {
    let (plan, specs) = copying();
    let total = specs[1].timeouts.total;
    in_world(1, planted, plan, specs, async move |gateway| {
        let (_server, mirror) = (Simple::start(address(0, 0), 200), Simple::start(address(1, 0), manner));
        assert_eq!([gateway.ask().await, gateway.ask().await], [200, 200]);
        rt::sleep_until(clock::now() + SECOND).await;
        assert_eq!(mirror.asked.borrow().len(), 2);
        rt::sleep_until(clock::now() + total).await;
        assert_eq!(copies(gateway), 0, "copies outlive their time");
    })
}

#[test]
fn a_copy_ends_with_its_time_however_long_its_server_goes_on() {
    for manner in [DRIPS, CHATTERS, SILENT] {
        copy_to_an_endless_server(None, manner).outcome.unwrap();
    }
    let cause = copy_to_an_endless_server(Some(Bug::EndlessCopy), DRIPS).outcome.unwrap_err();
    assert!(cause.contains("outlive"), "{cause}");
}

/// A mirror gets more copies than may be under way at once, and says nothing to any of them.
fn copy_too_much(seed: u64) -> Report<()> {
    const TOO_MANY: usize = 5;
    let (plan, mut specs) = copying();
    specs[1].timeouts = UpstreamTimeouts { response: 60 * SECOND, total: 60 * SECOND, ..specs[1].timeouts };
    specs[1].limits = UpstreamLimits { connections: 10_000, pending: 0 };
    in_world(seed, None, plan, specs, async |gateway| {
        let (_server, mirror) = (Simple::start(address(0, 0), 200), Simple::start(address(1, 0), SILENT));
        for _ in 0..MIRRORS_MAX + TOO_MANY {
            assert_eq!(gateway.ask().await, 200);
        }
        rt::sleep_until(clock::now() + BEAT).await;
        assert_eq!((copies(gateway), mirror.asked.borrow().len()), (MIRRORS_MAX as u64, MIRRORS_MAX));
        let cores = gateway.upstreams.get(1).expect("there are two").counters.cores();
        assert_eq!(cores[0].get(UpstreamCounter::MirrorsDropped), TOO_MANY as u64);
    })
}

#[test]
fn a_mirror_that_says_nothing_costs_its_bound_of_copies_and_no_request() {
    for seed in 0..2 {
        copy_too_much(seed).outcome.unwrap();
    }
}
