//! The connections, and the loop that keeps them busy.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};

use crate::arguments::{Mode, Plan};
use crate::response::{Expected, Reader};
use crate::schedule::Pace;

/// What is still in flight this long behind the last send is given up and counted as an error.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// A run with this many errors is not worth finishing.
const ERRORS_MAX: u64 = 100;
const READ_BYTES: usize = 256 * 1024;
const EVENTS: usize = 1024;
/// Connections that are opened at once in mode hold: well below any listen queue.
const HOLD_AT_ONCE: usize = 64;

/// What went wrong, with the first case in words.
#[derive(Debug, Default)]
pub struct Errors {
    pub count: u64,
    pub first: Option<String>,
}

impl Errors {
    fn add(&mut self, what: String) {
        self.count += 1;
        self.first.get_or_insert(what);
    }
}

/// What was seen in one stretch of load.
#[derive(Debug)]
pub struct Tally {
    pub answered: u64,
    pub bytes: u64,
    pub elapsed: Duration,
    /// In nanoseconds. In mode open from the intended time of sending, else from the sending.
    pub latency: Histogram<u64>,
    /// How late this program itself was: from the intended time of a request until it was noticed.
    pub lag: Histogram<u64>,
}

fn histogram() -> Histogram<u64> {
    // A minute, to three digits; longer values are counted as a minute.
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are those of the documentation")
}

fn note_lag(pace: &mut Pace, now: Instant, tally: &mut Tally) {
    let Pace::Open(schedule) = pace else { return };
    while let Some(lag) = schedule.notice(now) {
        tally.lag.saturating_record(lag.as_nanos() as u64);
    }
}

/// One place for a connection; between two of them, in mode connect, it is empty.
#[derive(Debug, Default)]
struct Slot {
    socket: Option<TcpStream>,
    reader: Reader,
    /// Answers that are still to come.
    outstanding: u64,
    /// When they were sent, or meant to be; `None` while the slot is idle.
    since: Option<Instant>,
    /// Bytes of the requests that the socket has not taken yet.
    unsent: usize,
}

/// What a slot's socket gave.
enum Received {
    /// So many answers were completed.
    Answers(u64),
    End,
    Nothing,
}

pub struct Engine<'p> {
    plan: &'p Plan,
    epoll: OwnedFd,
    slots: Vec<Slot>,
    /// Slots without a request in flight, the longest idle first.
    idle: VecDeque<usize>,
    in_flight: usize,
    requests: Vec<u8>,
    buffer: Vec<u8>,
    events: Vec<epoll::Event>,
    pub expected: Expected,
    pub errors: Errors,
}

impl<'p> Engine<'p> {
    pub fn new(plan: &'p Plan) -> io::Result<Self> {
        let closing = if plan.mode == Mode::Connect { "Connection: close\r\n" } else { "" };
        let (method, length) = match plan.send_bytes {
            Some(bytes) => ("POST", format!("Content-Length: {bytes}\r\n")),
            None => ("GET", String::new()),
        };
        let head = format!("{method} {} HTTP/1.1\r\nHost: {}\r\n{length}{closing}\r\n", plan.path, plan.address);
        let mut request = head.into_bytes();
        request.resize(request.len() + plan.send_bytes.unwrap_or(0), b'x');
        Ok(Self {
            plan,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            slots: (0..plan.connections).map(|_| Slot::default()).collect(),
            idle: (0..plan.connections).collect(),
            in_flight: 0,
            requests: request.repeat(plan.pipeline),
            buffer: vec![0; READ_BYTES],
            events: Vec::with_capacity(EVENTS),
            expected: Expected::new(plan.body_length),
            errors: Errors::default(),
        })
    }

    /// One request on each connection, as mode hold has it and as each of the others begins.
    pub fn visit_all(&mut self) -> io::Result<Tally> {
        let left = self.slots.len();
        self.run(&mut Pace::Once { left, at_once: HOLD_AT_ONCE })
    }

