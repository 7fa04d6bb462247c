//! How a forwarded request ended: who ended it, when, and why, as a short code in metrics and logs.
//!
//! The first letter says who: `C` the client, `S` the server of the upstream, `G` the gateway, `-` nobody, it came to its
//! end. The second says in which phase: `C` while a server was chosen and connected to, `Q` while the request was sent, `H`
//! before the response head, `B` in the response's body, `T` in a tunnel, `-` none. A word says why. Each request has one
//! code, that of its last attempt.
//!
//! [`Ending`] also tells the access log of it, and of the upstream, the server and the times that led there.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::failure::AttemptError;
use super::local::LocalUpstream;
use crate::clock::{self, Moment};
use crate::handler::{BodyError, Failure, Notes, Reply};

macro_rules! terminations {
    ($($(#[$doc:meta])+ $name:ident $code:literal;)+) => {
        /// How a forwarded request ended.
        #[repr(usize)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Termination {
            $($(#[$doc])+ $name,)+
        }

        impl Termination {
            /// All of them.
            pub const ALL: &[Termination] = &[$(Termination::$name),+];

            /// The code, as it is in metrics and logs.
            pub const fn code(self) -> &'static str {
                match self {
                    $(Termination::$name => $code,)+
                }
            }
        }
    };
}

terminations! {
    /// The client has the whole response.
    Done "--";
    /// Both sides have ended the tunnel.
    TunnelDone "-T";
    /// The client left while its request was being read.
    ClientGoneInRequest "CQ-gone";
    /// The client's body came too slowly.
    ClientTimeoutInRequest "CQ-timeout";
    /// The client's body breaks the rules of its framing.
    ClientInvalidRequest "CQ-invalid";
    /// The client's body is longer than allowed.
    ClientTooLargeRequest "CQ-too_large";
    /// The client left before there was a response head; or the gateway was stopped.
    ClientGoneBeforeHead "CH-gone";
    /// The client left, or did not take the response's body; or the gateway was stopped.
    ClientGoneInBody "CB-gone";
    /// The client left the tunnel; or the gateway was stopped.
    ClientGoneInTunnel "CT-gone";
    /// The server's address took no connection.
    ServerRefused "SC-refused";
    /// The connection was not made in time.
    ServerConnectTimeout "SC-timeout";
    /// The server's name has no address.
    ServerUnresolved "SC-unresolved";
    /// The server closed the connection while the request was sent.
    ServerClosedInRequest "SQ-closed";
    /// The server took nothing of the request for too long.
    ServerTimeoutInRequest "SQ-timeout";
    /// The server closed the connection before the end of the response head.
    ServerClosedBeforeHead "SH-closed";
    /// The response head did not come in time.
    ServerTimeoutBeforeHead "SH-timeout";
    /// What came is no response, or one that cannot be passed on.
    ServerInvalidHead "SH-invalid";
    /// The server closed the connection within the response's body.
    ServerClosedInBody "SB-closed";
    /// The response's body paused for too long, or the request's time was up.
    ServerTimeoutInBody "SB-timeout";
    /// The response's body breaks the rules of its framing.
    ServerInvalidBody "SB-invalid";
    /// The server broke the tunnel.
    ServerGoneInTunnel "ST-gone";
    /// No server was available.
    GatewayUnavailable "GC-unavailable";
    /// No connection became free, or as many requests as may waited for one.
    GatewayFull "GC-full";
    /// The gateway itself failed.
    GatewayInternal "GH-internal";
    /// Nothing moved in the tunnel for too long.
    GatewayTunnelIdle "GT-idle";
}

impl Termination {
    /// Number of them.
    pub const COUNT: usize = Self::ALL.len();

    /// That of a request whose last attempt failed so.
    pub(super) fn of_error(error: AttemptError, phase: Phase) -> Self {
        let in_body = phase == Phase::Body;
        match error {
            AttemptError::Connect(std::io::ErrorKind::TimedOut) => Self::ServerConnectTimeout,
            AttemptError::Connect(_) => Self::ServerRefused,
            AttemptError::Unresolved => Self::ServerUnresolved,
            AttemptError::Full => Self::GatewayFull,
            AttemptError::Send(_) => Self::ServerClosedInRequest,
            AttemptError::SendTimeout => Self::ServerTimeoutInRequest,
            AttemptError::Receive(_) if in_body => Self::ServerClosedInBody,
            AttemptError::Receive(_) | AttemptError::Closed | AttemptError::HeadCut => Self::ServerClosedBeforeHead,
            AttemptError::ResponseTimeout if in_body => Self::ServerTimeoutInBody,
            AttemptError::ResponseTimeout => Self::ServerTimeoutBeforeHead,
            AttemptError::Protocol(_) | AttemptError::Upgrade => Self::ServerInvalidHead,
            AttemptError::Chunk(_) => Self::ServerInvalidBody,
            AttemptError::BodyCut => Self::ServerClosedInBody,
        }
    }

    fn of_client_body(error: &BodyError) -> Self {
        match error {
            BodyError::Malformed(_) | BodyError::Undecodable => Self::ClientInvalidRequest,
            BodyError::TooLarge => Self::ClientTooLargeRequest,
            BodyError::Timeout => Self::ClientTimeoutInRequest,
            BodyError::Gone => Self::ClientGoneInRequest,
        }
    }

    fn of_client_gone(phase: Phase) -> Self {
        match phase {
            Phase::Request => Self::ClientGoneInRequest,
            Phase::Head => Self::ClientGoneBeforeHead,
            Phase::Body => Self::ClientGoneInBody,
            Phase::Tunnel => Self::ClientGoneInTunnel,
        }
    }
}

/// How far a request is, as seen by its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its body is being read.
    Request,
    /// It waits for an answer.
    Head,
    /// The response has begun.
    Body,
    /// It is a tunnel.
    Tunnel,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Going(Phase),
    Ended(Termination),
    /// To the tunnel's own ending.
    HandedOver,
}

/// Counts how a request ended, once, and tells the access log. One that is dropped on its way ended because its client is
/// gone.
pub(super) struct Ending {
    upstream: Rc<LocalUpstream>,
    state: Cell<State>,
    began: Moment,
    /// Where the access log reads; `None` where it is off.
    notes: Option<Rc<Notes>>,
}

impl Ending {
    pub(super) fn new(upstream: &Rc<LocalUpstream>, began: Moment, notes: Option<&Rc<Notes>>) -> Self {
        let notes = notes.filter(|notes| notes.is_wanted()).cloned();
        if let Some(notes) = &notes {
            notes.set_origin(upstream.clone());
        }
        Self { upstream: upstream.clone(), state: Cell::new(State::Going(Phase::Request)), began, notes }
    }

    /// Tells that the request is sent to a server, as its attempt of this number.
    pub(super) fn note_attempt(&self, server: usize, attempts: u32) {
        if let Some(notes) = &self.notes {
            notes.tell(|told| {
                told.server = Some(server);
                told.attempts = attempts;
                told.connect = None;
            });
        }
    }

    /// Tells that this server's response head is taken, and what connecting to it took, where that was needed.
    pub(super) fn note_head(&self, server: usize, connect: Option<Duration>) {
        if let Some(notes) = &self.notes {
            let head = clock::now().since(self.began);
            notes.tell(|told| {
                told.server = Some(server);
                told.connect = connect;
                told.head = Some(head);
            });
        }
    }

    /// Tells what a tunnel moved: bytes from and to the client.
    pub(super) fn note_tunnel(&self, from_client: u64, to_client: u64) {
        if let Some(notes) = &self.notes {
            notes.tell(|told| told.tunnel = (from_client, to_client));
        }
    }

    /// The request is in this phase now.
    pub(super) fn enter(&self, phase: Phase) {
        self.state.set(State::Going(phase));
    }

    /// The present phase; once ended, that before the response head.
    pub(super) fn phase(&self) -> Phase {
        match self.state.get() {
            State::Going(phase) => phase,
            State::Ended(_) | State::HandedOver => Phase::Head,
        }
    }

    pub(super) fn end(&self, termination: Termination) {
        self.state.set(State::Ended(termination));
    }

    /// The request becomes a tunnel, which ends by itself.
    pub(super) fn hand_over(&self) -> Self {
        self.state.set(State::HandedOver);
        let (upstream, notes) = (self.upstream.clone(), self.notes.clone());
        Self { upstream, state: Cell::new(State::Going(Phase::Tunnel)), began: self.began, notes }
    }

    /// What the reply says, where nothing was said before.
    pub(super) fn conclude(&self, reply: &Reply) {
        let State::Going(phase) = self.state.get() else { return };
        self.end(match reply {
            Ok(()) => Termination::Done,
            Err(Failure::Body(error)) => Termination::of_client_body(error),
            Err(Failure::Gone) => Termination::of_client_gone(phase),
            // The fields of a response that do not fit.
            Err(Failure::Status(..)) => Termination::ServerInvalidHead,
            Err(Failure::Internal(_)) => Termination::GatewayInternal,
        });
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        let termination = match self.state.get() {
            State::Going(_) if std::thread::panicking() => Termination::GatewayInternal,
            State::Going(phase) => Termination::of_client_gone(phase),
            State::Ended(termination) => termination,
            State::HandedOver => return,
        };
        self.upstream.counters.note_end(termination);
        if let Some(notes) = &self.notes {
            let total = clock::now().since(self.began);
            notes.tell(|told| {
                told.total = Some(total);
                told.termination = Some(termination.code());
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::ChunkError;
    use std::collections::HashSet;
    use std::io::ErrorKind;

    #[test]
    fn every_code_says_who_when_and_why_and_none_is_used_twice() {
        let codes: HashSet<_> = Termination::ALL.iter().map(|termination| termination.code()).collect();
        assert_eq!(codes.len(), Termination::COUNT);
        for (index, termination) in Termination::ALL.iter().enumerate() {
            assert_eq!(*termination as usize, index);
            let code = termination.code();
            let (letters, why) = code.split_at(2);
            let [who, phase] = *letters.as_bytes() else { panic!("{code}") };
            assert!(b"-CSG".contains(&who) && b"-CQHBT".contains(&phase), "{code}");
            assert_eq!(who == b'-', why.is_empty(), "{code}");
            assert!(why.is_empty() || why.starts_with('-') && why.len() > 2, "{code}");
        }
    }

    #[test]
    fn a_failure_is_blamed_on_the_phase_in_which_it_came() {
        for (error, before, within) in [
            (AttemptError::Connect(ErrorKind::ConnectionRefused), "SC-refused", "SC-refused"),
            (AttemptError::Connect(ErrorKind::TimedOut), "SC-timeout", "SC-timeout"),
            (AttemptError::Receive(ErrorKind::ConnectionReset), "SH-closed", "SB-closed"),
            (AttemptError::ResponseTimeout, "SH-timeout", "SB-timeout"),
            (AttemptError::Chunk(ChunkError::Size), "SB-invalid", "SB-invalid"),
            (AttemptError::Full, "GC-full", "GC-full"),
        ] {
            assert_eq!(Termination::of_error(error, Phase::Head).code(), before, "{error}");
            assert_eq!(Termination::of_error(error, Phase::Body).code(), within, "{error}");
        }
    }
}
