//! What each hook may look at and change.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use super::{Instance, Local};
use crate::clock::{self, Moment};
use crate::handler::pipeline::{Draft, EditedHeads, Finished, RunState, Slot};
use crate::handler::{Body, Context, Request, RequestId};
use crate::http::{FieldError, Fields, HeadError, RequestHead, Status, Version};

/// What [`super::Plugin::going`] looks at.
pub struct Peek<'p> {
    /// The head of the request, as it was received.
    pub head: RequestHead<'p>,
    pub(super) instance: &'p Instance,
    pub(super) context: &'p Context,
}

impl Peek<'_> {
    /// What this core keeps for the plugin; `make` makes it once.
    pub fn local<T: 'static>(&self, make: impl FnOnce() -> T) -> Rc<T> {
        Local::value(self.context, self.instance, make)
    }
}

/// A request before its route is found.
pub struct PreRoute<'h, 'x> {
    pub(super) request: &'h mut Request<'x>,
    pub(super) edited: &'x EditedHeads,
    pub(super) shared: Shared<'h>,
}

/// A request before its handler.
pub struct PreHandler<'h, 'x> {
    pub(super) request: &'h mut Request<'x>,
    pub(super) edited: &'x EditedHeads,
    /// The request's body.
    pub body: &'h mut Body<'x>,
    pub(super) shared: Shared<'h>,
}

/// What all hooks of a request have.
pub(super) struct Shared<'h> {
    pub(super) state: &'h mut RunState,
    /// The index of the plugin among those of the route.
    pub(super) at: usize,
    pub(super) instance: &'h Instance,
    pub(super) context: &'h Context,
}

impl Shared<'_> {
    fn slot(&mut self) -> &mut Slot {
        &mut self.state.slots[self.at]
    }
}

/// What hooks have that can change a request's head.
macro_rules! editing {
    () => {
        /// The request, with the changes that were made so far.
        ///
        /// # Errors
        /// When its head has become too large by them.
        pub fn request(&mut self) -> Result<Request<'x>, HeadError> {
            if !self.shared.state.edits.is_empty() {
                self.request.head = self.shared.state.edits.apply(&self.request.head, self.edited)?;
            }
            Ok(*self.request)
        }

        /// The value of the first field of this name, in any case, with the changes that were made so far.
        pub fn header(&self, name: &str) -> Option<&[u8]> {
            self.shared.state.edits.value(&self.request.head, name)
        }

        /// The address at the other end of the connection.
        pub fn peer(&self) -> SocketAddr {
            self.request.peer()
        }

        /// The request's id.
        pub fn id(&self) -> RequestId<'x> {
            self.request.id()
        }

        /// Adds a field to the request, behind the others.
        ///
        /// # Errors
        /// When it is none, or is the server's to set.
        pub fn add_header(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), FieldError> {
            self.shared.state.edits.add(name, value)
        }

        /// Replaces all fields of this name by one.
        ///
        /// # Errors
        /// When it is none, or is the server's to set.
        pub fn set_header(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), FieldError> {
            self.shared.state.edits.set(name, value)
        }

        /// Takes all fields of this name away.
        ///
        /// # Errors
        /// When it is the server's to set.
        pub fn remove_header(&mut self, name: &str) -> Result<(), FieldError> {
            self.shared.state.edits.remove(name)
        }

        /// What the plugin keeps of this request.
        pub fn slot(&mut self) -> &mut Slot {
            self.shared.slot()
        }

        /// What this core keeps for the plugin; `make` makes it once.
        pub fn local<T: 'static>(&self, make: impl FnOnce() -> T) -> Rc<T> {
            Local::value(self.shared.context, self.shared.instance, make)
        }

        /// What the core has for handlers.
        pub fn context(&self) -> &Context {
            self.shared.context
        }

        /// Who the client is, as a plugin before this one found out; empty: none did.
        pub fn identity(&self) -> &[u8] {
            &self.shared.state.identity
        }

        /// Tells the plugins behind this one who the client is.
        pub fn set_identity(&mut self, identity: &[u8]) {
            self.shared.state.identity.clear();
            self.shared.state.identity.extend_from_slice(identity);
        }
    };
}

