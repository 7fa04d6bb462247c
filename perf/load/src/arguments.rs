//! The command line.

use std::net::SocketAddrV4;
use std::time::Duration;

pub const USAGE: &str = "\
ringfort-load MODE --address 127.0.0.1:PORT [OPTION..]: loads a server on this host, on one thread.
ringfort-load sink --address 127.0.0.1:PORT: is one, which reads bodies, keeps nothing and answers with their lengths.

MODE
  closed        each connection sends its next requests when the last are answered
  connect       the same, with a new connection for each request
  open          requests at a fixed rate; latencies count from when they were to be sent
  hold          one request on each connection, which then stays open

OPTION
  --path /x           target of the requests (/)
  --connections N     connections at once (64)
  --pipeline N        requests sent at once on a connection, in mode closed (1)
  --seconds S         length of the measured window (2)
  --warmup S          load before it, not counted (0.3)
  --rate R            requests a second, in mode open
  --send-bytes N      POST with a body of this length, instead of GET
  --body-bytes N      the length that each answer's body must have
  --gate              print `ready` and wait for a line on stdin before the measured window, and for stdin's end behind
                      it, with the connections open: whoever measures the server looks at it at rest, before and after

Prints the result as one line of JSON. Exits with 1 if anything but the expected answers was seen.";

/// Bytes of a body that is sent; all requests of a run are the same bytes in memory.
const SEND_BYTES_MAX: usize = 64 << 20;

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Task {
    Load(Plan),
    /// To be a server at this address that reads bodies.
    Sink(SocketAddrV4),
}

impl Task {
    /// The task of a command line without the program's name.
    ///
    /// # Errors
    /// What was expected and what was found.
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mode = match words.next().as_deref() {
            Some("closed") => Mode::Closed,
            Some("connect") => Mode::Connect,
            Some("open") => Mode::Open,
            Some("hold") => Mode::Hold,
            Some("sink") => return parse_sink(words).map(Self::Sink),
            found => return Err(format!("expected a mode (closed, connect, open, hold, sink), found {found:?}")),
        };
        Plan::parse(mode, words).map(Self::Load)
    }
}

fn parse_sink(mut words: impl Iterator<Item = String>) -> Result<SocketAddrV4, String> {
    let address = match (words.next().as_deref(), words.next(), words.next()) {
        (Some("--address"), Some(text), None) => read("--address", &text, "an address such as 127.0.0.1:8080")?,
        _ => return Err("expected --address and its value behind sink, and no more".to_owned()),
    };
    check_address(address).map(|()| address)
}

fn check_address(address: SocketAddrV4) -> Result<(), String> {
    match address.ip().is_loopback() && address.port() != 0 {
        true => Ok(()),
        false => Err(format!("expected --address with 127.0.0.1 and a port, found {address}")),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Closed,
    Connect,
    Open,
    Hold,
}

/// One run.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub mode: Mode,
    pub address: SocketAddrV4,
    pub path: String,
    pub connections: usize,
    pub pipeline: usize,
    pub window: Duration,
    pub warmup: Duration,
    pub rate: f64,
    /// The body that each request has; without one it is a GET.
    pub send_bytes: Option<usize>,
    pub body_length: Option<u64>,
    pub gate: bool,
}

impl Plan {
    pub fn new(mode: Mode, address: SocketAddrV4) -> Self {
        Self {
            mode,
            address,
            path: "/".to_owned(),
            connections: 64,
            pipeline: 1,
            window: Duration::from_secs(2),
            warmup: Duration::from_millis(300),
            rate: 0.0,
            send_bytes: None,
            body_length: None,
            gate: false,
        }
    }

