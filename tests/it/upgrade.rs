//! Binary upgrade: another process takes over, and nobody notices; or it does not come to serve, and nobody notices that.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::json;

use crate::support::app::{HANGS, UPGRADE_MS};
use crate::support::{Client, PATIENCE, Server, Start, on_each_driver, on_hand, wait_until};

fn start(driver: &'static str) -> Start {
    Start::app(driver).timeout("drain", "60s").watch(false).grouped()
}

/// A listening socket with its port to itself.
#[allow(clippy::disallowed_methods, reason = "as systemd opens it, not as the server does")]
fn listen_somewhere() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// Upgrades; gives the successor's process id.
#[track_caller]
fn upgrade(server: &Server) -> u64 {
    let answer = server.upgrade();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["result"], "success");
    answer.json()["pid"].as_u64().unwrap()
}

/// How many workers serve, as `/status` says, and whose process it is.
fn workers(server: &Server) -> usize {
    server.admin_get("/status").json()["workers"].as_array().unwrap().len()
}

/// Connects again and again, asks once on each connection, and counts the answers; until it is over.
fn connect_without_end(address: SocketAddr, over: &AtomicBool, answered: &AtomicUsize) {
    while !over.load(Ordering::Relaxed) {
        let mut client = Client::try_connect(address).unwrap_or_else(|error| panic!("refused: {error}"));
        client.try_send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").unwrap_or_else(|error| panic!("cut: {error}"));
        let response = client.next(false).unwrap_or_else(|error| panic!("reset: {error}"));
        assert_eq!(response.expect("an answer, not the end").text(), "hello");
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

/// Runs `work` while clients connect all the time, none of which may be refused or cut.
fn under_load(address: SocketAddr, work: impl FnOnce(&dyn Fn())) {
    /// Ends the load however the work ends.
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (over, answered) = (&over, &answered);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(move || connect_without_end(address, over, answered));
        }
        let _over = Over(over);
        work(&|| {
            let before = answered.load(Ordering::Relaxed);
            wait_until("clients are served", || answered.load(Ordering::Relaxed) > before + 50);
        });
    });
}

#[test]
fn nobody_is_refused_or_cut_while_one_process_follows_the_other() {
    on_each_driver(|driver| {
        let server = start(driver).serve();
        let mut pids = vec![u64::from(server.pid())];
        under_load(server.address, |served| {
            for _ in 0..6 {
                served();
                pids.push(upgrade(&server));
            }
            served();
        });
        pids.sort_unstable();
        pids.dedup();
        assert_eq!(pids.len(), 7, "each is another process");
        assert_eq!(server.metric("ringfort_upgrades_total", "success"), 1.0);
        assert_eq!(server.admin_get("/readyz").status, 200);
    });
}

#[test]
fn a_request_that_is_under_way_ends_in_the_process_where_it_began() {
    on_each_driver(|driver| {
        let mut server = start(driver).serve();
        let mut idle = server.client();
        assert_eq!(idle.get("/").text(), "hello");
        let mut uploading = server.client();
        uploading.send("POST /collect HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n");
        assert_eq!(uploading.response().status, 100);
        let mut asking = Client::connect(server.admin);
        assert_eq!(asking.get("/readyz").status, 200);
        let pid = upgrade(&server);
        idle.expect_end();
        asking.expect_end();
        assert_eq!(server.get("/").text(), "hello", "the successor serves");
        let response = uploading.send("hello").response();
        assert_eq!((response.text(), response.closes()), ("5 bytes, sum 532", true));
        assert_eq!(server.wait_first_exit().code(), Some(0), "it leaves when nothing is in flight");
        assert_eq!(server.get("/").text(), "hello");
        let line = server.log_line("took over from the process before").unwrap();
        assert_eq!(line["pid"], pid);
    });
}

