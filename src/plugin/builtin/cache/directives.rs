//! `Cache-Control` (RFC 9111 section 5.2), of requests and of responses.

use crate::limits::CACHE_SECONDS_MAX;

/// A directive without an argument, or whose argument is of no account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flag {
    NoStore,
    /// Also with names of fields: then the whole response is treated so (section 5.2.2.4 leaves the choice).
    NoCache,
    /// Also with names of fields (section 5.2.2.7).
    Private,
    Public,
    MustRevalidate,
    ProxyRevalidate,
    MustUnderstand,
    OnlyIfCached,
    /// `max-stale` without an argument: however stale.
    AnyStale,
}

/// A directive with a number of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seconds {
    MaxAge,
    SMaxAge,
    StaleWhileRevalidate,
    StaleIfError,
    MaxStale,
    MinFresh,
}

const FLAGS: [(&str, Flag); 8] = [
    ("no-store", Flag::NoStore),
    ("no-cache", Flag::NoCache),
    ("private", Flag::Private),
    ("public", Flag::Public),
    ("must-revalidate", Flag::MustRevalidate),
    ("proxy-revalidate", Flag::ProxyRevalidate),
    ("must-understand", Flag::MustUnderstand),
    ("only-if-cached", Flag::OnlyIfCached),
];

const SECONDS: [(&str, Seconds); 6] = [
    ("max-age", Seconds::MaxAge),
    ("s-maxage", Seconds::SMaxAge),
    ("stale-while-revalidate", Seconds::StaleWhileRevalidate),
    ("stale-if-error", Seconds::StaleIfError),
    ("max-stale", Seconds::MaxStale),
    ("min-fresh", Seconds::MinFresh),
];

/// The directives of all `Cache-Control` fields of a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Directives {
    flags: u16,
    seconds: [Option<u32>; SECONDS.len()],
}

impl Directives {
    /// Out of the values of all fields of the name, in order.
    pub(super) fn parse<'v>(values: impl IntoIterator<Item = &'v [u8]>) -> Self {
        let mut directives = Self::default();
        values.into_iter().flat_map(members).for_each(|member| directives.add(member));
        directives
    }

    /// Whether there is none that is known.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn has(&self, flag: Flag) -> bool {
        self.flags & 1 << flag as u16 != 0
    }

    pub(super) fn get(&self, seconds: Seconds) -> Option<u32> {
        self.seconds[seconds as usize]
    }

    fn add(&mut self, member: &[u8]) {
        let end = memchr::memchr(b'=', member);
        let name = &member[..end.unwrap_or(member.len())];
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if let Some((_, flag)) = FLAGS.iter().find(|(known, _)| is(known)) {
            self.flags |= 1 << *flag as u16;
            return;
        }
        let Some((_, kind)) = SECONDS.iter().find(|(known, _)| is(known)) else { return };
        let argument = end.map(|end| &member[end + 1..]);
        if *kind == Seconds::MaxStale && argument.is_none() {
            self.flags |= 1 << Flag::AnyStale as u16;
            return;
        }
        // Section 4.2.1 would have a response be stale whose freshness is invalid, or given twice and not the same; of what a
        // client asks for, zero is the careful reading too, but for `min-fresh`, where it asks for nothing.
        let given = argument.and_then(parse_seconds).unwrap_or(0);
        let slot = &mut self.seconds[*kind as usize];
        *slot = Some(if slot.is_some_and(|before| before != given) { 0 } else { given });
    }
}

/// A number of seconds, in quotes or not (section 5.2): more than fits is as good as the largest (section 1.2.2).
fn parse_seconds(argument: &[u8]) -> Option<u32> {
    let digits = argument.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(argument);
    parse_delta(digits)
}

/// `delta-seconds` (section 1.2.2).
pub(super) fn parse_delta(digits: &[u8]) -> Option<u32> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u32, |number, &b| match b {
        b'0'..=b'9' => Some(number.saturating_mul(10).saturating_add(u32::from(b - b'0')).min(CACHE_SECONDS_MAX)),
        _ => None,
    })
}

