//! The clauses of RFC 9111 sections 3 and 4.2 as a table.

use super::*;

/// 2020-01-02 00:00:00 GMT.
const NOW: u64 = 1_577_923_200;
const DATE: &str = "Thu, 02 Jan 2020 00:00:00 GMT";

const RULES: Rules = Rules {
    heuristic_percent: 10,
    heuristic_max: 3600,
    stale_while_revalidate: 0,
    stale_if_error: 0,
    cookies: Cookies::Refuse,
};

fn fields(lines: &str) -> Fields {
    let mut fields = Fields::new();
    for line in lines.split('\n').map(str::trim).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(": ").unwrap();
        fields.push_parsed(name.as_bytes(), value.as_bytes()).unwrap();
    }
    fields
}

fn judged(status: u16, lines: &str, asked: Asked) -> Result<Freshness, Refusal> {
    let times = Times { received: Duration::from_secs(NOW), delay: Duration::from_secs(2) };
    judge(asked, Status::new(status).unwrap(), &fields(lines), times, &RULES)
}

fn plain(lines: &str) -> Result<Freshness, Refusal> {
    judged(200, lines, Asked::default())
}

#[test]
fn what_may_be_stored_is_decided_by_section_3() {
    for (status, lines, expected) in [
        (200, "Cache-Control: max-age=1, no-store", Err(Refusal::NoStore)),
        (200, "Cache-Control: max-age=1, private", Err(Refusal::Private)),
        (200, "Cache-Control: max-age=10, private=\"x\"", Err(Refusal::Private)),
        (206, "Cache-Control: max-age=10", Err(Refusal::Status)),
        (304, "Cache-Control: max-age=10", Err(Refusal::Status)),
        (599, "Cache-Control: max-age=10", Ok(10)),
        (599, "Cache-Control: max-age=10, must-understand", Err(Refusal::Status)),
        (404, "Cache-Control: max-age=10, must-understand", Ok(10)),
        (500, "Cache-Control: max-age=10", Ok(10)),
        (500, "", Err(Refusal::Useless)),
        (200, "", Err(Refusal::Useless)),
        (200, "Cache-Control: public", Err(Refusal::Useless)),
        (200, "Cache-Control: max-age=10\nSet-Cookie: a=b", Err(Refusal::Cookies)),
        (200, "Cache-Control: max-age=10\nVary: a, *", Err(Refusal::Vary)),
        (200, "Cache-Control: max-age=10\nVary: a, b", Ok(10)),
        (200, "Cache-Control: no-cache", Err(Refusal::Useless)),
        (200, "Cache-Control: no-cache\nETag: \"a\"", Ok(0)),
        (200, "Cache-Control: max-age=0", Err(Refusal::Useless)),
        (200, "Cache-Control: max-age=0, stale-if-error=5", Ok(0)),
        (200, "Cache-Control: max-age=0, stale-if-error=5, must-revalidate", Err(Refusal::Useless)),
        (200, "ETag: \"a\"", Ok(0)),
        (201, "ETag: \"a\"", Err(Refusal::Useless)),
    ] {
        let found = judged(status, lines, Asked::default()).map(|freshness| freshness.lifetime);
        assert_eq!(found, expected, "{status} {lines}");
    }
}

#[test]
fn answers_to_authorized_requests_are_stored_only_where_the_response_allows_it() {
    let asked = Asked { is_authorized: true, no_store: false };
    for (control, is_stored) in [
        ("max-age=10", false),
        ("max-age=10, proxy-revalidate", false),
        ("max-age=10, public", true),
        ("max-age=10, must-revalidate", true),
        ("s-maxage=10", true),
    ] {
        let found = judged(200, &format!("Cache-Control: {control}"), asked);
        assert_eq!(found.is_ok(), is_stored, "{control}: {found:?}");
    }
    let no_store = Asked { is_authorized: false, no_store: true };
    assert_eq!(judged(200, "Cache-Control: max-age=10", no_store), Err(Refusal::NoStore));
}

