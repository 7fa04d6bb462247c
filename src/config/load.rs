//! From a file, the environment and flags to a checked config, with all mistakes told at once.
//!
//! The order: parse the text; set what the environment and the flags set; check the value against the schema; leave out
//! what is wrong with it; make the model of the rest and check that for what no schema can say. So a misspelt key does
//! not hide that two routes are in conflict.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use serde_json::Value;

use super::check::Omissions;
use super::compile::{Snapshot, compile_rest};
use super::cores::{Host, Plan, resolve};
use super::environment::{Override, apply};
use super::error::{ConfigError, Place, Step};
use super::json;
use super::model::{Config, Route};
use super::plugins::{check_plugins, check_route_plugins};
use super::rules::element_rule;
use super::schema::schema;
use super::walk::{check_config, fits};
use super::watch::Fingerprint;
use crate::handler::Action;
use crate::limits::CONFIG_BYTES_MAX;
use crate::router::RouteTable;

/// The config that is used where no file is named: the welcome routes.
pub const DEFAULT: &str = include_str!("../../config/default.json");

/// Where a config comes from.
#[derive(Clone, Debug, Default)]
pub struct Input {
    /// The file; `None`: [`DEFAULT`], or no routes at all for a program that has tables of its own.
    pub file: Option<PathBuf>,
    /// What is set otherwise, in order: later ones win.
    pub overrides: Vec<Override>,
    /// What was found wrong on the way here (see [`super::environment::read_variables`]).
    pub errors: Vec<ConfigError>,
}

