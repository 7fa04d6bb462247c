//! Content codings, and which of them a client prefers (RFC 9110 section 12.5.3): for files that have compressed siblings,
//! and for plugins that compress.

use smallvec::SmallVec;

use crate::http::head::list_members;

/// A content coding that the server knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coding {
    /// `br`, in `.br` files (RFC 7932).
    Brotli,
    /// `zstd`, in `.zst` files (RFC 8878).
    Zstd,
    /// `gzip`, in `.gz` files (RFC 1952).
    Gzip,
}

impl Coding {
    /// Every coding, the one that compresses best first.
    pub const ALL: [Coding; 3] = [Coding::Brotli, Coding::Zstd, Coding::Gzip];

    /// The name in `Content-Encoding`, and in configs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// The coding of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|coding| coding.name() == name)
    }

    /// What a sibling's name has behind its original's.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Brotli => ".br",
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
        }
    }
}

/// Whether a file may be sent as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// It may.
    Accepted,
    /// The client takes another coding or nothing.
    Refused,
}

/// What a client takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preference {
    /// What it likes at least as well as the file as it is, best first.
    pub codings: SmallVec<[Coding; Coding::ALL.len()]>,
    /// Whether it takes the file as it is.
    pub identity: Identity,
}

/// What the request's `Accept-Encoding` fields say of the codings `allowed`, whose order decides between equals.
///
/// Without the field anything goes (section 12.5.3, rule 1), and the file as it is goes down best. A malformed member is
/// left out; of a name that comes twice the last counts.
pub fn negotiate<'a>(values: impl Iterator<Item = &'a [u8]>, allowed: &[Coding]) -> Preference {
    let mut weights: [Option<u16>; Coding::ALL.len()] = [None; Coding::ALL.len()];
    let (mut identity, mut any) = (None, None);
    for member in values.flat_map(list_members) {
        let Some((name, weight)) = parse_member(member) else { continue };
        if name == b"*" {
            any = Some(weight);
        } else if name.eq_ignore_ascii_case(b"identity") {
            identity = Some(weight);
        } else if let Some(coding) = coding_of(name) {
            weights[coding as usize] = Some(weight);
        }
    }
    let identity = identity.or(any);
    let mut codings = SmallVec::new();
    for &coding in allowed {
        let weight = weights[coding as usize].or(any).unwrap_or(0);
        // What is not listed weighs nothing of its own: a listed coding is liked better than an unlisted identity.
        if weight > 0 && weight >= identity.unwrap_or(0) && !codings.contains(&(weight, coding)) {
            codings.push((weight, coding));
        }
    }
    let mut codings: SmallVec<[(u16, Coding); Coding::ALL.len()]> = codings;
    codings.sort_by_key(|&(weight, _)| std::cmp::Reverse(weight));
    Preference {
        codings: codings.into_iter().map(|(_, coding)| coding).collect(),
        identity: if identity == Some(0) { Identity::Refused } else { Identity::Accepted },
    }
}

/// The coding of this name in a field, in any case.
pub fn coding_of(name: &[u8]) -> Option<Coding> {
    // RFC 9110 section 8.4.1.3: `x-gzip` is the same.
    let name = if name.eq_ignore_ascii_case(b"x-gzip") { b"gzip" } else { name };
    Coding::ALL.into_iter().find(|coding| name.eq_ignore_ascii_case(coding.name().as_bytes()))
}

/// A member's name and its weight in thousandths.
fn parse_member(member: &[u8]) -> Option<(&[u8], u16)> {
    let mut parts = member.split(|&b| b == b';').map(<[u8]>::trim_ascii);
    let name = parts.next()?;
    let weight = match parts.next() {
        None => 1000,
        Some([b'q' | b'Q', b'=', value @ ..]) => parse_weight(value)?,
        Some(_) => return None,
    };
    (!name.is_empty() && parts.next().is_none()).then_some((name, weight))
}

/// `qvalue` (RFC 9110 section 12.4.2): `0` or `1` with up to three decimals, at most 1.
fn parse_weight(value: &[u8]) -> Option<u16> {
    let (whole, decimals) = match value {
        [whole @ (b'0' | b'1')] => (whole, &b""[..]),
        [whole @ (b'0' | b'1'), b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return None,
    };
    let mut weight = u16::from(whole - b'0') * 1000;
    for (&digit, unit) in decimals.iter().zip([100, 10, 1]) {
        weight += char::from(digit).to_digit(10)? as u16 * unit;
    }
    (weight <= 1000).then_some(weight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(values: &[&str], codings: &[Coding], identity: Identity) {
        let preference = negotiate(values.iter().map(|value| value.as_bytes()), &Coding::ALL);
        assert_eq!((preference.codings.as_slice(), preference.identity), (codings, identity), "{values:?}");
    }

    use Coding::{Brotli, Gzip, Zstd};
    use Identity::{Accepted, Refused};

    #[test]
    fn the_examples_of_the_rfc_hold() {
        // RFC 9110 section 12.5.3.
        check(&["compress, gzip"], &[Gzip], Accepted);
        check(&[""], &[], Accepted);
        check(&["*"], &[Brotli, Zstd, Gzip], Accepted);
        check(&["compress;q=0.5, gzip;q=1.0"], &[Gzip], Accepted);
        check(&["gzip;q=1.0, identity; q=0.5, *;q=0"], &[Gzip], Accepted);
        check(&[], &[], Accepted);
    }

    #[test]
    fn weights_decide_then_the_operators_order() {
        check(&["gzip, deflate, br, zstd"], &[Brotli, Zstd, Gzip], Accepted);
        check(&["gzip;q=0.9, br;q=0.8, zstd;q=0.85"], &[Gzip, Zstd, Brotli], Accepted);
        check(&["gzip;q=0.001"], &[Gzip], Accepted);
        check(&["gzip", "br;q=0.5"], &[Gzip, Brotli], Accepted);
        check(&["br;q=0, *"], &[Zstd, Gzip], Accepted);
        let preference = negotiate([&b"br, gzip"[..]].into_iter(), &[Gzip, Brotli, Gzip]);
        assert_eq!(preference.codings.as_slice(), [Gzip, Brotli]);
        assert!(negotiate([&b"br"[..]].into_iter(), &[Gzip]).codings.is_empty());
    }

    #[test]
    fn identity_counts_like_a_coding() {
        check(&["identity, gzip;q=0.5"], &[], Accepted);
        check(&["identity;q=0.5, gzip;q=0.5, br;q=0.1"], &[Gzip], Accepted);
        check(&["*;q=0.5, gzip;q=0.1"], &[Brotli, Zstd], Accepted);
        check(&["identity;q=0"], &[], Refused);
        check(&["*;q=0"], &[], Refused);
        check(&["gzip, *;q=0"], &[Gzip], Refused);
        check(&["identity;q=0, *"], &[Brotli, Zstd, Gzip], Refused);
        check(&["identity;q=0, gzip;q=0.2"], &[Gzip], Refused);
    }

    #[test]
    fn names_are_compared_in_any_case_and_malformed_members_left_out() {
        check(&["GZip , BR;Q=0.5"], &[Gzip, Brotli], Accepted);
        check(&["x-gzip"], &[Gzip], Accepted);
        for malformed in ["gzip;q=1.1", "gzip;q=.5", "gzip;q=0.1234", "gzip;q=", "gzip;q=-1", "gzip;level=1", ";q=1"] {
            check(&[malformed], &[], Accepted);
        }
        check(&["gzip;q=0.x, br"], &[Brotli], Accepted);
        check(&["gzip;q=1.000, ,, br;q=0.000"], &[Gzip], Accepted);
    }
}
