//! The clients: polite ones that know what they must get, and all the others.

use super::answers::{Answer, Answers};
use super::requests::{self, Expected, Request};
use super::set_up::Shared;
use ringfort::clock;
use ringfort::rt;
use ringfort::rt::sim::{self, Client, Random};
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

/// How long a polite client waits for the next byte of an answer.
const PATIENCE: Duration = Duration::from_millis(1900);

/// How a client behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Sends several requests without waiting.
    Pipelining,
    /// Sends the next request when it has the answer.
    OneByOne,
    /// Sends a few bytes at a time, with pauses that no time-out minds.
    Dribbling,
    /// Ends its sending side behind the last request and reads on.
    HalfClosing,
    /// As `Pipelining`, with bytes at the end that are no request.
    Lying,
    /// As `OneByOne`, reading its answers with pauses.
    SlowReading,
    /// Waits for `100 Continue`.
    Expecting,
    /// Connects and says nothing.
    Silent,
    /// Stops in the middle of a head.
    StuckInHead,
    /// Stops in the middle of a body.
    StuckInBody,
    /// Says nothing after its first answer.
    Idle,
    /// Asks for much and reads nothing.
    Unreading,
    /// Goes away at any point: closed, reset or without a word.
    Abandoning,
    /// Asks for an answer that the handler does not complete.
    CutShort,
    /// Goes on sending when it was told that the connection closes.
    Talking,
}

impl Kind {
    /// `is_tight`: nobody who holds receive buffers up, because there are so few.
    pub(super) fn pick(random: &mut Random, is_tight: bool) -> Self {
        use Kind::*;
        const QUICK: &[Kind] = &[
            Pipelining,
            Pipelining,
            OneByOne,
            OneByOne,
            Dribbling,
            HalfClosing,
            Lying,
            Expecting,
            Silent,
            StuckInHead,
        ];
        const ALL: &[Kind] = &[
            Pipelining,
            Pipelining,
            OneByOne,
            OneByOne,
            Dribbling,
            HalfClosing,
            Lying,
            Lying,
            SlowReading,
            Expecting,
            Silent,
            StuckInHead,
            StuckInBody,
            Idle,
            Unreading,
            Abandoning,
            Abandoning,
            CutShort,
            Talking,
        ];
        *random.pick(if is_tight { QUICK } else { ALL })
    }
}

/// What a client has sent and must get.
pub(super) struct Talk {
    client: Client,
    outstanding: RefCell<VecDeque<Expected>>,
    /// Requests that are not begun.
    left: Cell<usize>,
    /// The last request that was begun is sent whole.
    is_whole: Cell<bool>,
    sent: Cell<u64>,
    /// Nothing more will be answered: the server said so.
    over: Cell<bool>,
    /// One request, and it was at the server when the drain began: it is answered whatever comes.
    is_due: Cell<bool>,
    reads_slowly: bool,
}

impl Talk {
    /// Notes what a drain that begins now must still answer.
    pub(super) fn note_drain(&self) {
        let arrived = self.client.delivered() == self.sent.get() && self.client.accepted_at().is_some();
        self.is_due.set(arrived && self.is_whole.get() && self.outstanding.borrow().len() == 1);
    }
}

pub(super) async fn run(kind: Kind, shared: Rc<Shared>, mut random: Random) {
    let Ok(client) = sim::connect(shared.address).await else {
        assert!(shared.is_ending(), "refused, and no drain");
        return;
    };
    match kind {
        Kind::Pipelining
        | Kind::OneByOne
        | Kind::Dribbling
        | Kind::HalfClosing
        | Kind::Lying
        | Kind::SlowReading
        | Kind::CutShort => polite(kind, shared, random, client).await,
        Kind::Expecting => expecting(shared, random, client).await,
        Kind::Silent | Kind::StuckInHead | Kind::StuckInBody | Kind::Idle => {
            stuck(kind, shared, random, client).await;
        }
        Kind::Unreading => unreading(shared, client).await,
        Kind::Abandoning => abandoning(&mut random, client).await,
        Kind::Talking => talking(&mut random, client).await,
    }
}

