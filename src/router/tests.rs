//! Behaviour of the whole router: precedence, hosts, methods, conflicts, bounds, and agreement with the oracle.

use proptest::prelude::{ProptestConfig, prop_assert_eq, proptest};

use super::oracle::{check_route_match, naive_lookup, observe};
use super::tree::{NONE, Spans, Steps};
use super::*;
use crate::http::{Method, MethodSet};

fn set(methods: &[Method]) -> MethodSet {
    let mut set = MethodSet::new();
    methods.iter().for_each(|&method| set.insert(method));
    set
}

fn any(pattern: &str) -> RouteSpec<'_> {
    RouteSpec { host: None, pattern, methods: MethodSet::new(), predicates: Predicates::NONE }
}

fn at_host<'a>(host: &'a str, pattern: &'a str) -> RouteSpec<'a> {
    RouteSpec { host: Some(host), ..any(pattern) }
}

fn with<'a>(methods: &[Method], pattern: &'a str) -> RouteSpec<'a> {
    RouteSpec { methods: set(methods), ..any(pattern) }
}

fn router(patterns: &[&str]) -> RouterBuf {
    RouterBuf::build(&patterns.iter().map(|pattern| any(pattern)).collect::<Vec<_>>()).expect("valid routes")
}

/// `pattern name=value ...` of the route found, or why there is none.
fn ask(router: &RouterBuf, path: &str) -> String {
    let mut spans = Spans::NONE;
    shown(router, router.lookup(None, path.as_bytes(), Method::Get, &mut spans), &spans, path)
}

fn shown(router: &RouterBuf, lookup: Lookup<'_>, spans: &Spans, path: &str) -> String {
    match lookup {
        Lookup::Found(found) => {
            let mut shown = router.route(found.route).expect("a route").pattern.to_owned();
            found.params(spans).iter(path).for_each(|(name, value)| shown += &format!(" {name}={value}"));
            shown
        }
        Lookup::MethodNotAllowed(_) => "405".into(),
        Lookup::NotFound => "404".into(),
    }
}

#[test]
fn static_beats_parameter_beats_wildcard() {
    let router = router(&["/users/list", "/users/:id", "/users/*rest"]);
    assert_eq!(ask(&router, "/users/list"), "/users/list");
    assert_eq!(ask(&router, "/users/lis"), "/users/:id id=lis");
    assert_eq!(ask(&router, "/users/list2"), "/users/:id id=list2");
    assert_eq!(ask(&router, "/users/7/x"), "/users/*rest rest=7/x");
    assert_eq!(ask(&router, "/users/list/x"), "/users/*rest rest=list/x");
    assert_eq!(ask(&router, "/users/"), "/users/*rest rest=");
    assert_eq!(ask(&router, "/users"), "404");
}

#[test]
fn a_failed_static_branch_falls_back_to_the_parameter() {
    let router = router(&["/a/:x/c", "/a/b/*rest", "/a/b/d/:y", "/:w/:x/:y/:z"]);
    assert_eq!(ask(&router, "/a/b/c"), "/a/b/*rest rest=c");
    assert_eq!(ask(&router, "/a/q/c"), "/a/:x/c x=q");
    assert_eq!(ask(&router, "/a/b"), "404");
    assert_eq!(ask(&router, "/a/b/d/e"), "/a/b/d/:y y=e");
    assert_eq!(ask(&router, "/a/b/d/e/f"), "/a/b/*rest rest=d/e/f");
    assert_eq!(ask(&router, "/a/q/d/e"), "/:w/:x/:y/:z w=a x=q y=d z=e");
    assert_eq!(ask(&router, "/a/q/d"), "404");
}

