//! The router and its one question: which route answers this host, path and method.
//!
//! Host, then path, then method decide, each before the next:
//! 1. **Host groups** are asked in this order: the exact host, `*.suffix` hosts from the longest suffix to the
//!    shortest, routes without a host. The first group with *any* route for the path decides; one without leaves the
//!    path to the next. (nginx would answer 404 there; a gateway's host-less routes, such as `/healthz`, must not vanish
//!    because one host got a route of its own.)
//! 2. **Path**: segment by segment from the left, static before `:param` before `*wildcard`. The best pattern decides,
//!    alone: a less specific one is not asked for a method that the best one lacks. So what answers a path does not
//!    depend on the method, and `Allow` is what the best pattern's routes take.
//! 3. **Method**: the routes of that pattern which take it, those with predicates first, in their order; `HEAD` falls to
//!    routes that take `GET` after those that take `HEAD`.

use super::build::{Arena, ConflictScan, Counts, Entry, Leaf, Route, Sizes, map_of};
use super::hash::{Map, MapKey, SPACE_EXACT_HOSTS, SPACE_PATHS, SPACE_SUFFIX_HOSTS, Scratch, Slot, Span};
use super::host::RequestHost;
use super::spec::{Predicates, RouteError, RouteErrorKind, RouteId, RouteSpec};
use super::tree::{NONE, Node, Range, Spans, Tree};
use crate::http::{Method, MethodSet};
use crate::limits::ROUTES_MAX;

/// A built router, borrowing its arrays: a const table's, or a [`RouterBuf`]'s.
#[derive(Clone, Copy, Debug)]
pub struct Router<'a> {
    pub(crate) text: &'a str,
    pub(crate) map: Map<'a>,
    pub(crate) roots: &'a [u32],
    pub(crate) tree: Tree<'a>,
    pub(crate) leaves: &'a [Leaf],
    pub(crate) entries: &'a [Entry],
    pub(crate) names: &'a [Span],
    pub(crate) routes: &'a [Route],
    pub(crate) suffix_labels: u128,
}

/// The answer to a lookup.
#[derive(Clone, Copy, Debug)]
pub enum Lookup<'r> {
    /// A route takes the request.
    Found(Found<'r>),
    /// The path is known, the method is not: answer 405 with this as `Allow` (it always has `OPTIONS`, which the caller
    /// may answer itself, and `HEAD` where there is `GET`).
    MethodNotAllowed(MethodSet),
    /// No route has this path.
    NotFound,
}

/// A route that takes the request, and those to try next should its predicates not hold.
#[derive(Clone, Copy, Debug)]
pub struct Found<'r> {
    /// The route.
    pub route: RouteId,
    text: &'r str,
    names: &'r [Span],
    candidates: Candidates<'r>,
}

impl<'r> Found<'r> {
    #[inline]
    fn of(mut candidates: Candidates<'r>, text: &'r str) -> Option<Self> {
        let (route, names) = candidates.next_entry()?;
        Some(Self { route, text, names, candidates })
    }

    /// Its parameters: `spans` are those that the lookup filled.
    #[inline]
    pub fn params<'s>(&self, spans: &'s Spans) -> Params<'s>
    where
        'r: 's,
    {
        Params { text: self.text, names: self.names, spans }
    }

    /// The next route for the same path and method, with names of its own for the same parameters.
    pub fn next_candidate(&self) -> Option<Found<'r>> {
        Self::of(self.candidates, self.text)
    }

    /// The routes to try after this one, in order.
    pub fn candidates(&self) -> Candidates<'r> {
        self.candidates
    }
}

/// The routes of one path that take one method, in the order of trial.
#[derive(Clone, Copy, Debug)]
pub struct Candidates<'r> {
    entries: &'r [Entry],
    names: &'r [Span],
    at: u32,
    pass: Pass,
}

/// `HEAD` goes through the routes twice.
#[derive(Clone, Copy, Debug)]
enum Pass {
    /// Routes that take this method.
    Method(Method),
    /// Routes that take `GET` but not `HEAD`, for a `HEAD`.
    GetForHead,
}

impl<'r> Candidates<'r> {
    #[inline]
    fn next_entry(&mut self) -> Option<(RouteId, &'r [Span])> {
        loop {
            while let Some(entry) = self.entries.get(self.at as usize) {
                self.at += 1;
                let takes = match self.pass {
                    Pass::Method(method) => entry.methods.contains(method),
                    Pass::GetForHead => entry.methods.contains(Method::Get) && !entry.methods.contains(Method::Head),
                };
                if takes {
                    let names = entry.names as usize..entry.names as usize + usize::from(entry.names_len);
                    return Some((RouteId(entry.route), self.names.get(names).unwrap_or_default()));
                }
            }
            if !matches!(self.pass, Pass::Method(Method::Head)) {
                return None;
            }
            self.pass = Pass::GetForHead;
            self.at = 0;
        }
    }
}

