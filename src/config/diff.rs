//! What differs between two configs, in the words of an operator: what a reload would open, close, add, remove and change,
//! and what it cannot change.
//!
//! Routes are told apart by what they match, upstreams by their names, servers and listening sockets by their addresses:
//! a route that moves within the list has not changed. The rest is compared key by key.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;

use serde::Serialize;
use serde_json::{Map, Value};

use super::error::{Place, Step, quote_value};
use super::model::{Config, Match, PluginUse, Route, Upstream};

/// What a reload leaves as it is: the key, and why.
const FIXED: &[(&[&str], &str)] = &[
    (&["cores"], "workers, their cores and rings are made at the start"),
    (&["admin"], "the admin listener stays open, as it answers reloads"),
    (&["log", "format"], "the log is set up at the start"),
    (&["log", "file"], "the log is set up at the start"),
    (&["server", "timeouts", "pre_stop_delay"], "the way to stop is settled at the start"),
    (&["reload"], "whether the file is watched is settled at the start"),
];

/// What differs between two configs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Changes {
    /// Addresses that are listened on.
    pub listeners: Names,
    /// Routes, by what they match.
    pub routes: Names,
    /// Global plugins by name.
    pub plugins: Names,
    /// Upstreams by name.
    pub upstreams: Names,
    /// What has changed inside the upstreams that changed: servers that came, went or are others, and other keys.
    pub upstream_details: Vec<Change>,
    /// Other values.
    pub settings: Vec<Change>,
    /// Values that no reload changes.
    pub fixed: Vec<Fixed>,
}

/// What came, went and changed among things that have names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Names {
    /// Only in the new one.
    pub added: Vec<String>,
    /// Only in the old one.
    pub removed: Vec<String>,
    /// In both, and not the same.
    pub changed: Vec<String>,
}

/// A value that differs. `null` stands for one that is not there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Where: `server.timeouts.idle`.
    pub path: String,
    /// In the old config.
    pub old: Value,
    /// In the new one.
    pub new: Value,
}

/// A value that differs and that a reload cannot change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fixed {
    /// What differs.
    #[serde(flatten)]
    pub change: Change,
    /// Why no reload changes it.
    pub reason: &'static str,
}

impl Names {
    fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }

    /// Compares two sets of named things, in one pass over both; the order is that of the names.
    fn compare<T: PartialEq>(old: &BTreeMap<String, T>, new: &BTreeMap<String, T>) -> Self {
        let mut names = Self::default();
        let (mut olds, mut news) = (old.iter().peekable(), new.iter().peekable());
        loop {
            let order = match (olds.peek(), news.peek()) {
                (None, None) => return names,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((one, _)), Some((other, _))) => one.cmp(other),
            };
            let before = if order.is_le() { olds.next() } else { None };
            let after = if order.is_ge() { news.next() } else { None };
            match (before, after) {
                (Some((_, before)), Some((_, after))) if before == after => {}
                (Some((name, _)), Some(_)) => names.changed.push(name.clone()),
                (Some((name, _)), None) => names.removed.push(name.clone()),
                (None, Some((name, _))) => names.added.push(name.clone()),
                (None, None) => {}
            }
        }
    }
}

