//! What each hook may look at and change.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use super::client::Trust;
use super::{Hook, Instance, Local, PluginError, Verdict};
use crate::clock::{self, Moment};
use crate::handler::pipeline::{
    Draft, EditedHeads, Finished, Going, LocalAnswer, Origin, Repeat, Repeats, RunState, Slot,
};
use crate::handler::{Body, BodyDecoder, Context, Request, RequestId};
use crate::http::{BodyFraming, FieldError, FieldLine, Fields, HeadError, Method, RequestHead, Status, Version};

/// What [`super::Plugin::going`] looks at.
pub struct Peek<'p> {
    /// The head of the request, as it was received.
    pub head: RequestHead<'p>,
    /// No plugin before this one may still change the head, or find out who the client is.
    pub is_settled: bool,
    pub(super) instance: &'p Instance,
    pub(super) context: &'p Context,
}

impl Peek<'_> {
    /// A number that the hook before the handler finds again where no other request came in between; `None` on a core
    /// that keeps nothing for plugins.
    pub fn ticket(&self) -> Option<u64> {
        self.context.get::<Local>().map(Local::ticket)
    }

    /// What this core keeps for the plugin; `make` makes it once.
    pub fn local<T: 'static>(&self, make: impl FnOnce() -> T) -> Rc<T> {
        Local::value(self.context, self.instance, make)
    }

    /// What the core has for handlers.
    pub fn context(&self) -> &Context {
        self.context
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

/// What all hooks of a request have.
macro_rules! sharing {
    () => {
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

        /// Who the client is, as a plugin found out; empty: none did so far.
        pub fn identity(&self) -> &[u8] {
            &self.shared.state.identity
        }
    };
}

/// What hooks have that can change a request's head.
macro_rules! editing {
    () => {
        sharing!();

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

        /// The method.
        pub fn method(&self) -> Method {
            self.request.method()
        }

        /// The parameter that the route's pattern calls `name`; before the route is found there is none.
        pub fn param(&self, name: &str) -> Option<&'x str> {
            self.request.param(name)
        }

        /// The address at the other end of the connection.
        pub fn peer(&self) -> SocketAddr {
            self.request.peer()
        }

        /// The client's address: the peer's, or whom it names where it is a proxy that is trusted.
        ///
        /// # Errors
        /// When the request's head has become too large by the changes that were made so far.
        pub fn client(&mut self, trust: &Trust) -> Result<IpAddr, PluginError> {
            let peer = self.peer().ip().to_canonical();
            if !trust.has(peer) {
                return Ok(peer);
            }
            let request = self.request().map_err(|error| PluginError(error.detail().to_owned()))?;
            Ok(trust.client(peer, &request))
        }

        /// The request's id.
        pub fn id(&self) -> RequestId<'x> {
            self.request.id()
        }

        /// Answers in the place of the handler, by the verdict that this gives.
        #[must_use = "the verdict says that it is answered"]
        pub fn answer(&mut self, answer: LocalAnswer) -> Verdict {
            self.shared.state.answer = Some(answer);
            Verdict::Answer
        }

        /// Whether so many fields can still be added, replaced or removed, of so many bytes in all with `: ` and CRLF: for
        /// changes that only make sense together.
        pub fn has_room(&self, fields: usize, bytes: usize) -> bool {
            self.shared.state.edits.has_room(fields, bytes)
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

        /// As `add_header`, of a line that was checked.
        ///
        /// # Errors
        /// When it is the server's to set, or there are too many.
        pub fn add_line(&mut self, line: &FieldLine) -> Result<(), FieldError> {
            self.shared.state.edits.add_line(line)
        }

        /// As `set_header`, by a line that was checked.
        ///
        /// # Errors
        /// When it is the server's to set, or there are too many.
        pub fn set_line(&mut self, line: &FieldLine) -> Result<(), FieldError> {
            self.shared.state.edits.set_line(line)
        }

        /// Takes all fields of this name away.
        ///
        /// # Errors
        /// When it is the server's to set.
        pub fn remove_header(&mut self, name: &str) -> Result<(), FieldError> {
            self.shared.state.edits.remove(name)
        }

        /// Tells the plugins behind this one that the client was let through by a credential, wherever it stood: a response
        /// may be for this client alone.
        pub fn note_credential(&mut self) {
            self.shared.state.has_credential = true;
        }

        /// Tells the plugins behind this one who the client is, by a credential.
        pub fn set_identity(&mut self, identity: &[u8]) {
            self.note_credential();
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

    /// Another query, without `?`, or none: the path and the route stay as they are.
    pub fn set_query(&mut self, query: Option<&str>) {
        let target = self.request.head.target();
        let path = target.split_once('?').map_or(target, |(path, _)| path);
        let target = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
        self.shared.state.edits.set_target(&target);
    }

    /// Whether a plugin let the request through by a credential of its client.
    pub fn has_credential(&self) -> bool {
        self.shared.state.has_credential
    }

    /// Whether the client sent `Authorization`, and a plugin has taken it away or replaced it.
    pub fn takes_authorization(&self) -> bool {
        self.shared.state.edits.takes_authorization(&self.request.head)
    }

    /// How the body is framed, with the changes that were made so far.
    pub fn framing(&self) -> BodyFraming {
        self.shared.state.edits.framing(&self.request.head)
    }

    /// Has the body go through `decoder`, for whoever reads it from now on. Its length is not known ahead then, and what goes
    /// on is framed by chunks. The fields that tell how the body is coded are the plugin's to take away.
    pub fn decode_body(&mut self, decoder: Box<dyn BodyDecoder>) {
        self.body.decode_by(decoder);
        self.shared.state.edits.stream_body();
    }

    /// The number that [`super::Plugin::going`] was given, as long as no other request came in between.
    pub fn ticket(&self) -> Option<u64> {
        self.shared.context.get::<Local>().map(Local::ticket)
    }

    /// Whether the hook may give a future: [`super::Plugin::going`], or that of a plugin before it, said so.
    pub fn may_wait(&self) -> bool {
        self.shared.state.going == Going::Suspends
    }

    /// Has the route's handler answer the same request, as a GET, once more without the client: plugins before this one do
    /// not see it, those behind it do, and this one begins with `slot`. False where that cannot be: too many such requests
    /// are under way, or the core drains.
    pub fn repeat(&mut self, slot: Slot) -> bool {
        let Ok(request) = self.request() else { return false };
        let origin = Origin { at: self.shared.at, id: self.shared.instance.id() };
        let Some(repeats) = self.shared.context.get::<Repeats>() else { return false };
        repeats.begin(Repeat::new(&request.head, request.peer, origin, slot))
    }

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
        sharing!();

        /// The request, as the handler saw it.
        pub fn request(&self) -> &Request<'_> {
            self.request
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

    /// The slot and the fields of the response together.
    pub fn slot_and_fields(&mut self) -> (&mut Slot, &mut Fields) {
        (&mut self.shared.state.slots[self.shared.at], self.draft.fields)
    }

    /// Whether the response may wait for the plugin ([`BodyPlan::Held`]): [`super::Plugin::going`], or that of one before it, said so.
    ///
    /// [`BodyPlan::Held`]: super::BodyPlan::Held
    pub fn may_wait(&self) -> bool {
        self.shared.state.going == Going::Suspends
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

/// A response that waits for the plugin.
pub struct HeldHook<'h, 'd> {
    pub(super) request: &'h Request<'h>,
    /// Its head, where that waits; otherwise the end of its body does.
    pub(super) draft: Option<&'h mut Draft<'d>>,
    /// What the plugin has kept back of the body: appended to when the response goes on.
    pub out: &'h mut Vec<u8>,
    pub(super) is_given_back: bool,
    pub(super) shared: Shared<'h>,
}

impl<'d> HeldHook<'_, 'd> {
    looking!();

    /// The response's head, where that waits; otherwise the end of its body does.
    pub fn head(&mut self) -> Option<&mut Draft<'d>> {
        self.draft.as_deref_mut()
    }

    /// As [`BodyHook::give_back`].
    pub fn give_back(&mut self) {
        self.is_given_back = true;
    }
}

/// A piece of a response's body.
pub struct BodyHook<'h> {
    pub(super) request: &'h Request<'h>,
    /// What is sent instead of the piece: appended to, where the plugin changes the body.
    pub out: &'h mut Vec<u8>,
    pub(super) fate: BodyFate,
    pub(super) shared: Shared<'h>,
}

/// What becomes of a piece of a body, besides what is appended to the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyFate {
    Passed,
    Held,
    GivenBack,
}