impl Iterator for Candidates<'_> {
    type Item = RouteId;

    fn next(&mut self) -> Option<RouteId> {
        self.next_entry().map(|(route, _)| route)
    }
}

/// The parameters of a match: spans of the path under the route's names.
#[derive(Clone, Copy, Debug)]
pub struct Params<'r> {
    text: &'r str,
    names: &'r [Span],
    spans: &'r Spans,
}

impl<'r> Params<'r> {
    /// No parameters: those of a request that no route takes.
    pub const NONE: Params<'static> = Params { text: "", names: &[], spans: &Spans::NONE };

    /// The value of `name` in `path`, which must be the path that was looked up.
    pub fn get<'p>(&self, name: &str, path: &'p str) -> Option<&'p str> {
        self.iter(path).find(|&(own, _)| own == name).map(|(_, value)| value)
    }

    /// Names and values, in the order of the pattern.
    pub fn iter<'p>(&self, path: &'p str) -> impl Iterator<Item = (&'r str, &'p str)> + use<'p, 'r> {
        let text = self.text;
        let values = self.spans.as_slice().iter();
        self.names.iter().zip(values).map(move |(name, &(start, end))| {
            (name.of_str(text), path.get(usize::from(start)..usize::from(end)).unwrap_or_default())
        })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

/// What the router knows of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteInfo<'a> {
    /// As compared: lower case, without trailing dot.
    pub host: Option<&'a str>,
    /// As written.
    pub pattern: &'a str,
    /// All methods when the route named none.
    pub methods: MethodSet,
    /// As given.
    pub predicates: Predicates,
}

impl<'a> Router<'a> {
    /// Answers a request. `host` is the `Host` field or authority as received (case, port and a trailing dot do not
    /// matter); `path` is normalised, begins with `/`, and has no query. A path over 65535 bytes is not found: no
    /// request head that Ringfort accepts holds one. Both are ASCII; as bytes, because making text of them is a scan.
    /// `spans` is overwritten; it is the caller's, because an answer that held it would be three times as large, and most
    /// need none.
    ///
    /// No allocation. Bounded by the host's labels and by its groups' trees (see `tree`): a walk enters each node once.
    #[inline]
    pub fn lookup(self, host: Option<&[u8]>, path: &[u8], method: Method, spans: &mut Spans) -> Lookup<'a> {
        spans.clear();
        // Without hosts a static path is settled by one probe. Only what is left goes on to a function of its own: as an
        // argument the whole view of the arrays has to be written to memory, which cost as much as the probe.
        if self.roots.len() == 1
            && let Some(leaf) = self.map.find(self.text.as_bytes(), SPACE_PATHS, path)
        {
            return self.decide(leaf, method);
        }
        match self.find_leaf(host, path, spans) {
            Some(leaf) => self.decide(leaf, method),
            None => Lookup::NotFound,
        }
    }

    #[inline]
    pub(crate) fn decide(self, leaf: u32, method: Method) -> Lookup<'a> {
        let Some(leaf) = self.leaves.get(leaf as usize) else { return Lookup::NotFound };
        let entries = leaf.entries as usize..(leaf.entries + leaf.entries_len) as usize;
        let entries = self.entries.get(entries).unwrap_or_default();
        let candidates = Candidates { entries, names: self.names, at: 0, pass: Pass::Method(method) };
        match Found::of(candidates, self.text) {
            Some(found) => Lookup::Found(found),
            None => Lookup::MethodNotAllowed(leaf.allow),
        }
    }

    /// The leaf of the best match; expects and, where there is none, leaves `spans` empty.
    #[inline(never)]
    pub(crate) fn find_leaf(self, host: Option<&[u8]>, path: &[u8], spans: &mut Spans) -> Option<u32> {
        if path.len() > usize::from(u16::MAX) {
            return None;
        }
        if let Some(host) = host
            && self.roots.len() > 1
            && let Some(hit) = self.find_by_host(host, path, spans)
        {
            return Some(hit);
        }
        self.find_in_group(0, path, spans)
    }

    /// The leaf in the exact host's group, or in that of the longest suffix that has one.
    ///
    /// `spans` stays empty whenever a group has no route: a walk that fails gives back what it took.
    #[inline(never)]
    fn find_by_host(self, host: &[u8], path: &[u8], spans: &mut Spans) -> Option<u32> {
        let mut buffer = RequestHost::EMPTY;
        buffer.set(host)?;
        let (host, text) = (buffer.as_bytes(), self.text.as_bytes());
        let exact = self.map.find(text, SPACE_EXACT_HOSTS, host);
        if let Some(hit) = exact.and_then(|group| self.find_in_group(group, path, spans)) {
            return Some(hit);
        }
        if self.suffix_labels == 0 {
            return None;
        }
        let mut labels = host.iter().filter(|&&byte| byte == b'.').count();
        for (dot, _) in host.iter().enumerate().filter(|&(_, &byte)| byte == b'.') {
            // `labels` is that of the suffix after this dot. A host that begins with a dot has no label before it.
            if self.suffix_labels >> labels.min(127) & 1 != 0
                && dot > 0
                && let Some(group) = self.map.find(text, SPACE_SUFFIX_HOSTS, &host[dot + 1..])
                && let Some(hit) = self.find_in_group(group, path, spans)
            {
                return Some(hit);
            }
            labels -= 1;
        }
        None
    }

    /// A static path is the best match there can be, so the hash is asked first and settles it.
    #[inline]
    fn find_in_group(self, group: u32, path: &[u8], spans: &mut Spans) -> Option<u32> {
        let text = self.text.as_bytes();
        if let Some(leaf) = self.map.find(text, SPACE_PATHS + group, path) {
            return Some(leaf);
        }
        let root = *self.roots.get(group as usize)?;
        if root == NONE {
            return None;
        }
        self.tree.walk(text, root, path, spans, &mut ())
    }

    /// How many routes there are; their ids count from zero.
    pub const fn len(self) -> usize {
        self.routes.len()
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.routes.is_empty()
    }

    /// What is known of a route; `None` for an id of another router.
    pub fn route(self, id: RouteId) -> Option<RouteInfo<'a>> {
        let route = self.routes.get(id.index())?;
        Some(RouteInfo {
            host: if route.host.len == 0 { None } else { Some(route.host.of_str(self.text)) },
            pattern: route.pattern.of_str(self.text),
            methods: route.methods,
            predicates: route.predicates,
        })
    }
}

