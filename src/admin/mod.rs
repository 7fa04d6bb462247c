//! The admin listener's routes: what the process is, how it is doing, what it serves. On a const router of their own, on
//! the master's executor: answering here never touches a worker, a scrape reads what the master has aggregated.
//!
//! The listener has no authentication: it belongs on a loopback or a management address. What a web page asks for changes
//! nothing (see `upstreams`).

mod cache;
mod life;
mod plugins;
mod reload;
mod state;
mod upgrade;
mod upstreams;

use serde_json::{Value, json};

use crate::clock;
use crate::handler::{Action, Exchange, Failure, PredicateSet, Reply, Request};
use crate::http::Status;
use crate::metrics::exposition::{self, Facts};
use crate::metrics::life::Life;
use crate::metrics::process;
use crate::metrics::report::{self, RouteNames};

pub use reload::{Cause, Outcome, Reloads, Request as ReloadRequest, requests as reload_requests};
pub use state::{Ended, State, WorkerState};
pub use upgrade::{UpgradeOutcome, UpgradeRequest, Upgrades};

crate::routes! {
    /// The admin listener's routes.
    pub static ROUTES: Action = {
        GET "/" => Action::Immediate(index),
        GET "/metrics" => Action::Immediate(metrics),
        GET "/livez" => Action::Immediate(life::livez),
        GET "/readyz" => Action::Immediate(life::readyz),
        GET "/healthz" => Action::Immediate(life::healthz),
        GET "/status" => Action::Immediate(status),
        GET "/config" => Action::Immediate(config),
        GET "/routes" => Action::Immediate(routes),
        POST "/reload" => crate::suspending!(reload::reload),
        POST "/upgrade" => crate::suspending!(upgrade::upgrade),
        GET "/cache" => Action::Immediate(cache::list),
        POST "/cache/purge" => Action::Immediate(cache::purge),
        GET "/upstreams" => Action::Immediate(upstreams::list),
        POST "/upstreams/:upstream/servers/:server/drain" => Action::Immediate(upstreams::drain),
        POST "/upstreams/:upstream/servers/:server/undrain" => Action::Immediate(upstreams::undrain),
    }
}

fn state<'x>(exchange: &Exchange<'x>) -> Result<&'x State, Failure> {
    exchange.context::<State>().ok_or_else(|| Failure::internal("the admin routes run outside the master"))
}

/// Answers with indented JSON: an operator reads it as often as a program does.
fn answer_json(exchange: &mut Exchange<'_>, status: Status, value: &impl serde::Serialize) -> Reply {
    exchange.response.field("Content-Type", "application/json")?;
    send_json(exchange, status, value)
}

fn send_json(exchange: &mut Exchange<'_>, status: Status, value: &impl serde::Serialize) -> Reply {
    let mut body = serde_json::to_vec_pretty(value).map_err(Failure::internal)?;
    body.push(b'\n');
    let response = &mut exchange.response;
    response.status(status).field("Cache-Control", "no-store")?;
    response.send(&body)
}

/// Answers with a problem (RFC 9457) that has these members besides the usual ones.
fn send_problem(exchange: &mut Exchange<'_>, status: Status, mut members: Value) -> Reply {
    members["type"] = "about:blank".into();
    members["title"] = status.reason().into();
    members["status"] = status.code().into();
    members["request_id"] = exchange.request.id().to_string().into();
    exchange.response.fields().set("Content-Type", "application/problem+json")?;
    send_json(exchange, status, &members)
}

/// Whether a browser sends it for a page. The listener has no pages, so no page may change anything: not one of another
/// site, and not one whose name was made to lead here (DNS rebinding), which is why the origin is compared with nothing.
fn is_of_a_page(request: &Request<'_>) -> bool {
    request.header("origin").is_some() || request.header("sec-fetch-site").is_some()
}

fn answer_text(exchange: &mut Exchange<'_>, status: Status, text: &str) -> Reply {
    exchange.response.status(status).field("Cache-Control", "no-store")?;
    exchange.response.text(text)
}

