//! Requests that a plugin makes itself, of one that it was shown: they go to the same route without a client, and what comes
//! back is for the plugin alone.

use std::cell::{Cell, OnceCell};
use std::net::SocketAddr;
use std::rc::Rc;

use super::Slot;
use super::edits::write_get;
use crate::http::RequestHead;
use crate::limits::REPEATS_MAX;

/// Who makes a request: the plugin at this place among those of the route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Its place.
    pub at: usize,
    /// Which one it is: after a reload another may stand there.
    pub id: u64,
}

/// A request to be made without a client: a GET for what a client asked for.
pub struct Repeat {
    /// Its head.
    pub head: Vec<u8>,
    /// The address of the client that asked.
    pub peer: SocketAddr,
    /// Whose it is.
    pub origin: Origin,
    /// What that plugin keeps of it from the start.
    pub slot: Slot,
}

impl Repeat {
    /// A GET for the target of `head`.
    pub fn new(head: &RequestHead<'_>, peer: SocketAddr, origin: Origin, slot: Slot) -> Self {
        Self { head: write_get(head), peer, origin, slot }
    }
}

type Begin = Box<dyn Fn(Repeat, UnderWay) -> bool>;

/// Where plugins of one core leave such requests; handlers' context has it.
#[derive(Default)]
pub struct Repeats {
    begin: OnceCell<Begin>,
    under_way: Rc<Cell<usize>>,
}

impl Repeats {
    /// Has these requests be made by `begin`, which says whether it does. To be called once.
    pub fn attach(&self, begin: impl Fn(Repeat, UnderWay) -> bool + 'static) {
        let _ = self.begin.set(Box::new(begin));
    }

    /// Has a request be made; false where there are too many already, or the core drains.
    pub fn begin(&self, repeat: Repeat) -> bool {
        let Some(begin) = self.begin.get().filter(|_| self.under_way.get() < REPEATS_MAX) else { return false };
        self.under_way.set(self.under_way.get() + 1);
        begin(repeat, UnderWay(self.under_way.clone()))
    }
}

/// Counts a request until it has ended.
pub struct UnderWay(Rc<Cell<usize>>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
