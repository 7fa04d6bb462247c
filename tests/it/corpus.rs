//! Every input that people kept for a fuzz target runs through that target's oracle.

use std::path::{Path, PathBuf};

type Target = (&'static str, fn(&[u8]));

const TARGETS: &[Target] = &[
    ("request_head", ringfort::http::oracle::check_head_split_invariance),
    ("framing_and_body", ringfort::http::oracle::check_chunked_split_invariance),
    ("route_match", ringfort::router::oracle::check_route_match),
    ("config", ringfort::config::oracle::check_config),
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

#[test]
fn every_kept_input_passes_its_target() {
    for (target, check) in TARGETS {
        let directory = fuzz("corpus").join(target);
        let inputs = names(&directory);
        assert!(!inputs.is_empty(), "{target} has no corpus");
        for input in inputs {
            println!("{target}/{input}");
            check(&std::fs::read(directory.join(input)).expect("an input"));
        }
    }
}

#[test]
fn every_fuzz_target_is_run_here() {
    let mut listed: Vec<String> = TARGETS.iter().map(|(target, _)| format!("{target}.rs")).collect();
    listed.sort();
    assert_eq!(names(&fuzz("fuzz_targets")), listed);
}
