//! An operator who drains servers in the middle of traffic, and lets them back.

use super::super::set_up::pause;
use super::ledger::Ledger;
use ringfort::clock;
use ringfort::proxy::Upstream;
use ringfort::rt::sim::{self, Random};
use std::rc::Rc;
use std::sync::Arc;

/// Goes on for as long as the world exists.
pub(super) async fn run(upstreams: Vec<Arc<Upstream>>, ledger: Rc<Ledger>, mut random: Random) {
    loop {
        pause(random.below(700)).await;
        let upstream = random.pick(&upstreams);
        let servers = upstream.servers.len();
        // Now and then all of them at once.
        let chosen = if random.chance(100) { 0..servers } else { one(random.index(servers)) };
        let is_drained = random.chance(500);
        for server in chosen {
            if upstream.standings.set_drained(server, is_drained, clock::now()) {
                sim::note(format_args!("upstream {}: server {server} is drained: {is_drained}", upstream.slot));
                ledger.drained((upstream.slot, server), is_drained);
            }
        }
    }
}

fn one(index: usize) -> std::ops::Range<usize> {
    index..index + 1
}
