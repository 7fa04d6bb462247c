//! Plugins by the name that a config uses, with the schema of their options. Those of the server are there from the start; a
//! program adds its own before it reads its config.

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::{PoisonError, RwLock};

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Plugin, builtin, wasm};

/// A key or an index on the way to an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionStep {
    /// A key of an object.
    Key(String),
    /// An index of a list.
    Index(usize),
}

impl From<&str> for OptionStep {
    fn from(key: &str) -> Self {
        Self::Key(key.to_owned())
    }
}

impl From<usize> for OptionStep {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

/// What is wrong with the options of a plugin, beyond what their schema can say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Where in the options.
    pub path: Vec<OptionStep>,
    /// What should be there.
    pub expected: String,
    /// What is there, in quotes where it is a text; no secret.
    pub found: String,
}

impl Mistake {
    /// At this key of the options.
    pub fn at(key: &str, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self { path: vec![key.into()], expected: expected.into(), found: found.into() }
    }

    /// At an element of the list that this key holds.
    pub fn at_index(key: &str, index: usize, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self { path: vec![key.into(), index.into()], expected: expected.into(), found: found.into() }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}, found {}", self.expected, self.found)
    }
}

/// What plugins are made with besides their options.
pub struct BuildContext<'b> {
    /// The directory that relative paths start from.
    pub base_dir: &'b Path,
    /// The upstreams of the config, for plugins that ask one.
    pub upstreams: &'b crate::proxy::Upstreams,
    /// The settings of plugins in WebAssembly.
    pub wasm: &'b wasm::Settings,
    /// The name of the plugin in the config.
    pub name: &'b str,
    /// Whether it is for all routes.
    pub is_global: bool,
}

/// Makes a plugin from options that fit its schema.
pub type Maker = fn(&Value, &BuildContext<'_>) -> Result<Box<dyn Plugin>, Vec<Mistake>>;

/// A plugin that configs can use.
#[derive(Clone, Copy)]
pub struct Registration {
    /// `use`.
    pub name: &'static str,
    /// What it is for, in a sentence.
    pub about: &'static str,
    /// Whether one with the same options goes on over a reload, with what it has counted and kept. Not where it is made of
    /// files that may have changed.
    pub keeps_state: bool,
    /// The JSON Schema of the options.
    pub schema: fn() -> Value,
    /// Makes one. The options fit the schema.
    pub build: Maker,
}

impl Registration {
    /// Of a plugin whose options are of type `O`.
    pub const fn new<O, B>(name: &'static str, about: &'static str, _build: PhantomData<(O, B)>) -> Self
    where
        O: DeserializeOwned + JsonSchema,
        B: Build<O>,
    {
        Self { name, about, keeps_state: B::KEEPS_STATE, schema: schema_of::<O>, build: build_of::<O, B> }
    }
}

/// A plugin that is made from options of type `O`.
pub trait Build<O>: Plugin + Sized {
    /// See [`Registration::keeps_state`].
    const KEEPS_STATE: bool;

    /// Makes one.
    ///
    /// # Errors
    /// Everything that is wrong with the options.
    fn build(options: O, context: &BuildContext<'_>) -> Result<Self, Vec<Mistake>>;
}

fn schema_of<O: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings.into_generator().into_root_schema_for::<O>();
    for key in ["$schema", "title"] {
        schema.remove(key);
    }
    schema.to_value()
}

fn build_of<O: DeserializeOwned, B: Build<O>>(
    options: &Value,
    context: &BuildContext<'_>,
) -> Result<Box<dyn Plugin>, Vec<Mistake>> {
    // The schema says all that the type does; where it does not, this is still an error and not a panic.
    let options = O::deserialize(options)
        .map_err(|error| vec![Mistake { path: vec![], expected: "options".to_owned(), found: error.to_string() }])?;
    Ok(Box::new(B::build(options, context)?))
}

static ADDED: RwLock<Vec<Registration>> = RwLock::new(Vec::new());

/// Adds a plugin to those that configs can use. To be called before a config is read; of two with one name the first
/// counts, and the server's own are the first.
pub fn register(registration: Registration) {
    ADDED.write().unwrap_or_else(PoisonError::into_inner).push(registration);
}

/// All plugins that configs can use.
pub fn registrations() -> Vec<Registration> {
    let added = ADDED.read().unwrap_or_else(PoisonError::into_inner);
    builtin::ALL.iter().chain([&wasm::REGISTRATION]).chain(added.iter()).copied().collect()
}

/// The plugin of this name.
pub fn find(name: &str) -> Option<Registration> {
    registrations().into_iter().find(|known| known.name == name)
}

/// The names of all plugins.
pub fn names() -> Vec<&'static str> {
    registrations().iter().map(|known| known.name).collect()
}
