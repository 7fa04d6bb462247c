//! One connection as the tap sees it: every byte that the server sends is held against what the client asked for.

use super::oracle::{self, Answer, Asked, Foretold, Look};
use ringfort::clock::{self, Moment};
use ringfort::conn::Settings;
use ringfort::http::Method;
use std::collections::HashSet;
use std::rc::Rc;
use std::time::Duration;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
/// Bytes of a problem's end: the request's number and what closes the text.
const PROBLEM_END_BYTES: usize = 18;

/// The answer whose body is being sent.
#[derive(Debug)]
struct Sending {
    answer: Answer,
    closes: bool,
    is_head: bool,
    /// Bytes of its body so far; of an echo, of the data in it.
    sent: usize,
    /// Of a problem: all of its body.
    problem_bytes: usize,
}

/// What the server still owes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Debt {
    /// Nothing: the client has to go on.
    Nothing,
    /// The rest of a head or of a body has to come from the client.
    Waits { head: bool },
    /// An answer that takes its time.
    Later,
    /// An answer, now.
    Now(String),
}

#[derive(Debug)]
pub(super) struct Dialogue {
    pub(super) accepted: Moment,
    settings: Rc<Settings>,
    /// The client's bytes from the start of the request that is not done with.
    input: Vec<u8>,
    look: Look,
    /// `look` was answered to the end; what is missing of it is thrown away by the server.
    is_answered: bool,
    has_continued: bool,
    /// Of the server's bytes, those that were not looked at: a part of a head, or of a chunk.
    output: Vec<u8>,
    sending: Option<Sending>,
    pub(super) answers: u64,
    /// Nothing may come any more, because an answer said so or the server ended its side.
    is_over: bool,
    pub(super) is_broken: bool,
    pub(super) taken: u64,
    /// Bytes of all requests that are done with.
    done: u64,
    /// When the server last took or sent something.
    pub(super) moved: Moment,
    /// Since when the server is seen to wait for more of a body.
    pub(super) body_since: Option<Moment>,
    /// When the client's last bytes came.
    pub(super) arrived_at: Moment,
    /// When it sent the last byte of an answer, or accepted.
    pub(super) answered_at: Moment,
    pub(super) ended_at: Option<Moment>,
    /// Since when a part of a head, and no more, has been taken.
    pub(super) partial_since: Option<Moment>,
    ids: HashSet<String>,
}

impl Dialogue {
    pub(super) fn new(accepted: Moment, settings: Rc<Settings>) -> Self {
        Self {
            accepted,
            settings,
            input: Vec::new(),
            look: Look::Partial,
            is_answered: false,
            has_continued: false,
            output: Vec::new(),
            sending: None,
            answers: 0,
            is_over: false,
            is_broken: false,
            taken: 0,
            done: 0,
            moved: accepted,
            body_since: None,
            arrived_at: accepted,
            answered_at: accepted,
            ended_at: None,
            partial_since: None,
            ids: HashSet::new(),
        }
    }

    /// The client's bytes came.
    pub(super) fn arrived(&mut self, bytes: &[u8]) {
        self.input.extend_from_slice(bytes);
        match &mut self.look {
            // What has no line end more is no whole head yet; looking each time would take the square of its length.
            Look::Partial if bytes.contains(&b'\n') => self.look = oracle::look(&self.input),
            Look::Partial => {}
            Look::Bad(_) => {}
            Look::Asked(asked) => asked.feed(&self.input),
        }
        self.go_on();
    }

    /// Turns to the next request when this one is done with.
    fn go_on(&mut self) {
        while self.is_answered
            && let Look::Asked(asked) = &self.look
            && asked.is_whole
        {
            self.done += asked.bytes as u64;
            self.input.drain(..asked.bytes);
            (self.is_answered, self.has_continued, self.partial_since) = (false, false, None);
            self.look = oracle::look(&self.input);
        }
    }

    /// The server sent bytes. `may_close`: it drains.
    pub(super) fn sent(&mut self, bytes: &[u8], now: Moment, drains: bool) -> Result<(), String> {
        self.moved = now;
        self.output.extend_from_slice(bytes);
        loop {
            let before = self.output.len();
            match self.sending.take() {
                Some(sending) => self.check_body(sending, now)?,
                None => self.check_head(now, drains)?,
            }
            if self.output.is_empty() || self.output.len() == before {
                return Ok(());
            }
        }
    }

