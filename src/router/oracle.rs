//! A matcher too simple to be wrong, and the body of the fuzz target that compares the router with it.
//!
//! It shares nothing with the router but the types: it splits patterns and paths at slashes, ranks every route, and
//! takes the best.

use super::explain::Reason;
use super::{Lookup, Pattern, Predicates, RouteError, RouteErrorKind, RouteId, RouteSpec, RouterBuf, Spans};
use crate::http::target::{Normalized, normalize_path};
use crate::http::{Method, MethodSet};
use crate::limits::{ROUTE_PARAMS_MAX, ROUTE_PATTERN_BYTES_MAX};

/// Names and values.
pub type NaiveParams = Vec<(String, String)>;

/// What the naive matcher answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NaiveLookup {
    /// Routes in the order of trial, each with its parameters.
    Found(Vec<(RouteId, NaiveParams)>),
    /// Methods for `Allow`.
    MethodNotAllowed(Vec<Method>),
    /// No route has the path.
    NotFound,
}

/// Looks up as `lookup` documents it. `specs` must be valid and free of conflicts.
pub fn naive_lookup(specs: &[RouteSpec<'_>], host: Option<&str>, path: &str, method: Method) -> NaiveLookup {
    let mut ranked = Vec::new();
    for (at, spec) in specs.iter().enumerate() {
        if let (Some(host), Some((path, params))) = (rank_host(spec.host, host), match_path(spec.pattern, path)) {
            ranked.push(((host, path), at, params));
        }
    }
    let Some(best) = ranked.iter().map(|(rank, ..)| rank.clone()).min() else { return NaiveLookup::NotFound };
    ranked.retain(|(rank, ..)| *rank == best);
    ranked.sort_by_key(|&(_, at, _)| (specs[at].predicates == Predicates::NONE, at));
    let takes = |at: usize, method| specs[at].methods.is_empty() || specs[at].methods.contains(method);
    let mut order: Vec<_> = ranked.iter().filter(|&&(_, at, _)| takes(at, method)).collect();
    if method == Method::Head {
        order.extend(ranked.iter().filter(|&&(_, at, _)| takes(at, Method::Get) && !takes(at, Method::Head)));
    }
    if !order.is_empty() {
        return NaiveLookup::Found(order.iter().map(|(_, at, params)| (RouteId(*at as u32), params.clone())).collect());
    }
    let any_takes = |method| ranked.iter().any(|&(_, at, _)| takes(at, method));
    let allowed = |&method: &Method| {
        any_takes(method) || method == Method::Options || (method == Method::Head && any_takes(Method::Get))
    };
    NaiveLookup::MethodNotAllowed(Method::ALL.into_iter().filter(allowed).collect())
}

/// Pairs that can never be told apart: for each such route, the first earlier one.
pub fn naive_conflicts(specs: &[RouteSpec<'_>]) -> Vec<(usize, usize)> {
    let shape = |spec: &RouteSpec<'_>| -> Vec<String> {
        let segment = |text: &str| match text.as_bytes().first() {
            Some(b':') => ":".into(),
            Some(b'*') => "*".into(),
            _ => text.into(),
        };
        spec.pattern.split('/').map(segment).collect()
    };
    let host = |spec: &RouteSpec<'_>| spec.host.map(|host| host.trim_end_matches('.').to_ascii_lowercase());
    let overlap = |one: MethodSet, other: MethodSet| {
        let takes = |set: MethodSet, method| set.is_empty() || set.contains(method);
        Method::ALL.into_iter().any(|method| takes(one, method) && takes(other, method))
    };
    let clash = |one: &RouteSpec<'_>, other: &RouteSpec<'_>| {
        host(one) == host(other)
            && shape(one) == shape(other)
            && one.predicates == other.predicates
            && overlap(one.methods, other.methods)
    };
    let first = |at: usize| (0..at).find(|&earlier| clash(&specs[earlier], &specs[at])).map(|other| (at, other));
    (0..specs.len()).filter_map(first).collect()
}

/// Lower is better: exact, then the longest suffix, then none.
fn rank_host(pattern: Option<&str>, host: Option<&str>) -> Option<(u8, isize)> {
    let Some(pattern) = pattern else { return Some((2, 0)) };
    let lower = |text: &str| text.trim_end_matches('.').to_ascii_lowercase();
    let (pattern, host) = (lower(pattern), lower(host?.split(':').next()?));
    match pattern.strip_prefix('*') {
        None => (pattern == host).then_some((0, 0)),
        Some(suffix) => {
            let fits = host.ends_with(suffix) && host.len() > suffix.len();
            fits.then_some((1, -(suffix.len() as isize)))
        }
    }
}

/// One number for each segment (static, parameter, wildcard), and the parameters.
fn match_path(pattern: &str, path: &str) -> Option<(Vec<u8>, NaiveParams)> {
    let (mut rank, mut params) = (Vec::new(), Vec::new());
    let mut rest = Some(path);
    for segment in pattern.split('/') {
        let (head, tail) = match rest?.split_once('/') {
            Some((head, tail)) => (head, Some(tail)),
            None => (rest?, None),
        };
        if let Some(name) = segment.strip_prefix('*') {
            params.push((name.to_owned(), rest?.to_owned()));
            rank.push(2);
            return Some((rank, params));
        }
        if let Some(name) = segment.strip_prefix(':') {
            if head.is_empty() {
                return None;
            }
            params.push((name.to_owned(), head.to_owned()));
            rank.push(1);
        } else if segment == head {
            rank.push(0);
        } else {
            return None;
        }
        rest = tail;
    }
    rest.is_none().then_some((rank, params))
}

/// Routes and requests out of arbitrary bytes, over alphabets small enough that everything collides.
struct Draw<'d>(&'d [u8]);

