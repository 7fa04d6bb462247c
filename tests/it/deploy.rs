//! What is offered for operation is valid, and fits together.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use ringfort::config::{Config, Host, Input, prepare};
use ringfort::sys::cpu::Confinement;
use serde_json::Value;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config/deploy").join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The config in this file, which must be valid.
fn config(file: PathBuf) -> Config {
    let host = Host { allowed: (0..4).collect(), confinement: Confinement { quota_cores: None, exclusive: false } };
    match prepare(&Input { file: Some(file.clone()), ..Input::default() }, &host, &[]) {
        Ok(prepared) => prepared.snapshot.config,
        Err(failure) => panic!("{}: {failure}", file.display()),
    }
}

/// The config of the ConfigMap: what is indented below its name.
fn config_map() -> Config {
    let manifest = text("kubernetes.yaml");
    let (_, after) = manifest.split_once("  ringfort.json: |\n").expect("the ConfigMap has the config");
    let lines: Vec<_> = after.lines().map_while(|line| line.strip_prefix("    ")).collect();
    // Several tests read it at the same time.
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let (pid, number) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let path = std::env::temp_dir().join(format!("ringfort-it-deploy-{pid}-{number}.json"));
    fs::write(&path, lines.join("\n")).unwrap();
    let config = config(path.clone());
    fs::remove_file(path).unwrap();
    config
}

/// The number after this, wherever it first stands.
fn number(text: &str, before: &str) -> u64 {
    let (_, after) = text.split_once(before).unwrap_or_else(|| panic!("{before:?} is not there"));
    let digits: String = after.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or_else(|error| panic!("{before:?}: {error}"))
}

#[test]
fn the_configs_are_valid_and_listen_where_the_manifests_say() {
    for config in [config(file("container.json")), config_map()] {
        assert_eq!(config.server.listen, ["0.0.0.0:8080".parse().unwrap()]);
        assert_eq!(config.admin.listen, Some("0.0.0.0:9090".parse().unwrap()));
        assert!(config.reload.watch);
    }
    assert!(text("Dockerfile").contains("EXPOSE 8080 9090"));
    let manifest = text("kubernetes.yaml");
    for port in ["name: http, containerPort: 8080", "name: admin, containerPort: 9090"] {
        assert!(manifest.contains(port), "{port}");
    }
    assert!(!manifest.contains("subPath:"), "a single file would never change");
}

#[test]
fn every_time_to_stop_is_above_that_of_a_drain() {
    let drain = config_map().server.timeouts.drain.as_secs();
    let manifest = text("kubernetes.yaml");
    let (grace, before) =
        (number(&manifest, "terminationGracePeriodSeconds: "), number(&manifest, "sleep: { seconds: "));
    assert!(grace > drain + before, "{grace} s for {before} s and {drain} s");
    let unit = text("ringfort.service");
    let usual = Config::default();
    assert!(number(&unit, "TimeoutStopSec=") > usual.server.timeouts.drain.as_secs());
    assert!(number(&unit, "WatchdogSec=") > 2 * usual.cores.stall.as_secs());
    assert!(number(&unit, "LimitNOFILE=") > 2 * usual.server.limits.connections as u64);
}

#[test]
fn the_probes_ask_for_what_the_admin_listener_has() {
    let manifest = text("kubernetes.yaml");
    let routes = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin/mod.rs")).unwrap();
    for path in ["/readyz", "/livez"] {
        assert!(manifest.contains(&format!("path: {path}, port: admin")), "{path}");
        assert!(routes.contains(&format!("GET \"{path}\"")), "{path}");
    }
}

#[test]
fn the_seccomp_profile_refuses_what_it_does_not_name_and_names_io_uring() {
    let profile: Value = serde_json::from_str(&text("seccomp.json")).unwrap();
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let mut names = BTreeSet::new();
    for entry in profile["syscalls"].as_array().unwrap() {
        assert_eq!(entry["action"], "SCMP_ACT_ALLOW");
        for name in entry["names"].as_array().unwrap() {
            assert!(names.insert(name.as_str().unwrap().to_owned()), "{name} is there twice");
        }
    }
    for needed in ["io_uring_setup", "io_uring_enter", "io_uring_register", "accept4", "openat2", "execve", "futex"] {
        assert!(names.contains(needed), "{needed}");
    }
    for dangerous in ["ptrace", "mount", "bpf", "keyctl", "unshare", "setns", "init_module", "process_vm_readv"] {
        assert!(!names.contains(dangerous), "{dangerous}");
    }
}

#[test]
fn every_file_that_is_named_is_there() {
    let readme = text("README.md");
    for (_, after) in readme.match_indices("](").map(|(at, found)| readme.split_at(at + found.len())) {
        let name = after.split_once(')').expect("a link ends").0;
        assert!(file(name).exists(), "{name}");
    }
    let dockerfile = text("Dockerfile");
    assert!(dockerfile.contains("/src/config/deploy/container.json") && dockerfile.contains("--bin ringfort"));
}
