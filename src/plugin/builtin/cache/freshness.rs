//! Which responses are stored, and for how long they are fresh (RFC 9111 sections 3 and 4.2): functions of heads and times.

use std::time::Duration;

use super::directives::{Directives, Flag, Seconds, parse_delta};
use crate::clock;
use crate::http::head::list_members;
use crate::http::{Fields, Status};
use crate::limits::CACHE_SECONDS_MAX;

/// What the operator decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rules {
    /// Percent of its age at which a document without a lifetime is taken for fresh; zero: never.
    pub(super) heuristic_percent: u32,
    /// And at most so many seconds.
    pub(super) heuristic_max: u32,
    /// Seconds of `stale-while-revalidate` where the response does not say.
    pub(super) stale_while_revalidate: u32,
    /// Seconds of `stale-if-error` where the response does not say.
    pub(super) stale_if_error: u32,
    /// Responses with `Set-Cookie`.
    pub(super) cookies: Cookies,
}

/// What becomes of responses that set cookies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cookies {
    /// They are not stored.
    Refuse,
    /// They are, cookies and all.
    Store,
}

/// What counts of the request that a response answers, which is GET.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// It has `Authorization`, or a plugin knows who the client is.
    pub(super) is_authorized: bool,
    /// `Cache-Control: no-store`.
    pub(super) no_store: bool,
}

/// When a response came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Times {
    /// Since the Unix epoch.
    pub(super) received: Duration,
    /// Between the request and that.
    pub(super) delay: Duration,
}

/// How a stored response may be used. All in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Freshness {
    /// How old it was when it came (section 4.2.3).
    pub(super) initial_age: u32,
    /// How long it is fresh (section 4.2.1).
    pub(super) lifetime: u32,
    pub(super) stale: Stale,
    /// How long after that it may be sent while it is validated (RFC 5861 section 3).
    pub(super) while_revalidate: u32,
    /// How long after that it may be sent instead of an error (RFC 5861 section 4).
    pub(super) if_error: u32,
}

/// Whether it may be sent when it is not fresh (section 4.2.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stale {
    /// Where somebody allows it.
    Allowed,
    /// `must-revalidate` or its kin.
    Forbidden,
    /// `no-cache`: not even when it is fresh.
    AlwaysValidate,
}

/// Why a response is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// `no-store` of the request or of the response.
    NoStore,
    Private,
    Authorization,
    /// Its status means something that is not understood, or a part, or nothing without another.
    Status,
    Cookies,
    /// It differs by what is not known ahead: `Vary: *`.
    Vary,
    /// It could never be used: stale from the start, and with nothing to validate it by.
    Useless,
}

/// Decides whether a final response to a GET is stored, and how it may be used then.
pub(super) fn judge(
    asked: Asked,
    status: Status,
    fields: &Fields,
    times: Times,
    rules: &Rules,
) -> Result<Freshness, Refusal> {
    let directives = Directives::parse(fields.values("cache-control"));
    // Section 5.2.2.3: whoever understands the status may leave `no-store` out of account; we do not.
    if asked.no_store || directives.has(Flag::NoStore) {
        return Err(Refusal::NoStore);
    }
    if directives.has(Flag::Private) {
        return Err(Refusal::Private);
    }
    if matches!(status.code(), 0..200 | 206 | 304) || directives.has(Flag::MustUnderstand) && !is_understood(status) {
        return Err(Refusal::Status);
    }
    let is_shared = [Flag::Public, Flag::MustRevalidate].iter().any(|flag| directives.has(*flag))
        || directives.get(Seconds::SMaxAge).is_some();
    if asked.is_authorized && !is_shared {
        return Err(Refusal::Authorization);
    }
    if rules.cookies == Cookies::Refuse && fields.contains("set-cookie") {
        return Err(Refusal::Cookies);
    }
    if fields.values("vary").flat_map(list_members).any(|name| name == b"*") {
        return Err(Refusal::Vary);
    }
    let freshness = Freshness {
        initial_age: initial_age(fields, times),
        lifetime: lifetime(status, fields, &directives, times, rules).ok_or(Refusal::Useless)?,
        stale: staleness(&directives),
        while_revalidate: directives.get(Seconds::StaleWhileRevalidate).unwrap_or(rules.stale_while_revalidate),
        if_error: directives.get(Seconds::StaleIfError).unwrap_or(rules.stale_if_error),
    };
    let has_validator = fields.contains("etag") || fields.contains("last-modified");
    let is_usable = match freshness.stale {
        Stale::AlwaysValidate => false,
        Stale::Forbidden => freshness.lifetime > freshness.initial_age,
        Stale::Allowed => freshness.usable_for() > freshness.initial_age,
    };
    if is_usable || has_validator { Ok(freshness) } else { Err(Refusal::Useless) }
}