#[test]
fn backtracking_forgets_the_parameters_of_the_failed_branch() {
    let router = router(&["/:a/:b/x", "/:a/*rest", "/k/:c/y/:d/z"]);
    assert_eq!(ask(&router, "/k/1/y/2/q"), "/:a/*rest a=k rest=1/y/2/q");
    assert_eq!(ask(&router, "/k/1/y/2/z"), "/k/:c/y/:d/z c=1 d=2");
    assert_eq!(ask(&router, "/k/1/x"), "/:a/:b/x a=k b=1");
}

#[test]
fn a_trailing_slash_is_part_of_the_path() {
    let router = router(&["/a", "/b/", "/:x/c/", "/:x/d"]);
    assert_eq!(ask(&router, "/a"), "/a");
    assert_eq!(ask(&router, "/a/"), "404");
    assert_eq!(ask(&router, "/b"), "404");
    assert_eq!(ask(&router, "/b/"), "/b/");
    assert_eq!(ask(&router, "/1/c/"), "/:x/c/ x=1");
    assert_eq!(ask(&router, "/1/c"), "404");
    assert_eq!(ask(&router, "/1/d/"), "404");
}

#[test]
fn a_parameter_never_matches_an_empty_segment() {
    let router = router(&["/users/:id", "/:a/:b/c"]);
    for path in ["/users/", "//x", "/x//c", "//b/c", "/"] {
        assert_eq!(ask(&router, path), "404", "{path}");
    }
}

#[test]
fn a_wildcard_matches_an_empty_rest_but_needs_its_slash() {
    let router = router(&["/static/*file", "/s/"]);
    assert_eq!(ask(&router, "/static/"), "/static/*file file=");
    assert_eq!(ask(&router, "/static"), "404");
    assert_eq!(ask(&router, "/static//x"), "/static/*file file=/x");
    assert_eq!(ask(&router, "/s/"), "/s/");
}

#[test]
fn targets_that_are_no_path_are_not_found() {
    let router = router(&["/*rest", "/"]);
    assert_eq!(ask(&router, "/"), "/");
    for path in ["", "*", "a/b", "example.com:443"] {
        assert_eq!(ask(&router, path), "404", "{path}");
    }
    assert_eq!(ask(&router, &format!("/{}", "a".repeat(70_000))), "404");
    assert_eq!(ask(&router, &format!("/{}", "a".repeat(65_534))).len(), "/*rest rest=".len() + 65_534);
}

#[test]
fn the_best_path_decides_alone_and_answers_405_with_its_methods() {
    use Method::*;
    let specs = [with(&[Get], "/users/list"), with(&[Delete, Post], "/users/:id"), any("/*rest")];
    let router = RouterBuf::build(&specs).expect("valid routes");
    let allow = |path: &str, method| match router.lookup(None, path.as_bytes(), method, &mut { Spans::NONE }) {
        Lookup::MethodNotAllowed(allow) => Some(allow),
        _ => None,
    };
    assert_eq!(allow("/users/list", Delete), Some(set(&[Get, Head, Options])));
    assert_eq!(allow("/users/7", Get), Some(set(&[Delete, Post, Options])));
    assert_eq!(allow("/users/7", Delete), None);
    assert_eq!(allow("/other", Extension), None);
}

#[test]
fn head_goes_to_routes_that_take_head_and_then_to_those_that_take_get() {
    use Method::*;
    let specs = [
        with(&[Get], "/a"),
        with(&[Get], "/b"),
        with(&[Head], "/b"),
        RouteSpec { predicates: Predicates(1), ..with(&[Head], "/a") },
    ];
    let router = RouterBuf::build(&specs).expect("valid routes");
    let order = |path: &str, method| match router.lookup(None, path.as_bytes(), method, &mut { Spans::NONE }) {
        Lookup::Found(found) => [found.route].into_iter().chain(found.candidates()).map(|route| route.0).collect(),
        _ => Vec::new(),
    };
    assert_eq!(order("/a", Head), [3, 0]);
    assert_eq!(order("/b", Head), [2, 1]);
    assert_eq!(order("/b", Get), [1]);
    assert_eq!(order("/b", Post), [0; 0]);
}

