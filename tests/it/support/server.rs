//! The server as a process of its own.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use ringfort::clock;
use serde_json::{Value, json};

use super::message::Response;
use super::{Client, PATIENCE, app, executor, wait_until};

/// What changes a command before it is run.
type Prepare = Box<dyn FnOnce(&mut Command)>;

/// How to start a server.
pub(crate) struct Start {
    program: Program,
    driver: &'static str,
    config: Value,
    /// Changes the command before it is run.
    prepare: Option<Prepare>,
    is_grouped: bool,
}

/// What is run.
enum Program {
    /// The tests' own application (see [`app`]).
    Application,
    /// The command `ringfort`.
    Command,
    /// `examples/service.rs`.
    Example,
}

/// A running server; it is killed when this is dropped, and its log printed when the test failed.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    process: Process,
    /// What its config file says.
    config: Value,
}

/// The server's process, whether it came to serve or not.
pub(crate) struct Process {
    child: Child,
    driver: &'static str,
    log: Arc<Log>,
    reader: Option<JoinHandle<()>>,
    directory: PathBuf,
    /// The group of the process and of its successors, where it has one of its own.
    group: Option<rustix::process::Pid>,
}

/// What the server wrote to stderr so far.
#[derive(Default)]
struct Log {
    state: Mutex<(Vec<String>, bool)>,
    changed: Condvar,
}

impl Start {
    /// The server with the tests' own application (see [`app`]).
    pub(crate) fn app(driver: &'static str) -> Self {
        let config = json!({
            "server": {"listen": ["127.0.0.1:0"], "timeouts": {}, "rates": {}, "limits": {}},
            "admin": {"listen": "127.0.0.1:0"},
            "cores": {"workers": 2, "executor": executor().name(), "driver": driver, "pin": "off", "ring": {}},
        });
        Self { program: Program::Application, driver, config, prepare: None, is_grouped: false }
    }

    /// The command `ringfort serve` with these routes.
    pub(crate) fn command(driver: &'static str, routes: Value) -> Self {
        let mut start = Self::app(driver);
        start.program = Program::Command;
        start.config["routes"] = routes;
        start
    }

    /// `examples/service.rs`.
    pub(crate) fn example(driver: &'static str) -> Self {
        Self { program: Program::Example, ..Self::app(driver) }
    }

    /// Sets `log.<name>`.
    pub(crate) fn log(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.config["log"][name] = value.into();
        self
    }

    /// Sets a key at the top.
    #[cfg_attr(not(feature = "wasm"), expect(dead_code, reason = "only tests of WASM plugins use it"))]
    pub(crate) fn key(mut self, name: &str, value: Value) -> Self {
        self.config[name] = value;
        self
    }

    /// Sets `server.<name>`.
    pub(crate) fn server(mut self, name: &str, value: Value) -> Self {
        self.config["server"][name] = value;
        self
    }

    /// Sets a key of the config.
    pub(crate) fn set(mut self, name: &str, value: Value) -> Self {
        self.config[name] = value;
        self
    }

    /// Sets `upstreams.<name>`.
    pub(crate) fn upstream(mut self, name: &str, upstream: Value) -> Self {
        self.config["upstreams"][name] = upstream;
        self
    }

    /// Sets `plugins`, those of all routes.
    pub(crate) fn plugins(mut self, plugins: Value) -> Self {
        self.config["plugins"] = plugins;
        self
    }

    /// Sets `resolver.nameservers`.
    pub(crate) fn name_servers(mut self, addresses: &[SocketAddr]) -> Self {
        let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        self.config["resolver"] = json!({ "nameservers": addresses });
        self
    }

    pub(crate) fn workers(mut self, workers: usize) -> Self {
        self.config["cores"]["workers"] = json!(workers);
        self
    }

    /// Sets `cores.stall`.
    pub(crate) fn stall(mut self, value: &str) -> Self {
        self.config["cores"]["stall"] = json!(value);
        self
    }

    /// Sets `server.timeouts.<name>`.
    pub(crate) fn timeout(mut self, name: &str, value: &str) -> Self {
        self.config["server"]["timeouts"][name] = json!(value);
        self
    }

    /// Sets `server.rates.<name>`.
    pub(crate) fn rate(mut self, name: &str, value: &str) -> Self {
        self.config["server"]["rates"][name] = json!(value);
        self
    }

    /// Sets `server.limits.<name>`.
    pub(crate) fn limit(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.config["server"]["limits"][name] = value.into();
        self
    }

