//! `/upstreams`: what is known of the servers behind the gateway, and the two things that can be changed about them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{answer_json, is_of_a_page, send_problem, state};
use crate::clock::{self, Moment};
use crate::handler::{Exchange, Failure, Reply, Request, decode_percent};
use crate::http::Status;
use crate::metrics::keys::{ServerCounter, UpstreamCounter};
use crate::metrics::upstreams::{ServerSample, UpstreamSample};
use crate::proxy::{Availability, Health, Upstream, Upstreams};

pub(super) fn list(exchange: &mut Exchange<'_>) -> Reply {
    let state = state(exchange)?;
    let (snapshot, now) = (state.snapshot(), clock::now());
    let list: Vec<_> = snapshot.upstreams.iter().map(|upstream| describe(upstream, now)).collect();
    answer_json(exchange, Status::OK, &json!({"generation": state.generation(), "upstreams": list}))
}

pub(super) fn drain(exchange: &mut Exchange<'_>) -> Reply {
    set_drained(exchange, true)
}

pub(super) fn undrain(exchange: &mut Exchange<'_>) -> Reply {
    set_drained(exchange, false)
}

fn set_drained(exchange: &mut Exchange<'_>, is_drained: bool) -> Reply {
    let snapshot = state(exchange)?.snapshot();
    if is_of_a_page(&exchange.request) {
        return Err(Failure::Status(Status::FORBIDDEN, "a request that a web page makes changes nothing here"));
    }
    let (upstream, server) = match find(&exchange.request, &snapshot.upstreams) {
        Ok(found) => found,
        Err(Unknown { detail, known }) => {
            return send_problem(exchange, Status::NOT_FOUND, json!({"detail": detail, "known": known}));
        }
    };
    let now = clock::now();
    let changed = upstream.standings.set_drained(server, is_drained, now);
    tracing::info!(
        upstream = upstream.spec.name,
        server = upstream.servers[server].name,
        changed,
        peer = %exchange.request.peer(),
        "{}",
        if is_drained { "the operator drains the server" } else { "the operator drains the server no more" }
    );
    let value = describe_server(upstream, &upstream.sample(now).servers[server], server, now);
    answer_json(exchange, Status::OK, &json!({"upstream": upstream.spec.name, "changed": changed, "server": value}))
}

/// What a path names and the config does not have.
struct Unknown {
    detail: &'static str,
    known: Vec<String>,
}

/// The upstream and the server that the path names: the server by its address or its index.
fn find<'u>(request: &Request<'_>, upstreams: &'u Upstreams) -> Result<(&'u Upstream, usize), Unknown> {
    let named = |param| {
        let mut name = Vec::new();
        decode_percent(request.param(param).unwrap_or_default().as_bytes(), &mut name);
        name
    };
    let name = named("upstream");
    let Some(upstream) = upstreams.iter().find(|upstream| upstream.spec.name.as_bytes() == name) else {
        let known = upstreams.iter().map(|upstream| upstream.spec.name.clone()).collect();
        return Err(Unknown { detail: "there is no upstream of this name", known });
    };
    let name = named("server");
    // No address is a number: each has a port, or is a path.
    let index = str::from_utf8(&name).ok().and_then(|name| name.parse().ok());
    let of_address = || upstream.servers.iter().position(|server| server.name.as_bytes() == name);
    match index.filter(|index| *index < upstream.servers.len()).or_else(of_address) {
        Some(server) => Ok((upstream, server)),
        None => {
            let known = upstream.servers.iter().map(|server| server.name.clone()).collect();
            Err(Unknown { detail: "the upstream has no server of this address or index", known })
        }
    }
}

fn describe(upstream: &Upstream, now: Moment) -> Value {
    let sample = upstream.sample(now);
    let servers = sample.servers.iter().enumerate();
    let servers: Vec<_> = servers.map(|(index, server)| describe_server(upstream, server, index, now)).collect();
    json!({
        "name": upstream.spec.name,
        "balance": upstream.spec.balance.to_string(),
        "pending": sample.pending,
        "counters": upstream_counters(&sample),
        "terminations": sample.terminations.iter().filter(|(_, count)| *count > 0).copied().collect::<BTreeMap<_, _>>(),
        "servers": servers,
    })
}

fn describe_server(upstream: &Upstream, sample: &ServerSample, index: usize, now: Moment) -> Value {
    let standing = upstream.standings.read(index, now);
    let spec = &upstream.servers[index].spec;
    json!({
        "index": index,
        "address": upstream.servers[index].name,
        "state": standing.availability.state().name(),
        "why": why(standing.availability),
        "weight": spec.weight,
        "backup": spec.backup,
        "drained": standing.is_drained,
        "health": match (&upstream.spec.health, standing.health) {
            (None, _) => "not_checked",
            (Some(_), Health::Healthy) => "healthy",
            (Some(_), Health::Unhealthy) => "unhealthy",
        },
        "breaker": standing.breaker.name(),
        "ejected_for_seconds": standing.ejected_until.map(|until| until.since(now).as_secs_f64()),
        "in_flight": sample.in_flight,
        "connections_open": sample.open,
        "counters": server_counters(sample),
        "latency": sample.latency.percentiles(),
        "latency_ewma_ns": sample.latency_ewma,
    })
}

fn why(availability: Availability) -> Option<&'static str> {
    match availability {
        Availability::Available => None,
        Availability::Drained => Some("the operator drained it"),
        Availability::Unhealthy => Some("its active checks fail"),
        Availability::Ejected => Some("it failed too many requests in a row"),
        Availability::BreakerOpen => Some("it could not be reached too many times in a row"),
        Availability::ProbeTaken => Some("one request is finding out whether it is back"),
    }
}

fn upstream_counters(sample: &UpstreamSample) -> Value {
    let count = |counter: UpstreamCounter| sample.counters[counter as usize];
    json!({
        "unavailable": count(UpstreamCounter::Unavailable),
        "overflows": count(UpstreamCounter::Overflows),
        "budget_exhausted": count(UpstreamCounter::BudgetExhausted),
        "hedges": count(UpstreamCounter::Hedges),
        "mirrored": count(UpstreamCounter::Mirrored),
        "mirrors_dropped": count(UpstreamCounter::MirrorsDropped),
    })
}

fn server_counters(sample: &ServerSample) -> Value {
    let count = |counter: ServerCounter| sample.counters[counter as usize];
    json!({
        "requests": count(ServerCounter::Requests),
        "responses_below_500": count(ServerCounter::Passed),
        "responses_5xx": count(ServerCounter::Status5xx),
        "connect_failures": count(ServerCounter::ConnectFailures),
        "no_response": count(ServerCounter::Failures),
        "timeouts": count(ServerCounter::Timeouts),
        "invalid": count(ServerCounter::Invalid),
        "retries": count(ServerCounter::Retries),
        "connections_opened": count(ServerCounter::Connections),
        "connection_reuses": count(ServerCounter::Reused),
        "tunnels": count(ServerCounter::Tunnels),
        "ejections": sample.ejections,
        "breaker_opens": sample.breaker_opens,
        "health_changes": sample.health_changes,
    })
}
