//! One request that has a body, or whose handler takes its time.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll};

use super::body::Incoming;
use super::connection::{Closing, Connection, Ended, Next, Panicked, end_response};
use super::turn::Turn;
use crate::handler::{
    Answer, Answering, Body, BodyError, BodySource, Exchange, Failure, Found, Reply, Request, Response, Sink, Terms,
};
use crate::http::{BodyFraming, Method, RequestHead};
use crate::limits::DISCARD_BYTES_MAX;
use crate::rt::RecvMode;

/// The body of a request without one.
pub(super) struct NoBody;

impl BodySource for NoBody {
    fn poll_piece(&mut self, _: &mut Context<'_>) -> Poll<Result<bool, BodyError>> {
        Poll::Ready(Ok(false))
    }

    fn piece(&self) -> &[u8] {
        &[]
    }

    fn remaining(&self) -> Option<u64> {
        Some(0)
    }
}

/// The way out of a handler that answers at once: it has none of its own, its answer goes out with the batch.
pub(super) struct NoSink;

impl Sink for NoSink {
    fn poll_send(&mut self, _: &mut Context<'_>, _: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }
}

/// How an exchange left the connection.
struct Left {
    ended: Ended,
    /// The request body was read to its end.
    body_done: bool,
}

/// Answers the request whose head is in `turn` and at the start of the unread bytes.
pub(super) async fn answer(connection: &mut Connection, turn: &mut Turn) -> Next {
    // Earlier answers must not wait for this one, and an interim response must not overtake them.
    let mut sent = 0;
    if poll_fn(|cx| connection.output.poll_all(cx, &turn.out, &mut sent)).await.is_err() {
        return Next::Close(Closing::AtOnce);
    }
    turn.out.clear();
    connection.record(turn);
    // The connection reads on, so the head moves out of its way.
    let length = turn.head.len;
    turn.head_bytes.clear();
    turn.head_bytes.extend_from_slice(&connection.input.bytes()[..length]);
    connection.input.consume(length);
    let head_persistent = connection.may_persist(&turn.head);
    connection.in_flight(1);
    let left = exchange(connection, turn, head_persistent).await;
    connection.in_flight(-1);
    let Left { ended, body_done } = left;
    match ended {
        Ended::Cut { .. } => Next::Close(Closing::AtOnce),
        Ended::Whole { persistent, .. } if body_done => {
            connection.recv.set_mode(RecvMode::Stream);
            if persistent { Next::Again } else { connection.close_after_response() }
        }
        Ended::Whole { .. } => Next::Close(Closing::Linger),
    }
}

async fn exchange(connection: &mut Connection, turn: &mut Turn, persistent: bool) -> Left {
    let routes = connection.core.routes.clone();
    let core = connection.core.clone();
    let head = RequestHead::new(&turn.head_bytes, &turn.head);
    let found = routes.find(&head);
    let framing = head.framing();
    let awaited = Cell::new(turn.head.expect_continue);
    let terms = Terms {
        version: head.version(),
        head_only: head.method() == Method::Head,
        persistent,
        server: core.settings.server_name.as_deref(),
        id: core.next_id(),
        awaited: &awaited,
    };
    let in_hand = connection.input.bytes().len() as u64;
    if framing == BodyFraming::Chunked || matches!(framing, BodyFraming::Length(length) if length > in_hand) {
        connection.recv.set_mode(RecvMode::Pieces);
    }
    let too_large = matches!(framing, BodyFraming::Length(length) if length > core.settings.body);
    let interim = awaited.get().then(|| connection.output.another());
    let request = Request { head, params: found.params(), peer: connection.peer, id: terms.id };
    let Connection { input, recv, deadline, output, .. } = connection;
    let mut incoming = Incoming::new(framing, input, recv, deadline, &core, &awaited, interim);
    let source = std::cell::RefCell::new(&mut incoming);
    let mut shared = Shared(&source);
    let response = Response::new(&mut turn.out, &mut turn.fields, output, terms);
    let mut exchange = Exchange { request, body: Body::new(&mut shared), response };
    let reply = if too_large {
        core.metrics.add(crate::metrics::Counter::BadTooLarge, 1);
        Ok(Err(Failure::Body(BodyError::TooLarge)))
    } else {
        run_handler(&found, &mut exchange, &source).await
    };
    let ended = end_response(&mut exchange, reply, 0, &core);
    let index = found.index();
    drop(exchange);
    let body_done = matches!(ended, Ended::Whole { persistent: true, .. }) && discard(&mut incoming).await;
    let body_done = body_done || incoming.is_done();
    connection.note(turn, index, ended);
    Left { ended, body_done }
}
