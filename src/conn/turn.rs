//! What working on requests needs beyond the connection's own state: taken from the core for one batch and given back,
//! so that an idle connection has none of it.

use std::rc::Rc;

use super::access::Pending;
use super::core::CountedRoute;
use crate::clock::Moment;
use crate::handler::Notes;
use crate::handler::pipeline::{EditedHeads, RunState};
use crate::http::encode::Fields;
use crate::http::{Head, Status};
use crate::limits::BATCH_REQUESTS_MAX;
use crate::pool::{self, Buffer, Class};

/// The scratch of one batch of requests.
pub(super) struct Turn {
    /// The parsed head.
    pub(super) head: Head,
    /// A copy of the head's bytes, for exchanges during which the connection reads on.
    pub(super) head_bytes: Vec<u8>,
    /// The response's fields.
    pub(super) fields: Fields,
    /// Answers that are not sent yet.
    pub(super) out: Buffer,
    /// Answers since the last send: route and status, to be recorded when they are sent.
    pub(super) answered: Vec<(CountedRoute, Status)>,
    /// The number of the request of an exchange.
    pub(super) number: u64,
    /// What the access log will say of them.
    pub(super) log: Pending,
    /// What the handler of an exchange tells the access log.
    pub(super) notes: Rc<Notes>,
    /// What plugins know of the request.
    pub(super) run: RunState,
    /// The request's head, as plugins change it.
    pub(super) edited: EditedHeads,
    /// When the batch's bytes were received.
    pub(super) began: Moment,
}

impl Turn {
    pub(super) fn new() -> Self {
        Self {
            head: Head::new(),
            head_bytes: Vec::new(),
            fields: Fields::new(),
            out: pool::take(Class::Small),
            answered: Vec::with_capacity(BATCH_REQUESTS_MAX),
            number: 0,
            log: Pending::default(),
            notes: Rc::default(),
            run: RunState::default(),
            edited: EditedHeads::default(),
            began: Moment::default(),
        }
    }

    /// Makes it ready for another connection.
    pub(super) fn reset(&mut self) {
        self.head.clear();
        self.head_bytes.clear();
        self.fields.clear();
        self.answered.clear();
        self.log.clear();
        if self.out.capacity() > crate::limits::BATCH_BYTES_MAX {
            self.out = pool::take(Class::Small);
        }
        self.out.clear();
    }
}
