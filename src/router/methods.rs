//! What the router needs of method sets, in const form, on top of the few const operations of `http::MethodSet`.

use crate::http::{Method, MethodSet};

/// Every method, with the name that a const route table writes.
pub(crate) const ALL: [(Method, &str); 10] = [
    (Method::Get, "GET"),
    (Method::Head, "HEAD"),
    (Method::Post, "POST"),
    (Method::Put, "PUT"),
    (Method::Delete, "DELETE"),
    (Method::Connect, "CONNECT"),
    (Method::Options, "OPTIONS"),
    (Method::Trace, "TRACE"),
    (Method::Patch, "PATCH"),
    (Method::Extension, "EXTENSION"),
];

/// The set of all methods: what `ANY`, and an empty set in a `RouteSpec`, mean.
pub(crate) const fn all() -> MethodSet {
    let mut set = MethodSet::new();
    let mut at = 0;
    while at < ALL.len() {
        set.insert(ALL[at].0);
        at += 1;
    }
    set
}

/// Both sets together.
pub(crate) const fn union(one: MethodSet, other: MethodSet) -> MethodSet {
    let mut set = one;
    let mut at = 0;
    while at < ALL.len() {
        if other.contains(ALL[at].0) {
            set.insert(ALL[at].0);
        }
        at += 1;
    }
    set
}

/// What `Allow` says of routes that take `methods` (RFC 9110 section 10.2.1): `HEAD` is served by `GET`, and `OPTIONS`
/// is answered on every known path.
pub(crate) const fn allow_of(methods: MethodSet) -> MethodSet {
    let mut set = methods;
    set.insert(Method::Options);
    if methods.contains(Method::Get) {
        set.insert(Method::Head);
    }
    set
}

/// The set that a const table spells as names; `Err` holds the place of the name that is none.
pub(crate) const fn parse_names(names: &[&str]) -> Result<MethodSet, usize> {
    let mut set = MethodSet::new();
    let mut at = 0;
    while at < names.len() {
        if same(names[at], "ANY") {
            set = all();
        } else {
            match find(names[at]) {
                Some(method) => set.insert(method),
                None => return Err(at),
            }
        }
        at += 1;
    }
    Ok(set)
}

const fn find(name: &str) -> Option<Method> {
    let mut at = 0;
    while at < ALL.len() {
        if same(name, ALL[at].1) {
            return Some(ALL[at].0);
        }
        at += 1;
    }
    None
}

const fn same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}
