//! One plugin of a config, and all of them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::meter::NameMeter;
use super::pace::Pace;
use super::{Hooks, Plugin, PluginError};
use crate::clock;
use crate::limits::PLUGIN_NAMES_MAX;
use crate::metrics::plugins::PluginSample;

/// What becomes of a request when a plugin fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// It goes on without the plugin.
    Open,
    /// It is answered with 500.
    #[default]
    Closed,
}

/// A plugin with its options, as a config uses it.
pub struct Instance {
    id: u64,
    /// Where cores keep what is its: a small number, free again when this is dropped.
    place: usize,
    meter: Arc<NameMeter>,
    on_failure: OnFailure,
    kind: &'static str,
    hooks: Hooks,
    /// What it was made of: equal ones can go on as one over a reload.
    recipe: String,
    plugin: Box<dyn Plugin>,
    /// When the failures are logged that requests go on without it after.
    pace: Pace,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);
/// Which places are taken.
static PLACES: Mutex<Vec<bool>> = Mutex::new(Vec::new());

fn take_place() -> usize {
    let mut places = PLACES.lock().unwrap_or_else(PoisonError::into_inner);
    let free = places.iter().position(|is_taken| !is_taken);
    let place = free.unwrap_or(places.len());
    if free.is_none() {
        places.push(true);
    } else {
        places[place] = true;
    }
    place
}

impl Instance {
    /// The plugin's name, as the config calls it.
    pub fn name(&self) -> &str {
        self.meter.name()
    }

    /// Which plugin it is: `use` in the config.
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// What becomes of a request when it fails.
    pub fn on_failure(&self) -> OnFailure {
        self.on_failure
    }

    /// The hooks that it wants.
    pub fn hooks(&self) -> Hooks {
        self.hooks
    }

    /// The plugin.
    pub fn plugin(&self) -> &dyn Plugin {
        &*self.plugin
    }

    /// A request goes on without it after this failure.
    pub(super) fn log_failure(&self, error: &PluginError) {
        if let Some(unlogged) = self.pace.line(clock::turn()) {
            tracing::warn!(plugin = self.name(), unlogged, %error, "a plugin failed; the request goes on without it");
        }
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn place(&self) -> usize {
        self.place
    }

    pub(super) fn meter(&self) -> &NameMeter {
        &self.meter
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance").field("name", &self.name()).field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.plugin.destroy();
        if let Some(place) = PLACES.lock().unwrap_or_else(PoisonError::into_inner).get_mut(self.place) {
            *place = false;
        }
    }
}

/// A plugin that a config wants.
pub struct Wanted<'w> {
    /// `use`.
    pub kind: &'static str,
    /// What metrics call it.
    pub name: &'w str,
    /// What becomes of a request when it fails.
    pub on_failure: OnFailure,
    /// What it is made of. One of an equal recipe goes on over a reload; empty: none does.
    pub recipe: String,
}

/// The plugins of one config.
#[derive(Default)]
pub struct Plugins {
    instances: Vec<Arc<Instance>>,
    /// Whether an instance was taken over, so that its `init` has run.
    taken_over: Vec<bool>,
    /// By name, over all configs so far.
    meters: BTreeMap<String, Arc<NameMeter>>,
}

impl Plugins {
    /// None yet, of a config that comes after one with these.
    pub fn after(before: &Self) -> Self {
        Self { meters: before.meters.clone(), ..Self::default() }
    }

    /// The plugin that is wanted: the one of the config before, where there is an equal one that is not taken, or else the
    /// one that `make` makes.
    ///
    /// # Errors
    /// Those of `make`.
    pub fn add<E>(
        &mut self,
        wanted: Wanted<'_>,
        before: &Self,
        make: impl FnOnce() -> Result<Box<dyn Plugin>, E>,
    ) -> Result<Arc<Instance>, E> {
        let is_same = |other: &&Arc<Instance>| {
            !wanted.recipe.is_empty()
                && other.kind == wanted.kind
                && other.recipe == wanted.recipe
                && other.name() == wanted.name
                && other.on_failure == wanted.on_failure
                && !self.instances.iter().any(|own| Arc::ptr_eq(own, other))
        };
        let known = before.instances.iter().find(is_same).cloned();
        let is_known = known.is_some();
        let instance = match known {
            Some(known) => known,
            None => {
                let plugin = make()?;
                Arc::new(Instance {
                    id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
                    place: take_place(),
                    meter: self.meter(wanted.name),
                    on_failure: wanted.on_failure,
                    kind: wanted.kind,
                    hooks: plugin.hooks(),
                    recipe: wanted.recipe,
                    plugin,
                    pace: Pace::new(),
                })
            }
        };
        self.instances.push(instance.clone());
        self.taken_over.push(is_known);
        Ok(instance)
    }

    /// The numbers of that name. Past a bound, all names are one.
    fn meter(&mut self, name: &str) -> Arc<NameMeter> {
        let is_full = self.meters.len() >= PLUGIN_NAMES_MAX && !self.meters.contains_key(name);
        let name = if is_full { "other" } else { name };
        self.meters.entry(name.to_owned()).or_insert_with(|| NameMeter::new(name)).clone()
    }

    /// Tells those that are new that they come into force.
    ///
    /// # Errors
    /// The name of the first that refuses, and why.
    pub fn init(&self) -> Result<(), (String, String)> {
        let new = self.instances.iter().zip(&self.taken_over).filter(|(_, is_known)| !**is_known);
        new.into_iter()
            .try_for_each(|(instance, _)| instance.plugin.init().map_err(|error| (instance.name().to_owned(), error)))
    }

    /// All of them, each once.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.instances.iter()
    }

    /// Whether this very one is among them.
    pub fn has(&self, instance: &Arc<Instance>) -> bool {
        self.instances.iter().any(|own| Arc::ptr_eq(own, instance))
    }

    /// The numbers of all that there were, by name.
    pub fn sample(&self) -> Vec<PluginSample> {
        self.meters.values().map(|meter| meter.sample()).collect()
    }
}