impl<'x> PreRoute<'_, 'x> {
    editing!();

    /// Another request target, path and query: by it the route is found.
    pub fn set_target(&mut self, target: &str) {
        self.shared.state.edits.set_target(target);
    }
}

impl<'x> PreHandler<'_, 'x> {
    editing!();

    /// Another request target, path and query, for the handler; the route was found by the one before.
    pub fn set_target(&mut self, target: &str) {
        self.shared.state.edits.set_target(target);
    }

    /// Has the handler given up after so long, with 504; the earliest such wish counts.
    pub fn limit_time(&mut self, most: Duration) {
        let due = clock::turn() + most;
        let state = &mut self.shared.state;
        state.deadline = Some(state.deadline.map_or(due, |before: Moment| before.min(due)));
    }
}

/// The head of a response before it is written.
pub struct PostHandler<'h, 'd> {
    pub(super) request: &'h Request<'h>,
    pub(super) draft: &'h mut Draft<'d>,
    pub(super) shared: Shared<'h>,
}

/// What hooks of a response have.
macro_rules! looking {
    () => {
        /// The request, as the handler saw it.
        pub fn request(&self) -> &Request<'_> {
            self.request
        }

        /// What the plugin keeps of this request.
        pub fn slot(&mut self) -> &mut Slot {
            self.shared.slot()
        }

        /// What this core keeps for the plugin; `make` makes it once.
        pub fn local<T: 'static>(&self, make: impl FnOnce() -> T) -> Rc<T> {
            Local::value(self.shared.context, self.shared.instance, make)
        }

        /// What the core has for handlers.
        pub fn context(&self) -> &Context {
            self.shared.context
        }

        /// Who the client is, as a plugin found out; empty: none did.
        pub fn identity(&self) -> &[u8] {
            &self.shared.state.identity
        }
    };
}

impl PostHandler<'_, '_> {
    looking!();

    /// The status.
    pub fn status(&self) -> Status {
        *self.draft.status
    }

    /// Another status.
    pub fn set_status(&mut self, status: Status) {
        *self.draft.status = status;
    }

    /// The header fields; those of the framing are not among them.
    pub fn fields(&mut self) -> &mut Fields {
        self.draft.fields
    }

    /// The request and the fields of the response together.
    pub fn parts(&mut self) -> (&Request<'_>, &mut Fields) {
        (self.request, self.draft.fields)
    }

    /// Bytes of the body, where they are known ahead.
    pub fn length(&self) -> Option<u64> {
        self.draft.length
    }

    /// Whether it answers HEAD, so that no body is sent.
    pub fn is_head_only(&self) -> bool {
        self.draft.head_only
    }

    /// The version of the client.
    pub fn version(&self) -> Version {
        self.draft.version
    }
}

/// A piece of a response's body.
pub struct BodyHook<'h> {
    pub(super) request: &'h Request<'h>,
    /// What is sent instead of the piece: appended to, where the plugin changes the body.
    pub out: &'h mut Vec<u8>,
    pub(super) shared: Shared<'h>,
}

impl BodyHook<'_> {
    looking!();

    /// The slot and the output together.
    pub fn parts(&mut self) -> (&mut Slot, &mut Vec<u8>) {
        (&mut self.shared.state.slots[self.shared.at], self.out)
    }
}

/// The end of an exchange.
pub struct PostResponse<'h> {
    pub(super) request: &'h Request<'h>,
    pub(super) finished: Finished,
    pub(super) shared: Shared<'h>,
}

impl PostResponse<'_> {
    looking!();

    /// How it ended.
    pub fn finished(&self) -> Finished {
        self.finished
    }
}

/// A failure, and the server's answer to it.
pub struct OnError<'h> {
    pub(super) request: &'h Request<'h>,
    pub(super) status: Status,
    pub(super) detail: &'static str,
    pub(super) shared: Shared<'h>,
}

impl OnError<'_> {
    looking!();

    /// The status that would be answered.
    pub fn status(&self) -> Status {
        self.status
    }

    /// The sentence for the client.
    pub fn detail(&self) -> &'static str {
        self.detail
    }
}