#[test]
fn sigusr2_has_the_program_replaced_and_a_stop_is_one_still() {
    let driver = on_hand("epoll");
    let mut server = start(driver).serve();
    server.signal(libc::SIGUSR2);
    let successor = server.log_line("took over from the process before").unwrap()["pid"].as_i64().unwrap();
    assert_eq!(server.wait_first_exit().code(), Some(0));
    assert_eq!(server.get("/").text(), "hello");
    let pid = rustix::process::Pid::from_raw(successor as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(server.log_line("stopped").is_some());
    wait_until("nobody listens any more", || Client::try_connect(server.address).is_err());
}

#[test]
fn a_successor_whose_config_is_wrong_leaves_everything_as_it_is() {
    let mut server = start(on_hand("epoll")).serve();
    let mut kept = server.client();
    assert_eq!(kept.get("/").text(), "hello");
    let good = fs::read_to_string(server.config_file()).unwrap();
    for round in 1..3 {
        server.write_config(r#"{"server": {"listen": "nowhere"}}"#);
        let answer = server.upgrade();
        assert_eq!((answer.status, answer.json()["result"].as_str()), (503, Some("failed")));
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains("ended before it served") && detail.contains("exit status: 1"), "{detail}");
        assert_eq!(kept.get("/").text(), "hello", "its connections too");
        assert_eq!(server.metric("ringfort_upgrades_total", "failed"), f64::from(round));
        assert_eq!(server.admin_get("/status").json()["upgrades"]["last"]["detail"], detail);
    }
    assert!(server.log_line("no upgrade: this process serves on").is_some());
    server.write_config(&good);
    upgrade(&server);
    assert_eq!(server.wait_first_exit().code(), Some(0));
    assert_eq!(server.get("/").text(), "hello");
}

#[test]
fn a_successor_that_never_serves_is_ended_and_nobody_is_refused_or_cut() {
    on_each_driver(|driver| {
        let patience = |command: &mut Command| _ = command.env(UPGRADE_MS, "1500");
        let mut server = start(driver).timeout("drain", "300ms").prepare(patience).serve();
        let hangs = server.config_file().with_file_name(HANGS);
        fs::write(&hangs, "").unwrap();
        under_load(server.address, |served| {
            let answer = std::thread::scope(|scope| {
                let first = scope.spawn(|| server.upgrade());
                wait_until("it has begun", || server.log().iter().any(|line| line.contains("a successor starts")));
                let second = server.upgrade();
                assert_eq!((second.status, second.json()["result"].as_str()), (409, Some("refused")));
                first.join().unwrap()
            });
            assert_eq!(answer.status, 503);
            assert!(answer.text().contains("did not serve within 1.5s"), "{answer:?}");
            served();
        });
        let successor = server.log_line("a successor starts").unwrap()["pid"].as_i64().unwrap();
        assert!(!fs::exists(format!("/proc/{successor}")).unwrap(), "it has ended, and somebody has seen that");
        assert_eq!(server.admin_get("/readyz").status, 200);
    });
}

#[test]
fn a_stop_during_an_upgrade_stops_the_successor_too() {
    on_each_driver(|driver| {
        let mut server = start(driver).timeout("drain", "300ms").serve();
        fs::write(server.config_file().with_file_name(HANGS), "").unwrap();
        server.signal(libc::SIGUSR2);
        let successor = server.log_line("a successor starts").unwrap()["pid"].as_i64().unwrap();
        server.signal(libc::SIGTERM);
        // The log ends when no process is left that writes it.
        assert_eq!(server.wait_exit(PATIENCE).code(), Some(0));
        assert!(!fs::exists(format!("/proc/{successor}")).unwrap());
    });
}

#[test]
fn the_successor_may_have_more_workers_or_fewer() {
    on_each_driver(|driver| {
        let mut server = start(driver).workers(2).serve();
        let address = server.address;
        for workers_then in [4, 1, 3] {
            server.edit(|config| config["cores"]["workers"] = json!(workers_then));
            under_load(address, |served| {
                served();
                upgrade(&server);
                served();
            });
            assert_eq!(workers(&server), workers_then);
            // Each of them gets connections.
            let mut seen = std::collections::BTreeSet::new();
            wait_until("every worker serves", || {
                seen.insert(server.get("/worker").text().to_owned());
                seen.len() == workers_then
            });
        }
    });
}

#[test]
fn addresses_that_are_new_are_opened_and_those_that_are_gone_close_with_the_predecessor() {
    let mut server = start(on_hand("epoll")).serve();
    let (old, free) = (server.address, listen_somewhere().local_addr().unwrap());
    server.edit(|config| config["server"]["listen"] = json!([free.to_string()]));
    upgrade(&server);
    assert_eq!(Client::connect(free).get("/").text(), "hello");
    wait_until("the other address is closed", || Client::try_connect(old).is_err());
    assert!(server.log_line("a socket was handed over that the config does not have").is_some());
}

#[test]
fn the_command_has_a_running_server_replaced() {
    let mut server = Start::command(on_hand("epoll"), json!([{"match": {"path": "/"}, "respond": {"text": "hello"}}]))
        .timeout("drain", "60s")
        .grouped()
        .serve();
    let ask = |address: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ringfort"));
        command.args(["upgrade", "--admin", address]).output().unwrap()
    };
    let output = ask(&server.admin.to_string());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).ends_with(" serves\n"), "{output:?}");
    assert_eq!(server.wait_first_exit().code(), Some(0));
    assert_eq!(server.get("/").text(), "hello");
    server.write_config("{");
    let output = ask(&server.admin.to_string());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("exit status: 78"), "{output:?}");
    assert_eq!(server.get("/").text(), "hello");
    let nobody = listen_somewhere().local_addr().unwrap();
    assert_eq!(ask(&nobody.to_string()).status.code(), Some(1));
}