/// A router built at run time from the config's routes: immutable, `Send + Sync`, to be shared by `Arc`.
#[derive(Debug)]
pub struct RouterBuf {
    text: String,
    routes: Box<[Route]>,
    names: Box<[Span]>,
    leaves: Box<[Leaf]>,
    entries: Box<[Entry]>,
    roots: Box<[u32]>,
    nodes: Box<[Node]>,
    first_bytes: Box<[u8]>,
    slots: Box<[Slot]>,
    multipliers: Box<[u32]>,
    counts: Counts,
}

impl RouterBuf {
    /// Builds a router; off the data path.
    ///
    /// # Errors
    /// Everything that is wrong, in the order of the list: bad patterns and hosts, and routes that an earlier valid route
    /// makes unreachable.
    pub fn build(specs: &[RouteSpec<'_>]) -> Result<Self, Vec<RouteError>> {
        if specs.len() > ROUTES_MAX {
            return Err(vec![RouteError { route: ROUTES_MAX, kind: RouteErrorKind::TooManyRoutes }]);
        }
        let (mut sizes, mut errors) = (Sizes::new(), Vec::new());
        let (mut valid, mut places) = (Vec::with_capacity(specs.len()), Vec::with_capacity(specs.len()));
        for (route, spec) in specs.iter().enumerate() {
            match sizes.add(spec) {
                Ok(()) => {
                    valid.push(*spec);
                    places.push(route);
                }
                Err(kind) => errors.push(RouteError { route, kind }),
            }
        }
        let mut arrays = Arrays::new(&sizes);
        let mut arena = arrays.arena();
        arena.lay_text(&valid);
        arena.sort_shapes_fast();
        let mut scan = ConflictScan::new();
        while let Some(conflict) = scan.next(&arena) {
            let kind = RouteErrorKind::Conflict { other: places[conflict.other as usize] };
            errors.push(RouteError { route: places[conflict.route as usize], kind });
        }
        if !errors.is_empty() {
            errors.sort_by_key(|error| error.route);
            return Err(errors);
        }
        arena.lay_routes();
        let counts = arena.counts;
        Ok(arrays.finish(counts))
    }

    /// The router, borrowed.
    #[inline(always)]
    pub fn as_router(&self) -> Router<'_> {
        Router {
            text: &self.text,
            map: map_of(&self.slots, &self.multipliers, &self.counts),
            roots: &self.roots,
            tree: Tree { nodes: &self.nodes, first_bytes: &self.first_bytes },
            leaves: &self.leaves,
            entries: &self.entries,
            names: &self.names,
            routes: &self.routes,
            suffix_labels: self.counts.suffix_labels,
        }
    }

