//! Both ends of a tunnel: what each of them sends, and that the other gets exactly that, its end too.

use super::plan::STEP;
use ringfort::clock::{self, Moment};
use ringfort::rt;
use ringfort::rt::sim::{self, Client, Random};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

/// How long nothing may move in a tunnel.
const IDLE: Duration = STEP;
/// What may lie between a movement and the sight of it: small pipes, pauses, shortages of buffers.
const SLACK: Duration = Duration::from_millis(700);
/// Whoever sends less than this before an end comes may not have been heard.
const CROSSING: Duration = Duration::from_millis(400);

/// One of the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Client,
    Server,
}

/// What was sent by one end.
#[derive(Debug, Default)]
struct Way {
    sent: Cell<u64>,
    /// When it ended its side, as it should.
    ended: Cell<Option<Moment>>,
}

/// What both ends know of a tunnel.
#[derive(Debug)]
pub(super) struct Tunnel {
    id: usize,
    is_network_sound: bool,
    ways: [Way; 2],
    /// When somebody began to send.
    sends: RefCell<Vec<Moment>>,
    /// When bytes or an end were last sent or seen.
    moved: Cell<Moment>,
    /// The client knows that it is a tunnel.
    began: Cell<bool>,
    /// An end went away before its time.
    torn: Cell<bool>,
}

impl Tunnel {
    pub(super) fn new(id: usize, is_network_sound: bool) -> Self {
        Self {
            id,
            is_network_sound,
            ways: Default::default(),
            sends: RefCell::default(),
            moved: Cell::new(clock::now()),
            began: Cell::new(false),
            torn: Cell::new(false),
        }
    }

    /// Bytes of one way.
    fn bytes(&self, from: End, range: std::ops::Range<u64>) -> Vec<u8> {
        let start = self.id as u64 * 13 + from as u64 * 101;
        range.map(|at| ((start + at * 7) % 251) as u8).collect()
    }

    /// The next bytes that an end is going to send.
    pub(super) fn produce(&self, from: End, count: u64) -> Vec<u8> {
        let way = &self.ways[from as usize];
        let sent = way.sent.get();
        way.sent.set(sent + count);
        self.sends.borrow_mut().push(clock::now());
        self.bytes(from, sent..sent + count)
    }

    fn note_moved(&self) {
        self.moved.set(clock::now());
    }

    /// The client has its 101.
    pub(super) fn begin(&self) {
        self.began.set(true);
        self.note_moved();
    }

    /// An end ends its side, and reads on.
    pub(super) fn end(&self, end: End, peer: &Client) {
        self.ways[end as usize].ended.set(Some(clock::now()));
        self.sends.borrow_mut().push(clock::now());
        peer.shutdown();
        self.note_moved();
    }

    pub(super) fn tear(&self) {
        self.torn.set(true);
    }

    pub(super) fn is_torn(&self) -> bool {
        self.torn.get()
    }

    /// Something else than the gateway may have ended it.
    fn is_excused(&self) -> bool {
        !self.is_network_sound || self.torn.get() || !self.began.get()
    }

    /// The end has come at `to`, after `received` bytes: whether it is that of the other end.
    fn check_end(&self, to: End, received: u64, is_reset: bool) -> Result<bool, String> {
        let from = &self.ways[1 - to as usize];
        let (sent, now) = (from.sent.get(), clock::now());
        let is_told = from.ended.get().is_some_and(|ended| now <= ended.max(self.moved.get()) + SLACK);
        if self.is_excused() || (is_told && received == sent && !is_reset) {
            return Ok(is_told && !is_reset);
        }
        let sends = self.sends.borrow();
        let heard = sends.iter().filter(|at| **at + CROSSING <= now);
        let is_crossed = heard.clone().count() < sends.len();
        let silence = heard.max().map_or(Duration::MAX, |at| now.since(*at));
        if silence < IDLE || (from.ended.get().is_some() && !is_crossed) {
            return Err(format!(
                "it ends for the {to:?} after {received} of {sent} bytes, reset: {is_reset}, {silence:?} after somebody \
                 sent; the other ended at {:?}",
                from.ended.get()
            ));
        }
        // It was idle: only what was sent at that moment may be lost.
        if received < sent && !is_crossed {
            return Err(format!("{received} of {sent} bytes reached the {to:?}"));
        }
        Ok(false)
    }
}

/// Tells the tunnel when an end leaves before its time.
pub(super) struct Hold {
    pub(super) tunnel: Rc<Tunnel>,
    is_done: bool,
}