#[test]
fn candidates_come_with_predicates_first_and_under_their_own_names() {
    let one = RouteSpec { predicates: Predicates(9), ..any("/:one/x") };
    let two = RouteSpec { predicates: Predicates(4), ..any("/:two/x") };
    let router = RouterBuf::build(&[any("/:zero/x"), one, two]).expect("valid routes");
    let mut spans = Spans::NONE;
    let Lookup::Found(found) = router.lookup(None, b"/v/x", Method::Get, &mut spans) else { panic!("not found") };
    assert_eq!((found.route, found.params(&spans).get("one", "/v/x")), (RouteId(1), Some("v")));
    assert_eq!(found.params(&spans).get("two", "/v/x"), None);
    let next = found.next_candidate().expect("a second");
    assert_eq!((next.route, next.params(&spans).get("two", "/v/x")), (RouteId(2), Some("v")));
    let last = next.next_candidate().expect("a third");
    assert_eq!((last.route, last.params(&spans).get("zero", "/v/x")), (RouteId(0), Some("v")));
    assert!(last.next_candidate().is_none());
}

#[test]
fn hosts_go_from_exact_over_the_longest_suffix_to_none() {
    let specs = [
        any("/x"),
        at_host("a.b.c", "/x"),
        at_host("*.b.c", "/x"),
        at_host("*.c", "/x"),
        at_host("a.b.c", "/only/:here"),
        at_host("*.c", "/suffix"),
        any("/everywhere"),
    ];
    let router = RouterBuf::build(&specs).expect("valid routes");
    let route = |host: Option<&str>, path: &str| match router.lookup(
        host.map(str::as_bytes),
        path.as_bytes(),
        Method::Get,
        &mut { Spans::NONE },
    ) {
        Lookup::Found(found) => Some(found.route.0),
        _ => None,
    };
    assert_eq!(route(Some("a.b.c"), "/x"), Some(1));
    assert_eq!(route(Some("A.B.c.:8080"), "/x"), Some(1));
    assert_eq!(route(Some("z.b.c"), "/x"), Some(2));
    assert_eq!(route(Some("y.z.b.c"), "/x"), Some(2));
    assert_eq!(route(Some("b.c"), "/x"), Some(3));
    assert_eq!(route(Some("c"), "/x"), Some(0));
    assert_eq!(route(None, "/x"), Some(0));
    assert_eq!(route(Some("a.b.c"), "/only/1"), Some(4));
    assert_eq!(route(Some("a.b.c"), "/suffix"), Some(5));
    assert_eq!(route(Some("a.b.c"), "/everywhere"), Some(6));
    assert_eq!(route(Some("q"), "/only/1"), None);
    assert_eq!(router.route(RouteId(2)).and_then(|route| route.host), Some("*.b.c"));
}

#[test]
fn a_host_of_a_hundred_labels_is_looked_up_only_as_far_as_suffixes_go() {
    let router = RouterBuf::build(&[at_host("*.b.c", "/x")]).expect("valid routes");
    let long = format!("{}b.c", "a.".repeat(125));
    assert!(matches!(router.lookup(Some(long.as_bytes()), b"/x", Method::Get, &mut { Spans::NONE }), Lookup::Found(_)));
    let longer = format!("{}b.c", "a.".repeat(200));
    assert!(matches!(
        router.lookup(Some(longer.as_bytes()), b"/x", Method::Get, &mut { Spans::NONE }),
        Lookup::NotFound
    ));
}

