//! Validators (RFC 9111 section 4.3): a client's conditions held against a stored response, ours sent to its origin, and what
//! a 304 changes of what is stored.

use std::time::Duration;

use super::freshness::date;
use crate::clock;
use crate::handler::{Tag, Tags};
use crate::http::{Fields, RequestHead};

/// Whether a client has the stored response already, by its `If-None-Match` or else its `If-Modified-Since` (RFC 9111
/// section 4.3.2, RFC 9110 section 13.2.2).
pub(super) fn is_not_modified(request: &RequestHead<'_>, stored: &Fields) -> bool {
    if request.header("if-none-match").is_some() {
        let own = stored.get("etag").map(opaque);
        let is_own = |tag: Tag<'_>| Some(tag.opaque()) == own;
        return request.header_values("if-none-match").any(|value| value == b"*" || Tags::new(value).any(is_own));
    }
    let Some(since) = request.header("if-modified-since").and_then(parse) else { return false };
    // Without a date of its own it is as old as its message.
    let modified = date(stored, "last-modified").or_else(|| date(stored, "date"));
    modified.is_some_and(|modified| modified <= since)
}

/// Whether the client's `Range` is to be looked at: there is no `If-Range`, or it names this very response (RFC 9110
/// section 13.1.5).
pub(super) fn range_applies(request: &RequestHead<'_>, stored: &Fields) -> bool {
    let mut conditions = request.header_values("if-range");
    match (conditions.next(), conditions.next()) {
        (None, _) => true,
        (Some(tag), None) if tag.starts_with(b"\"") => stored.get("etag") == Some(tag),
        (Some(value), None) => {
            is_strong_date(stored) && parse(value).is_some_and(|date| Some(date) == modified(stored))
        }
        (Some(_), Some(_)) => false,
    }
}

fn modified(stored: &Fields) -> Option<Duration> {
    date(stored, "last-modified")
}

/// Section 8.8.2.2 of RFC 9110: when the response was made the second was over in which it was changed last.
fn is_strong_date(stored: &Fields) -> bool {
    match (modified(stored), date(stored, "date")) {
        (Some(modified), Some(made)) => made.saturating_sub(modified) >= Duration::from_secs(1),
        _ => false,
    }
}

fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

fn parse(value: &[u8]) -> Option<Duration> {
    clock::parse_date(str::from_utf8(value).ok()?)
}

/// The fields of a stored response after a 304 with these (RFC 9111 sections 3.2 and 4.3.4). `None`: the 304 speaks of
/// another response, so that it says nothing of this one.
pub(super) fn freshen(stored: &Fields, update: &Fields) -> Option<Fields> {
    if let (Some(own), Some(told)) = (stored.get("etag"), update.get("etag"))
        && opaque(own) != opaque(told)
    {
        return None;
    }
    let mut fresh = stored.clone();
    let is_taken = |name: &str| !KEPT.iter().any(|kept| name.eq_ignore_ascii_case(kept));
    for (name, _) in update.iter().filter(|(name, _)| is_taken(name)) {
        fresh.remove(name);
    }
    // It came with the response that is validated, and says how old that was.
    fresh.remove("age");
    for (name, value) in update.iter().filter(|(name, _)| is_taken(name)) {
        fresh.push_parsed(name.as_bytes(), value).ok()?;
    }
    Some(fresh)
}

/// What belongs to the stored body, so that a message without one does not change it.
const KEPT: [&str; 5] = ["content-encoding", "content-length", "content-md5", "content-range", "etag"];

/// The fields of a 304 that is made of a stored response (RFC 9110 section 15.4.5): all but those of the body.
pub(super) fn strip_body_fields(fields: &mut Fields) {
    for name in ["content-encoding", "content-language", "content-md5", "content-range", "content-type"] {
        fields.remove(name);
    }
}

/// Takes away what is not kept (RFC 9111 section 3.1). What concerns the connection was never among the fields.
pub(super) fn strip_unstored(fields: &mut Fields) {
    for name in ["proxy-authenticate", "proxy-authentication-info", "proxy-authorization", "proxy-connection", "te"] {
        fields.remove(name);
    }
}

