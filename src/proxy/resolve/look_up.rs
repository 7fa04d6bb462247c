//! A look-up: the host's own table, then name servers, in the way of the C library's resolver.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::future::{Future, poll_fn};
use std::hash::BuildHasher;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use simple_dns::RCODE;

use super::answer::{Answer, Family};
use super::exchange::{Transport, exchange};
use super::hosts;
use super::message::{Found, Kind, Query, Reply};
use super::settings::Settings;
use crate::{clock, rt};

/// Why a name could not be looked up.
#[derive(Debug)]
pub(super) enum LookUpError {
    /// No such name, or one without addresses.
    NoAddress,
    /// A name server said that it cannot tell.
    Refused(SocketAddr, RCODE),
    /// A name server did not answer, or with what is no answer.
    Unanswered(SocketAddr, io::Error),
    /// No name server was reached within the bound on a look-up.
    TimedOut,
}

impl fmt::Display for LookUpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAddress => f.write_str("it has no address"),
            Self::Refused(server, code) => write!(f, "the name server {server} says {code:?}"),
            Self::Unanswered(server, error) => write!(f, "the name server {server} does not answer: {error}"),
            Self::TimedOut => f.write_str("it took too long"),
        }
    }
}

/// Where the addresses of a name are found.
enum Source {
    /// In the host's table: these.
    Table(Answer),
    /// By DNS.
    Dns(Settings),
}

/// The addresses of `host`.
pub(super) async fn look_up(host: &str, name_servers: &[SocketAddr]) -> Result<Answer, LookUpError> {
    let settings = match find_source(host.to_owned(), name_servers.to_vec()).await {
        Source::Table(answer) => return Ok(answer),
        Source::Dns(settings) => settings,
    };
    let mut refusal = LookUpError::NoAddress;
    for name in settings.candidates(host) {
        match look_up_name(&settings, &name).await {
            Err(LookUpError::NoAddress) => {}
            // As the C library does it: the next candidate may be the one that was meant.
            Err(error @ LookUpError::Refused(..)) => refusal = error,
            // Here it would be a guess.
            result => return result,
        }
    }
    Err(refusal)
}

/// Reads the host's files, anew each time, so that a change of them counts; on the blocking pool, for a table may be long
/// and its disk slow.
async fn find_source(host: String, name_servers: Vec<SocketAddr>) -> Source {
    rt::blocking(move || match hosts::find(&host) {
        Some(answer) => Source::Table(answer),
        None => Source::Dns(Settings::read(&name_servers)),
    })
    .await
}

/// The addresses of one complete name.
async fn look_up_name(settings: &Settings, name: &str) -> Result<Answer, LookUpError> {
    let v6 = async { if settings.no_ipv6 { Ok(Found::default()) } else { ask(settings, name, Kind::V6).await } };
    let (v4, v6) = both(ask(settings, name, Kind::V4), v6).await;
    let ttl = [&v4, &v6].into_iter().flatten().filter_map(|found| found.ttl).min();
    match (ttl, v4, v6) {
        (Some(ttl), v4, v6) => Ok(Answer { v4: family(v4), v6: family(v6), ttl: Duration::from_secs(ttl.into()) }),
        (None, Ok(_), Ok(_)) => Err(LookUpError::NoAddress),
        (None, Err(error), _) | (None, _, Err(error)) => Err(error),
    }
}

fn family(found: Result<Found, LookUpError>) -> Family {
    found.map_or(Family::Unknown, |found| Family::Known(found.addresses))
}

/// Asks the servers in turn, and all of them again, until one can tell.
async fn ask(settings: &Settings, name: &str, kind: Kind) -> Result<Found, LookUpError> {
    let mut failure = LookUpError::TimedOut;
    for server in (0..settings.attempts).flat_map(|_| &settings.servers) {
        match ask_server(settings, *server, name, kind).await {
            Ok(found) => return Ok(found),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

async fn ask_server(settings: &Settings, server: SocketAddr, name: &str, kind: Kind) -> Result<Found, LookUpError> {
    let Some(query) = Query::new(draw_id(), name, kind) else { return Err(LookUpError::NoAddress) };
    let until = || clock::now() + settings.timeout;
    let unanswered = |error| LookUpError::Unanswered(server, error);
    let first = if settings.tcp_only { Transport::Tcp } else { Transport::Udp };
    let mut reply = exchange(server, &query, first, until()).await.map_err(unanswered)?;
    if reply == Reply::CutShort && first == Transport::Udp {
        reply = exchange(server, &query, Transport::Tcp, until()).await.map_err(unanswered)?;
    }
    match reply {
        Reply::Answer(found) => Ok(found),
        Reply::Refused(code) => Err(LookUpError::Refused(server, code)),
        Reply::CutShort | Reply::Malformed | Reply::Other => Err(unanswered(io::ErrorKind::InvalidData.into())),
    }
}

/// An id that nobody can foretell: a hash whose keys come from the operating system. `Chance` is not for secrets.
fn draw_id() -> u16 {
    RandomState::new().hash_one(clock::now()) as u16
}

/// Both results, of work done side by side.
async fn both<A, B>(first: impl Future<Output = A>, second: impl Future<Output = B>) -> (A, B) {
    let (mut first, mut second) = (pin!(first), pin!(second));
    let (mut one, mut other) = (None, None);
    poll_fn(|cx| {
        if one.is_none()
            && let Poll::Ready(result) = first.as_mut().poll(cx)
        {
            one = Some(result);
        }
        if other.is_none()
            && let Poll::Ready(result) = second.as_mut().poll(cx)
        {
            other = Some(result);
        }
        match (one.take(), other.take()) {
            (Some(one), Some(other)) => Poll::Ready((one, other)),
            (first, second) => {
                (one, other) = (first, second);
                Poll::Pending
            }
        }
    })
    .await
}
