//! `upstreams` made into what the proxy works with, and what no schema says of them.

use std::collections::HashMap;
use std::time::Duration;

use super::super::error::{ConfigError, Step, quote};
use super::super::grammar::StatusRange;
use super::super::model::{self, Health, Upstream, UpstreamServer};
use super::proxy::{check_authority, check_target};
use crate::limits::{UPSTREAM_NAME_BYTES_MAX, UPSTREAMS_MAX};
use crate::proxy::{
    BreakerSpec, EjectionSpec, HealthSpec, PoolSpec, Probe, RetrySpec, ServerAddress, ServerSpec,
    UpstreamLimits as LimitsSpec, UpstreamSpec, UpstreamTimeouts as TimeoutsSpec,
};
use crate::units::TimeSpan;

/// All upstreams, in the order of their names; what is wrong with them goes to `errors`.
pub(super) fn build_upstreams(config: &model::Config, errors: &mut Vec<ConfigError>) -> Vec<UpstreamSpec> {
    if config.upstreams.len() > UPSTREAMS_MAX {
        let found = format!("{} of them", config.upstreams.len());
        errors.push(ConfigError::at(&["upstreams".into()], format!("at most {UPSTREAMS_MAX} upstreams"), found));
    }
    let specs = config.upstreams.iter().map(|(name, upstream)| {
        UpstreamPlace { name, errors }.check(upstream);
        spec_of(name, upstream)
    });
    specs.collect()
}

fn spec_of(name: &str, upstream: &Upstream) -> UpstreamSpec {
    let Upstream { servers, balance, slow_start, pool, timeouts, retry, hedge_after, .. } = upstream;
    let Upstream { health, ejection, breaker, limits, .. } = upstream;
    UpstreamSpec {
        name: name.to_owned(),
        servers: servers.iter().map(server_spec).collect(),
        balance: balance.clone(),
        slow_start: *slow_start,
        pool: PoolSpec {
            idle_per_core: pool.idle_per_core,
            idle_timeout: pool.idle_timeout,
            age: pool.age,
            requests: pool.requests,
        },
        timeouts: TimeoutsSpec {
            connect: timeouts.connect,
            response: timeouts.response,
            idle: timeouts.idle,
            total: timeouts.total,
        },
        retry: RetrySpec { attempts: retry.attempts, budget: retry.budget, statuses: retry.statuses.clone() },
        hedge_after: hedge_after.map(TimeSpan::get),
        health: health.as_ref().map(health_spec),
        ejection: ejection.as_ref().map(|ejection| EjectionSpec {
            consecutive_failures: ejection.consecutive_failures,
            duration: ejection.duration,
            duration_max: ejection.duration_max,
            percent_max: ejection.percent_max,
        }),
        breaker: breaker
            .as_ref()
            .map(|breaker| BreakerSpec { consecutive_failures: breaker.consecutive_failures, open: breaker.open }),
        limits: LimitsSpec { connections: limits.connections, pending: limits.pending },
    }
}

fn server_spec(server: &UpstreamServer) -> ServerSpec {
    let UpstreamServer { address, weight, backup, drain } = server;
    ServerSpec { address: address.clone(), weight: *weight, backup: *backup, drain: *drain }
}

fn health_spec(health: &Health) -> HealthSpec {
    let probe = match &health.path {
        None => Probe::Tcp,
        Some(path) => {
            let statuses: Vec<_> = health.statuses.iter().map(StatusRange::get).collect();
            let statuses = if statuses.is_empty() { vec![Probe::SUCCESS] } else { statuses };
            Probe::Http { path: path.clone(), host: health.host.clone(), statuses }
        }
    };
    HealthSpec {
        probe,
        interval: health.interval,
        jitter: health.jitter,
        timeout: health.timeout,
        fall: health.fall,
        rise: health.rise,
    }
}