async fn pause(random: &mut Random, most_ms: u64) {
    rt::sleep_until(clock::now() + Duration::from_micros(random.below(most_ms * 1000))).await;
}

fn script(kind: Kind, random: &mut Random) -> Vec<Request> {
    let most = match kind {
        Kind::Dribbling => 300,
        _ if random.chance(50) => 60_000,
        _ => 10_000,
    };
    let count = if kind == Kind::Pipelining && random.chance(100) { 100 } else { random.between(1, 10) };
    let most = if count == 100 { 100 } else { most };
    let mut requests: Vec<Request> = (0..count).map(|_| requests::lasting(random, most)).collect();
    match kind {
        Kind::Lying => requests.push(requests::lie(random)),
        Kind::CutShort => {
            let target = *random.pick(&["cut", "panic-midway"]);
            let bytes = random.below(20_000);
            let bytes = format!("GET /{target}/{bytes} HTTP/1.1\r\nHost: sim\r\n\r\n").into_bytes();
            let expected = Expected { statuses: &[], body: None, is_head: false, closes: true, reads_disk: false };
            requests.push(Request { bytes, expected });
        }
        _ if random.chance(300) => requests.push(requests::last(random)),
        _ => {}
    }
    requests
}

/// Sends a script, and checks that every request gets its answer, in order, and nothing else comes.
async fn polite(kind: Kind, shared: Rc<Shared>, mut random: Random, client: Client) {
    let requests = script(kind, &mut random);
    let talk = Rc::new(Talk {
        client: client.clone(),
        outstanding: RefCell::default(),
        left: Cell::new(requests.len()),
        is_whole: Cell::new(true),
        sent: Cell::new(0),
        over: Cell::new(false),
        is_due: Cell::new(false),
        reads_slowly: kind == Kind::SlowReading,
    });
    shared.talks.borrow_mut().push(talk.clone());
    let writing = sim::task(write_script(kind, requests, talk.clone(), random.fork()));
    let served = read_answers(kind, &shared, &talk, &mut random).await;
    talk.over.set(true);
    sim::note(format_args!("connection {}: client is done, {served} answers", client.id()));
    if talk.outstanding.borrow().is_empty() {
        shared.answered.set(shared.answered.get() + served);
    }
    shared.talks.borrow_mut().retain(|other| !Rc::ptr_eq(other, &talk));
    drop((client, talk));
    writing.await;
}

async fn write_script(kind: Kind, requests: Vec<Request>, talk: Rc<Talk>, mut random: Random) {
    for request in requests {
        let alone = matches!(kind, Kind::OneByOne | Kind::SlowReading) || random.chance(100);
        while alone && !talk.outstanding.borrow().is_empty() && !talk.over.get() {
            pause(&mut random, 5).await;
        }
        if talk.over.get() {
            return;
        }
        // Who goes on sending to a server that is about to close may lose what it has not received to a reset.
        talk.is_due.set(false);
        talk.outstanding.borrow_mut().push_back(request.expected);
        talk.left.set(talk.left.get() - 1);
        talk.is_whole.set(false);
        let mut rest = &request.bytes[..];
        while !rest.is_empty() {
            if talk.over.get() {
                return;
            }
            let most = if kind == Kind::Dribbling { 20 } else { rest.len() as u64 };
            let count = if random.chance(700) { most } else { random.between(1, most) };
            let (piece, after) = rest.split_at(rest.len().min(count as usize));
            talk.sent.set(talk.sent.get() + piece.len() as u64);
            if talk.client.send(piece).await.is_err() {
                return;
            }
            rest = after;
            if kind == Kind::Dribbling {
                pause(&mut random, 3).await;
            }
        }
        talk.is_whole.set(true);
        if random.chance(200) {
            pause(&mut random, 200).await;
        }
    }
    if kind == Kind::HalfClosing {
        talk.client.shutdown();
    }
}

