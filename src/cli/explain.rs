//! `ringfort explain`: which route a request gets, why the others lost, and what runs.
//!
//! The request is made into bytes and goes through the parser of real ones, so that it is normalised, or refused, as it
//! would be by the server.

use std::io;
use std::sync::Arc;

use serde_json::{Value, json};

use super::arguments::ExplainOptions;
use super::listing::{align, describe_methods, methods_json};
use super::upstreams::{describe_proxy, upstream_lines, upstreams_json};
use super::{Exit, Session};
use crate::config::model::{Action, Proxy, Respond};
use crate::config::{Host, Snapshot, build_router};
use crate::handler::{Predicate, PredicateSet};
use crate::http::error::HeadError;
use crate::http::target::TargetForm;
use crate::http::{Head, MethodSet, Parse, RequestHead, Status, parse_head};
use crate::plugin::{Chain, Hook, Instance, OnFailure};
use crate::router::explain::{Explanation, Reason};
use crate::router::{Lookup, RouteId, RouteInfo, Router};

/// Routes that are asked together, and what they are called.
struct Source<'r> {
    /// `routes` for the config's, as its own errors call them; `application` for const tables.
    name: String,
    router: Router<'r>,
    /// The config and what was made of it, for the routes that are its.
    snapshot: Option<&'r Snapshot>,
}

/// What becomes of the request.
enum Verdict<'r> {
    /// It is no request that is routed.
    Refused(HeadError),
    /// The server answers for itself: `CONNECT`, `OPTIONS *`.
    Server(Status),
    Route {
        source: &'r Source<'r>,
        id: RouteId,
        params: Vec<(String, String)>,
    },
    MethodNotAllowed {
        source: &'r Source<'r>,
        allow: MethodSet,
        options: bool,
    },
    /// No route has the path, or none for the method has conditions that hold.
    NotFound,
}

/// What was asked and why it was so decided.
struct Report<'r> {
    verdict: Verdict<'r>,
    losers: Vec<Loser<'r>>,
    /// Losers that are not listed.
    omitted: usize,
    /// Sources that were not asked.
    unasked: Vec<&'r Source<'r>>,
}

struct Loser<'r> {
    source: &'r Source<'r>,
    id: RouteId,
    reason: Reason,
    /// The conditions that do not hold, in words.
    failed: Vec<String>,
}

pub(super) fn explain(session: &mut Session<'_>, options: &ExplainOptions) -> io::Result<Exit> {
    let input = session.input(options.config.as_ref());
    let prepared = match session.prepare(&input, &Host::read()) {
        Ok(prepared) => prepared,
        Err(failure) => return session.refuse(&failure),
    };
    let snapshot = &prepared.snapshot;
    let Ok(own) = build_router(&snapshot.config) else {
        session.complain("the routes cannot be built")?;
        return Ok(Exit::Failed);
    };
    let tables = &session.application.tables;
    let mut sources: Vec<Source<'_>> = Vec::new();
    for (at, table) in tables.iter().enumerate() {
        let name = if tables.len() == 1 { "application".to_owned() } else { format!("application.{at}") };
        sources.push(Source { name, router: table.router(), snapshot: None });
    }
    sources.push(Source { name: "routes".to_owned(), router: own.as_router(), snapshot: Some(snapshot) });

    let bytes = request_bytes(options);
    let mut head = Head::new();
    let parsed = parse_head(&bytes, &prepared.snapshot.settings.head, &mut head);
    let view = matches!(parsed, Ok(Parse::Complete)).then(|| head.view(&bytes));
    let report = match (&view, parsed) {
        (Some(view), _) => decide(view, &sources),
        (None, Err(error)) => Report::without_routes(Verdict::Refused(error)),
        // Its last line is empty, so only the bound can have cut it.
        (None, Ok(_)) => Report::without_routes(Verdict::Refused(HeadError::HeadTooLarge)),
    };
    if options.json {
        session.say_json(&report.json(view.as_ref(), options))?;
    } else {
        for line in report.lines(view.as_ref(), options) {
            session.say(line)?;
        }
    }
    Ok(Exit::Done)
}

