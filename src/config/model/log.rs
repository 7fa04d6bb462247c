//! `log`: the process log and the access log.

use std::borrow::Cow;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::log;
use crate::log::access::Field;

/// The process log and the access log. Their files are opened for append, and anew on SIGHUP.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `off`, `error`, `warn`, `info`, `debug` or `trace`; or several, for parts of the program, separated by commas:
    /// `info,ringfort::conn=debug`.
    pub level: String,
    /// One JSON object a line, one line of text, or several lines for people. The access log has JSON, else text.
    pub format: LogFormat,
    /// The file of the process log, relative to the config's directory; null: stderr.
    pub file: Option<PathBuf>,
    /// Which requests have a line in the access log.
    pub access: AccessLog,
    /// The file of the access log, relative to the config's directory; null: stdout.
    pub access_file: Option<PathBuf>,
    /// The share of requests that have a line where `access` is `"sampled"`, above 0; those that failed have one in any case.
    #[schemars(extend("minimum" = 0, "maximum" = 1))]
    pub sample: f64,
    /// What stands in a line of the access log, in this order; what a request has not is left out. Never credentials: no header
    /// field can be named here. A query may hold some, and is left out by default.
    #[schemars(extend("minItems" = 1, "uniqueItems" = true))]
    pub fields: Vec<Field>,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".to_owned(),
            format: LogFormat::Json,
            file: None,
            access: AccessLog::Off,
            access_file: None,
            sample: 0.1,
            fields: Field::DEFAULT.to_vec(),
        }
    }
}

/// `log.format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// Several lines, for development.
    Pretty,
    /// One line of text.
    Text,
}

impl From<LogFormat> for log::LogFormat {
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Json => Self::Json,
            LogFormat::Pretty => Self::Pretty,
            LogFormat::Text => Self::Text,
        }
    }
}

impl From<LogFormat> for log::access::Form {
    /// The access log has no form of several lines.
    fn from(format: LogFormat) -> Self {
        match format {
            LogFormat::Json => Self::Json,
            LogFormat::Pretty | LogFormat::Text => Self::Text,
        }
    }
}

/// `log.access`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum AccessLog {
    /// None.
    #[default]
    Off,
    /// Every request.
    All,
    /// Those that failed: a status of 400 or more, or cut.
    Errors,
    /// Those that failed, and a share (`sample`) of the others.
    Sampled,
}

impl Serialize for Field {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = Cow::<str>::deserialize(deserializer)?;
        let known = Field::ALL.iter().find(|field| field.name() == name).copied();
        known.ok_or_else(|| D::Error::custom(format_args!("no field of the access log: {name:?}")))
    }
}

impl JsonSchema for Field {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "AccessField".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<_> = Field::ALL.iter().map(|field| field.name()).collect();
        json_schema!({ "type": "string", "enum": names })
    }
}
