//! Where requests carry a credential, and how it is taken out of them.

use std::borrow::Cow;

use crate::handler::percent::form_bytes;
use crate::http::{FieldError, Fields, RequestHead};
use crate::plugin::{Mistake, PreHandler};

/// What `expected` says of a place.
const PLACE: &str = "one of \"bearer\", \"header:NAME\", \"cookie:NAME\" or \"query:NAME\"";

/// A place of a request where a credential may stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// `Authorization: Bearer` (RFC 6750 section 2.1).
    Bearer,
    /// All of a header field.
    Header(String),
    /// A cookie.
    Cookie(String),
    /// A field of the query.
    Query(String),
}

/// What a request carries at the places where it may carry a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Carried<'r> {
    /// Nothing at any.
    Nothing,
    /// This, at the first place that has something.
    One(Cow<'r, [u8]>),
    /// More than one thing at that place: who looks at it next could see the other one.
    Many,
}

impl Place {
    /// Those of the list that stands at `key` of a plugin's options.
    pub(super) fn read_list(key: &str, list: &[String], mistakes: &mut Vec<Mistake>) -> Vec<Self> {
        if list.is_empty() {
            mistakes.push(Mistake::at(key, format!("a list of at least one place: {PLACE}"), "an empty list"));
        }
        let mut places = Vec::new();
        for (index, text) in list.iter().enumerate() {
            match Self::read(text) {
                Some(place) => places.push(place),
                None => mistakes.push(Mistake::at_index(key, index, PLACE, format!("{text:?}"))),
            }
        }
        places
    }

    fn read(text: &str) -> Option<Self> {
        let is_token = |name: &str| !matches!(Fields::new().push(name, ""), Err(FieldError::Name));
        match text.split_once(':') {
            None if text == "bearer" => Some(Self::Bearer),
            Some(("header", name)) if super::headers::is_request_field(name) && is_token(name) => {
                Some(Self::Header(name.to_owned()))
            }
            Some(("cookie", name)) if is_token(name) => Some(Self::Cookie(name.to_owned())),
            Some(("query", name)) if !name.is_empty() => Some(Self::Query(name.to_owned())),
            _ => None,
        }
    }

    fn find<'r>(&self, head: &RequestHead<'r>) -> Carried<'r> {
        match self {
            Self::Bearer => match one(head.header_values("authorization").map(Cow::Borrowed)) {
                Carried::One(Cow::Borrowed(value)) => bearer_token(value).map_or(Carried::Nothing, borrowed),
                other => other,
            },
            Self::Header(name) => one(head.header_values(name).map(Cow::Borrowed)),
            // Browsers send several of one name where they were set for different paths, the closest first (RFC 6265
            // section 5.4).
            Self::Cookie(name) => head.cookie(name).map_or(Carried::Nothing, borrowed),
            Self::Query(name) => one(query_fields(head.query()).filter_map(|field| {
                let (own, value) = split_field(field);
                form_bytes(own).eq(name.bytes()).then(|| Cow::Owned(form_bytes(value).collect()))
            })),
        }
    }

    /// Takes everything away that stands at this place.
    pub(super) fn strip(&self, hook: &mut PreHandler<'_, '_>) -> Result<(), FieldError> {
        match self {
            Self::Bearer => hook.remove_header("Authorization"),
            Self::Header(name) => hook.remove_header(name),
            Self::Cookie(name) => {
                // Where the changed head cannot be had, what is behind the plugins refuses it.
                let Ok(request) = hook.request() else { return Ok(()) };
                match without_cookie(&request, name) {
                    None => Ok(()),
                    Some(rest) if rest.is_empty() => hook.remove_header("Cookie"),
                    Some(rest) => hook.set_header("Cookie", rest),
                }
            }
            Self::Query(name) => {
                let Ok(request) = hook.request() else { return Ok(()) };
                if let Some(rest) = without_query_field(request.query(), name) {
                    hook.set_query((!rest.is_empty()).then_some(&rest));
                }
                Ok(())
            }
        }
    }
}

/// What the request carries at the first of these places that has something.
pub(super) fn find<'r>(places: &[Place], head: &RequestHead<'r>) -> Carried<'r> {
    let found = places.iter().map(|place| place.find(head)).find(|found| *found != Carried::Nothing);
    found.unwrap_or(Carried::Nothing)
}

fn borrowed(value: &[u8]) -> Carried<'_> {
    Carried::One(Cow::Borrowed(value))
}

