//! Holds what a client received against what it must receive, byte for byte.

use super::expect::{ANY_BYTE, After, Close, Expectation, Expected, Extent, Framing, Interim, Reply};
use super::play::{Ended, Seen};
use super::script::Script;
use crate::clock;
use crate::http::Version;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// Bytes of an HTTP date.
const DATE_BYTES: usize = 29;

/// Why comparing ends.
enum Stop {
    /// The bytes end here, and may.
    Over,
    Wrong(String),
}

type Step<T = ()> = Result<T, Stop>;

fn wrong<T>(cause: impl Into<String>) -> Step<T> {
    Err(Stop::Wrong(cause.into()))
}

/// Compares; the first difference is the error.
pub(super) fn compare(script: &Script, wanted: &Expectation, seen: &Seen) -> Result<(), String> {
    let mut reading = Reading {
        rest: &seen.received,
        is_lossy: wanted.is_lossy,
        server: script.settings.server_name.as_deref(),
        first_id: None,
    };
    let describe = |cause: String| {
        let received = seen.received.escape_ascii();
        format!("{cause}\nreceived ({:?}): {received}\nwanted: {wanted:?}", seen.ended)
    };
    match reading.read_all(&wanted.answers) {
        Err(Stop::Wrong(cause)) => Err(describe(cause)),
        Err(Stop::Over) => Ok(()),
        Ok(true) => check_end(wanted, seen).map_err(describe),
        Ok(false) => Ok(()),
    }
}

/// How the connection ended, and what its core counted.
fn check_end(wanted: &Expectation, seen: &Seen) -> Result<(), String> {
    if wanted.is_lossy {
        return Ok(());
    }
    match seen.ended {
        Ended::End => {}
        Ended::Reset if wanted.may_reset => {}
        Ended::Reset => return Err("a reset instead of the end".to_owned()),
        Ended::Left | Ended::Refused => return Err("the client did not stay to the end".to_owned()),
    }
    if seen.recorded != wanted.answers.len() as u64 {
        return Err(format!("{} requests are counted, not {}", seen.recorded, wanted.answers.len()));
    }
    Ok(())
}

struct Reading<'s> {
    rest: &'s [u8],
    is_lossy: bool,
    server: Option<&'s str>,
    /// The number of the first request, going by those that error bodies show.
    first_id: Option<u64>,
}

impl<'s> Reading<'s> {
    /// Reads all answers; false when it cannot be said whether there must be more.
    fn read_all(&mut self, answers: &[Expected]) -> Step<bool> {
        for (number, expected) in answers.iter().enumerate() {
            self.read_interim(expected)?;
            let closes = match self.choose(&expected.replies)? {
                Some(reply) => self.read_reply(reply, number as u64)?,
                None => true,
            };
            match expected.after {
                After::Unknown => return Ok(false),
                After::Next(_) if !closes => {}
                After::Next(_) | After::End => break,
            }
        }
        match self.rest {
            [] => Ok(true),
            rest => wrong(format!("{} bytes behind the last answer", rest.len())),
        }
    }

