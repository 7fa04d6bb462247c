//! From the model to what the server runs on: an immutable [`Snapshot`], or everything that keeps it from being one.

mod plugins;
mod predicates;
mod proxy;
mod upstreams;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::check::{Omissions, check_settings};
use super::error::{ConfigError, Step, quote, suggest};
use super::model::{self, AccessLog, Action, Config, Route};
use super::watch::Fingerprint;
use crate::clock;
use crate::conn;
use crate::handler::{
    self, Coding, Files, FilesError, FilesSpec, Handler, Redirect, RedirectError, Respond, RespondBody, RespondError,
    RespondSpec, RouteName, Routes, UnknownParam,
};
use crate::http::{HeadLimits, Method, MethodSet, Status};
use crate::limits::ROUTES_MAX;
use crate::log::access::{Share, Spec, Which};
use crate::plugin::{Chain, Plugins, wasm};
use crate::proxy::{Network, Upstreams};
use crate::router::{Pattern, Predicates, RouteError, RouteErrorKind, RouteSpec, RouteTable, RouterBuf};
use crate::rt;

/// A config and what was made of it. Immutable; a reload makes another one.
pub struct Snapshot {
    /// The config.
    pub config: Config,
    /// Its routes, behind those of the application.
    pub routes: Arc<Routes>,
    /// Its upstreams, in the order of their names; what forwards to them counts them so.
    pub upstreams: Arc<Upstreams>,
    /// Its plugins.
    pub plugins: Arc<Plugins>,
    /// What lies beside the config and belongs to it.
    pub beside: Beside,
    /// Those of requests to no route of the config, and those of each route.
    pub chains: (Option<Arc<Chain>>, Vec<Option<Arc<Chain>>>),
    /// How connections are served. `connections` is for the whole process: the master shares it out.
    pub settings: conn::Settings,
    /// How each core's executor is built.
    pub executor: rt::Options,
    /// The file of the process log.
    pub log_file: Option<PathBuf>,
    /// The file of the access log.
    pub access_file: Option<PathBuf>,
}

impl Snapshot {
    /// How each of so many workers serves connections: with its share of those that there may be.
    pub fn settings_of_each(&self, workers: usize) -> conn::Settings {
        let connections = self.settings.connections.div_ceil(workers.max(1));
        conn::Settings { connections, ..self.settings.clone() }
    }
}