/// Reads until the end; the number of answers.
async fn read_answers(kind: Kind, shared: &Shared, talk: &Talk, random: &mut Random) -> u64 {
    let id = talk.client.id();
    let mut answers = Answers::default();
    let mut served = 0;
    let mut closed = false;
    // In all less than a time-out: a slow way and a slow reader together must stay within it.
    let mut patience = if kind == Kind::SlowReading { Duration::from_secs(1) } else { Duration::ZERO };
    loop {
        while let Some(expected) = next_outstanding(talk) {
            let answer = match answers.next(expected.is_head) {
                Ok(answer) => answer,
                Err(error) => panic!("connection {id}: {error}"),
            };
            let Some(answer) = answer else { break };
            assert!(!closed, "connection {id}: an answer behind the one that closes: {answer:?}");
            // What the network delayed may have come too late: the tap has looked whether that was so.
            if !talk.client.is_disturbed() {
                check(id, shared, &expected, &answer);
            }
            talk.outstanding.borrow_mut().pop_front();
            talk.is_due.set(false);
            served += 1;
            closed = answer.closes;
            check_closing(shared, talk, &expected, closed, served);
            talk.over.set(closed);
        }
        if closed && talk.client.is_disturbed() {
            // It may answer an earlier part of what was sent than the client thinks: to a HEAD, with a body.
            return served;
        }
        if talk.left.get() == 0 && talk.outstanding.borrow().is_empty() && !closed && kind != Kind::HalfClosing {
            // All sent and all answered: the client leaves.
            assert!(answers.rest().is_empty(), "connection {id}: bytes behind the last answer");
            return served;
        }
        if !patience.is_zero() && random.chance(300) {
            let before = clock::now();
            pause(random, 400).await;
            patience = patience.saturating_sub(clock::now().since(before));
        }
        let most = if random.chance(800) { 65_536 } else { random.between(1, 2000) };
        let asked = clock::now();
        let is_asking = talk.is_whole.get() && !talk.outstanding.borrow().is_empty();
        let received = talk.client.recv(most as usize).await;
        // No handler takes so long; whoever waits longer was forgotten, and remembered by some time-out.
        let since = talk.client.accepted_at().map_or(clock::now(), |accepted| accepted.max(asked));
        let waited = clock::now().since(since);
        let is_patient = !is_asking || waited < PATIENCE || talk.client.is_disturbed();
        assert!(is_patient, "connection {id}: nothing came for {waited:?}");
        match received {
            Ok(bytes) if !bytes.is_empty() => {
                assert!(!closed, "connection {id}: bytes behind the answer that closes");
                answers.push(&bytes);
            }
            end => {
                let how = if end.is_ok() { "an end" } else { "a reset" };
                check_end(kind, shared, talk, closed, how, served);
                return served;
            }
        }
    }
}

fn next_outstanding(talk: &Talk) -> Option<Expected> {
    talk.outstanding.borrow().front().cloned()
}

fn check(id: usize, shared: &Shared, expected: &Expected, answer: &Answer) {
    if expected.reads_disk && answer.status == 500 && shared.disk_fails {
        return;
    }
    let text = String::from_utf8_lossy(&answer.body);
    let text: String = text.chars().take(200).collect();
    assert!(
        expected.statuses.contains(&answer.status),
        "connection {id}: {} instead of {:?}: {text:?}",
        answer.status,
        expected.statuses
    );
    if let Some(body) = &expected.body {
        assert!(*body == answer.body, "connection {id}: {} bytes, not as expected: {text:?}", answer.body.len());
    }
}

