//! `ringfort doctor`: what this host allows, against what the config asks for. Changes nothing.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use serde_json::json;

use super::arguments::CheckOptions;
use super::check::{describe_cores, describe_workers, error_json};
use super::{Exit, Session};
use crate::config::model::Driver;
use crate::config::{Config, Failure, Host, Plan, Prepared, Steering, list_ids, resolve};
use crate::rt::{DriverChoice, Executor, ExecutorChoice, list_built};
use crate::sys::{self, file, limits, probe, socket};

/// Descriptors beside those of connections: listeners, rings, files being served, logs.
const SPARE_FILES: u64 = 1024;
/// The kernel from which on io_uring has all that a worker uses.
const KERNEL_MIN: (u32, u32) = (6, 1);
/// The kernel from which on rings are not counted as locked memory.
const KERNEL_UNLOCKED_RINGS: (u32, u32) = (5, 12);
/// Locked memory that rings may take before that, by a cautious estimate for a few cores.
const LOCKED_BYTES_MIN: u64 = 64 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grade {
    Ok,
    Warn,
    Fail,
}

impl Grade {
    const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// One thing that was looked at.
struct Finding {
    name: &'static str,
    grade: Grade,
    found: String,
    fix: Option<String>,
}

impl Finding {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, grade: Grade::Ok, found: found.into(), fix: None }
    }

    fn bad(name: &'static str, grade: Grade, found: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { name, grade, found: found.into(), fix: Some(fix.into()) }
    }
}

pub(super) fn doctor(session: &mut Session<'_>, options: &CheckOptions) -> io::Result<Exit> {
    let input = session.input(options.config.as_ref());
    let host = Host::read();
    let prepared = session.prepare(&input, &host);
    let mut findings = Vec::new();
    let failure = match &prepared {
        Ok(prepared) => {
            let routes = prepared.snapshot.routes.names().len();
            findings.push(Finding::ok("config", format!("{} is valid; routes: {routes}", prepared.origin)));
            None
        }
        Err(failure) => {
            findings.push(judge_failure(failure));
            Some(failure)
        }
    };
    // With a broken config the host is judged by the defaults: what it cannot do then, it cannot do at all.
    let fallback = Config::default();
    let (config, plan) = match &prepared {
        Ok(Prepared { snapshot, plan, .. }) => (&snapshot.config, Ok(plan.clone())),
        Err(_) => (&fallback, resolve(&fallback.cores, &host)),
    };
    findings.push(look_at_executor(config));
    findings.extend(look_at_kernel(config));
    findings.extend(look_at_limits(config));
    findings.extend(look_at_cores(&host, plan.as_ref().ok()));
    findings.extend(look_at_sockets(config));
    findings.push(look_at_files());
    report(session, &findings, failure, options.json)
}

fn report(
    session: &mut Session<'_>,
    findings: &[Finding],
    failure: Option<&Failure>,
    as_json: bool,
) -> io::Result<Exit> {
    let worst = |grade| findings.iter().any(|finding| finding.grade == grade);
    let exit = match failure {
        Some(_) => Exit::Config,
        None if worst(Grade::Fail) => Exit::Failed,
        None => Exit::Done,
    };
    if as_json {
        let list = findings.iter().map(|finding| {
            json!({ "name": finding.name, "grade": finding.grade.name(), "found": finding.found, "fix": finding.fix })
        });
        let errors: Vec<_> = failure.iter().flat_map(|failure| &failure.errors).map(error_json).collect();
        session.say_json(&json!({ "findings": list.collect::<Vec<_>>(), "config_errors": errors }))?;
        return Ok(exit);
    }
    for finding in findings {
        session.say(format!("{:<4}  {:<10}  {}", finding.grade.name(), finding.name, finding.found))?;
        if let Some(fix) = &finding.fix {
            session.say(format!("      {:<10}  fix: {fix}", ""))?;
        }
    }
    for error in failure.iter().flat_map(|failure| &failure.errors) {
        session.say(format!("      {:<10}  {error}", ""))?;
    }
    Ok(exit)
}

fn judge_failure(failure: &Failure) -> Finding {
    let found = format!("{} has {} errors; the rest is judged by defaults", failure.origin, failure.errors.len());
    Finding::bad("config", Grade::Fail, found, "mend what is listed at the end")
}

fn look_at_executor(config: &Config) -> Finding {
    Finding::ok("executor", format!("{} (this build has: {})", executor(config).name(), list_built()))
}

fn executor(config: &Config) -> Executor {
    // A config that names one that is not built is a config with a mistake, in whose place the defaults are judged.
    ExecutorChoice::from(config.cores.executor).resolve().unwrap_or_default()
}

fn look_at_kernel(config: &Config) -> Vec<Finding> {
    let (release, version) = probe::kernel();
    let mut findings = Vec::new();
    findings.push(match version >= KERNEL_MIN {
        true => Finding::ok("kernel", format!("Linux {release}")),
        false => Finding::bad(
            "kernel",
            Grade::Warn,
            format!("Linux {release}: io_uring is not used before 6.1"),
            "run on Linux 6.1 or newer",
        ),
    });
    let driver = config.cores.driver;
    let executor = executor(config);
    findings.push(match (probe::io_uring(), driver) {
        (_, Driver::Epoll) => Finding::ok("io_uring", "not used: cores.driver is epoll"),
        (Ok(()), _) => Finding::ok("io_uring", "a ring with the flags of a worker can be made"),
        (Err(refusal), Driver::Auto) if executor.refusal(DriverChoice::Epoll).is_none() => {
            Finding::bad("io_uring", Grade::Warn, format!("{refusal}; epoll will be used"), refusal.fix())
        }
        (Err(refusal), Driver::Auto | Driver::IoUring) => {
            Finding::bad("io_uring", Grade::Fail, refusal.to_string(), refusal.fix())
        }
    });
    let filter = if probe::seccomp_filters() { "a filter is in force" } else { "no filter" };
    findings.push(Finding::ok("seccomp", filter));
    findings
}

