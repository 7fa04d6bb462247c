//! What a schema cannot say: values that contradict each other, and texts with a grammar of their own.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use super::error::{ConfigError, Step, quote};
use super::grammar::is_token;
use super::model::{self, Config};
use crate::http::Fields;
use crate::http::encode::is_server_owned;
use crate::log::{self, LogError};
use crate::rt::{DriverChoice, ExecutorChoice};
use crate::units::TimeSpan;

/// What the loader left out of a config with mistakes, so that what is left can still be checked.
#[derive(Clone, Debug, Default)]
pub(super) struct Omissions {
    /// For each route that is left, its index in the file. Empty: nothing was left out.
    pub(super) routes: Vec<usize>,
    /// The names of upstreams that were left out.
    pub(super) upstreams: BTreeSet<String>,
    /// Values that were replaced by defaults.
    pub(super) values: Vec<Vec<Step>>,
}

impl Omissions {
    /// The index of a route in the file.
    pub(super) fn route(&self, index: usize) -> usize {
        self.routes.get(index).copied().unwrap_or(index)
    }

    /// Whether an upstream of this name was left out, so that a route that names it is not wrong.
    pub(super) fn lacks_upstream(&self, name: &str) -> bool {
        self.upstreams.contains(name) || !self.keeps(&["upstreams".into()])
    }

    /// Whether what is at `steps` is what the operator wrote.
    fn keeps(&self, steps: &[Step]) -> bool {
        !self.values.iter().any(|left_out| steps.starts_with(left_out) || left_out.starts_with(steps))
    }
}

/// Everything that is wrong with the config outside its routes.
pub(super) fn check_settings(config: &Config, omissions: &Omissions) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    check_addresses(config, omissions, &mut errors);
    check_limits(config, omissions, &mut errors);
    check_totals(config, omissions, &mut errors);
    errors.extend(check_executor(config));
    if let Some(name) = &config.server.name {
        let path = ["server".into(), "name".into()];
        if name.trim().is_empty() || Fields::new().push("Server", name).is_err() {
            let expected = "a header field's value without control characters (or null: no Server field)";
            errors.push(ConfigError::at(&path, expected, quote(name)));
        }
    }
    check_request_id(config, &mut errors);
    check_log(config, &mut errors);
    if let Err(error) = log::check_level(&config.log.level) {
        errors.push(explain_level(&config.log.level, &error));
    }
    errors
}

/// The fields that tell a request's id, to both sides.
fn check_request_id(config: &Config, errors: &mut Vec<ConfigError>) {
    let model::RequestId { header, trust, respond } = &config.server.request_id;
    for (key, name) in [("header", header), ("respond", respond)] {
        if let Some(name) = name {
            let is_taken = !is_token(name) || is_server_owned(name.as_bytes()) || is_secret(name);
            if is_taken || name.eq_ignore_ascii_case("host") {
                let path = ["server".into(), "request_id".into(), key.into()];
                let expected = "the name of a header field for request ids, such as \"X-Request-Id\" (or null)";
                errors.push(ConfigError::at(&path, expected, quote(name)));
            }
        }
    }
    if header.is_none() && !trust.is_empty() {
        let path = ["server".into(), "request_id".into(), "trust".into()];
        let expected = "none while server.request_id.header is null: there is no field to take an id from";
        errors.push(ConfigError::at(&path, expected, "a list of networks"));
    }
}

/// Fields that hold credentials: what is accepted from one is shown in logs.
fn is_secret(name: &str) -> bool {
    ["authorization", "proxy-authorization", "cookie", "set-cookie"]
        .iter()
        .any(|other| name.eq_ignore_ascii_case(other))
}

fn check_log(config: &Config, errors: &mut Vec<ConfigError>) {
    if config.log.sample <= 0.0 {
        let expected = "a number above 0 (of none: log.access \"errors\")";
        errors.push(ConfigError::at(&["log".into(), "sample".into()], expected, config.log.sample.to_string()));
    }
}

fn explain_level(level: &str, error: &LogError) -> ConfigError {
    let path = ["log".into(), "level".into()];
    let expected = "off, error, warn, info, debug or trace, or such levels for targets (info,ringfort::conn=debug)";
    let suggestion = match error {
        LogError::UnknownLevel { found } => {
            let close = super::error::suggest(found, ["off", "error", "warn", "info", "debug", "trace"]);
            close.or_else(|| (found == "warning").then(|| "warn".to_owned()))
        }
        LogError::EmptyLevel
        | LogError::InvalidDirective { .. }
        | LogError::File { .. }
        | LogError::AlreadySet
        | LogError::NotSet => None,
    };
    ConfigError::at(&path, expected, quote(level)).suggesting(suggestion)
}