    /// Sets `server.keepalive.requests`.
    pub(crate) fn keepalive_requests(mut self, count: u64) -> Self {
        self.config["server"]["keepalive"] = json!({ "requests": count });
        self
    }

    /// Sets how many receive buffers each core has.
    pub(crate) fn buffers(mut self, count: u16) -> Self {
        self.config["cores"]["ring"]["buffers"] = json!(count);
        self
    }

    /// Changes the command before it is run.
    pub(crate) fn prepare(mut self, prepare: impl FnOnce(&mut Command) + 'static) -> Self {
        self.prepare = Some(Box::new(prepare));
        self
    }

    /// With successors, which end when the server is dropped.
    pub(crate) fn grouped(mut self) -> Self {
        self.is_grouped = true;
        self
    }

    /// Sets `server.listen`.
    pub(crate) fn listen(mut self, addresses: &[SocketAddr]) -> Self {
        self.config["server"]["listen"] = addresses.iter().map(ToString::to_string).collect();
        self
    }

    /// Sets `admin.listen`.
    pub(crate) fn admin(mut self, address: SocketAddr) -> Self {
        self.config["admin"]["listen"] = address.to_string().into();
        self
    }

    /// With the config file watched, or not.
    pub(crate) fn watch(mut self, watch: bool) -> Self {
        self.config["reload"] = json!({"watch": watch});
        self
    }

    /// Starts it and waits until it serves.
    #[track_caller]
    pub(crate) fn serve(self) -> Server {
        let config = self.config.clone();
        let mut process = self.spawn();
        let mut address = |message: &str| {
            let line = process.log_line(message).unwrap_or_else(|| panic!("{message:?} was never logged"));
            line["address"].as_str().unwrap().parse().unwrap()
        };
        Server { address: address("listening"), admin: address("admin listening"), process, config }
    }

    /// The same where its log goes to a file.
    #[track_caller]
    pub(crate) fn serve_from_log(self, log: &Path) -> Server {
        let config = self.config.clone();
        let process = self.spawn();
        let address = |message: &str| {
            let mut found = None;
            wait_until(&format!("{message:?} is logged"), || {
                let text = fs::read_to_string(log).unwrap_or_default();
                let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
                found = lines.find(|line| line["message"] == message);
                found.is_some()
            });
            found.unwrap()["address"].as_str().unwrap().parse().unwrap()
        };
        Server { address: address("listening"), admin: address("admin listening"), process, config }
    }

    /// Starts it, whatever comes of it.
    pub(crate) fn spawn(self) -> Process {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("ringfort-it-{}-{number}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let config = directory.join("ringfort.json");
        fs::write(&config, self.config.to_string()).unwrap();
        let mut command = match self.program {
            Program::Application => app::command(&config),
            Program::Command => self.serve_command(&config),
            Program::Example => crate::service::command(&config),
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        if let Some(prepare) = self.prepare {
            prepare(&mut command);
        }
        if self.is_grouped {
            command.process_group(0);
        }
        let mut child = command.spawn().unwrap();
        let group = self.is_grouped.then(|| rustix::process::Pid::from_child(&child));
        let log = Arc::new(Log::default());
        let (stderr, log_of_reader) = (BufReader::new(child.stderr.take().unwrap()), log.clone());
        let reader = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                log_of_reader.add(line);
            }
            log_of_reader.end();
        });
        Process { child, driver: self.driver, log, reader: Some(reader), directory, group }
    }

    /// What an operator would type; the flags say again what the file says.
    fn serve_command(&self, config: &Path) -> Command {
        // Where the binary is at run time; it may have moved since the test was built.
        let program = std::env::var_os("CARGO_BIN_EXE_ringfort").unwrap_or(env!("CARGO_BIN_EXE_ringfort").into());
        let mut command = Command::new(program);
        command.arg("serve").arg("--config").arg(config);
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--log-format", "json"]);
        command.args([
            "--executor",
            executor().name(),
            "--driver",
            self.driver,
            "--workers",
            &self.config["cores"]["workers"].to_string(),
        ]);
        command
    }
}

