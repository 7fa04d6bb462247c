//! Route tables in Rust source: built by the compiler, checked by the compiler.
//!
//! [`routes!`](crate::routes) makes a static of flat arrays with the same const fn that builds a config's routes at run
//! time. A bad pattern, host or method, and two routes that can never be told apart, are errors of compilation.

use super::build::{Arena, ConflictScan, Counts, Entry, Leaf, Route, map_of};
use super::hash::{MapKey, Scratch, Slot, Span};
use super::lookup::{Lookup, Router};
use super::methods;
use super::spec::{RouteErrorKind, RouteId, RouteSpec};
use super::tree::{NONE, Node, Range, Spans, Tree};
use crate::http::{Method, MethodSet};

/// A router in const arrays, with a handler for each route.
#[derive(Debug)]
pub struct RouteTable<H: 'static> {
    router: Router<'static>,
    handlers: &'static [H],
}

impl<H: 'static> RouteTable<H> {
    #[doc(hidden)]
    pub const fn new(router: Router<'static>, handlers: &'static [H]) -> Self {
        Self { router, handlers }
    }

    /// The router alone.
    pub const fn router(&self) -> Router<'static> {
        self.router
    }

    /// See [`Router::lookup`].
    #[inline]
    pub fn lookup(&self, host: Option<&[u8]>, path: &[u8], method: Method, spans: &mut Spans) -> Lookup<'static> {
        self.router.lookup(host, path, method, spans)
    }

    /// The handler of a route that a lookup in this table found.
    pub fn handler(&self, route: RouteId) -> Option<&'static H> {
        self.handlers.get(route.index())
    }
}

/// Makes a static [`RouteTable`](crate::router::RouteTable) from routes in source, at compile time.
///
/// One route a line: methods (`GET`, `GET | POST`, or `ANY`), the pattern, `host "name"` where it is for one host
/// (`"api.example.com"` or `"*.example.com"`), and the handler, of the type that the table names. The handlers are only
/// held; calling them is the caller's business.
///
/// ```
/// use ringfort::http::Method;
/// use ringfort::router::{Lookup, Spans};
///
/// fn plaintext() -> u32 { 1 }
/// fn user() -> u32 { 2 }
/// fn api() -> u32 { 3 }
///
/// ringfort::routes! {
///     /// The routes of the example.
///     pub static ROUTES: fn() -> u32 = {
///         GET "/plaintext" => plaintext,
///         GET | POST "/users/:id" => user,
///         ANY "/api/*rest" host "api.example.com" => api,
///     }
/// }
///
/// let mut spans = Spans::NONE;
/// let Lookup::Found(found) = ROUTES.lookup(None, b"/users/7", Method::Get, &mut spans) else { panic!() };
/// assert_eq!(found.params(&spans).get("id", "/users/7"), Some("7"));
/// assert_eq!(ROUTES.handler(found.route).map(|handler| handler()), Some(2));
/// ```
///
/// Routes that can never be told apart do not compile:
///
/// ```compile_fail
/// ringfort::routes! {
///     static ROUTES: u32 = {
///         GET "/users/:id" => 1,
///         GET "/users/:name" => 2,
///     }
/// }
/// ```
#[macro_export]
macro_rules! routes {
    (
        $(#[$meta:meta])*
        $vis:vis static $name:ident: $handler:ty = {
            $( $($method:ident)|+ $pattern:literal $(host $host:literal)? => $target:expr ),* $(,)?
        }
        $(;)?
    ) => {
        $(#[$meta])*
        $vis static $name: $crate::router::RouteTable<$handler> = {
            // A few hundred routes take the compiler more steps than it lets pass without a word.
            #[allow(long_running_const_eval)]
            const SOURCES: &[$crate::router::table::Source] = &[$(
                $crate::router::table::Source {
                    methods: &[$(::core::stringify!($method)),+],
                    pattern: $pattern,
                    host: $crate::router::table::optional(&[$($host)?]),
                }
            ),*];
            #[allow(long_running_const_eval)]
            const MEASURED: ::core::result::Result<$crate::router::table::Sizes, $crate::router::table::Message> =
                $crate::router::table::measure(SOURCES);
            // Sizes never fail, or each use of one below would repeat the compiler's complaint.
            const SIZES: $crate::router::table::Sizes = $crate::router::table::sizes_or_none(&MEASURED);
            #[allow(long_running_const_eval)]
            static TABLE: $crate::router::table::Table<
                { SIZES.routes }, { SIZES.groups }, { SIZES.text }, { SIZES.nodes }, { SIZES.names }, { SIZES.slots },
                { SIZES.buckets }, { SIZES.keys },
            > = match $crate::router::table::Table::build(SOURCES, &MEASURED) {
                ::core::result::Result::Ok(table) => table,
                ::core::result::Result::Err(message) => ::core::panic!("{}", message.as_str()),
            };
            static HANDLERS: [$handler; SOURCES.len()] = [$($target),*];
            $crate::router::RouteTable::new(TABLE.as_router(), &HANDLERS)
        };
    };
}

/// A route as [`routes!`](crate::routes) hands it over.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Source {
    pub methods: &'static [&'static str],
    pub pattern: &'static str,
    pub host: Option<&'static str>,
}

