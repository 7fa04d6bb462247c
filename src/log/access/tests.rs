//! Lines of every kind of bytes, and a writer that is slow, stuck or has no room.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;

use super::super::file::{Destination, reopen};
use super::*;
use crate::limits::{ACCESS_BATCH_BYTES, ACCESS_BATCHES_QUEUED_MAX};

const PATIENCE: Duration = Duration::from_secs(20);

fn record<'a>(bytes: &'a [u8]) -> Record<'a> {
    Record {
        time: Duration::new(784_111_777, 123_456_789),
        id: b"00000000000000ff",
        peer: "[::1]:9".parse().unwrap(),
        method: Some(bytes),
        path: Some(bytes),
        query: Some(bytes),
        host: Some(bytes),
        protocol: Some("HTTP/1.1"),
        status: 502,
        request_bytes: 17,
        response_bytes: u64::MAX,
        duration: Duration::from_nanos(1_234_567),
        route: Some(bytes),
        user_agent: Some(bytes),
        referer: Some(bytes),
        forwarded: Some(Forwarded {
            upstream: bytes,
            server: Some(bytes),
            attempts: 2,
            connect: Some(Duration::from_micros(3)),
            head: Some(Duration::from_micros(4)),
            total: Some(Duration::from_micros(5)),
        }),
        termination: "SH-closed",
        trace: Some([0xab; 16]),
    }
}

fn line(form: Form, record: &Record<'_>) -> String {
    let mut out = Vec::new();
    write_line(&mut out, form, Field::ALL, 3, record);
    String::from_utf8(out).unwrap()
}

/// What the fields hold whose text is a client's.
const TEXTS: [&str; 8] = ["method", "path", "query", "host", "route", "user_agent", "upstream", "server"];

proptest! {
    #[test]
    fn any_bytes_give_one_line_that_reads_back_as_they_were(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            "[\"\\\\\r\n\t \u{0}-\u{1f}\u{7f}-\u{9f}\u{2028}\u{202e}=,{}:a-z]{0,60}".prop_map(String::into_bytes),
        ],
    ) {
        let json = line(Form::Json, &record(&bytes));
        prop_assert_eq!(json.matches('\n').count(), 1);
        prop_assert!(json.ends_with('\n') && !json.trim_end_matches('\n').contains(char::is_control));
        let read: Value = serde_json::from_str(&json).unwrap();
        let expected = String::from_utf8_lossy(&bytes);
        for name in TEXTS {
            prop_assert_eq!(read[name].as_str(), Some(&*expected), "{}", name);
        }
        let text = line(Form::Text, &record(&bytes));
        prop_assert!(text.ends_with('\n') && !text.trim_end_matches('\n').contains(char::is_control));
        // What is in quotes ends where it seems to: each value is a JSON string.
        let value = text.split_once("user_agent=").unwrap().1;
        let read = serde_json::Deserializer::from_str(value).into_iter::<String>().next().unwrap().unwrap();
        prop_assert_eq!(&*read, &*expected);
    }
}

#[test]
fn every_field_stands_in_the_line_under_its_name_and_in_order() {
    let json = line(Form::Json, &record(b"x"));
    let read: Value = serde_json::from_str(&json).unwrap();
    let names: Vec<_> = read.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(names, Field::ALL.iter().map(|field| field.name()).collect::<Vec<_>>());
    for (name, value) in [
        ("time", Value::from("1994-11-06T08:49:37.123456Z")),
        ("id", "00000000000000ff".into()),
        ("peer", "[::1]:9".into()),
        ("protocol", "HTTP/1.1".into()),
        ("status", 502.into()),
        ("request_bytes", 17.into()),
        ("response_bytes", u64::MAX.into()),
        ("duration_us", 1234.into()),
        ("worker", 3.into()),
        ("attempts", 2.into()),
        ("upstream_connect_us", 3.into()),
        ("upstream_head_us", 4.into()),
        ("upstream_us", 5.into()),
        ("termination", "SH-closed".into()),
        ("trace_id", "ab".repeat(16).into()),
    ] {
        assert_eq!(read[name], value, "{name}");
    }
    let text = line(Form::Text, &record(b"a b"));
    assert!(text.starts_with("time=1994-11-06T08:49:37.123456Z id=00000000000000ff peer=[::1]:9 method=\"a b\""));
    assert!(text.ends_with(&format!("termination=SH-closed trace_id={}\n", "ab".repeat(16))), "{text}");
}

