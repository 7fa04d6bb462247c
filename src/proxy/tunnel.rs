//! What an upgraded connection becomes: bytes both ways, each way as fast as its reader drinks, until both have ended or
//! neither has moved for too long.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::connection::Connection;
use super::counters::ServerCounter;
use super::local::InFlight;
use crate::clock;
use crate::handler::{ClientIo, Takeover};
use crate::rt::{Deadline, Lease, RecvHalf, SendHalf};

/// A tunnel that begins when the client has its 101.
pub(super) struct Tunnel {
    pub(super) connection: Box<Connection>,
    pub(super) in_flight: InFlight,
    /// How long neither side may move.
    pub(super) idle: Duration,
}

impl Takeover for Tunnel {
    fn run<'c>(self: Box<Self>, client: ClientIo<'c>) -> Pin<Box<dyn Future<Output = ()> + 'c>> {
        Box::pin(run(*self, client))
    }
}

async fn run(tunnel: Tunnel, client: ClientIo<'_>) {
    let Tunnel { mut connection, in_flight, idle } = tunnel;
    connection.upstream().server_counters(connection.server()).add(ServerCounter::Tunnels, 1);
    let (to_server, to_client) = (client.unread.bytes().to_vec(), connection.reading.bytes().to_vec());
    client.unread.consume(to_server.len());
    connection.reading.consume(to_client.len());
    let mut up = Way::new(to_server);
    let mut down = Way::new(to_client);
    let mut client_send = client.send;
    let deadline = Deadline::new();
    deadline.set(clock::turn() + idle);
    poll_fn(|cx| {
        let server = connection.reading.recv();
        let moved = up.poll(cx, client.recv, &mut connection.send) | down.poll(cx, server, &mut client_send);
        if up.is_over(&down) {
            return Poll::Ready(());
        }
        if moved {
            deadline.set(clock::turn() + idle);
        }
        deadline.poll_due(cx)
    })
    .await;
    drop(in_flight);
}

/// One direction.
struct Way {
    /// What came before there was a tunnel.
    early: Vec<u8>,
    piece: Option<Lease>,
    sent: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Its sender has ended, and its receiver was told so.
    Ended,
    /// One of the two is gone.
    Broken,
}

impl Way {
    fn new(early: Vec<u8>) -> Self {
        Self { early, piece: None, sent: 0, state: State::Open }
    }

    /// Whether there is nothing left to do: both ways have ended, or one is broken.
    fn is_over(&self, other: &Self) -> bool {
        matches!((self.state, other.state), (State::Broken, _) | (_, State::Broken) | (State::Ended, State::Ended))
    }

    /// Moves what can be moved now; whether there was something.
    fn poll(&mut self, cx: &mut Context<'_>, from: &mut RecvHalf, to: &mut SendHalf) -> bool {
        let mut moved = false;
        while self.state == State::Open {
            match self.poll_once(cx, from, to) {
                Poll::Pending => break,
                Poll::Ready(Ok(state)) => self.state = state,
                Poll::Ready(Err(_)) => self.state = State::Broken,
            }
            moved = true;
        }
        moved
    }

    fn poll_once(&mut self, cx: &mut Context<'_>, from: &mut RecvHalf, to: &mut SendHalf) -> Poll<io::Result<State>> {
        let waiting: &[u8] = match &self.piece {
            Some(piece) => piece,
            None => &self.early,
        };
        if self.sent < waiting.len() {
            let result = to.poll_send(cx, &waiting[self.sent..]);
            if result.is_pending() {
                // Nobody drinks: what the other side sends stays with it, and in its socket.
                self.stand_still(cx, from);
            }
            return result.map_ok(|taken| {
                self.sent += taken;
                State::Open
            });
        }
        self.piece = None;
        self.early = Vec::new();
        self.sent = 0;
        from.poll_recv(cx).map_ok(|lease| {
            if lease.is_empty() {
                to.shutdown();
                return State::Ended;
            }
            self.piece = Some(lease);
            State::Open
        })
    }

    /// Holds the receive, and copies what it still delivers, so that no receive buffer waits for a slow reader.
    fn stand_still(&mut self, cx: &mut Context<'_>, from: &mut RecvHalf) {
        from.hold();
        if let Some(piece) = self.piece.take() {
            self.early = piece[self.sent..].to_vec();
            self.sent = 0;
        }
        while let Poll::Ready(Some(rest)) = from.poll_rest(cx) {
            self.early.extend_from_slice(&rest);
        }
    }
}
