//! The book of one run: what was asked, where it arrived, what servers answered, which of them were drained, and whether
//! all of that goes together.

use super::super::answers::Answer;
use super::plan::{Plan, Weather};
use super::reader::Heard;
use super::tunnels::Tunnel;
use ringfort::clock::{self, Moment};
use ringfort::proxy::Upstreams;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Answers that the gateway may give of its own: time-outs and refusals, of a client or of a server.
const OWN: &[u16] = &[408, 502, 503, 504];
/// Those among them that it may give when all servers are drained.
const OWN_DRAINED: &[u16] = &[408, 503];

/// A server: its upstream, and its number there.
pub(super) type Place = (usize, usize);

/// The trailer of requests that have one.
pub(super) const REQUEST_TRAILER: &str = "X-Sum: 1";

/// What a client asks for besides an answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    pub(super) method: &'static str,
    pub(super) takes_trailers: bool,
    /// It offers to switch protocols, where the route lets it.
    pub(super) switches: bool,
}

#[derive(Debug)]
struct Asked {
    wish: Wish,
    at: Moment,
    /// The upstream that it was sent to.
    upstream: Option<usize>,
    /// How often its head reached a server.
    arrivals: u32,
    /// How often its copy did.
    copies: u32,
    /// A server began to answer it.
    is_begun: bool,
    is_answered: bool,
    /// A trailer is behind its body.
    has_trailer: bool,
}

/// What a server sent as an answer.
#[derive(Debug, Default)]
pub(super) struct Given {
    /// To which request; `None`: to nobody.
    pub(super) request: Option<usize>,
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    /// Those of its trailers that concern whoever takes trailers.
    pub(super) trailers: Vec<String>,
    /// It was sent to its end, within the rules.
    pub(super) is_whole: bool,
}

/// Times without any server that is not drained.
#[derive(Debug, Clone, Copy, Default)]
struct Darkness {
    since: Option<Moment>,
    /// When the last one ended.
    ended: Option<Moment>,
}

/// What is known of one upstream.
#[derive(Debug)]
struct Side {
    attempts: u32,
    /// Since when each server has been drained.
    drained: Vec<Option<Moment>>,
    darkness: Darkness,
}

pub(super) struct Ledger {
    is_calm: bool,
    /// Upstreams that requests are split between; those behind get copies.
    targets: usize,
    upstreams: RefCell<Vec<Side>>,
    asked: RefCell<Vec<Asked>>,
    given: RefCell<Vec<Given>>,
    tunnels: RefCell<BTreeMap<usize, Rc<Tunnel>>>,
    /// Nothing but the ends of a tunnel ends it.
    is_network_sound: bool,
    pub(super) relayed: Cell<u64>,
}

impl Ledger {
    pub(super) fn new(plan: &Plan, upstreams: &Upstreams) -> Self {
        let sides = upstreams.iter().map(|upstream| Side {
            attempts: upstream.spec.retry.attempts,
            drained: vec![None; upstream.servers.len()],
            darkness: Darkness::default(),
        });
        Self {
            is_calm: plan.weather == Weather::Calm,
            targets: plan.weights.len(),
            upstreams: RefCell::new(sides.collect()),
            asked: RefCell::default(),
            given: RefCell::default(),
            tunnels: RefCell::default(),
            is_network_sound: plan.weather != Weather::Foul,
            relayed: Cell::new(0),
        }
    }

    /// A new request: its number.
    pub(super) fn ask(&self, wish: Wish) -> usize {
        let mut asked = self.asked.borrow_mut();
        asked.push(Asked {
            wish,
            at: clock::now(),
            upstream: None,
            arrivals: 0,
            copies: 0,
            is_begun: false,
            is_answered: false,
            has_trailer: false,
        });
        asked.len() - 1
    }

    /// [`REQUEST_TRAILER`] is behind its body.
    pub(super) fn ends_with_trailer(&self, id: usize) {
        self.asked.borrow_mut()[id].has_trailer = true;
    }

    /// The trailers that it has to arrive with.
    pub(super) fn request_trailers(&self, id: usize) -> Vec<String> {
        let has_trailer = self.asked.borrow().get(id).is_some_and(|asked| asked.has_trailer);
        has_trailer.then(|| REQUEST_TRAILER.to_owned()).into_iter().collect()
    }

    /// The tunnel that a request asks for.
    pub(super) fn tunnel(&self, id: usize) -> Rc<Tunnel> {
        let mut tunnels = self.tunnels.borrow_mut();
        tunnels.entry(id).or_insert_with(|| Rc::new(Tunnel::new(id, self.is_network_sound))).clone()
    }

    /// A server is drained from now on, or no more.
    pub(super) fn drained(&self, (upstream, server): Place, is_drained: bool) {
        let side = &mut self.upstreams.borrow_mut()[upstream];
        let now = clock::now();
        side.drained[server] = is_drained.then_some(now);
        let is_dark = side.drained.iter().all(Option::is_some);
        side.darkness = match (is_dark, side.darkness.since) {
            (true, None) => Darkness { since: Some(now), ..side.darkness },
            (false, Some(_)) => Darkness { since: None, ended: Some(now) },
            (true, Some(_)) | (false, None) => side.darkness,
        };
    }

