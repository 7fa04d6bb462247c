//! The radix tree of patterns with parameters, over flat arrays, and the matcher that walks it.
//!
//! Keys are patterns with each parameter replaced by one mark byte. A node holds a static label; below it come static
//! children told apart by their first byte, at most one `:param` child, and at most one `*wildcard`. The children of a
//! node stand in a row, so that choosing one is a byte search in `first_bytes`.
//!
//! The walk tries static before `:param` before `*wildcard` at each node and backtracks by parent links: no recursion,
//! no stack, no heap. It cannot blow up: a node is entered only from its one parent, at the one position where that
//! parent's label ended, and a parent tries each child at most once. So **a walk enters each node at most once**, and
//! costs at most (nodes of the host group) label compares, however the path was chosen. Nodes are at most two plus the
//! number of parameters for each route with parameters (`node_bound`).

use super::build::Arena;
use super::hash::Span;
use super::pattern::{PARAM_MARK, WILDCARD_MARK};
use super::scan::{begins_with, segment_len};
use crate::limits::ROUTE_PARAMS_MAX;

/// No node, no leaf.
pub(crate) const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
#[repr(align(32))] // half a cache line: a visit touches one
pub(crate) struct Node {
    label: u32,
    label_len: u16,
    statics_len: u16,
    statics: u32,
    param: u32,
    leaf: u32,
    wildcard: u32,
    parent: u32,
}

impl Node {
    pub(crate) const EMPTY: Self = Self {
        label: 0,
        label_len: 0,
        statics_len: 0,
        statics: 0,
        param: NONE,
        leaf: NONE,
        wildcard: NONE,
        parent: NONE,
    };
}

/// The routes of a node that is still to be expanded: a range of the sorted order, and how much of their keys is spent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    low: u32,
    high: u32,
    depth: u32,
}

impl Range {
    pub(crate) const EMPTY: Self = Self { low: 0, high: 0, depth: 0 };
}

/// Nodes that a route with `params` parameters adds at most: a split, a new branch, and one for each parameter.
pub(crate) const fn node_bound(params: usize) -> usize {
    if params == 0 { 0 } else { params + 2 }
}

/// Builds the tree of the routes `low..high` of the sorted order, all of one host; returns its root.
///
/// Breadth first: nodes wait in the node array itself, so neither const nor run time needs another queue.
pub(crate) const fn grow_tree(arena: &mut Arena<'_>, low: usize, high: usize) -> u32 {
    let root = arena.counts.nodes;
    push_node(arena, NONE, 0, Range { low: low as u32, high: high as u32, depth: 0 });
    let mut node = root;
    while node < arena.counts.nodes {
        expand_node(arena, node);
        node += 1;
    }
    root as u32
}

const fn push_node(arena: &mut Arena<'_>, parent: u32, first_byte: u8, range: Range) {
    let at = arena.counts.nodes;
    arena.nodes[at].parent = parent;
    arena.first_bytes[at] = first_byte;
    arena.ranges[at] = range;
    arena.counts.nodes += 1;
}

const fn expand_node(arena: &mut Arena<'_>, node: usize) {
    let Range { low, high, depth } = arena.ranges[node];
    let (mut at, high) = (low as usize, high as usize);
    let first = arena.key_at(at);
    let end = common_end(arena, first, arena.key_at(high - 1), depth as usize);
    arena.nodes[node].label = first.start + depth;
    arena.nodes[node].label_len = (end - depth as usize) as u16;
    // Sorted order: keys that end here, then the parameter's, then the wildcard's, then static ones by their byte.
    let mut param = Range::EMPTY;
    arena.nodes[node].statics = arena.counts.nodes as u32;
    while at < high {
        let byte = key_byte(arena, at, end);
        let from = at;
        while at < high && key_byte(arena, at, end) == byte {
            at += 1;
        }
        let range = Range { low: from as u32, high: at as u32, depth: end as u32 };
        if byte == 0 {
            arena.nodes[node].leaf = arena.push_leaf(from, at);
        } else if byte == PARAM_MARK {
            param = Range { depth: end as u32 + 1, ..range };
        } else if byte == WILDCARD_MARK {
            arena.nodes[node].wildcard = arena.push_leaf(from, at);
        } else {
            push_node(arena, node as u32, byte, range);
            arena.nodes[node].statics_len += 1;
        }
    }
    if param.high > 0 {
        arena.nodes[node].param = arena.counts.nodes as u32;
        push_node(arena, node as u32, PARAM_MARK, param);
    }
}

/// Byte `depth` of the key of the route at `at` in the order; zero, which no key contains, at its end.
const fn key_byte(arena: &Arena<'_>, at: usize, depth: usize) -> u8 {
    let key = arena.key_at(at);
    if depth < key.len as usize { arena.text[key.start as usize + depth] } else { 0 }
}

