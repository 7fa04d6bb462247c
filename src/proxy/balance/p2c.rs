//! `p2c`: the better of two servers that are drawn by weight. No scan: the cost does not grow with the servers, and two
//! cores that see the same loads do not all rush to the same server.
//!
//! What is compared is the expected wait for a server's capacity: peak-EWMA latency x (requests in flight + 1) / weight.
//! The first one drawn wins a tie.
//!
//! A server that has never answered is tried, but not flooded: it wins against every other, once; for
//! [`LATENCY_DECAY_SECS`] after that it counts as fast as the one that it is compared with, so that it has at most as much
//! in flight as others. The same holds for one that has not been asked for long (see [`super::PeakEwma`]).

use super::draw::Draw;
use super::{Member, Servers, View};
use crate::clock::Moment;
use crate::limits::LATENCY_DECAY_SECS;
use crate::proxy::chance::Chance;
use std::time::Duration;

#[derive(Debug, Clone)]
pub(super) struct P2c {
    draw: Draw,
    /// When each was chosen last.
    asked: Box<[Option<Moment>]>,
}

impl P2c {
    pub(super) fn new(members: Vec<Member>) -> Self {
        Self { asked: vec![None; members.len()].into(), draw: Draw::new(members) }
    }

    pub(super) fn restart(&mut self) {
        self.asked.fill(None);
    }

    #[inline]
    pub(super) fn pick<S: Servers>(&mut self, view: &View<'_, S>, chance: &mut Chance) -> Option<usize> {
        let (first, second) = self.two(view, chance)?;
        let chosen = match second {
            Some(second) if self.is_better(view, second, first) => second,
            Some(_) | None => first,
        };
        self.asked[chosen] = Some(view.now);
        Some(self.draw.members()[chosen].server)
    }

    /// Two different ones that are available, if there are two.
    #[inline]
    fn two<S: Servers>(&self, view: &View<'_, S>, chance: &mut Chance) -> Option<(usize, Option<usize>)> {
        let Some(first) = self.draw.draw_usable(view, chance, None) else {
            let first = self.draw.search(view, chance, None)?;
            return Some((first, self.draw.search(view, chance, Some(first))));
        };
        if self.draw.members().len() == 1 {
            return Some((first, None));
        }
        let second = self.draw.draw_usable(view, chance, Some(first));
        Some((first, second.or_else(|| self.draw.search(view, chance, Some(first)))))
    }

    #[inline]
    fn is_better<S: Servers>(&self, view: &View<'_, S>, one: usize, other: usize) -> bool {
        let expected = |at: usize| {
            let server = self.draw.members()[at].server;
            view.servers.latency(server).expected_nanos(self.asked[at], view.now)
        };
        let (own, others) = (expected(one), expected(other));
        self.cost(view, one, own, others) < self.cost(view, other, others, own)
    }

    fn cost<S: Servers>(&self, view: &View<'_, S>, at: usize, expected: Option<f64>, rival: Option<f64>) -> f64 {
        let member = &self.draw.members()[at];
        let nanos = match expected {
            Some(nanos) => nanos,
            None if self.is_due_for_trial(view.now, at) => 0.0,
            None => rival.unwrap_or(1.0),
        };
        nanos * (f64::from(view.servers.in_flight(member.server)) + 1.0) / view.weight(member) as f64
    }

    fn is_due_for_trial(&self, now: Moment, at: usize) -> bool {
        self.asked[at].is_none_or(|asked| now.since(asked) >= Duration::from_secs(LATENCY_DECAY_SECS))
    }
}