/// Collects the mistakes of one upstream.
struct UpstreamPlace<'e> {
    name: &'e str,
    errors: &'e mut Vec<ConfigError>,
}

impl UpstreamPlace<'_> {
    fn report(&mut self, steps: &[Step], expected: impl Into<String>, found: impl Into<String>) {
        let upstream = ["upstreams".into(), self.name.into()];
        self.errors.push(ConfigError::at(&[&upstream, steps].concat(), expected, found));
    }

    fn check(&mut self, upstream: &Upstream) {
        self.check_name();
        self.check_servers(&upstream.servers);
        if let Some(health) = &upstream.health {
            self.check_health(health);
        }
        let timeouts = &upstream.timeouts;
        self.check_part(["timeouts", "connect"], timeouts.connect, ["timeouts", "total"], timeouts.total);
        self.check_part(["timeouts", "response"], timeouts.response, ["timeouts", "total"], timeouts.total);
        if let Some(ejection) = &upstream.ejection {
            let (first, most) = (ejection.duration, ejection.duration_max);
            self.check_part(["ejection", "duration"], first, ["ejection", "duration_max"], most);
        }
        if let Some(hedge_after) = upstream.hedge_after.filter(|span| span.get() >= timeouts.response) {
            let response = span_text(timeouts.response);
            let expected = format!("less than timeouts.response ({response}), or there is never a second request");
            self.report(&["hedge_after".into()], expected, quote(&hedge_after.to_string()));
        }
    }

    /// A name is a label of metrics, a part of the admin listener's paths, and of names of environment variables.
    fn check_name(&mut self) {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let is_good = (1..=UPSTREAM_NAME_BYTES_MAX).contains(&self.name.len()) && self.name.bytes().all(is_plain);
        if !is_good {
            let expected = format!(
                "a name of 1 to {UPSTREAM_NAME_BYTES_MAX} letters, digits, \"-\", \"_\" and \".\" for an upstream"
            );
            self.report(&[], expected, quote(self.name));
        }
    }

    fn check_servers(&mut self, servers: &[UpstreamServer]) {
        let mut seen: HashMap<&ServerAddress, usize> = HashMap::new();
        for (index, server) in servers.iter().enumerate() {
            let Some(earlier) = seen.insert(&server.address, index) else { continue };
            seen.insert(&server.address, earlier);
            let place = ["servers".into(), index.into(), "address".into()];
            let found = format!("{} again (servers[{earlier}])", quote(&server.address.to_string()));
            self.report(&place, "each server once (a greater weight gives it more)", found);
        }
        if !servers.is_empty() && servers.iter().all(|server| server.backup) {
            self.report(&["servers".into()], "a server that is not a backup", "backups alone");
        }
    }

    fn check_health(&mut self, health: &Health) {
        let place = |key: &str| -> [Step; 2] { ["health".into(), key.into()] };
        if let Some(path) = &health.path
            && let Err(found) = check_target(path)
        {
            self.report(&place("path"), "a path that begins with \"/\", with or without a query", found);
        }
        if let Some(host) = &health.host
            && let Err((expected, found)) = check_authority(host)
        {
            self.report(&place("host"), expected, found);
        }
        if health.path.is_none() {
            for (key, is_there) in [("host", health.host.is_some()), ("statuses", !health.statuses.is_empty())] {
                if is_there {
                    self.report(&place(key), format!("no {key} with tcp: only path asks over HTTP"), "one");
                }
            }
        }
    }

    /// A part of a time that is longer than the whole would be cut by it.
    fn check_part(&mut self, part: [&str; 2], is: Duration, whole: [&str; 2], most: Duration) {
        if is > most {
            let expected = format!("at most {} ({})", whole.join("."), span_text(most));
            self.report(&part.map(Step::from), expected, quote(&span_text(is)));
        }
    }
}

fn span_text(span: Duration) -> String {
    TimeSpan::from_millis(span.as_millis() as u64).to_string()
}
