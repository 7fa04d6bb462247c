//! Who the client of a request is: the peer, or whom the proxies in front name that are trusted; and tables of networks.

use std::net::{IpAddr, SocketAddr};

use crate::http::RequestHead;
use crate::http::head::list_members;
use crate::proxy::Network;

/// What holds for addresses, by the smallest network that they are in. Built once; a look-up is a binary search, however many
/// networks there are.
#[derive(Debug, Clone, Default)]
pub struct NetworkTable<T> {
    v4: Segments<T>,
    v6: Segments<T>,
}

/// From each start on, up to the next one, this holds. Below the first nothing does.
#[derive(Debug, Clone)]
struct Segments<T> {
    starts: Vec<u128>,
    values: Vec<Option<T>>,
}

impl<T> Default for Segments<T> {
    fn default() -> Self {
        Self { starts: Vec::new(), values: Vec::new() }
    }
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl<T: Copy + PartialEq> NetworkTable<T> {
    /// Of these networks; of two equal ones the later counts.
    pub fn new(networks: impl IntoIterator<Item = (Network, T)>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (network, value) in networks {
            let range = network.range();
            let family = if range.start().is_ipv4() { &mut v4 } else { &mut v6 };
            family.push((bits(*range.start()), bits(*range.end()), value));
        }
        Self { v4: Segments::new(v4), v6: Segments::new(v6) }
    }

    /// What holds for an address. An IPv4 address that is mapped into IPv6 counts as what it is.
    pub fn get(&self, address: IpAddr) -> Option<T> {
        let address = address.to_canonical();
        let family = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        let behind = family.starts.partition_point(|start| *start <= bits(address));
        family.values.get(behind.checked_sub(1)?).copied().flatten()
    }
}

impl<T: Copy + PartialEq> Segments<T> {
    /// Networks lie apart or inside each other, so that those which are open at an address are a stack.
    fn new(mut ranges: Vec<(u128, u128, T)>) -> Self {
        // Stable: of equal ones the later is on top.
        ranges.sort_by_key(|(first, last, _)| (*first, u128::MAX - last));
        let (mut segments, mut open) = (Self::default(), Vec::<(u128, T)>::new());
        for (first, last, value) in ranges {
            segments.close(&mut open, Some(first));
            segments.begin(first, Some(value));
            open.push((last, value));
        }
        segments.close(&mut open, None);
        segments
    }

    /// Ends the networks that end before `until`, the inner ones first.
    fn close(&mut self, open: &mut Vec<(u128, T)>, until: Option<u128>) {
        while let Some((last, _)) = open.pop_if(|(last, _)| until.is_none_or(|until| *last < until)) {
            if let Some(next) = last.checked_add(1) {
                self.begin(next, open.last().map(|(_, value)| *value));
            }
        }
    }

    fn begin(&mut self, start: u128, value: Option<T>) {
        if self.starts.last() == Some(&start) {
            self.starts.pop();
            self.values.pop();
        }
        if self.values.last().copied().flatten() != value {
            self.starts.push(start);
            self.values.push(value);
        }
    }
}

/// The proxies that are believed when they say for whom they ask.
#[derive(Debug, Clone, Default)]
pub struct Trust(NetworkTable<()>);

impl Trust {
    /// Those in these networks.
    pub fn new(networks: &[Network]) -> Self {
        Self(NetworkTable::new(networks.iter().map(|network| (*network, ()))))
    }

    /// Whether it is believed.
    pub fn has(&self, address: IpAddr) -> bool {
        self.0.get(address).is_some()
    }

    /// The client's address: of a peer that is not trusted its own, else the last one in `X-Forwarded-For` that is not
    /// trusted. Each proxy adds whom it was asked by at the end, so that what stands before such an address is the word of
    /// somebody unknown. Where all are trusted it is the first; what is no address ends the list, for whoever wrote it hides
    /// for whom it asked.
    pub fn client(&self, peer: IpAddr, head: &RequestHead<'_>) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.has(peer) {
            return peer;
        }
        let members = head.header_values("x-forwarded-for").flat_map(list_members);
        self.first_known(members).unwrap_or(peer)
    }

