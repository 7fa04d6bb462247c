//! `ringfort new`: a program of one's own, which compiles and passes its own test. Its source is `examples/service.rs`, so
//! that what is generated is what is tested.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::arguments::NewOptions;
use super::{Exit, Session};

const EXAMPLE: &str = include_str!("../../examples/service.rs");
const TEST: &str = include_str!("new/serves.rs.txt");
const README: &str = include_str!("new/readme.md.txt");
const IGNORED: &str = "/target\n";
const CONFIG: &str =
    "{\n  \"server\": { \"listen\": [\"127.0.0.1:8080\"] },\n  \"admin\": { \"listen\": \"127.0.0.1:9090\" }\n}\n";

/// Words that Cargo or the language keep for themselves, and names of what the program depends on.
const TAKEN: &[&str] = &[
    "abstract",
    "alloc",
    "as",
    "async",
    "await",
    "become",
    "box",
    "break",
    "const",
    "continue",
    "core",
    "crate",
    "do",
    "dyn",
    "else",
    "enum",
    "extern",
    "false",
    "final",
    "fn",
    "for",
    "gen",
    "if",
    "impl",
    "in",
    "let",
    "loop",
    "macro",
    "match",
    "mod",
    "move",
    "mut",
    "override",
    "priv",
    "proc-macro",
    "proc_macro",
    "pub",
    "ref",
    "return",
    "ringfort",
    "self",
    "static",
    "std",
    "struct",
    "super",
    "test",
    "trait",
    "true",
    "try",
    "type",
    "typeof",
    "unsafe",
    "unsized",
    "use",
    "virtual",
    "where",
    "while",
    "yield",
    "build",
    "deps",
    "examples",
    "incremental",
];

/// Bytes of a package's name that the registry takes.
const NAME_BYTES_MAX: usize = 64;

pub(super) fn new(session: &mut Session<'_>, options: &NewOptions) -> io::Result<Exit> {
    let directory = &options.directory;
    let made = check_name(directory).and_then(|name| {
        let dependency = write_dependency(options.ringfort.as_deref())?;
        make(directory, &name, &dependency).map_err(|error| format!("{}: {error}", directory.display()))
    });
    match made {
        Ok(()) => {
            let shown = directory.display();
            session.say(format!("made {shown}: cd {shown} && cargo test && cargo run"))?;
            Ok(Exit::Done)
        }
        Err(complaint) => {
            session.complain(complaint)?;
            Ok(Exit::Failed)
        }
    }
}

/// The name of the package in `directory`.
fn check_name(directory: &Path) -> Result<String, String> {
    let found = directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let complaint = if !found.starts_with(|first: char| first.is_ascii_alphabetic()) {
        "a name that begins with a letter"
    } else if !found.bytes().all(is_fit) {
        "a name of letters, digits, '-' and '_' in ASCII"
    } else if found.len() > NAME_BYTES_MAX {
        "a name of at most 64 bytes"
    } else if TAKEN.contains(&found.as_str()) {
        "a name that Rust, Cargo or a dependency does not have already"
    } else {
        return Ok(found);
    };
    Err(format!("expected {complaint}, found {found:?}"))
}

/// The dependency as `Cargo.toml` has it.
fn write_dependency(checkout: Option<&Path>) -> Result<String, String> {
    let Some(checkout) = checkout else { return Ok(format!("{:?}", env!("CARGO_PKG_VERSION"))) };
    let shown = checkout.display();
    let manifest = fs::read_to_string(checkout.join("Cargo.toml")).map_err(|error| {
        format!("--ringfort {shown}: expected a checkout of Ringfort, found no Cargo.toml: {error}")
    })?;
    if !manifest.lines().any(|line| line.trim() == "name = \"ringfort\"") {
        return Err(format!("--ringfort {shown}: expected a checkout of Ringfort, found another package"));
    }
    // As it is found from the new directory, wherever that is.
    let absolute = checkout.canonicalize().map_err(|error| format!("--ringfort {shown}: {error}"))?;
    let path = absolute.to_str().ok_or_else(|| format!("--ringfort {shown}: expected a path in UTF-8"))?;
    // A string of JSON is one of TOML.
    Ok(format!("{{ path = {} }}", serde_json::Value::from(path)))
}