/// An answer closes the connection when it must, and only when it may.
fn check_closing(shared: &Shared, talk: &Talk, expected: &Expected, closes: bool, served: u64) {
    let id = talk.client.id();
    if talk.client.is_disturbed() {
        return;
    }
    assert!(closes || !expected.closes, "connection {id}: the answer had to close");
    let settings = &shared.settings;
    let age = talk.client.accepted_at().map_or(Duration::ZERO, |at| clock::now().since(at));
    let may =
        expected.closes || served >= settings.keepalive_requests || age >= settings.keepalive_age || shared.is_ending();
    assert!(may || !closes, "connection {id}: closed after answer {served} for no reason");
    assert!(closes || served < settings.keepalive_requests, "connection {id}: more answers than allowed");
}

/// The server ended the connection: was that right?
fn check_end(kind: Kind, shared: &Shared, talk: &Talk, closed: bool, how: &str, served: u64) {
    let id = talk.client.id();
    if closed || talk.client.is_disturbed() {
        return;
    }
    let outstanding = talk.outstanding.borrow();
    let unanswered = outstanding.len();
    if shared.disk_fails && outstanding.front().is_some_and(|expected| expected.reads_disk) {
        return;
    }
    if kind == Kind::CutShort && outstanding.front().is_some_and(|expected| expected.closes) {
        return;
    }
    if kind == Kind::HalfClosing && unanswered == 0 {
        return;
    }
    if shared.is_ending() {
        let due = talk.is_due.get() && shared.is_patient && !talk.reads_slowly;
        assert!(!due, "connection {id}: {how} instead of the answer that was due when the drain began");
        return;
    }
    panic!("connection {id}: {how} after {served} answers with {unanswered} to come");
}

/// Waits for `100 Continue`, then sends the body.
async fn expecting(shared: Rc<Shared>, mut random: Random, client: Client) {
    let id = client.id();
    let body = requests::random_bytes(&mut random, 5000);
    let (target, is_read) = *random.pick(&[("/sum", true), ("/ignore", false)]);
    let length = body.len();
    let head =
        format!("POST {target} HTTP/1.1\r\nHost: sim\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n");
    if client.send(head.as_bytes()).await.is_err() {
        return;
    }
    let mut answers = Answers::default();
    let mut interims = 0;
    let answer = loop {
        match answers.next(false).unwrap_or_else(|error| panic!("connection {id}: {error}")) {
            Some(interim) if interim.status == 100 => {
                interims += 1;
                if client.send(&body).await.is_err() {
                    break None;
                }
            }
            Some(answer) => break Some(answer),
            None => match client.recv(65_536).await {
                Ok(bytes) if !bytes.is_empty() => answers.push(&bytes),
                _ => break None,
            },
        }
    };
    let Some(answer) = answer else {
        let excused = shared.is_ending() || client.is_disturbed();
        assert!(excused, "connection {id}: no answer to one who waited for 100");
        return;
    };
    if client.is_disturbed() {
        return;
    }
    assert_eq!(answer.status, 200, "connection {id}");
    assert_eq!(interims, usize::from(is_read && length > 0), "connection {id}: interim answers for {target}");
    if length > 0 && !is_read {
        assert!(answer.closes, "connection {id}: nobody can know whether the body comes");
    }
    shared.answered.set(shared.answered.get() + 1);
}

