//! Plugins made, and put in the way of routes.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::super::check::Omissions;
use super::super::error::{ConfigError, Step};
use super::super::model::{Config, PluginUse};
use crate::handler::pipeline::Pipeline;
use crate::limits::PLUGINS_PER_ROUTE_MAX;
use crate::plugin::{self, BuildContext, Chain, Instance, Mistake, OptionStep, Plugins, Wanted, wasm};
use crate::proxy::Upstreams;

/// The plugins of a config.
pub(super) struct Built {
    pub(super) plugins: Plugins,
    /// For requests to no route of the config.
    pub(super) globals: Option<Arc<Chain>>,
    /// For each route.
    pub(super) routes: Vec<Option<Arc<Chain>>>,
}

impl Built {
    pub(super) fn globals(&self) -> Option<Arc<dyn Pipeline>> {
        self.globals.clone().map(|chain| chain as Arc<dyn Pipeline>)
    }

    pub(super) fn routes(&self) -> impl Iterator<Item = Option<Arc<dyn Pipeline>>> {
        self.routes.iter().map(|chain| chain.clone().map(|chain| chain as Arc<dyn Pipeline>))
    }
}

struct Builder<'c> {
    base_dir: &'c Path,
    upstreams: &'c Upstreams,
    wasm: wasm::Settings,
    before: &'c Plugins,
    plugins: Plugins,
    errors: &'c mut Vec<ConfigError>,
}

/// Makes the plugins of a config that comes after one with those in `before`.
pub(super) fn build_plugins(
    config: &Config,
    base_dir: &Path,
    upstreams: &Upstreams,
    omissions: &Omissions,
    before: &Plugins,
    errors: &mut Vec<ConfigError>,
) -> Built {
    let mut builder =
        Builder { base_dir, upstreams, wasm: (&config.wasm).into(), before, plugins: Plugins::after(before), errors };
    let globals = builder.list(&config.plugins, &["plugins".into()], None);
    let shared = (!globals.is_empty()).then(|| Arc::new(Chain::new(globals.clone())));
    let mut routes = Vec::with_capacity(config.routes.len());
    for (index, route) in config.routes.iter().enumerate() {
        if route.plugins.is_empty() {
            routes.push(shared.clone());
            continue;
        }
        let base = ["routes".into(), omissions.route(index).into(), "plugins".into()];
        let label = format!("{}{}", route.matcher.host.as_deref().unwrap_or_default(), route.matcher.path);
        let is_off = |name: &str| route.plugins.iter().any(|own| !own.enabled && own.name == name);
        let kept = globals.iter().map(|global| global.clone().filter(|instance| !is_off(instance.name())));
        let mut entries: Vec<_> = kept.collect();
        entries.extend(builder.list(&route.plugins, &base, Some(&label)));
        if entries.len() > PLUGINS_PER_ROUTE_MAX {
            let found = format!("{} with the global ones", entries.len());
            builder.errors.push(ConfigError::at(&base, format!("at most {PLUGINS_PER_ROUTE_MAX} plugins"), found));
        }
        let is_empty = entries.iter().all(Option::is_none);
        routes.push((!is_empty).then(|| Arc::new(Chain::new(entries))));
    }
    Built { plugins: builder.plugins, globals: shared, routes }
}

impl Builder<'_> {
    /// The plugins of one list that are used. `route` is the label of the route that it is of.
    fn list(&mut self, list: &[PluginUse], base: &[Step], route: Option<&str>) -> Vec<Option<Arc<Instance>>> {
        let mut built = Vec::new();
        for (index, wanted) in list.iter().enumerate() {
            // A kind that there is not was found already.
            let Some(known) = plugin::find(&wanted.kind).filter(|_| wanted.enabled) else { continue };
            let options = Value::Object(wanted.options.clone());
            let recipe = match known.keeps_state {
                true => format!("{}\n{options}", route.unwrap_or_default()),
                false => String::new(),
            };
            let (name, on_failure) = (wanted.name.as_str(), wanted.on_failure.into());
            let (base_dir, upstreams, wasm, is_global) = (self.base_dir, self.upstreams, &self.wasm, route.is_none());
            let context = BuildContext { base_dir, upstreams, wasm, name, is_global };
            let make = || (known.build)(&options, &context);
            match self.plugins.add(Wanted { kind: known.name, name, on_failure, recipe }, self.before, make) {
                Ok(instance) => built.push(Some(instance)),
                Err(mistakes) => {
                    let base = [base, &[index.into(), "options".into()]].concat();
                    self.errors.extend(mistakes.into_iter().map(|mistake| place(&base, mistake)));
                }
            }
        }
        built
    }
}

fn place(base: &[Step], mistake: Mistake) -> ConfigError {
    let steps = mistake.path.into_iter().map(|step| match step {
        OptionStep::Key(key) => Step::Key(key),
        OptionStep::Index(index) => Step::Index(index),
    });
    let path: Vec<_> = base.iter().cloned().chain(steps).collect();
    ConfigError::at(&path, mistake.expected, mistake.found)
}