fn index(exchange: &mut Exchange<'_>) -> Reply {
    let list = "/metrics  Prometheus text\n/livez    is the process alive?\n/readyz   may it get traffic?\n\
                /healthz  each check (JSON)\n/status   workers, windows, percentiles (JSON)\n\
                /config   the effective config (JSON)\n/routes   what is served (JSON)\n\
                /upstreams  servers behind the gateway (JSON)\n\
                /cache    what caches keep (JSON)\n\
                POST /cache/purge?path=..|prefix=..|all[&host=..]  have caches forget\n\
                POST /reload  read the config again and serve by it\n\
                POST /upgrade  start the program anew, hand it the listening sockets, leave\n\
                POST /upstreams/NAME/servers/ADDRESS/drain, and undrain  take a server out, bring it back\n";
    answer_text(exchange, Status::OK, list)
}

fn metrics(exchange: &mut Exchange<'_>) -> Reply {
    let state = state(exchange)?;
    let mut text = String::with_capacity(32 * 1024);
    let (snapshot, now) = (state.snapshot(), clock::now());
    let upstreams: Vec<_> = snapshot.upstreams.iter().map(|upstream| upstream.sample(now)).collect();
    let workers: Vec<_> = state.workers().iter().map(WorkerState::sample).collect();
    let lists = life::Lists::read(state.overview());
    let (services, checks) = (lists.services(), lists.checks());
    let facts = Facts {
        version: env!("CARGO_PKG_VERSION"),
        executor: snapshot.executor.executor.name(),
        uptime: state.uptime(),
        log_lines_dropped: state.log_lines_dropped(),
        config: state.config_sample(),
        life: Life { phases: &lists.phases, services: &services, checks: &checks },
        upgrades: state.upgrades().counts(),
        process: process::read(),
        routes: RouteNames { generation: state.generation(), patterns: &state.route_labels() },
        workers: &workers,
        upstreams: &upstreams,
        plugins: &snapshot.plugins.sample(),
        guests: &crate::plugin::wasm::metrics(),
    };
    exposition::write_prometheus(&mut text, &state.aggregator(), &facts);
    exchange.response.field("Content-Type", exposition::CONTENT_TYPE)?;
    exchange.response.send(text.as_bytes())
}

fn status(exchange: &mut Exchange<'_>) -> Reply {
    let state = state(exchange)?;
    let labels = state.route_labels();
    let workers: Vec<_> = state.workers().iter().map(|worker| worker.to_json(&labels)).collect();
    let names = RouteNames { generation: state.generation(), patterns: &labels };
    let sample = process::read();
    let value = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "phase": state.phase().name(),
        "phase_seconds": clock::now().since(state.overview().phase_since()).as_secs_f64(),
        "services": life::describe_services(state.overview()),
        "uptime_seconds": state.uptime().as_secs_f64(),
        "generation": state.generation(),
        "generations_live": state.generations_live(),
        "reloads": state.reloads().to_json(),
        "upgrades": state.upgrades().to_json(),
        "listen": state.listen(),
        "admin": state.admin(),
        "workers": workers,
        "process": {
            "resident_bytes": sample.resident_bytes,
            "virtual_bytes": sample.virtual_bytes,
            "cpu_seconds": sample.cpu_seconds,
            "open_fds": sample.open_fds,
            "max_fds": sample.max_fds,
            "threads": sample.threads,
        },
        "plugins": plugins::describe(&state.snapshot(), state.uptime()),
        "metrics": report::build(&state.aggregator(), names),
    });
    answer_json(exchange, Status::OK, &value)
}

fn config(exchange: &mut Exchange<'_>) -> Reply {
    let value = crate::config::redact(&state(exchange)?.snapshot().config);
    answer_json(exchange, Status::OK, &value)
}

fn routes(exchange: &mut Exchange<'_>) -> Reply {
    let state = state(exchange)?;
    let snapshot = state.snapshot();
    let list: Vec<_> = snapshot
        .routes
        .describe()
        .enumerate()
        .map(|(at, (info, name))| {
            let conditions = snapshot.routes.predicates(at).into_iter().flat_map(PredicateSet::iter);
            json!({
                "host": info.host,
                "path": info.pattern,
                "methods": info.methods.iter().map(|method| method.as_str()).collect::<Vec<_>>(),
                "handler": name.kind,
                "when": conditions.map(ToString::to_string).collect::<Vec<_>>(),
            })
        })
        .collect();
    answer_json(exchange, Status::OK, &json!({"generation": state.generation(), "routes": list}))
}
