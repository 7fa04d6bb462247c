//! The gateway in a simulated world: clients before it, servers behind it that fail in every way, and a book of what
//! went where.

mod clients;
mod ledger;
mod protection;
mod scenario;
mod servers;
mod watch;

use super::{find_bugs, keep_promises};
use ringfort::rt::sim::Bug;

/// Seeds within which every planted bug is found.
const SEEDS: u64 = 300;

#[test]
fn every_seed_keeps_the_promises_of_a_gateway() {
    keep_promises(scenario::run);
}

#[test]
fn every_mistake_planted_in_the_proxy_is_found() {
    const BUGS: &[Bug] = &[
        Bug::LeftoverReuse,
        Bug::PostAgain,
        Bug::ForgottenInFlight,
        Bug::BreakerStaysOpen,
        Bug::PendingLeaked,
        Bug::PendingForgotten,
        Bug::EndlessResponse,
        Bug::CutTakenForWhole,
        Bug::OneConnectionTooMany,
    ];
    find_bugs(scenario::run, BUGS, SEEDS);
}