impl Hold {
    pub(super) fn new(tunnel: Rc<Tunnel>) -> Self {
        Self { tunnel, is_done: false }
    }

    /// It ended as it should.
    fn done(mut self) {
        self.is_done = true;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.is_done {
            self.tunnel.tear();
        }
    }
}

/// How an end closes its side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    /// Ends it, and reads on.
    Ends,
    /// Says nothing more.
    Stays,
    Resets,
}

/// Plays one end, over `peer`, to the tunnel's end. `early` came already.
pub(super) async fn run(hold: Hold, end: End, peer: Client, early: Vec<u8>, random: Random) -> Result<(), String> {
    let tunnel = hold.tunnel.clone();
    let over = Rc::new(Cell::new(false));
    let sending = sim::task(send(tunnel.clone(), end, peer.clone(), random, over.clone()));
    let result = async {
        let is_other_end = receive(&tunnel, end, &peer, early).await?;
        over.set(!is_other_end);
        sending.await;
        tunnel.wait_for_close(&peer).await
    };
    let result = result.await;
    if !tunnel.torn.get() {
        hold.done();
    }
    result.map_err(|cause| format!("tunnel {}: {cause}", tunnel.id))
}

impl Tunnel {
    /// The gateway closes when both ends have ended, or nothing moves any more.
    async fn wait_for_close(&self, peer: &Client) -> Result<(), String> {
        let have_ended = self.ways.iter().all(|way| way.ended.get().is_some());
        let most = if have_ended { SLACK } else { IDLE + SLACK };
        while peer.closed_at().is_none() && self.is_network_sound && !self.torn.get() {
            if clock::now() > self.moved.get() + most {
                if self.is_excused() {
                    break;
                }
                return Err(format!("nothing moves, both have ended: {have_ended}, and it goes on"));
            }
            rt::sleep_until(clock::now() + Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

async fn send(tunnel: Rc<Tunnel>, end: End, peer: Client, mut random: Random, over: Rc<Cell<bool>>) {
    let way = &tunnel.ways[end as usize];
    let closing = *random.pick(&[Closing::Ends, Closing::Ends, Closing::Ends, Closing::Stays, Closing::Resets]);
    for _ in 0..random.below(5) {
        let pause = *random.pick(&[0, 0, 20, 300, 300, 2500]);
        rt::sleep_until(clock::now() + Duration::from_millis(pause)).await;
        // It may have said its last before it knew that this is a tunnel.
        if over.get() || way.ended.get().is_some() {
            return;
        }
        let count = *random.pick(&[1, 50, 700, 5000, 20_000]);
        let bytes = tunnel.produce(end, random.below(count) + 1);
        if peer.send(&bytes).await.is_err() {
            return;
        }
        tunnel.note_moved();
    }
    if over.get() || way.ended.get().is_some() {
        return;
    }
    sim::note(format_args!("connection {}: {closing:?} its side of tunnel {}", peer.id(), tunnel.id));
    match closing {
        Closing::Ends => tunnel.end(end, &peer),
        Closing::Stays => {}
        Closing::Resets => {
            tunnel.tear();
            peer.reset();
        }
    }
}

/// Reads what comes, to the end: whether that is the other's.
async fn receive(tunnel: &Tunnel, end: End, peer: &Client, early: Vec<u8>) -> Result<bool, String> {
    let from = if end == End::Client { End::Server } else { End::Client };
    let (mut received, mut bytes) = (0, early);
    loop {
        let expected = tunnel.bytes(from, received..received + bytes.len() as u64);
        received += bytes.len() as u64;
        let sent = tunnel.ways[from as usize].sent.get();
        if bytes != expected || received > sent {
            return Err(format!("the {end:?} got {received} bytes that are not those {sent} that were sent"));
        }
        let until = tunnel.moved.get() + IDLE + SLACK;
        bytes = match rt::timeout(until, peer.recv(4096)).await {
            Some(Ok(bytes)) if !bytes.is_empty() => bytes,
            Some(ended) => {
                let is_other_end = tunnel.check_end(end, received, ended.is_err())?;
                tunnel.note_moved();
                return Ok(is_other_end);
            }
            None if clock::now() < tunnel.moved.get() + IDLE + SLACK => Vec::new(),
            None if tunnel.is_excused() => return Ok(false),
            None => return Err(format!("nothing moves for the {end:?}, and it goes on")),
        };
        if !bytes.is_empty() {
            tunnel.note_moved();
        }
    }
}