#[test]
fn what_a_request_has_not_is_left_out() {
    let bare = Record {
        method: None,
        path: None,
        query: None,
        host: None,
        protocol: None,
        route: None,
        user_agent: None,
        referer: None,
        forwarded: None,
        trace: None,
        ..record(b"")
    };
    let read: Value = serde_json::from_str(&line(Form::Json, &bare)).unwrap();
    let names: Vec<_> = read.as_object().unwrap().keys().map(String::as_str).collect();
    let rest =
        ["time", "id", "peer", "status", "request_bytes", "response_bytes", "duration_us", "worker", "termination"];
    assert_eq!(names, rest);
}

#[test]
fn a_referer_has_neither_query_nor_fragment_nor_user() {
    for (uri, logged) in [
        ("https://a.example/x?token=1", "https://a.example/x"),
        ("https://a.example/x#secret", "https://a.example/x"),
        ("https://me:pass@a.example/x", ""),
        ("/x", "/x"),
    ] {
        let read: Value = serde_json::from_str(&line(Form::Json, &record(uri.as_bytes()))).unwrap();
        assert_eq!(read["referer"], logged, "{uri}");
    }
}

#[test]
fn no_field_is_a_credential_and_the_default_has_no_query() {
    for field in Field::ALL {
        let name = field.name();
        assert!(!name.contains("cookie") && !name.contains("auth") && !name.contains("header"), "{name}");
    }
    assert!(!Field::DEFAULT.contains(&Field::Query) && !Field::DEFAULT.contains(&Field::Referer));
}

#[test]
fn a_sample_is_its_share_of_what_went_well_and_all_that_failed() {
    for share in [1.0, 0.5, 0.1, 0.001] {
        let which = Which::Sampled(Share::new(share));
        // Numbers in a row, as requests have them.
        let taken = (0..100_000).filter(|number| which.takes(false, *number)).count() as f64 / 100_000.0;
        assert!((taken - share).abs() < 0.01 * share.sqrt(), "{share}: {taken}");
        assert!((0..1000).all(|number| which.takes(true, number)));
    }
    assert!(Which::All.takes(false, 0) && Which::Errors.takes(true, 0));
    assert!(!Which::Errors.takes(false, 0) && !Which::Off.takes(true, 0));
}

/// A folder of a test's own, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("ringfort-access-{}-{number}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    fn file(&self) -> PathBuf {
        self.0.join("access.log")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Re-opening is for the whole process: tests that look at what comes of it do so one after the other.
static REOPENING: Mutex<()> = Mutex::new(());

fn all() -> Spec {
    Spec::new(Which::All, Form::Json, vec![Field::Path])
}

fn push(lane: &mut Lane, number: usize) {
    lane.push(&all(), &record(number.to_string().as_bytes()));
}

/// The numbers of whole lines.
fn numbers(text: &str) -> Vec<usize> {
    let number = |line: &str| serde_json::from_str::<Value>(line).unwrap()["path"].as_str().unwrap().parse().unwrap();
    text.lines().map(number).collect()
}

#[test]
fn lines_of_all_cores_are_written_each_once_and_in_their_order() {
    let folder = Folder::new();
    let file = folder.file();
    let log = AccessLog::open(Some(&file)).unwrap();
    log.start().unwrap();
    std::thread::scope(|scope| {
        for worker in 0..3 {
            let mut lane = log.lane(worker);
            scope.spawn(move || {
                for number in 0..5_000 {
                    // Below what a queue holds, so that none is dropped however slow the writer is.
                    push(&mut lane, worker * 10_000 + number);
                }
                assert_eq!(lane.take_dropped(), 0);
            });
        }
    });
    assert!(log.finish(PATIENCE));
    let numbers = numbers(&fs::read_to_string(&file).unwrap());
    for worker in 0..3 {
        let own: Vec<_> = numbers.iter().filter(|number| **number / 10_000 == worker).map(|n| n % 10_000).collect();
        assert!(own.iter().copied().eq(0..5_000), "worker {worker}: {} lines", own.len());
    }
}

#[test]
fn a_stuck_writer_drops_and_counts_lines_and_never_blocks_the_core() {
    let (reader, writer) = std::io::pipe().unwrap();
    let log = AccessLog::new(Destination::stream(&writer).unwrap());
    drop(writer);
    log.start().unwrap();
    let mut lane = log.lane(0);
    // Twice what the queue holds, and a pipe takes 64 KiB. Nobody reads: this would never end if it waited.
    let lines = 2 * ACCESS_BATCHES_QUEUED_MAX * ACCESS_BATCH_BYTES / 10;
    for number in 0..lines {
        push(&mut lane, number);
    }
    lane.hand_over();
    let dropped = lane.take_dropped() as usize;
    assert!(dropped > lines / 4 && dropped < lines, "{dropped} of {lines}");
    assert_eq!(lane.take_dropped(), 0);
    assert!(!log.finish(Duration::from_millis(1)));
    drop(lane);
    let taken = std::thread::spawn(move || {
        let mut text = String::new();
        { reader }.read_to_string(&mut text).unwrap();
        text
    });
    assert!(log.finish(PATIENCE));
    drop(log);
    // Whole lines, in order, and the rest was counted.
    let numbers = numbers(&taken.join().unwrap());
    assert_eq!(numbers.len() + dropped, lines);
    assert!(numbers.is_sorted());
}

