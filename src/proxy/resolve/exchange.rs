//! One question to one name server: over UDP, and over TCP where the answer does not fit (RFC 7766).

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::{Poll, ready};

use super::message::{Query, Reply};
use crate::clock::Moment;
use crate::rt::{self, RecvHalf, RecvMode, Remote, SendHalf};
use crate::sys;

/// How a question goes to a name server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
}

/// Asks `server`, and waits until `until` at the most. What is no answer to the question is ignored: [`Reply::Other`] is
/// never returned.
///
/// # Errors
/// `TimedOut`; ECONNREFUSED, ENETUNREACH and the like; EMFILE, ENFILE where this host has nothing left.
pub(super) async fn exchange(
    server: SocketAddr,
    query: &Query,
    transport: Transport,
    until: Moment,
) -> io::Result<Reply> {
    let asked = async {
        match transport {
            Transport::Udp => ask_over_udp(server, query).await,
            Transport::Tcp => ask_over_tcp(server, query, until).await,
        }
    };
    rt::timeout(until, asked).await.unwrap_or_else(|| Err(io::ErrorKind::TimedOut.into()))
}

async fn ask_over_udp(server: SocketAddr, query: &Query) -> io::Result<Reply> {
    // A socket for each question, with a port that the kernel draws: what a forger has to guess besides the id. It is
    // connected, so that the kernel passes on nothing from elsewhere.
    let (mut recv, mut send) = rt::from_socket(sys::socket::connect_datagram(server)?.into());
    // A datagram at a time, whole: an answer without extensions has at most 512 bytes (RFC 1035 section 4.2.1).
    recv.set_mode(RecvMode::Pieces);
    send_all(&mut send, query.bytes()).await?;
    loop {
        match query.read(&poll_fn(|cx| recv.poll_recv(cx)).await?) {
            Reply::Other => {}
            reply => return Ok(reply),
        }
    }
}

async fn ask_over_tcp(server: SocketAddr, query: &Query, until: Moment) -> io::Result<Reply> {
    let (mut recv, mut send) = rt::from_socket(rt::connect(&Remote::Tcp(server), until).await?);
    let length = u16::try_from(query.bytes().len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    send_all(&mut send, &[&length.to_be_bytes(), query.bytes()].concat()).await?;
    let mut received = Vec::new();
    loop {
        let message = receive_message(&mut recv, &mut received).await?;
        match query.read(&message) {
            Reply::Other => {}
            reply => return Ok(reply),
        }
    }
}

/// The next message, behind its length in two bytes (RFC 1035 section 4.2.2).
async fn receive_message(recv: &mut RecvHalf, received: &mut Vec<u8>) -> io::Result<Vec<u8>> {
    loop {
        if let Some((length, rest)) = received.split_first_chunk() {
            let length = usize::from(u16::from_be_bytes(*length));
            if let Some(message) = rest.get(..length) {
                let message = message.to_vec();
                received.drain(..2 + length);
                return Ok(message);
            }
        }
        let lease = poll_fn(|cx| recv.poll_recv(cx)).await?;
        if lease.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        received.extend_from_slice(&lease);
    }
}

async fn send_all(send: &mut SendHalf, bytes: &[u8]) -> io::Result<()> {
    let mut sent = 0;
    poll_fn(|cx| {
        while sent < bytes.len() {
            sent += ready!(send.poll_send(cx, &bytes[sent..]))?;
        }
        Poll::Ready(Ok(()))
    })
    .await
}
