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
    // With the seed that found it last: see `find_bugs`.
    let bugs = [
        (Bug::LeftoverReuse, 5),
        (Bug::PostAgain, 12),
        (Bug::ForgottenInFlight, 0),
        (Bug::BreakerStaysOpen, 2),
        (Bug::PendingLeaked, 1),
        (Bug::PendingForgotten, 1),
        (Bug::EndlessResponse, 7),
        (Bug::CutTakenForWhole, 7),
        (Bug::OneConnectionTooMany, 1),
        (Bug::EarlyBytesLost, 2),
        (Bug::EndlessTunnel, 1),
        (Bug::HalfCloseLost, 8),
        (Bug::UnaskedSwitch, 11),
        (Bug::CopyAgain, 5),
        (Bug::EndlessCopy, 87),
        (Bug::FirstTarget, 20),
        (Bug::HopTrailers, 1),
        (Bug::UnaskedTrailers, 1),
        (Bug::DrainedPicked, 1),
    ];
    find_bugs(scenario::run, bugs, SEEDS_PLANTED);
}
