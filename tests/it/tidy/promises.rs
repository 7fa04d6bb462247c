//! `SECURITY.md` says which test shows each promise: every name in it must be a test.

use super::{Source, package_root, read_sources};
use std::fs;

/// Names in backticks that look like those of tests: lower case, of at least four words.
fn test_names(text: &str) -> Vec<&str> {
    let names = text.split('`').skip(1).step_by(2);
    let is_name = |name: &&str| {
        name.matches('_').count() >= 3
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    names.filter(is_name).collect()
}

/// Whether a function of this name is marked as a test; attributes and comments may stand between.
fn is_test(sources: &[Source], name: &str) -> bool {
    let definition = format!("fn {name}(");
    sources.iter().any(|source| {
        source.text.match_indices(&definition).any(|(at, _)| {
            let line = source.text[..at].rfind('\n').map_or(0, |end| end + 1);
            let before = source.text[..line].lines().rev().map(str::trim);
            before.take_while(|line| line.starts_with("#[") || line.starts_with("//")).any(|line| line == "#[test]")
        })
    })
}

#[test]
fn security_md_names_tests_that_exist_and_one_for_each_promise() {
    let root = package_root();
    let mut sources = Vec::new();
    for folder in ["src", "tests/it"] {
        read_sources(&root.join(folder), &root, &mut sources);
    }
    let text = fs::read_to_string(root.join("SECURITY.md")).expect("SECURITY.md is there");
    let missing: Vec<_> = test_names(&text).into_iter().filter(|name| !is_test(&sources, name)).collect();
    assert!(missing.is_empty(), "SECURITY.md names tests that do not exist: {missing:?}");

    let promises = text.lines().skip_while(|line| !line.starts_with("## What is promised against"));
    let rows: Vec<_> = promises.filter(|line| line.starts_with("| ") && !line.starts_with("| promise |")).collect();
    assert!(rows.len() >= 20, "{} promises", rows.len());
    let bare: Vec<_> = rows.into_iter().filter(|row| test_names(row).is_empty()).collect();
    assert!(bare.is_empty(), "promises without a test: {bare:#?}");
}

#[test]
fn a_name_that_is_no_test_is_found_out() {
    let source = |text: &str| Source { path: "x.rs".to_owned(), text: text.to_owned() };
    let sources = [source("#[test]\n/// Why.\nfn a_b_c_d() {}\nfn no_test_at_all() {}\n")];
    assert_eq!(
        test_names("`a_b_c_d`, `cargo test`, `limits.body` and `no_test_at_all`"),
        ["a_b_c_d", "no_test_at_all"]
    );
    assert!(is_test(&sources, "a_b_c_d") && !is_test(&sources, "no_test_at_all") && !is_test(&sources, "a_b_c_e"));
}