/// Compiles a config: checks it, opens the directories that it names (relative to `base_dir`), builds its routes, which
/// are asked after those in `tables`.
///
/// # Errors
/// Everything that is wrong with it.
pub fn compile(
    config: Config,
    base_dir: &Path,
    tables: &[&'static RouteTable<handler::Action>],
) -> Result<Snapshot, Vec<ConfigError>> {
    compile_rest(config, base_dir, tables, &Omissions::default(), None)
}

/// [`compile`] for what is left of a config with mistakes.
pub(super) fn compile_rest(
    config: Config,
    base_dir: &Path,
    tables: &[&'static RouteTable<handler::Action>],
    omissions: &Omissions,
    before: Option<&Snapshot>,
) -> Result<Snapshot, Vec<ConfigError>> {
    let mut errors = check_settings(&config, omissions);
    let log_file = log_path("file", config.log.file.as_deref(), base_dir, &mut errors);
    let access_file = log_path("access_file", config.log.access_file.as_deref(), base_dir, &mut errors);
    let (no_upstreams, no_plugins) = (Upstreams::default(), Plugins::default());
    let (upstreams_before, plugins_before) =
        before.map_or((&no_upstreams, &no_plugins), |before| (&*before.upstreams, &*before.plugins));
    let wanted = upstreams::build_upstreams(&config, &mut errors);
    let upstreams = Arc::new(Upstreams::succeed(wanted, upstreams_before, clock::now()));
    let mut handlers = Vec::new();
    let parts = Parts { config: &config, upstreams: &upstreams, base_dir, omissions };
    for (index, route) in config.routes.iter().enumerate() {
        let mut place = RoutePlace::new(omissions.route(index), &mut errors);
        predicates::check_predicates(&route.matcher, &mut place);
        handlers.extend(build_handler(route, &parts, &mut place));
    }
    let beside = beside(&config, base_dir);
    let built = plugins::build_plugins(&config, base_dir, &upstreams, omissions, plugins_before, &mut errors);
    let router = match build_router(&config) {
        Ok(router) => Some(router),
        Err(found) => {
            errors.extend(found.iter().map(|error| explain_route(&config, omissions, error)));
            None
        }
    };
    let (Some(router), true) = (router, errors.is_empty()) else { return Err(errors) };
    let names = config.routes.iter().map(|route| RouteName {
        label: [route.matcher.host.as_deref().unwrap_or_default(), &route.matcher.path].concat(),
        kind: route.action.name(),
    });
    let routes = Routes::new(tables, router, handlers, names.collect());
    let routes = routes.with_predicates(config.routes.iter().map(|route| predicates::predicate_set(&route.matcher)));
    let routes = routes.with_plugins(built.globals(), built.routes());
    Ok(Snapshot {
        settings: settings(&config),
        executor: executor(&config),
        routes: Arc::new(routes),
        upstreams,
        plugins: Arc::new(built.plugins),
        beside,
        chains: (built.globals, built.routes),
        log_file,
        access_file,
        config,
    })
}

/// Directories whose files belong to a config: a change there is one of the config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beside {
    /// The directories.
    pub directories: Vec<PathBuf>,
    /// What was in them before any of it was read.
    pub known: Fingerprint,
}

/// The directory of WASM modules, where one of them is used.
fn beside(config: &Config, base_dir: &Path) -> Beside {
    let mut used = config.plugins.iter().chain(config.routes.iter().flat_map(|route| &route.plugins));
    let is_used = used.any(|plugin| plugin.enabled && plugin.kind == wasm::REGISTRATION.name);
    let directories: Vec<_> = is_used.then(|| base_dir.join(&config.wasm.dir)).into_iter().collect();
    Beside { known: Fingerprint::of_directories(&directories), directories }
}

fn settings(config: &Config) -> conn::Settings {
    let model::Server { limits, timeouts, rates, keepalive, name, .. } = &config.server;
    conn::Settings {
        head: HeadLimits { head: limits.head, headers: limits.headers, target: limits.target },
        body: limits.body,
        connections: limits.connections,
        timeouts: conn::Timeouts {
            head: timeouts.head,
            body: timeouts.body,
            body_total: timeouts.body_total,
            idle: timeouts.idle,
            write: timeouts.write,
            write_total: timeouts.write_total,
        },
        rates: conn::Rates { grace: rates.grace, head: rates.head, body: rates.body, write: rates.write },
        keepalive_requests: keepalive.requests,
        keepalive_age: keepalive.age,
        server_name: name.clone(),
        observing: observing(config),
    }
}

fn observing(config: &Config) -> conn::Observing {
    let (ids, log) = (&config.server.request_id, &config.log);
    let which = match log.access {
        AccessLog::Off => Which::Off,
        AccessLog::All => Which::All,
        AccessLog::Errors => Which::Errors,
        AccessLog::Sampled => Which::Sampled(Share::new(log.sample)),
    };
    conn::Observing {
        request_id: conn::RequestIds {
            header: ids.header.clone(),
            trust: ids.trust.iter().map(Network::range).collect(),
            respond: ids.respond.clone(),
        },
        trace: config.server.trace,
        access: Spec::new(which, log.format.into(), log.fields.clone()),
    }
}

/// The path of a log file. The file is made when it is opened; its directory must be there.
fn log_path(key: &str, path: Option<&Path>, base_dir: &Path, errors: &mut Vec<ConfigError>) -> Option<PathBuf> {
    let path = base_dir.join(path?);
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if path.file_name().is_none() || path.is_dir() || !directory.is_dir() {
        let expected = "a file, in a directory that is there";
        errors.push(ConfigError::at(&["log".into(), key.into()], expected, quote(&path.display().to_string())));
    }
    Some(path)
}

fn executor(config: &Config) -> rt::Options {
    let ring = &config.cores.ring;
    rt::Options {
        // One that is not built is among the errors that keep a config from being compiled.
        executor: rt::ExecutorChoice::from(config.cores.executor).resolve().unwrap_or_default(),
        driver: config.cores.driver.into(),
        ring_entries: ring.entries,
        ring_buffers: ring.buffers,
        ring_buffer_bytes: ring.buffer_size,
    }
}

/// The router of the config's routes, without their handlers.
///
/// # Errors
/// Patterns and hosts that do not parse, and routes that cannot be told apart; `RouteError::route` counts the config's.
pub fn build_router(config: &Config) -> Result<RouterBuf, Vec<RouteError>> {
    let numbers = predicates::number_predicates(config);
    let specs: Vec<_> = config.routes.iter().zip(numbers).map(|(route, number)| route_spec(route, number)).collect();
    RouterBuf::build(&specs)
}

fn route_spec(route: &Route, predicates: Predicates) -> RouteSpec<'_> {
    let mut methods: MethodSet = route.matcher.methods.iter().map(|method| Method::from(*method)).collect();
    if methods.is_empty() && matches!(route.action, Action::Files(_)) {
        // Leaves the other methods of the path to other routes.
        methods.insert(Method::Get);
    }
    RouteSpec { host: route.matcher.host.as_deref(), pattern: &route.matcher.path, methods, predicates }
}