#[test]
fn the_lifetime_is_the_first_of_those_that_section_4_2_1_lists() {
    let expires = |value: &str| format!("Date: {DATE}\nExpires: {value}");
    let modified = "Last-Modified: Wed, 01 Jan 2020 23:00:00 GMT";
    for (status, lines, expected) in [
        (200, "Cache-Control: max-age=5, s-maxage=9".to_owned(), 9),
        (200, "Cache-Control: max-age=5\nCache-Control: s-maxage=9".to_owned(), 9),
        (200, format!("Cache-Control: max-age=5\n{}", expires("0")), 5),
        (200, expires("Thu, 02 Jan 2020 00:01:00 GMT"), 60),
        (200, format!("ETag: \"a\"\n{}", expires("0")), 0),
        (200, format!("ETag: \"a\"\n{}", expires(DATE)), 0),
        (200, format!("ETag: \"a\"\n{}", expires("Wed, 01 Jan 2020 00:00:00 GMT")), 0),
        (200, format!("Expires: Thu, 02 Jan 2020 00:01:00 GMT\nETag: \"a\"\n{}", expires(DATE)), 0),
        (200, format!("Date: {DATE}\n{modified}"), 360),
        (404, format!("Date: {DATE}\n{modified}"), 360),
        (599, format!("Date: {DATE}\n{modified}\nCache-Control: public"), 360),
        (200, format!("Date: {DATE}\nLast-Modified: Tue, 01 Jan 2019 00:00:00 GMT"), 3600),
    ] {
        let found = judged(status, &lines, Asked::default()).map(|freshness| freshness.lifetime);
        assert_eq!(found, Ok(expected), "{status} {lines}");
    }
    assert_eq!(judged(403, &format!("Date: {DATE}\n{modified}"), Asked::default()), Err(Refusal::Useless));
}

#[test]
fn the_age_counts_what_others_tell_and_what_the_date_shows() {
    for (lines, expected) in [
        ("", 2),
        ("Age: 30", 32),
        ("Age: 7, 100", 9),
        ("Age: abc", 2),
        ("Age: -5", 2),
        ("Age: 99999999999999", CACHE_SECONDS_MAX),
        ("Date: Wed, 01 Jan 2020 23:59:00 GMT", 60),
        ("Date: Wed, 01 Jan 2020 23:59:00 GMT\nAge: 100", 102),
        ("Date: Thu, 02 Jan 2020 00:05:00 GMT", 2),
    ] {
        let found = plain(&format!("Cache-Control: max-age=2147483648\nETag: \"a\"\n{lines}"));
        assert_eq!(found.map(|freshness| freshness.initial_age), Ok(expected), "{lines}");
    }
}

#[test]
fn staleness_is_forbidden_where_the_response_forbids_it() {
    for (control, expected) in [
        ("max-age=10", Stale::Allowed),
        ("max-age=10, must-revalidate", Stale::Forbidden),
        ("max-age=10, proxy-revalidate", Stale::Forbidden),
        ("s-maxage=10", Stale::Forbidden),
        ("max-age=10, no-cache", Stale::AlwaysValidate),
    ] {
        let found = plain(&format!("ETag: \"a\"\nCache-Control: {control}, stale-if-error=60")).unwrap();
        assert_eq!(found.stale, expected, "{control}");
        let serves = [5, 30, 69, 70].map(|age| found.serves_error(age));
        let allowed = expected == Stale::Allowed;
        assert_eq!(serves, [allowed, allowed, allowed, false], "{control}");
    }
}

proptest::proptest! {
    #[test]
    fn age_and_time_to_live_run_against_each_other(lifetime in 0_u32..1000, age in 0_u32..1000, seconds in 0_u64..5000) {
        let freshness = Freshness {
            initial_age: age, lifetime, stale: Stale::Allowed, while_revalidate: 0, if_error: 0,
        };
        let now = freshness.age(Duration::from_secs(seconds));
        assert_eq!(u64::from(now), u64::from(age) + seconds);
        assert_eq!(freshness.time_to_live(now) + i64::from(now), i64::from(lifetime));
    }
}