/// Writes the files. The directory must not exist, or be empty: nothing is written over.
fn make(directory: &Path, name: &str, dependency: &str) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    if fs::read_dir(directory)?.next().is_some() {
        let found = "expected a new or an empty directory, found files in it; nothing was written";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, found));
    }
    for folder in ["src", "tests"] {
        fs::create_dir(directory.join(folder))?;
    }
    for (file, text) in files(name, dependency) {
        fs::write(directory.join(file), text)?;
    }
    Ok(())
}

fn files(name: &str, dependency: &str) -> [(PathBuf, String); 6] {
    let manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\nrust-version = \"{}\"\n\n[dependencies]\nringfort \
         = {dependency}\n",
        env!("CARGO_PKG_RUST_VERSION"),
    );
    [
        ("Cargo.toml".into(), manifest),
        (".gitignore".into(), IGNORED.to_owned()),
        ("README.md".into(), README.replace("NAME", name)),
        ("ringfort.json".into(), CONFIG.to_owned()),
        ("src/main.rs".into(), program(name)),
        ("tests/serves.rs".into(), TEST.replace("NAME", name)),
    ]
}

/// The example with a header of its own.
fn program(name: &str) -> String {
    let rest = EXAMPLE.split_once("\n\n").map_or(EXAMPLE, |(_, rest)| rest);
    format!(
        "//! {name}: routes, and besides them an initializer, a background service and a health check, started, watched and\n\
         //! stopped with the server's own parts. `cargo run`, then `curl http://127.0.0.1:8080/`; the checks are at\n\
         //! `http://127.0.0.1:9090/healthz`.\n\n{rest}"
    )
    .replace("pub(crate) fn application", "fn application")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cargo_would_refuse_are_refused_with_the_reason() {
        for (name, expected) in [
            ("", "begins with a letter"),
            ("..", "begins with a letter"),
            ("7up", "begins with a letter"),
            ("-x", "begins with a letter"),
            ("my app", "letters, digits"),
            ("my.app", "letters, digits"),
            ("\u{fc}ber", "begins with a letter"),
            ("x\u{fc}", "letters, digits"),
            ("fn", "does not have already"),
            ("ringfort", "does not have already"),
            ("test", "does not have already"),
            ("x".repeat(NAME_BYTES_MAX + 1).as_str(), "at most 64 bytes"),
        ] {
            let complaint = check_name(Path::new(name)).unwrap_err();
            assert!(complaint.contains(expected), "{name:?}: {complaint}");
        }
        for name in ["app", "my-app", "my_app2", "some/where/app", "/abs/app/"] {
            assert!(check_name(Path::new(name)).is_ok_and(|name| name.contains("app")), "{name:?}");
        }
    }

    #[test]
    fn the_program_is_the_example_with_a_header_of_its_own() {
        let program = program("shop");
        assert!(program.starts_with("//! shop: ") && !program.contains("--example"));
        assert!(
            program.contains("\nfn application() -> Application {") && program.contains("\nfn main() -> ExitCode {")
        );
        assert_eq!(program.matches("//!").count(), 3);
        assert!(program.lines().all(|line| line.len() <= 120), "a header whose lines are not too long");
        assert_eq!(write_dependency(None).unwrap(), format!("\"{}\"", env!("CARGO_PKG_VERSION")));
    }

    #[test]
    fn a_path_that_is_no_checkout_is_refused() {
        let complaint = write_dependency(Some(Path::new("/nonexistent"))).unwrap_err();
        assert!(complaint.starts_with("--ringfort /nonexistent: expected a checkout of Ringfort"), "{complaint}");
        let complaint = write_dependency(Some(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz"))).unwrap_err();
        assert!(complaint.contains("found another package"), "{complaint}");
    }
}