    fn check_head(&mut self, now: Moment, drains: bool) -> Result<(), String> {
        if self.output.is_empty() {
            return Ok(());
        }
        if self.is_over {
            return Err(format!("bytes behind the end: {:?}", lossy(&self.output)));
        }
        if self.output.starts_with(CONTINUE) {
            return self.check_interim();
        }
        let Some(end) = self.output.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(()) };
        if matches!(self.look, Look::Partial) {
            self.look = oracle::look(&self.input);
        }
        let text = lossy(&self.output[..end + 4]);
        let (status, date, length) = parts(&text)?;
        let closes = text.ends_with("\r\nConnection: close\r\n\r\n");
        let answer = self.foretell(status, now)?;
        let wanted = oracle::head(&answer, self.settings.server_name.as_deref(), date, closes, length);
        if text != wanted {
            return Err(format!("the head {text:?} instead of {wanted:?}"));
        }
        self.check_date(date, now)?;
        self.check_close(&answer, closes, now, drains)?;
        // One that came too slowly is not known to be a HEAD, whatever has arrived of it since.
        let is_unknown = status == 408 && self.is_head_untaken();
        let is_head = matches!(&self.look, Look::Asked(asked) if asked.method == Method::Head && !is_unknown);
        self.output.drain(..end + 4);
        self.sending = Some(Sending { answer, closes, is_head, sent: 0, problem_bytes: length });
        let sending = self.sending.take().expect("put there above");
        self.check_body(sending, now)
    }

    fn check_interim(&mut self) -> Result<(), String> {
        match &self.look {
            Look::Asked(asked) if asked.expects && !self.is_answered && !self.has_continued => {}
            _ => return Err("an interim answer that nobody waits for".to_owned()),
        }
        self.has_continued = true;
        self.output.drain(..CONTINUE.len());
        Ok(())
    }

    /// What must come, given the status that came.
    fn foretell(&self, status: u16, now: Moment) -> Result<Answer, String> {
        let timeouts = &self.settings.timeouts;
        let late = |timeout: Duration| now.since(self.accepted) >= timeout;
        match &self.look {
            _ if self.is_answered => Err(format!("answer {status} to a request whose rest has not come")),
            Look::Partial if status == 408 && late(timeouts.head) => {
                Ok(Answer::problem(408, "", "the request head came too slowly").closing())
            }
            Look::Partial => Err(format!("answer {status} before the request: {:?}", lossy(&self.input))),
            // The server may have seen a part of it alone when its time was over.
            Look::Bad(_) | Look::Asked(_) if status == 408 && self.is_head_untaken() && late(timeouts.head) => {
                Ok(Answer::problem(408, "", "the request head came too slowly").closing())
            }
            Look::Bad(error) => Ok(oracle::refuse(*error)),
            Look::Asked(asked) => {
                let answer = oracle::foretell(asked, status)?;
                if status == 408 && !late(timeouts.body) {
                    return Err("a time-out before its time".to_owned());
                }
                if answer.needs_whole && !asked.is_whole {
                    return Err(format!("answer {status} before the end of the request"));
                }
                Ok(answer)
            }
        }
    }

    /// Whether the server has taken anything of what comes behind the last request that is done with.
    pub(super) fn has_begun_to_take(&self) -> bool {
        self.taken > self.done
    }

    fn is_head_untaken(&self) -> bool {
        self.taken < self.done + self.input.len() as u64
    }

    /// The date is that of a moment between the accept and now.
    fn check_date(&self, date: &str, now: Moment) -> Result<(), String> {
        let wall = clock::wall();
        let told = clock::parse_date(date).ok_or(format!("date {date:?}"))?;
        let earliest = wall.saturating_sub(now.since(self.accepted)).as_secs();
        let right = (earliest..=wall.as_secs()).contains(&told.as_secs());
        let canonical = clock::format_date(told) == date.as_bytes();
        if right && canonical { Ok(()) } else { Err(format!("date {date:?} at {wall:?} since 1970")) }
    }

    /// An answer closes the connection when it must, and only when it may.
    fn check_close(&self, answer: &Answer, closes: bool, now: Moment, drains: bool) -> Result<(), String> {
        let settings = &self.settings;
        let must = answer.must_close || self.answers + 1 >= settings.keepalive_requests;
        let may = must || drains || now.since(self.accepted) >= settings.keepalive_age;
        match closes {
            true if !may => Err(format!("answer {} closes for no reason", self.answers)),
            false if must => Err(format!("answer {} had to close", self.answers)),
            _ => Ok(()),
        }
    }

    fn check_body(&mut self, mut sending: Sending, now: Moment) -> Result<(), String> {
        let ends = match &sending.answer.body {
            _ if sending.is_head => true,
            Foretold::Nothing => true,
            Foretold::Exactly(body) => {
                let count = self.output.len().min(body.len() - sending.sent);
                if self.output[..count] != body[sending.sent..sending.sent + count] {
                    return Err(format!("other bytes than foretold behind byte {} of the body", sending.sent));
                }
                self.output.drain(..count);
                sending.sent += count;
                sending.sent == body.len()
            }
            Foretold::Cut(body, _) => {
                let rest = &body[sending.sent..];
                if !rest.starts_with(&self.output) {
                    return Err("an answer that cannot be whole goes on".to_owned());
                }
                sending.sent += self.output.len();
                self.output.clear();
                false
            }
            Foretold::Problem(detail) => self.check_problem(&sending, detail)?,
            Foretold::Echo => self.check_echo(&mut sending)?,
        };
        if !ends {
            self.sending = Some(sending);
            return Ok(());
        }
        self.answers += 1;
        self.answered_at = now;
        self.is_answered = true;
        self.is_over = sending.closes;
        self.go_on();
        Ok(())
    }

    fn check_problem(&mut self, sending: &Sending, detail: &str) -> Result<bool, String> {
        if self.output.len() < sending.problem_bytes {
            return Ok(false);
        }
        let body: Vec<u8> = self.output.drain(..sending.problem_bytes).collect();
        let (text, wanted) = (lossy(&body), oracle::problem(&sending.answer, detail));
        let id = text.strip_prefix(&wanted).and_then(|rest| rest.strip_suffix("\"}")).unwrap_or_default();
        if text.len() != wanted.len() + PROBLEM_END_BYTES || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(format!("the problem {text:?} instead of {wanted:?}"));
        }
        if !self.ids.insert(id.to_owned()) {
            return Err(format!("two requests have the number {id}"));
        }
        Ok(true)
    }

    /// The chunks that are whole: their data must have come from the client, and the last one only behind all of it.
    fn check_echo(&mut self, sending: &mut Sending) -> Result<bool, String> {
        let Look::Asked(asked) = &self.look else { return Err("an echo of nothing".to_owned()) };
        loop {
            let Some(line) = self.output.windows(2).position(|window| window == b"\r\n") else { return Ok(false) };
            let digits = lossy(&self.output[..line]);
            let size = usize::from_str_radix(&digits, 16).map_err(|_| format!("chunk size {digits:?}"))?;
            let end = line + 2 + size + 2;
            if self.output.len() < end {
                return Ok(false);
            }
            let data = &self.output[line + 2..line + 2 + size];
            let right = asked.body[sending.sent..].starts_with(data) && self.output[..end].ends_with(b"\r\n");
            if !right {
                return Err(format!("{size} bytes of echo that nobody sent, behind {}", sending.sent));
            }
            sending.sent += size;
            self.output.drain(..end);
            if size == 0 {
                let all = asked.is_whole && sending.sent == asked.body.len();
                return if all { Ok(true) } else { Err("the echo ends before its request".to_owned()) };
            }
        }
    }

    /// Answers that are done with: the one to a request whose rest is still thrown away is recorded behind it.
    pub(super) fn settled(&self) -> u64 {
        self.answers - u64::from(self.is_answered || self.taken < self.done)
    }

    /// The server ended its sending side.
    pub(super) fn ended(&mut self, now: Moment) {
        self.is_over = true;
        self.ended_at = Some(now);
    }

    /// What the server owes, when it has taken all that has come.
    pub(super) fn debt(&self) -> Debt {
        if self.is_over || self.is_broken {
            return Debt::Nothing;
        }
        match &self.look {
            Look::Partial if self.taken == self.done => Debt::Nothing,
            Look::Partial => Debt::Waits { head: true },
            Look::Bad(error) => Debt::Now(error.detail().to_owned()),
            Look::Asked(asked) if self.is_answered || !asked.is_whole && asked.malformed.is_none() => {
                self.debt_for_echo(asked).unwrap_or(Debt::Waits { head: false })
            }
            Look::Asked(asked) if asked.takes_time() => Debt::Later,
            Look::Asked(asked) if asked.may_be_cut() => Debt::Nothing,
            Look::Asked(asked) => Debt::Now(asked.path.clone()),
        }
    }

    /// What was received of a body that is echoed must be on its way.
    fn debt_for_echo(&self, asked: &Asked) -> Option<Debt> {
        if asked.takes_time() {
            return Some(Debt::Later);
        }
        let sent = self.sending.as_ref().map_or(0, |sending| sending.sent);
        let owes = asked.path == "/echo" && !self.is_answered && asked.malformed.is_none() && sent < asked.body.len();
        owes.then(|| Debt::Now(format!("the echo of byte {sent}")))
    }

    /// The handler at work may take its time, and reads nothing meanwhile.
    pub(super) fn is_later(&self) -> bool {
        matches!(&self.look, Look::Asked(asked) if asked.takes_time() && !self.is_answered)
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Status, date and length of a head.
fn parts(head: &str) -> Result<(u16, &str, usize), String> {
    let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).and_then(|text| text.parse().ok());
    let field = |name: &str| head.split("\r\n").find_map(|line| line.strip_prefix(name));
    let length = field("Content-Length: ").and_then(|text| text.parse().ok()).unwrap_or(0);
    let date = field("Date: ").ok_or_else(|| format!("no date in {head:?}"))?;
    Ok((status.ok_or_else(|| format!("status line of {head:?}"))?, date, length))
}
