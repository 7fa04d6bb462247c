//! What a router is built from, and everything that can be wrong with it.

use std::fmt;

use super::host::HostError;
use super::pattern::PatternError;
use crate::http::MethodSet;
use crate::limits::ROUTES_MAX;

/// A route: its place in the list that the router was built from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteId(pub u32);

impl RouteId {
    /// As an index into the caller's own list of routes.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Identity of a route's header, query and cookie predicates; the router does not evaluate them.
///
/// Two routes with one path and overlapping methods can be told apart exactly when their identities differ. Give equal
/// predicates equal numbers. Routes with predicates are tried in the order of the list, before those without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Predicates(pub u32);

impl Predicates {
    /// No predicates: matches whatever path and method match.
    pub const NONE: Self = Self(0);
}

/// One route to build into a router.
#[derive(Clone, Copy, Debug)]
pub struct RouteSpec<'a> {
    /// `api.example.com`, `*.example.com` (one or more labels before the suffix), or `None`: any host.
    pub host: Option<&'a str>,
    /// See [`Pattern`](super::Pattern).
    pub pattern: &'a str,
    /// Empty: any method.
    pub methods: MethodSet,
    /// Which predicates the caller will evaluate.
    pub predicates: Predicates,
}

/// A route that cannot be built: the operator's (or programmer's) mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteError {
    /// Index of the route in the list.
    pub route: usize,
    /// What is wrong with it.
    pub kind: RouteErrorKind,
}

/// What can be wrong with a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteErrorKind {
    /// Its pattern does not parse.
    Pattern(PatternError),
    /// Its host does not parse.
    Host(HostError),
    /// An earlier route has the same host, shape of path, predicates, and one of its methods.
    Conflict {
        /// Index of the earlier route in the list.
        other: usize,
    },
    /// The list is longer than `limits::ROUTES_MAX`; reported once, for the first route too many.
    TooManyRoutes,
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "routes[{}]", self.route)?;
        match self.kind {
            RouteErrorKind::Pattern(error) => write!(f, ".path: {error}"),
            RouteErrorKind::Host(error) => write!(f, ".host: {error}"),
            RouteErrorKind::Conflict { other } => {
                write!(f, ": expected a route that can be told apart from routes[{other}], ")?;
                f.write_str("found the same host, the same shape of path and a method in common")
            }
            RouteErrorKind::TooManyRoutes => write!(f, ": expected at most {ROUTES_MAX} routes"),
        }
    }
}

impl std::error::Error for RouteError {}
