//! `/cache`: what caches keep, and how they are made to forget it.

use serde_json::json;

use super::{answer_json, is_of_a_page, send_problem, state};
use crate::handler::{Exchange, Failure, Reply, decode_percent};
use crate::http::Status;
use crate::plugin::{KeptSample, Purge, PurgePath};

pub(super) fn list(exchange: &mut Exchange<'_>) -> Reply {
    let snapshot = state(exchange)?.snapshot();
    let caches = snapshot.plugins.iter().filter_map(|instance| {
        let KeptSample { entries, bytes, bytes_max, hits, misses, stored, evicted } =
            instance.plugin().kept()?.sample();
        Some(json!({
            "plugin": instance.name(),
            "entries": entries,
            "bytes": bytes,
            "bytes_max": bytes_max,
            "hits": hits,
            "misses": misses,
            "stored": stored,
            "evicted": evicted,
        }))
    });
    let caches: Vec<_> = caches.collect();
    answer_json(exchange, Status::OK, &json!({ "caches": caches }))
}

/// What a purge names.
#[derive(Default)]
struct Wanted {
    plugin: Option<Vec<u8>>,
    host: Option<Vec<u8>>,
    path: Option<Vec<u8>>,
    prefix: Option<Vec<u8>>,
    all: bool,
}

pub(super) fn purge(exchange: &mut Exchange<'_>) -> Reply {
    let snapshot = state(exchange)?.snapshot();
    if is_of_a_page(&exchange.request) {
        return Err(Failure::Status(Status::FORBIDDEN, "a request that a web page makes changes nothing here"));
    }
    let wanted = match read(exchange.request.query().unwrap_or_default()) {
        Ok(wanted) => wanted,
        Err(detail) => return send_problem(exchange, Status::BAD_REQUEST, json!({ "detail": detail })),
    };
    let path = match (&wanted.path, &wanted.prefix) {
        (Some(path), _) => PurgePath::Exact(path),
        (None, Some(prefix)) => PurgePath::Prefix(prefix),
        (None, None) => PurgePath::All,
    };
    let purge = Purge { host: wanted.host.as_deref(), path };
    let (mut caches, mut purged) = (0, 0);
    for instance in snapshot.plugins.iter() {
        let is_named = wanted.plugin.as_ref().is_none_or(|name| instance.name().as_bytes() == name);
        if let Some(kept) = instance.plugin().kept().filter(|_| is_named) {
            caches += 1;
            purged += kept.purge(&purge);
        }
    }
    if caches == 0 {
        let known: Vec<_> =
            snapshot.plugins.iter().filter(|one| one.plugin().kept().is_some()).map(|one| one.name()).collect();
        let detail = "there is no such cache";
        return send_problem(exchange, Status::NOT_FOUND, json!({ "detail": detail, "known": known }));
    }
    tracing::info!(purged, caches, peer = %exchange.request.peer(), "the operator purges caches");
    answer_json(exchange, Status::OK, &json!({ "purged": purged, "caches": caches }))
}

/// What the query of a purge names: `path` or `prefix` or `all`, of a `host` or of all, of a `plugin` or of all.
fn read(query: &str) -> Result<Wanted, &'static str> {
    let mut wanted = Wanted::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let mut text = Vec::new();
        decode_percent(value.as_bytes(), &mut text);
        let slot = match name {
            "plugin" => &mut wanted.plugin,
            "host" => {
                text.make_ascii_lowercase();
                &mut wanted.host
            }
            "path" => &mut wanted.path,
            "prefix" => &mut wanted.prefix,
            "all" if value.is_empty() || value == "true" => {
                wanted.all = true;
                continue;
            }
            _ => return Err("expected path, prefix, all, host and plugin in the query, found something else"),
        };
        if slot.replace(text).is_some() {
            return Err("a name stands in the query twice");
        }
    }
    match (&wanted.path, &wanted.prefix, wanted.all, &wanted.host) {
        (Some(_), None, false, _)
        | (None, Some(_), false, _)
        | (None, None, true, _)
        | (None, None, false, Some(_)) => Ok(wanted),
        _ => Err("expected one of path, prefix and all in the query, or a host alone"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purge_says_what_it_means() {
        for good in ["path=/a", "prefix=/a%2Fb&host=X", "all", "all=true&plugin=c", "host=x"] {
            assert!(read(good).is_ok(), "{good}");
        }
        for bad in ["", "plugin=c", "path=/a&prefix=/b", "all&path=/a", "path=/a&path=/b", "url=/a", "all=no"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(read("prefix=/a%20b&host=EXAMPLE.com").unwrap().host.as_deref(), Some(&b"example.com"[..]));
        assert_eq!(read("prefix=/a%20b").unwrap().prefix.as_deref(), Some(&b"/a b"[..]));
    }
}
