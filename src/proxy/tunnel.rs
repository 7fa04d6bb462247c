//! What an upgraded connection becomes: bytes both ways, each way as fast as its reader drinks, until both have ended or
//! neither has moved for too long.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::connection::Connection;
use super::counters::ServerCounter;
use super::local::InFlight;
use super::termination::{Ending, Termination};
use crate::clock;
use crate::handler::{ClientIo, Takeover};
#[cfg(feature = "sim")]
use crate::rt::sim::{Bug, planted};
use crate::rt::{Deadline, Lease, RecvHalf, SendHalf};

/// A tunnel that begins when the client has its 101.
pub(super) struct Tunnel {
    pub(super) connection: Box<Connection>,
    pub(super) in_flight: InFlight,
    pub(super) ending: Ending,
    /// How long neither side may move.
    pub(super) idle: Duration,
}

impl Takeover for Tunnel {
    fn run<'c>(self: Box<Self>, client: ClientIo<'c>) -> Pin<Box<dyn Future<Output = ()> + 'c>> {
        Box::pin(run(*self, client))
    }
}

async fn run(tunnel: Tunnel, client: ClientIo<'_>) {
    let Tunnel { mut connection, in_flight, ending, idle } = tunnel;
    connection.upstream().server_counters(connection.server()).add(ServerCounter::Tunnels, 1);
    let (to_server, to_client) = (client.unread.bytes().to_vec(), connection.reading.bytes().to_vec());
    client.unread.consume(to_server.len());
    connection.reading.consume(to_client.len());
    #[cfg(feature = "sim")]
    let to_client = if planted(Bug::EarlyBytesLost) { Vec::new() } else { to_client };
    let mut up = Way::new(to_server);
    let mut down = Way::new(to_client);
    let mut client_send = client.send;
    let deadline = Deadline::new();
    deadline.set(clock::turn() + idle);
    let termination = poll_fn(|cx| {
        let server = connection.reading.recv();
        let moved = up.poll(cx, client.recv, &mut connection.send) | down.poll(cx, server, &mut client_send);
        if let Some(termination) = termination(up.state, down.state) {
            return Poll::Ready(termination);
        }
        if moved {
            deadline.set(clock::turn() + idle);
        }
        #[cfg(feature = "sim")]
        if planted(Bug::EndlessTunnel) {
            return Poll::Pending;
        }
        deadline.poll_due(cx).map(|()| Termination::GatewayTunnelIdle)
    })
    .await;
    ending.note_tunnel(up.moved, down.moved);
    ending.end(termination);
    drop(in_flight);
}

/// How a tunnel ended whose two ways are in these states; `None` while it goes on.
fn termination(up: State, down: State) -> Option<Termination> {
    match (up, down) {
        (State::SenderGone, _) | (_, State::ReceiverGone) => Some(Termination::ClientGoneInTunnel),
        (State::ReceiverGone, _) | (_, State::SenderGone) => Some(Termination::ServerGoneInTunnel),
        (State::Ended, State::Ended) => Some(Termination::TunnelDone),
        (State::Open, State::Open | State::Ended) | (State::Ended, State::Open) => None,
    }
}

/// One direction.
struct Way {
    /// What came before there was a tunnel.
    early: Vec<u8>,
    piece: Option<Lease>,
    sent: usize,
    /// Bytes that went this way.
    moved: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// Its sender has ended, and its receiver was told so.
    Ended,
    /// What it sends cannot be received any more.
    SenderGone,
    /// It takes nothing any more.
    ReceiverGone,
}

impl Way {
    fn new(early: Vec<u8>) -> Self {
        Self { early, piece: None, sent: 0, moved: 0, state: State::Open }
    }

    /// Moves what can be moved now; whether there was something.
    fn poll(&mut self, cx: &mut Context<'_>, from: &mut RecvHalf, to: &mut SendHalf) -> bool {
        let mut moved = false;
        while self.state == State::Open {
            match self.poll_once(cx, from, to) {
                Poll::Pending => break,
                Poll::Ready(state) => self.state = state,
            }
            moved = true;
        }
        moved
    }

    fn poll_once(&mut self, cx: &mut Context<'_>, from: &mut RecvHalf, to: &mut SendHalf) -> Poll<State> {
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
            return result.map(|taken| {
                let Ok(taken) = taken else { return State::ReceiverGone };
                self.sent += taken;
                self.moved += taken as u64;
                State::Open
            });
        }
        self.piece = None;
        self.early = Vec::new();
        self.sent = 0;
        from.poll_recv(cx).map(|lease| {
            let Ok(lease) = lease else { return State::SenderGone };
            if lease.is_empty() {
                #[cfg(feature = "sim")]
                if planted(Bug::HalfCloseLost) {
                    return State::Ended;
                }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tunnel_ends_with_both_ways_or_with_one_of_its_sides() {
        use State::{Ended, Open, ReceiverGone, SenderGone};
        for (up, down, code) in [
            (Open, Open, None),
            (Ended, Open, None),
            (Open, Ended, None),
            (Ended, Ended, Some("-T")),
            (SenderGone, Open, Some("CT-gone")),
            (Ended, ReceiverGone, Some("CT-gone")),
            (ReceiverGone, Ended, Some("ST-gone")),
            (Open, SenderGone, Some("ST-gone")),
        ] {
            assert_eq!(termination(up, down).map(Termination::code), code, "{up:?} {down:?}");
        }
    }
}
