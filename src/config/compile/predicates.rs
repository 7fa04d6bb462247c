//! Conditions in `match` made into what is evaluated, and what no schema says of them.

use std::collections::HashMap;

use super::super::error::quote;
use super::super::grammar::is_token;
use super::super::model::{Condition, Conditions, Config, Match};
use super::RoutePlace;
use crate::handler::{Predicate, PredicateSet, PredicateSource, PredicateTest};
use crate::http::Fields;
use crate::limits::ROUTE_PREDICATES_MAX;
use crate::router::Predicates;

const KINDS: [(&str, PredicateSource); 3] =
    [("headers", PredicateSource::Header), ("query", PredicateSource::Query), ("cookies", PredicateSource::Cookie)];

fn conditions(matcher: &Match, source: PredicateSource) -> &Conditions {
    match source {
        PredicateSource::Header => &matcher.headers,
        PredicateSource::Query => &matcher.query,
        PredicateSource::Cookie => &matcher.cookies,
    }
}

fn count_conditions(matcher: &Match) -> usize {
    KINDS.iter().map(|(_, source)| conditions(matcher, *source).len()).sum()
}

/// The conditions of a route.
pub(super) fn predicate_set(matcher: &Match) -> Option<PredicateSet> {
    if count_conditions(matcher) == 0 {
        return None;
    }
    let all = KINDS.iter().flat_map(|(_, source)| {
        let named = conditions(matcher, *source).iter();
        named.map(|(name, Condition(test))| Predicate::new(*source, name, test.clone()))
    });
    PredicateSet::new(all.collect())
}

/// For each route a number that stands for its conditions: equal ones for equal conditions, so that the router finds the
/// routes that can never be told apart.
pub(super) fn number_predicates(config: &Config) -> Vec<Predicates> {
    let mut numbers: HashMap<PredicateSet, u32> = HashMap::new();
    let number = config.routes.iter().map(|route| match predicate_set(&route.matcher) {
        None => Predicates::NONE,
        Some(set) => {
            let next = numbers.len() as u32 + 1;
            Predicates(*numbers.entry(set).or_insert(next))
        }
    });
    number.collect()
}

/// Reports conditions that can never hold, or never be looked for.
pub(super) fn check_predicates(matcher: &Match, place: &mut RoutePlace<'_>) {
    let count = count_conditions(matcher);
    if count == 0 {
        return;
    }
    if count > ROUTE_PREDICATES_MAX {
        let expected = format!("at most {ROUTE_PREDICATES_MAX} conditions in headers, query and cookies");
        place.report(&["match"], expected, format!("{count} of them"));
    }
    for (kind, source) in KINDS {
        let mut names: HashMap<String, &str> = HashMap::new();
        for (name, Condition(test)) in conditions(matcher, source) {
            let keys = ["match", kind, name];
            match source {
                PredicateSource::Header if !is_token(name) => {
                    place.report(&keys, "the name of a header field", quote(name));
                }
                PredicateSource::Cookie if !is_token(name) => place.report(&keys, "the name of a cookie", quote(name)),
                PredicateSource::Query if name.is_empty() => place.report(&keys, "the name of a field", "none"),
                PredicateSource::Header | PredicateSource::Cookie | PredicateSource::Query => {}
            }
            if let Some(earlier) = names.insert(name.to_ascii_lowercase(), name)
                && source == PredicateSource::Header
            {
                place.report(&keys, "each name once, in any case", format!("{} again", quote(earlier)));
            }
            check_value(source, test, &keys, place);
        }
    }
}

/// A value that no request can have is a mistake, and would only show as a route that is never taken.
fn check_value(source: PredicateSource, test: &PredicateTest, keys: &[&str], place: &mut RoutePlace<'_>) {
    let (value, is_whole) = match test {
        PredicateTest::Exact(value) => (value, true),
        PredicateTest::Prefix(value) => (value, false),
        PredicateTest::Present | PredicateTest::Absent => return,
    };
    if value.is_empty() && !is_whole {
        place.report(keys, "some text that the value begins with ({ \"present\": true } takes any value)", "none");
        return;
    }
    let expected = match source {
        // Decoded, a value of the query may be anything.
        PredicateSource::Query => return,
        PredicateSource::Header => "a header field's value, without control characters and white space at its ends",
        PredicateSource::Cookie => "a cookie's value, without control characters, \";\" and white space at its ends",
    };
    let is_padded = value.starts_with([' ', '\t']) || is_whole && value.ends_with([' ', '\t']);
    let has_end = source == PredicateSource::Cookie && value.contains(';');
    if is_padded || has_end || Fields::new().push("X", value).is_err() {
        place.report(keys, expected, quote(value));
    }
}