#[doc(hidden)]
pub use super::build::Sizes;

/// Checks each route alone and counts what the table needs.
#[doc(hidden)]
#[expect(clippy::result_large_err, reason = "const code has no heap to box the message on")]
pub const fn measure(sources: &[Source]) -> Result<Sizes, Message> {
    let mut sizes = Sizes::new();
    let mut at = 0;
    while at < sources.len() {
        if let Err(name) = methods::parse_names(sources[at].methods) {
            let message = Message::new().route(at, &sources[at]).text(": unknown method `");
            let message = message.text(sources[at].methods[name]);
            return Err(message.text("`, expected GET, HEAD, POST, PUT, DELETE, CONNECT, OPTIONS, TRACE, PATCH or ANY"));
        }
        let message = Message::new().route(at, &sources[at]);
        match sizes.add(&sources[at].spec()) {
            Ok(()) => {}
            Err(RouteErrorKind::Pattern(error)) => {
                return Err(message
                    .text(": pattern, byte ")
                    .number(error.position)
                    .text(": ")
                    .text(error.kind.expected()));
            }
            Err(RouteErrorKind::Host(error)) => {
                return Err(message
                    .text(": host, byte ")
                    .number(error.position)
                    .text(": ")
                    .text(error.kind.expected()));
            }
            Err(_) => return Err(message.text(": cannot be built")),
        }
        at += 1;
    }
    Ok(sizes)
}

/// The sizes of a good table; those of an empty one for a bad table, which is then not built.
#[doc(hidden)]
pub const fn sizes_or_none(measured: &Result<Sizes, Message>) -> Sizes {
    match measured {
        Ok(sizes) => *sizes,
        Err(_) => Sizes::new(),
    }
}

impl Source {
    const fn spec(&self) -> RouteSpec<'static> {
        let methods = match methods::parse_names(self.methods) {
            Ok(methods) => methods,
            Err(_) => MethodSet::new(),
        };
        RouteSpec { host: self.host, pattern: self.pattern, methods, predicates: super::spec::Predicates::NONE }
    }
}