/// The request as a client would send it: a URL's host goes into `Host`, the rest is the target.
fn request_bytes(options: &ExplainOptions) -> Vec<u8> {
    let (mut host, mut target) = (None, options.url.clone());
    if let Some((scheme, rest)) = options.url.split_once("://")
        && ["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known))
    {
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        host = Some(authority.to_owned());
        target = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    }
    if options.method == "CONNECT" {
        // The authority form: `Host` must say the same.
        host = Some(target.clone());
    }
    // A client keeps the fragment to itself (RFC 9110 section 7.1).
    target.truncate(target.find('#').unwrap_or(target.len()));
    let mut text = format!("{} {target} HTTP/1.1\r\n", options.method);
    let names_host = options.headers.iter().any(|field| field.to_ascii_lowercase().starts_with("host:"));
    if !names_host {
        text.push_str(&format!("Host: {}\r\n", host.as_deref().unwrap_or("localhost")));
    }
    for field in &options.headers {
        text.push_str(field);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text.into_bytes()
}

/// As `handler::Routes::find` decides: the first source that knows the path.
fn decide<'r>(head: &RequestHead<'_>, sources: &'r [Source<'r>]) -> Report<'r> {
    match head.form() {
        TargetForm::Origin | TargetForm::Absolute if head.path().starts_with('/') => {}
        TargetForm::Authority => return Report::without_routes(Verdict::Server(Status::NOT_IMPLEMENTED)),
        _ => return Report::without_routes(Verdict::Server(Status::NO_CONTENT)),
    }
    let mut report = Report::without_routes(Verdict::NotFound);
    for (at, source) in sources.iter().enumerate() {
        let Explanation { outcome, spans, losers, omitted } =
            source.router.explain(head.host(), head.path(), head.method(), |id| source.holds(id, head));
        report.losers.extend(losers.into_iter().map(|loser| {
            let failed = match loser.reason {
                Reason::PredicatesFail => source.failed(loser.route, head),
                _ => Vec::new(),
            };
            Loser { source, id: loser.route, reason: loser.reason, failed }
        }));
        report.omitted += omitted;
        report.verdict = match outcome {
            Lookup::Found(found) => {
                let params = found.params(&spans).iter(head.path());
                let params = params.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
                Verdict::Route { source, id: found.route, params }
            }
            Lookup::MethodNotAllowed(allow) => {
                let options = head.method() == crate::http::Method::Options;
                Verdict::MethodNotAllowed { source, allow, options }
            }
            Lookup::NotFound => continue,
        };
        report.unasked = sources[at + 1..].iter().filter(|later| !later.router.is_empty()).collect();
        break;
    }
    report
}

impl Source<'_> {
    /// `routes[3]`.
    fn label(&self, id: RouteId) -> String {
        format!("{}[{}]", self.name, id.0)
    }

    fn info(&self, id: RouteId) -> Option<RouteInfo<'_>> {
        self.router.route(id)
    }

    fn action(&self, id: RouteId) -> Option<&Action> {
        Some(&self.snapshot?.config.routes.get(id.index())?.action)
    }

    fn proxy(&self, id: RouteId) -> Option<(&Proxy, &Snapshot)> {
        match self.action(id)? {
            Action::Proxy(proxy) => Some((proxy, self.snapshot?)),
            Action::Respond(_) | Action::Files(_) | Action::Redirect(_) => None,
        }
    }

    fn predicates(&self, id: RouteId) -> Option<&PredicateSet> {
        // The config's routes are the last ones.
        let routes = &self.snapshot?.routes;
        routes.predicates(routes.names().len().checked_sub(self.router.len())? + id.index())
    }

    fn holds(&self, id: RouteId, head: &RequestHead<'_>) -> bool {
        self.predicates(id).is_none_or(|set| set.holds(head))
    }

    fn failed(&self, id: RouteId, head: &RequestHead<'_>) -> Vec<String> {
        self.predicates(id).into_iter().flat_map(|set| set.failed(head)).map(Predicate::to_string).collect()
    }

    /// The conditions of a route, in words.
    fn conditions(&self, id: RouteId) -> Vec<String> {
        self.predicates(id).into_iter().flat_map(PredicateSet::iter).map(Predicate::to_string).collect()
    }

    /// The plugins that a request to this route goes through, in order, each with its hooks.
    fn plugins(&self, id: RouteId) -> Vec<String> {
        let Some(snapshot) = self.snapshot else { return Vec::new() };
        describe_plugins(snapshot.chains.1.get(id.index()).and_then(Option::as_deref))
    }

    /// What answers a request to this route.
    fn runs(&self, id: RouteId) -> String {
        match self.action(id) {
            None => "a handler of the application".to_owned(),
            Some(Action::Respond(respond)) => format!("respond {} with {}", respond.status, describe_body(respond)),
            Some(Action::Files(files)) => format!("files below {}", files.root),
            Some(Action::Redirect(redirect)) => format!("redirect {} to {}", redirect.status, redirect.to),
            Some(Action::Proxy(proxy)) => describe_proxy(proxy),
        }
    }

    fn kind(&self, id: RouteId) -> &'static str {
        self.action(id).map_or("application", Action::name)
    }

    fn json(&self, id: RouteId) -> Value {
        let info = self.info(id);
        json!({
            "source": self.name,
            "index": id.0,
            "host": info.and_then(|info| info.host),
            "methods": info.map(|info| methods_json(info.methods)),
            "path": info.map(|info| info.pattern),
            "handler": self.kind(id),
            "when": self.conditions(id),
            "plugins": self.plugins(id),
            "runs": self.runs(id),
            "upstreams": self.proxy(id).map(|(proxy, snapshot)| upstreams_json(proxy, &snapshot.upstreams.specs())),
        })
    }
}