/// Collects the mistakes of one route.
struct RoutePlace<'e> {
    index: usize,
    /// From the route to what is looked at; mostly nothing, for most routes are good.
    inside: Vec<Step>,
    errors: &'e mut Vec<ConfigError>,
}

impl<'e> RoutePlace<'e> {
    fn new(index: usize, errors: &'e mut Vec<ConfigError>) -> Self {
        Self { index, inside: Vec::new(), errors }
    }

    /// An element of a list in the route.
    fn inside(&mut self, keys: &[&str], index: usize) -> RoutePlace<'_> {
        let keys = keys.iter().map(|key| Step::from(*key));
        let inside = self.inside.iter().cloned().chain(keys).chain([index.into()]).collect();
        RoutePlace { index: self.index, inside, errors: self.errors }
    }

    fn report(&mut self, keys: &[&str], expected: impl Into<String>, found: impl Into<String>) {
        self.errors.push(ConfigError::at(&self.steps(keys), expected, found));
    }

    fn steps(&self, keys: &[&str]) -> Vec<Step> {
        let route = [Step::from("routes"), self.index.into()];
        route.into_iter().chain(self.inside.iter().cloned()).chain(keys.iter().map(|key| Step::from(*key))).collect()
    }

    fn report_param(&mut self, keys: &[&str], unknown: &UnknownParam) {
        let braced = |name: &str| format!("{{{name}}}");
        let known: Vec<_> = unknown.known.iter().map(|name| braced(name)).collect();
        let name = &unknown.name;
        let expected = match known.as_slice() {
            [] => format!("no parameter, for the path has none ({{{{{name}}}}} is the text {{{name}}})"),
            known => format!("a parameter of the path: {}", super::error::list_words(known)),
        };
        let suggestion = suggest(name, unknown.known.iter().map(String::as_str)).map(|name| braced(&name));
        self.errors.push(ConfigError::at(&self.steps(keys), expected, braced(name)).suggesting(suggestion));
    }
}

/// What handlers are made from besides their own routes.
struct Parts<'c> {
    config: &'c Config,
    upstreams: &'c Upstreams,
    /// Paths of files are relative to it.
    base_dir: &'c Path,
    omissions: &'c Omissions,
}

fn build_handler(route: &Route, parts: &Parts<'_>, place: &mut RoutePlace<'_>) -> Option<Box<dyn Handler>> {
    // The router reports a pattern that does not parse; what hangs on its parameters cannot be judged then.
    let pattern = Pattern::parse(&route.matcher.path).ok()?;
    let params: Vec<_> = (0..pattern.params_len()).filter_map(|at| pattern.param_name(at)).collect();
    match &route.action {
        Action::Respond(respond) => build_respond(respond, &params, place).map(boxed),
        Action::Redirect(redirect) => build_redirect(redirect, &params, place).map(boxed),
        Action::Proxy(proxy) => proxy::build_proxy(proxy, &pattern, &params, parts, place).map(boxed),
        Action::Files(files) => {
            let wildcard = params.last().filter(|_| pattern.has_wildcard());
            build_files(files, wildcard.map(|name| (*name).to_owned()), parts.base_dir, place).map(boxed)
        }
    }
}