/// Whether the answer to HEAD speaks of the same representation as what is stored (section 4.3.5).
pub(super) fn is_same(stored: &Fields, told: &Fields) -> bool {
    ["etag", "last-modified"].iter().all(|name| {
        let (own, told) = (stored.get(name), told.get(name));
        told.is_none() || own == told
    }) && told.values("content-encoding").eq(stored.values("content-encoding"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Head, HeadLimits, Parse, parse_head};

    fn with<T>(lines: &str, look: impl FnOnce(&RequestHead<'_>) -> T) -> T {
        let raw = format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let mut head = Head::new();
        assert_eq!(parse_head(raw.as_bytes(), &HeadLimits::default(), &mut head), Ok(Parse::Complete), "{raw}");
        look(&head.view(raw.as_bytes()))
    }

    fn fields(list: &[(&str, &str)]) -> Fields {
        let mut fields = Fields::new();
        list.iter().for_each(|(name, value)| fields.push_parsed(name.as_bytes(), value.as_bytes()).unwrap());
        fields
    }

    const OLD: &str = "Wed, 01 Jan 2020 00:00:00 GMT";
    const NEW: &str = "Thu, 02 Jan 2020 00:00:00 GMT";

    #[test]
    fn conditions_are_held_against_what_is_stored() {
        let stored = fields(&[("ETag", "W/\"a\""), ("Last-Modified", OLD)]);
        for (request, expected) in [
            ("If-None-Match: \"a\"\r\n".to_owned(), true),
            ("If-None-Match: \"x\", W/\"a\"\r\n".to_owned(), true),
            ("If-None-Match: *\r\n".to_owned(), true),
            ("If-None-Match: \"b\"\r\n".to_owned(), false),
            ("If-None-Match: a\r\n".to_owned(), false),
            (format!("If-None-Match: \"b\"\r\nIf-Modified-Since: {NEW}\r\n"), false),
            (format!("If-Modified-Since: {OLD}\r\n"), true),
            (format!("If-Modified-Since: {NEW}\r\n"), true),
            ("If-Modified-Since: Tue, 31 Dec 2019 00:00:00 GMT\r\n".to_owned(), false),
            ("If-Modified-Since: yesterday\r\n".to_owned(), false),
            (String::new(), false),
        ] {
            assert_eq!(with(&request, |head| is_not_modified(head, &stored)), expected, "{request}");
        }
    }

    #[test]
    fn a_range_counts_where_its_condition_names_this_response_strongly() {
        let strong = fields(&[("ETag", "\"a\""), ("Last-Modified", OLD), ("Date", NEW)]);
        for (request, expected) in [
            (String::new(), true),
            ("If-Range: \"a\"\r\n".to_owned(), true),
            ("If-Range: W/\"a\"\r\n".to_owned(), false),
            ("If-Range: \"b\"\r\n".to_owned(), false),
            (format!("If-Range: {OLD}\r\n"), true),
            (format!("If-Range: {NEW}\r\n"), false),
            ("If-Range: \"a\"\r\nIf-Range: \"a\"\r\n".to_owned(), false),
        ] {
            assert_eq!(with(&request, |head| range_applies(head, &strong)), expected, "{request}");
        }
        let weak = fields(&[("Last-Modified", NEW), ("Date", NEW)]);
        assert!(!with(&format!("If-Range: {NEW}\r\n"), |head| range_applies(head, &weak)));
    }

    #[test]
    fn a_304_replaces_what_it_names_and_leaves_what_belongs_to_the_body() {
        let stored = fields(&[
            ("ETag", "\"a\""),
            ("X", "1"),
            ("x", "2"),
            ("Y", "1"),
            ("Content-Encoding", "gzip"),
            ("Age", "5"),
        ]);
        let update = fields(&[("etag", "W/\"a\""), ("X", "3"), ("Content-Encoding", "br"), ("Z", "1")]);
        let fresh = freshen(&stored, &update).unwrap();
        let expected = fields(&[("ETag", "\"a\""), ("Y", "1"), ("Content-Encoding", "gzip"), ("X", "3"), ("Z", "1")]);
        assert_eq!(fresh, expected);
        assert_eq!(freshen(&stored, &fields(&[("ETag", "\"b\"")])), None);
    }
}
