//! Predicates against examples, and against a naive evaluation that allocates and splits as it likes.

use proptest::prelude::*;

use super::*;
use crate::handler::testing::{get, parse};

fn holds(source: PredicateSource, name: &str, test: PredicateTest, path: &str, lines: &[&str]) -> bool {
    let raw = get(path, lines);
    let head = parse(&raw);
    Predicate::new(source, name, test).holds(&head.view(raw.as_bytes()))
}

fn exact(value: &str) -> PredicateTest {
    PredicateTest::Exact(value.to_owned())
}

fn prefix(value: &str) -> PredicateTest {
    PredicateTest::Prefix(value.to_owned())
}

use PredicateSource::{Cookie, Header, Query};
use PredicateTest::{Absent, Present};

#[test]
fn a_header_is_compared_by_its_first_value_whatever_the_case_of_its_name() {
    let lines = ["X-Canary:  yes ", "x-canary: no", "X-Empty:"];
    for (name, test, expected) in [
        ("x-CANARY", exact("yes"), true),
        ("X-Canary", exact("no"), false),
        ("X-Canary", exact("YES"), false),
        ("X-Canary", prefix("ye"), true),
        ("X-Canary", prefix("yes!"), false),
        ("X-Empty", exact(""), true),
        ("X-Empty", Present, true),
        ("X-None", exact(""), false),
        ("X-None", Absent, true),
        ("X-Canary", Absent, false),
    ] {
        assert_eq!(holds(Header, name, test.clone(), "/", &lines), expected, "{name} {test:?}");
    }
}

#[test]
fn a_field_of_the_query_is_compared_as_it_is_decoded() {
    for (path, name, test, expected) in [
        ("/?a=b", "a", exact("b"), true),
        ("/?a=b&a=c", "a", exact("c"), false),
        ("/?A=b", "a", Present, false),
        ("/?a=x%20y+z", "a", exact("x y z"), true),
        ("/?%61=%C3%A9", "a", exact("é"), true),
        ("/?a=%c3%a9t", "a", prefix("é"), true),
        ("/?a=%zz%4", "a", exact("%zz%4"), true),
        ("/?a=b=c", "a", exact("b=c"), true),
        ("/?a", "a", exact(""), true),
        ("/?&&=x&a", "a", Present, true),
        ("/?", "a", Absent, true),
        ("/", "a", Absent, true),
        ("/", "a", Present, false),
        ("/?ab=1", "a", Present, false),
        ("/?a=%2500", "a", exact("%00"), true),
    ] {
        assert_eq!(holds(Query, name, test.clone(), path, &[]), expected, "{path} {name} {test:?}");
    }
}

#[test]
fn a_cookie_is_the_first_of_its_name_in_all_fields() {
    let lines = ["Cookie: a=1; b=\"2\";c = 3 ; novalue; =4", "Cookie: a=5; d=6=7"];
    for (name, test, expected) in [
        ("a", exact("1"), true),
        ("a", exact("5"), false),
        ("A", Present, false),
        ("b", exact("\"2\""), true),
        ("c", exact("3"), true),
        ("novalue", Present, false),
        ("d", exact("6=7"), true),
        ("d", prefix("6"), true),
        ("e", Absent, true),
    ] {
        assert_eq!(holds(Cookie, name, test.clone(), "/", &lines), expected, "{name} {test:?}");
    }
}

#[test]
fn conditions_read_as_people_say_them() {
    for (condition, text) in [
        (Predicate::new(Header, "X-Canary", exact("1")), "header x-canary is \"1\""),
        (Predicate::new(Query, "a b", prefix("\n")), "query \"a b\" begins with \"\\n\""),
        (Predicate::new(Cookie, "Sid", Present), "cookie Sid is there"),
        (Predicate::new(Cookie, "Sid", Absent), "cookie Sid is not there"),
    ] {
        assert_eq!(condition.to_string(), text);
    }
    assert_eq!(PredicateSet::new(Vec::new()), None);
    let one = || Predicate::new(Header, "A", Present);
    let two = || Predicate::new(Query, "A", Present);
    assert_eq!(PredicateSet::new(vec![one(), two()]), PredicateSet::new(vec![two(), one(), one()]));
}

