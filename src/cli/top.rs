//! `ringfort top`: a live view of the running server, from what its admin listener says.

use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::arguments::TopOptions;
use super::asking::{Answer, admin_address, ask};
use super::{Exit, Session};

/// How long the server may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Routes that are shown, the busiest first.
const ROUTES_SHOWN: usize = 10;
/// Servers that are shown: those that take no requests first.
const SERVERS_SHOWN: usize = 20;
/// Characters of a name that are shown.
const NAME_CHARS_MAX: usize = 40;
/// Has a terminal go to its first line and forget what is below.
const REDRAW: &str = "\x1b[H\x1b[J";

pub(super) fn top(session: &mut Session<'_>, options: &TopOptions) -> io::Result<Exit> {
    let address = match admin_address(session, options.admin, options.config.as_ref())? {
        Ok(address) => address,
        Err(exit) => return Ok(exit),
    };
    loop {
        let (status, upstreams) = match fetch(address) {
            Ok(fetched) => fetched,
            Err(reason) => {
                session.complain(format!("cannot ask the server at {address}: {reason}"))?;
                return Ok(Exit::Failed);
            }
        };
        let frame = draw(&status, &upstreams, &options.window);
        if options.once {
            write!(session.out, "{frame}")?;
            return Ok(Exit::Done);
        }
        write!(session.out, "{REDRAW}{frame}")?;
        session.out.flush()?;
        // Woken too early it would only draw once more.
        thread::park_timeout(Duration::from_secs(options.every));
    }
}

fn fetch(address: SocketAddr) -> Result<(Value, Value), String> {
    let get = |path| match ask(address, "GET", path, ANSWER_WITHIN) {
        Ok(Some(Answer { status: 200, body })) => Ok(body),
        Ok(Some(Answer { status, .. })) => Err(format!("{path} answers {status}")),
        Ok(None) => Err("what answers there is no admin listener of Ringfort".to_owned()),
        Err(error) => Err(error.to_string()),
    };
    Ok((get("/status")?, get("/upstreams")?))
}

/// All of one view. What the server does not say, as another version may, is shown as `-`.
fn draw(status: &Value, upstreams: &Value, window: &str) -> String {
    let mut out = String::new();
    let windows = status["metrics"]["windows"].as_array();
    let window = windows.into_iter().flatten().find(|one| one["window"] == window).unwrap_or(&Value::Null);
    // Writing to a string does not fail.
    let _ = draw_head(&mut out, status, window);
    let _ = draw_cores(&mut out, status, window);
    let _ = draw_routes(&mut out, window);
    let _ = draw_servers(&mut out, upstreams);
    out
}

fn draw_head(out: &mut String, status: &Value, window: &Value) -> std::fmt::Result {
    let process = &status["process"];
    writeln!(
        out,
        "ringfort {}  {} for {}  up {}  config {} ({} in use)  memory {}  cpu {}  files {}",
        text(&status["version"]),
        text(&status["phase"]),
        span(&status["phase_seconds"]),
        span(&status["uptime_seconds"]),
        text(&status["generation"]),
        text(&status["generations_live"]),
        bytes(&process["resident_bytes"]),
        span(&process["cpu_seconds"]),
        text(&process["open_fds"]),
    )?;
    let last = &status["reloads"]["last"];
    if last.is_object() && last["result"] != "success" {
        writeln!(out, "the last reload was {}: {}", text(&last["result"]), cut(&text(&last["detail"]), 160))?;
    }
    writeln!(out, "rates and times of the last {}\n", span(&window["seconds"]))
}

