//! `hash` by a Maglev table (Eisenbud and others, 2016): one look-up, whatever the number of servers.
//!
//! A server that leaves the config has the table built anew, which moves a few other keys too. One that is merely not
//! available keeps its entries: its keys are looked up again at further places of the table, which each key has its own
//! of, so they are spread over the others by weight, and no other key moves.

use super::rendezvous::Rendezvous;
use super::{Member, SHARE_WHOLE, Servers, View};
use crate::limits::{BALANCE_DRAWS_MAX, MAGLEV_ENTRIES};
use crate::proxy::chance::mix;
use std::sync::Arc;

/// Tells the places of one key apart.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
/// Makes what slow start decides by independent of where a key belongs.
const SLOW_START_SALT: u64 = 0xd6e8_feb8_6659_fd93;
const FREE: u16 = u16::MAX;

#[derive(Debug, Clone)]
pub(super) struct Maglev {
    /// Indexes of members; the same memory for all cores. Empty where there are more servers than an entry can name.
    table: Arc<[u16]>,
    /// Where keys go that find nobody in a few places.
    rest: Rendezvous,
}

impl Maglev {
    pub(super) fn new(members: Vec<Member>) -> Self {
        let table = if members.len() < usize::from(FREE) { build_table(&members) } else { Vec::new() };
        Self { table: table.into(), rest: Rendezvous::new(members) }
    }

    #[inline]
    pub(super) fn pick<S: Servers>(&self, view: &View<'_, S>, key: u64) -> Option<usize> {
        let mut place = key;
        for _ in 0..BALANCE_DRAWS_MAX {
            let spread = mix(place);
            let entry = self.table.get((spread % MAGLEV_ENTRIES as u64) as usize).map(|entry| usize::from(*entry));
            let Some(member) = entry.and_then(|entry| self.rest.members().get(entry)) else { break };
            if view.is_usable(member) && accepts(view.share(member), key, member) {
                return Some(member.server);
            }
            place = place.wrapping_add(STEP);
        }
        self.rest.pick(view, key)
    }
}

/// Whether a server takes a key that belongs to it: in slow start only its share of them, and the more of the same ones.
fn accepts(share: u64, key: u64, member: &Member) -> bool {
    share == SHARE_WHOLE || mix(key ^ member.hash ^ SLOW_START_SALT) % SHARE_WHOLE < share
}

/// Fills the table: in each round the heaviest servers take the next free entry of their own order, lighter ones in as
/// many rounds as their weight has in the heaviest's. A server too light for an entry has none.
fn build_table(members: &[Member]) -> Vec<u16> {
    let entries = MAGLEV_ENTRIES as u64;
    let mut table = vec![FREE; MAGLEV_ENTRIES];
    let mut free = if members.is_empty() { 0 } else { MAGLEV_ENTRIES };
    let heaviest = members.iter().map(|member| member.weight).max().unwrap_or(1);
    // Offset and step of each one's order, and what it has gained towards its next entry.
    let orders = members.iter().map(|member| (mix(member.hash) % entries, 1 + mix(!member.hash) % (entries - 1), 0));
    let mut orders: Vec<(u64, u64, u64)> = orders.collect();
    while free > 0 {
        for (at, (member, (place, step, gained))) in members.iter().zip(&mut orders).enumerate() {
            *gained += member.weight;
            if *gained < heaviest || free == 0 {
                continue;
            }
            *gained -= heaviest;
            while table[*place as usize] != FREE {
                *place = (*place + *step) % entries;
            }
            table[*place as usize] = at as u16;
            free -= 1;
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn members(weights: &[u64], salt: u64) -> Vec<Member> {
        let member =
            |(server, weight): (usize, &u64)| Member { server, weight: *weight, hash: mix(salt ^ server as u64) };
        weights.iter().enumerate().map(member).collect()
    }

    fn counts(table: &[u16], servers: usize) -> Vec<usize> {
        let mut counts = vec![0; servers];
        table.iter().for_each(|entry| counts[usize::from(*entry)] += 1);
        counts
    }

    #[test]
    fn the_number_of_entries_is_prime() {
        assert!(
            (2..MAGLEV_ENTRIES)
                .take_while(|divisor| divisor * divisor <= MAGLEV_ENTRIES)
                .all(|d| !MAGLEV_ENTRIES.is_multiple_of(d))
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]
        #[test]
        fn each_server_has_its_weight_of_the_entries(weights in prop::collection::vec(1_u64..20, 1..20), salt: u64) {
            let total: u64 = weights.iter().sum();
            for (count, weight) in counts(&build_table(&members(&weights, salt)), weights.len()).iter().zip(&weights) {
                let expected = (*weight * MAGLEV_ENTRIES as u64) as f64 / total as f64;
                prop_assert!((*count as f64 - expected).abs() <= 2.0, "{} of {}", count, expected);
            }
        }
    }

    #[test]
    fn a_server_that_leaves_the_config_moves_few_keys_of_the_others() {
        let all = members(&[1; 20], 9);
        let (before, after) = (build_table(&all), build_table(&all[..19]));
        let others = before.iter().zip(&after).filter(|(before, _)| **before != 19);
        let moved = others.filter(|(before, after)| before != after).count();
        assert!(moved < MAGLEV_ENTRIES / 10, "{moved}");
    }
}
