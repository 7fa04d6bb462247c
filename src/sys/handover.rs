//! Listening sockets that go from one process to the next: from the one that a binary upgrade replaces, or from systemd.
//!
//! The next process gets the descriptors themselves, so no socket is closed and opened again: whoever stands in a queue
//! stays there. An environment variable says what each of them is.
#![allow(unsafe_code, reason = "descriptors that come by number, and what a child does before its program is run")]

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::{Errno, FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::net::sockopt;
use rustix::process::{Pid, Signal, kill_process};
use rustix::time::Timespec;

use super::socket;
use crate::limits::INHERITED_SOCKETS_MAX;

/// Says what a predecessor hands over: `ready:5 admin:6:127.0.0.1:9090 server:7:0.0.0.0:80 server:8:0.0.0.0:80`.
pub const VARIABLE: &str = "RINGFORT_HANDOVER";
/// Say what systemd hands over (`sd_listen_fds(3)`).
const SYSTEMD_VARIABLES: [&str; 3] = ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];
/// Says which process the watchdog is for, where that is one alone.
const WATCHDOG_VARIABLE: &str = "WATCHDOG_PID";
/// The first of systemd's descriptors.
const SYSTEMD_FIRST: RawFd = 3;

/// What a socket is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Clients.
    Server,
    /// The admin listener.
    Admin,
    /// That is not said: its address tells.
    Unsaid,
}

/// A listening socket that was handed over.
#[derive(Debug)]
pub struct Inherited {
    /// What it is for.
    pub purpose: Purpose,
    /// The address as the predecessor's config has it; port 0 there is another one by now.
    pub configured: SocketAddr,
    /// Its address.
    pub address: SocketAddr,
    /// The socket: non-blocking, close-on-exec.
    pub socket: OwnedFd,
}

/// What this process was handed.
#[derive(Debug, Default)]
pub struct Inheritance {
    /// Listening sockets, in the order of the predecessor's workers.
    pub sockets: Vec<Inherited>,
    /// Where to tell the predecessor that this process serves: one byte.
    pub ready: Option<OwnedFd>,
}

/// Why a handover cannot be accepted: whoever started this process made a mistake.
#[derive(Debug)]
pub struct HandoverError(String);

impl fmt::Display for HandoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for HandoverError {}

impl Inheritance {
    /// Takes what these environment variables say was handed to this process. Nothing, the second time: descriptors have
    /// one owner.
    ///
    /// # Errors
    /// A variable that is malformed, or a descriptor that is no listening socket.
    pub fn take(variables: &[(OsString, OsString)]) -> Result<Self, HandoverError> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        let value =
            |name: &str| variables.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_os_str());
        let (handover, systemd) = (value(VARIABLE), value("LISTEN_FDS"));
        if handover.is_none() && systemd.is_none() || TAKEN.swap(true, Relaxed) {
            return Ok(Self::default());
        }
        match (handover, systemd) {
            (Some(text), _) => Self::of_predecessor(text),
            (None, Some(count)) => Self::of_systemd(count, value("LISTEN_PID")),
            (None, None) => Ok(Self::default()),
        }
    }

    fn of_predecessor(text: &OsStr) -> Result<Self, HandoverError> {
        let wrong = |found: &str| {
            HandoverError(format!("{VARIABLE}: expected descriptors as a predecessor writes them, found {found:?}"))
        };
        let mut inheritance = Self::default();
        for entry in parse(text).map_err(|found| wrong(&found))? {
            match entry {
                Entry::Ready(number) => inheritance.ready = Some(own(number)?),
                Entry::Socket { purpose, number, configured } => {
                    let (socket, address) = own_listening(number)?;
                    inheritance.sockets.push(Inherited { purpose, configured, address, socket });
                }
            }
        }
        Ok(inheritance)
    }

    fn of_systemd(count: &OsStr, pid: Option<&OsStr>) -> Result<Self, HandoverError> {
        let mut inheritance = Self::default();
        // What is meant for another process, as a parent of this one, is none of ours.
        if pid.and_then(OsStr::to_str).and_then(|pid| pid.parse().ok()) != Some(std::process::id()) {
            return Ok(inheritance);
        }
        let number =
            count.to_str().and_then(|count| count.parse().ok()).filter(|count| *count <= INHERITED_SOCKETS_MAX);
        let Some(number) = number else {
            let expected = format!("LISTEN_FDS: expected a number up to {INHERITED_SOCKETS_MAX}, found {count:?}");
            return Err(HandoverError(expected));
        };
        for offset in 0..number {
            let (socket, address) = own_listening(SYSTEMD_FIRST + offset as RawFd)?;
            inheritance.sockets.push(Inherited { purpose: Purpose::Unsaid, configured: address, address, socket });
        }
        Ok(inheritance)
    }

    /// Takes the sockets of one address of the config, in their order. A config may have port 0 several times, each of them
    /// another port by now: then one of these at a time.
    pub fn take_of(&mut self, purpose: Purpose, wanted: SocketAddr) -> Vec<OwnedFd> {
        let mut address = None;
        let is_wanted = |inherited: &mut Inherited| {
            inherited.configured == wanted
                && (inherited.purpose == purpose || inherited.purpose == Purpose::Unsaid)
                && *address.get_or_insert(inherited.address) == inherited.address
        };
        self.sockets.extract_if(.., is_wanted).map(|inherited| inherited.socket).collect()
    }
}

