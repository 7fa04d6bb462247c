//! Active checks as they are made: on the master, once for the whole process.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use super::attend::Life;
use super::checks::{CheckSchedule, HealthChange};
use super::spec::{HealthSpec, Probe};
use super::upstream::{Server, Upstream};
use crate::clock::{self, Moment};
use crate::http::{HeadLimits, Parse, RequestKind, ResponseHead, Status, StatusClass, parse_response_head};
use crate::limits::PROBE_BYTES_MAX;
use crate::rt;

/// Begins to check every server of an upstream that has active checks.
pub(super) fn check_servers(upstream: &Arc<Upstream>, seed: u64, life: &Life) {
    let Some(spec) = &upstream.spec.health else { return };
    for server in 0..upstream.servers.len() {
        let known = upstream.standings.read(server, clock::now()).health;
        let seed = seed ^ (upstream.slot << 16 | server) as u64;
        let schedule = CheckSchedule::new(spec, seed).with_health(known);
        life.spawn(check_server(upstream.clone(), spec.clone(), server, schedule));
    }
}

async fn check_server(upstream: Arc<Upstream>, spec: HealthSpec, index: usize, mut schedule: CheckSchedule) {
    let server = &upstream.servers[index];
    let mut next = schedule.first(clock::now());
    let mut turn = 0;
    loop {
        rt::sleep_until(next).await;
        let until = clock::now() + spec.timeout;
        let passed = rt::timeout(until, probe(server, &spec.probe, turn, until)).await.unwrap_or(false);
        turn += 1;
        let change = schedule.note(passed);
        upstream.standings.note_check(index, change, clock::now());
        match change {
            HealthChange::Unchanged => {}
            HealthChange::BecameHealthy => {
                tracing::info!(upstream = upstream.spec.name, server = server.name, "the server is healthy again");
            }
            HealthChange::BecameUnhealthy => {
                tracing::warn!(upstream = upstream.spec.name, server = server.name, "the server is unhealthy");
            }
        }
        next = schedule.next(clock::now());
    }
}

/// One check: whether the server passed it.
async fn probe(server: &Server, probe: &Probe, turn: usize, until: Moment) -> bool {
    let remotes = server.remotes.known();
    // A name with several addresses is asked at another one each time.
    let Some(remote) = turn.checked_rem(remotes.len()).and_then(|at| remotes.get(at)) else { return false };
    let Ok(socket) = rt::connect(remote, until).await else { return false };
    match probe {
        Probe::Tcp => true,
        Probe::Http { path, host, statuses } => {
            let host = host.as_deref().unwrap_or(if server.name.starts_with("unix:") { "" } else { &server.name });
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: ringfort-health\r\nConnection: close\r\n\r\n"
            );
            match ask(socket, request.as_bytes()).await {
                Some(status) => statuses.iter().any(|passing| passing.contains(&status.code())),
                None => false,
            }
        }
    }
}

/// Sends the request and reads the head of the final response.
async fn ask(socket: rt::Socket, request: &[u8]) -> Option<Status> {
    let (mut recv, mut send) = rt::from_socket(socket);
    let mut sent = 0;
    poll_fn(|cx| {
        while sent < request.len() {
            match std::task::ready!(send.poll_send(cx, &request[sent..])) {
                Ok(taken) => sent += taken,
                Err(_) => return Poll::Ready(None),
            }
        }
        Poll::Ready(Some(()))
    })
    .await?;
    let limits = HeadLimits { head: PROBE_BYTES_MAX, ..HeadLimits::default() };
    let (mut bytes, mut head) = (Vec::new(), ResponseHead::new());
    loop {
        match parse_response_head(&bytes, &limits, RequestKind::Other, &mut head).ok()? {
            Parse::Complete if head.status.class() == StatusClass::Informational => drop(bytes.drain(..head.len)),
            Parse::Complete => return Some(head.status),
            Parse::Partial => {
                let lease = poll_fn(|cx| recv.poll_recv(cx)).await.ok().filter(|lease| !lease.is_empty())?;
                bytes.extend_from_slice(&lease);
            }
        }
    }
}