/// `cors (pre_handler, post_handler)`, in the order of requests.
fn describe_plugins(chain: Option<&Chain>) -> Vec<String> {
    let describe = |instance: &Arc<Instance>| {
        let hooks = Hook::ALL.iter().filter(|hook| instance.hooks().has(**hook)).map(|hook| hook.name());
        let kind = if instance.name() == instance.kind() { String::new() } else { format!("{}: ", instance.kind()) };
        let open = if instance.on_failure() == OnFailure::Open { "; goes on when it fails" } else { "" };
        format!("{} ({kind}{}{open})", instance.name(), hooks.collect::<Vec<_>>().join(", "))
    };
    chain.into_iter().flat_map(Chain::iter).map(describe).collect()
}

fn describe_body(respond: &Respond) -> String {
    match (&respond.text, &respond.json, &respond.base64) {
        (Some(text), _, _) => format!("text of {} bytes", text.len()),
        (_, Some(_), _) => "JSON".to_owned(),
        (_, _, Some(_)) => "bytes".to_owned(),
        (None, None, None) => "no body".to_owned(),
    }
}

/// A reason, with routes under their own source's name.
fn describe_reason(loser: &Loser<'_>) -> String {
    let source = loser.source;
    match loser.reason {
        Reason::TriedLater { by } => format!("matches too, but {} is tried before it", source.label(by)),
        Reason::LessSpecificPath { by } => format!("path matches, but that of {} is more specific", source.label(by)),
        Reason::LessSpecificHost { by } => format!("matches, but the host of {} is more specific", source.label(by)),
        Reason::MethodNotTaken { methods } => {
            format!("same path, but it takes only {}", describe_methods(methods))
        }
        Reason::PredicatesFail => format!("same path, but it is not so that {}", loser.failed.join(", nor that ")),
        Reason::HostDiffers { .. } | Reason::PathDiffers { .. } => loser.reason.to_string(),
    }
}

impl<'r> Report<'r> {
    fn without_routes(verdict: Verdict<'r>) -> Self {
        Self { verdict, losers: Vec::new(), omitted: 0, unasked: Vec::new() }
    }

    /// The status that the server itself answers with, where no route does.
    fn status(&self) -> Option<Status> {
        match &self.verdict {
            Verdict::Refused(error) => Some(error.status()),
            Verdict::Server(status) => Some(*status),
            Verdict::Route { .. } => None,
            Verdict::MethodNotAllowed { options: true, .. } => Some(Status::NO_CONTENT),
            Verdict::MethodNotAllowed { options: false, .. } => Some(Status::METHOD_NOT_ALLOWED),
            Verdict::NotFound => Some(Status::NOT_FOUND),
        }
    }