/// One word of the variable.
#[derive(Debug, PartialEq, Eq)]
enum Entry {
    Ready(RawFd),
    Socket { purpose: Purpose, number: RawFd, configured: SocketAddr },
}

/// The entries, or the one that is none.
fn parse(text: &OsStr) -> Result<Vec<Entry>, String> {
    let text = text.to_str().ok_or_else(|| text.to_string_lossy().into_owned())?;
    let mut entries = Vec::new();
    for word in text.split_ascii_whitespace() {
        let entry = parse_entry(word).ok_or_else(|| word.to_owned())?;
        entries.push(entry);
        if entries.len() > INHERITED_SOCKETS_MAX {
            return Err(format!("more than {INHERITED_SOCKETS_MAX} descriptors"));
        }
    }
    Ok(entries)
}

fn parse_entry(word: &str) -> Option<Entry> {
    let (kind, rest) = word.split_once(':')?;
    let number = |text: &str| text.parse().ok().filter(|number: &RawFd| *number > 2);
    if kind == "ready" {
        return Some(Entry::Ready(number(rest)?));
    }
    let purpose = match kind {
        "server" => Purpose::Server,
        "admin" => Purpose::Admin,
        _ => return None,
    };
    let (fd, configured) = rest.split_once(':')?;
    Some(Entry::Socket { purpose, number: number(fd)?, configured: configured.parse().ok()? })
}

/// Takes ownership of a descriptor that was handed to this process.
fn own(number: RawFd) -> Result<OwnedFd, HandoverError> {
    let wrong =
        |error: &dyn fmt::Display| HandoverError(format!("descriptor {number} was handed over and is none: {error}"));
    // SAFETY: only looked at, to see whether it is open; a closed one is an error of the call and not more.
    let looked_at = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl_getfd(looked_at).map_err(|error| wrong(&error))?;
    // SAFETY: it is open, and whoever started this process gave it to us by number; `Inheritance::take` does so once, before
    // this process has opened anything that could have this number.
    let owned = unsafe { OwnedFd::from_raw_fd(number) };
    fcntl_setfd(&owned, FdFlags::CLOEXEC).map_err(|error| wrong(&error))?;
    Ok(owned)
}

fn own_listening(number: RawFd) -> Result<(OwnedFd, SocketAddr), HandoverError> {
    let socket = own(number)?;
    let wrong = |what: String| HandoverError(format!("descriptor {number} was handed over: {what}"));
    match sockopt::socket_acceptconn(&socket) {
        Ok(true) => {}
        Ok(false) => return Err(wrong("it is a socket that does not listen".to_owned())),
        Err(error) => return Err(wrong(format!("it is no socket: {error}"))),
    }
    let address = socket::local_address(&socket).map_err(|error| wrong(error.to_string()))?;
    rustix::io::ioctl_fionbio(&socket, true).map_err(|error| wrong(error.to_string()))?;
    Ok((socket, address))
}

