//! `hash` by rendezvous (highest random weight): each key has an order of preference over the servers, and goes to the
//! first of them that is available. A server that leaves moves its own keys, by weight to all the others; no other key.

use super::{Member, SHARE_WHOLE, Servers, View};
use crate::proxy::chance::mix;

#[derive(Debug, Clone)]
pub(super) struct Rendezvous {
    members: Box<[Member]>,
    /// Whether all weigh the same.
    is_even: bool,
}

impl Rendezvous {
    pub(super) fn new(members: Vec<Member>) -> Self {
        let is_even = members.windows(2).all(|two| two[0].weight == two[1].weight);
        Self { members: members.into(), is_even }
    }

    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    pub(super) fn pick<S: Servers>(&self, view: &View<'_, S>, key: u64) -> Option<usize> {
        let usable = self.members.iter().filter(|member| view.is_usable(member));
        if self.is_even && view.slow_start.is_zero() {
            // The same order as by distance, without its logarithms.
            return best(usable.map(|member| (!mix(key ^ member.hash), member.server)));
        }
        best(usable.map(|member| (distance(key, member, view.share(member)), member.server)))
    }
}

/// How far a key is from a server: distributed exponentially with the weight as its rate, so that the nearest of several
/// servers is each with a chance in proportion to its weight. (`-weight / ln(random)`, more often seen, is its inverse.)
fn distance(key: u64, member: &Member, share: u64) -> f64 {
    // Within (0, 1), never one of its ends.
    let random = ((mix(key ^ member.hash) >> 12) as f64 + 0.5) / (1_u64 << 52) as f64;
    -random.ln() / (member.weight as f64 * (share as f64 / SHARE_WHOLE as f64))
}

/// The server with the least distance, the first of equals.
fn best<D: PartialOrd>(servers: impl Iterator<Item = (D, usize)>) -> Option<usize> {
    let nearest = servers.reduce(|nearest, next| if next.0 < nearest.0 { next } else { nearest });
    nearest.map(|(_, server)| server)
}
