//! By what a stored response is found: host, path and query of the target. A NUL stands between them, which none can hold.

use super::vary::Selected;
use crate::http::RequestHead;

/// What counts of a target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct KeyRules {
    /// The host, with the port.
    pub(super) host: bool,
    /// The query.
    pub(super) query: bool,
    /// Parameters of the query that do not count.
    pub(super) ignored: Vec<String>,
}

impl KeyRules {
    /// The key of a request's target.
    pub(super) fn write(&self, head: &RequestHead<'_>, key: &mut Vec<u8>) {
        self.write_parts((head.host_bytes().unwrap_or_default(), head.port()), head.path_bytes(), head.query(), key);
    }

    fn write_parts(&self, host: (&[u8], Option<u16>), path: &[u8], query: Option<&str>, key: &mut Vec<u8>) {
        key.clear();
        if self.host {
            // With the port that the client wrote, also the usual one: the origin sees it too, and may put it into links.
            write_host(host.0, host.1, key);
        }
        key.push(0);
        key.extend_from_slice(path);
        key.push(0);
        let Some(query) = query.filter(|_| self.query) else { return };
        if self.ignored.is_empty() {
            key.extend_from_slice(query.as_bytes());
            return;
        }
        let start = key.len();
        for pair in query.split('&').filter(|pair| !self.is_ignored(pair)) {
            if key.len() > start {
                key.push(b'&');
            }
            key.extend_from_slice(pair.as_bytes());
        }
    }

    fn is_ignored(&self, pair: &str) -> bool {
        if pair.contains(';') {
            // Some origins part parameters there: what stands behind it is another one, and may count.
            return false;
        }
        let name = pair.split_once('=').map_or(pair, |(name, _)| name);
        self.ignored.iter().any(|ignored| ignored == name)
    }

    /// The key of what a `Location` or `Content-Location` of the response to `head` names, where it is of the same host
    /// (RFC 9111 section 4.4).
    pub(super) fn write_location(&self, head: &RequestHead<'_>, location: &[u8], key: &mut Vec<u8>) -> Option<()> {
        let location = str::from_utf8(location).ok()?.split('#').next()?;
        let rest = match location.split_once("://") {
            Some(("http" | "https", rest)) => {
                let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
                let (mut own, mut named) = (Vec::new(), Vec::new());
                write_host(head.host_bytes().unwrap_or_default(), unusual(head.port()), &mut own);
                let (host, port) = split_port(authority);
                write_host(host.as_bytes(), unusual(port), &mut named);
                if own != named {
                    return None;
                }
                path
            }
            _ => location.strip_prefix("//").map_or(Some(location), |_| None)?,
        };
        let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
        let mut absolute = match path {
            "" => "/".to_owned(),
            path if path.starts_with('/') => path.to_owned(),
            // Relative to the request's: what stands behind its last slash is replaced.
            path => {
                let own = head.path();
                format!("{}{path}", &own[..own.rfind('/').map_or(0, |at| at + 1)])
            }
        };
        if query.is_none() && location.is_empty() {
            absolute = head.path().to_owned();
        }
        self.write_parts((head.host_bytes().unwrap_or_default(), head.port()), absolute.as_bytes(), query, key);
        Some(())
    }
}

/// What requests are told apart by that are answered alike: the key, and what the stored response was chosen by.
pub(super) fn write_variant(key: &[u8], selected: Option<&Selected>, head: &RequestHead<'_>, out: &mut Vec<u8>) {
    out.clear();
    out.extend_from_slice(key);
    if let Some(selected) = selected {
        selected.write_key(head, out);
    }
}

fn write_host(host: &[u8], port: Option<u16>, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(host);
    out[start..].make_ascii_lowercase();
    if let Some(port) = port {
        out.push(b':');
        out.extend_from_slice(itoa::Buffer::new().format(port).as_bytes());
    }
}

/// A port that is part of a server's name.
fn unusual(port: Option<u16>) -> Option<u16> {
    port.filter(|port| !matches!(port, 80 | 443))
}

fn split_port(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => (host, port.parse().ok()),
        _ => (authority, None),
    }
}

