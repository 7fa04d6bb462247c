//! Why a route wins: for `ringfort explain`. Off the data path; allocates, and looks at every route.

use std::cmp::Reverse;
use std::fmt;

use super::build::Route;
use super::host::RequestHost;
use super::lookup::{Lookup, Router, RouterBuf};
use super::pattern::{PARAM_MARK, WILDCARD_MARK};
use super::scan::segment_len;
use super::spec::{Predicates, RouteId};
use super::tree::Spans;
use crate::http::{Method, MethodSet};
use crate::limits::EXPLAIN_LOSERS_MAX;

/// A lookup and the routes that lost it.
#[derive(Clone, Debug)]
pub struct Explanation<'a> {
    /// What the lookup answers.
    pub outcome: Lookup<'a>,
    /// Where the parameters of the route that was found are.
    pub spans: Spans,
    /// The routes that came nearest, nearest first; at most `limits::EXPLAIN_LOSERS_MAX`.
    pub losers: Vec<Loser>,
    /// How many more routes lost.
    pub omitted: usize,
}

/// A route that lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loser {
    /// The route.
    pub route: RouteId,
    /// Why.
    pub reason: Reason,
}

/// Why a route lost, from the nearest miss to the farthest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It takes the request, but `by` comes before it on the same path: first in the list, or because it has predicates.
    TriedLater {
        /// The winner.
        by: RouteId,
    },
    /// It is for the path and the method, but its predicates do not hold.
    PredicatesFail,
    /// It has the deciding path, and does not take the method.
    MethodNotTaken {
        /// What it takes.
        methods: MethodSet,
    },
    /// Its path matches, but that of `by` is more specific and decides alone.
    LessSpecificPath {
        /// First route of the deciding path.
        by: RouteId,
    },
    /// Its host and path match, but the host of `by` is more specific.
    LessSpecificHost {
        /// First route of the deciding host and path.
        by: RouteId,
    },
    /// It is for another host; `path_matches` tells whether that alone kept it out.
    HostDiffers {
        /// Whether its path matches.
        path_matches: bool,
    },
    /// Its host matches, its path does not.
    PathDiffers {
        /// Segment of the path, from zero, at which they part.
        segment: usize,
        /// Byte of the path at which they part.
        byte: usize,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TriedLater { by } => write!(f, "matches too, but routes[{}] is tried before it", by.0),
            Self::PredicatesFail => f.write_str("same path, but its conditions do not hold"),
            Self::MethodNotTaken { .. } => f.write_str("same path, but it does not take the method"),
            Self::LessSpecificPath { by } => write!(f, "path matches, but that of routes[{}] is more specific", by.0),
            Self::LessSpecificHost { by } => write!(f, "matches, but the host of routes[{}] is more specific", by.0),
            Self::HostDiffers { path_matches: true } => f.write_str("path matches, but it is for another host"),
            Self::HostDiffers { path_matches: false } => f.write_str("it is for another host, and another path"),
            Self::PathDiffers { segment, byte } => write!(f, "path differs in segment {segment}, at byte {byte}"),
        }
    }
}

/// How far a path goes along with a key.
enum Fit {
    Whole,
    Until { segment: usize, byte: usize },
}

