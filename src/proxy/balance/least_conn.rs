//! `least_conn`: the server with the fewest requests in flight for its weight; among equals in turn, smoothly weighted.

use super::round_robin::Standings;
use super::{Member, Servers, View};
use crate::proxy::chance::Chance;

#[derive(Debug, Clone)]
pub(super) struct LeastConn {
    members: Box<[Member]>,
    standings: Standings,
    /// The least loaded, with their weights: kept between calls for its memory.
    equals: Vec<(usize, u64)>,
}

impl LeastConn {
    pub(super) fn new(members: Vec<Member>) -> Self {
        let (standings, equals) = (Standings::new(members.len()), Vec::with_capacity(members.len()));
        Self { standings, equals, members: members.into() }
    }

    pub(super) fn restart(&mut self, chance: &mut Chance) {
        self.standings.restart(&self.members, chance);
    }

    pub(super) fn pick<S: Servers>(&mut self, view: &View<'_, S>) -> Option<usize> {
        self.equals.clear();
        // Load is a fraction; two are compared by multiplying crosswise.
        let mut least = (0_u128, 0_u128);
        for (at, member) in self.members.iter().enumerate() {
            if !view.is_usable(member) {
                continue;
            }
            let weight = view.weight(member);
            let load = (u128::from(view.servers.in_flight(member.server)), u128::from(weight));
            let (own, others) = (load.0 * least.1, least.0 * load.1);
            if self.equals.is_empty() || own < others {
                self.equals.clear();
                least = load;
            } else if own > others {
                continue;
            }
            self.equals.push((at, weight));
        }
        let chosen = self.standings.turn(self.equals.iter().copied())?;
        Some(self.members[chosen].server)
    }
}