fn check_addresses(config: &Config, omissions: &Omissions, errors: &mut Vec<ConfigError>) {
    let listen: [Step; 2] = ["server".into(), "listen".into()];
    let admin: [Step; 2] = ["admin".into(), "listen".into()];
    for (index, address) in config.server.listen.iter().enumerate() {
        let earlier = config.server.listen[..index].iter().position(|other| overlap(*other, *address));
        // Equal ones are found by the schema.
        if let Some(earlier) = earlier.filter(|earlier| config.server.listen[*earlier] != *address) {
            let path = [&listen[..], &[index.into()]].concat();
            let expected = format!("an address that server.listen[{earlier}] does not cover already");
            errors.push(ConfigError::at(&path, expected, quote(&address.to_string())));
        }
    }
    if let Some(address) = config.admin.listen
        && config.server.listen.iter().any(|other| overlap(*other, address))
        && omissions.keeps(&listen)
        && omissions.keeps(&admin)
    {
        let expected = "an address that is not one of server.listen";
        errors.push(ConfigError::at(&admin, expected, quote(&address.to_string())));
    }
}

/// Whether both want the same port of the same address. Port 0 is a new one each time; `0.0.0.0` and `[::]` are every
/// address of their family, for IPv6 sockets take IPv6 alone here.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let same_address = one.ip() == other.ip()
        || one.is_ipv4() == other.is_ipv4() && (one.ip().is_unspecified() || other.ip().is_unspecified());
    one.port() == other.port() && one.port() != 0 && same_address
}

fn check_limits(config: &Config, omissions: &Omissions, errors: &mut Vec<ConfigError>) {
    let limits = &config.server.limits;
    let path = |key: &str| -> [Step; 3] { ["server".into(), "limits".into(), key.into()] };
    if limits.target > limits.head && omissions.keeps(&path("target")) && omissions.keeps(&path("head")) {
        let expected = format!("at most server.limits.head ({} bytes), of which it is a part", limits.head);
        errors.push(ConfigError::at(&path("target"), expected, format!("{} bytes", limits.target)));
    }
}

/// A pause that is allowed and ends with the total all the same would be a surprise.
fn check_totals(config: &Config, omissions: &Omissions, errors: &mut Vec<ConfigError>) {
    let timeouts = &config.server.timeouts;
    for (key, pause, total_key, total) in [
        ("body", timeouts.body, "body_total", timeouts.body_total),
        ("write", timeouts.write, "write_total", timeouts.write_total),
    ] {
        let path = |key: &str| -> [Step; 3] { ["server".into(), "timeouts".into(), key.into()] };
        if pause > total && omissions.keeps(&path(key)) && omissions.keeps(&path(total_key)) {
            let total = TimeSpan::from_millis(total.as_millis() as u64);
            let expected = format!("at most server.timeouts.{total_key} ({total}), of which it is a part");
            let found = TimeSpan::from_millis(pause.as_millis() as u64).to_string();
            errors.push(ConfigError::at(&path(key), expected, quote(&found)));
        }
    }
}

/// An executor that is not compiled in, or that cannot run on the driver.
fn check_executor(config: &Config) -> Option<ConfigError> {
    let place = |key: &str| -> [Step; 2] { ["cores".into(), key.into()] };
    let choice = ExecutorChoice::from(config.cores.executor);
    let driver = DriverChoice::from(config.cores.driver);
    match choice.resolve() {
        Err(missing) => {
            let expected = format!("an executor that this build has ({missing})");
            Some(ConfigError::at(&place("executor"), expected, quote(choice.name())))
        }
        Ok(executor) => executor.refusal(driver).map(|reason| {
            let expected = format!("a driver that cores.executor {} has ({reason})", quote(executor.name()));
            ConfigError::at(&place("driver"), expected, quote(driver.name()))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_overlap_by_port_and_family() {
        let overlap = |one: &str, other: &str| overlap(one.parse().unwrap(), other.parse().unwrap());
        assert!(overlap("127.0.0.1:80", "127.0.0.1:80"));
        assert!(overlap("0.0.0.0:80", "127.0.0.1:80"));
        assert!(overlap("[::]:80", "[::1]:80"));
        assert!(!overlap("[::]:80", "0.0.0.0:80"));
        assert!(!overlap("127.0.0.1:80", "127.0.0.2:80"));
        assert!(!overlap("127.0.0.1:0", "127.0.0.1:0"));
    }
}
