//! What a route wants of a request besides host, path and method: header fields, query and cookies.
//!
//! All conditions of a route must hold. They are evaluated on the head as it was received, without a heap allocation; a
//! route without conditions is not slowed down (see [`super::Routes::find`]). Where a name comes several times in a
//! request, the first one counts.

use std::fmt;

use super::percent::form_bytes;
use crate::http::RequestHead;

/// All conditions of a route. Equal sets are equal values, so that conflicts can be found.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PredicateSet {
    /// In order, each once.
    conditions: Vec<Predicate>,
}

/// One condition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Predicate {
    source: PredicateSource,
    /// In lower case for a header field.
    name: String,
    test: PredicateTest,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PredicateSource {
    /// A header field, its name in any case.
    Header,
    /// A field of the query, name and value decoded as forms are: escapes, and `+` for a space.
    Query,
    /// A cookie (RFC 6265 section 4.2.1); quotes are a part of its value.
    Cookie,
}

/// What is asked of a value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PredicateTest {
    /// It is this.
    Exact(String),
    /// It begins so.
    Prefix(String),
    /// There is one.
    Present,
    /// There is none.
    Absent,
}

impl Predicate {
    /// A condition on the value of this name.
    pub fn new(source: PredicateSource, name: &str, test: PredicateTest) -> Self {
        let name = match source {
            PredicateSource::Header => name.to_ascii_lowercase(),
            PredicateSource::Query | PredicateSource::Cookie => name.to_owned(),
        };
        Self { source, name, test }
    }

    /// Whether it holds for a request with this head.
    pub fn holds(&self, head: &RequestHead<'_>) -> bool {
        match self.source {
            PredicateSource::Header => self.test.holds(head.header(&self.name), |value| value.iter().copied()),
            PredicateSource::Query => self.test.holds(query_value(head.query(), &self.name), form_bytes),
            PredicateSource::Cookie => self.test.holds(head.cookie(&self.name), |value| value.iter().copied()),
        }
    }
}

impl PredicateTest {
    /// `bytes` gives the bytes that a raw value stands for.
    fn holds<'v, I: Iterator<Item = u8>>(&self, value: Option<&'v [u8]>, bytes: impl FnOnce(&'v [u8]) -> I) -> bool {
        match (self, value) {
            (Self::Exact(wanted), Some(value)) => bytes(value).eq(wanted.bytes()),
            (Self::Prefix(wanted), Some(value)) => {
                let mut value = bytes(value);
                wanted.bytes().all(|byte| value.next() == Some(byte))
            }
            (Self::Present, value) => value.is_some(),
            (Self::Absent, value) => value.is_none(),
            (Self::Exact(_) | Self::Prefix(_), None) => false,
        }
    }
}

impl fmt::Display for Predicate {
    /// As people say it: `header x-canary is "1"`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.source {
            PredicateSource::Header => "header ",
            PredicateSource::Query => "query ",
            PredicateSource::Cookie => "cookie ",
        })?;
        // A name of the query may be anything; the other two are tokens.
        match self.name.bytes().all(|b| b.is_ascii_graphic()) {
            true => f.write_str(&self.name)?,
            false => write!(f, "{:?}", self.name)?,
        }
        match &self.test {
            PredicateTest::Exact(value) => write!(f, " is {value:?}"),
            PredicateTest::Prefix(value) => write!(f, " begins with {value:?}"),
            PredicateTest::Present => f.write_str(" is there"),
            PredicateTest::Absent => f.write_str(" is not there"),
        }
    }
}

impl PredicateSet {
    /// These conditions, in whatever order; `None` where there are none.
    pub fn new(mut conditions: Vec<Predicate>) -> Option<Self> {
        conditions.sort_unstable();
        conditions.dedup();
        (!conditions.is_empty()).then_some(Self { conditions })
    }

    /// Whether all of them hold for a request with this head.
    pub fn holds(&self, head: &RequestHead<'_>) -> bool {
        self.conditions.iter().all(|condition| condition.holds(head))
    }

    /// Those that do not hold.
    pub fn failed(&self, head: &RequestHead<'_>) -> impl Iterator<Item = &Predicate> {
        self.conditions.iter().filter(|condition| !condition.holds(head))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Predicate> {
        self.conditions.iter()
    }
}

/// The raw value of the first field of this name in a query; empty where the field has no `=`.
fn query_value<'q>(query: Option<&'q str>, name: &str) -> Option<&'q [u8]> {
    query?.as_bytes().split(|&b| b == b'&').find_map(|field| {
        let end = memchr::memchr(b'=', field);
        let (own, value) = end.map_or((field, &b""[..]), |end| (&field[..end], &field[end + 1..]));
        // An empty field, as in `a&&b`, has no name.
        (!field.is_empty() && form_bytes(own).eq(name.bytes())).then_some(value)
    })
}

#[cfg(test)]
mod tests;
