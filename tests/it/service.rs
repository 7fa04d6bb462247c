//! The example of a whole program, and the one that `ringfort new` makes of it.

#[path = "../../examples/service.rs"]
#[allow(dead_code, reason = "its main is not run")]
mod example;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ringfort::cli::{Application, Exit, run_application};

use crate::support::{PATIENCE, Start, executor, on_hand, wait_until};

const CONFIG: &str = "RINGFORT_TEST_EXAMPLE";

/// The command that runs the example.
pub(crate) fn command(config: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "service::the_example_serves_in_a_child_process", "--nocapture"]);
    command.env(CONFIG, config);
    command
}

/// Not a test but the server of others: without its environment it does nothing.
#[test]
fn the_example_serves_in_a_child_process() {
    let Some(config) = std::env::var_os(CONFIG) else { return };
    let args = ["service".into(), "--log-format".into(), "json".into(), "--config".into(), config];
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let exit = run_application(args, [], &mut out, &mut err, &example::application());
    #[allow(clippy::disallowed_methods, reason = "the exit code is what tests look at, not libtest's verdict")]
    std::process::exit(exit.code().into());
}

/// A directory of its own, removed with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ringfort-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_example_loads_serves_checks_and_saves() {
    let scratch = Scratch::new("example");
    let file = scratch.0.join("visits.txt");
    fs::write(&file, "6\n").unwrap();
    let named = file.clone();
    let start = || {
        let named = named.clone();
        Start::example(on_hand("epoll")).prepare(move |command| _ = command.env("VISITS_FILE", named))
    };
    let mut server = start().serve();
    assert_eq!(server.get("/").text(), "visit 7\n");
    wait_until("its check passes", || server.admin_get("/readyz").status == 200);
    assert!(server.admin_get("/healthz").text().contains("\"name\": \"saver\""));
    let mut stuck = server.client();
    assert_eq!(stuck.get("/").text(), "visit 8\n");
    server.signal(libc::SIGTERM);
    assert_eq!(server.wait_exit(PATIENCE).code(), Some(0));
    assert_eq!(fs::read_to_string(&file).unwrap(), "8\n");

    fs::write(&file, "many\n").unwrap();
    let mut process = start().spawn();
    assert_eq!(process.wait_exit(PATIENCE).code(), Some(1));
    let told = r#"ringfort: initializer "visits" failed: invalid digit found in string"#;
    assert!(process.log().iter().any(|line| line == told), "{:?}", process.log());
}

#[test]
fn the_example_is_short() {
    let text = include_str!("../../examples/service.rs");
    assert!(text.lines().count() < 80);
}

fn run_new(args: &[&str]) -> (Exit, String) {
    let args = ["ringfort", "new"].iter().chain(args).map(OsString::from);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = run_application(args, [], &mut out, &mut err, &Application::new(&[]));
    (exit, String::from_utf8([out, err].concat()).unwrap())
}

/// Where this package is; see `tidy` for why it is read when the test runs.
fn checkout() -> PathBuf {
    PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap())
}

#[test]
fn new_makes_a_program_and_writes_over_nothing() {
    let scratch = Scratch::new("new");
    let directory = scratch.0.join("shop");
    let shown = directory.to_str().unwrap();
    let (exit, told) = run_new(&[shown]);
    assert_eq!((exit, told), (Exit::Done, format!("made {shown}: cd {shown} && cargo test && cargo run\n")));
    let read = |file: &str| fs::read_to_string(directory.join(file)).unwrap();
    assert!(read("Cargo.toml").contains("name = \"shop\""));
    assert!(read("Cargo.toml").contains(&format!("ringfort = \"{}\"", env!("CARGO_PKG_VERSION"))));
    assert!(read("src/main.rs").starts_with("//! shop: ") && read("tests/serves.rs").contains("CARGO_BIN_EXE_shop"));

    fs::write(directory.join("src/main.rs"), "mine").unwrap();
    let (exit, told) = run_new(&[shown]);
    assert!(exit == Exit::Failed && told.contains("expected a new or an empty directory"), "{told}");
    assert_eq!(read("src/main.rs"), "mine");
    let (exit, told) = run_new(&[&format!("{shown}/7up")]);
    assert!(exit == Exit::Failed && told.contains("a name that begins with a letter, found \"7up\""), "{told}");
    assert!(!directory.join("7up").exists());
    assert_eq!(run_new(&[]).0, Exit::Usage);
    // What is generated names the config that it has, and that is valid.
    let config = directory.join("ringfort.json");
    let args = ["ringfort".into(), "check".into(), "--config".into(), config.into_os_string()];
    let exit = run_application(args, [], &mut Vec::new(), &mut Vec::new(), &example::application());
    assert_eq!(exit, Exit::Done);
}

/// Compiles this package once more, without the tests' features: some half a minute. `scripts/check --deep` runs it.
#[test]
#[ignore = "compiles a package that depends on this one"]
fn what_new_makes_compiles_and_passes_its_own_test() {
    let scratch = Scratch::new("generated");
    let directory = scratch.0.join("my-shop");
    let (exit, told) = run_new(&[directory.to_str().unwrap(), "--ringfort", checkout().to_str().unwrap()]);
    assert_eq!(exit, Exit::Done, "{told}");
    // The versions that this build has are there without a network.
    fs::copy(checkout().join("Cargo.lock"), directory.join("Cargo.lock")).unwrap();
    let built = std::env::current_exe().unwrap();
    let target = built.ancestors().nth(3).unwrap();
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["test", "--offline"]).current_dir(&directory).env("CARGO_TARGET_DIR", target);
    // As this package's profile has it, so that what both depend on is compiled once.
    cargo.env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only").env("CARGO_PROFILE_TEST_DEBUG", "line-tables-only");
    cargo.env("RINGFORT__CORES__EXECUTOR", executor().name());
    let ran = cargo.output().unwrap();
    let text = [ran.stdout, ran.stderr].concat();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&text));
}