    /// See [`Router::lookup`].
    #[inline]
    pub fn lookup(&self, host: Option<&[u8]>, path: &[u8], method: Method, spans: &mut Spans) -> Lookup<'_> {
        self.as_router().lookup(host, path, method, spans)
    }

    /// See [`Router::route`].
    pub fn route(&self, id: RouteId) -> Option<RouteInfo<'_>> {
        self.as_router().route(id)
    }
}

/// The order in which the routes of these valid specs are built, as the compiler sorts them and as the server does.
#[cfg(test)]
pub(super) fn orders(specs: &[RouteSpec<'_>]) -> [Vec<u32>; 2] {
    let mut sizes = Sizes::new();
    specs.iter().for_each(|spec| sizes.add(spec).expect("a valid route"));
    let order = |sort: fn(&mut Arena<'_>)| {
        let mut arrays = Arrays::new(&sizes);
        let mut arena = arrays.arena();
        arena.lay_text(specs);
        sort(&mut arena);
        arrays.order
    };
    [order(|arena| arena.sort_shapes()), order(|arena| arena.sort_shapes_fast())]
}

/// The vectors behind a build.
struct Arrays {
    text: Vec<u8>,
    routes: Vec<Route>,
    names: Vec<Span>,
    leaves: Vec<Leaf>,
    entries: Vec<Entry>,
    roots: Vec<u32>,
    nodes: Vec<Node>,
    first_bytes: Vec<u8>,
    slots: Vec<Slot>,
    multipliers: Vec<u32>,
    order: Vec<u32>,
    ranges: Vec<Range>,
    keys: Vec<MapKey>,
    hashes: Vec<u64>,
    next: Vec<u32>,
    heads: Vec<u32>,
    bucket_sizes: Vec<u32>,
}

impl Arrays {
    fn new(sizes: &Sizes) -> Self {
        Self {
            text: vec![0; sizes.text],
            routes: vec![Route::EMPTY; sizes.routes],
            names: vec![Span::EMPTY; sizes.names],
            leaves: vec![Leaf::EMPTY; sizes.routes],
            entries: vec![Entry::EMPTY; sizes.routes],
            roots: vec![NONE; sizes.groups],
            nodes: vec![Node::EMPTY; sizes.nodes],
            first_bytes: vec![0; sizes.nodes],
            slots: vec![Slot::FREE; sizes.slots],
            multipliers: vec![1; sizes.buckets],
            order: vec![0; sizes.routes],
            ranges: vec![Range::EMPTY; sizes.nodes],
            keys: vec![MapKey::EMPTY; sizes.keys],
            hashes: vec![0; sizes.keys],
            next: vec![0; sizes.keys],
            heads: vec![0; sizes.buckets],
            bucket_sizes: vec![0; sizes.buckets],
        }
    }

    fn arena(&mut self) -> Arena<'_> {
        Arena {
            text: &mut self.text,
            routes: &mut self.routes,
            names: &mut self.names,
            leaves: &mut self.leaves,
            entries: &mut self.entries,
            roots: &mut self.roots,
            nodes: &mut self.nodes,
            first_bytes: &mut self.first_bytes,
            slots: &mut self.slots,
            multipliers: &mut self.multipliers,
            order: &mut self.order,
            ranges: &mut self.ranges,
            keys: &mut self.keys,
            scratch: Scratch {
                hashes: &mut self.hashes,
                next: &mut self.next,
                heads: &mut self.heads,
                sizes: &mut self.bucket_sizes,
            },
            counts: Counts::ZERO,
        }
    }

    fn finish(mut self, counts: Counts) -> RouterBuf {
        self.nodes.truncate(counts.nodes);
        self.first_bytes.truncate(counts.nodes);
        self.leaves.truncate(counts.leaves);
        self.roots.truncate(counts.groups);
        RouterBuf {
            // Valid patterns and hosts are ASCII, and so are the marks.
            text: String::from_utf8(self.text).expect("checked bytes only"),
            routes: self.routes.into(),
            names: self.names.into(),
            leaves: self.leaves.into(),
            entries: self.entries.into(),
            roots: self.roots.into(),
            nodes: self.nodes.into(),
            first_bytes: self.first_bytes.into(),
            slots: self.slots.into(),
            multipliers: self.multipliers.into(),
            counts,
        }
    }
}
