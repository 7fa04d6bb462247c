//! A draw by weight in constant time, and a search where nothing that is drawn is available.

use super::{Member, SHARE_WHOLE, Servers, View};
use crate::limits::BALANCE_DRAWS_MAX;
use crate::proxy::chance::Chance;

/// Servers to draw from: an alias table (Walker, Vose), in whole numbers so that the shares are exact.
#[derive(Debug, Clone)]
pub(super) struct Draw {
    members: Box<[Member]>,
    columns: Box<[Column]>,
    /// Sum of all weights: the height of each column.
    height: u64,
}

/// One column for each server: its lower part is the server's own, what is above belongs to another.
#[derive(Debug, Clone, Copy)]
struct Column {
    own: u64,
    other: usize,
}

impl Draw {
    pub(super) fn new(members: Vec<Member>) -> Self {
        let count = members.len() as u64;
        let height = members.iter().map(|member| member.weight).sum();
        // Each server has to be given `weight * count` of the table's `height * count`.
        let mut columns: Box<[Column]> = members
            .iter()
            .enumerate()
            .map(|(at, member)| Column { own: member.weight.saturating_mul(count), other: at })
            .collect();
        let (mut short, mut full): (Vec<usize>, Vec<usize>) =
            (0..columns.len()).partition(|at| columns[*at].own < height);
        while let (Some(low), Some(high)) = (short.pop(), full.pop()) {
            columns[low].other = high;
            columns[high].own -= height - columns[low].own;
            if columns[high].own < height { short.push(high) } else { full.push(high) }
        }
        Self { members: members.into(), columns, height }
    }

    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    /// The index among the members of one that is drawn by weight, available or not.
    #[inline]
    fn draw(&self, chance: &mut Chance) -> usize {
        let wide = u128::from(chance.next()) * self.columns.len() as u128;
        let at = (wide >> 64) as usize;
        // What is left of the number is as good as another: some 2^64 divided by the servers' count.
        let level = ((u128::from(wide as u64) * u128::from(self.height)) >> 64) as u64;
        let column = self.columns[at];
        if level < column.own { at } else { column.other }
    }

    /// Draws a few times, for one that is available and not `except`. Each is drawn by what it weighs now: one in slow
    /// start is put back as often as its share is short of the whole.
    #[inline]
    pub(super) fn draw_usable<S: Servers>(
        &self,
        view: &View<'_, S>,
        chance: &mut Chance,
        except: Option<usize>,
    ) -> Option<usize> {
        for _ in 0..BALANCE_DRAWS_MAX {
            let at = self.draw(chance);
            if except == Some(at) || !view.is_usable(&self.members[at]) {
                continue;
            }
            let share = view.share(&self.members[at]);
            if share == SHARE_WHOLE || chance.below(SHARE_WHOLE) < share {
                return Some(at);
            }
        }
        None
    }

    /// Chooses by weight among all that are available and not `except`. In one pass, so that each is asked once: another
    /// core may change the answer.
    pub(super) fn search<S: Servers>(
        &self,
        view: &View<'_, S>,
        chance: &mut Chance,
        except: Option<usize>,
    ) -> Option<usize> {
        let (mut chosen, mut total) = (None, 0_u64);
        for (at, member) in self.members.iter().enumerate() {
            if except == Some(at) || !view.is_usable(member) {
                continue;
            }
            let weight = view.weight(member);
            total = total.saturating_add(weight);
            // The latest replaces the one before with its share of all up to here: in the end each has its share of all.
            if chance.below(total) < weight {
                chosen = Some(at);
            }
        }
        chosen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_table_gives_each_server_exactly_its_weight(weights in prop::collection::vec(1_u64..=u32::MAX.into(), 1..60)) {
            let members = weights.iter().enumerate().map(|(server, weight)| Member { server, weight: *weight, hash: 0 });
            let draw = Draw::new(members.collect());
            let mut given = vec![0_u128; weights.len()];
            for (at, column) in draw.columns.iter().enumerate() {
                prop_assert!(column.own <= draw.height);
                given[at] += u128::from(column.own);
                given[column.other] += u128::from(draw.height - column.own);
            }
            let expected = weights.iter().map(|weight| u128::from(*weight) * weights.len() as u128);
            prop_assert_eq!(given, expected.collect::<Vec<_>>());
        }
    }
}