    /// Loads the server as `pace` says and waits until all is answered.
    pub fn run(&mut self, pace: &mut Pace) -> io::Result<Tally> {
        let start = Instant::now();
        let mut tally =
            Tally { answered: 0, bytes: 0, elapsed: Duration::ZERO, latency: histogram(), lag: histogram() };
        let mut last_progress = start;
        loop {
            let now = Instant::now();
            let before = tally.answered;
            note_lag(pace, now, &mut tally);
            self.dispatch(pace, now);
            if self.in_flight == 0 && self.is_over(pace, now) {
                break;
            }
            self.poll(pace, &mut tally)?;
            if tally.answered > before || self.in_flight == 0 {
                last_progress = now;
            } else if now.saturating_duration_since(last_progress) > DRAIN_MAX {
                self.give_up(pace);
                break;
            }
            if self.errors.count >= ERRORS_MAX {
                break;
            }
        }
        tally.elapsed = start.elapsed();
        Ok(tally)
    }

    fn is_over(&self, pace: &Pace, now: Instant) -> bool {
        match pace {
            Pace::Closed { until } => now >= *until,
            Pace::Open(schedule) => schedule.left() == 0,
            Pace::Once { left, .. } => *left == 0,
        }
    }

    fn give_up(&mut self, pace: &Pace) {
        let waiting: u64 = self.slots.iter().map(|slot| slot.outstanding).sum();
        let unsent = match pace {
            Pace::Open(schedule) => schedule.left(),
            Pace::Closed { .. } | Pace::Once { .. } => 0,
        };
        self.errors.count += waiting + unsent;
        let text =
            format!("expected answers, found none for {DRAIN_MAX:?}; {waiting} requests unanswered, {unsent} unsent");
        self.errors.first.get_or_insert(text);
    }

    /// Sends what is to be sent now.
    fn dispatch(&mut self, pace: &mut Pace, now: Instant) {
        while let Some(&slot) = self.idle.front() {
            let since = match pace {
                Pace::Closed { until } => (now < *until).then_some(now),
                Pace::Open(schedule) => schedule.take_due(now),
                Pace::Once { left, at_once } if *left > 0 && self.in_flight < *at_once => {
                    *left -= 1;
                    Some(now)
                }
                Pace::Once { .. } => None,
            };
            let Some(since) = since else { return };
            self.idle.pop_front();
            self.send(slot, since);
        }
    }

    fn send(&mut self, slot: usize, since: Instant) {
        self.in_flight += 1;
        let opened = if self.slots[slot].socket.is_none() { self.open(slot) } else { Ok(()) };
        let target = &mut self.slots[slot];
        target.outstanding = self.plan.pipeline as u64;
        target.since = Some(since);
        target.unsent = self.requests.len();
        if let Err(error) = opened.and_then(|()| self.write(slot)) {
            self.fail(slot, format!("expected to send a request, found: {error}"));
        }
    }

    fn open(&mut self, slot: usize) -> io::Result<()> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        match connect(&socket, &self.plan.address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        epoll::add(&self.epoll, &socket, epoll::EventData::new_u64(slot as u64), epoll::EventFlags::IN)?;
        self.slots[slot].socket = Some(TcpStream::from(socket));
        self.slots[slot].reader = Reader::default();
        Ok(())
    }

