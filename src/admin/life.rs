//! What the admin listener tells of the process's life: `/livez`, `/readyz`, `/healthz`, and its part of `/status` and
//! `/metrics`. All of it is known already: nothing waits for a check, whatever it hangs on.

use serde_json::{Value, json};

use super::{State, answer_json, answer_text, state};
use crate::clock;
use crate::handler::{Exchange, Reply};
use crate::http::Status;
use crate::lifecycle::{CheckView, Overview, Phase, ServiceState, ServiceView, Weight};

/// Whether the process is worth keeping: an orchestrator restarts one that is not.
pub(super) fn livez(exchange: &mut Exchange<'_>) -> Reply {
    let dead = find_dead(state(exchange)?);
    match dead.is_empty() {
        true => answer_text(exchange, Status::OK, "ok\n"),
        false => answer_text(exchange, Status::SERVICE_UNAVAILABLE, &format!("not alive\n{}\n", dead.join("\n"))),
    }
}

fn find_dead(state: &State) -> Vec<String> {
    let workers = state.workers();
    let dead = workers.iter().enumerate().filter(|(_, worker)| !worker.is_alive());
    dead.map(|(index, _)| format!("worker {index}")).collect()
}

/// Whether it should get traffic.
pub(super) fn readyz(exchange: &mut Exchange<'_>) -> Reply {
    let text = tell_unready(state(exchange)?.overview());
    match text.is_empty() {
        true => answer_text(exchange, Status::OK, "ok\n"),
        false => answer_text(exchange, Status::SERVICE_UNAVAILABLE, &text),
    }
}

/// What stands in the way, a line each; empty when nothing does.
fn tell_unready(overview: &Overview) -> String {
    let phase = overview.phase();
    let mut lines = Vec::new();
    match phase {
        Phase::Serving => {
            let missing = overview.health().missing();
            lines.extend(missing.iter().map(|check| format!("check {}: {}", check.name, check.detail)));
            if !lines.is_empty() {
                lines.insert(0, "not ready".to_owned());
            }
        }
        Phase::Initializing | Phase::Starting => {
            lines.push(phase.name().to_owned());
            let services = overview.services();
            let unready = services.iter().filter(|service| service.state != ServiceState::Ready);
            lines.extend(unready.map(|service| format!("service {}: {}", service.name, service.state.name())));
        }
        Phase::RollingBack | Phase::Draining | Phase::Stopping | Phase::Stopped => lines.push(phase.name().to_owned()),
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Every check, those of the server itself included.
pub(super) fn healthz(exchange: &mut Exchange<'_>) -> Reply {
    let state = state(exchange)?;
    let mut checks = own_checks(state);
    checks.extend(state.overview().health().view());
    let fails = |weight| checks.iter().any(|check| check.weight == weight && !check.has_passed);
    let (status, word) = match (fails(Weight::Required), fails(Weight::Informative)) {
        (true, _) => (Status::SERVICE_UNAVAILABLE, "failed"),
        (false, true) => (Status::OK, "degraded"),
        (false, false) => (Status::OK, "ok"),
    };
    let list: Vec<_> = checks.iter().map(describe_check).collect();
    answer_json(exchange, status, &json!({"status": word, "checks": list}))
}

fn describe_check(check: &CheckView) -> Value {
    let CheckView { name, weight, has_passed, detail, took, age } = check;
    json!({
        "name": name,
        "status": if *has_passed { "ok" } else { "failed" },
        "weight": weight.name(),
        "detail": detail,
        "duration_seconds": took.map(|took| took.as_secs_f64()),
        "age_seconds": age.map(|age| age.as_secs_f64()),
    })
}

/// What is known without looking: as old as the question.
fn own_checks(state: &State) -> Vec<CheckView> {
    let check = |name: &str, has_passed, detail| CheckView {
        name: name.to_owned(),
        weight: Weight::Required,
        has_passed,
        detail,
        took: Some(Default::default()),
        age: Some(Default::default()),
    };
    let workers = state.workers();
    let (alive, all) = (workers.iter().filter(|worker| worker.is_alive()).count(), workers.len());
    let phase = state.phase();
    vec![
        check("phase", phase == Phase::Serving, phase.name().to_owned()),
        check("workers", alive == all, format!("{alive} of {all} alive")),
    ]
}

/// The services, for `/status`.
pub(super) fn describe_services(overview: &Overview) -> Vec<Value> {
    let now = clock::now();
    let describe = |service: &ServiceView| {
        let ServiceView { name, after, state, since, failure } = service;
        json!({
            "name": name,
            "state": state.name(),
            "since_seconds": now.since(*since).as_secs_f64(),
            "after": after,
            "failure": failure,
        })
    };
    overview.services().iter().map(describe).collect()
}

/// The lists that `/metrics` shows: phases; services by name and state; checks.
pub(super) struct Lists {
    pub(super) phases: Vec<(&'static str, bool)>,
    services: Vec<(String, ServiceState)>,
    checks: Vec<(String, bool)>,
}

impl Lists {
    pub(super) fn read(overview: &Overview) -> Self {
        let phase = overview.phase();
        Self {
            phases: Phase::ALL.iter().map(|other| (other.name(), *other == phase)).collect(),
            services: overview.services().iter().map(|view| (view.name.clone(), view.state)).collect(),
            checks: overview.health().view().into_iter().map(|view| (view.name, view.has_passed)).collect(),
        }
    }

    pub(super) fn services(&self) -> Vec<(&str, &str, bool)> {
        let pairs = self.services.iter().flat_map(|(name, state)| {
            ServiceState::ALL.iter().map(move |other| (name.as_str(), other.name(), other == state))
        });
        pairs.collect()
    }

    pub(super) fn checks(&self) -> Vec<(&str, bool)> {
        self.checks.iter().map(|(name, passes)| (name.as_str(), *passes)).collect()
    }
}
