//! Texts of the config with a grammar of their own that name things of upstreams: where a server is, networks, keys of a
//! hash, statuses. Each is read into what the proxy works with, and written as the operator would write it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use schemars::json_schema;

use crate::http::Fields;
use crate::limits::{HOST_BYTES_MAX, UNIX_PATH_BYTES_MAX};
use crate::proxy::{HashKey, Network, ServerAddress};
use crate::units::{UnitError, in_text};

/// What `expected` says of where a server is.
pub(super) const SERVER_ADDRESS: &str =
    "a server such as \"127.0.0.1:3000\", \"[::1]:3000\", \"name.example:3000\" or \"unix:/run/app.sock\"";
/// What `expected` says of a name server.
pub(super) const NAME_SERVER: &str =
    "the IP address of a name server such as \"10.0.0.2\", \"127.0.0.1:5353\" or \"[::1]:53\"";
/// What `expected` says of a network.
pub(super) const NETWORK: &str = "an IP address or a network such as \"10.0.0.0/8\" or \"2001:db8::/32\"";
/// What `expected` says of the key of a hash.
pub(super) const HASH_KEY: &str = "one of \"client_address\", \"path\", \"header:NAME\" or \"cookie:NAME\"";
/// What `expected` says of statuses that pass.
pub(super) const STATUS_RANGE: &str = "a status from 200 to 599, or a range of them such as \"200-399\"";

fn fail<T>(expected: &'static str, suggestion: Option<String>) -> Result<T, UnitError> {
    Err(UnitError { expected, suggestion })
}

impl FromStr for ServerAddress {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse_server(text).map_or_else(|| fail(SERVER_ADDRESS, mend_server(text)), Ok)
    }
}

fn parse_server(text: &str) -> Option<ServerAddress> {
    if let Some(path) = text.strip_prefix("unix:") {
        let is_absolute = path.starts_with('/') && !path.starts_with("//");
        let is_path = is_absolute && path.len() <= UNIX_PATH_BYTES_MAX && !path.contains(char::is_control);
        return is_path.then(|| ServerAddress::Unix(PathBuf::from(path)));
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return (address.port() != 0).then_some(ServerAddress::Socket(address));
    }
    let (host, port) = text.rsplit_once(':')?;
    let port = parse_digits(port)?;
    // DNS compares without regard to case; one spelling makes equal servers equal.
    (port != 0 && is_dns_name(host)).then(|| ServerAddress::Name { host: host.to_ascii_lowercase(), port })
}

/// Digits alone: `u16::from_str` would take a sign.
fn parse_digits(text: &str) -> Option<u16> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Labels of letters, digits, `-` and `_` (which service names have), with or without the root's dot at the end. A name
/// whose last label is a number would be an IPv4 address that is misspelt.
fn is_dns_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last_is_number = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit()));
    name.len() <= HOST_BYTES_MAX && name.split('.').all(is_label) && !last_is_number
}

/// A URL, a port, a host without one and a path are the usual slips.
fn mend_server(text: &str) -> Option<String> {
    let text = text.trim();
    let (bare, had_scheme) = match text.strip_prefix("http://") {
        Some(rest) => (rest.trim_end_matches('/'), true),
        None => (text, false),
    };
    let bare = bare.strip_prefix("unix://").map_or(bare.to_owned(), |path| format!("unix:{path}"));
    let port = if had_scheme { "80" } else { "3000" };
    let candidates = [
        bare.clone(),
        format!("unix:{bare}"),
        format!("127.0.0.1:{}", bare.strip_prefix(':').unwrap_or(&bare)),
        format!("{bare}:{port}"),
        format!("[{bare}]:{port}"),
    ];
    // A single word may be anything; only `localhost` is surely a host.
    let is_host = bare.contains(['.', ':', '/']) || bare == "localhost" || bare.bytes().all(|b| b.is_ascii_digit());
    candidates.into_iter().find(|mended| is_host && mended != text && parse_server(mended).is_some())
}

/// Where a name server is: an IP address, and the port 53 where it says no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameServer(SocketAddr);

impl NameServer {
    /// As the standard library has it.
    pub const fn get(self) -> SocketAddr {
        self.0
    }
}

impl FromStr for NameServer {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        parse_name_server(text).map_or_else(|| fail(NAME_SERVER, mend_name_server(text)), Ok)
    }
}

fn parse_name_server(text: &str) -> Option<NameServer> {
    let bare = text.parse::<IpAddr>().map(|address| SocketAddr::new(address, 53));
    let address = bare.or_else(|_| text.parse()).ok()?;
    (address.port() != 0).then_some(NameServer(address))
}

