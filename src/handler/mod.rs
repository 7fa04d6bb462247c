//! What an application sees: an [`Exchange`] (request, body, response), the [`Handler`] that answers it, and the handlers
//! that a config file can name.
//!
//! A handler answers at once or takes time. The first kind reads the request where it was received and writes its answer
//! behind those of the requests before it, without a heap allocation; the second gets a future of its own.

mod body;
pub mod encoding;
mod exchange;
mod failure;
mod notes;
pub mod pipeline;
mod response;
mod predicates;
mod routes;
mod trace;
pub mod respond;
pub mod redirect;
pub mod files;
pub(crate) mod percent;
pub(crate) mod template;
#[cfg(test)]
mod testing;

use std::future::Future;
use std::pin::Pin;

pub use body::{Body, BodyDecoder, BodyError, BodySource, BodyWatch, NoBody};
pub use encoding::Coding;
pub use exchange::{Context, Exchange, Request, RequestId, WeakContext};
pub use failure::{Failure, Reply};
pub(crate) use files::{Extent, Tag, Tags, decide_range};
pub use files::{Files, FilesError, FilesSpec};
pub(crate) use notes::{Notes, Origin, Told};
pub(crate) use percent::decode as decode_percent;
pub use predicates::{Predicate, PredicateSet, PredicateSource, PredicateTest};
pub use redirect::{Redirect, RedirectError};
pub use respond::{Respond, RespondBody, RespondError, RespondSpec};
pub use response::{BodyLength, BodyState, ClientIo, Outcome, Prepared, Response, Sink, Takeover, Terms};
pub use routes::{Found, RouteIndex, RouteName, Routes};
pub use template::UnknownParam;
pub use trace::{TRACEPARENT_BYTES, Trace};

/// A future that answers an exchange on the core where it was received.
pub type Answering<'a> = Pin<Box<dyn Future<Output = Reply> + 'a>>;

/// What calling a handler gives.
pub enum Answer<'a> {
    /// The exchange is answered.
    Now(Reply),
    /// It will be when this future ends.
    Later(Answering<'a>),
}

/// Whether a handler answers at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// [`Handler::handle`] always gives [`Answer::Now`]: the request is read where it was received.
    Immediate,
    /// It may give [`Answer::Later`]: the request head is copied first, so that a slow answer holds no receive buffer.
    Suspending,
}

/// Answers exchanges. One handler serves every core, so it is shared and immutable; its futures stay on their core.
pub trait Handler: Send + Sync + 'static {
    /// Whether [`Handler::handle`] answers at once.
    fn pace(&self) -> Pace;

    /// Answers `exchange`, or gives the future that will. A panic in here or in the future answers 500, closes the
    /// connection and harms nobody else.
    fn handle<'a>(&'a self, exchange: &'a mut Exchange<'_>) -> Answer<'a>;
}

/// A handler made of a function, fit for a `const` route table.
#[derive(Clone, Copy)]
pub enum Action {
    /// Answers at once.
    Immediate(fn(&mut Exchange<'_>) -> Reply),
    /// Answers when its future ends; [`suspending!`](crate::suspending) makes one of an `async fn`.
    Suspending(for<'a> fn(&'a mut Exchange<'_>) -> Answering<'a>),
}

impl Handler for Action {
    fn pace(&self) -> Pace {
        match self {
            Self::Immediate(_) => Pace::Immediate,
            Self::Suspending(_) => Pace::Suspending,
        }
    }

    fn handle<'a>(&'a self, exchange: &'a mut Exchange<'_>) -> Answer<'a> {
        match self {
            Self::Immediate(function) => Answer::Now(function(exchange)),
            Self::Suspending(function) => Answer::Later(function(exchange)),
        }
    }
}

/// The [`Action`] of an `async fn(&mut Exchange<'_>) -> Reply`.
///
/// ```
/// use ringfort::handler::{Action, Exchange, Reply};
///
/// async fn echo(exchange: &mut Exchange<'_>) -> Reply {
///     let body = exchange.body.read_to_end(1 << 20).await?;
///     exchange.response.send(&body)
/// }
///
/// const ECHO: Action = ringfort::suspending!(echo);
/// ```
#[macro_export]
macro_rules! suspending {
    ($function:path) => {
        $crate::handler::Action::Suspending(|exchange| ::std::boxed::Box::pin($function(exchange)))
    };
}
