//! `Vary` (RFC 9111 section 4.1): which fields of the request a stored response was chosen by.

use crate::http::head::list_members;
use crate::http::{Fields, RequestHead};

/// The fields of a request, kept until the response says which of them count.
#[derive(Debug, Default)]
pub(super) struct Snapshot(Vec<(Box<str>, Box<[u8]>)>);

impl Snapshot {
    pub(super) fn of(head: &RequestHead<'_>) -> Self {
        Self(head.headers().map(|(name, value)| (name.into(), value.into())).collect())
    }

    fn select(&self, name: &str) -> Option<Box<[u8]>> {
        let own = self.0.iter().filter(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| &**value);
        join(own).map(Vec::into_boxed_slice)
    }
}

/// The fields by which a stored response was chosen, with the values that they had; sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Selected(Box<[Field]>);

/// The name of a field, and its value; `None`: the request had none.
type Field = (Box<str>, Option<Box<[u8]>>);

impl Selected {
    /// Those that the fields of a response name, which do not name `*`, and `always`.
    pub(super) fn of(response: &Fields, always: &[String], request: &Snapshot) -> Self {
        let mut names: Vec<_> = response
            .values("vary")
            .flat_map(list_members)
            .filter_map(|name| str::from_utf8(name).ok())
            .chain(always.iter().map(String::as_str))
            .map(str::to_ascii_lowercase)
            .collect();
        names.sort_unstable();
        names.dedup();
        let select = |name: String| {
            let value = request.select(&name);
            (name.into_boxed_str(), value)
        };
        Self(names.into_iter().map(select).collect())
    }

    /// Whether a request would have been answered with the same response.
    pub(super) fn matches(&self, request: &RequestHead<'_>) -> bool {
        self.0.iter().all(|(name, value)| {
            let mut own = request.header_values(name);
            match (own.next(), value) {
                (None, value) => value.is_none(),
                (Some(_), None) => false,
                // As nearly all are: one line, and the same.
                (Some(first), Some(value)) if *first == **value && own.next().is_none() => true,
                (Some(_), Some(value)) => join(request.header_values(name)).is_some_and(|own| own == **value),
            }
        })
    }

    /// Whether both go by the same fields with the same values.
    pub(super) fn replaces(&self, other: &Self) -> bool {
        self == other
    }

    /// Appends what tells requests apart that this response would be chosen for, and others.
    pub(super) fn write_key(&self, request: &RequestHead<'_>, key: &mut Vec<u8>) {
        for (name, _) in &self.0 {
            key.push(0);
            key.extend_from_slice(&join(request.header_values(name)).unwrap_or_default());
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.iter().map(|(name, value)| 64 + name.len() + value.as_ref().map_or(0, |value| value.len())).sum()
    }
}

/// The values of one field as one list, without white space around its members: as section 4.1 lets them be compared.
fn join<'v>(values: impl Iterator<Item = &'v [u8]>) -> Option<Vec<u8>> {
    let mut joined = None;
    for value in values {
        let list: &mut Vec<u8> = joined.get_or_insert_default();
        for member in value.split(|b| *b == b',') {
            if !list.is_empty() {
                list.push(b',');
            }
            list.extend_from_slice(member.trim_ascii());
        }
    }
    joined
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

    fn selected(vary: &[&str], request: &str) -> Selected {
        let mut fields = Fields::new();
        vary.iter().for_each(|value| fields.push("Vary", value).unwrap());
        with(request, |head| Selected::of(&fields, &[], &Snapshot::of(head)))
    }

    #[test]
    fn a_request_matches_when_all_named_fields_are_the_same() {
        let stored = selected(&["Accept-Encoding, X-A", "x-b"], "accept-encoding: gzip\r\nX-A: 1\r\n");
        for (request, expected) in [
            ("X-A: 1\r\nAccept-Encoding: gzip\r\n", true),
            ("X-A: 1\r\nAccept-Encoding: gzip\r\nX-C: 9\r\n", true),
            ("X-A: 1\r\nAccept-Encoding: br\r\n", false),
            ("X-A: 1\r\nAccept-Encoding: gzip\r\nX-B: 1\r\n", false),
            ("X-A: 1\r\nAccept-Encoding: gzip\r\nX-B:\r\n", false),
            ("Accept-Encoding: gzip\r\n", false),
            ("", false),
        ] {
            assert_eq!(with(request, |head| stored.matches(head)), expected, "{request}");
        }
    }

    #[test]
    fn lines_are_one_list_and_white_space_around_members_counts_for_nothing() {
        let stored = selected(&["x"], "X: a,b\r\n");
        for (request, expected) in
            [("X: a, b\r\n", true), ("X: a\r\nX: b\r\n", true), ("X: b, a\r\n", false), ("X: a\r\n", false)]
        {
            assert_eq!(with(request, |head| stored.matches(head)), expected, "{request}");
        }
    }

    proptest::proptest! {
        #[test]
        fn two_requests_have_the_same_key_exactly_where_one_matches_the_other(
            a in "(X: [ab]{0,2}\r\n)?(Y: [ab]{1,2}\r\n)?", b in "(X: [ab]{0,2}\r\n)?(Y: [ab]{1,2}\r\n)?",
        ) {
            let stored = selected(&["X, Y"], &a);
            let key = |request: &str| with(request, |head| {
                let mut key = Vec::new();
                stored.write_key(head, &mut key);
                key
            });
            if with(&b, |head| stored.matches(head)) {
                assert_eq!(key(&a), key(&b));
            }
        }
    }
}