impl fmt::Display for NameServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A name cannot be looked up before there is one who knows it; only `localhost` needs nobody.
fn mend_name_server(text: &str) -> Option<String> {
    let text = text.trim();
    let bare = ["dns://", "udp://", "tcp://"].iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text);
    let local = bare.strip_prefix("localhost").or_else(|| bare.starts_with(':').then_some(bare));
    let candidates = [bare.to_owned(), bare.trim_matches(['[', ']']).to_owned()];
    let local = local.map(|port| format!("127.0.0.1{port}"));
    candidates.into_iter().chain(local).find(|mended| parse_name_server(mended).is_some())
}

impl FromStr for Network {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let Ok(address) = address.parse::<IpAddr>() else { return fail(NETWORK, None) };
        let bits = if address.is_ipv4() { 32 } else { 128 };
        let is_mapped = address.to_canonical().is_ipv4() && bits == 128;
        match prefix.map(parse_digits) {
            None => Ok(Self { address, prefix: bits }.canonical()),
            Some(Some(0..96)) if is_mapped => {
                fail("a network of IPv4 addresses as they are, and not mapped into IPv6", None)
            }
            Some(Some(prefix)) if prefix <= bits.into() => Ok(Self { address, prefix: prefix as u8 }.canonical()),
            Some(_) if bits == 32 => fail("a network whose prefix has at most 32 bits, as IPv4 addresses have", None),
            Some(_) => fail("a network whose prefix has at most 128 bits, as IPv6 addresses have", None),
        }
    }
}

impl FromStr for HashKey {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        match text.split_once(':') {
            None if text == "client_address" => Ok(Self::ClientAddress),
            None if text == "path" => Ok(Self::Path),
            Some(("header", name)) if is_token(name) => Ok(Self::Header(name.to_owned())),
            Some(("cookie", name)) if is_token(name) => Ok(Self::Cookie(name.to_owned())),
            _ => fail(HASH_KEY, mend_hash_key(text)),
        }
    }
}

fn mend_hash_key(text: &str) -> Option<String> {
    match text.split_once([':', ' ', '=']) {
        None => match text.to_ascii_lowercase().as_str() {
            "ip" | "client" | "address" | "source" | "client_ip" | "client-address" => {
                Some("client_address".to_owned())
            }
            "uri" | "url" => Some("path".to_owned()),
            other => super::error::suggest(other, ["client_address", "path"]),
        },
        Some((kind, name)) => {
            let name = name.trim();
            let kind = super::error::suggest(kind, ["header", "cookie"]).filter(|_| is_token(name))?;
            Some(format!("{kind}:{name}"))
        }
    }
}

/// Whether a text is a token (RFC 9110 section 5.6.2), as names of header fields and cookies are.
pub(super) fn is_token(text: &str) -> bool {
    // The checked list of fields knows; it refuses the server's own names for another reason.
    !matches!(Fields::new().push(text, ""), Err(crate::http::FieldError::Name))
}

/// Statuses that follow each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusRange(RangeInclusive<u16>);

impl StatusRange {
    /// These.
    pub const fn new(range: RangeInclusive<u16>) -> Self {
        Self(range)
    }

    /// As the standard library has it.
    pub fn get(&self) -> RangeInclusive<u16> {
        self.0.clone()
    }
}

impl FromStr for StatusRange {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (parse_digits(first), parse_digits(last)) {
            (Some(first), Some(last)) if 200 <= first && first <= last && last <= 599 => Ok(Self(first..=last)),
            _ => fail(STATUS_RANGE, mend_statuses(text)),
        }
    }
}

/// `2xx` is how logs and people say it.
fn mend_statuses(text: &str) -> Option<String> {
    let class = text.strip_suffix("xx").or_else(|| text.strip_suffix("XX"))?;
    matches!(class, "2" | "3" | "4" | "5").then(|| format!("{class}00-{class}99"))
}

impl fmt::Display for StatusRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.start() == self.0.end() {
            true => write!(f, "{}", self.0.start()),
            false => write!(f, "{}-{}", self.0.start(), self.0.end()),
        }
    }
}

