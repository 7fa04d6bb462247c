//! Lays routes out as the router's flat arrays: one const fn for tables in Rust source and for routes from the config.
//!
//! The caller brings the arrays (consts or vectors) sized by [`Sizes`]; nothing here allocates. The order of work:
//! text, sort, conflicts, then leaves, static paths and trees host by host, and the perfect hash last.

use super::hash::{
    self, Map, MapKey, SPACE_EXACT_HOSTS, SPACE_PATHS, SPACE_SUFFIX_HOSTS, Scratch, Slot, Span, buckets_for, slots_for,
};
use super::host::check_host;
use super::methods;
use super::pattern::Pattern;
use super::spec::{Predicates, RouteErrorKind, RouteSpec};
use super::tree::{NONE, Node, Range, grow_tree, node_bound};
use crate::http::MethodSet;

/// A route as the router keeps it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    pub(crate) host: Span,
    pub(crate) pattern: Span,
    pub(crate) key: Span,
    pub(crate) names: u32,
    pub(crate) names_len: u8,
    pub(crate) methods: MethodSet,
    pub(crate) predicates: Predicates,
}

impl Route {
    pub(crate) const EMPTY: Self = Self {
        host: Span::EMPTY,
        pattern: Span::EMPTY,
        key: Span::EMPTY,
        names: 0,
        names_len: 0,
        methods: MethodSet::new(),
        predicates: Predicates::NONE,
    };
}

/// All routes of one host and shape of path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Leaf {
    pub(crate) entries: u32,
    pub(crate) entries_len: u32,
    /// What `Allow` says here.
    pub(crate) allow: MethodSet,
}

impl Leaf {
    pub(crate) const EMPTY: Self = Self { entries: 0, entries_len: 0, allow: MethodSet::new() };
}

/// One route at its leaf, in the order in which routes are tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) methods: MethodSet,
    pub(crate) names_len: u8,
    pub(crate) names: u32,
    pub(crate) route: u32,
}

impl Entry {
    pub(crate) const EMPTY: Self = Self { methods: MethodSet::new(), names_len: 0, names: 0, route: 0 };
}

/// How long the arrays must be.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Routes, and so leaves and entries at most.
    pub routes: usize,
    /// Host groups at most: one for each route, and that of routes without a host.
    pub groups: usize,
    /// Bytes of hosts, keys and patterns.
    pub text: usize,
    /// Tree nodes at most.
    pub nodes: usize,
    /// Parameters of all routes.
    pub names: usize,
    /// Slots of the perfect hash.
    pub slots: usize,
    /// Its buckets.
    pub buckets: usize,
    /// Its keys at most: static paths and hosts.
    pub keys: usize,
}

impl Sizes {
    pub(crate) const fn new() -> Self {
        Self {
            routes: 0,
            groups: 1,
            text: 0,
            nodes: 0,
            names: 0,
            slots: slots_for(0),
            buckets: buckets_for(0),
            keys: 0,
        }
    }

    /// Counts `spec` in, once it is valid.
    pub(crate) const fn add(&mut self, spec: &RouteSpec<'_>) -> Result<(), RouteErrorKind> {
        let pattern = match Pattern::parse(spec.pattern) {
            Ok(pattern) => pattern,
            Err(error) => return Err(RouteErrorKind::Pattern(error)),
        };
        if let Some(host) = spec.host {
            match check_host(host) {
                Ok(len) => self.text += len,
                Err(error) => return Err(RouteErrorKind::Host(error)),
            }
            self.groups += 1;
            self.keys += 1;
        }
        self.routes += 1;
        self.text += pattern.key_len() + spec.pattern.len();
        self.nodes += node_bound(pattern.params_len());
        self.names += pattern.params_len();
        if pattern.params_len() == 0 {
            self.keys += 1;
        }
        self.slots = slots_for(self.keys);
        self.buckets = buckets_for(self.keys);
        Ok(())
    }
}