#[test]
fn all_errors_are_reported_at_once_with_the_routes_in_conflict() {
    use Method::*;
    let specs = [
        with(&[Get], "/users/:id"),
        any("no slash"),
        with(&[Post], "/users/:name"),
        with(&[Post, Get], "/users/:other"),
        at_host("a:80", "/x"),
        at_host("A.example.", "/*x"),
        at_host("a.example", "/*y"),
        RouteSpec { predicates: Predicates(3), ..any("/users/:id") },
    ];
    let errors = RouterBuf::build(&specs).expect_err("bad routes");
    let shown: Vec<_> = errors.iter().map(|error| (error.route, error.kind)).collect();
    assert_eq!(shown.len(), 4, "{errors:?}");
    assert!(matches!(shown[0], (1, RouteErrorKind::Pattern(error)) if error.kind == PatternErrorKind::LeadingSlash));
    assert_eq!(shown[1], (3, RouteErrorKind::Conflict { other: 0 }));
    assert!(matches!(shown[2], (4, RouteErrorKind::Host(error)) if error.kind == HostErrorKind::Port));
    assert_eq!(shown[3], (6, RouteErrorKind::Conflict { other: 5 }));
    assert!(errors[1].to_string().starts_with("routes[3]: expected a route that can be told apart from routes[0]"));
    let names = [any("/:a/:b"), any("/:c/:d")];
    assert!(RouterBuf::build(&names).is_err());
}

#[test]
fn an_empty_router_finds_nothing() {
    let router = RouterBuf::build(&[]).expect("no routes");
    assert_eq!(ask(&router, "/"), "404");
    assert!(matches!(router.lookup(Some(b"a"), b"/", Method::Get, &mut { Spans::NONE }), Lookup::NotFound));
    assert!(router.as_router().is_empty());
}

#[test]
fn fifty_thousand_routes_are_all_found() {
    let patterns: Vec<String> =
        (0..25_000).flat_map(|at| [format!("/tenant{at}/items/:id/*rest"), format!("/tenant{at}/static")]).collect();
    let specs: Vec<_> = patterns.iter().map(|pattern| any(pattern)).collect();
    let router = RouterBuf::build(&specs).expect("valid routes");
    for at in 0..25_000 {
        assert_eq!(ask(&router, &format!("/tenant{at}/static")), format!("/tenant{at}/static"));
        let path = format!("/tenant{at}/items/5/x/y");
        assert_eq!(ask(&router, &path), format!("/tenant{at}/items/:id/*rest id=5 rest=x/y"));
    }
    assert_eq!(ask(&router, "/tenant25000/static"), "404");
}

struct Counter(usize);

impl Steps for Counter {
    fn count_node(&mut self) {
        self.0 += 1;
    }
}

/// Every mixture of `/a` and `/:p` over twelve segments, none of which ends like the path: a matcher that forgot where
/// it had been would try each of them from each segment.
#[test]
fn an_adversarial_path_enters_each_node_at_most_once() {
    let mut patterns = Vec::new();
    for mixture in 0..1_u32 << 12 {
        let segment = |at: u32| if mixture >> at & 1 == 0 { "/a".to_owned() } else { format!("/:p{at}") };
        patterns.push((0..12).map(segment).collect::<String>() + "/end");
    }
    let specs: Vec<_> = patterns.iter().map(|pattern| any(pattern)).collect();
    let router = RouterBuf::build(&specs).expect("valid routes");
    let view = router.as_router();
    for path in ["/a".repeat(12) + "/miss", "/a".repeat(12), "/a".repeat(5000), "/b".repeat(12) + "/end/"] {
        let (mut counter, mut spans) = (Counter(0), Spans::NONE);
        let hit = view.tree.walk(view.text.as_bytes(), view.roots[0], path.as_bytes(), &mut spans, &mut counter);
        assert_eq!(hit, None);
        assert!(counter.0 <= view.tree.nodes.len(), "{} of {}", counter.0, view.tree.nodes.len());
        assert!(spans.as_slice().is_empty());
    }
    assert!(view.roots[0] != NONE && view.tree.nodes.len() <= patterns.len() * (12 + 2));
}