fn boxed(handler: impl Handler) -> Box<dyn Handler> {
    Box::new(handler)
}

fn build_respond(respond: &model::Respond, params: &[&str], place: &mut RoutePlace<'_>) -> Option<Respond> {
    let before = place.errors.len();
    let (body, body_key) = match (&respond.text, &respond.json, &respond.base64) {
        (Some(text), _, _) => (RespondBody::Text(text.clone()), "text"),
        (_, Some(json), _) => (RespondBody::Json(json.to_string()), "json"),
        (_, _, Some(text)) => match BASE64.decode(text) {
            Ok(bytes) => (RespondBody::Bytes(bytes), "base64"),
            Err(error) => {
                place.report(&["respond", "base64"], "base64 (RFC 4648, with padding)", format!("{error}"));
                (RespondBody::Empty, "base64")
            }
        },
        (None, None, None) => (RespondBody::Empty, "text"),
    };
    let mut names = respond.headers.keys().map(|name| name.to_lowercase()).collect::<Vec<_>>();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|two| two[0] == two[1]) {
        place.report(&["respond", "headers"], "each name once, in any case", format!("{} again", quote(&twice[0])));
    }
    let fields = respond.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let status = Status::new(respond.status)?;
    let mut spec = RespondSpec { status, fields, body };
    // The constructor stops at the first mistake: take out what is wrong and ask again, until all are told.
    let built = loop {
        match Respond::new(spec.clone(), params) {
            Ok(built) => break Some(built),
            Err(RespondError::Field { name, error }) => {
                let found = quote(spec.fields.iter().find(|(own, _)| *own == name).map_or("", |(_, value)| value));
                let expected = format!("a header field that a response may have ({error})");
                place.report(&["respond", "headers", &name], expected, found);
                spec.fields.retain(|(own, _)| *own != name);
            }
            Err(RespondError::FieldParam { name, error }) => {
                place.report_param(&["respond", "headers", &name], &error);
                spec.fields.retain(|(own, _)| *own != name);
            }
            Err(RespondError::BodyParam(error)) => {
                place.report_param(&["respond", body_key], &error);
                spec.body = RespondBody::Empty;
            }
            Err(RespondError::BodyNotAllowed(status)) => {
                place.report(&["respond", body_key], format!("no body with status {status}"), "one");
                spec.body = RespondBody::Empty;
            }
            Err(RespondError::Status(status)) => {
                place.report(&["respond", "status"], "a final status (200 to 999)", status.to_string());
                break None;
            }
        }
    };
    built.filter(|_| place.errors.len() == before)
}

fn build_redirect(redirect: &model::Redirect, params: &[&str], place: &mut RoutePlace<'_>) -> Option<Redirect> {
    let to = &["redirect", "to"];
    let error = match Redirect::new(&redirect.to, Status::new(redirect.status)?, redirect.keep_query, params) {
        Ok(built) => return Some(built),
        Err(error) => error,
    };
    match &error {
        RedirectError::Status(status) => {
            place.report(&["redirect", "status"], "301, 302, 303, 307 or 308", status.to_string());
        }
        RedirectError::Form => {
            place.report(to, "a path that begins with \"/\", or a URI with a host", quote(&redirect.to));
        }
        RedirectError::Byte(byte) => {
            let found = format!("`{}` in {}", byte.escape_ascii(), quote(&redirect.to));
            place.report(to, "the characters of a URI (others as %XX)", found);
        }
        RedirectError::ParamInAuthority(name) => {
            place.report(to, "a host without parameters: a client would choose where it leads", format!("{{{name}}}"));
        }
        RedirectError::Param(unknown) => place.report_param(to, unknown),
    }
    None
}

