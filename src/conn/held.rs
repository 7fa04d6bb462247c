//! The end of a response that plugins may hold: it waits for them, and no longer than the client does.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use super::access;
use super::connection::{Ended, Panicked, complete_response, tell_plugins};
use super::core::Core;
use super::exchange::Ahead;
use crate::handler::{Exchange, Failure, Outcome, Reply};
use crate::http::Status;

/// Ends the response of an exchange, as [`super::connection::end_response`] does, after those that hold it.
pub(super) async fn end_waiting(
    exchange: &mut Exchange<'_>,
    mut reply: Result<Reply, Panicked>,
    mut ahead: Option<&mut Ahead<'_>>,
    core: &Core,
) -> (Ended, &'static str) {
    if exchange.response.may_wait() && matches!(reply, Ok(Ok(()))) {
        reply = Ok(Box::pin(unless_gone(exchange.response.settle(false), ahead.as_deref_mut())).await);
    }
    let (mut ended, mut code) = complete_response(exchange, reply, 0, core);
    // An answer in the place of a failure is shown to them too. Nobody waits where there is none.
    if exchange.response.is_held() && matches!(ended, Ended::Whole { .. }) {
        let settled = Box::pin(unless_gone(exchange.response.settle(false), ahead)).await;
        (ended, code) = match settled {
            Ok(()) => match exchange.response.finish() {
                Outcome::Complete(status) => {
                    (Ended::Whole { status, persistent: exchange.response.is_persistent() }, code)
                }
                Outcome::Cut(status) => (Ended::cut(status, &exchange.response), access::INTERNAL),
                Outcome::Unanswered => {
                    (Ended::cut(Status::INTERNAL_SERVER_ERROR, &exchange.response), access::INTERNAL)
                }
            },
            Err(failure) => {
                // Once is enough: what is answered now they do not see.
                exchange.response.leave_plugins_out();
                complete_response(exchange, Ok(Err(failure)), 0, core)
            }
        };
    }
    tell_plugins(exchange, ended);
    (ended, code)
}

/// Ends with the client, where that leaves before.
async fn unless_gone(work: impl Future<Output = Reply>, mut ahead: Option<&mut Ahead<'_>>) -> Reply {
    let mut work = pin!(work);
    poll_fn(|cx| match (work.as_mut().poll(cx), &mut ahead) {
        (Poll::Pending, Some(ahead)) => ahead.poll_gone(cx).map(|()| Err(Failure::Gone)),
        (polled, _) => polled,
    })
    .await
}