/// A config that cannot be used, with every reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The file, or what else it is.
    pub origin: String,
    /// At least one.
    pub errors: Vec<ConfigError>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, error) in self.errors.iter().enumerate() {
            write!(f, "{}{}: {error}", if at == 0 { "" } else { "\n" }, self.origin)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

/// A config that can be served.
pub struct Prepared {
    /// The config and what was made of it.
    pub snapshot: Snapshot,
    /// Which cores do what on this host.
    pub plan: Plan,
    /// The file, or what else it is.
    pub origin: String,
    /// The text that it was made of.
    pub fingerprint: Fingerprint,
}

/// What was read of a config, and what is wrong with the rest.
pub(super) struct Draft {
    pub(super) config: Option<Config>,
    pub(super) omissions: Omissions,
    pub(super) errors: Vec<ConfigError>,
}

/// Reads, checks and compiles a config for this host.
///
/// # Errors
/// Everything that is wrong with it.
pub fn prepare(input: &Input, host: &Host, tables: &[&'static RouteTable<Action>]) -> Result<Prepared, Failure> {
    prepare_next(input, host, tables, None)
}

/// [`prepare`] for a config that comes after another one: upstreams and plugins that it does not change are the same.
///
/// # Errors
/// Everything that is wrong with it.
pub fn prepare_next(
    input: &Input,
    host: &Host,
    tables: &[&'static RouteTable<Action>],
    before: Option<&Snapshot>,
) -> Result<Prepared, Failure> {
    let origin = input.origin();
    let fail = |errors| Failure { origin: origin.clone(), errors };
    // A program with routes of its own serves those alone, not the welcome routes beside them.
    let built_in = if tables.is_empty() { DEFAULT } else { "{}" };
    let text = input.read(built_in).map_err(|error| fail(vec![error]))?;
    let Draft { config, omissions, mut errors } = read_draft(&text, input);
    let Some(config) = config else { return Err(fail(errors)) };
    let plan = resolve(&config.cores, host);
    let snapshot = compile_rest(config, &input.base_dir(), tables, &omissions, before);
    match (plan, snapshot) {
        (Ok(plan), Ok(snapshot)) if errors.is_empty() => {
            Ok(Prepared { snapshot, plan, origin, fingerprint: Fingerprint::of_text(&text) })
        }
        (plan, snapshot) => {
            errors.extend(plan.err().into_iter().flatten());
            errors.extend(snapshot.err().into_iter().flatten());
            Err(fail(errors))
        }
    }
}

/// Reads a config of this text, as if it were a file in the current directory; checks it against the schema alone.
///
/// # Errors
/// Everything that is wrong with it.
pub fn load_text(text: &[u8]) -> Result<Config, Vec<ConfigError>> {
    match read_draft(text, &Input::default()) {
        Draft { config: Some(config), errors, .. } if errors.is_empty() => Ok(config),
        Draft { errors, .. } => Err(errors),
    }
}

impl Input {
    /// What messages call it.
    pub fn origin(&self) -> String {
        self.file.as_ref().map_or_else(|| "built-in config".to_owned(), |file| file.display().to_string())
    }

    /// The directory that relative paths start from.
    pub fn base_dir(&self) -> PathBuf {
        let parent = self.file.as_deref().and_then(Path::parent);
        parent.filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_path_buf()
    }

    fn read(&self, built_in: &str) -> Result<Vec<u8>, ConfigError> {
        let Some(file) = &self.file else { return Ok(built_in.as_bytes().to_vec()) };
        let fail = |found: String| ConfigError::new(Place::File("(file)".to_owned()), "a file that can be read", found);
        let mut text = Vec::new();
        let read = File::open(file).and_then(|file| file.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut text));
        match read {
            Ok(_) if text.len() as u64 > CONFIG_BYTES_MAX => Err(fail(format!("more than {CONFIG_BYTES_MAX} bytes"))),
            Ok(_) => Ok(text),
            Err(error) if error.kind() == io::ErrorKind::IsADirectory => Err(fail("a directory".to_owned())),
            Err(error) => Err(fail(error.to_string())),
        }
    }
}

pub(super) fn read_draft(text: &[u8], input: &Input) -> Draft {
    let mut errors = input.errors.clone();
    let (mut value, routes) = match read_apart(text, input) {
        Some((value, routes)) => (value, Some(routes)),
        None => match json::parse(text) {
            Ok(parsed) => {
                errors.extend(parsed.errors);
                (parsed.value, None)
            }
            Err(error) => {
                errors.push(error);
                return Draft { config: None, omissions: Omissions::default(), errors };
            }
        },
    };
    let mut set: Vec<(Vec<Step>, &str)> = Vec::new();
    for setting in &input.overrides {
        match apply(&mut value, schema(), setting) {
            Ok(steps) => set.push((steps, &setting.origin)),
            Err(error) => errors.push(error),
        }
    }
    let mut found = check_config(&value);
    found.extend(check_plugins(&value));
    let places: Vec<Vec<Step>> = found.iter().filter_map(|error| steps_of(error).map(<[Step]>::to_vec)).collect();
    for error in &mut found {
        name_origin(error, &set);
    }
    errors.extend(found);
    let omissions = leave_out(&mut value, &places);
    match Config::deserialize(value) {
        Ok(mut config) => {
            config.routes = routes.unwrap_or(config.routes);
            Draft { config: Some(config), omissions, errors }
        }
        Err(error) => {
            // The schema says all that the model does; where it does not, this is still an error and not a panic.
            if errors.is_empty() {
                errors.push(ConfigError::at(&[], "a config", error.to_string()));
            }
            Draft { config: None, omissions, errors }
        }
    }
}

/// Reads the routes one by one, and the rest as a value without them: a hundred thousand routes as one value take more
/// memory than the config that is made of them, and more time to make and free than the rest of the way.
///
/// `None`: something is wrong with them, and the whole must be looked at to tell it; or a setting is about them.
fn read_apart(text: &[u8], input: &Input) -> Option<(Value, Vec<Route>)> {
    const KEY: &str = "routes";
    let is_about_routes = |setting: &Override| setting.path.first().is_some_and(|key| key.eq_ignore_ascii_case(KEY));
    if input.overrides.iter().any(is_about_routes) {
        return None;
    }
    let (rule, mut routes) = (element_rule(KEY)?, Vec::new());
    let value = json::parse_apart(text, KEY, &mut |value| {
        let fits = fits(&value, rule) && check_route_plugins(&value, routes.len()).is_empty();
        fits && Route::deserialize(value).map(|route| routes.push(route)).is_ok()
    })?;
    Some((value, routes))
}

fn steps_of(error: &ConfigError) -> Option<&[Step]> {
    match &error.path {
        Place::Value(steps) => Some(steps),
        Place::Text { .. } | Place::Setting(_) | Place::File(_) => None,
    }
}

/// A value that a variable set is not in the file: the operator must know where to look.
fn name_origin(error: &mut ConfigError, set: &[(Vec<Step>, &str)]) {
    let Some(steps) = steps_of(error) else { return };
    if let Some((_, origin)) = set.iter().rev().find(|(path, _)| steps.starts_with(path)) {
        error.found = format!("{} (set by {origin})", error.found);
    }
}

/// Takes what is wrong out of the value: a route as a whole, of an upstream one key, or all of it where its servers are
/// wrong, anything else up to the key that holds it.
fn leave_out(value: &mut Value, places: &[Vec<Step>]) -> Omissions {
    let mut omissions = Omissions::default();
    let mut bad_routes = HashSet::new();
    for steps in places {
        if let [Step::Key(routes), Step::Index(index), ..] = steps.as_slice()
            && routes == "routes"
        {
            bad_routes.insert(*index);
            continue;
        }
        if let [Step::Key(upstreams), Step::Key(name), inside @ ..] = steps.as_slice()
            && upstreams == "upstreams"
        {
            match inside.first() {
                Some(Step::Key(key)) if key != "servers" => {
                    remove(value, &steps[..3]);
                    if key == "timeouts" {
                        // Held against one of them.
                        remove(value, &[&steps[..2], &["hedge_after".into()]].concat());
                    }
                }
                // Without servers it is none.
                _ => {
                    remove(value, &steps[..2]);
                    omissions.upstreams.insert(name.clone());
                }
            }
            continue;
        }
        let keys = steps.iter().take_while(|step| matches!(step, Step::Key(_))).count();
        remove(value, &steps[..keys]);
        omissions.values.push(steps[..keys].to_vec());
    }
    if !bad_routes.is_empty()
        && let Some(Value::Array(routes)) = value.get_mut("routes")
    {
        omissions.routes = (0..routes.len()).filter(|index| !bad_routes.contains(index)).collect();
        let mut index = 0;
        routes.retain(|_| {
            index += 1;
            !bad_routes.contains(&(index - 1))
        });
    }
    omissions
}

fn remove(value: &mut Value, steps: &[Step]) {
    let mut value = value;
    let Some((Step::Key(last), before)) = steps.split_last() else { return };
    for step in before {
        let Step::Key(key) = step else { return };
        match value.get_mut(key) {
            Some(inner) => value = inner,
            None => return,
        }
    }
    if let Value::Object(members) = value {
        members.shift_remove(last);
    }
}

/// The config in effect, as JSON with every key. The one place that shows a config: what is secret is left out here.
pub fn redact(config: &Config) -> Value {
    // No key holds a secret yet.
    serde_json::to_value(config).unwrap_or(Value::Null)
}