/// How much of the arrays is used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    pub(crate) nodes: usize,
    pub(crate) leaves: usize,
    pub(crate) entries: usize,
    pub(crate) groups: usize,
    pub(crate) seed: u64,
    pub(crate) lengths: u64,
    /// Bit `n` is set when some `*.suffix` has `n` labels: no other suffix of a request's host need be looked up.
    pub(crate) suffix_labels: u128,
    keys: usize,
    text: usize,
    names: usize,
}

impl Counts {
    pub(crate) const ZERO: Self = Self {
        nodes: 0,
        leaves: 0,
        entries: 0,
        groups: 0,
        seed: 0,
        lengths: 0,
        suffix_labels: 0,
        keys: 0,
        text: 0,
        names: 0,
    };
}

/// The arrays under construction: the router's own, then working memory.
pub(crate) struct Arena<'b> {
    pub(crate) text: &'b mut [u8],
    pub(crate) routes: &'b mut [Route],
    pub(crate) names: &'b mut [Span],
    pub(crate) leaves: &'b mut [Leaf],
    pub(crate) entries: &'b mut [Entry],
    /// Root node of each host group; group 0 is that of routes without a host.
    pub(crate) roots: &'b mut [u32],
    pub(crate) nodes: &'b mut [Node],
    pub(crate) first_bytes: &'b mut [u8],
    pub(crate) slots: &'b mut [Slot],
    pub(crate) multipliers: &'b mut [u32],

    pub(crate) order: &'b mut [u32],
    pub(crate) ranges: &'b mut [Range],
    pub(crate) keys: &'b mut [MapKey],
    pub(crate) scratch: Scratch<'b>,
    pub(crate) counts: Counts,
}

/// Two routes of the list that can never be told apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Conflict {
    pub(crate) route: u32,
    pub(crate) other: u32,
}

/// Finds conflicts one by one in the sorted order, in one pass.
pub(crate) struct ConflictScan {
    at: usize,
    /// For each method the first route of the present run that takes it.
    owners: [u32; methods::ALL.len()],
}

impl ConflictScan {
    pub(crate) const fn new() -> Self {
        Self { at: 0, owners: [NONE; methods::ALL.len()] }
    }

    /// The next route that an earlier one makes unreachable; each is reported once, with the first such route.
    pub(crate) const fn next(&mut self, arena: &Arena<'_>) -> Option<Conflict> {
        while self.at < arena.order.len() {
            let route = arena.order[self.at];
            let own = &arena.routes[route as usize];
            if self.at > 0 && !arena.is_same_run(arena.order[self.at - 1], route) {
                self.owners = [NONE; methods::ALL.len()];
            }
            self.at += 1;
            let (mut method, mut other) = (0, NONE);
            while method < methods::ALL.len() {
                if own.methods.contains(methods::ALL[method].0) {
                    if self.owners[method] == NONE {
                        self.owners[method] = route;
                    } else if self.owners[method] < other {
                        other = self.owners[method];
                    }
                }
                method += 1;
            }
            if other != NONE {
                return Some(Conflict { route, other });
            }
        }
        None
    }
}

/// What the order is sorted by.
#[derive(Clone, Copy)]
enum By {
    /// Host, static before parameters, key, predicates, place in the list: groups what is built together.
    Shape,
    /// Routes with predicates first, then place in the list: the order of trial at one leaf.
    Trial,
}

