//! The gateway in a simulated world: clients before it, servers behind it that fail in every way, and a book of what
//! went where.

mod clients;
mod ledger;
mod operator;
mod plan;
mod protection;
mod reader;
mod regressions;
mod scenario;
mod script;
mod servers;
mod tunnels;
mod watch;

use super::{find_bugs, keep_promises};
use ringfort::rt::sim::Bug;

/// Seeds that the plain `cargo test` runs: one of them is as much work as several of the server alone.
const SEEDS: u64 = 16;
/// Seeds within which every planted bug is found.
const SEEDS_PLANTED: u64 = 300;

#[test]
fn every_seed_keeps_the_promises_of_a_gateway() {
    keep_promises(scenario::run, SEEDS);
}

#[test]
fn every_mistake_planted_in_the_proxy_is_found() {
    // With the seed that found it last: a look at those before it again would take most of the time. Where a change has
    // given seeds another meaning, the search goes on behind it.
    let bugs = [
        (Bug::LeftoverReuse, 1),
        (Bug::PostAgain, 12),
        (Bug::ForgottenInFlight, 0),
        (Bug::BreakerStaysOpen, 2),
        (Bug::PendingLeaked, 1),
        (Bug::PendingForgotten, 1),
        (Bug::EndlessResponse, 7),
        (Bug::CutTakenForWhole, 5),
        (Bug::OneConnectionTooMany, 1),
        (Bug::EarlyBytesLost, 1),
        (Bug::EndlessTunnel, 1),
        (Bug::HalfCloseLost, 6),
        (Bug::UnaskedSwitch, 1),
        (Bug::CopyAgain, 5),
        (Bug::EndlessCopy, 24),
        (Bug::FirstTarget, 20),
        (Bug::HopTrailers, 1),
        (Bug::UnaskedTrailers, 1),
        (Bug::DrainedPicked, 1),
    ];
    let from = super::number("SIM_PLANTED_FROM", u64::MAX);
    find_bugs(scenario::run, bugs.map(|(bug, seed)| (bug, seed.min(from))), SEEDS_PLANTED);
}