    /// Its head, or that of its copy, reached a server.
    pub(super) fn arrived(&self, place: Place, id: usize, heard: &Heard) -> Result<(), String> {
        let sides = self.upstreams.borrow();
        let side = &sides[place.0];
        let mut asked = self.asked.borrow_mut();
        let asked = asked.get_mut(id).ok_or_else(|| format!("request {id} was never made"))?;
        let (is_copy, Wish { method, takes_trailers, switches }) = (place.0 >= self.targets, asked.wish);
        if side.drained[place.1].is_some_and(|since| since < asked.at) {
            return Err(format!("request {id} reached {place:?}, which had been drained before it was made"));
        }
        if heard.is_upgrade != (switches && !is_copy) {
            return Err(format!("request {id}: offers a switch: {switches}, arrives so: {}", heard.is_upgrade));
        }
        if !heard.is_upgrade && heard.takes_trailers != takes_trailers {
            return Err(format!("request {id}: takes trailers: {takes_trailers}, and not as it arrives"));
        }
        let (times, most, what) = if is_copy {
            (&mut asked.copies, 1, "the copy of ")
        } else {
            // One more where a connection that had been idle was closed by its server.
            (&mut asked.arrivals, if method == "POST" || switches { 1 } else { side.attempts + 1 }, "")
        };
        *times += 1;
        if *times > most {
            return Err(format!("{what}{method} {id} has reached servers {times} times, at most {most}"));
        }
        if !is_copy && *asked.upstream.get_or_insert(place.0) != place.0 {
            return Err(format!("request {id} reached two upstreams"));
        }
        Ok(())
    }

    /// A server is about to answer: the answer's number and body.
    pub(super) fn give(&self, given: Given, length: usize) -> (usize, Vec<u8>) {
        let mut all = self.given.borrow_mut();
        let mark = all.len();
        let mut body = format!("answer {mark} to {:?} ", given.request).into_bytes();
        body.extend((0..length).map(|at| b'a' + ((at + mark) % 26) as u8));
        if let Some(request) = given.request {
            self.asked.borrow_mut()[request].is_begun = true;
        }
        all.push(Given { body: body.clone(), ..given });
        (mark, body)
    }

    /// An answer got trailers that its client may be told.
    pub(super) fn add_trailers(&self, mark: usize, trailers: Vec<String>) {
        self.given.borrow_mut()[mark].trailers = trailers;
    }

    /// The client got an answer, whole.
    pub(super) fn received(&self, id: usize, answer: &Answer) -> Result<(), String> {
        let asked = &mut self.asked.borrow_mut()[id];
        if std::mem::replace(&mut asked.is_answered, true) {
            return Err(format!("request {id} is answered twice"));
        }
        let Some(mark) = answer.mark else { return self.check_own(id, asked, answer) };
        let given = self.given.borrow();
        let given = given.get(mark as usize).ok_or_else(|| format!("no server gave answer {mark}"))?;
        if given.request != Some(id) {
            return Err(format!("request {id} got the answer to {:?}", given.request));
        }
        if given.status != answer.status {
            return Err(format!("answer {mark} had status {}, and came with {}", given.status, answer.status));
        }
        if given.status == 101 && !asked.wish.switches {
            return Err(format!("request {id} did not ask for another protocol"));
        }
        let has_body = asked.wish.method != "HEAD" && !matches!(given.status, 101 | 204);
        if has_body && !given.is_whole {
            return Err(format!("answer {mark} broke off, and request {id} got it for whole"));
        }
        if has_body && given.body != answer.body {
            let (sent, got) = (given.body.len(), answer.body.len());
            return Err(format!("answer {mark} is not what the server sent: {sent} bytes, {got} came"));
        }
        let due = if has_body && asked.wish.takes_trailers { given.trailers.as_slice() } else { &[] };
        if answer.trailers != due {
            return Err(format!("answer {mark} has the trailers {:?}, due were {due:?}", answer.trailers));
        }
        self.relayed.set(self.relayed.get() + 1);
        Ok(())
    }

    /// The gateway answered by itself.
    fn check_own(&self, id: usize, asked: &Asked, answer: &Answer) -> Result<(), String> {
        let sides = self.upstreams.borrow();
        let mut targets = sides[..self.targets].iter().map(|side| side.darkness);
        let is_dark = targets.clone().all(|darkness| darkness.since.is_some_and(|since| since < asked.at));
        let was_dark =
            targets.any(|darkness| darkness.since.is_some() || darkness.ended.is_some_and(|ended| ended >= asked.at));
        let status = answer.status;
        if !(if is_dark { OWN_DRAINED } else { OWN }).contains(&status) {
            return Err(format!("the gateway answers {status} to request {id}; all servers are drained: {is_dark}"));
        }
        // A server may have reset the connection right behind its 101.
        if self.is_calm && !was_dark && !self.was_torn(id) {
            return Err(format!("the gateway answers {status} to request {id}, and nothing is wrong"));
        }
        Ok(())
    }

    /// Whether one side of its tunnel has reset it.
    pub(super) fn was_torn(&self, id: usize) -> bool {
        self.tunnels.borrow().get(&id).is_some_and(|tunnel| tunnel.is_torn())
    }

    /// Whether a server began to answer it: then the connection is cut where the rest does not come.
    pub(super) fn is_begun(&self, id: usize) -> bool {
        self.asked.borrow()[id].is_begun && !self.is_calm
    }
}

/// The body of a request.
pub(super) fn request_body(id: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| b'A' + ((at + id) % 26) as u8).collect()
}