impl<'a> Router<'a> {
    /// Looks up and says why each other route lost; see [`Router::lookup`] for the arguments. `holds` evaluates the
    /// predicates of a route that has some; where none of the candidates is left, nothing is found.
    pub fn explain(
        self,
        host: Option<&str>,
        path: &str,
        method: Method,
        holds: impl Fn(RouteId) -> bool,
    ) -> Explanation<'a> {
        let mut spans = Spans::NONE;
        let decision = self.find_leaf(host.map(str::as_bytes), path.as_bytes(), &mut spans);
        let decided = decision.map_or(Lookup::NotFound, |leaf| self.decide(leaf, method));
        let first = if let Lookup::Found(found) = decided { Some(found) } else { None };
        let fails =
            |id: RouteId| self.routes.get(id.index()).is_some_and(|r| r.predicates != Predicates::NONE) && !holds(id);
        let winner = std::iter::successors(first, |found| found.next_candidate()).find(|found| !fails(found.route));
        let outcome = match (decided, winner) {
            (_, Some(found)) => Lookup::Found(found),
            (Lookup::Found(_), None) => Lookup::NotFound,
            (other, None) => other,
        };
        let candidates: Vec<RouteId> =
            first.into_iter().flat_map(|first| std::iter::once(first.route).chain(first.candidates())).collect();
        let decider = decision.and_then(|leaf| {
            let leaf = self.leaves.get(leaf as usize)?;
            Some(RouteId(self.entries.get(leaf.entries as usize)?.route))
        });
        let host = host.and_then(|host| RequestHost::new(host.as_bytes()));
        let mut losers = Vec::new();
        for (at, route) in self.routes.iter().enumerate() {
            let id = RouteId(at as u32);
            if winner.is_some_and(|found| found.route == id) {
                continue;
            }
            let reason = match winner {
                _ if candidates.contains(&id) && fails(id) => Reason::PredicatesFail,
                Some(found) if candidates.contains(&id) => Reason::TriedLater { by: found.route },
                _ => self.reason_lost(route, decider, host.as_ref(), path),
            };
            losers.push(Loser { route: id, reason });
        }
        losers.sort_by_key(|loser| distance(loser.reason));
        let omitted = losers.len().saturating_sub(EXPLAIN_LOSERS_MAX);
        losers.truncate(EXPLAIN_LOSERS_MAX);
        Explanation { outcome, spans, losers, omitted }
    }

    fn reason_lost(self, route: &Route, decider: Option<RouteId>, host: Option<&RequestHost>, path: &str) -> Reason {
        let text = self.text.as_bytes();
        let fit = fit_path(route.key.of(text), path.as_bytes());
        if !fits_host(route.host.of(text), host) {
            return Reason::HostDiffers { path_matches: matches!(fit, Fit::Whole) };
        }
        if let Fit::Until { segment, byte } = fit {
            return Reason::PathDiffers { segment, byte };
        }
        // A route that fits host and path means that a path was decided on.
        let by = decider.unwrap_or(RouteId(0));
        match self.routes.get(by.index()) {
            Some(best) if best.host.of(text) != route.host.of(text) => Reason::LessSpecificHost { by },
            Some(best) if best.key.of(text) != route.key.of(text) => Reason::LessSpecificPath { by },
            _ => Reason::MethodNotTaken { methods: route.methods },
        }
    }
}

impl RouterBuf {
    /// See [`Router::explain`].
    pub fn explain(
        &self,
        host: Option<&str>,
        path: &str,
        method: Method,
        holds: impl Fn(RouteId) -> bool,
    ) -> Explanation<'_> {
        self.as_router().explain(host, path, method, holds)
    }
}

/// Order of nearness; ties keep the order of the list.
fn distance(reason: Reason) -> (u8, Reverse<usize>) {
    match reason {
        Reason::TriedLater { .. } => (0, Reverse(0)),
        Reason::PredicatesFail => (1, Reverse(0)),
        Reason::MethodNotTaken { .. } => (2, Reverse(0)),
        Reason::LessSpecificPath { .. } => (3, Reverse(0)),
        Reason::LessSpecificHost { .. } => (4, Reverse(0)),
        Reason::HostDiffers { path_matches: true } => (5, Reverse(0)),
        Reason::PathDiffers { byte, .. } => (6, Reverse(byte)),
        Reason::HostDiffers { path_matches: false } => (7, Reverse(0)),
    }
}

fn fits_host(pattern: &[u8], host: Option<&RequestHost>) -> bool {
    if pattern.is_empty() {
        return true;
    }
    let Some(host) = host else { return false };
    match pattern.strip_prefix(b"*") {
        // `suffix` begins with its dot: at least one byte must stand before it.
        Some(suffix) => host.as_bytes().len() > suffix.len() && host.as_bytes().ends_with(suffix),
        None => host.as_bytes() == pattern,
    }
}

