//! The host's settings for DNS, `/etc/resolv.conf` (resolv.conf(5)), as far as they say who is asked for what.

use std::fs::{self, File};
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use resolv_conf::{Config, ScopedIp};

use crate::limits::{HOST_BYTES_MAX, NAME_SERVERS_MAX, RESOLV_CONF_BYTES_MAX, SEARCH_DOMAINS_MAX};

const PATH: &str = "/etc/resolv.conf";
/// The port of name servers (RFC 1035 section 4.2).
const PORT: u16 = 53;
// What the C library takes at most.
const TIMEOUT_SECS_MAX: u32 = 30;
const ATTEMPTS_MAX: u32 = 5;

/// Who is asked, for what, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    /// Name servers, in the order in which they are asked; at least one.
    pub(super) servers: Vec<SocketAddr>,
    /// Domains that a short name may be in, without the root's dot.
    search: Vec<String>,
    /// Dots from which on a name is asked for as it is first.
    ndots: usize,
    /// How long one name server may take.
    pub(super) timeout: Duration,
    /// How often all of them are asked; at least once.
    pub(super) attempts: u32,
    /// Nobody is asked for IPv6 addresses.
    pub(super) no_ipv6: bool,
    /// Name servers are asked over TCP alone.
    pub(super) tcp_only: bool,
}

impl Settings {
    /// Those of this host, with `name_servers` in place of its own where there are some. A host without the file has the
    /// defaults.
    pub(super) fn read(name_servers: &[SocketAddr]) -> Self {
        let mut text = Vec::new();
        let _ = File::open(PATH).and_then(|file| file.take(RESOLV_CONF_BYTES_MAX).read_to_end(&mut text));
        Self::parse(&text, name_servers)
    }

    fn parse(text: &[u8], name_servers: &[SocketAddr]) -> Self {
        // Lines that are wrong are passed over, as the C library does it.
        let (config, _) = Config::parse_with_errors(text);
        let mut servers = name_servers.to_vec();
        if servers.is_empty() {
            servers = config.nameservers.iter().map(server_address).collect();
        }
        if servers.is_empty() {
            servers.push(SocketAddr::from((Ipv4Addr::LOCALHOST, PORT)));
        }
        servers.truncate(NAME_SERVERS_MAX);
        let mut search: Vec<_> = config.get_last_search_or_domain().cloned().collect();
        if search.is_empty() {
            search.extend(config.get_system_domain());
        }
        let bare = search.iter().map(|domain| domain.trim_end_matches('.')).filter(|domain| !domain.is_empty());
        Self {
            servers,
            search: bare.take(SEARCH_DOMAINS_MAX).map(str::to_owned).collect(),
            ndots: config.ndots as usize,
            timeout: Duration::from_secs(config.timeout.clamp(1, TIMEOUT_SECS_MAX).into()),
            attempts: config.attempts.clamp(1, ATTEMPTS_MAX),
            no_ipv6: config.no_aaaa,
            tcp_only: config.use_vc,
        }
    }

    /// The names that `host` may stand for, each complete, in the order in which they are asked for.
    pub(super) fn candidates(&self, host: &str) -> Vec<String> {
        if let Some(whole) = host.strip_suffix('.') {
            return vec![whole.to_owned()];
        }
        let searched = self.search.iter().map(|domain| format!("{host}.{domain}"));
        // One that grows too long is none.
        let searched = searched.filter(|name| name.len() <= HOST_BYTES_MAX);
        let dots = host.bytes().filter(|byte| *byte == b'.').count();
        let whole = host.to_owned();
        let (first, last) = if dots >= self.ndots { (Some(whole), None) } else { (None, Some(whole)) };
        first.into_iter().chain(searched).chain(last).collect()
    }
}

fn server_address(server: &ScopedIp) -> SocketAddr {
    match server {
        ScopedIp::V4(address) => SocketAddr::from((*address, PORT)),
        ScopedIp::V6(address, scope) => {
            let scope = scope.as_deref().and_then(interface_index).unwrap_or(0);
            SocketAddrV6::new(*address, PORT, 0, scope).into()
        }
    }
}

/// The number of a network interface by its name, or the number itself: where a link-local address is.
fn interface_index(scope: &str) -> Option<u32> {
    let read = || fs::read_to_string(format!("/sys/class/net/{scope}/ifindex")).ok()?.trim().parse().ok();
    scope.parse().ok().or_else(|| if scope.contains('/') { None } else { read() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str, own: &[&str]) -> Settings {
        let own: Vec<SocketAddr> = own.iter().map(|address| address.parse().unwrap()).collect();
        Settings::parse(text.as_bytes(), &own)
    }

    fn servers(settings: &Settings) -> Vec<String> {
        settings.servers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_file_of_the_host_is_followed() {
        let text = "# of the cluster\nsearch prod.svc.test svc.test.\nnameserver 10.0.0.10\nnameserver ::1\n\
                    options ndots:2 timeout:3 attempts:4 no-aaaa use-vc trust-ad\n";
        let settings = settings(text, &[]);
        assert_eq!(servers(&settings), ["10.0.0.10:53", "[::1]:53"]);
        assert_eq!((settings.attempts, settings.timeout), (4, Duration::from_secs(3)));
        assert!(settings.no_ipv6 && settings.tcp_only);
        assert_eq!(settings.candidates("db_1"), ["db_1.prod.svc.test", "db_1.svc.test", "db_1"]);
        assert_eq!(settings.candidates("api.b"), ["api.b.prod.svc.test", "api.b.svc.test", "api.b"]);
        assert_eq!(settings.candidates("a.b.c"), ["a.b.c", "a.b.c.prod.svc.test", "a.b.c.svc.test"]);
        assert_eq!(settings.candidates("api.b."), ["api.b"]);
    }

    #[test]
    fn name_servers_of_the_config_stand_in_for_those_of_the_host_and_the_rest_of_its_file_counts() {
        for text in ["search test\nnameserver 10.0.0.10\n", "search test\n"] {
            let settings = settings(text, &["127.0.0.1:5353", "[::1]:53"]);
            assert_eq!(servers(&settings), ["127.0.0.1:5353", "[::1]:53"]);
            assert_eq!(settings.candidates("api"), ["api.test", "api"]);
            assert!(!settings.no_ipv6 && !settings.tcp_only);
        }
    }

    #[test]
    fn a_host_without_good_settings_asks_itself() {
        for text in ["", "\n# nothing\n", "options attempts:0 timeout:0\n", "nameserver elsewhere\n", "\u{1}\u{fffd}"] {
            let settings = settings(text, &[]);
            assert_eq!(servers(&settings), ["127.0.0.1:53"], "{text}");
            assert!(settings.attempts >= 1 && settings.timeout >= Duration::from_secs(1), "{text}");
        }
        let greedy = settings("options attempts:4000000000 timeout:4000000000\n", &[]);
        assert_eq!((greedy.attempts, greedy.timeout), (5, Duration::from_secs(30)));
    }

    #[test]
    fn a_link_local_name_server_is_asked_on_its_interface() {
        assert_eq!(servers(&settings("nameserver fe80::1%7\n", &[])), ["[fe80::1%7]:53"]);
        assert_eq!(interface_index("lo"), Some(1));
        assert_eq!(interface_index("../../../etc"), None);
    }

    #[test]
    fn a_domain_that_makes_a_name_too_long_is_passed_over() {
        let long = ["x".repeat(63), "y".repeat(63), "z".repeat(63), "w".repeat(55)].join(".");
        let settings = settings("search some.test\nnameserver 10.0.0.10\n", &[]);
        assert_eq!(settings.candidates(&long), [long]);
    }
}