fn draw_cores(out: &mut String, status: &Value, window: &Value) -> std::fmt::Result {
    writeln!(
        out,
        "{:>5} {:<10} {:>7} {:>9} {:>9} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>11} {:>8}",
        "core", "state", "conns", "in flight", "req/s", "err/s", "p50", "p90", "p99", "p99.9", "max", "buffers", "beat"
    )?;
    let row = |out: &mut String, name: &str, state: &str, core: &Value, rates: &Value, beat: &Value| {
        let latency = &rates["latency"];
        writeln!(
            out,
            "{name:>5} {state:<10} {:>7} {:>9} {:>9} {:>8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>11} {:>8}",
            text(&core["connections_open"]),
            text(&core["requests_in_flight"]),
            rate(&rates["requests_per_second"]),
            rate(&rates["errors_per_second"]),
            nanos(&latency["p50_ns"]),
            nanos(&latency["p90_ns"]),
            nanos(&latency["p99_ns"]),
            nanos(&latency["p999_ns"]),
            nanos(&latency["max_ns"]),
            format!("{}/{}", text(&core["buffers_in_use"]), text(&core["buffers_total"])),
            span(beat),
        )
    };
    for worker in status["workers"].as_array().into_iter().flatten() {
        let of_core = |list: &Value| {
            let found = list.as_array().into_iter().flatten().find(|one| one["core"] == worker["core"]);
            found.cloned().unwrap_or_default()
        };
        let (core, rates) = (of_core(&status["metrics"]["cores"]), of_core(&window["cores"]));
        row(out, &text(&worker["core"]), &text(&worker["state"]), &core, &rates, &worker["heartbeat_age_seconds"])?;
    }
    row(out, "all", "", &Value::Null, &window["total"], &Value::Null)
}

fn draw_routes(out: &mut String, window: &Value) -> std::fmt::Result {
    let mut routes: Vec<_> = window["routes"].as_array().into_iter().flatten().collect();
    routes.sort_by(|a, b| number(&b["requests_per_second"]).total_cmp(&number(&a["requests_per_second"])));
    if routes.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{:<40} {:>9} {:>8} {:>9} {:>9} {:>9}", "route", "req/s", "err/s", "p50", "p99", "p99.9")?;
    for route in routes.into_iter().take(ROUTES_SHOWN) {
        let latency = &route["latency"];
        writeln!(
            out,
            "{:<40} {:>9} {:>8} {:>9} {:>9} {:>9}",
            cut(&text(&route["route"]), NAME_CHARS_MAX),
            rate(&route["requests_per_second"]),
            rate(&route["errors_per_second"]),
            nanos(&latency["p50_ns"]),
            nanos(&latency["p99_ns"]),
            nanos(&latency["p999_ns"]),
        )?;
    }
    Ok(())
}

fn draw_servers(out: &mut String, upstreams: &Value) -> std::fmt::Result {
    let mut servers = Vec::new();
    for upstream in upstreams["upstreams"].as_array().into_iter().flatten() {
        servers.extend(upstream["servers"].as_array().into_iter().flatten().map(|server| (upstream, server)));
    }
    if servers.is_empty() {
        return Ok(());
    }
    servers.sort_by_key(|(_, server)| server["state"] == "available");
    writeln!(
        out,
        "\n{:<24} {:<28} {:<12} {:>9} {:>6} {:>10} {:>8} {:>8} {:>9} {:>9} {:>9}",
        "upstream", "server", "state", "in flight", "open", "requests", "reused", "retries", "ewma", "p99", "waiting"
    )?;
    let left = servers.len().saturating_sub(SERVERS_SHOWN);
    for (upstream, server) in servers.into_iter().take(SERVERS_SHOWN) {
        let counters = &server["counters"];
        writeln!(
            out,
            "{:<24} {:<28} {:<12} {:>9} {:>6} {:>10} {:>8} {:>8} {:>9} {:>9} {:>9}",
            cut(&text(&upstream["name"]), 24),
            cut(&text(&server["address"]), 28),
            text(&server["state"]),
            text(&server["in_flight"]),
            text(&server["connections_open"]),
            text(&counters["requests"]),
            text(&counters["connection_reuses"]),
            text(&counters["retries"]),
            nanos(&server["latency_ewma_ns"]),
            nanos(&server["latency"]["p99_ns"]),
            text(&upstream["pending"]),
        )?;
    }
    if left > 0 {
        writeln!(out, "and {left} more: /upstreams")?;
    }
    Ok(())
}