fn look_at_limits(config: &Config) -> Vec<Finding> {
    let mut findings = Vec::new();
    let show = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
    let files = limits::open_files();
    let need = config.server.limits.connections as u64 + SPARE_FILES;
    let found = format!("soft {}, hard {} (the soft one is raised)", show(files.soft), show(files.hard));
    findings.push(match files.hard.is_none_or(|hard| hard >= need) {
        true => Finding::ok("nofile", found),
        false => Finding::bad(
            "nofile",
            Grade::Warn,
            format!("{found}; server.limits.connections and {SPARE_FILES} to spare need {need}"),
            format!("ulimit -Hn {need}, or LimitNOFILE={need} in the systemd unit; or fewer connections"),
        ),
    });
    let memory = limits::locked_memory();
    let counts = probe::kernel().1 < KERNEL_UNLOCKED_RINGS;
    findings.push(match counts && memory.soft.is_some_and(|soft| soft < LOCKED_BYTES_MIN) {
        true => Finding::bad(
            "memlock",
            Grade::Warn,
            format!("{} bytes, against which this kernel counts rings", show(memory.soft)),
            "ulimit -l unlimited, or LimitMEMLOCK=infinity in the systemd unit",
        ),
        false => Finding::ok("memlock", format!("{} bytes; enough", show(memory.soft))),
    });
    findings
}

fn look_at_cores(host: &Host, plan: Option<&Plan>) -> Vec<Finding> {
    let quota = host.confinement.quota_cores;
    let quota = quota.map_or_else(|| "no CPU quota".to_owned(), |cores| format!("a CPU quota of {cores} cores"));
    let cpuset = if host.confinement.exclusive { ", in an exclusive cpuset" } else { "" };
    let allowed = format!("may use {}{cpuset}; {quota}", list_ids(&host.allowed));
    let mut findings = vec![Finding::ok("cores", allowed)];
    let Some(plan) = plan else { return findings };
    let master = plan.master.map_or_else(|| "no core of its own".to_owned(), |core| format!("core {core}"));
    let layout = format!(
        "{} on cores {}, master on {master}, {}",
        describe_workers(plan.workers.len()),
        describe_cores(&plan.workers),
        if plan.pin { "pinned" } else { "not pinned" },
    );
    let (count, budget) = (plan.workers.len(), host.budget());
    let fix = "set cores.workers to \"auto\" or to fewer, or let the process have more cores";
    findings.push(match count > budget {
        true => Finding::bad("layout", Grade::Warn, format!("{layout}; cores to run on: {budget}"), fix),
        false => Finding::ok("layout", layout),
    });
    if plan.pin && host.confinement.quota_cores.is_some() && !host.confinement.exclusive {
        let found = "pinned under a CPU quota: a worker waits for its core while another is idle";
        findings.push(Finding::bad("pin", Grade::Warn, found, "set cores.pin to \"auto\""));
    }
    findings.extend(plan.notes.iter().map(|note| Finding::ok("note", note.as_str())));
    findings
}

fn look_at_sockets(config: &Config) -> Vec<Finding> {
    let mut findings = vec![look_at_steering(config)];
    let server = config.server.listen.iter().map(|address| ("listen", *address));
    for (name, address) in server.chain(config.admin.listen.map(|address| ("admin", address))) {
        findings.push(match socket::listen(address) {
            Ok(_) => Finding::ok(name, format!("{address} can be listened on")),
            Err(error) => {
                let fix = match error.kind() {
                    ErrorKind::AddrInUse => "stop what listens there, or choose another address",
                    ErrorKind::PermissionDenied => {
                        "ports below 1024 need CAP_NET_BIND_SERVICE (AmbientCapabilities= in a systemd unit)"
                    }
                    ErrorKind::AddrNotAvailable => "choose an address that this host has",
                    _ => "choose another address",
                };
                Finding::bad(name, Grade::Fail, format!("{address}: {error}"), fix)
            }
        });
    }
    findings
}

fn look_at_steering(config: &Config) -> Finding {
    let grade = if config.cores.steering == Steering::Cpu { Grade::Fail } else { Grade::Warn };
    let attempt = || -> io::Result<()> {
        let first = socket::listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let _second = socket::listen(socket::local_address(&first)?)?;
        sys::steering::steer_by_cpu(&first, &[0, 1])
    };
    match attempt() {
        Ok(()) => Finding::ok("reuseport", "sockets share a port and can be steered by CPU"),
        Err(error) => {
            let fix = "allow SO_REUSEPORT and SO_ATTACH_REUSEPORT_CBPF; cores.steering \"hash\" needs only the first";
            Finding::bad("reuseport", grade, error.to_string(), fix)
        }
    }
}

/// `openat2` is what keeps `files` below their root.
fn look_at_files() -> Finding {
    let attempt =
        file::open_root(Path::new("/")).and_then(|root| file::open_beneath(&root, ".", file::Lookup::Blocking));
    match attempt {
        Ok(_) => Finding::ok("openat2", "files are opened beneath their root by the kernel"),
        Err(error) => Finding::bad(
            "openat2",
            Grade::Warn,
            format!("{error}: routes with files cannot answer"),
            "run on Linux 5.6 or newer, and allow openat2 in the seccomp profile that is in force",
        ),
    }
}