impl BodyHook<'_> {
    looking!();

    /// Whether the response may wait for the plugin: [`super::Plugin::going`], or that of one before it, said so.
    pub fn may_wait(&self) -> bool {
        self.shared.state.going == Going::Suspends
    }

    /// The trailers that follow the body, with its last piece, where there may be some.
    pub fn trailers(&mut self) -> Option<&mut Fields> {
        self.shared.state.trailers.as_mut()
    }

    /// Has the end of the body wait, with what the plugin keeps back of it, until [`super::Plugin::poll_held`] has it go on. For
    /// one that passes the body on itself, of the last piece, where the response may wait; nothing is in the output then.
    pub fn hold_end(&mut self) {
        self.fate = BodyFate::Held;
    }

    /// The plugin fails over a body that it leaves as it is, and the output has all that it kept back of it, with this piece: so
    /// the response can go on without it.
    pub fn give_back(&mut self) {
        self.fate = BodyFate::GivenBack;
    }

    /// Whether more of the body is at hand, so that this piece may be gathered with it. Otherwise the handler may be about to
    /// wait, however long: what was gathered has to go out. An empty piece that is not the last says that alone.
    pub fn more_follows(&self) -> bool {
        self.shared.state.more_follows
    }

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

    /// Counts failures that are no request's: `ringfort_plugin_errors_total` shows them.
    pub fn note_failures(&self, count: u64) {
        let Some(local) = self.shared.context.get::<Local>().filter(|_| count > 0) else { return };
        local.meter(self.shared.instance, |cells| cells.note_errors(Hook::PostResponse, count));
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