/// A word or a number, without what could speak to the terminal.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.chars().filter(|char| !char.is_control()).collect(),
        other => other.to_string(),
    }
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some(_) => text.chars().take(most - 1).chain(['…']).collect(),
        None => text.to_owned(),
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(0.0)
}

fn rate(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |rate| format!("{rate:.1}"))
}

/// `12.5us`, `3.2ms`, `1.5s`.
fn nanos(value: &Value) -> String {
    match value.as_f64() {
        None => "-".to_owned(),
        Some(nanos) if nanos < 1e6 => format!("{:.1}us", nanos / 1e3),
        Some(nanos) if nanos < 1e9 => format!("{:.1}ms", nanos / 1e6),
        Some(nanos) => format!("{:.1}s", nanos / 1e9),
    }
}

/// `350ms`, `12s`, `5m`, `3h`, `2d`.
fn span(value: &Value) -> String {
    match value.as_f64() {
        None => "-".to_owned(),
        Some(seconds) if seconds < 1.0 => format!("{:.0}ms", seconds * 1e3),
        Some(seconds) if seconds < 120.0 => format!("{seconds:.0}s"),
        Some(seconds) if seconds < 7200.0 => format!("{:.0}m", seconds / 60.0),
        Some(seconds) if seconds < 172_800.0 => format!("{:.0}h", seconds / 3600.0),
        Some(seconds) => format!("{:.0}d", seconds / 86_400.0),
    }
}

fn bytes(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |bytes| format!("{:.1}MiB", bytes / 1024.0 / 1024.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn times_are_shown_in_the_unit_that_fits() {
        let shown: Vec<_> = [900.0, 12_500.0, 3.2e6, 1.5e9].iter().map(|value| nanos(&json!(value))).collect();
        assert_eq!(shown, ["0.9us", "12.5us", "3.2ms", "1.5s"]);
        let shown: Vec<_> = [0.35, 12.0, 300.0, 10_800.0, 200_000.0].iter().map(|value| span(&json!(value))).collect();
        assert_eq!(shown, ["350ms", "12s", "5m", "3h", "2d"]);
    }

    #[test]
    fn what_a_server_does_not_say_is_a_dash_and_nothing_speaks_to_the_terminal() {
        let frame = draw(&json!({}), &json!({}), "10s");
        assert!(frame.starts_with("ringfort -  - for -"), "{frame}");
        let upstreams = json!({"upstreams": [{"name": "a\u{1b}[2Jb", "servers": [{"address": "x".repeat(100)}]}]});
        let frame = draw(&json!({}), &upstreams, "10s");
        assert!(frame.contains("a[2Jb") && !frame.contains('\u{1b}'), "{frame:?}");
        assert!(frame.contains(&format!("{}…", "x".repeat(27))));
    }

    #[test]
    fn servers_that_take_no_requests_come_first_and_the_busiest_routes_too() {
        let server = |address: &str, state: &str| json!({"address": address, "state": state});
        let upstreams = json!({"upstreams": [{"name": "api", "servers": [server("one:1", "available"), server("two:2", "ejected")]}]});
        let routes =
            json!([{"route": "/slow", "requests_per_second": 1.0}, {"route": "/busy", "requests_per_second": 9.0}]);
        let status = json!({"metrics": {"windows": [{"window": "10s", "routes": routes}]}});
        let frame = draw(&status, &upstreams, "10s");
        let place = |text: &str| frame.find(text).unwrap_or_else(|| panic!("{text}: {frame}"));
        assert!(place("two:2") < place("one:1") && place("/busy") < place("/slow"));
    }
}
