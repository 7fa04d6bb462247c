//! Hosts of routes (`api.example.com`, `*.example.com`) and of requests, in the one form in which they are compared:
//! lower case, without port, without the trailing dot.

use std::fmt;

use crate::limits::HOST_BYTES_MAX;

/// Why a text is no host of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostError {
    /// Offset in bytes of what was found.
    pub position: usize,
    /// What is wrong there.
    pub kind: HostErrorKind,
}

/// What can be wrong with a route's host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostErrorKind {
    /// Nothing there, or nothing between two dots.
    EmptyLabel,
    /// A byte that no host name has.
    Byte,
    /// A port: listeners have ports, routes do not.
    Port,
    /// A `*` that is not the whole first label.
    Star,
    /// Longer than a host name can be.
    TooLong,
    /// A `[` that is no IPv6 literal.
    Literal,
}

impl HostErrorKind {
    /// What was expected, as the rest of a sentence.
    pub const fn expected(self) -> &'static str {
        match self {
            Self::EmptyLabel => "expected a label of a host name",
            Self::Byte => "expected a letter, digit, `-`, `_` or `.` (an international name in its xn-- form)",
            Self::Port => "expected a host without a port: a route listens where its server listens",
            Self::Star => "expected `*` only as the whole first label, as in `*.example.com`",
            Self::TooLong => "expected at most 253 bytes",
            Self::Literal => "expected an IPv6 address in brackets",
        }
    }
}

const _: () = assert!(HOST_BYTES_MAX == 253, "the message above names it");

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {}: {}", self.position, self.kind.expected())
    }
}

impl std::error::Error for HostError {}

/// Length of a route's host without its trailing dot, once it is known to be one.
pub(crate) const fn check_host(host: &str) -> Result<usize, HostError> {
    let bytes = host.as_bytes();
    let len = if bytes.len() > 1 && bytes[bytes.len() - 1] == b'.' { bytes.len() - 1 } else { bytes.len() };
    if len > HOST_BYTES_MAX {
        return fail(HOST_BYTES_MAX, HostErrorKind::TooLong);
    }
    if len > 0 && bytes[0] == b'[' {
        return check_literal(bytes, bytes.len());
    }
    let mut label = if len >= 2 && bytes[0] == b'*' && bytes[1] == b'.' { 2 } else { 0 };
    let mut at = label;
    while at < len {
        match bytes[at] {
            b'.' if at == label => return fail(at, HostErrorKind::EmptyLabel),
            b'.' => label = at + 1,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => {}
            b':' => return fail(at, HostErrorKind::Port),
            b'*' => return fail(at, HostErrorKind::Star),
            _ => return fail(at, HostErrorKind::Byte),
        }
        at += 1;
    }
    if label == len { fail(len, HostErrorKind::EmptyLabel) } else { Ok(len) }
}

const fn check_literal(bytes: &[u8], len: usize) -> Result<usize, HostError> {
    let mut at = 1;
    while at < len && (bytes[at].is_ascii_hexdigit() || bytes[at] == b':' || bytes[at] == b'.') {
        at += 1;
    }
    if at > 1 && at + 1 == len && bytes[at] == b']' {
        return Ok(len);
    }
    if at + 1 < len && bytes[at] == b']' && bytes[at + 1] == b':' {
        return fail(at + 1, HostErrorKind::Port);
    }
    fail(at, HostErrorKind::Literal)
}

const fn fail(position: usize, kind: HostErrorKind) -> Result<usize, HostError> {
    Err(HostError { position, kind })
}

/// A request's host, normalised on the stack.
pub(crate) struct RequestHost {
    bytes: [u8; HOST_BYTES_MAX],
    len: u8,
}

impl RequestHost {
    pub(crate) const EMPTY: Self = Self { bytes: [0; HOST_BYTES_MAX], len: 0 };

    /// As [`set`](Self::set).
    pub(crate) fn new(host: &[u8]) -> Option<Self> {
        let mut own = Self::EMPTY;
        own.set(host)?;
        Some(own)
    }

    /// `None` for a host that no route can name: empty, or longer than a host name can be. In place: on the request
    /// path, moving the buffer around would cost more than filling it.
    #[inline]
    pub(crate) fn set(&mut self, host: &[u8]) -> Option<()> {
        // Colons inside an IPv6 literal are no port.
        let literal = if host.first() == Some(&b'[') { host.iter().position(|&byte| byte == b']')? } else { 0 };
        let colon = host[literal..].iter().position(|&byte| byte == b':');
        let host = &host[..colon.map_or(host.len(), |at| literal + at)];
        let host = host.strip_suffix(b".").unwrap_or(host);
        if host.is_empty() {
            return None;
        }
        let bytes = self.bytes.get_mut(..host.len())?;
        bytes.copy_from_slice(host);
        bytes.make_ascii_lowercase();
        self.len = host.len() as u8;
        Some(())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

const _: () = assert!(HOST_BYTES_MAX <= u8::MAX as usize);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_routes_are_checked_with_the_byte_named() {
        use HostErrorKind::*;
        for (host, len) in [("a", 1), ("a.b.", 3), ("*.a.b", 5), ("A-1._x", 6), ("[::1]", 5), ("127.0.0.1", 9)] {
            assert_eq!(check_host(host), Ok(len), "{host}");
        }
        let cases = [
            ("", 0, EmptyLabel),
            (".", 0, EmptyLabel),
            ("a..b", 2, EmptyLabel),
            ("*.", 0, Star),
            ("*", 0, Star),
            ("a.*", 2, Star),
            ("*.*.a", 2, Star),
            ("a:80", 1, Port),
            ("[::1]:80", 5, Port),
            ("[::1", 4, Literal),
            ("[]", 1, Literal),
            ("a b", 1, Byte),
        ];
        for (host, position, kind) in cases {
            assert_eq!(check_host(host), Err(HostError { position, kind }), "{host}");
        }
        assert_eq!(check_host(&"a".repeat(254)), Err(HostError { position: 253, kind: TooLong }));
    }

    #[test]
    fn a_request_host_loses_case_port_and_trailing_dot() {
        let shown = |host: &str| {
            RequestHost::new(host.as_bytes()).map(|host| String::from_utf8(host.as_bytes().to_vec()).expect("ASCII"))
        };
        for host in
            ["api.example.com", "API.example.COM", "api.example.com:8080", "api.example.com.", "api.example.com.:1"]
        {
            assert_eq!(shown(host).as_deref(), Some("api.example.com"), "{host}");
        }
        assert_eq!(shown("[2001:DB8::1]:80").as_deref(), Some("[2001:db8::1]"));
        assert_eq!(shown(""), None);
        assert_eq!(shown("."), None);
        assert_eq!(shown(":80"), None);
        assert_eq!(shown("[::1"), None);
        assert_eq!(shown(&"a".repeat(254)), None);
    }
}