/// What a form's field stands for, by the book: spaces for `+`, then escapes.
fn decode_form(raw: &str) -> Vec<u8> {
    let mut out = Vec::new();
    super::super::percent::decode(raw.replace('+', " ").as_bytes(), &mut out);
    out
}

/// The value of a name, all values listed first.
fn naive_value(
    source: PredicateSource,
    name: &str,
    query: Option<&str>,
    fields: &[(String, String)],
) -> Option<Vec<u8>> {
    let values: Vec<(Vec<u8>, Vec<u8>)> = match source {
        Header => fields
            .iter()
            .map(|(name, value)| (name.to_lowercase().into_bytes(), value.trim_matches([' ', '\t']).into()))
            .collect(),
        Query => query
            .unwrap_or_default()
            .split('&')
            .filter(|field| !field.is_empty())
            .map(|field| field.split_once('=').unwrap_or((field, "")))
            .map(|(name, value)| (decode_form(name), decode_form(value)))
            .collect(),
        Cookie => fields
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("cookie"))
            .flat_map(|(_, value)| value.split(';'))
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.trim_matches([' ', '\t']).into(), value.trim_matches([' ', '\t']).into()))
            .collect(),
    };
    let name = if source == Header { name.to_lowercase() } else { name.to_owned() };
    values.into_iter().find(|(own, _)| own == name.as_bytes()).map(|(_, value)| value)
}

fn naive_holds(test: &PredicateTest, value: Option<Vec<u8>>) -> bool {
    match (test, value) {
        (Absent, value) => value.is_none(),
        (_, None) => false,
        (PredicateTest::Exact(wanted), Some(value)) => value == wanted.as_bytes(),
        (PredicateTest::Prefix(wanted), Some(value)) => value.starts_with(wanted.as_bytes()),
        (Present, Some(_)) => true,
    }
}

fn any_test() -> impl Strategy<Value = PredicateTest> {
    prop_oneof![
        "[ab% +\"]{0,3}".prop_map(PredicateTest::Exact),
        "[ab% ]{0,2}".prop_map(PredicateTest::Prefix),
        Just(Present),
        Just(Absent),
    ]
}

fn any_predicate() -> impl Strategy<Value = Predicate> {
    let source = prop_oneof![Just(Header), Just(Query), Just(Cookie)];
    (source, "[aAb]", any_test()).prop_map(|(source, name, test)| Predicate::new(source, &name, test))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn predicates_agree_with_a_naive_evaluation(
        conditions in prop::collection::vec(any_predicate(), 1..4),
        query in prop::option::of("([aAb]|%6[12]|%2|%|[=&+;]){0,10}"),
        fields in prop::collection::vec((prop_oneof![Just("Cookie".to_owned()), "[aAb]"], "[ab=; \t\"%]{0,10}"), 0..5),
    ) {
        let path = query.as_ref().map_or("/".to_owned(), |query| format!("/?{query}"));
        let lines: Vec<String> = fields.iter().map(|(name, value)| format!("{name}:{value}")).collect();
        let raw = get(&path, &lines.iter().map(String::as_str).collect::<Vec<_>>());
        let head = parse(&raw);
        let view = head.view(raw.as_bytes());
        let naive = |condition: &Predicate| {
            naive_holds(&condition.test, naive_value(condition.source, &condition.name, query.as_deref(), &fields))
        };
        for condition in &conditions {
            prop_assert_eq!(condition.holds(&view), naive(condition), "{} in {:?}", condition, raw);
        }
        let all = conditions.iter().all(naive);
        let set = PredicateSet::new(conditions.clone()).unwrap();
        prop_assert_eq!(set.holds(&view), all);
        prop_assert_eq!(set.failed(&view).count() == 0, all);
    }
}