impl Draw<'_> {
    fn below(&mut self, bound: usize) -> usize {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(first) % bound
    }

    fn host(&mut self) -> Option<&'static str> {
        const HOSTS: [Option<&str>; 8] =
            [None, None, Some("a.b"), Some("A.b."), Some("*.b"), Some("*.a.b"), Some("c"), Some("*.c.a.b")];
        HOSTS[self.below(HOSTS.len())]
    }

    fn pattern(&mut self) -> String {
        let mut pattern = String::new();
        for at in 0..1 + self.below(5) {
            match self.below(8) {
                0 | 1 => pattern.push_str("/a"),
                2 => pattern.push_str("/b"),
                3 => pattern.push_str("/ab"),
                4 => pattern.push_str(&format!("/:x{at}")),
                5 | 6 => pattern.push_str(&format!("/:y{at}")),
                _ => return pattern + "/*rest",
            }
        }
        pattern + ["", "", "/"][self.below(3)]
    }

    fn methods(&mut self) -> MethodSet {
        let mut set = MethodSet::new();
        for _ in 0..self.below(4) {
            set.insert(Method::ALL[self.below(5)]);
        }
        set
    }

    fn path(&mut self) -> String {
        let mut path = String::new();
        for _ in 0..1 + self.below(6) {
            path.push_str(["/a", "/a", "/b", "/ab", "/c", "/"][self.below(6)]);
        }
        path
    }
}

/// Whether a text is a pattern: split at slashes, each part looked at alone.
pub fn naive_is_pattern(text: &str) -> bool {
    let Some(rest) = text.strip_prefix('/') else { return false };
    let segments: Vec<&str> = rest.split('/').collect();
    let is_name = |name: &str| {
        let is_word = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        is_word && name.bytes().next().is_some_and(|b| !b.is_ascii_digit())
    };
    let mut names = Vec::new();
    let is_good = segments.iter().enumerate().all(|(at, segment)| {
        let is_last = at + 1 == segments.len();
        match segment.as_bytes().first() {
            None => is_last,
            Some(b':') => {
                names.push(&segment[1..]);
                is_name(&segment[1..])
            }
            Some(b'*') => {
                names.push(&segment[1..]);
                is_name(&segment[1..]) && is_last
            }
            // Text is what the normalisation of a path leaves as it is.
            Some(_) => !segment.contains([':', '*']) && is_normal(segment),
        }
    });
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    is_good && text.len() <= ROUTE_PATTERN_BYTES_MAX && names.len() == count && count <= ROUTE_PARAMS_MAX
}

fn is_normal(segment: &str) -> bool {
    // An encoded slash hides dot segments from nobody here: a request that has one behind it is refused by itself.
    segment.split("%2F").enumerate().all(|(at, part)| {
        let is_whole = at == 0 && part.len() == segment.len();
        let path = format!("/{}{part}", if is_whole { "" } else { "a" });
        normalize_path(path.as_bytes(), false, &mut Vec::new()) == Ok(Normalized::AsIs)
    })
}

/// Takes each line of `text` for a pattern and for the path of a request.
fn check_patterns(text: &str) {
    let lines: Vec<&str> = text.lines().take(24).collect();
    let mut specs: Vec<RouteSpec<'_>> = Vec::new();
    for line in &lines {
        let parsed = Pattern::parse(line);
        assert_eq!(parsed.is_ok(), naive_is_pattern(line), "{parsed:?}");
        match parsed {
            Ok(_) => {
                let spec =
                    RouteSpec { host: None, pattern: line, methods: MethodSet::EMPTY, predicates: Predicates::NONE };
                specs.push(spec);
            }
            Err(error) => assert_eq!(line.as_bytes().get(error.position).copied(), error.found, "{error:?}"),
        }
    }
    let (specs, router) = check_build(specs);
    for path in lines.iter().filter(|line| line.starts_with('/') && line.bytes().all(|b| b.is_ascii_graphic())) {
        check_one(&specs, &router, None, path, Method::Get);
    }
}