/// Stops at some point, and must be told or cut in time.
async fn stuck(kind: Kind, shared: Rc<Shared>, mut random: Random, client: Client) {
    let id = client.id();
    let timeouts = shared.settings.timeouts;
    let (bytes, timeout, statuses): (&[u8], Duration, &[u16]) = match kind {
        Kind::StuckInHead => (b"GET /fixed HTTP/1.1\r\nHost: s", timeouts.head, &[408]),
        Kind::StuckInBody => {
            (b"POST /sum HTTP/1.1\r\nHost: sim\r\nContent-Length: 10\r\n\r\nhello", timeouts.body, &[408])
        }
        Kind::Idle => (b"GET /fixed HTTP/1.1\r\nHost: sim\r\n\r\n", timeouts.idle, &[200]),
        _ => (b"", timeouts.head, &[]),
    };
    let mut answers = Answers::default();
    // Half of those who stop in a head come there in small steps, which win them nothing.
    let step = if kind == Kind::StuckInHead && random.chance(500) { 1 } else { bytes.len().max(1) };
    for piece in bytes.chunks(step) {
        if !answers.rest().is_empty() || client.send(piece).await.is_err() {
            break;
        }
        if step == 1 {
            let until = clock::now() + Duration::from_millis(random.below(300));
            if let Some(Ok(early)) = rt::timeout(until, client.recv(65_536)).await {
                answers.push(&early);
            }
        }
    }
    while let Ok(bytes) = client.recv(65_536).await {
        if bytes.is_empty() {
            break;
        }
        answers.push(&bytes);
    }
    let excused = shared.is_ending() || client.is_disturbed();
    let Some(accepted) = client.accepted_at().filter(|_| !excused) else { return };
    let ended = clock::now();
    // From the accept, since nobody can be late before it.
    let bound = shared.bound(timeout);
    let took = ended.since(accepted);
    assert!(took <= bound, "connection {id}: {kind:?} took {took:?}, at most {bound:?} were right");
    let answer = answers.next(false).unwrap_or_else(|error| panic!("connection {id}: {error}"));
    let status = answer.map(|answer| answer.status);
    let right = status.is_none_or(|status| statuses.contains(&status)) && status.is_some() != statuses.is_empty();
    assert!(right, "connection {id}: {kind:?} was answered {status:?}");
    assert!(answers.rest().is_empty(), "connection {id}: more than one answer to {kind:?}");
}

/// Never reads: the server must not wait for ever.
async fn unreading(shared: Rc<Shared>, client: Client) {
    let request = b"GET /large/1000000 HTTP/1.1\r\nHost: sim\r\n\r\n";
    if client.send(request).await.is_err() {
        return;
    }
    let (mut moved, mut received) = (clock::now(), 0);
    let bound = shared.bound(shared.settings.timeouts.write);
    while client.closed_at().is_none() && !shared.is_ending() {
        if client.accepted_at().is_none() || client.received() != received {
            (moved, received) = (clock::now(), client.received());
        }
        let waited = clock::now().since(moved);
        if client.is_disturbed() {
            return;
        }
        assert!(waited <= bound, "connection {}: kept for {waited:?} though its client reads nothing", client.id());
        rt::sleep_until(clock::now() + Duration::from_millis(50)).await;
    }
}

/// Sends a part of a script, reads a part of the answers, and is gone.
async fn abandoning(random: &mut Random, client: Client) {
    let bytes: Vec<u8> = script(Kind::Pipelining, random).into_iter().flat_map(|request| request.bytes).collect();
    let count = random.below(bytes.len() as u64 + 1) as usize;
    let until = clock::now() + Duration::from_millis(random.below(1000));
    let _ = rt::timeout(until, client.send(&bytes[..count])).await;
    if random.chance(500) {
        let most = random.below(5000) as usize;
        let _ = rt::timeout(until, client.recv(most.max(1))).await;
    }
    match random.below(3) {
        0 => client.vanish(),
        1 => client.reset(),
        _ => {}
    }
}

/// Asks nonsense, or for the last time, and goes on sending whatever it is told: that must end too.
async fn talking(random: &mut Random, client: Client) {
    let request = if random.chance(500) { requests::lie(random) } else { requests::last(random) };
    if client.send(&request.bytes).await.is_err() {
        return;
    }
    let most = random.between(1, 20_000) as usize;
    let until = clock::now() + Duration::from_secs(8);
    while clock::now() < until {
        let sent = rt::timeout(until, client.send(&vec![b'x'; most])).await;
        if !matches!(sent, Some(Ok(()))) || client.closed_at().is_some() {
            return;
        }
        pause(random, 40).await;
    }
}
