//! The book of one run: what was asked, where it arrived, what servers answered, and whether all of that goes together.

use super::super::answers::Answer;
use std::cell::{Cell, RefCell};

/// Answers that the gateway may give of its own: time-outs and refusals, of a client or of a server.
const OWN: &[u16] = &[408, 502, 503, 504];

#[derive(Debug)]
struct Asked {
    method: &'static str,
    /// How often its head reached a server.
    arrivals: u32,
    /// A server began to answer it.
    is_begun: bool,
    is_answered: bool,
}

/// What a server sent as an answer.
#[derive(Debug)]
struct Given {
    /// To which request; `None`: to nobody.
    request: Option<usize>,
    status: u16,
    body: Vec<u8>,
    /// It was sent to its end, within the rules.
    is_whole: bool,
}

pub(super) struct Ledger {
    attempts: u32,
    asked: RefCell<Vec<Asked>>,
    given: RefCell<Vec<Given>>,
    pub(super) relayed: Cell<u64>,
}

impl Ledger {
    pub(super) fn new(attempts: u32) -> Self {
        Self { attempts, asked: RefCell::default(), given: RefCell::default(), relayed: Cell::new(0) }
    }

    /// A new request: its number.
    pub(super) fn ask(&self, method: &'static str) -> usize {
        let mut asked = self.asked.borrow_mut();
        asked.push(Asked { method, arrivals: 0, is_begun: false, is_answered: false });
        asked.len() - 1
    }

    /// Its head reached a server.
    pub(super) fn arrived(&self, id: usize) -> Result<(), String> {
        let mut asked = self.asked.borrow_mut();
        let asked = asked.get_mut(id).ok_or_else(|| format!("request {id} was never made"))?;
        asked.arrivals += 1;
        // One more where a connection that had been idle was closed by its server.
        let most = if asked.method == "POST" { 1 } else { self.attempts + 1 };
        if asked.arrivals > most {
            return Err(format!("{} {id} has reached servers {} times, at most {most}", asked.method, asked.arrivals));
        }
        Ok(())
    }

    /// A server is about to answer: the answer's number and body.
    pub(super) fn give(&self, request: Option<usize>, status: u16, length: usize, is_whole: bool) -> (usize, Vec<u8>) {
        let mut given = self.given.borrow_mut();
        let mark = given.len();
        let mut body = format!("answer {mark} to {request:?} ").into_bytes();
        body.extend((0..length).map(|at| b'a' + ((at + mark) % 26) as u8));
        if let Some(request) = request {
            self.asked.borrow_mut()[request].is_begun = true;
        }
        given.push(Given { request, status, body: body.clone(), is_whole });
        (mark, body)
    }

    /// The client got an answer, whole.
    pub(super) fn received(&self, id: usize, answer: &Answer) -> Result<(), String> {
        let asked = &mut self.asked.borrow_mut()[id];
        if std::mem::replace(&mut asked.is_answered, true) {
            return Err(format!("request {id} is answered twice"));
        }
        let Some(mark) = answer.mark else {
            return if OWN.contains(&answer.status) {
                Ok(())
            } else {
                Err(format!("the gateway answers {} to request {id}", answer.status))
            };
        };
        let given = self.given.borrow();
        let given = given.get(mark as usize).ok_or_else(|| format!("no server gave answer {mark}"))?;
        if given.request != Some(id) {
            return Err(format!("request {id} got the answer to {:?}", given.request));
        }
        if given.status != answer.status {
            return Err(format!("answer {mark} had status {}, and came with {}", given.status, answer.status));
        }
        let has_body = asked.method != "HEAD" && given.status != 204;
        if has_body && !given.is_whole {
            return Err(format!("answer {mark} broke off, and request {id} got it for whole"));
        }
        if has_body && given.body != answer.body {
            let (sent, got) = (given.body.len(), answer.body.len());
            return Err(format!("answer {mark} is not what the server sent: {sent} bytes, {got} came"));
        }
        self.relayed.set(self.relayed.get() + 1);
        Ok(())
    }

    /// Whether a server began to answer it: then the connection is cut where the rest does not come.
    pub(super) fn is_begun(&self, id: usize) -> bool {
        self.asked.borrow()[id].is_begun
    }
}

/// The body of a request.
pub(super) fn request_body(id: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| b'A' + ((at + id) % 26) as u8).collect()
}