crate::routes! {
    static ROUTES: u32 = {
        GET "/plaintext" => 0,
        GET | POST "/users/:id" => 1,
        ANY "/users/list" => 2,
        ANY "/api/*rest" host "api.example.com" => 3,
        DELETE "/users/:name" => 4,
        GET "/users/:id/posts/:post" => 5,
        ANY "/*rest" host "*.Example.com." => 6,
        GET "/" => 7,
    }
}

crate::routes! {
    static NO_ROUTES: fn() = {}
}

#[test]
fn const_and_run_time_tables_give_the_same_answers() {
    let table = ROUTES.router();
    let infos: Vec<_> = (0..table.len()).map(|at| table.route(RouteId(at as u32)).expect("a route")).collect();
    let spec = |info: &RouteInfo<'static>| RouteSpec {
        host: info.host,
        pattern: info.pattern,
        methods: info.methods,
        predicates: info.predicates,
    };
    let specs: Vec<_> = infos.iter().map(spec).collect();
    let router = RouterBuf::build(&specs).expect("valid routes");
    let hosts = [None, Some("api.example.com"), Some("x.example.com"), Some("elsewhere")];
    let paths =
        ["/", "/plaintext", "/users/7", "/users/list", "/users/", "/api/", "/api/x/y", "/users/1/posts/2", "/q"];
    for host in hosts {
        for path in paths {
            for method in [Method::Get, Method::Head, Method::Delete, Method::Put] {
                let expected = naive_lookup(&specs, host, path, method);
                let mut spans = Spans::NONE;
                assert_eq!(
                    observe(ROUTES.lookup(host.map(str::as_bytes), path.as_bytes(), method, &mut spans), &spans, path),
                    expected,
                    "{host:?} {path} {method:?}"
                );
                assert_eq!(
                    observe(router.lookup(host.map(str::as_bytes), path.as_bytes(), method, &mut spans), &spans, path),
                    expected,
                    "{host:?} {path} {method:?}"
                );
            }
        }
    }
    assert_eq!(ROUTES.handler(RouteId(3)), Some(&3));
    assert_eq!(ROUTES.handler(RouteId(8)), None);
    assert!(matches!(NO_ROUTES.lookup(None, b"/", Method::Get, &mut { Spans::NONE }), Lookup::NotFound));
    assert!(NO_ROUTES.router().is_empty());
}

#[test]
fn routers_are_shared_between_threads() {
    const fn shared<T: Send + Sync + 'static>() {}
    shared::<RouterBuf>();
    shared::<RouteTable<fn()>>();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 8 } else { 2000 }, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_router_agrees_with_the_naive_matcher(data in proptest::collection::vec(proptest::num::u8::ANY, 0..500)) {
        check_route_match(&data);
    }

    #[test]
    fn the_pattern_parser_never_panics_and_the_router_takes_what_it_takes(text in "[/:*a-c.%0-9]{0,24}") {
        let parsed = Pattern::parse(&text);
        prop_assert_eq!(RouterBuf::build(&[any(&text)]).is_ok(), parsed.is_ok());
    }

    #[test]
    fn the_server_sorts_routes_as_the_compiler_does(
        picks in proptest::collection::vec((0..4_usize, 0..9_usize, 0..3_u32), 0..60)
    ) {
        const HOSTS: [Option<&str>; 4] = [None, Some("a.example"), Some("A.example.org"), Some("*.example")];
        const PATTERNS: [&str; 9] =
            ["/", "/a", "/a/", "/a/b", "/a/:x", "/a/:x/b", "/a/*rest", "/:x", "/a%20b/:x"];
        let spec = |(host, pattern, predicates): &(usize, usize, u32)| RouteSpec {
            host: HOSTS[*host],
            predicates: Predicates(*predicates),
            ..any(PATTERNS[*pattern])
        };
        let [compiled, served] = lookup::orders(&picks.iter().map(spec).collect::<Vec<_>>());
        prop_assert_eq!(compiled, served);
    }
}