fn build_files(
    files: &model::Files,
    param: Option<String>,
    base_dir: &Path,
    place: &mut RoutePlace<'_>,
) -> Option<Files> {
    let before = place.errors.len();
    let mut index = files.index.clone();
    let mut cache_control = files.cache_control.clone();
    let precompressed: Vec<Coding> = files.precompressed.iter().map(|coding| Coding::from(*coding)).collect();
    loop {
        let spec = FilesSpec {
            root: base_dir.join(&files.root),
            index: index.clone(),
            param: param.clone(),
            precompressed: precompressed.clone(),
            cache_control: cache_control.clone(),
        };
        match Files::new(spec) {
            Ok(built) => return Some(built).filter(|_| place.errors.len() == before),
            Err(FilesError::Index(found)) => {
                place.report(&["files", "index"], "the name of a file, without \"/\"", quote(&found));
                index = None;
            }
            Err(FilesError::CacheControl(error)) => {
                let found = quote(cache_control.as_deref().unwrap_or_default());
                place.report(&["files", "cache_control"], format!("a header field's value ({error})"), found);
                cache_control = None;
            }
            Err(FilesError::Root { root, error }) => {
                let found = format!("{}: {error}", quote(&root.display().to_string()));
                place.report(&["files", "root"], "a directory that can be opened", found);
                return None;
            }
        }
    }
}

fn explain_route(config: &Config, omissions: &Omissions, error: &RouteError) -> ConfigError {
    let matcher = |route: usize| config.routes.get(route).map(|route| &route.matcher);
    let in_match = |key: &str| {
        let index = omissions.route(error.route);
        [Step::from("routes"), index.into(), "match".into(), key.into()]
    };
    let pattern = matcher(error.route).map_or("", |matcher| matcher.path.as_str());
    let host = matcher(error.route).and_then(|matcher| matcher.host.as_deref()).unwrap_or_default();
    let plain = |expected: &str| expected.strip_prefix("expected ").unwrap_or(expected).to_owned();
    match error.kind {
        RouteErrorKind::Pattern(mistake) => {
            let what = match mistake.found {
                Some(byte) => format!("`{}` at byte {} of", byte.escape_ascii(), mistake.position),
                None => "the end of".to_owned(),
            };
            let suggestion = mend_pattern(pattern);
            ConfigError::at(&in_match("path"), plain(mistake.kind.expected()), format!("{what} {}", quote(pattern)))
                .suggesting(suggestion)
        }
        RouteErrorKind::Host(mistake) => {
            let suggestion = host.rsplit_once(':').map(|(host, _)| host.to_owned()).filter(|host| !host.contains(':'));
            let found = format!("{} (byte {})", quote(host), mistake.position);
            ConfigError::at(&in_match("host"), plain(mistake.kind.expected()), found).suggesting(suggestion)
        }
        RouteErrorKind::Conflict { other } => {
            let earlier = matcher(other).map_or("", |matcher| matcher.path.as_str());
            let expected =
                format!("a route that can be told apart from routes[{}] ({})", omissions.route(other), quote(earlier));
            let has_conditions =
                matcher(error.route).is_some_and(|matcher| predicates::predicate_set(matcher).is_some());
            let same = match has_conditions {
                true => "the same host, shape of path, headers, query and cookies, and a method in common",
                false => "the same host, the same shape of path and a method in common",
            };
            let found = format!("{}: {same}", quote(pattern));
            ConfigError::at(&in_match("path"), expected, found)
        }
        RouteErrorKind::TooManyRoutes => {
            let found = format!("{} of them", config.routes.len());
            ConfigError::at(&["routes".into()], format!("at most {ROUTES_MAX} routes"), found)
        }
    }
}

/// The pattern that was probably meant: `{id}` and `<id>` are other programs' `:id`, and a `/` is easily forgotten.
fn mend_pattern(pattern: &str) -> Option<String> {
    let segments = pattern.trim_start_matches('/').split('/').map(|segment| {
        let bare = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        let bare = bare.or_else(|| segment.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')));
        match (bare, segment) {
            (Some(name), _) => format!("{}{}", if name.starts_with('*') { "" } else { ":" }, name),
            (None, "*" | "**") => "*rest".to_owned(),
            (None, other) => other.to_owned(),
        }
    });
    let mended = format!("/{}", segments.collect::<Vec<_>>().join("/"));
    (mended != pattern && Pattern::parse(&mended).is_ok()).then_some(mended)
}