#[test]
fn a_web_page_cannot_have_it_replaced() {
    let server = start(on_hand("epoll")).serve();
    let request = "POST /upgrade HTTP/1.1\r\nHost: admin\r\nContent-Length: 0\r\nOrigin: http://a.example\r\n\r\n";
    assert_eq!(Client::connect(server.admin).send(request).response().status, 403);
}

/// Hands it two sockets as systemd does: as descriptors 3 and 4, for a process that is known by its id. A shell knows its
/// own, which is the program's that it becomes.
fn activate(command: &mut Command, [first, second]: [TcpListener; 2]) {
    let script = "export LISTEN_FDS=2 LISTEN_PID=$$; exec \"$@\" 3<&0 4<&1 0</dev/null 1>/dev/null";
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        shell.env(name, value.unwrap_or_default());
    }
    shell.stdin(OwnedFd::from(first)).stdout(OwnedFd::from(second)).stderr(Stdio::piped());
    *command = shell;
}

#[test]
fn sockets_of_systemd_are_served_and_handed_on() {
    on_each_driver(|driver| {
        let sockets = [(); 2].map(|()| listen_somewhere());
        let [address, admin] = [0, 1].map(|at: usize| sockets[at].local_addr().unwrap());
        // It stands in the queue before the server is started at all.
        let mut early = Client::connect(address);
        early.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        let prepare = move |command: &mut Command| activate(command, sockets);
        let server = start(driver).listen(&[address]).admin(admin).prepare(prepare).serve();
        assert_eq!((server.address, server.admin), (address, admin));
        assert_eq!(early.response().text(), "hello");
        under_load(address, |served| {
            served();
            let pid = upgrade(&server);
            let environment = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
            assert!(!environment.contains("LISTEN_"), "{environment}");
            served();
        });
    });
}

#[test]
fn systemd_is_told_when_the_process_is_ready_is_well_is_another_and_stops() {
    let directory = std::env::temp_dir().join(format!("ringfort-it-systemd-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    let path = directory.join("notify");
    let _ = fs::remove_file(&path);
    let systemd = UnixDatagram::bind(&path).unwrap();
    let (well, told) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
    let (signs, heard) = (well.clone(), told.clone());
    // It reads all the time, as its queue is short; until it is told to stop.
    let reader = systemd.try_clone().unwrap();
    let reader = std::thread::spawn(move || {
        let mut bytes = [0; 256];
        while let Ok(length @ 1..) = reader.recv(&mut bytes) {
            match std::str::from_utf8(&bytes[..length]).unwrap() {
                "WATCHDOG=1" => _ = signs.fetch_add(1, Ordering::Relaxed),
                other => heard.lock().unwrap().push(other.to_owned()),
            }
        }
    });
    let wait_told = |expected: &[&str]| {
        wait_until(&format!("systemd is told {expected:?}"), || told.lock().unwrap().len() >= expected.len());
        assert_eq!(*told.lock().unwrap(), expected);
    };
    let prepare = move |command: &mut Command| {
        command.env("NOTIFY_SOCKET", path).env("WATCHDOG_USEC", "20000");
    };
    let mut server = start(on_hand("epoll")).prepare(prepare).serve();
    wait_told(&["READY=1"]);
    let pid = upgrade(&server);
    let main = format!("MAINPID={pid}");
    wait_until("systemd is told of the successor", || told.lock().unwrap().len() == 3);
    // Two processes tell it: in whichever order.
    told.lock().unwrap()[1..].sort_unstable();
    wait_told(&["READY=1", &main, "READY=1"]);
    assert_eq!(server.wait_first_exit().code(), Some(0));
    let before = well.load(Ordering::Relaxed);
    wait_until("it is well", || well.load(Ordering::Relaxed) > before);
    let successor = rustix::process::Pid::from_raw(pid as i32).unwrap();
    rustix::process::kill_process(successor, rustix::process::Signal::TERM).unwrap();
    wait_told(&["READY=1", &main, "READY=1", "STOPPING=1"]);
    systemd.shutdown(std::net::Shutdown::Both).unwrap();
    reader.join().unwrap();
    fs::remove_dir_all(directory).unwrap();
}
