//! The matrix of conditional requests.

use super::*;
use crate::handler::testing::{get, parse};
use crate::rt::fs::Kind;

const MODIFIED: Duration = Duration::from_secs(784_111_777);
const AT: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
const AFTER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

fn metadata() -> Metadata {
    Metadata { size: 255, modified: MODIFIED + Duration::from_nanos(16), inode: 10, kind: Kind::Regular }
}

fn validators() -> Validators {
    Validators::new(&metadata(), None, MODIFIED * 2)
}

/// The file's tag.
const TAG: &str = "\"ff-ae1b981bc490a10-a\"";

fn verdict(lines: &[&str]) -> Verdict {
    let raw = get("/", lines);
    evaluate(&parse(&raw).view(raw.as_bytes()), &validators())
}

fn applies(lines: &[&str], now: Duration) -> bool {
    let raw = get("/", lines);
    range_applies(&parse(&raw).view(raw.as_bytes()), &validators(), now)
}

fn tags(list: &str) -> Vec<Tag<'_>> {
    Tags(list.as_bytes()).collect()
}

#[test]
fn a_tag_changes_with_all_that_tells_versions_apart() {
    assert_eq!(validators().etag.as_bytes(), TAG.as_bytes());
    let etag = |change: fn(&mut Metadata), coding| {
        let mut metadata = metadata();
        change(&mut metadata);
        Etag::new(&metadata, coding)
    };
    let all = [
        etag(|_| {}, None),
        etag(|_| {}, Some(Coding::Gzip)),
        etag(|_| {}, Some(Coding::Brotli)),
        etag(|metadata| metadata.size += 1, None),
        etag(|metadata| metadata.modified += Duration::from_nanos(1), None),
        etag(|metadata| metadata.inode += 1, None),
    ];
    for (index, one) in all.iter().enumerate() {
        assert!(!all[..index].contains(one), "{one:?}");
    }
    assert!(all[1].as_bytes().ends_with(b"-gzip\""));
    let longest = Metadata { size: u64::MAX, modified: Duration::MAX, inode: u64::MAX, kind: Kind::Regular };
    assert!(Etag::new(&longest, Some(Coding::Zstd)).as_bytes().ends_with(b"-zstd\""));
}

#[test]
fn a_time_to_come_is_not_told() {
    let now = MODIFIED - Duration::from_secs(5);
    assert_eq!(Validators::new(&metadata(), None, now).modified, now);
}