/// Builds a router from `data`, asks it and the naive matcher, and panics where they differ. What begins with a slash is
/// read as text, a pattern a line.
///
/// # Panics
/// When the router is wrong.
pub fn check_route_match(data: &[u8]) {
    if let (Some(b'/'), Ok(text)) = (data.first(), str::from_utf8(data)) {
        return check_patterns(text);
    }
    let mut draw = Draw(data);
    let count = draw.below(24);
    let drawn: Vec<_> = (0..count).map(|_| (draw.host(), draw.pattern(), draw.methods(), draw.below(3))).collect();
    let mut specs = Vec::new();
    for (host, pattern, methods, predicates) in &drawn {
        let predicates = Predicates(*predicates as u32);
        specs.push(RouteSpec { host: *host, pattern, methods: *methods, predicates });
    }
    let (specs, router) = check_build(specs);
    for _ in 0..8 {
        const HOSTS: [Option<&str>; 9] = [
            None,
            Some("a.b"),
            Some("A.B:80"),
            Some("c.a.b"),
            Some("x.c.a.b"),
            Some("x.b."),
            Some("b"),
            Some("c"),
            Some(".b"),
        ];
        let (host, path, method) = (HOSTS[draw.below(9)], draw.path(), Method::ALL[draw.below(6)]);
        check_one(&specs, &router, host, &path, method);
    }
}

/// Holds the conflicts against the naive ones; what is left without them, and its router.
fn check_build(mut specs: Vec<RouteSpec<'_>>) -> (Vec<RouteSpec<'_>>, RouterBuf) {
    let conflicts = naive_conflicts(&specs);
    if !conflicts.is_empty() {
        let kind = |other| RouteErrorKind::Conflict { other };
        let expected: Vec<_> =
            conflicts.iter().map(|&(route, other)| RouteError { route, kind: kind(other) }).collect();
        assert_eq!(RouterBuf::build(&specs).map(|_| ()), Err(expected), "{specs:?}");
    }
    // What is left without the later of each pair has no conflict, since each has its first earlier one named.
    let mut at = 0;
    specs.retain(|_| {
        at += 1;
        !conflicts.iter().any(|&(route, _)| route == at - 1)
    });
    let router = RouterBuf::build(&specs).unwrap_or_else(|errors| panic!("{errors:?} {specs:?}"));
    (specs, router)
}

fn check_one(specs: &[RouteSpec<'_>], router: &RouterBuf, host: Option<&str>, path: &str, method: Method) {
    let expected = naive_lookup(specs, host, path, method);
    let mut spans = Spans::NONE;
    let got = observe(router.lookup(host.map(str::as_bytes), path.as_bytes(), method, &mut spans), &spans, path);
    assert_eq!(got, expected, "{method:?} {host:?} {path} of {specs:?}");
    let explanation = router.explain(host, path, method, |_| true);
    assert_eq!(
        observe(explanation.outcome, &explanation.spans, path),
        expected,
        "explained: {method:?} {host:?} {path} of {specs:?}"
    );
    for loser in explanation.losers {
        let spec = &specs[loser.route.index()];
        let fits = (rank_host(spec.host, host).is_some(), match_path(spec.pattern, path).is_some());
        let told = match loser.reason {
            Reason::HostDiffers { path_matches } => (false, path_matches),
            Reason::PathDiffers { .. } => (true, false),
            _ => (true, true),
        };
        assert_eq!(told, fits, "{loser:?}: {method:?} {host:?} {path} of {specs:?}");
    }
}

/// A router's answer in the form of the naive one.
pub fn observe(lookup: Lookup<'_>, spans: &Spans, path: &str) -> NaiveLookup {
    match lookup {
        Lookup::NotFound => NaiveLookup::NotFound,
        Lookup::MethodNotAllowed(set) => {
            NaiveLookup::MethodNotAllowed(Method::ALL.into_iter().filter(|&method| set.contains(method)).collect())
        }
        Lookup::Found(found) => {
            let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
            let mut candidate = Some(found);
            let mut order = Vec::new();
            while let Some(found) = candidate {
                order.push((found.route, found.params(spans).iter(path).map(owned).collect()));
                candidate = found.next_candidate();
            }
            NaiveLookup::Found(order)
        }
    }
}
