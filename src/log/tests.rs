//! Logs into a memory buffer, and what happens at the edges: levels, a full queue, a second set-up.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use super::*;

#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Vec<u8>>>);

impl Write for Memory {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Runs `body` with logs into memory and gives what was written once the guard is dropped.
fn logged(format: LogFormat, level: &str, body: impl FnOnce()) -> String {
    let memory = Memory::default();
    let (writer, guard) = start_writer(memory.clone(), 64);
    tracing::subscriber::with_default(subscriber(format, parse_level(level).unwrap(), writer).0, body);
    drop(guard);
    let bytes = memory.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

fn is_rfc3339_utc(text: &str) -> bool {
    text.len() > 20 && text.as_bytes()[10] == b'T' && text.ends_with('Z')
}

#[test]
fn json_is_one_flat_object_per_line() {
    let text = logged(LogFormat::Json, "info", || {
        tracing::info!(target: "ringfort::conn", connection = 7, peer = "a\"b\n", "client left");
        tracing::debug!("not shown");
        tracing::warn!("second");
    });
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert!(is_rfc3339_utc(lines[0]["timestamp"].as_str().unwrap()));
    assert_eq!(lines[0]["level"], "INFO");
    assert_eq!(lines[0]["target"], "ringfort::conn");
    assert_eq!(lines[0]["message"], "client left");
    assert_eq!(lines[0]["connection"], 7);
    assert_eq!(lines[0]["peer"], "a\"b\n");
    assert_eq!(lines[1]["level"], "WARN");
}

#[test]
fn text_is_one_line_and_pretty_several() {
    let event = || tracing::error!(target: "ringfort", cause = 5, "broken");
    let text = logged(LogFormat::Text, "info", event);
    assert!(text.contains("ERROR ringfort: broken cause=5") && text.lines().count() == 1, "{text}");
    let pretty = logged(LogFormat::Pretty, "info", event);
    let lines: Vec<_> = pretty.lines().collect();
    assert!(lines[0].ends_with(" ERROR broken"), "{pretty}");
    assert_eq!(lines[1..], ["      cause: 5", "      at ringfort"]);
}

#[test]
fn most_specific_directive_wins() {
    let text = logged(LogFormat::Text, "warn, ringfort::proxy=debug", || {
        tracing::info!(target: "ringfort::conn", "hidden");
        tracing::debug!(target: "ringfort::proxy", "shown");
    });
    assert!(text.contains("shown") && !text.contains("hidden"), "{text}");
}

#[test]
fn the_level_changes_while_the_process_runs() {
    let memory = Memory::default();
    let (writer, guard) = start_writer(memory.clone(), 64);
    let (logs, set_filter) = subscriber(LogFormat::Text, parse_level("info").unwrap(), writer);
    tracing::subscriber::with_default(logs, || {
        let lines = || {
            tracing::debug!(target: "ringfort::proxy", "about the proxy");
            tracing::debug!(target: "ringfort::conn", "about a connection");
        };
        lines();
        set_filter(parse_level("info,ringfort::proxy=debug").unwrap()).unwrap();
        lines();
        set_filter(parse_level("error").unwrap()).unwrap();
        lines();
    });
    drop(guard);
    let text = String::from_utf8(memory.0.lock().unwrap().clone()).unwrap();
    assert_eq!(text.matches("about the proxy").count(), 1, "{text}");
    assert!(!text.contains("about a connection"), "{text}");
    assert!(matches!(set_level("loud"), Err(LogError::UnknownLevel { .. })));
}

#[test]
fn lines_go_to_a_file_and_after_reopening_to_the_next_of_its_name() {
    let folder = std::env::temp_dir().join(format!("ringfort-log-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (path, old) = (folder.join("process.log"), folder.join("process.log.1"));
    let (writer, guard) = start_writer(Lines(Destination::open(&path).unwrap()), 64);
    let (logs, _) = subscriber(LogFormat::Text, parse_level("info").unwrap(), writer);
    tracing::subscriber::with_default(logs, || {
        tracing::info!("first");
        while std::fs::read_to_string(&path).unwrap().is_empty() {
            std::thread::yield_now();
        }
        std::fs::rename(&path, &old).unwrap();
        // Of files of other tests, some may be on their way out.
        let _ = reopen();
        tracing::info!("second");
    });
    drop(guard);
    let texts = [&old, &path].map(|path| std::fs::read_to_string(path).unwrap());
    assert!(texts[0].contains("first") && !texts[0].contains("second"), "{texts:?}");
    assert!(texts[1].contains("second") && !texts[1].contains("first"), "{texts:?}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn level_that_is_none_is_refused_with_what_was_expected() {
    assert!(matches!(check_level("  "), Err(LogError::EmptyLevel)));
    for wrong in ["inof", "info,debgu", "ringfort", "info,"] {
        let error = check_level(wrong).unwrap_err();
        assert!(matches!(error, LogError::UnknownLevel { .. }), "{wrong}: {error}");
        assert!(error.to_string().contains("one of off, error, warn"), "{error}");
    }
    let error = check_level("ringfort=loud").unwrap_err();
    assert!(matches!(error, LogError::InvalidDirective { .. }), "{error}");
    for right in ["off", "INFO", "info,ringfort::conn=trace", "warn,[request{id=5}]=debug"] {
        check_level(right).unwrap();
    }
}

/// A writer that says when it is in its first write and stays there until it is let go.
struct Stuck {
    entered: SyncSender<()>,
    release: Receiver<()>,
}

impl Write for Stuck {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let _ = self.entered.try_send(());
        let _ = self.release.recv();
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn stuck_stderr_drops_and_counts_lines_and_never_blocks_the_caller() {
    let (entered, has_entered) = sync_channel(1);
    let (let_go, release) = sync_channel(0);
    let (writer, guard) = start_writer(Stuck { entered, release }, 4);
    let (logs, _) = subscriber(LogFormat::Text, parse_level("info").unwrap(), writer);
    tracing::subscriber::with_default(logs, || {
        tracing::info!("the writer is stuck in this line");
        has_entered.recv().unwrap();
        // Four fit into the queue.
        (0..10).for_each(|n| tracing::info!(n, "line"));
    });
    assert_eq!(guard.dropped(), 6);
    assert!(!guard.is_written(), "five lines are on their way");
    drop(let_go);
    while !guard.is_written() {
        std::thread::yield_now();
    }
    drop(guard);
}

#[test]
fn second_set_up_is_an_error_and_no_panic() {
    // Another test of this binary may have been first; the second of these two never is.
    let first = init(&LogOptions { level: "off".to_owned(), format: LogFormat::Text, file: None });
    assert!(matches!(init(&LogOptions::default()), Err(LogError::AlreadySet)));
    drop(first);
}
