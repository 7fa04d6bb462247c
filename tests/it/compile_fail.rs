//! What must not compile does not, and the compiler says why in a sentence.
//!
//! The compiler is asked itself, and is given the library that cargo has just made for this binary: to have cargo build the
//! package once more for it would check every dependency again. After a new compiler, `UPDATE_COMPILE_FAIL=1 cargo test
//! compile_fail` writes what is expected.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Each source has what the compiler says about it beside it.
const CASES: &str = "tests/compile_fail";

#[test]
fn a_bad_const_route_table_does_not_compile() {
    let library = library();
    let cases = files(Path::new(CASES), |name| name.ends_with(".rs"));
    assert!(!cases.is_empty(), "{CASES} has no sources");
    let wrong: Vec<_> = cases.iter().filter_map(|source| check(source, &library).err()).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// The files of a directory with such names.
fn files(directory: &Path, is_such: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(&is_such)).collect()
}

/// The library that cargo has made last. There may be others, made with other features: they are not newer than this binary's.
fn library() -> PathBuf {
    let binary = std::env::current_exe().unwrap();
    let directory = binary.parent().unwrap();
    let libraries = files(directory, |name| name.starts_with("libringfort-") && name.ends_with(".rlib"));
    let made = |path: &PathBuf| path.metadata().and_then(|data| data.modified()).ok();
    libraries.into_iter().max_by_key(made).unwrap_or_else(|| panic!("no libringfort-*.rlib in {}", directory.display()))
}

/// Has a source compiled, and compares what is said about it with what is expected.
fn check(source: &Path, library: &Path) -> Result<(), String> {
    let (found, is_compiled) = compile(source, library);
    if is_compiled {
        return Err(format!("{}: expected that it does not compile, but it does", source.display()));
    }
    let kept = source.with_extension("stderr");
    if std::env::var_os("UPDATE_COMPILE_FAIL").is_some() {
        fs::write(&kept, &found).unwrap();
    }
    let expected = fs::read_to_string(&kept).unwrap_or_default();
    if found == expected { Ok(()) } else { Err(format!("{}: expected\n{expected}\nfound\n{found}", source.display())) }
}

/// What the compiler says about a source but for the number of its errors, and whether it takes it.
fn compile(source: &Path, library: &Path) -> (String, bool) {
    let mut command = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    command.args(["--edition=2024", "--emit=metadata", "--color=never", "--out-dir", env!("CARGO_TARGET_TMPDIR")]);
    let extern_library = format!("ringfort={}", library.display());
    let dependencies = format!("dependency={}", library.parent().unwrap().display());
    command.args(["--extern", &extern_library, "-L", &dependencies]).arg(source);
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    let is_tally = |line: &&str| line.starts_with("error: aborting due to") || line.starts_with("For more information");
    let told: Vec<_> = text.lines().filter(|line| !is_tally(line)).collect();
    (format!("{}\n", told.join("\n").trim_end()), output.status.success())
}