impl Server {
    /// Sends one `GET` on a connection of its own.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Response {
        Client::connect(self.address).get(path)
    }

    #[track_caller]
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// Sends one `GET` to the admin listener.
    #[track_caller]
    pub(crate) fn admin_get(&self, path: &str) -> Response {
        Client::connect(self.admin).get(path)
    }

    /// The sum of a metric's samples over all series whose labels contain `labels`.
    #[track_caller]
    pub(crate) fn metric(&self, name: &str, labels: &str) -> f64 {
        let text = self.admin_get("/metrics");
        let of_metric = |line: &&str| {
            let rest = line.strip_prefix(name).unwrap_or_default();
            rest.starts_with([' ', '{']) && rest.contains(labels)
        };
        text.text().lines().filter(of_metric).map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap()).sum()
    }

    /// Waits until a metric is what it should be; the master reads the workers' numbers each second.
    #[track_caller]
    pub(crate) fn wait_metric(&self, name: &str, labels: &str, expected: f64) {
        let mut last = f64::NAN;
        wait_until(&format!("{name}{{{labels}}} is {expected}"), || {
            last = self.metric(name, labels);
            last == expected
        });
    }

    /// The file that it was started with.
    pub(crate) fn config_file(&self) -> PathBuf {
        self.process.directory.join("ringfort.json")
    }

    /// Changes the config and writes it as an editor does: a new file, renamed over the old one.
    pub(crate) fn edit(&mut self, change: impl FnOnce(&mut Value)) {
        change(&mut self.config);
        self.write_config(&self.config.to_string());
    }

    /// Writes a config of this text in place of the one that is there.
    pub(crate) fn write_config(&self, text: &str) {
        let new = self.process.directory.join("new.json");
        fs::write(&new, text).unwrap();
        fs::rename(&new, self.config_file()).unwrap();
    }

    /// Asks the admin listener for a reload, and gives its answer.
    #[track_caller]
    pub(crate) fn reload(&self) -> Response {
        Client::connect(self.admin).send("POST /reload HTTP/1.1\r\nHost: admin\r\nContent-Length: 0\r\n\r\n").response()
    }

    /// Asks the admin listener for an upgrade, and gives its answer.
    #[track_caller]
    pub(crate) fn upgrade(&self) -> Response {
        Client::connect(self.admin)
            .send("POST /upgrade HTTP/1.1\r\nHost: admin\r\nContent-Length: 0\r\n\r\n")
            .response()
    }

    /// Waits until the process has ended that was started first, its successor or not.
    #[track_caller]
    pub(crate) fn wait_first_exit(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the first process exits", || {
            status = self.process.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// The server's process.
    pub(crate) fn pid(&self) -> u32 {
        self.process.child.id()
    }

    pub(crate) fn signal(&self, signal: libc::c_int) {
        self.process.signal(signal);
    }

    #[track_caller]
    pub(crate) fn wait_exit(&mut self, within: Duration) -> ExitStatus {
        self.process.wait_exit(within)
    }

    /// The first line of the log whose message starts with this; waits for it.
    pub(crate) fn log_line(&mut self, message: &str) -> Option<Value> {
        self.process.log_line(message)
    }

    /// All of the log so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.process.log()
    }
}

impl Process {
    pub(crate) fn signal(&self, signal: libc::c_int) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let signal = rustix::process::Signal::from_named_raw(signal).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Waits until the process has ended.
    #[track_caller]
    pub(crate) fn wait_exit(&mut self, within: Duration) -> ExitStatus {
        let deadline = clock::now() + within;
        let mut status = None;
        wait_until("the server exits", || {
            status = self.child.try_wait().unwrap();
            assert!(status.is_some() || clock::now() < deadline, "the server did not exit within {within:?}");
            status.is_some()
        });
        // All of its log is there then.
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        status.unwrap()
    }

    pub(crate) fn log(&self) -> Vec<String> {
        self.log.state.lock().unwrap().0.clone()
    }

    /// The first line whose message starts with this; waits for it, until the log ends.
    pub(crate) fn log_line(&mut self, message: &str) -> Option<Value> {
        let of_message = |line: &String| {
            let value: Value = serde_json::from_str(line).ok()?;
            value["message"].as_str()?.starts_with(message).then_some(value)
        };
        let deadline = clock::now() + PATIENCE;
        let mut state = self.log.state.lock().unwrap();
        loop {
            if let Some(found) = state.0.iter().find_map(of_message) {
                return Some(found);
            }
            let left = deadline.since(clock::now());
            if state.1 || left == Duration::ZERO {
                return None;
            }
            state = self.log.changed.wait_timeout(state, left).unwrap().0;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.child.kill();
        if let Some(group) = self.group {
            // None of its successors may be left, or the log never ends. It may have none.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let status = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        if std::thread::panicking() {
            eprintln!("--- log of the server on {} ({status:?})\n{}\n---", self.driver, self.log().join("\n"));
        }
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Log {
    fn add(&self, line: String) {
        self.state.lock().unwrap().0.push(line);
        self.changed.notify_all();
    }

    fn end(&self) {
        self.state.lock().unwrap().1 = true;
        self.changed.notify_all();
    }
}