/// The keys of the same target with its usual port and without (RFC 9110 section 4.2.3), this one among them.
pub(super) fn spellings(key: &[u8]) -> Vec<Vec<u8>> {
    let host = key.split(|b| *b == 0).next().unwrap_or_default();
    let colon = host.iter().rposition(|b| *b == b':');
    let colon = colon.filter(|at| host[at + 1..].iter().all(u8::is_ascii_digit)).unwrap_or(host.len());
    let (name, port) = host.split_at(colon);
    match port {
        b"" | b":80" | b":443" if !name.is_empty() => {
            let spelled = |port: &[u8]| [name, port, &key[host.len()..]].concat();
            vec![spelled(b""), spelled(b":80"), spelled(b":443")]
        }
        _ => vec![key.to_vec()],
    }
}

/// Host and path of a key; a usual port is no part of the host.
pub(super) fn parts(key: &[u8]) -> (&[u8], &[u8]) {
    let mut parts = key.split(|b| *b == 0);
    let host = parts.next().unwrap_or_default();
    let bare = host.strip_suffix(b":80").or_else(|| host.strip_suffix(b":443")).unwrap_or(host);
    (bare, parts.next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Head, HeadLimits, Parse, parse_head};

    fn with<T>(target: &str, host: &str, look: impl FnOnce(&RequestHead<'_>) -> T) -> T {
        let raw = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let mut head = Head::new();
        assert_eq!(parse_head(raw.as_bytes(), &HeadLimits::default(), &mut head), Ok(Parse::Complete), "{raw}");
        look(&head.view(raw.as_bytes()))
    }

    fn all() -> KeyRules {
        KeyRules { host: true, query: true, ignored: vec!["utm_source".to_owned()] }
    }

    fn key(rules: &KeyRules, target: &str, host: &str) -> String {
        let mut key = Vec::new();
        with(target, host, |head| rules.write(head, &mut key));
        String::from_utf8(key).unwrap()
    }

    #[test]
    fn a_target_has_a_key_for_each_spelling_of_its_usual_port() {
        let spelled = |host: &str| {
            let keys = spellings(format!("{host}\0/a:80\0x").as_bytes());
            let hosts =
                keys.iter().map(|key| str::from_utf8(key).unwrap().strip_suffix("\0/a:80\0x").unwrap().to_owned());
            hosts.collect::<Vec<_>>()
        };
        for host in ["a.test", "a.test:80", "a.test:443"] {
            assert_eq!(spelled(host), ["a.test", "a.test:80", "a.test:443"]);
        }
        assert_eq!(spelled("[::80]"), ["[::80]", "[::80]:80", "[::80]:443"]);
        for host in ["", "a.test:8080", "[::1]:81"] {
            assert_eq!(spelled(host), [host]);
        }
    }

    #[test]
    fn a_key_is_host_path_and_query_as_far_as_they_count() {
        assert_eq!(key(&all(), "/a/../b?x=1&y=2", "EXAMPLE.com:80"), "example.com:80\0/b\0x=1&y=2");
        assert_eq!(key(&all(), "/a/../b?x=1&y=2", "EXAMPLE.com"), "example.com\0/b\0x=1&y=2");
        assert_eq!(key(&all(), "/?a=1&utm_source=1;a=2&utm_source=3", "h"), "h\0/\0a=1&utm_source=1;a=2");
        assert_eq!(key(&all(), "/a?utm_source=z&x=1&utm_source", "h:8080"), "h:8080\0/a\0x=1");
        assert_eq!(key(&all(), "/a", "h"), "h\0/a\0");
        assert_eq!(key(&KeyRules::default(), "/a?x=1", "h"), "\0/a\0");
        for key in [&b"h\0/a\0x=1"[..], b"h:80\0/a\0x=1", b"h:443\0/a\0"] {
            assert_eq!(parts(key), (&b"h"[..], &b"/a"[..]));
        }
        assert_eq!(parts(b"h:8080\0/a\0"), (&b"h:8080"[..], &b"/a"[..]));
    }

    #[test]
    fn a_location_of_the_same_host_has_the_key_of_its_target() {
        let of = |location: &str| {
            let mut key = Vec::new();
            let found = with("/dir/own?q", "h:8080", |head| all().write_location(head, location.as_bytes(), &mut key));
            found.map(|()| String::from_utf8(key).unwrap())
        };
        for (location, expected) in [
            ("/x?y=1", Some("h:8080\0/x\0y=1")),
            ("http://H:8080/x#frag", Some("h:8080\0/x\0")),
            ("http://h:8080", Some("h:8080\0/\0")),
            ("other", Some("h:8080\0/dir/other\0")),
            ("http://h/x", None),
            ("http://other:8080/x", None),
            ("//h:8080/x", None),
        ] {
            assert_eq!(of(location).as_deref(), expected, "{location}");
        }
    }
}