impl Arena<'_> {
    /// Writes the text of all routes, which must be valid. Once they are sorted, conflicts can be looked for.
    pub(crate) const fn lay_text(&mut self, specs: &[RouteSpec<'_>]) {
        let mut at = 0;
        while at < specs.len() {
            let spec = &specs[at];
            let Ok(pattern) = Pattern::parse(spec.pattern) else { panic!("checked by `Sizes::add`") };
            let host = match spec.host {
                None => Span::EMPTY,
                Some(host) => match check_host(host) {
                    Ok(len) => self.write_text(host.as_bytes(), len, true),
                    Err(_) => panic!("checked by `Sizes::add`"),
                },
            };
            let key = Span { start: self.counts.text as u32, len: pattern.key_len() as u32 };
            pattern.write_key(self.text, self.counts.text);
            self.counts.text += pattern.key_len();
            let text = self.write_text(spec.pattern.as_bytes(), spec.pattern.len(), false);
            let names = self.counts.names as u32;
            let mut param = 0;
            while param < pattern.params_len() {
                let span = pattern.name_span(param);
                self.names[self.counts.names] = Span { start: text.start + span.start as u32, len: span.len as u32 };
                self.counts.names += 1;
                param += 1;
            }
            self.routes[at] = Route {
                host,
                pattern: text,
                key,
                names,
                names_len: param as u8,
                methods: if spec.methods.is_empty() { methods::all() } else { spec.methods },
                predicates: spec.predicates,
            };
            self.order[at] = at as u32;
            at += 1;
        }
    }

    /// Sorts the routes by shape, for the compiler.
    pub(crate) const fn sort_shapes(&mut self) {
        self.sort(0, self.order.len(), By::Shape);
    }

    /// The same order at run time: a sort that keeps to the caches, and compares of words, take a fifth of the time.
    pub(crate) fn sort_shapes_fast(&mut self) {
        let (text, routes) = (&*self.text, &*self.routes);
        let shape = |at: u32| {
            let Route { host, key, names_len, predicates, .. } = routes[at as usize];
            (host.of(text), names_len != 0, key.of(text), predicates.0, at)
        };
        self.order.sort_unstable_by(|one, other| shape(*one).cmp(&shape(*other)));
    }

    const fn write_text(&mut self, bytes: &[u8], len: usize, lowercase: bool) -> Span {
        let start = self.counts.text;
        let mut at = 0;
        while at < len {
            self.text[start + at] = if lowercase { bytes[at].to_ascii_lowercase() } else { bytes[at] };
            at += 1;
        }
        self.counts.text += len;
        Span { start: start as u32, len: len as u32 }
    }

    /// Builds everything else. The routes must be laid out and free of conflicts.
    pub(crate) const fn lay_routes(&mut self) {
        self.roots[0] = NONE;
        self.counts.groups = 1;
        let mut at = 0;
        while at < self.order.len() {
            let host = self.routes[self.order[at] as usize].host;
            let from = at;
            while at < self.order.len() && self.compare_spans(host, self.routes[self.order[at] as usize].host) == 0 {
                at += 1;
            }
            // Sorted by host: routes without one come first, if there are any.
            let group = if host.len == 0 { 0 } else { self.add_group(host) };
            self.lay_group(group, from, at);
        }
        let count = self.counts.keys;
        self.counts.seed =
            hash::place_keys(self.text, self.keys, count, self.slots, self.multipliers, &mut self.scratch);
    }

    const fn add_group(&mut self, host: Span) -> u32 {
        let group = self.counts.groups as u32;
        self.roots[group as usize] = NONE;
        self.counts.groups += 1;
        if self.text[host.start as usize] == b'*' {
            let suffix = Span { start: host.start + 2, len: host.len - 2 };
            let (mut at, mut labels) = (0, 1);
            while at < suffix.len as usize {
                if self.text[suffix.start as usize + at] == b'.' {
                    labels += 1;
                }
                at += 1;
            }
            self.counts.suffix_labels |= 1 << labels;
            self.add_key(MapKey { key: suffix, space: SPACE_SUFFIX_HOSTS, value: group });
        } else {
            self.add_key(MapKey { key: host, space: SPACE_EXACT_HOSTS, value: group });
        }
        group
    }

    /// Lays the routes `low..high` of the order, all of one host: static ones, which sort first, then the tree.
    const fn lay_group(&mut self, group: u32, low: usize, high: usize) {
        let mut at = low;
        while at < high && self.routes[self.order[at] as usize].names_len == 0 {
            let key = self.key_at(at);
            let from = at;
            while at < high && self.compare_spans(key, self.key_at(at)) == 0 {
                at += 1;
            }
            let value = self.push_leaf(from, at);
            self.add_key(MapKey { key, space: SPACE_PATHS + group, value });
        }
        if at < high {
            self.roots[group as usize] = grow_tree(self, at, high);
        }
    }

    const fn add_key(&mut self, key: MapKey) {
        self.counts.lengths |= hash::length_bit(key.key.len as usize);
        self.keys[self.counts.keys] = key;
        self.counts.keys += 1;
    }

    /// The key of the route at `at` in the order.
    pub(crate) const fn key_at(&self, at: usize) -> Span {
        self.routes[self.order[at] as usize].key
    }

    /// Makes a leaf of the routes `low..high` of the order, all of one shape.
    pub(crate) const fn push_leaf(&mut self, low: usize, high: usize) -> u32 {
        self.sort(low, high, By::Trial);
        let leaf = self.counts.leaves;
        let first = self.counts.entries;
        let mut methods = MethodSet::new();
        let mut at = low;
        while at < high {
            let route = self.order[at];
            let Route { methods: own, names, names_len, .. } = self.routes[route as usize];
            self.entries[self.counts.entries] = Entry { methods: own, names_len, names, route };
            self.counts.entries += 1;
            methods = methods::union(methods, own);
            at += 1;
        }
        self.leaves[leaf] =
            Leaf { entries: first as u32, entries_len: (high - low) as u32, allow: methods::allow_of(methods) };
        self.counts.leaves += 1;
        leaf as u32
    }

    /// Heapsort: in place, no worst case, and short enough to be const.
    const fn sort(&mut self, low: usize, high: usize, by: By) {
        let len = high - low;
        if len < 2 {
            return;
        }
        let mut root = len / 2;
        while root > 0 {
            root -= 1;
            self.sift_down(low, root, len, by);
        }
        let mut end = len - 1;
        while end > 0 {
            self.swap(low, low + end);
            self.sift_down(low, 0, end, by);
            end -= 1;
        }
    }

    const fn sift_down(&mut self, low: usize, root: usize, len: usize, by: By) {
        let mut root = root;
        loop {
            let mut child = 2 * root + 1;
            if child >= len {
                return;
            }
            if child + 1 < len && self.is_less(self.order[low + child], self.order[low + child + 1], by) {
                child += 1;
            }
            if !self.is_less(self.order[low + root], self.order[low + child], by) {
                return;
            }
            self.swap(low + root, low + child);
            root = child;
        }
    }

    const fn swap(&mut self, one: usize, other: usize) {
        let held = self.order[one];
        self.order[one] = self.order[other];
        self.order[other] = held;
    }

    const fn is_less(&self, one: u32, other: u32, by: By) -> bool {
        let (a, b) = (&self.routes[one as usize], &self.routes[other as usize]);
        match by {
            By::Trial => {
                let (a_last, b_last) = (a.predicates.0 == 0, b.predicates.0 == 0);
                if a_last != b_last { b_last } else { one < other }
            }
            By::Shape => {
                let hosts = self.compare_spans(a.host, b.host);
                if hosts != 0 {
                    return hosts < 0;
                }
                if (a.names_len == 0) != (b.names_len == 0) {
                    return a.names_len == 0;
                }
                let keys = self.compare_spans(a.key, b.key);
                if keys != 0 {
                    return keys < 0;
                }
                if a.predicates.0 != b.predicates.0 { a.predicates.0 < b.predicates.0 } else { one < other }
            }
        }
    }

    /// Whether two routes have one host, shape of path and predicates.
    const fn is_same_run(&self, one: u32, other: u32) -> bool {
        let (a, b) = (&self.routes[one as usize], &self.routes[other as usize]);
        a.predicates.0 == b.predicates.0
            && self.compare_spans(a.key, b.key) == 0
            && self.compare_spans(a.host, b.host) == 0
    }

    /// Below, at or above zero, like two byte strings compare; a prefix comes first.
    const fn compare_spans(&self, one: Span, other: Span) -> i32 {
        let mut at = 0;
        while at < one.len as usize && at < other.len as usize {
            let (a, b) = (self.text[one.start as usize + at], self.text[other.start as usize + at]);
            if a != b {
                return a as i32 - b as i32;
            }
            at += 1;
        }
        one.len as i32 - other.len as i32
    }
}

/// The perfect hash of finished arrays.
pub(crate) const fn map_of<'a>(slots: &'a [Slot], multipliers: &'a [u32], counts: &Counts) -> Map<'a> {
    Map { slots, multipliers, seed: counts.seed, lengths: counts.lengths }
}