    /// Writes what the socket takes, and asks to be told when it takes more.
    fn write(&mut self, slot: usize) -> io::Result<()> {
        let Slot { socket: Some(socket), unsent, .. } = &mut self.slots[slot] else { return Ok(()) };
        let waited = *unsent < self.requests.len();
        while *unsent > 0 {
            match socket.write(&self.requests[self.requests.len() - *unsent..]) {
                Ok(count) => *unsent -= count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        // The interest of a socket that takes all at once, as almost all do, is never changed.
        if *unsent > 0 || waited {
            let writable = if *unsent > 0 { epoll::EventFlags::OUT } else { epoll::EventFlags::empty() };
            let data = epoll::EventData::new_u64(slot as u64);
            epoll::modify(&self.epoll, &*socket, data, epoll::EventFlags::IN | writable)?;
        }
        Ok(())
    }

    /// Waits for events, and handles them.
    fn poll(&mut self, pace: &mut Pace, tally: &mut Tally) -> io::Result<()> {
        let wait = match pace {
            // To sleep would make each request late by the timer's slack; the core is this program's alone.
            Pace::Open(_) => Duration::ZERO,
            Pace::Closed { .. } | Pace::Once { .. } => Duration::from_millis(100),
        };
        let wait = Timespec::try_from(wait).map_err(io::Error::other)?;
        self.events.clear();
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&wait)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let events = std::mem::take(&mut self.events);
        for event in &events {
            let slot = event.data.u64() as usize;
            let flags = event.flags;
            if flags.contains(epoll::EventFlags::OUT)
                && let Err(error) = self.write(slot)
            {
                self.fail(slot, format!("expected to send a request, found: {error}"));
            }
            if flags != epoll::EventFlags::OUT {
                self.read(slot, tally);
                self.dispatch(pace, Instant::now());
            }
        }
        self.events = events;
        Ok(())
    }

    fn read(&mut self, slot: usize, tally: &mut Tally) {
        match self.receive(slot, tally) {
            Ok(Received::Nothing) => {}
            Ok(Received::Answers(answers)) => self.note_answers(slot, answers, tally),
            Ok(Received::End) => self.note_end(slot),
            Err(error) => self.fail(slot, error),
        }
    }

    fn receive(&mut self, slot: usize, tally: &mut Tally) -> Result<Received, String> {
        let Slot { socket: Some(socket), reader, .. } = &mut self.slots[slot] else { return Ok(Received::Nothing) };
        match socket.read(&mut self.buffer) {
            Ok(0) => Ok(Received::End),
            Ok(count) => {
                tally.bytes += count as u64;
                reader.take(&self.buffer[..count], &mut self.expected).map(Received::Answers)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                Ok(Received::Nothing)
            }
            Err(error) => Err(format!("expected an answer, found: {error}")),
        }
    }

    fn note_answers(&mut self, slot: usize, answers: u64, tally: &mut Tally) {
        let target = &mut self.slots[slot];
        if answers == 0 {
            return;
        }
        if answers > target.outstanding {
            let text = format!("expected {} answers, found {answers}", target.outstanding);
            return self.fail(slot, text);
        }
        if answers == target.outstanding && target.unsent > 0 {
            let text =
                format!("expected an answer behind the request, found it {} bytes before its end", target.unsent);
            return self.fail(slot, text);
        }
        let took = target.since.map_or(Duration::ZERO, |since| since.elapsed());
        tally.latency.saturating_record_n(took.as_nanos() as u64, answers);
        tally.answered += answers;
        target.outstanding -= answers;
        // In mode connect the request is over when the server has closed, which is its turn after the answer.
        if target.outstanding == 0 && self.plan.mode != Mode::Connect {
            self.rest(slot);
        }
    }

    /// The slot has nothing in flight any more.
    fn rest(&mut self, slot: usize) {
        self.slots[slot].since = None;
        self.in_flight -= 1;
        self.idle.push_back(slot);
    }

    fn note_end(&mut self, slot: usize) {
        let target = &mut self.slots[slot];
        if self.plan.mode == Mode::Connect && target.outstanding == 0 && target.reader.is_between_answers() {
            target.socket = None;
            return self.rest(slot);
        }
        let text = format!("expected an open connection, found it closed with {} answers to come", target.outstanding);
        self.fail(slot, text);
    }

    /// Counts an error; the slot starts anew with its next request.
    fn fail(&mut self, slot: usize, what: String) {
        self.errors.add(what);
        let failed = std::mem::take(&mut self.slots[slot]);
        if failed.since.is_some() {
            self.rest(slot);
        }
    }

    /// Looks at connections that should be quiet: one that the server closed is an error.
    pub fn look(&mut self, tally: &mut Tally) -> io::Result<()> {
        self.poll(&mut Pace::Once { left: 0, at_once: 0 }, tally)
    }
}
