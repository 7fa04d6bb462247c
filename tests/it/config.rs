//! Broken config files: each beside the places that its errors must name, in order.

use std::fs;
use std::path::{Path, PathBuf};

use ringfort::config::{Host, Input, prepare};
use ringfort::sys::cpu::Confinement;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/config")
}

fn host() -> Host {
    Host { allowed: (0..4).collect(), confinement: Confinement { quota_cores: None, exclusive: false } }
}

fn files(folder: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(data().join(folder)).expect("the folder is there");
    let paths = entries.map(|entry| entry.expect("the folder can be listed").path());
    let mut paths: Vec<_> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "json")).collect();
    paths.sort();
    paths
}

#[test]
fn each_broken_file_has_its_errors_at_their_places() {
    let broken = files("bad");
    assert!(broken.len() >= 40, "{} broken files", broken.len());
    let mut wrong = Vec::new();
    for file in broken {
        let expected = fs::read_to_string(file.with_extension("paths")).expect("the places are beside the file");
        let errors = match prepare(&Input { file: Some(file.clone()), ..Input::default() }, &host(), &[]) {
            Ok(_) => Vec::new(),
            Err(failure) => failure.errors,
        };
        let found: Vec<_> = errors.iter().map(|error| error.path.to_string()).collect();
        if found != expected.lines().collect::<Vec<_>>() {
            let told: Vec<_> = errors.iter().map(ToString::to_string).collect();
            wrong.push(format!("{}:\n  {}", file.display(), told.join("\n  ")));
        }
    }
    assert!(wrong.is_empty(), "other errors than expected:\n{}", wrong.join("\n"));
}

#[test]
fn every_error_is_one_line_with_what_was_expected_and_found() {
    for file in files("bad") {
        let failure = prepare(&Input { file: Some(file.clone()), ..Input::default() }, &host(), &[]).err();
        for error in failure.map(|failure| failure.errors).unwrap_or_default() {
            let text = error.to_string();
            let is_told = text.contains(": expected ") && text.contains(", found ") && !text.contains('\n');
            assert!(is_told && !error.found.is_empty(), "{}: {text}", file.display());
        }
    }
}

#[test]
fn a_valid_config_makes_the_routes_and_settings_that_it_names() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/example.json");
    let Ok(prepared) = prepare(&Input { file: Some(file), ..Input::default() }, &host(), &[]) else {
        panic!("the example is valid");
    };
    let names: Vec<_> =
        prepared.snapshot.routes.names().iter().map(|name| format!("{} {}", name.kind, name.label)).collect();
    assert_eq!(
        names,
        [
            "respond /users/list",
            "respond /users/:id",
            "respond *.example.com/pixel",
            "files /static/*file",
            "redirect /old/*rest",
            "proxy api.example.com/api/*rest",
            "proxy api.example.com/api/*rest",
        ]
    );
    let upstreams =
        prepared.snapshot.upstreams.iter().map(|upstream| (upstream.spec.name.as_str(), upstream.servers.len()));
    assert_eq!(upstreams.collect::<Vec<_>>(), [("api", 2), ("copies", 1), ("next", 1)]);
    assert_eq!(prepared.snapshot.routes.predicates(5), None);
    assert_eq!(prepared.snapshot.routes.predicates(6).map(|set| set.iter().count()), Some(4));
    assert_eq!(prepared.snapshot.settings.connections, 100_000);
    assert_eq!(prepared.plan.workers, [1, 2, 3]);
    assert_eq!(prepared.plan.master, Some(0));
}

/// People copy them: they must work as the README says, the first one beside a directory `public`.
#[test]
fn the_configs_of_the_readme_are_valid() {
    for name in ["first", "proxy"] {
        let failure = check_readme_config(name);
        assert!(failure.is_none(), "{name}: {}", failure.unwrap_or_default());
    }
}

/// What is wrong with the config that the README marks by this name.
fn check_readme_config(name: &str) -> Option<String> {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).expect("it is there");
    let (_, after) = readme.split_once(&format!("<!-- {name} config: begin -->")).expect("the config is marked");
    let (block, _) = after.split_once(&format!("<!-- {name} config: end -->")).expect("its end is marked");
    let text = block.trim().trim_start_matches("```json").trim_end_matches("```");
    let folder = std::env::temp_dir().join(format!("ringfort-readme-{name}-{}", std::process::id()));
    fs::create_dir_all(folder.join("public")).expect("a folder can be made");
    let file = folder.join("ringfort.json");
    fs::write(&file, text).expect("a file can be written");
    let prepared = prepare(&Input { file: Some(file), ..Input::default() }, &host(), &[]);
    fs::remove_dir_all(&folder).expect("the folder can be removed");
    prepared.err().map(|failure| failure.to_string())
}
