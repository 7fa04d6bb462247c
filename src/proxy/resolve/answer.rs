//! What a look-up learnt of a name, and what is known of it after several.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::limits::ADDRESSES_MAX;
use crate::rt::Remote;

/// What a look-up learnt of one kind of address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Family {
    /// The name has these, perhaps none.
    Known(Vec<IpAddr>),
    /// Nobody told.
    Unknown,
}

/// What a look-up learnt of a name: at least one address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// Its IPv4 addresses.
    pub(super) v4: Family,
    /// Its IPv6 addresses.
    pub(super) v6: Family,
    /// For how long that holds.
    pub(super) ttl: Duration,
}

impl Answer {
    /// Whether one kind of address could not be learnt.
    pub(super) fn is_part(&self) -> bool {
        self.v4 == Family::Unknown || self.v6 == Family::Unknown
    }
}

/// The addresses of a name, from all answers so far.
#[derive(Debug, Default)]
pub(super) struct Known {
    v4: Vec<IpAddr>,
    v6: Vec<IpAddr>,
}

impl Known {
    /// Takes an answer over. What it does not tell stays as it was: a resolver that failed to answer must not take servers
    /// along.
    pub(super) fn update(&mut self, answer: Answer) {
        for (known, family) in [(&mut self.v4, answer.v4), (&mut self.v6, answer.v6)] {
            if let Family::Known(mut addresses) = family {
                // Resolvers turn them round from one answer to the next; that is no change.
                addresses.sort_unstable();
                addresses.dedup();
                addresses.truncate(ADDRESSES_MAX);
                *known = addresses;
            }
        }
    }

    /// Where a server of this name listens on `port`, always in one order.
    pub(super) fn remotes(&self, port: u16) -> Vec<Remote> {
        let addresses = self.v4.iter().chain(&self.v6).take(ADDRESSES_MAX);
        addresses.map(|address| Remote::Tcp(SocketAddr::new(*address, port))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn family(addresses: &[&str]) -> Family {
        Family::Known(addresses.iter().map(|address| address.parse().unwrap()).collect())
    }

    fn remotes(known: &Known) -> Vec<String> {
        let remotes = known.remotes(80).into_iter();
        remotes
            .map(|remote| if let Remote::Tcp(address) = remote { address.to_string() } else { String::new() })
            .collect()
    }

    #[test]
    fn what_an_answer_does_not_tell_stays_and_what_it_denies_goes() {
        let mut known = Known::default();
        let ttl = Duration::from_secs(1);
        known.update(Answer { v4: family(&["10.0.0.2", "10.0.0.1", "10.0.0.2"]), v6: family(&["::2", "::1"]), ttl });
        assert_eq!(remotes(&known), ["10.0.0.1:80", "10.0.0.2:80", "[::1]:80", "[::2]:80"]);
        let part = Answer { v4: family(&["10.0.0.3"]), v6: Family::Unknown, ttl };
        assert!(part.is_part());
        known.update(part);
        assert_eq!(remotes(&known), ["10.0.0.3:80", "[::1]:80", "[::2]:80"]);
        let whole = Answer { v4: family(&["10.0.0.3"]), v6: family(&[]), ttl };
        assert!(!whole.is_part());
        known.update(whole);
        assert_eq!(remotes(&known), ["10.0.0.3:80"]);
    }

    #[test]
    fn the_same_addresses_in_another_order_are_no_change_and_more_than_can_be_used_are_left_out() {
        let addresses: Vec<IpAddr> = (0..=255).map(|last| IpAddr::from([10, 0, 0, last])).collect();
        let turned: Vec<IpAddr> = addresses[200..].iter().chain(&addresses[..200]).copied().collect();
        let [one, other] = [addresses, turned].map(|addresses| {
            let mut known = Known::default();
            known.update(Answer { v4: Family::Known(addresses), v6: family(&["::1"]), ttl: Duration::from_secs(1) });
            remotes(&known)
        });
        assert_eq!(one, other);
        assert_eq!(one.len(), ADDRESSES_MAX);
    }
}
