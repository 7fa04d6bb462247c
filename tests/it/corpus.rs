//! Every input that people kept for a fuzz target runs through that target's oracle.

use ringfort::rt::sim::{Bug, Random};
use std::path::{Path, PathBuf};

type Target = (&'static str, fn(&[u8]));

const TARGETS: &[Target] = &[
    ("request_head", ringfort::http::oracle::check_head_split_invariance),
    ("framing_and_body", ringfort::http::oracle::check_framing_and_body),
    ("response_head_and_body", ringfort::http::oracle::check_response_head_and_body),
    ("route_match", ringfort::router::oracle::check_route_match),
    ("config", ringfort::config::oracle::check_config),
    ("conn_script", ringfort::conn::oracle::check_conn_script),
    ("credential", ringfort::plugin::builtin::oracle::check_credential),
];

fn fuzz(path: &str) -> PathBuf {
    Path::new(&std::env::var("CARGO_MANIFEST_DIR").expect("cargo runs the tests")).join("fuzz").join(path)
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("a directory entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// `FUZZ_TARGET` chooses one; `FUZZ_ALSO` names a directory like `fuzz/found` whose inputs are run too.
#[test]
fn every_kept_input_passes_its_target() {
    let (chosen, also) = (std::env::var("FUZZ_TARGET").ok(), std::env::var("FUZZ_ALSO").ok());
    for (target, check) in TARGETS.iter().filter(|(target, _)| chosen.as_ref().is_none_or(|chosen| chosen == target)) {
        let kept = fuzz("corpus").join(target);
        assert!(!names(&kept).is_empty(), "{target} has no corpus");
        let found = also.as_ref().map(|also| Path::new(also).join(target)).filter(|found| found.exists());
        for directory in [Some(kept), found].into_iter().flatten() {
            for input in names(&directory) {
                println!("{target}/{input}");
                check(&std::fs::read(directory.join(input)).expect("an input"));
            }
        }
    }
}

#[test]
fn every_fuzz_target_is_run_here() {
    let mut listed: Vec<String> = TARGETS.iter().map(|(target, _)| format!("{target}.rs")).collect();
    listed.sort();
    assert_eq!(names(&fuzz("fuzz_targets")), listed);
}

/// Scripts that are spliced from the kept ones by `cargo test`; `SPLICES` sets another number, `SPLICES_FROM` where to start.
const SPLICES: u64 = 400;

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{variable} is not a number")))
}

/// A script out of two kept ones: the front of one, the end of the other, and some bytes changed.
fn splice(kept: &[Vec<u8>], seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let (front, end) = (random.pick(kept).clone(), random.pick(kept).clone());
    let mut script = front[..random.index(front.len() + 1)].to_vec();
    script.extend_from_slice(&end[random.index(end.len() + 1)..]);
    for _ in 0..random.below(4) {
        let (at, byte) = (random.index(script.len() + 1), random.next() as u8);
        match script.get_mut(at) {
            Some(changed) => *changed = byte,
            None => script.push(byte),
        }
    }
    // The world changes more often than what is sent in it.
    for at in 0..script.len().min(6) {
        if random.chance(300) {
            script[at] = random.next() as u8;
        }
    }
    script
}

/// Every script that was kept for `conn_script`, by name.
fn scripts() -> Vec<(String, Vec<u8>)> {
    let directory = fuzz("corpus").join("conn_script");
    let read = |name: String| {
        let bytes = std::fs::read(directory.join(&name)).expect("an input");
        (name, bytes)
    };
    names(&directory).into_iter().map(read).collect()
}

#[test]
fn kept_scripts_find_the_mistakes_that_one_connection_can_show() {
    // `tests/it/sim` has the others: a forgotten waiter needs somebody else who takes the buffers, and a patient head a
    // client that is slower than any script's.
    const BUGS: [Bug; 4] = [Bug::LostLeftover, Bug::ShortSendTakenForWhole, Bug::NoLinger, Bug::LeakedBuffer];
    let scripts = scripts();
    for bug in BUGS {
        let finds =
            |(_, script): &&(String, Vec<u8>)| ringfort::conn::oracle::run_conn_script(script, Some(bug)).is_err();
        let (name, _) = scripts.iter().find(finds).unwrap_or_else(|| panic!("no kept script finds {bug:?}"));
        println!("{bug:?} is found by {name}");
    }
}

#[test]
fn scripts_spliced_from_the_kept_ones_are_answered_too() {
    let kept: Vec<Vec<u8>> = scripts().into_iter().map(|(_, script)| script).collect();
    let from = number("SPLICES_FROM", 0);
    for seed in from..from + number("SPLICES", SPLICES) {
        let script = splice(&kept, seed);
        if let Err(cause) = ringfort::conn::oracle::run_conn_script(&script, None) {
            ringfort::conn::oracle::check_conn_script(&script);
            panic!("splice {seed} fails only once: {cause}");
        }
    }
}
