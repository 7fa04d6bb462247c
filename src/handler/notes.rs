//! What a handler that forwards tells the access log of its request.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use super::Trace;

/// Where a forwarded request went: names that outlive it, so that telling them copies none.
pub(crate) trait Origin {
    /// The upstream's name.
    fn upstream(&self) -> &str;
    /// The name of one of its servers.
    fn server(&self, index: usize) -> &str;
}

/// Told by the handler, read by the connection when the request has ended. The connection keeps one for one request after the
/// other; whoever is told to go on without the handler (a tunnel) has it too.
#[derive(Default)]
pub(crate) struct Notes {
    /// Whether the access log is on: else times need not be told.
    is_wanted: Cell<bool>,
    trace: Cell<Option<Trace>>,
    origin: RefCell<Option<Rc<dyn Origin>>>,
    told: Cell<Told>,
}

/// The numbers among it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// The server that it was sent to last.
    pub(crate) server: Option<usize>,
    /// How many servers it was sent to.
    pub(crate) attempts: u32,
    /// How long connecting to the server took, where that was needed.
    pub(crate) connect: Option<Duration>,
    /// How long the head of the response took, of all attempts together.
    pub(crate) head: Option<Duration>,
    /// How long all of it took.
    pub(crate) total: Option<Duration>,
    /// The code of its end.
    pub(crate) termination: Option<&'static str>,
    /// Bytes from and to the client of a tunnel.
    pub(crate) tunnel: (u64, u64),
}

impl Notes {
    /// Forgets a request, for the next one.
    pub(crate) fn begin(&self, is_wanted: bool, trace: Option<Trace>) {
        self.is_wanted.set(is_wanted);
        self.trace.set(trace);
        self.told.set(Told::default());
        drop(self.origin.take());
    }

    /// Whether anybody reads what is told.
    pub(crate) fn is_wanted(&self) -> bool {
        self.is_wanted.get()
    }

    /// The trace that the request belongs to.
    pub(crate) fn trace(&self) -> Option<Trace> {
        self.trace.get()
    }

    /// The request is forwarded to an upstream.
    pub(crate) fn set_origin(&self, origin: Rc<dyn Origin>) {
        *self.origin.borrow_mut() = Some(origin);
    }

    /// Where it is forwarded to.
    pub(crate) fn origin(&self) -> Option<Rc<dyn Origin>> {
        self.origin.borrow().clone()
    }

    /// What was told so far.
    pub(crate) fn told(&self) -> Told {
        self.told.get()
    }

    /// Tells more.
    pub(crate) fn tell(&self, change: impl FnOnce(&mut Told)) {
        let mut told = self.told.get();
        change(&mut told);
        self.told.set(told);
    }
}