impl Changes {
    /// What differs between these configs.
    pub fn between(old: &Config, new: &Config) -> Self {
        let mut changes = Self {
            listeners: Names::compare(&listeners(old), &listeners(new)),
            plugins: Names::compare(&plugins(old), &plugins(new)),
            routes: Names::compare(&routes(old), &routes(new)),
            upstreams: Names::compare(&old.upstreams, &new.upstreams),
            ..Self::default()
        };
        if changes.routes.is_empty() && orders(old) != orders(new) {
            changes.routes.changed.push("(their order, where conditions tell routes of one path apart)".to_owned());
        }
        if changes.plugins.is_empty() && old.plugins != new.plugins {
            changes.plugins.changed.push("(their order)".to_owned());
        }
        for name in &changes.upstreams.changed {
            if let (Some(old), Some(new)) = (old.upstreams.get(name), new.upstreams.get(name)) {
                compare_upstreams(name, old, new, &mut changes.upstream_details);
            }
        }
        let mut settings = Vec::new();
        compare_values(&mut Vec::new(), &rest(old), &rest(new), &mut settings);
        for (steps, change) in settings {
            let keys = |key: &&(&[&str], _)| key.0.iter().map(|key| Step::from(*key)).collect::<Vec<_>>();
            match FIXED.iter().find(|fixed| steps.starts_with(&keys(fixed))) {
                Some((_, reason)) => changes.fixed.push(Fixed { change, reason }),
                None => changes.settings.push(change),
            }
        }
        changes
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether a reload can make them.
    pub fn can_be_reloaded(&self) -> bool {
        self.fixed.is_empty()
    }

    /// How much differs, in one line for a log.
    pub fn summary(&self) -> String {
        let mut parts = Vec::new();
        for (what, names) in self.names() {
            for (verb, count) in
                [("added", names.added.len()), ("removed", names.removed.len()), ("changed", names.changed.len())]
            {
                if count > 0 {
                    parts.push(format!("{what}: {count} {verb}"));
                }
            }
        }
        if !self.settings.is_empty() {
            parts.push(format!("settings: {} changed", self.settings.len()));
        }
        if parts.is_empty() { "no change".to_owned() } else { parts.join(", ") }
    }

    fn names(&self) -> [(&'static str, &Names); 4] {
        [
            ("listeners", &self.listeners),
            ("plugins", &self.plugins),
            ("routes", &self.routes),
            ("upstreams", &self.upstreams),
        ]
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("no change");
        }
        let mut lines = Vec::new();
        for (what, names) in self.names() {
            let what = what.trim_end_matches('s');
            for (sign, verb, names) in
                [("+", "added", &names.added), ("-", "removed", &names.removed), ("~", "changed", &names.changed)]
            {
                lines.extend(names.iter().map(|name| format!("{sign} {what} {verb}: {name}")));
            }
        }
        let values = self.upstream_details.iter().chain(&self.settings);
        lines.extend(values.map(|change| format!("~ {change}")));
        lines.extend(self.fixed.iter().map(|fixed| format!("! {}: not by a reload: {}", fixed.change, fixed.reason)));
        f.write_str(&lines.join("\n"))
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |value: &Value| if value.is_null() { "(nothing)".to_owned() } else { quote_value(value) };
        write!(f, "{}: {} -> {}", self.path, show(&self.old), show(&self.new))
    }
}

fn listeners(config: &Config) -> BTreeMap<String, SocketAddr> {
    config.server.listen.iter().map(|address| (address.to_string(), *address)).collect()
}

/// The global plugins by name; of several with one name the later ones are numbered.
fn plugins(config: &Config) -> BTreeMap<String, &PluginUse> {
    let mut plugins = BTreeMap::new();
    for plugin in &config.plugins {
        let count = config.plugins.iter().take_while(|other| !std::ptr::eq(*other, plugin));
        let before = count.filter(|other| other.name == plugin.name).count();
        let name = if before == 0 { plugin.name.clone() } else { format!("{} ({})", plugin.name, before + 1) };
        plugins.insert(name, plugin);
    }
    plugins
}

/// The routes by what they match; the match itself is the name, so a route that matches otherwise is another one.
fn routes(config: &Config) -> BTreeMap<String, &Route> {
    config.routes.iter().map(|route| (name_match(&route.matcher), route)).collect()
}

/// The routes of each path, in the order in which they are tried.
fn orders(config: &Config) -> BTreeMap<(Option<&str>, &str), Vec<String>> {
    let mut orders = BTreeMap::<_, Vec<_>>::new();
    for Route { matcher, .. } in &config.routes {
        orders.entry((matcher.host.as_deref(), matcher.path.as_str())).or_default().push(name_match(matcher));
    }
    orders
}

/// `GET,POST example.com/users/:id {"headers": …}`.
fn name_match(matcher: &Match) -> String {
    let Match { host, path, methods, headers, query, cookies } = matcher;
    if methods.is_empty() && [headers, query, cookies].iter().all(|conditions| conditions.is_empty()) {
        return [host.as_deref().unwrap_or_default(), path].concat();
    }
    let mut value = serde_json::to_value(matcher).unwrap_or_default();
    let mut name = String::new();
    if let Value::Object(members) = &mut value {
        let mut take = |key: &str| members.remove(key).filter(|value| !value.is_null());
        if let Some(Value::Array(methods)) = take("methods").filter(|methods| *methods != Value::Array(Vec::new())) {
            let methods: BTreeSet<_> = methods.iter().filter_map(Value::as_str).collect();
            name.push_str(&methods.into_iter().collect::<Vec<_>>().join(","));
            name.push(' ');
        }
        for key in ["host", "path"] {
            name.push_str(take(key).as_ref().and_then(Value::as_str).unwrap_or_default());
        }
        members.retain(|_, value| !value.is_null() && value.as_object().is_none_or(|object| !object.is_empty()));
        if !members.is_empty() {
            name.push(' ');
            name.push_str(&value.to_string());
        }
    }
    name
}

fn compare_upstreams(name: &str, old: &Upstream, new: &Upstream, changes: &mut Vec<Change>) {
    let split = |upstream: &Upstream| {
        let mut value = serde_json::to_value(upstream).unwrap_or_default();
        let servers = value.as_object_mut().and_then(|members| members.remove("servers")).unwrap_or_default();
        let servers = servers.as_array().into_iter().flatten().map(|server| {
            let address = server.get("address").and_then(Value::as_str).unwrap_or_default().to_owned();
            (address, server.clone())
        });
        (servers.collect::<BTreeMap<_, _>>(), value)
    };
    let ((old_servers, old), (new_servers, new)) = (split(old), split(new));
    let base = vec![Step::from("upstreams"), name.into()];
    for address in old_servers.keys().chain(new_servers.keys()).collect::<BTreeSet<_>>() {
        let [old, new] = [&old_servers, &new_servers].map(|servers| servers.get(address).cloned().unwrap_or_default());
        if old != new {
            let steps = [&base[..], &["servers".into(), address.as_str().into()]].concat();
            changes.push(Change { path: Place::at(&steps).to_string(), old, new });
        }
    }
    let mut rest = Vec::new();
    compare_values(&mut base.clone(), &old, &new, &mut rest);
    changes.extend(rest.into_iter().map(|(_, change)| change));
}

/// The config without what is compared by name, which may be most of it.
fn rest(config: &Config) -> Value {
    let Config { schema: _, server, cores, admin, log, reload, resolver, wasm, upstreams: _, plugins: _, routes: _ } =
        config;
    let parts = [
        ("server", serde_json::to_value(server)),
        ("cores", serde_json::to_value(cores)),
        ("admin", serde_json::to_value(admin)),
        ("log", serde_json::to_value(log)),
        ("reload", serde_json::to_value(reload)),
        ("resolver", serde_json::to_value(resolver)),
        ("wasm", serde_json::to_value(wasm)),
    ];
    let mut rest: Map<_, _> = parts.into_iter().map(|(key, part)| (key.to_owned(), part.unwrap_or_default())).collect();
    if let Some(server) = rest.get_mut("server").and_then(Value::as_object_mut) {
        server.remove("listen");
    }
    Value::Object(rest)
}

/// Every value that is no object and differs.
fn compare_values(steps: &mut Vec<Step>, old: &Value, new: &Value, changes: &mut Vec<(Vec<Step>, Change)>) {
    match (old, new) {
        (Value::Object(before), Value::Object(after)) => {
            for key in before.keys().chain(after.keys()).collect::<BTreeSet<_>>() {
                steps.push(key.as_str().into());
                let [old, new] = [before, after].map(|members| members.get(key).unwrap_or(&Value::Null));
                compare_values(steps, old, new, changes);
                steps.pop();
            }
        }
        (old, new) if old != new => {
            let path = Place::at(steps).to_string();
            changes.push((steps.clone(), Change { path, old: old.clone(), new: new.clone() }));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::load_text;
    use super::*;

    fn changes(old: &str, new: &str) -> Changes {
        let load = |text: &str| load_text(text.as_bytes()).unwrap_or_else(|errors| panic!("{errors:?}"));
        Changes::between(&load(old), &load(new))
    }

    #[test]
    fn a_config_does_not_differ_from_itself_nor_from_one_with_its_defaults_written_out() {
        let config = r#"{"routes": [{"match": {"path": "/"}, "respond": {"text": "a"}}]}"#;
        assert!(changes(config, config).is_empty());
        assert!(changes("{}", r#"{"server": {"timeouts": {"idle": "75s"}}, "log": {"level": "info"}}"#).is_empty());
        assert_eq!(changes("{}", "{}").to_string(), "no change");
    }

    #[test]
    fn routes_are_told_apart_by_what_they_match() {
        let old = r#"{"routes": [{"match": {"path": "/a"}, "respond": {"text": "a"}},
            {"match": {"path": "/b", "methods": ["PUT", "GET"]}, "respond": {"text": "b"}},
            {"match": {"path": "/c"}, "respond": {"text": "c"}}]}"#;
        let new = r#"{"routes": [{"match": {"path": "/b", "methods": ["GET", "PUT"]}, "respond": {"text": "other"}},
            {"match": {"path": "/a"}, "respond": {"text": "a"}},
            {"match": {"host": "x.org", "path": "/c", "headers": {"x-a": "1"}}, "respond": {"text": "c"}}]}"#;
        let Names { added, removed, changed } = changes(old, new).routes;
        assert_eq!(changed, ["GET,PUT /b"]);
        assert_eq!(removed, ["/c"]);
        assert!(added.len() == 1 && added[0].starts_with("x.org/c {"), "{added:?}");
    }

    #[test]
    fn plugins_are_told_apart_by_their_names() {
        let list = |plugins: &str| format!(r#"{{"plugins": [{plugins}]}}"#);
        let (one, two) = (r#"{"use": "request-id"}"#, r#"{"use": "headers", "name": "x"}"#);
        let other = r#"{"use": "headers", "name": "x", "enabled": false}"#;
        let plugins = |old: &[&str], new: &[&str]| changes(&list(&old.join(",")), &list(&new.join(","))).plugins;
        assert_eq!(plugins(&[one, two], &[one, other]).changed, ["x"]);
        assert_eq!(plugins(&[one, two], &[two, one]).changed, ["(their order)"]);
        let twice = plugins(&[one], &[one, one, two]);
        assert_eq!((twice.added, twice.changed.len()), (vec!["request-id (2)".to_owned(), "x".to_owned()], 0));
    }

    #[test]
    fn the_order_of_routes_counts_where_conditions_tell_them_apart() {
        let route = |header: &str| {
            format!(r#"{{"match": {{"path": "/", "headers": {{"{header}": "1"}}}}, "respond": {{"text": "a"}}}}"#)
        };
        let list = |routes: [String; 2]| format!(r#"{{"routes": [{}]}}"#, routes.join(","));
        let changes = changes(&list([route("x-a"), route("x-b")]), &list([route("x-b"), route("x-a")]));
        assert_eq!(changes.routes.changed.len(), 1);
        assert!(changes.can_be_reloaded());
    }

    #[test]
    fn of_an_upstream_the_servers_and_keys_that_differ_are_named() {
        let old = r#"{"upstreams": {"api": {"servers": [{"address": "127.0.0.1:1"}, {"address": "127.0.0.1:2"}]}}}"#;
        let new = r#"{"upstreams": {"api": {"balance": "random", "servers": [{"address": "127.0.0.1:2", "weight": 5},
            {"address": "127.0.0.1:3"}]}}}"#;
        let changes = changes(old, new);
        assert_eq!(changes.upstreams.changed, ["api"]);
        let paths: Vec<_> = changes.upstream_details.iter().map(|change| change.path.as_str()).collect();
        let server = |port| format!("upstreams.api.servers[\"127.0.0.1:{port}\"]");
        assert_eq!(paths, [&server(1), &server(2), &server(3), "upstreams.api.balance"]);
        assert!(changes.upstream_details[0].new.is_null() && changes.upstream_details[2].old.is_null());
    }

    #[test]
    fn what_no_reload_changes_is_named_with_its_reason() {
        let changes = changes(
            "{}",
            r#"{"cores": {"workers": 3, "ring": {"entries": 512}}, "server": {"timeouts": {"idle": "1s"}}}"#,
        );
        assert!(!changes.can_be_reloaded());
        let fixed: Vec<_> = changes.fixed.iter().map(|fixed| fixed.change.path.as_str()).collect();
        assert_eq!(fixed, ["cores.ring.entries", "cores.workers"]);
        assert_eq!(changes.settings.len(), 1);
        let text = changes.to_string();
        assert!(text.contains("~ server.timeouts.idle: \"75s\" -> \"1s\""), "{text}");
        assert!(text.contains("! cores.workers: \"auto\" -> 3: not by a reload: workers"), "{text}");
    }

    #[test]
    fn listeners_come_and_go_by_their_addresses() {
        let changes = changes(
            r#"{"server": {"listen": ["127.0.0.1:1", "127.0.0.1:2"]}}"#,
            r#"{"server": {"listen": ["127.0.0.1:2", "127.0.0.1:3"]}}"#,
        );
        assert_eq!(changes.listeners.added, ["127.0.0.1:3"]);
        assert_eq!(changes.listeners.removed, ["127.0.0.1:1"]);
        assert_eq!(changes.summary(), "listeners: 1 added, listeners: 1 removed");
    }
}