#[test]
fn lists_of_tags_are_read_up_to_what_is_none() {
    use Tag::{Strong, Weak};
    // RFC 9110 sections 13.1.1 and 13.1.2.
    assert_eq!(tags(r#""xyzzy""#), [Strong(b"\"xyzzy\"")]);
    assert_eq!(
        tags(r#""xyzzy", "r2d2xxxx", "c3piozzzz""#),
        [Strong(b"\"xyzzy\""), Strong(b"\"r2d2xxxx\""), Strong(b"\"c3piozzzz\"")]
    );
    assert_eq!(tags(r#"W/"xyzzy", W/"r2d2xxxx""#), [Weak(b"\"xyzzy\""), Weak(b"\"r2d2xxxx\"")]);
    assert_eq!(tags(r#", ,"a,b" ,"""#), [Strong(b"\"a,b\""), Strong(b"\"\"")]);
    assert_eq!(tags(r#""a", b, "c""#), [Strong(b"\"a\"")]);
    for none in ["", "a", "\"", "\"a", "w/\"a\"", "W/a", "\"a b\"", "\"a\"b", "\"a\"\"b\"", "W/", "W/\""] {
        assert_eq!(tags(none), [], "{none}");
    }
}

#[test]
fn if_match_compares_strongly_and_fails_with_412() {
    assert_eq!(verdict(&[&format!("If-Match: {TAG}")]), Verdict::Proceed);
    assert_eq!(verdict(&[&format!("If-Match: \"x\", {TAG}")]), Verdict::Proceed);
    assert_eq!(verdict(&["If-Match: \"x\"", &format!("If-Match: {TAG}")]), Verdict::Proceed);
    assert_eq!(verdict(&["If-Match: *"]), Verdict::Proceed);
    assert_eq!(verdict(&[&format!("If-Match: W/{TAG}")]), Verdict::Failed);
    assert_eq!(verdict(&["If-Match: \"x\""]), Verdict::Failed);
    assert_eq!(verdict(&["If-Match: nonsense"]), Verdict::Failed);
    assert_eq!(verdict(&["If-Match:"]), Verdict::Failed);
}

#[test]
fn if_none_match_compares_weakly_and_answers_304() {
    for value in [TAG.to_owned(), format!("W/{TAG}"), format!("\"x\",{TAG}"), "*".to_owned()] {
        assert_eq!(verdict(&[&format!("If-None-Match: {value}")]), Verdict::NotModified, "{value}");
    }
    for value in ["\"x\"", "nonsense", ""] {
        assert_eq!(verdict(&[&format!("If-None-Match: {value}")]), Verdict::Proceed, "{value}");
    }
}

#[test]
fn dates_count_where_there_is_no_tag() {
    for (date, unmodified, modified) in [
        (BEFORE, Verdict::Failed, Verdict::Proceed),
        (AT, Verdict::Proceed, Verdict::NotModified),
        (AFTER, Verdict::Proceed, Verdict::NotModified),
        ("yesterday", Verdict::Proceed, Verdict::Proceed),
    ] {
        assert_eq!(verdict(&[&format!("If-Unmodified-Since: {date}")]), unmodified, "{date}");
        assert_eq!(verdict(&[&format!("If-Modified-Since: {date}")]), modified, "{date}");
        // A tag decides alone.
        assert_eq!(verdict(&["If-Match: *", &format!("If-Unmodified-Since: {date}")]), Verdict::Proceed);
        assert_eq!(verdict(&["If-None-Match: \"x\"", &format!("If-Modified-Since: {date}")]), Verdict::Proceed);
        assert_eq!(verdict(&["If-None-Match: *", &format!("If-Modified-Since: {date}")]), Verdict::NotModified);
    }
    let twice = format!("If-Modified-Since: {AT}");
    assert_eq!(verdict(&[&twice, &twice]), Verdict::Proceed);
    // The obsolete forms of a date count too (section 5.6.7).
    assert_eq!(verdict(&["If-Modified-Since: Sunday, 06-Nov-94 08:49:37 GMT"]), Verdict::NotModified);
    assert_eq!(verdict(&["If-Modified-Since: Sun Nov  6 08:49:37 1994"]), Verdict::NotModified);
}

#[test]
fn failing_comes_before_not_modified() {
    let (matches, at) = (format!("If-None-Match: {TAG}"), format!("If-Modified-Since: {AT}"));
    assert_eq!(verdict(&[&matches, "If-Match: \"x\""]), Verdict::Failed);
    assert_eq!(verdict(&[&at, &format!("If-Unmodified-Since: {BEFORE}")]), Verdict::Failed);
    assert_eq!(verdict(&["If-Match: *", &matches]), Verdict::NotModified);
}

#[test]
fn if_range_takes_a_strong_tag_or_the_very_date() {
    let later = MODIFIED + Duration::from_secs(1);
    assert!(applies(&[], later));
    assert!(applies(&[&format!("If-Range: {TAG}")], MODIFIED));
    assert!(applies(&[&format!("If-Range: {AT}")], later));
    assert!(!applies(&[&format!("If-Range: {AT}")], MODIFIED), "its second is not over");
    for value in [BEFORE, AFTER, "\"x\"", &format!("W/{TAG}"), "", "*", "nonsense"] {
        assert!(!applies(&[&format!("If-Range: {value}")], later), "{value}");
    }
    let line = format!("If-Range: {TAG}");
    assert!(!applies(&[&line, &line], later));
}