/// Starts a successor that gets these sockets and, to say that it serves, `ready`.
///
/// # Errors
/// When the program cannot be started.
pub fn start_successor(
    mut command: Command,
    sockets: &[(Purpose, SocketAddr, BorrowedFd<'_>)],
    ready: BorrowedFd<'_>,
) -> io::Result<Child> {
    let mut numbers = vec![ready.as_raw_fd()];
    let mut words = vec![format!("ready:{}", ready.as_raw_fd())];
    for (purpose, configured, socket) in sockets {
        let kind = if *purpose == Purpose::Admin { "admin" } else { "server" };
        words.push(format!("{kind}:{}:{configured}", socket.as_raw_fd()));
        numbers.push(socket.as_raw_fd());
    }
    command.env(VARIABLE, words.join(" "));
    // What systemd handed to this process is among the sockets; the watchdog becomes that of the successor.
    for name in SYSTEMD_VARIABLES.iter().chain(&[WATCHDOG_VARIABLE]) {
        command.env_remove(name);
    }
    let keep_open = move || {
        for number in &numbers {
            // SAFETY: borrowed by the caller for the whole call, and so open in the child, which has a copy of all.
            let fd = unsafe { BorrowedFd::borrow_raw(*number) };
            fcntl_setfd(fd, FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec it makes only the system call fcntl: no memory is allocated and no lock taken.
    unsafe { command.pre_exec(keep_open) };
    command.spawn()
}

/// What a successor said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// It serves.
    Ready,
    /// Nothing yet.
    Nothing,
    /// Nothing, and it never will: it has ended, or is about to.
    End,
}

/// Waits for the successor's word, at most so long.
pub fn wait_for_word(ready: &mut io::PipeReader, most: Duration) -> Word {
    let most = Timespec { tv_sec: most.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: most.subsec_nanos().into() };
    match rustix::event::poll(&mut [PollFd::new(ready, PollFlags::IN)], Some(&most)) {
        Ok(0) | Err(Errno::INTR) => return Word::Nothing,
        Ok(_) => {}
        Err(_) => return Word::End,
    }
    match ready.read(&mut [0]) {
        Ok(1..) => Word::Ready,
        Ok(0) | Err(_) => Word::End,
    }
}

/// Tells the predecessor that this process serves. If the predecessor is gone there is nobody to be told.
pub fn say_ready(ready: OwnedFd) {
    let _ = io::PipeWriter::from(ready).write_all(b"R");
}

/// Asks a child to end, by SIGTERM.
///
/// # Errors
/// When there is none any more.
pub fn ask_to_end(child: &Child) -> io::Result<()> {
    Ok(kill_process(Pid::from_child(child), Signal::TERM)?)
}

/// How many sockets of each address there are, for a log line.
pub fn count_by_address(sockets: &[Inherited]) -> BTreeMap<SocketAddr, usize> {
    let mut counts = BTreeMap::new();
    for inherited in sockets {
        *counts.entry(inherited.address).or_default() += 1;
    }
    counts
}

/// Whether further sockets can share the address of this one.
pub fn shares_its_port(socket: impl AsFd) -> bool {
    sockopt::socket_reuseport(socket).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;
    use std::process::Stdio;

    #[test]
    fn entries_are_read_as_they_are_written_and_nothing_else_is() {
        let parse = |text: &str| parse(OsStr::new(text));
        let address: SocketAddr = "[::1]:0".parse().unwrap();
        let socket = |purpose, number| Entry::Socket { purpose, number, configured: address };
        assert_eq!(
            parse("ready:5 admin:6:[::1]:0 server:7:[::1]:0"),
            Ok(vec![Entry::Ready(5), socket(Purpose::Admin, 6), socket(Purpose::Server, 7)])
        );
        assert_eq!(parse(""), Ok(Vec::new()));
        for wrong in ["ready:1", "ready:-1", "ready:x", "server:7", "server:7:localhost:80", "other:7:[::1]:0", "7"] {
            assert_eq!(parse(wrong), Err(wrong.to_owned()));
        }
        let many = "ready:5 ".repeat(INHERITED_SOCKETS_MAX + 1);
        assert!(parse(&many).is_err());
    }

    #[test]
    fn a_descriptor_that_is_no_listening_socket_is_refused() {
        let (reader, _writer) = io::pipe().unwrap();
        let number = OwnedFd::from(reader.try_clone().unwrap());
        let number = std::os::fd::IntoRawFd::into_raw_fd(number);
        let error = own_listening(number).unwrap_err().to_string();
        assert!(error.contains("is no socket"), "{error}");
        // `own_listening` closed it.
        let error = own(i32::MAX).unwrap_err().to_string();
        assert!(error.contains("is none"), "{error}");
    }

    #[test]
    fn a_successor_gets_the_sockets_and_nothing_else_and_says_when_it_is_ready() {
        let socket = socket::listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = socket::local_address(&socket).unwrap();
        let other = socket::listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        // It says what it has, and keeps the socket open until its stdin ends.
        let script = r#"for fd in $2 $3; do [ -e /proc/self/fd/$fd ] && echo $fd open || echo $fd closed; done
            printf R > /proc/self/fd/$1; echo "$RINGFORT_HANDOVER"; read line"#;
        let mut command = Command::new("sh");
        let numbers = [writer.as_raw_fd(), socket.as_raw_fd(), other.as_raw_fd()].map(|number| number.to_string());
        command.args(["-c", script, "sh"]).args(&numbers);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let configured = SocketAddr::from(([127, 0, 0, 1], 0));
        let child = start_successor(command, &[(Purpose::Server, configured, socket.as_fd())], writer.as_fd()).unwrap();
        drop(writer);
        let mut ready = Vec::new();
        let mut one = [0];
        reader.read_exact(&mut one).unwrap();
        ready.push(one[0]);
        assert_eq!(ready, b"R");
        drop(socket);
        TcpStream::connect(address).expect("the successor holds the queue open");
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let [ready, socket, other] = numbers;
        let expected = format!("{socket} open\n{other} closed\nready:{ready} server:{socket}:127.0.0.1:0\n");
        assert_eq!(text, expected);
    }
}
