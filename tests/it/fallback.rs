//! Hosts that refuse io_uring: a seccomp filter in the child stands for a container's.
#![allow(unsafe_code, reason = "a seccomp filter is installed between fork and exec")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use ringfort::rt::DriverChoice;
use serde_json::json;

use crate::support::{PATIENCE, Start, executor};

const LOAD_WORD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

const fn statement(code: u16, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt: 0, jf: 0, k }
}

/// A filter that answers io_uring_setup with `errno` and lets everything else pass.
const fn refusing(errno: libc::c_int) -> [libc::sock_filter; 4] {
    let number = libc::SYS_io_uring_setup as u32;
    [
        // seccomp_data.nr
        statement(LOAD_WORD, 0),
        libc::sock_filter { code: JUMP_IF_EQUAL, jt: 0, jf: 1, k: number },
        statement(RETURN, libc::SECCOMP_RET_ERRNO | errno as u32),
        statement(RETURN, libc::SECCOMP_RET_ALLOW),
    ]
}

/// Installs a filter for this process and what it executes.
fn install(filter: &mut [libc::sock_filter; 4]) -> io::Result<()> {
    let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
    // SAFETY: PR_SET_NO_NEW_PRIVS takes numbers only.
    let confined = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    if confined != 0 {
        return Err(io::Error::last_os_error());
    }
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: `program` names four instructions that live past the call; the kernel copies them.
    let installed = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program, 0, 0) };
    if installed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn refuse_with<const ERRNO: libc::c_int>(command: &mut Command) {
    // SAFETY: between fork and exec only two system calls are made, on memory of the closure's own; nothing is allocated.
    unsafe { command.pre_exec(|| install(&mut refusing(ERRNO))) };
}

/// An error by its name, and what has io_uring_setup give it in a command.
type Refusal = (&'static str, fn(&mut Command));

fn refusals() -> [Refusal; 2] {
    [("EPERM", refuse_with::<{ libc::EPERM }>), ("ENOSYS", refuse_with::<{ libc::ENOSYS }>)]
}

fn start(driver: &'static str) -> Start {
    Start::command(driver, json!([{"match": {"path": "/users/:id"}, "respond": {"text": "user {id}"}}]))
}

/// Whether the executor has something to fall back on.
fn has_epoll() -> bool {
    executor().refusal(DriverChoice::Epoll).is_none()
}

#[test]
fn where_io_uring_is_refused_an_executor_without_epoll_does_not_start_and_says_why() {
    if has_epoll() {
        eprintln!("{} has epoll to fall back on", executor().name());
        return;
    }
    for (name, refuse) in refusals() {
        let mut process = start("auto").prepare(refuse).spawn();
        assert_eq!(process.wait_exit(PATIENCE).code(), Some(1), "{name}");
        let log = process.log().join("\n");
        let reason = format!("and executor {} has no other; to fix: ", executor().name());
        assert!(log.contains("driver io_uring: ") && log.contains(&reason), "{log}");
    }
    let mut process = start("epoll").spawn();
    assert_eq!(process.wait_exit(PATIENCE).code(), Some(78));
    let log = process.log().join("\n");
    assert!(log.contains("cores.driver: expected a driver that cores.executor"), "{log}");
}

#[test]
fn where_io_uring_is_refused_auto_serves_on_epoll_and_says_so() {
    if !has_epoll() {
        return eprintln!("{} has no epoll", executor().name());
    }
    for (name, refuse) in refusals() {
        let mut server = start("auto").prepare(refuse).serve();
        assert_eq!(server.get("/users/1").text(), "user 1", "{name}");
        let line = server.log_line("io_uring cannot be used").unwrap();
        assert_eq!(line["level"], "WARN");
        assert!(line["cause"].as_str().unwrap().contains("io_uring"), "{line}");
        assert!(
            line["cause"].as_str().unwrap().contains(name) || line["cause"].as_str().unwrap().contains("sysctl"),
            "{line}"
        );
        assert!(line["fix"].as_str().unwrap().len() > 20, "{line}");
        assert_eq!(server.log_line("listening").unwrap()["driver"], "epoll");
        server.wait_metric("ringfort_driver_info", "driver=\"epoll\"", 2.0);
        server.wait_metric("ringfort_driver_info", "driver=\"io_uring\"", 0.0);
        server.wait_metric("ringfort_driver_fallbacks_total", "", 2.0);
        let workers = server.admin_get("/status").json()["workers"].clone();
        assert!(workers[0]["driver"] == "epoll" && workers[0]["driver_fallback"].is_string(), "{workers}");
    }
}

#[test]
fn where_io_uring_is_refused_and_asked_for_by_name_nothing_starts() {
    for (name, refuse) in refusals() {
        let mut process = start("io_uring").prepare(refuse).spawn();
        assert_eq!(process.wait_exit(PATIENCE).code(), Some(1), "{name}");
        let log = process.log().join("\n");
        assert!(log.contains("driver io_uring: ") && log.contains("to fix: "), "{log}");
        assert!(!log.contains("\"listening\""), "{log}");
    }
}

#[test]
fn epoll_by_name_needs_no_io_uring_and_warns_of_nothing() {
    if !has_epoll() {
        return eprintln!("{} has no epoll", executor().name());
    }
    let server = start("epoll").prepare(refusals()[0].1).serve();
    assert_eq!(server.get("/users/1").text(), "user 1");
    assert!(
        server.log().iter().all(|line| !(line.contains("WARN") && line.contains("io_uring"))),
        "{:?}",
        server.log()
    );
}