in_text! {
    ServerAddress: json_schema!({ "type": "string", "x-unit": "server" });
    NameServer: json_schema!({ "type": "string", "x-unit": "name-server" });
    Network: json_schema!({ "type": "string", "x-unit": "network" });
    HashKey: json_schema!({
        "type": "string", "x-unit": "hash-key", "pattern": "^(client_address|path|header:.+|cookie:.+)$"
    });
    StatusRange: json_schema!({
        "type": ["string", "integer"], "x-unit": "statuses", "pattern": "^[2-5][0-9]{2}(-[2-5][0-9]{2})?$",
        "minimum": 200, "maximum": 599
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Good texts come out as they are written; bad ones have this suggestion.
    fn check<T: FromStr<Err = UnitError> + ToString>(good: &[(&str, &str)], bad: &[(&str, Option<&str>)]) {
        for (text, written) in good {
            let read = text.parse::<T>().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(read.to_string(), *written);
            assert!(written.parse::<T>().is_ok(), "{written}");
        }
        for (text, suggestion) in bad {
            let error = text.parse::<T>().err().unwrap_or_else(|| panic!("{text} is taken"));
            assert_eq!(error.suggestion.as_deref(), *suggestion, "{text}");
            assert!(suggestion.is_none_or(|text| text.parse::<T>().is_ok()), "{text}");
        }
    }

    #[test]
    fn a_server_is_an_address_a_name_or_a_unix_socket() {
        let long = format!("unix:/{}", "x".repeat(UNIX_PATH_BYTES_MAX));
        check::<ServerAddress>(
            &[
                ("127.0.0.1:3000", "127.0.0.1:3000"),
                ("[::1]:80", "[::1]:80"),
                ("API.example:80", "api.example:80"),
                ("db_1.svc.cluster.local.:5000", "db_1.svc.cluster.local.:5000"),
                ("unix:/run/a b.sock", "unix:/run/a b.sock"),
            ],
            &[
                ("", None),
                ("api", None),
                ("http://api.example:80", Some("api.example:80")),
                ("http://api.example/", Some("api.example:80")),
                ("https://api.example:443", None),
                ("127.0.0.1", Some("127.0.0.1:3000")),
                ("::1", Some("[::1]:3000")),
                (":8080", Some("127.0.0.1:8080")),
                ("8080", Some("127.0.0.1:8080")),
                ("localhost", Some("localhost:3000")),
                ("/run/app.sock", Some("unix:/run/app.sock")),
                ("unix:///run/app.sock", Some("unix:/run/app.sock")),
                ("unix:run/app.sock", None),
                ("unix:/a\0b", None),
                ("127.0.0.1:0", None),
                ("a.example:0", None),
                ("a.example:65536", None),
                ("a.example:+80", None),
                ("300.1.1.1:80", None),
                ("-a.example:80", None),
                ("a..example:80", None),
                ("a b.example:80", None),
                (&long, None),
            ],
        );
    }

    #[test]
    fn a_name_server_is_an_address_whose_port_is_53_unless_it_says_another() {
        check::<NameServer>(
            &[
                ("10.0.0.2", "10.0.0.2:53"),
                ("127.0.0.1:5353", "127.0.0.1:5353"),
                ("::1", "[::1]:53"),
                ("[::1]:5353", "[::1]:5353"),
            ],
            &[
                ("", None),
                ("dns.example", None),
                ("dns.example:53", None),
                ("10.0.0.2:0", None),
                ("10.0.0.2:65536", None),
                ("10.0.0", None),
                ("[::1]", Some("::1")),
                (" 10.0.0.2", Some("10.0.0.2")),
                ("udp://10.0.0.2:53", Some("10.0.0.2:53")),
                ("localhost:5353", Some("127.0.0.1:5353")),
                (":5353", Some("127.0.0.1:5353")),
            ],
        );
    }

    #[test]
    fn a_network_has_a_prefix_that_its_addresses_have_room_for() {
        check::<Network>(
            &[
                ("10.0.0.0/8", "10.0.0.0/8"),
                ("10.1.2.3", "10.1.2.3/32"),
                ("::1", "::1/128"),
                ("::/0", "::/0"),
                ("2001:db8::/128", "2001:db8::/128"),
                ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
                ("::ffff:0:0/96", "0.0.0.0/0"),
                ("::ffff:10.1.2.3", "10.1.2.3/32"),
            ],
            &[
                ("::ffff:0:0/95", None),
                ("10.0.0.0/33", None),
                ("::/129", None),
                ("10.0.0.0/", None),
                ("10.0.0/8", None),
                ("::/+8", None),
            ],
        );
        let error = "10.0.0.0/33".parse::<Network>().unwrap_err();
        assert_eq!(error.expected, "a network whose prefix has at most 32 bits, as IPv4 addresses have");
    }

    #[test]
    fn the_key_of_a_hash_is_a_part_of_the_request() {
        check::<HashKey>(
            &[
                ("client_address", "client_address"),
                ("path", "path"),
                ("header:X-User", "header:X-User"),
                ("cookie:sid", "cookie:sid"),
            ],
            &[
                ("ip", Some("client_address")),
                ("client-addres", Some("client_address")),
                ("headers:X-User", Some("header:X-User")),
                ("cookie sid", Some("cookie:sid")),
                ("header:", None),
                ("header:a b", None),
                ("user", None),
            ],
        );
    }

    #[test]
    fn statuses_are_one_or_a_range_that_rises() {
        check::<StatusRange>(
            &[("200", "200"), ("200-399", "200-399"), ("204-204", "204")],
            &[("2xx", Some("200-299")), ("199", None), ("600", None), ("399-200", None), ("200-", None), ("", None)],
        );
    }
}