    /// The plan that the words behind the mode ask for.
    fn parse(mode: Mode, mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut plan = Self::new(mode, SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 0));
        while let Some(name) = words.next() {
            plan.set(&name, &mut words)?;
        }
        plan.check()
    }

    fn set(&mut self, name: &str, words: &mut impl Iterator<Item = String>) -> Result<(), String> {
        if name == "--gate" {
            self.gate = true;
            return Ok(());
        }
        let text = words.next().ok_or_else(|| format!("expected a value after {name}, found the end"))?;
        match name {
            "--address" => self.address = read(name, &text, "an address such as 127.0.0.1:8080")?,
            "--path" => self.path = text,
            "--connections" => self.connections = read(name, &text, "a number")?,
            "--pipeline" => self.pipeline = read(name, &text, "a number")?,
            "--seconds" => self.window = read_seconds(name, &text)?,
            "--warmup" => self.warmup = read_seconds(name, &text)?,
            "--rate" => self.rate = read(name, &text, "requests a second")?,
            "--send-bytes" => self.send_bytes = Some(read(name, &text, "a number of bytes")?),
            "--body-bytes" => self.body_length = Some(read(name, &text, "a number of bytes")?),
            _ => return Err(format!("expected an option, found {name}")),
        }
        Ok(())
    }

    fn check(self) -> Result<Self, String> {
        check_address(self.address)?;
        if self.connections == 0 || self.pipeline == 0 {
            return Err("expected at least 1 connection and 1 request at once, found 0".to_owned());
        }
        if let Some(found) = self.send_bytes.filter(|bytes| bytes.saturating_mul(self.pipeline) > SEND_BYTES_MAX) {
            return Err(format!(
                "expected --send-bytes of at most {SEND_BYTES_MAX} in all that is sent at once, found {found}"
            ));
        }
        if self.pipeline > 1 && self.mode != Mode::Closed {
            return Err(format!("expected --pipeline only in mode closed, found it in {:?}", self.mode));
        }
        if (self.mode == Mode::Open) != (self.rate.is_finite() && self.rate > 0.0) {
            return Err(format!("expected --rate above 0 in mode open and nowhere else, found {}", self.rate));
        }
        if !self.path.starts_with('/') || !self.path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("expected a path that begins with / and has no spaces, found {:?}", self.path));
        }
        Ok(self)
    }
}

fn read<T: std::str::FromStr>(name: &str, text: &str, expected: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("{name}: expected {expected}, found {text:?}"))
}

fn read_seconds(name: &str, text: &str) -> Result<Duration, String> {
    Duration::try_from_secs_f64(read(name, text, "seconds")?)
        .map_err(|_| format!("{name}: expected seconds of at least 0, found {text:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Task, String> {
        Task::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_taken() {
        let plan =
            parse("closed --address 127.0.0.1:80 --pipeline 16 --seconds 0.5 --send-bytes 7 --body-bytes 13 --gate");
        let expected = Plan {
            pipeline: 16,
            window: Duration::from_millis(500),
            send_bytes: Some(7),
            body_length: Some(13),
            gate: true,
            ..Plan::new(Mode::Closed, "127.0.0.1:80".parse().unwrap())
        };
        assert_eq!(plan, Ok(Task::Load(expected)));
        assert_eq!(parse("sink --address 127.0.1.1:80"), Ok(Task::Sink("127.0.1.1:80".parse().unwrap())));
    }

    #[test]
    fn mistakes_name_what_was_expected() {
        for (line, message) in [
            ("", "expected a mode (closed, connect, open, hold, sink), found None"),
            ("closed", "expected --address with 127.0.0.1 and a port, found 127.0.0.1:0"),
            ("closed --address 192.0.2.1:80", "expected --address with 127.0.0.1 and a port, found 192.0.2.1:80"),
            ("open --address 127.0.0.1:80", "expected --rate above 0 in mode open and nowhere else, found 0"),
            ("closed --address 127.0.0.1:80 --rate", "expected a value after --rate, found the end"),
            ("sink", "expected --address and its value behind sink, and no more"),
            ("sink --address 127.0.0.1:80 --gate", "expected --address and its value behind sink, and no more"),
            ("sink --address 192.0.2.1:80", "expected --address with 127.0.0.1 and a port, found 192.0.2.1:80"),
            (
                "closed --address 127.0.0.1:80 --send-bytes 67108865",
                "expected --send-bytes of at most 67108864 in all that is sent at once, found 67108865",
            ),
            ("closed --seconds x", "--seconds: expected seconds, found \"x\""),
            ("closed --seconds -1", "--seconds: expected seconds of at least 0, found \"-1\""),
            (
                "closed --address 127.0.0.1:80 --path x",
                "expected a path that begins with / and has no spaces, found \"x\"",
            ),
        ] {
            assert_eq!(parse(line).unwrap_err(), message, "{line}");
        }
    }
}