    /// The next `count` bytes.
    fn take(&mut self, count: usize) -> Step<&'s [u8]> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else {
            return if self.is_lossy { Err(Stop::Over) } else { wrong(format!("{count} bytes were due")) };
        };
        self.rest = rest;
        Ok(taken)
    }

    /// The bytes that must come next.
    fn take_equal(&mut self, wanted: &[u8]) -> Step<&'s [u8]> {
        if !fits(wanted, self.rest) {
            return wrong(format!("\"{}\" was due", wanted.escape_ascii()));
        }
        self.take(wanted.len())
    }

    fn read_interim(&mut self, expected: &Expected) -> Step {
        match expected.interim {
            Interim::Never => {}
            Interim::Maybe if !self.rest.starts_with(CONTINUE) => {}
            Interim::Maybe | Interim::Must => drop(self.take_equal(CONTINUE)?),
        }
        Ok(())
    }

    /// The one of these that came, by its status.
    fn choose<'r>(&mut self, replies: &'r [Reply]) -> Step<Option<&'r Reply>> {
        if replies.len() < 2 || self.rest.len() < 12 {
            return Ok(replies.first());
        }
        let status = &self.rest[9..12];
        match replies.iter().find(|reply| reply.status.digits() == status) {
            Some(reply) => Ok(Some(reply)),
            None => wrong("no answer that could be due has this status"),
        }
    }

    /// Reads one response; whether it closes the connection.
    fn read_reply(&mut self, reply: &Reply, number: u64) -> Step<bool> {
        let closing = self.head(reply, true);
        let closes = match reply.close {
            Close::Yes => true,
            Close::No => false,
            Close::Either => fits(&closing, self.rest),
        };
        let head = self.take_equal(&if closes { closing } else { self.head(reply, false) })?;
        check_date(head)?;
        match reply.extent {
            Extent::HeadOnly => {}
            Extent::Whole => self.read_body(reply, number)?,
            Extent::Cut => {
                self.read_cut_body(reply)?;
                return Ok(true);
            }
            Extent::CutAnywhere => {
                self.is_lossy = true;
                self.read_cut_body(reply)?;
                return Ok(true);
            }
        }
        Ok(closes || reply.framing == Framing::ToEnd)
    }

    fn head(&self, reply: &Reply, closes: bool) -> Vec<u8> {
        let framing = match reply.framing {
            Framing::None | Framing::ToEnd => String::new(),
            Framing::Length(length) => format!("Content-Length: {length}\r\n"),
            Framing::Chunked => "Transfer-Encoding: chunked\r\n".to_owned(),
        };
        let server = self.server.map(|name| format!("Server: {name}\r\n")).unwrap_or_default();
        let date = str::from_utf8(&[ANY_BYTE; DATE_BYTES]).unwrap_or_default();
        let connection = match (closes, reply.version) {
            (true, _) => "Connection: close\r\n",
            (false, Version::Http10) => "Connection: keep-alive\r\n",
            (false, Version::Http11) => "",
        };
        let (code, reason) = (reply.status.code(), reply.status.reason());
        let fields = &reply.fields;
        format!("HTTP/1.1 {code} {reason}\r\n{fields}{framing}{server}Date: {date}\r\n{connection}\r\n").into_bytes()
    }

    fn read_body(&mut self, reply: &Reply, number: u64) -> Step {
        match reply.framing {
            Framing::None => {}
            Framing::Length(_) if reply.fields.contains("problem+json") => {
                let body = self.take_equal(&reply.body)?;
                self.check_id(&body[body.len() - 18..body.len() - 2], number)?;
            }
            Framing::Length(_) => same(self.take(reply.body.len())?, &reply.body)?,
            Framing::Chunked => {
                let body = self.read_chunks()?;
                same(&body, &reply.body)?;
            }
            Framing::ToEnd => {
                // Its end is the connection's: nothing tells a part from the whole.
                let count = if self.is_lossy { self.rest.len().min(reply.body.len()) } else { reply.body.len() };
                same(self.take(count)?, &reply.body[..count])?;
            }
        }
        Ok(())
    }

    /// A body that breaks off, and the connection with it.
    fn read_cut_body(&mut self, reply: &Reply) -> Step {
        let body = match reply.framing {
            Framing::Chunked => self.read_cut_chunks()?,
            Framing::None | Framing::Length(_) | Framing::ToEnd => self.take(self.rest.len())?.to_vec(),
        };
        if !self.is_lossy && body.len() < reply.body.len() {
            return wrong("less than was written before the cut");
        }
        match reply.body.get(..body.len()) {
            Some(part) => same(&body, part),
            None => wrong("more than was written before the cut"),
        }
    }

    /// The chunks of a whole body.
    fn read_chunks(&mut self) -> Step<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let size = self.read_chunk_size()?;
            body.extend_from_slice(self.take(size)?);
            self.take_equal(b"\r\n")?;
            if size == 0 {
                return Ok(body);
            }
        }
    }

    /// The chunks of a body that has no last one.
    fn read_cut_chunks(&mut self) -> Step<Vec<u8>> {
        let mut body = Vec::new();
        while !self.rest.is_empty() {
            let size = self.read_chunk_size()?;
            if size == 0 {
                return wrong("a cut body that looks whole");
            }
            body.extend_from_slice(self.take(size)?);
            self.take_equal(b"\r\n")?;
        }
        Ok(body)
    }

    /// A size line: lower-case digits, none too many.
    fn read_chunk_size(&mut self) -> Step<usize> {
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let text = str::from_utf8(self.take(digits)?).unwrap_or_default();
        self.take_equal(b"\r\n")?;
        match usize::from_str_radix(text, 16) {
            Ok(size) if format!("{size:x}") == text => Ok(size),
            _ => wrong(format!("chunk size {text:?}")),
        }
    }

    /// Requests are numbered one after another.
    fn check_id(&mut self, digits: &[u8], number: u64) -> Step {
        let text = str::from_utf8(digits).unwrap_or_default();
        let Some(id) = u64::from_str_radix(text, 16).ok().filter(|id| format!("{id:016x}") == text) else {
            return wrong(format!("request number {text:?}"));
        };
        let first = id.wrapping_sub(number);
        if *self.first_id.get_or_insert(first) != first {
            return wrong(format!(
                "request {number} has the number {text}, and the first {:016x}",
                self.first_id.unwrap_or(0)
            ));
        }
        Ok(())
    }
}

/// Whether `bytes` begin with `wanted`, or are the beginning of it.
fn fits(wanted: &[u8], bytes: &[u8]) -> bool {
    wanted.iter().zip(bytes).all(|(wanted, byte)| *wanted == ANY_BYTE || wanted == byte)
}

fn same(got: &[u8], wanted: &[u8]) -> Step {
    if got == wanted { Ok(()) } else { wrong(format!("body \"{}\" was due", wanted.escape_ascii())) }
}

fn check_date(head: &[u8]) -> Step {
    let text = str::from_utf8(head).unwrap_or_default();
    let date = text.split("\r\nDate: ").nth(1).and_then(|rest| rest.get(..DATE_BYTES)).unwrap_or_default();
    if clock::parse_date(date).is_none() || !date.ends_with(" GMT") {
        return wrong(format!("date {date:?}"));
    }
    Ok(())
}