#[test]
fn what_cannot_be_written_is_counted_and_writing_goes_on() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let log = AccessLog::new(Destination::stream(full).unwrap());
    log.start().unwrap();
    let mut lane = log.lane(0);
    (0..7).for_each(|number| push(&mut lane, number));
    lane.hand_over();
    let deadline = crate::clock::now() + PATIENCE;
    let mut unwritten = 0;
    while unwritten < 7 && crate::clock::now() < deadline {
        unwritten += lane.take_unwritten();
        std::thread::yield_now();
    }
    assert_eq!(unwritten, 7);
    let folder = Folder::new();
    let file = folder.file();
    log.redirect(Some(&file)).unwrap();
    (7..9).for_each(|number| push(&mut lane, number));
    lane.hand_over();
    assert!(log.finish(PATIENCE));
    assert_eq!(numbers(&fs::read_to_string(&file).unwrap()), [7, 8]);
    assert_eq!((lane.take_unwritten(), lane.take_dropped()), (0, 0));
}

#[test]
fn a_reader_that_left_is_survived() {
    let (reader, writer) = std::io::pipe().unwrap();
    let log = AccessLog::new(Destination::stream(&writer).unwrap());
    drop((reader, writer));
    log.start().unwrap();
    let mut lane = log.lane(0);
    push(&mut lane, 1);
    lane.hand_over();
    assert!(log.finish(PATIENCE));
    assert_eq!(lane.take_unwritten(), 1);
}

#[test]
fn a_file_that_was_renamed_is_left_at_the_reopening_and_no_line_is_lost() {
    let _alone = REOPENING.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Folder::new();
    let (file, old) = (folder.file(), folder.0.join("access.log.1"));
    let log = AccessLog::open(Some(&file)).unwrap();
    log.start().unwrap();
    let mut lane = log.lane(0);
    const LINES: usize = 4_000;
    for number in 0..LINES {
        push(&mut lane, number);
        if number == LINES / 2 {
            fs::rename(&file, &old).unwrap();
            reopen().unwrap();
            assert!(file.exists(), "the new file is there at once");
        }
    }
    drop(lane);
    assert!(log.finish(PATIENCE));
    let (before, after) = (fs::read_to_string(&old).unwrap(), fs::read_to_string(&file).unwrap());
    let all: Vec<_> = numbers(&before).into_iter().chain(numbers(&after)).collect();
    assert!(all.iter().copied().eq(0..LINES), "{} lines", all.len());
    assert!(!after.is_empty());
}

#[test]
fn one_file_that_cannot_be_reopened_is_told_and_stays_in_use() {
    let _alone = REOPENING.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Folder::new();
    let file = folder.file();
    let log = AccessLog::open(Some(&file)).unwrap();
    log.start().unwrap();
    let moved = Folder::new();
    fs::rename(&folder.0, &moved.0).unwrap();
    let failures = reopen().unwrap_err();
    assert!(failures.iter().any(|failure| failure.path == file), "{failures:?}");
    let mut lane = log.lane(0);
    push(&mut lane, 1);
    drop(lane);
    assert!(log.finish(PATIENCE));
    assert_eq!(numbers(&fs::read_to_string(moved.file()).unwrap()), [1]);
}

#[test]
fn an_access_log_that_was_never_started_ends_at_once() {
    let log = AccessLog::new(Destination::stream(File::open("/dev/null").unwrap()).unwrap());
    let mut lane = log.lane(0);
    push(&mut lane, 1);
    lane.hand_over();
    assert!(log.finish(PATIENCE));
}

#[test]
fn lines_are_read_as_they_come_where_a_stream_is_watched() {
    let (reader, writer) = std::io::pipe().unwrap();
    let log = AccessLog::new(Destination::stream(&writer).unwrap());
    log.start().unwrap();
    let mut lane = log.lane(0);
    let mut lines = BufReader::new(reader).lines();
    for number in 0..3 {
        push(&mut lane, number);
        lane.hand_over();
        assert_eq!(numbers(&lines.next().unwrap().unwrap()), [number]);
    }
}
