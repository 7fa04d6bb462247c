//! Finding a route, in three ways: Ringfort's const table, the same matcher built when a config is loaded, and `matchit`,
//! which many Rust servers use. Each finds the route and reads its last parameter; Ringfort decides about the method too.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use ringfort::http::{Method, MethodSet};
use ringfort::router::{Lookup, Predicates, RouteSpec, RouterBuf, Spans};

ringfort::routes! {
    static ROUTES: u8 = {
        GET "/plaintext" => 1,
        GET "/json" => 2,
        GET "/users/list" => 3,
        GET "/users/:id" => 4,
        GET "/users/:id/posts/:post" => 5,
        GET "/static/*file" => 6,
    }
}

const PATTERNS: [&str; 6] =
    ["/plaintext", "/json", "/users/list", "/users/:id", "/users/:id/posts/:post", "/static/*file"];

/// The same patterns with `matchit`'s signs.
const MATCHIT: [&str; 6] =
    ["/plaintext", "/json", "/users/list", "/users/{id}", "/users/{id}/posts/{post}", "/static/{*file}"];

fn build<'p>(patterns: impl Iterator<Item = &'p str>) -> RouterBuf {
    let methods = MethodSet::of(&[Method::Get]);
    let spec = |pattern| RouteSpec { host: None, pattern, methods, predicates: Predicates::NONE };
    RouterBuf::build(&patterns.map(spec).collect::<Vec<_>>()).expect("these routes differ")
}

fn build_matchit<'p>(patterns: impl Iterator<Item = &'p str>) -> matchit::Router<usize> {
    let mut router = matchit::Router::new();
    for (index, pattern) in patterns.enumerate() {
        router.insert(pattern, index).expect("these routes differ");
    }
    router
}

/// The route's index and the length of its last parameter, so that a lookup has to find both.
fn result(found: Lookup<'_>, spans: &Spans, path: &str) -> (usize, usize) {
    match found {
        Lookup::Found(found) => {
            (found.route.index(), found.params(spans).iter(path).last().map_or(0, |(_, value)| value.len()))
        }
        other => panic!("expected a route for {path}, found {other:?}"),
    }
}

fn result_matchit(router: &matchit::Router<usize>, path: &str) -> (usize, usize) {
    let found = router.at(path).expect("a known path");
    (*found.value, found.params.iter().last().map_or(0, |(_, value)| value.len()))
}

fn few(c: &mut Criterion) {
    let (built, matchit) = (build(PATTERNS.into_iter()), build_matchit(MATCHIT.into_iter()));
    let mut spans = Spans::NONE;
    for (name, path) in [
        ("static", "/plaintext"),
        ("one_param", "/users/42"),
        ("two_params", "/users/42/posts/7"),
        ("wildcard", "/static/js/app/main.js"),
    ] {
        let bytes = path.as_bytes();
        let mut group = c.benchmark_group(format!("route/{name}"));
        let found = ROUTES.lookup(None, bytes, Method::Get, &mut spans);
        assert_eq!(result(found, &spans, path).1, result_matchit(&matchit, path).1);
        let found = built.lookup(None, bytes, Method::Get, &mut spans);
        assert_eq!(result(found, &spans, path), result_matchit(&matchit, path));
        group.bench_function("const", |b| {
            b.iter(|| {
                let found = ROUTES.lookup(black_box(None), black_box(bytes), Method::Get, &mut spans);
                result(found, &spans, path)
            });
        });
        group.bench_function("built", |b| {
            b.iter(|| {
                let found = built.lookup(black_box(None), black_box(bytes), Method::Get, &mut spans);
                result(found, &spans, path)
            });
        });
        group.bench_function("matchit", |b| b.iter(|| result_matchit(&matchit, black_box(path))));
    }
}

/// Asks for routes all over the table in turn: one route alone would be answered from the caches.
fn many(c: &mut Criterion) {
    const COUNT: usize = 10_000;
    for (name, end, matchit_end, path_end) in
        [("static_of_10000", "", "", ""), ("one_param_of_10000", "/:id", "/{id}", "/42")]
    {
        let texts = |end: &str| (0..COUNT).map(|n| format!("/api/v1/r{n}{end}")).collect::<Vec<_>>();
        let built = build(texts(end).iter().map(String::as_str));
        let matchit = build_matchit(texts(matchit_end).iter().map(String::as_str));
        let paths = texts(path_end);
        // Coprime to the count, so that all are visited, and far apart.
        let mut at = 0;
        let mut next = || {
            at = (at + 7919) % COUNT;
            paths[at].as_str()
        };
        let mut spans = Spans::NONE;
        let mut group = c.benchmark_group(format!("route/{name}"));
        let found = built.lookup(None, paths[4711].as_bytes(), Method::Get, &mut spans);
        assert_eq!(result(found, &spans, &paths[4711]).0, 4711);
        group.bench_function("built", |b| {
            b.iter(|| {
                let path = black_box(next());
                let found = built.lookup(black_box(None), path.as_bytes(), Method::Get, &mut spans);
                result(found, &spans, path)
            });
        });
        group.bench_function("matchit", |b| b.iter(|| result_matchit(&matchit, black_box(next()))));
    }
}

fn unknown(c: &mut Criterion) {
    let (built, matchit) = (build(PATTERNS.into_iter()), build_matchit(MATCHIT.into_iter()));
    let mut spans = Spans::NONE;
    let path = "/users/42/comments/7";
    let mut group = c.benchmark_group("route/unknown");
    let bytes = path.as_bytes();
    group.bench_function("const", |b| {
        b.iter(|| matches!(ROUTES.lookup(None, black_box(bytes), Method::Get, &mut spans), Lookup::NotFound));
    });
    group.bench_function("built", |b| {
        b.iter(|| matches!(built.lookup(None, black_box(bytes), Method::Get, &mut spans), Lookup::NotFound));
    });
    group.bench_function("matchit", |b| b.iter(|| matchit.at(black_box(path)).is_err()));
}

criterion_group!(benches, few, many, unknown);
criterion_main!(benches);