    /// From left to right, which is how the fields can be read; the same as from right to left up to the first stranger.
    fn first_known<'m>(&self, members: impl Iterator<Item = &'m [u8]>) -> Option<IpAddr> {
        let mut client = None;
        for member in members {
            client = match parse_member(member) {
                None => None,
                Some(address) if self.has(address) => client.or(Some(address)),
                stranger => stranger,
            };
        }
        client
    }
}

/// An address, which some proxies give a port.
fn parse_member(member: &[u8]) -> Option<IpAddr> {
    let text = str::from_utf8(member).ok()?;
    let address = text.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    let address = address.or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok());
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    /// Networks that lie in each other's way: few bits differ.
    fn networks() -> impl Strategy<Value = Vec<(Network, u8)>> {
        let v4 = (0_u32..64, 24_u8..=32).prop_map(|(low, prefix)| (IpAddr::from((low * 4).to_be_bytes()), prefix));
        let v6 = (0_u128..64, 118_u8..=128).prop_map(|(low, prefix)| (IpAddr::from((low * 4).to_be_bytes()), prefix));
        let edge = prop_oneof![Just(("0.0.0.0/0", 0)), Just(("255.255.255.252/30", 1)), Just(("::/0", 2))];
        let edge = edge.prop_map(|(text, _)| (network(text).address, network(text).prefix));
        let one = prop_oneof![4 => v4, 4 => v6, 1 => edge];
        let one = one.prop_map(|(address, prefix)| Network { address, prefix });
        prop::collection::vec((one, any::<u8>()), 0..40)
    }

    fn addresses() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            (0_u32..512).prop_map(|low| IpAddr::from(low.to_be_bytes())),
            (u32::MAX - 8..=u32::MAX).prop_map(|high| IpAddr::from(high.to_be_bytes())),
            (0_u128..512).prop_map(|low| IpAddr::from(low.to_be_bytes())),
            Just(IpAddr::from([255; 16])),
        ]
    }

    proptest! {
        #[test]
        fn the_smallest_network_decides_and_of_equal_ones_the_last(networks in networks(), address in addresses()) {
            let naive = networks.iter().filter(|(network, _)| network.contains(address));
            // The last of the longest prefixes.
            let naive = naive.max_by_key(|(network, _)| network.prefix).map(|(_, value)| *value);
            prop_assert_eq!(NetworkTable::new(networks).get(address), naive);
        }

        #[test]
        fn the_client_is_whom_the_last_trusted_proxy_names(
            members in prop::collection::vec(prop_oneof![
                (0_u8..4).prop_map(|low| format!("10.0.0.{low}")),
                (0_u8..4).prop_map(|low| format!("192.0.2.{low}:80")),
                Just("unknown".to_owned()),
            ], 0..8),
        ) {
            let trust = Trust::new(&[network("10.0.0.0/8")]);
            // As proxies are asked: from the one that is nearest.
            let mut naive = None;
            for member in members.iter().rev() {
                let Some(address) = parse_member(member.as_bytes()) else { break };
                naive = Some(address);
                if !trust.has(address) {
                    break;
                }
            }
            prop_assert_eq!(trust.first_known(members.iter().map(String::as_bytes)), naive);
        }
    }

    #[test]
    fn a_table_of_many_networks_is_small_and_exact() {
        let many = (0..60_000_u32).map(|n| (Network { address: IpAddr::from((n << 12).to_be_bytes()), prefix: 24 }, n));
        let table = NetworkTable::new(many);
        assert_eq!(table.get(IpAddr::from((777_u32 << 12 | 255).to_be_bytes())), Some(777));
        assert_eq!(table.get(IpAddr::from((777_u32 << 12 | 256).to_be_bytes())), None);
        assert!(table.v4.starts.len() <= 2 * 60_000);
    }

    #[test]
    fn members_may_have_ports_and_brackets() {
        for (text, address) in
            [("192.0.2.1", "192.0.2.1"), ("192.0.2.1:8", "192.0.2.1"), ("[::1]:8", "::1"), ("[::1]", "::1")]
        {
            assert_eq!(parse_member(text.as_bytes()), address.parse().ok(), "{text}");
        }
        assert_eq!(parse_member(b"::ffff:10.0.0.1"), "10.0.0.1".parse().ok());
        assert_eq!(parse_member(b"_hidden"), None);
    }
}
