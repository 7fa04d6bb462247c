//! Which route answers a request: patterns, const tables, the radix tree, lookup.
//!
//! Routes in Rust source ([`routes!`](crate::routes)) and routes from the config ([`RouterBuf`]) go through one pattern
//! parser, one builder and one matcher; only who brings the arrays differs.
//!
//! | file | holds |
//! |---|---|
//! | `pattern`, `host`, `methods` | what a route is written with, parsed by const fns |
//! | `spec` | a route to build, and what can be wrong with it |
//! | `hash`, `tree`, `build` | static paths, patterns with parameters, and the builder of both |
//! | `scan` | compares and searches of a few bytes |
//! | `lookup` | the router itself; the order of decisions is told there |
//! | `table` | the const form |
//! | `explain`, `oracle` | off the data path: why a route won; a naive matcher to test against |

pub mod pattern;
pub mod lookup;
pub mod table;
pub mod explain;
#[doc(hidden)]
pub mod oracle;
mod build;
mod hash;
mod host;
mod methods;
mod scan;
mod spec;
mod tree;
#[cfg(test)]
mod tests;

pub use host::{HostError, HostErrorKind};
pub use lookup::{Candidates, Found, Lookup, Params, RouteInfo, Router, RouterBuf};
pub use pattern::{Pattern, PatternError, PatternErrorKind};
pub use spec::{Predicates, RouteError, RouteErrorKind, RouteId, RouteSpec};
pub use table::RouteTable;
pub use tree::Spans;
