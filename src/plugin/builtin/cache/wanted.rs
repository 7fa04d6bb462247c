//! What a request asks of a cache, and whether a stored response serves it (RFC 9111 sections 4, 4.2.4 and 5.2.1).

use super::directives::{Directives, Flag, Seconds};
use super::freshness::{Freshness, Stale};
use crate::http::{BodyFraming, Method, RequestHead};

/// How a request concerns the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Concern {
    /// GET or HEAD of a resource: it may be answered from the store.
    Lookup,
    /// It changes something: what is stored of its target may be wrong after it (section 4.4).
    Changes,
    /// Neither: it is passed through.
    None,
}

/// Fields of a request that a cache heeds; by bit.
const RANGE: u8 = 1;
const CONDITIONS: u8 = 2;
/// Conditions that a cache does not answer itself: they are about the origin's state.
const STRICT_CONDITIONS: u8 = 4;
const AUTHORIZATION: u8 = 8;

/// What a request asks of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) concern: Concern,
    pub(super) is_head: bool,
    directives: Directives,
    has: u8,
}

/// Whether the client has fields of its own kept from the origin by naming them in `Connection`: what the origin answers
/// without them must not be stored as what it answers with them.
fn hides_fields(head: &RequestHead<'_>) -> bool {
    let own = ["close", "keep-alive", "te", "upgrade"];
    head.connection_options().any(|option| !own.iter().any(|own| option.eq_ignore_ascii_case(own.as_bytes())))
}

impl Wanted {
    /// Looks at a head. `heeds`: clients may say how fresh they want it.
    pub(super) fn of(head: &RequestHead<'_>, heeds: bool) -> Self {
        let concern = match head.method() {
            Method::Get | Method::Head
                if head.framing() == BodyFraming::None && !head.head().upgrade && !hides_fields(head) =>
            {
                Concern::Lookup
            }
            Method::Get | Method::Head | Method::Options | Method::Trace | Method::Connect => Concern::None,
            _ => Concern::Changes,
        };
        let mut wanted =
            Self { concern, is_head: head.method() == Method::Head, directives: Directives::default(), has: 0 };
        let mut has_directives = false;
        for (name, _) in head.headers() {
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            wanted.has |= match name.len() {
                5 if is("range") => RANGE,
                8 if is("if-match") => STRICT_CONDITIONS,
                13 if is("if-none-match") => CONDITIONS,
                13 if is("authorization") => AUTHORIZATION,
                13 => {
                    has_directives |= is("cache-control");
                    0
                }
                17 if is("if-modified-since") => CONDITIONS,
                19 if is("if-unmodified-since") => STRICT_CONDITIONS,
                _ => 0,
            };
        }
        if has_directives && heeds {
            wanted.directives = Directives::parse(head.header_values("cache-control"));
        }
        wanted
    }

    pub(super) fn has_range(&self) -> bool {
        self.has & RANGE != 0
    }

    /// `If-None-Match` or `If-Modified-Since`.
    pub(super) fn has_conditions(&self) -> bool {
        self.has & CONDITIONS != 0
    }

    /// `If-Match` or `If-Unmodified-Since`: the origin alone can say.
    pub(super) fn has_strict_conditions(&self) -> bool {
        self.has & STRICT_CONDITIONS != 0
    }

    pub(super) fn is_authorized(&self) -> bool {
        self.has & AUTHORIZATION != 0
    }

    pub(super) fn no_store(&self) -> bool {
        self.directives.has(Flag::NoStore)
    }

    pub(super) fn only_if_cached(&self) -> bool {
        self.directives.has(Flag::OnlyIfCached)
    }

    /// Whether it wants an answer that is newer than itself, so that it must not wait for somebody else's.
    pub(super) fn wants_new(&self) -> bool {
        self.directives.has(Flag::NoCache) || self.directives.get(Seconds::MaxAge) == Some(0)
    }

    /// Whether a stored response of this age serves the request.
    pub(super) fn serve(&self, stored: &Freshness, age: u32) -> Serve {
        if self.directives.has(Flag::NoCache) {
            return Serve::Not(Why::Request);
        }
        if stored.stale == Stale::AlwaysValidate {
            return Serve::Not(Why::Stale);
        }
        let left = stored.time_to_live(age);
        if self.directives.is_empty() {
            return match left > 0 {
                true => Serve::Fresh,
                false => self.serve_stale(stored, left),
            };
        }
        if self.directives.get(Seconds::MaxAge).is_some_and(|most| age > most || most == 0)
            || left > 0 && left < i64::from(self.directives.get(Seconds::MinFresh).unwrap_or(0))
        {
            return Serve::Not(Why::Request);
        }
        match left > 0 {
            true => Serve::Fresh,
            false => self.serve_stale(stored, left),
        }
    }

    fn serve_stale(&self, stored: &Freshness, left: i64) -> Serve {
        // What the client asks for may not be stale, where it says how long it has to be fresh.
        if stored.stale != Stale::Allowed || self.directives.get(Seconds::MinFresh).is_some_and(|fresh| fresh > 0) {
            return Serve::Not(Why::Stale);
        }
        let most = self.directives.get(Seconds::MaxStale).map(i64::from);
        if self.directives.has(Flag::AnyStale) || most.is_some_and(|most| -left <= most && most > 0) {
            return Serve::Stale;
        }
        if -left < i64::from(stored.while_revalidate) {
            return Serve::WhileRevalidate;
        }
        Serve::Not(Why::Stale)
    }
}