/// The one element, if there is one: how the macro spells an optional host.
#[doc(hidden)]
pub const fn optional(hosts: &[&'static str]) -> Option<&'static str> {
    if hosts.is_empty() { None } else { Some(hosts[0]) }
}

/// The arrays of a const router.
#[doc(hidden)]
#[derive(Debug)]
pub struct Table<
    const ROUTES: usize,
    const GROUPS: usize,
    const TEXT: usize,
    const NODES: usize,
    const NAMES: usize,
    const SLOTS: usize,
    const BUCKETS: usize,
    const KEYS: usize,
> {
    text: [u8; TEXT],
    routes: [Route; ROUTES],
    names: [Span; NAMES],
    leaves: [Leaf; ROUTES],
    entries: [Entry; ROUTES],
    roots: [u32; GROUPS],
    nodes: [Node; NODES],
    first_bytes: [u8; NODES],
    slots: [Slot; SLOTS],
    multipliers: [u32; BUCKETS],
    counts: Counts,
}

impl<
    const ROUTES: usize,
    const GROUPS: usize,
    const TEXT: usize,
    const NODES: usize,
    const NAMES: usize,
    const SLOTS: usize,
    const BUCKETS: usize,
    const KEYS: usize,
> Table<ROUTES, GROUPS, TEXT, NODES, NAMES, SLOTS, BUCKETS, KEYS>
{
    const EMPTY: Self = Self {
        text: [0; TEXT],
        routes: [Route::EMPTY; ROUTES],
        names: [Span::EMPTY; NAMES],
        leaves: [Leaf::EMPTY; ROUTES],
        entries: [Entry::EMPTY; ROUTES],
        roots: [NONE; GROUPS],
        nodes: [Node::EMPTY; NODES],
        first_bytes: [0; NODES],
        slots: [Slot::FREE; SLOTS],
        multipliers: [1; BUCKETS],
        counts: Counts::ZERO,
    };

    /// Builds the arrays; `Err` is what the compiler should say.
    #[expect(clippy::result_large_err, reason = "const code has no heap to box the message on")]
    pub const fn build(sources: &[Source], measured: &Result<Sizes, Message>) -> Result<Self, Message> {
        if let Err(message) = measured {
            return Err(*message);
        }
        let mut table = Self::EMPTY;
        let mut specs = [Source { methods: &[], pattern: "", host: None }.spec(); ROUTES];
        let mut at = 0;
        while at < ROUTES {
            specs[at] = sources[at].spec();
            at += 1;
        }
        let mut arena = Arena {
            text: &mut table.text,
            routes: &mut table.routes,
            names: &mut table.names,
            leaves: &mut table.leaves,
            entries: &mut table.entries,
            roots: &mut table.roots,
            nodes: &mut table.nodes,
            first_bytes: &mut table.first_bytes,
            slots: &mut table.slots,
            multipliers: &mut table.multipliers,
            order: &mut [0; ROUTES],
            ranges: &mut [Range::EMPTY; NODES],
            keys: &mut [MapKey::EMPTY; KEYS],
            scratch: Scratch {
                hashes: &mut [0; KEYS],
                next: &mut [0; KEYS],
                heads: &mut [0; BUCKETS],
                sizes: &mut [0; BUCKETS],
            },
            counts: Counts::ZERO,
        };
        arena.lay_text(&specs);
        arena.sort_shapes();
        if let Some(conflict) = ConflictScan::new().next(&arena) {
            let (route, other) = (conflict.route as usize, conflict.other as usize);
            let message = Message::new().route(route, &sources[route]).text(" can never be told apart from ");
            let message = message.route(other, &sources[other]);
            return Err(message.text(": same host, same shape of path, and a method in common"));
        }
        arena.lay_routes();
        table.counts = arena.counts;
        Ok(table)
    }

    /// The router, borrowed.
    pub const fn as_router(&'static self) -> Router<'static> {
        let Ok(text) = str::from_utf8(&self.text) else { panic!("patterns and hosts are ASCII") };
        Router {
            text,
            map: map_of(&self.slots, &self.multipliers, &self.counts),
            roots: self.roots.split_at(self.counts.groups).0,
            tree: Tree {
                nodes: self.nodes.split_at(self.counts.nodes).0,
                first_bytes: self.first_bytes.split_at(self.counts.nodes).0,
            },
            leaves: self.leaves.split_at(self.counts.leaves).0,
            entries: self.entries.split_at(self.counts.entries).0,
            names: &self.names,
            routes: &self.routes,
            suffix_labels: self.counts.suffix_labels,
        }
    }
}

/// What the compiler says of a bad table: text put together without heap, cut where it is too long.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Message {
    bytes: [u8; MESSAGE_BYTES],
    len: usize,
}

/// Two routes with long patterns, and a sentence.
const MESSAGE_BYTES: usize = 512;

impl Message {
    const fn new() -> Self {
        Self { bytes: [0; MESSAGE_BYTES], len: 0 }
    }

    const fn text(mut self, text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut at = 0;
        while at < bytes.len() && self.len < MESSAGE_BYTES {
            self.bytes[self.len] = if bytes[at].is_ascii() { bytes[at] } else { b'?' };
            self.len += 1;
            at += 1;
        }
        self
    }

    const fn number(self, number: usize) -> Self {
        let digit = [b'0' + (number % 10) as u8];
        let Ok(digit) = str::from_utf8(&digit) else { return self };
        if number < 10 { self.text(digit) } else { self.number(number / 10).text(digit) }
    }

    /// ``route 2 (`GET|POST /users/:id`)``, counted from one: people read it.
    const fn route(self, at: usize, source: &Source) -> Self {
        let mut message = self.text("route ").number(at + 1).text(" (`");
        let mut method = 0;
        while method < source.methods.len() {
            message = message.text(if method > 0 { " | " } else { "" }).text(source.methods[method]);
            method += 1;
        }
        message = message.text(" ").text(source.pattern);
        if let Some(host) = source.host {
            message = message.text(" host ").text(host);
        }
        message.text("`)")
    }

    /// The text.
    pub const fn as_str(&self) -> &str {
        match str::from_utf8(self.bytes.split_at(self.len).0) {
            Ok(text) => text,
            Err(_) => "a route is wrong",
        }
    }
}