/// Where the common static text of all keys between two sorted ones ends.
const fn common_end(arena: &Arena<'_>, first: Span, last: Span, depth: usize) -> usize {
    let mut end = depth;
    while end < first.len as usize && end < last.len as usize {
        let byte = arena.text[first.start as usize + end];
        if byte != arena.text[last.start as usize + end] || byte <= WILDCARD_MARK {
            break;
        }
        end += 1;
    }
    end
}

/// Where the parameters of a match stand in the path: a fixed array without heap, filled by a lookup and kept by its caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spans {
    spans: [(u16, u16); ROUTE_PARAMS_MAX],
    len: u8,
}

impl Spans {
    /// No spans.
    pub const NONE: Self = Self { spans: [(0, 0); ROUTE_PARAMS_MAX], len: 0 };

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// The spans, as `(start, end)` in bytes of the path, from the left.
    pub fn as_slice(&self) -> &[(u16, u16)] {
        self.spans.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// A pattern has at most `ROUTE_PARAMS_MAX` parameters, and a walk is as deep as a pattern: there is always room.
    fn push(&mut self, start: usize, end: usize) {
        if let Some(span) = self.spans.get_mut(usize::from(self.len)) {
            *span = (start as u16, end as u16);
            self.len += 1;
        }
    }

    /// Start of the last span, which is removed.
    fn pop(&mut self) -> usize {
        self.len = self.len.saturating_sub(1);
        self.spans.get(usize::from(self.len)).map_or(0, |span| usize::from(span.0))
    }
}

/// Counts entered nodes, in tests; `()` counts nothing.
pub(crate) trait Steps {
    fn count_node(&mut self);
}

impl Steps for () {
    #[inline(always)]
    fn count_node(&mut self) {}
}

/// The tree's arrays, borrowed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tree<'a> {
    pub(crate) nodes: &'a [Node],
    pub(crate) first_bytes: &'a [u8],
}

/// What the walk does next; each keeps `node` and the position in the path.
enum Step {
    /// Compare the node's label.
    Enter,
    /// The static way failed or there is none: the `:param` child.
    Param,
    /// That failed too: the `*wildcard`.
    Wildcard,
    /// The node failed: back to its parent.
    Leave,
}

impl Tree<'_> {
    /// The leaf of the best match for `path` below `root`, with its parameters in `spans`.
    pub(crate) fn walk(
        &self,
        text: &[u8],
        root: u32,
        path: &[u8],
        spans: &mut Spans,
        steps: &mut impl Steps,
    ) -> Option<u32> {
        let (mut index, mut at) = (root, 0);
        let mut node = self.nodes.get(root as usize)?;
        let mut step = Step::Enter;
        loop {
            match step {
                Step::Enter => {
                    steps.count_node();
                    let label = Span { start: node.label, len: u32::from(node.label_len) }.of(text);
                    let rest = path.get(at..).unwrap_or_default();
                    step = Step::Leave;
                    if begins_with(rest, label) {
                        at += label.len();
                        step = Step::Param;
                        match path.get(at) {
                            None if node.leaf != NONE => return Some(node.leaf),
                            None => step = Step::Wildcard,
                            Some(&byte) => {
                                if let Some(child) = self.static_child(node, byte) {
                                    index = child;
                                    node = self.nodes.get(child as usize)?;
                                    step = Step::Enter;
                                }
                            }
                        }
                    }
                }
                Step::Param => {
                    step = Step::Wildcard;
                    if node.param != NONE {
                        let rest = path.get(at..).unwrap_or_default();
                        let len = segment_len(rest);
                        if len > 0 {
                            spans.push(at, at + len);
                            at += len;
                            index = node.param;
                            node = self.nodes.get(index as usize)?;
                            step = Step::Enter;
                        }
                    }
                }
                Step::Wildcard if node.wildcard != NONE => {
                    spans.push(at, path.len());
                    return Some(node.wildcard);
                }
                Step::Wildcard => {
                    at -= usize::from(node.label_len);
                    step = Step::Leave;
                }
                Step::Leave => {
                    // `at` is where this node's label began, which is where the parent's label (or parameter) ended.
                    let parent = self.nodes.get(node.parent as usize)?;
                    step = Step::Param;
                    if parent.param == index {
                        at = spans.pop();
                        step = Step::Wildcard;
                    }
                    index = node.parent;
                    node = parent;
                }
            }
        }
    }

    #[inline]
    fn static_child(&self, node: &Node, byte: u8) -> Option<u32> {
        let start = node.statics as usize;
        let bytes = self.first_bytes.get(start..start + usize::from(node.statics_len))?;
        // memchr costs more than it saves on the few branches that a node usually has.
        let at = if bytes.len() <= 8 { bytes.iter().position(|&b| b == byte)? } else { memchr::memchr(byte, bytes)? };
        Some((start + at) as u32)
    }
}
