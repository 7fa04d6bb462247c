//! `round_robin`: in turn, smoothly weighted, as nginx does it.
//!
//! In each turn every server that is available gains its weight, and the one that has most is chosen and loses what all
//! have gained. With weights 5, 1, 1 that is a a b a c a a: exact over a cycle, and never five in a row.
//!
//! A server that is not available neither gains nor loses, and goes on from where it stood. The sum of all stays zero
//! whatever is available, so nobody gathers claims while away that the others would have to pay back.

use super::{Member, SHARE_WHOLE, Servers, View};
use crate::limits::ROUND_ROBIN_START_MAX;
use crate::proxy::chance::Chance;

#[derive(Debug, Clone)]
pub(super) struct RoundRobin {
    members: Box<[Member]>,
    standings: Standings,
}

impl RoundRobin {
    pub(super) fn new(members: Vec<Member>) -> Self {
        Self { standings: Standings::new(members.len()), members: members.into() }
    }

    pub(super) fn restart(&mut self, chance: &mut Chance) {
        self.standings.restart(&self.members, chance);
    }

    pub(super) fn pick<S: Servers>(&mut self, view: &View<'_, S>) -> Option<usize> {
        let members = self.members.iter().enumerate().filter(|(_, member)| view.is_usable(member));
        let chosen = self.standings.turn(members.map(|(at, member)| (at, view.weight(member))))?;
        Some(self.members[chosen].server)
    }
}

/// What each server has gained and not yet been chosen for.
#[derive(Debug, Clone)]
pub(super) struct Standings(Box<[i64]>);

impl Standings {
    pub(super) fn new(servers: usize) -> Self {
        Self(vec![0; servers].into())
    }

    /// Begins somewhere in a cycle.
    pub(super) fn restart(&mut self, members: &[Member], chance: &mut Chance) {
        self.0.fill(0);
        let cycle: u64 = members.iter().map(|member| member.weight).sum();
        for _ in 0..chance.below(cycle.min(ROUND_ROBIN_START_MAX)) {
            self.turn(members.iter().enumerate().map(|(at, member)| (at, member.weight * SHARE_WHOLE)));
        }
    }

    /// One turn between some servers, given as index and weight; returns the index of the chosen one.
    #[inline]
    pub(super) fn turn(&mut self, among: impl Iterator<Item = (usize, u64)>) -> Option<usize> {
        let (mut chosen, mut gained) = (None::<(usize, i64)>, 0_i64);
        for (at, weight) in among {
            // At most 2^42; to the ends of the range there is room for a million servers of the greatest weight.
            let weight = weight as i64;
            gained = gained.saturating_add(weight);
            self.0[at] = self.0[at].saturating_add(weight);
            if chosen.is_none_or(|(_, most)| self.0[at] > most) {
                chosen = Some((at, self.0[at]));
            }
        }
        let (chosen, _) = chosen?;
        self.0[chosen] = self.0[chosen].saturating_sub(gained);
        Some(chosen)
    }

    #[cfg(test)]
    fn values(&self) -> &[i64] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn turn(standings: &mut Standings, weights: &[u64], is_there: impl Fn(usize) -> bool) -> Option<usize> {
        standings.turn(weights.iter().copied().enumerate().filter(|(at, _)| is_there(*at)))
    }

    #[test]
    fn a_heavy_server_is_not_chosen_many_times_in_a_row() {
        let mut standings = Standings::new(3);
        let order: Vec<_> = (0..7).map(|_| turn(&mut standings, &[5, 1, 1], |_| true).unwrap()).collect();
        assert_eq!(order, [0, 0, 1, 0, 2, 0, 0]);
    }

    proptest! {
        /// However servers come and go: the sum stays zero and no server is ever further from its due than a few cycles.
        #[test]
        fn standings_stay_bounded_whatever_is_available(
            weights in prop::collection::vec(1_u64..50, 1..12), present in prop::collection::vec(0_u32..1 << 12, 1..600),
        ) {
            let mut standings = Standings::new(weights.len());
            let bound = (weights.len() as u64 * weights.iter().max().unwrap()) as i64;
            for set in present {
                let chosen = turn(&mut standings, &weights, |at| set & (1 << at) != 0);
                prop_assert!(chosen.is_none_or(|chosen| set & (1 << chosen) != 0));
                prop_assert_eq!(standings.values().iter().sum::<i64>(), 0);
                prop_assert!(standings.values().iter().all(|value| value.abs() <= bound), "{:?}", standings);
            }
        }
    }
}