    fn outcome(&self) -> &'static str {
        match self.verdict {
            Verdict::Refused(_) => "refused",
            Verdict::Server(_) => "server",
            Verdict::Route { .. } => "route",
            Verdict::MethodNotAllowed { options: true, .. } => "options",
            Verdict::MethodNotAllowed { options: false, .. } => "method not allowed",
            Verdict::NotFound => "not found",
        }
    }

    fn lines(&self, head: Option<&RequestHead<'_>>, options: &ExplainOptions) -> Vec<String> {
        let mut lines = vec![format!("{} {}", options.method, options.url)];
        if let Some(head) = head {
            let same = head.raw_path() == head.path();
            let sent = if same { String::new() } else { format!("   (sent as {})", head.raw_path()) };
            lines.push(format!("  host    {}", head.host().unwrap_or("none")));
            lines.push(format!("  path    {}{sent}", head.path()));
            lines.extend(head.query().map(|query| format!("  query   {query}")));
        }
        lines.extend(self.verdict_lines());
        let losers = self.losers.iter().map(|loser| {
            let info = loser.source.info(loser.id);
            let host = info.and_then(|info| info.host).unwrap_or_default();
            let path = format!("{host}{}", info.map_or("", |info| info.pattern));
            [format!("  {}", loser.source.label(loser.id)), path, describe_reason(loser)]
        });
        let losers: Vec<[String; 3]> = losers.collect();
        if !losers.is_empty() {
            lines.push("why the others lost, nearest first:".to_owned());
            lines.extend(align(&losers));
        }
        if self.omitted > 0 {
            lines.push(format!("  and {} more", self.omitted));
        }
        for source in &self.unasked {
            lines.push(format!("not asked, for an earlier table knows the path: {}", source.name));
        }
        lines
    }

    fn verdict_lines(&self) -> Vec<String> {
        let answers =
            |status: Status, why: &str| vec![format!("  answers {} {}: {why}", status.code(), status.reason())];
        match (&self.verdict, self.status()) {
            (Verdict::Route { source, id, params }, _) => {
                let info = source.info(*id);
                let host = info.and_then(|info| info.host).unwrap_or_default();
                let methods = info.map_or(MethodSet::EMPTY, |info| info.methods);
                let pattern = info.map_or("", |info| info.pattern);
                let mut lines =
                    vec![format!("  route   {}: {} {host}{pattern}", source.label(*id), describe_methods(methods))];
                lines.extend(source.conditions(*id).iter().map(|condition| format!("  because {condition}")));
                lines.extend(source.plugins(*id).iter().map(|plugin| format!("  through {plugin}")));
                lines.push(format!("  runs    {}", source.runs(*id)));
                let proxy = source.proxy(*id);
                lines.extend(
                    proxy.iter().flat_map(|(proxy, snapshot)| upstream_lines(proxy, &snapshot.upstreams.specs())),
                );
                lines.extend(params.iter().map(|(name, value)| format!("  param   {name} = {value:?}")));
                lines
            }
            (Verdict::Refused(error), Some(status)) => answers(status, error.detail()),
            (Verdict::MethodNotAllowed { source, allow, .. }, Some(status)) => {
                let why = format!("{} has this path, for other methods; Allow: {}", source.name, allow.allow_value());
                answers(status, &why)
            }
            (Verdict::NotFound, Some(status)) if self.losers.iter().any(|loser| !loser.failed.is_empty()) => {
                answers(status, "no route for this path and method has conditions that hold")
            }
            (Verdict::NotFound, Some(status)) => answers(status, "no route has this path"),
            (_, Some(status)) => answers(status, "the server itself, without any route"),
            (_, None) => Vec::new(),
        }
    }

    fn json(&self, head: Option<&RequestHead<'_>>, options: &ExplainOptions) -> Value {
        let (route, params) = match &self.verdict {
            Verdict::Route { source, id, params } => {
                let params: serde_json::Map<String, Value> =
                    params.iter().map(|(name, value)| (name.clone(), Value::String(value.clone()))).collect();
                (source.json(*id), Value::Object(params))
            }
            _ => (Value::Null, Value::Null),
        };
        let detail = match &self.verdict {
            Verdict::Refused(error) => Some(error.detail()),
            _ => None,
        };
        let allow = match &self.verdict {
            Verdict::MethodNotAllowed { allow, .. } => Some(allow.allow_value()),
            _ => None,
        };
        let losers = self.losers.iter().map(|loser| {
            let mut value = loser.source.json(loser.id);
            value["reason"] = describe_reason(loser).into();
            value["failed"] = loser.failed.clone().into();
            value
        });
        json!({
            "request": {
                "method": options.method,
                "url": options.url,
                "host": head.and_then(RequestHead::host),
                "path": head.map(RequestHead::path),
                "query": head.and_then(RequestHead::query),
            },
            "outcome": self.outcome(),
            "status": self.status().map(Status::code),
            "detail": detail,
            "allow": allow,
            "route": route,
            "params": params,
            "losers": losers.collect::<Vec<_>>(),
            "omitted": self.omitted,
        })
    }
}