/// The members of a list, whose arguments may be quoted and hold commas then.
fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = value;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let end = end_of_member(rest);
            let member = rest[..end].trim_ascii();
            rest = rest.get(end + 1..).unwrap_or_default();
            if !member.is_empty() {
                return Some(member);
            }
        }
        None
    })
}

fn end_of_member(list: &[u8]) -> usize {
    let mut is_quoted = false;
    let mut bytes = list.iter().enumerate();
    while let Some((at, b)) = bytes.next() {
        match b {
            b'"' => is_quoted = !is_quoted,
            b'\\' if is_quoted => {
                bytes.next();
            }
            b',' if !is_quoted => return at,
            _ => {}
        }
    }
    list.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> Directives {
        Directives::parse([value.as_bytes()])
    }

    fn max_age(value: &str) -> Option<u32> {
        of(value).get(Seconds::MaxAge)
    }

    #[test]
    fn directives_are_read_in_any_case_and_among_unknown_ones() {
        let both = of("Public, foo=\"a, no-store\", MAX-age=10 , s-maxage=\"20\",, no-cache=\"set-cookie, x\"");
        assert!(both.has(Flag::Public) && both.has(Flag::NoCache) && !both.has(Flag::NoStore));
        assert_eq!((both.get(Seconds::MaxAge), both.get(Seconds::SMaxAge)), (Some(10), Some(20)));
        assert!(of("").is_empty() && of("foo, bar=1").is_empty() && of(",,").is_empty());
        let lines = Directives::parse([&b"max-age=1"[..], b"private"]);
        assert!(lines.has(Flag::Private) && lines.get(Seconds::MaxAge) == Some(1));
    }

    #[test]
    fn what_stands_in_quotes_is_no_directive() {
        assert_eq!(max_age("extension=\"max-age=3600\", max-age=1"), Some(1));
        assert_eq!(max_age("max-age=\"1\", extension=\"max-age=3600\""), Some(1));
        assert_eq!(max_age("extension=\"a\\\", max-age=3600\""), None);
        assert_eq!(max_age("extension=\"max-age=3600"), None, "a quote that does not end");
    }

    #[test]
    fn invalid_seconds_and_differing_ones_are_none_at_all() {
        for value in
            ["max-age", "max-age=", "max-age=-1", "max-age='3600'", "max-age=3600a", "max-age=1.5", "max-age= 1"]
        {
            assert_eq!(max_age(value), Some(0), "{value}");
        }
        assert_eq!(max_age("max-age=3600, max-age=1800"), Some(0));
        assert_eq!(max_age("max-age=3600, max-age=3600"), Some(3600));
        assert_eq!(max_age("max-age=003600"), Some(3600));
        assert_eq!(max_age("max-age=99999999999999999999"), Some(CACHE_SECONDS_MAX));
        assert_eq!(max_age("xmax-age=1, max-age =1"), None);
    }

    #[test]
    fn max_stale_may_have_no_argument() {
        assert!(of("max-stale").has(Flag::AnyStale));
        assert_eq!(of("max-stale").get(Seconds::MaxStale), None);
        assert_eq!(of("max-stale=5").get(Seconds::MaxStale), Some(5));
    }

    proptest::proptest! {
        #[test]
        fn splitting_into_lines_changes_nothing(parts in proptest::collection::vec("(max-age=[0-9]{1,3}|no-store|x=\"[a-z, ]{0,5}\"|public)", 0..5)) {
            let joined = parts.join(",");
            let lines: Vec<_> = parts.iter().map(|part| part.as_bytes()).collect();
            assert_eq!(of(&joined), Directives::parse(lines));
        }

        #[test]
        fn no_value_breaks_the_parser(value in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..60)) {
            Directives::parse([value.as_slice()]);
        }
    }
}