impl Freshness {
    /// Seconds of age to which it can be of use without an answer of its origin.
    fn usable_for(&self) -> u32 {
        self.lifetime.saturating_add(self.while_revalidate.max(self.if_error))
    }

    /// Whether it serves any request before its origin is asked again.
    pub(super) fn serves_unasked(&self) -> bool {
        self.stale != Stale::AlwaysValidate && self.lifetime > self.initial_age
    }

    /// Its age (section 4.2.3), when it has been here for so long.
    pub(super) fn age(&self, resident: Duration) -> u32 {
        let resident = u32::try_from(resident.as_secs()).unwrap_or(CACHE_SECONDS_MAX);
        self.initial_age.saturating_add(resident).min(CACHE_SECONDS_MAX)
    }

    /// Seconds for which it is fresh still; below zero, since when it is not.
    pub(super) fn time_to_live(&self, age: u32) -> i64 {
        i64::from(self.lifetime) - i64::from(age)
    }

    /// Whether it may be sent instead of an error at this age.
    pub(super) fn serves_error(&self, age: u32) -> bool {
        self.stale == Stale::Allowed && age < self.lifetime.saturating_add(self.if_error)
    }
}

fn staleness(directives: &Directives) -> Stale {
    // `s-maxage` has the meaning of `proxy-revalidate` (section 5.2.2.10).
    let forbids = directives.has(Flag::MustRevalidate)
        || directives.has(Flag::ProxyRevalidate)
        || directives.get(Seconds::SMaxAge).is_some();
    match (directives.has(Flag::NoCache), forbids) {
        (true, _) => Stale::AlwaysValidate,
        (false, true) => Stale::Forbidden,
        (false, false) => Stale::Allowed,
    }
}

/// Those that RFC 9110 defines, and that mean nothing special to a cache.
fn is_understood(status: Status) -> bool {
    matches!(status.code(), 200 | 203 | 204 | 300..=303 | 307 | 308 | 400..=417 | 421 | 422 | 426 | 500..=505)
}

/// Those that may be stored without being told so (RFC 9110 section 15.1).
fn is_heuristically_cacheable(status: Status) -> bool {
    matches!(status.code(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// Seconds for which it is fresh; `None`: nothing says that it may be stored (sections 3 and 4.2.1).
fn lifetime(status: Status, fields: &Fields, directives: &Directives, times: Times, rules: &Rules) -> Option<u32> {
    if let Some(seconds) = directives.get(Seconds::SMaxAge).or_else(|| directives.get(Seconds::MaxAge)) {
        return Some(seconds);
    }
    let date = date(fields, "date").unwrap_or(times.received);
    let mut expires = fields.values("expires");
    if let Some(first) = expires.next() {
        // Section 5.3: what is no date has expired, above all `0`; so has what is given twice and not the same.
        let until = parse_date(first).filter(|_| expires.all(|other| other == first));
        return Some(until.map_or(0, |until| seconds(until.saturating_sub(date))));
    }
    if !is_heuristically_cacheable(status) && !directives.has(Flag::Public) {
        return directives.has(Flag::NoCache).then_some(0);
    }
    let modified = self::date(fields, "last-modified").map(|modified| seconds(date.saturating_sub(modified)));
    let share = modified.map_or(0, |age| u64::from(age) * u64::from(rules.heuristic_percent) / 100);
    Some(u32::try_from(share).unwrap_or(CACHE_SECONDS_MAX).min(rules.heuristic_max))
}

/// Section 4.2.3. Of several ages the first counts, and one that is none is ignored (section 5.1).
fn initial_age(fields: &Fields, times: Times) -> u32 {
    let apparent = date(fields, "date").map_or(0, |date| seconds(times.received.saturating_sub(date)));
    let first = fields.get("age").and_then(|value| value.split(|b| *b == b',').next());
    let age = first.and_then(|age| parse_delta(age.trim_ascii())).unwrap_or(0);
    apparent.max(age.saturating_add(seconds(times.delay))).min(CACHE_SECONDS_MAX)
}

fn seconds(span: Duration) -> u32 {
    u32::try_from(span.as_secs()).unwrap_or(CACHE_SECONDS_MAX).min(CACHE_SECONDS_MAX)
}

fn parse_date(value: &[u8]) -> Option<Duration> {
    clock::parse_date(str::from_utf8(value).ok()?)
}

/// The date in the first field of a name.
pub(super) fn date(fields: &Fields, name: &str) -> Option<Duration> {
    parse_date(fields.get(name)?)
}

#[cfg(test)]
mod tests;