/// Whether a stored response serves a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Serve {
    /// It does.
    Fresh,
    /// It is not fresh, and the client does not mind.
    Stale,
    /// It is not fresh, and may be sent while a new one is fetched.
    WhileRevalidate,
    /// Not before its origin says so.
    Not(Why),
}

/// Why a stored response is validated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The client wants it so.
    Request,
    /// It is not fresh.
    Stale,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Head, HeadLimits, Parse, parse_head};

    fn with<T>(lines: &str, look: impl FnOnce(&RequestHead<'_>) -> T) -> T {
        let raw = format!("{lines}\r\n");
        let mut head = Head::new();
        assert_eq!(parse_head(raw.as_bytes(), &HeadLimits::default(), &mut head), Ok(Parse::Complete), "{raw}");
        look(&head.view(raw.as_bytes()))
    }

    fn wanted(control: &str) -> Wanted {
        with(&format!("GET / HTTP/1.1\r\nHost: a\r\nCache-Control: {control}\r\n"), |head| Wanted::of(head, true))
    }

    fn fresh_for(lifetime: u32) -> Freshness {
        Freshness { initial_age: 0, lifetime, stale: Stale::Allowed, while_revalidate: 10, if_error: 0 }
    }

    #[test]
    fn a_response_serves_while_it_is_fresh_and_then_as_long_as_somebody_allows() {
        let any = wanted("x");
        assert_eq!(any.serve(&fresh_for(10), 9), Serve::Fresh);
        assert_eq!(any.serve(&fresh_for(10), 10), Serve::WhileRevalidate);
        assert_eq!(any.serve(&fresh_for(10), 19), Serve::WhileRevalidate);
        assert_eq!(any.serve(&fresh_for(10), 20), Serve::Not(Why::Stale));
        for stale in [Stale::Forbidden, Stale::AlwaysValidate] {
            let stored = Freshness { stale, ..fresh_for(10) };
            assert_eq!(any.serve(&stored, 10), Serve::Not(Why::Stale));
            assert_eq!(wanted("max-stale").serve(&stored, 10), Serve::Not(Why::Stale));
            let expected = if stale == Stale::Forbidden { Serve::Fresh } else { Serve::Not(Why::Stale) };
            assert_eq!(any.serve(&stored, 1), expected);
        }
    }

    #[test]
    fn clients_may_ask_for_more_and_for_less() {
        let stored = fresh_for(100);
        for (control, age, expected) in [
            ("no-cache", 0, Serve::Not(Why::Request)),
            ("max-age=0", 0, Serve::Not(Why::Request)),
            ("max-age=50", 50, Serve::Fresh),
            ("max-age=50", 51, Serve::Not(Why::Request)),
            ("min-fresh=10", 90, Serve::Fresh),
            ("min-fresh=11", 90, Serve::Not(Why::Request)),
            ("min-fresh=11", 100, Serve::Not(Why::Stale)),
            ("max-stale=20", 120, Serve::Stale),
            ("max-stale=20", 121, Serve::Not(Why::Stale)),
            ("max-stale", 100_000, Serve::Stale),
            ("max-stale=20, max-age=100", 110, Serve::Not(Why::Request)),
        ] {
            assert_eq!(wanted(control).serve(&stored, age), expected, "{control} at {age}");
        }
        let deaf = with("GET / HTTP/1.1\r\nHost: a\r\nCache-Control: no-cache\r\n", |head| Wanted::of(head, false));
        assert_eq!(deaf.serve(&stored, 0), Serve::Fresh);
    }

    #[test]
    fn the_deprecated_pragma_is_ignored() {
        let old = with("GET / HTTP/1.1\r\nHost: a\r\nPragma: no-cache\r\n", |head| Wanted::of(head, true));
        assert_eq!(old.serve(&fresh_for(10), 0), Serve::Fresh);
    }

    #[test]
    fn methods_and_bodies_say_how_the_cache_is_concerned() {
        for (request, expected) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n", Concern::Lookup),
            ("HEAD / HTTP/1.1\r\nHost: a\r\n", Concern::Lookup),
            ("GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n", Concern::None),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n", Concern::None),
            ("OPTIONS / HTTP/1.1\r\nHost: a\r\n", Concern::None),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: Keep-Alive, TE\r\n", Concern::Lookup),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: close, X-Lang\r\nX-Lang: de\r\n", Concern::None),
            ("GET / HTTP/1.1\r\nHost: a\r\nconnection: close\r\nConnection: Authorization\r\n", Concern::None),
            ("TRACE / HTTP/1.1\r\nHost: a\r\n", Concern::None),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n", Concern::Changes),
            ("PUT / HTTP/1.1\r\nHost: a\r\n", Concern::Changes),
            ("DELETE / HTTP/1.1\r\nHost: a\r\n", Concern::Changes),
            ("PATCH / HTTP/1.1\r\nHost: a\r\n", Concern::Changes),
            ("M-SEARCH / HTTP/1.1\r\nHost: a\r\n", Concern::Changes),
        ] {
            assert_eq!(with(request, |head| Wanted::of(head, true).concern), expected, "{request}");
        }
    }

    #[test]
    fn fields_that_matter_are_found_in_any_case() {
        let head = "GET / HTTP/1.1\r\nhost: a\r\nRANGE: bytes=0-1\r\nif-None-match: \"a\"\r\nAUTHORIZATION: x\r\n\
                    If-Unmodified-Since: x\r\ncache-CONTROL: only-if-cached, no-store\r\n";
        let wanted = with(head, |head| Wanted::of(head, true));
        assert!(wanted.has_range() && wanted.has_conditions() && wanted.is_authorized());
        assert!(wanted.has_strict_conditions() && wanted.only_if_cached() && wanted.no_store());
    }
}