fn fit_path(key: &[u8], path: &[u8]) -> Fit {
    let (mut at, mut segment) = (0, 0);
    for &byte in key {
        match (byte, path.get(at)) {
            (WILDCARD_MARK, _) => return Fit::Whole,
            (PARAM_MARK, Some(&found)) if found != b'/' => {
                at += segment_len(&path[at..]);
            }
            (byte, Some(&found)) if byte == found => {
                at += 1;
                segment += usize::from(byte == b'/' && at > 1);
            }
            _ => return Fit::Until { segment, byte: at },
        }
    }
    if at == path.len() { Fit::Whole } else { Fit::Until { segment, byte: at } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::RouteSpec;

    fn get() -> MethodSet {
        let mut set = MethodSet::new();
        set.insert(Method::Get);
        set
    }

    #[test]
    fn each_loser_is_told_why_nearest_first() {
        let any = MethodSet::new();
        let spec = |host, pattern, methods, predicates| RouteSpec {
            host,
            pattern,
            methods,
            predicates: Predicates(predicates),
        };
        let router = RouterBuf::build(&[
            spec(None, "/elsewhere", any, 0),
            spec(Some("other.example"), "/users/:id", any, 0),
            spec(None, "/users/:id", any, 0),
            spec(Some("a.example"), "/*rest", any, 0),
            spec(Some("a.example"), "/users/:name", get(), 0),
            spec(Some("a.example"), "/users/:id", any, 7),
            spec(Some("a.example"), "/users/list", any, 0),
            spec(Some("other.example"), "/nothing", any, 0),
        ])
        .expect("valid routes");
        let explanation = router.explain(Some("A.example:80"), "/users/7", Method::Get, |_| true);
        let Lookup::Found(found) = explanation.outcome else { panic!("{explanation:?}") };
        assert_eq!(found.route, RouteId(5));
        let by = RouteId(5);
        let expected = [
            (4, Reason::TriedLater { by }),
            (3, Reason::LessSpecificPath { by }),
            (2, Reason::LessSpecificHost { by }),
            (1, Reason::HostDiffers { path_matches: true }),
            (6, Reason::PathDiffers { segment: 1, byte: 7 }),
            (0, Reason::PathDiffers { segment: 0, byte: 1 }),
            (7, Reason::HostDiffers { path_matches: false }),
        ];
        let got: Vec<_> = explanation.losers.iter().map(|loser| (loser.route.0, loser.reason)).collect();
        assert_eq!(got, expected);
        assert_eq!(explanation.omitted, 0);
        let post = router.explain(Some("a.example"), "/users/7", Method::Post, |_| true);
        assert_eq!(post.losers[0].reason, Reason::MethodNotTaken { methods: get() });
    }

    #[test]
    fn a_route_whose_predicates_fail_leaves_the_request_to_the_next_candidate() {
        let spec = |predicates| RouteSpec {
            host: None,
            pattern: "/a",
            methods: MethodSet::new(),
            predicates: Predicates(predicates),
        };
        let router = RouterBuf::build(&[spec(0), spec(1), spec(2)]).expect("valid routes");
        let reasons = |holds: fn(RouteId) -> bool| {
            let explanation = router.explain(None, "/a", Method::Get, holds);
            let found = if let Lookup::Found(found) = explanation.outcome { Some(found.route.0) } else { None };
            (found, explanation.losers.iter().map(|loser| (loser.route.0, loser.reason)).collect::<Vec<_>>())
        };
        let later = |by| Reason::TriedLater { by: RouteId(by) };
        assert_eq!(reasons(|_| true), (Some(1), vec![(0, later(1)), (2, later(1))]));
        assert_eq!(reasons(|id| id.0 == 2), (Some(2), vec![(0, later(2)), (1, Reason::PredicatesFail)]));
        assert_eq!(reasons(|_| false), (Some(0), vec![(1, Reason::PredicatesFail), (2, Reason::PredicatesFail)]));
        let router = RouterBuf::build(&[spec(1)]).expect("a valid route");
        let explanation = router.explain(None, "/a", Method::Get, |_| false);
        assert!(matches!(explanation.outcome, Lookup::NotFound));
        assert_eq!(explanation.losers[0].reason, Reason::PredicatesFail);
    }

    #[test]
    fn a_long_list_of_losers_is_cut_and_counted() {
        let patterns: Vec<String> = (0..200).map(|at| format!("/{at:03}")).collect();
        let spec = |pattern| RouteSpec { host: None, pattern, methods: get(), predicates: Predicates::NONE };
        let specs: Vec<_> = patterns.iter().map(|pattern| spec(pattern.as_str())).collect();
        let router = RouterBuf::build(&specs).expect("valid routes");
        let explanation = router.explain(None, "/19", Method::Get, |_| true);
        assert!(matches!(explanation.outcome, Lookup::NotFound));
        assert_eq!((explanation.losers.len(), explanation.omitted), (EXPLAIN_LOSERS_MAX, 150));
        assert_eq!(
            explanation.losers[0],
            Loser { route: RouteId(190), reason: Reason::PathDiffers { segment: 0, byte: 3 } }
        );
    }
}
