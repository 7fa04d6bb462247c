//! `plugins`: what sees requests and responses on their way, globally or on a route.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::super::plugins::redact_options;
use crate::plugin;

/// A plugin, with its options. Requests go through the global plugins in their order, then through those of their route;
/// responses go through them the other way round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(into = "PluginForm", from = "PluginForm")]
#[schemars(with = "PluginForm")]
pub struct PluginUse {
    /// Which plugin.
    pub kind: String,
    /// What `explain`, logs and metrics call it.
    pub name: String,
    /// Whether it is used.
    pub enabled: bool,
    /// What becomes of a request when it fails.
    pub on_failure: OnFailure,
    /// Its options, as they were written.
    pub options: Map<String, Value>,
}

/// A plugin, with its options.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Plugin")]
struct PluginForm {
    /// Which plugin: `ringfort plugins` lists them.
    #[serde(rename = "use")]
    kind: String,
    /// What `explain`, logs and metrics call it; its kind when left out. A route takes a global plugin out by this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", length(min = 1, max = 64))]
    name: Option<String>,
    /// False: it is not used; on a route, nor are the global plugins of this name.
    #[serde(default = "yes")]
    enabled: bool,
    /// What becomes of a request when the plugin fails: `"closed"`, it is answered with 500; `"open"`, it goes on without.
    #[serde(default)]
    on_failure: OnFailure,
    /// Its options; which ones it has, its page in docs/plugins says.
    #[serde(default)]
    options: Map<String, Value>,
}

fn yes() -> bool {
    true
}

/// What becomes of a request when a plugin fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum OnFailure {
    /// It goes on without the plugin.
    Open,
    /// It is answered with 500.
    #[default]
    Closed,
}

impl From<OnFailure> for plugin::OnFailure {
    fn from(on_failure: OnFailure) -> Self {
        match on_failure {
            OnFailure::Open => Self::Open,
            OnFailure::Closed => Self::Closed,
        }
    }
}

impl From<PluginForm> for PluginUse {
    fn from(form: PluginForm) -> Self {
        let PluginForm { kind, name, enabled, on_failure, options } = form;
        Self { name: name.unwrap_or_else(|| kind.clone()), kind, enabled, on_failure, options }
    }
}

impl From<PluginUse> for PluginForm {
    /// For showing: secrets among the options are hidden.
    fn from(plugin: PluginUse) -> Self {
        let PluginUse { kind, name, enabled, on_failure, options } = plugin;
        let options = redact_options(&kind, options);
        Self { name: (name != kind).then_some(name), kind, enabled, on_failure, options }
    }
}