fn one<'r>(mut values: impl Iterator<Item = Cow<'r, [u8]>>) -> Carried<'r> {
    match (values.next(), values.next()) {
        (None, _) => Carried::Nothing,
        (Some(only), None) => Carried::One(only),
        (Some(_), Some(_)) => Carried::Many,
    }
}

/// What follows the scheme, where it is this one; its name is in any case (RFC 9110 section 11.1).
pub(super) fn of_scheme<'v>(value: &'v [u8], scheme: &str) -> Option<&'v [u8]> {
    let (own, rest) = value.split_at_checked(scheme.len())?;
    let is_apart = rest.first() == Some(&b' ');
    (own.eq_ignore_ascii_case(scheme.as_bytes()) && is_apart).then(|| rest.trim_ascii())
}

fn bearer_token(value: &[u8]) -> Option<&[u8]> {
    of_scheme(value, "Bearer")
}

fn query_fields(query: Option<&str>) -> impl Iterator<Item = &[u8]> {
    query.unwrap_or_default().as_bytes().split(|&b| b == b'&').filter(|field| !field.is_empty())
}

fn split_field(field: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(b'=', field);
    end.map_or((field, b""), |end| (&field[..end], &field[end + 1..]))
}

/// The query without the fields of this name; `None` where it has none.
fn without_query_field(query: Option<&str>, name: &str) -> Option<String> {
    let query = query?;
    let is_other = |field: &&str| !form_bytes(split_field(field.as_bytes()).0).eq(name.bytes());
    let kept: Vec<_> = query.split('&').filter(is_other).collect();
    (kept.len() != query.split('&').count()).then(|| kept.join("&"))
}

/// All cookies but those of this name, as one field; `None` where there is none.
fn without_cookie(head: &RequestHead<'_>, name: &str) -> Option<Vec<u8>> {
    head.cookie(name)?;
    let pairs = head.header_values("cookie").flat_map(|field| field.split(|&b| b == b';'));
    let is_other = |pair: &&[u8]| !pair.is_empty() && split_field(pair).0.trim_ascii() != name.as_bytes();
    let kept: Vec<_> = pairs.map(<[u8]>::trim_ascii).filter(is_other).collect();
    Some(kept.join(&b"; "[..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Head, HeadLimits, Parse, parse_head};

    fn found(place: &str, target: &str, fields: &str) -> Option<Result<String, ()>> {
        let text = format!("GET {target} HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        let mut head = Head::new();
        assert_eq!(parse_head(text.as_bytes(), &HeadLimits::default(), &mut head), Ok(Parse::Complete));
        match Place::read(place).unwrap().find(&head.view(text.as_bytes())) {
            Carried::Nothing => None,
            Carried::One(value) => Some(Ok(String::from_utf8(value.into_owned()).unwrap())),
            Carried::Many => Some(Err(())),
        }
    }

    #[test]
    fn a_credential_is_found_where_it_stands() {
        let some = |text: &str| Some(Ok(text.to_owned()));
        for (place, target, fields, wanted) in [
            ("bearer", "/", "Authorization: bEARER  abc\r\n", some("abc")),
            ("bearer", "/", "Authorization: Bearerabc\r\n", None),
            ("bearer", "/", "Authorization: Basic abc\r\n", None),
            ("bearer", "/", "Authorization: Bearer a\r\nauthorization: Bearer b\r\n", Some(Err(()))),
            ("header:X-Key", "/", "x-key: k\r\n", some("k")),
            ("header:X-Key", "/", "x-key: k\r\nX-KEY: k\r\n", Some(Err(()))),
            ("cookie:t", "/", "Cookie: a=1; t=2\r\nCookie: t=3\r\n", some("2")),
            ("query:t", "/?a=1&%74=%41+b", "", some("A b")),
            ("query:t", "/?t=1&t=2", "", Some(Err(()))),
            ("query:t", "/?tt=1&&", "", None),
        ] {
            assert_eq!(found(place, target, fields), wanted, "{place} {target} {fields}");
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for bad in ["", "Bearer", "header:", "header:Host", "header:a b", "cookie:", "cookie:a=b", "query:", "body:x"] {
            assert_eq!(Place::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_query_loses_the_fields_of_that_name_alone() {
        for (query, wanted) in [
            ("a=1&key=2&b", Some("a=1&b")),
            ("key=2", Some("")),
            ("k%65y=2&key&&keys=1", Some("&keys=1")),
            ("a=1", None),
        ] {
            assert_eq!(without_query_field(Some(query), "key").as_deref(), wanted, "{query}");
        }
    }
}
