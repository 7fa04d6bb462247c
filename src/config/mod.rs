//! The config: one JSON file, checked as a whole before anything is done with it.
//!
//! | file | holds |
//! |---|---|
//! | `model`, `units`, `grammar` | the file as types: keys, bounds, and the sentences that explain them |
//! | `schema`, `rules`, `walk` | the JSON Schema of these types, and the check of a value against it |
//! | `json`, `environment`, `load` | text, variables and flags to a model, with all mistakes told at once |
//! | `plugins` | their options, held against the schema of each kind |
//! | `check`, `compile`, `cores` | what no schema can say; the model made into what the server runs on |
//! | `diff`, `watch` | what a reload would change; the file on disk, as others replace it |
//! | `error`, `oracle` | a mistake and its place; what holds for every input |
//!
//! Nothing in here is on a request's path.

mod check;
mod compile;
mod cores;
mod diff;
mod environment;
mod error;
mod grammar;
mod json;
mod load;
mod plugins;
pub mod model;
#[doc(hidden)]
pub mod oracle;
mod rules;
mod schema;
#[cfg(test)]
mod tests;

mod walk;
mod watch;

pub use crate::units::{Address, ByteSize, TimeSpan, UnitError};
pub use compile::{Beside, Snapshot, build_router, compile};
pub use cores::{Host, Plan, list_ids, resolve};
pub use diff::{Change, Changes, Fixed, Names};
pub use environment::{Override, PREFIX, Setting, read_variables};
pub use error::{ConfigError, Place, Step};
pub use grammar::{NameServer, StatusRange};
pub use load::{DEFAULT, Failure, Input, Prepared, load_text, prepare, prepare_next, redact};
pub use model::{Config, Steering};
pub use schema::{schema, schema_text};
pub use watch::{Fingerprint, Watch};
