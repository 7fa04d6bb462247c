//! Who depends on whom: names to indices, and the levels in which services start. Pure.

use std::collections::BTreeMap;
use std::fmt;

use crate::limits::{SERVICE_NAME_BYTES_MAX, SERVICES_MAX};

/// A service as the graph sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) name: String,
    /// The names of those that must be ready before it starts.
    pub(super) after: Vec<String>,
}

/// What is wrong with the services that a program declares. Its author is to blame; nothing has been started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GraphError {
    /// A name that is empty, too long, or has characters that a metric label and a log line should not have.
    Name {
        /// What was found.
        found: String,
    },
    /// Two services have one name.
    Duplicate {
        /// The name.
        name: String,
    },
    /// A service depends on one that nobody declared.
    Unknown {
        /// The service.
        service: String,
        /// What it names.
        dependency: String,
        /// The names that there are.
        known: Vec<String>,
    },
    /// Services wait for each other.
    Cycle {
        /// Each depends on the next; the last is the first again.
        path: Vec<String>,
    },
    /// More services than [`SERVICES_MAX`].
    TooMany {
        /// How many there are.
        found: usize,
    },
}

impl fmt::Display for GraphError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name { found } => write!(
                f,
                "name of a service: expected 1 to {SERVICE_NAME_BYTES_MAX} letters, digits, '-', '_' or '.', found {found:?}"
            ),
            Self::Duplicate { name } => write!(f, "service {name:?}: expected a name of its own, found it twice"),
            Self::Unknown { service, dependency, known } => {
                let known = known.join(", ");
                write!(f, "service {service:?}: expected to start after one of {known}; found {dependency:?}")
            }
            Self::Cycle { path } => {
                let path: Vec<_> = path.iter().map(|name| format!("{name:?}")).collect();
                write!(f, "services wait for each other: {}", path.join(" after "))
            }
            Self::TooMany { found } => write!(f, "services: expected at most {SERVICES_MAX}, found {found}"),
        }
    }
}

impl std::error::Error for GraphError {}

/// Services by their index, in levels: each depends on services of lower levels alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Graph {
    after: Vec<Vec<usize>>,
    levels: Vec<Vec<usize>>,
}

impl Graph {
    /// Orders the services.
    ///
    /// # Errors
    /// See [`GraphError`].
    pub(super) fn build(nodes: &[Node]) -> Result<Self, GraphError> {
        if nodes.len() > SERVICES_MAX {
            return Err(GraphError::TooMany { found: nodes.len() });
        }
        let mut indices = BTreeMap::new();
        for (index, node) in nodes.iter().enumerate() {
            if !is_name(&node.name) {
                return Err(GraphError::Name { found: node.name.clone() });
            }
            if indices.insert(node.name.as_str(), index).is_some() {
                return Err(GraphError::Duplicate { name: node.name.clone() });
            }
        }
        let mut after = Vec::with_capacity(nodes.len());
        for node in nodes {
            let find = |dependency: &String| {
                indices.get(dependency.as_str()).copied().ok_or_else(|| GraphError::Unknown {
                    service: node.name.clone(),
                    dependency: dependency.clone(),
                    known: nodes.iter().map(|node| node.name.clone()).collect(),
                })
            };
            let mut found = node.after.iter().map(find).collect::<Result<Vec<_>, _>>()?;
            found.sort_unstable();
            found.dedup();
            after.push(found);
        }
        let levels = level_out(&after).map_err(|path| GraphError::Cycle {
            path: path.into_iter().map(|index| nodes[index].name.clone()).collect(),
        })?;
        Ok(Self { after, levels })
    }

    pub(super) fn len(&self) -> usize {
        self.after.len()
    }

    /// The services of each level, lowest first.
    pub(super) fn levels(&self) -> &[Vec<usize>] {
        &self.levels
    }

    /// All that depend on this service, directly or through others, by index.
    pub(super) fn dependents(&self, of: usize) -> Vec<usize> {
        let mut is_dependent = vec![false; self.len()];
        // A level depends on lower ones alone, so one look at each service in this order finds all.
        for &index in self.levels.iter().flatten() {
            is_dependent[index] = self.after[index].iter().any(|&needed| needed == of || is_dependent[needed]);
        }
        (0..self.len()).filter(|&index| is_dependent[index]).collect()
    }
}

/// Whether it is fit to be a metric label, part of a log line and of a path.
pub(super) fn is_name(name: &str) -> bool {
    let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !name.is_empty() && name.len() <= SERVICE_NAME_BYTES_MAX && name.bytes().all(is_fit)
}

/// The levels, or a cycle.
fn level_out(after: &[Vec<usize>]) -> Result<Vec<Vec<usize>>, Vec<usize>> {
    let mut is_placed = vec![false; after.len()];
    let mut levels = Vec::new();
    let mut left = after.len();
    while left > 0 {
        let is_next = |&index: &usize| !is_placed[index] && after[index].iter().all(|&needed| is_placed[needed]);
        let level: Vec<usize> = (0..after.len()).filter(is_next).collect();
        if level.is_empty() {
            return Err(find_cycle(after, &is_placed));
        }
        left -= level.len();
        level.iter().for_each(|&index| is_placed[index] = true);
        levels.push(level);
    }
    Ok(levels)
}

/// Some of those that could not be placed wait for each other: whoever follows what is missing comes round.
fn find_cycle(after: &[Vec<usize>], is_placed: &[bool]) -> Vec<usize> {
    let missing = |of: usize| after[of].iter().copied().find(|&needed| !is_placed[needed]);
    let mut path = Vec::new();
    let mut next = is_placed.iter().position(|placed| !placed);
    while let Some(index) = next {
        if let Some(start) = path.iter().position(|&seen| seen == index) {
            path.drain(..start);
            path.push(index);
            return path;
        }
        path.push(index);
        next = missing(index);
    }
    unreachable!("a service without a missing dependency would have been placed")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn build(nodes: &[(&str, &[&str])]) -> Result<Graph, GraphError> {
        let node = |(name, after): &(&str, &[&str])| Node {
            name: (*name).to_owned(),
            after: after.iter().map(|name| (*name).to_owned()).collect(),
        };
        Graph::build(&nodes.iter().map(node).collect::<Vec<_>>())
    }

    fn told(nodes: &[(&str, &[&str])]) -> String {
        build(nodes).unwrap_err().to_string()
    }

    #[test]
    fn levels_hold_what_may_start_together() {
        let graph = build(&[("web", &["db", "cache"]), ("db", &[]), ("cache", &["db"]), ("log", &[])]).unwrap();
        assert_eq!(graph.levels(), [vec![1, 3], vec![2], vec![0]]);
        assert_eq!(graph.dependents(1), [0, 2]);
        assert!(graph.dependents(3).is_empty() && graph.dependents(0).is_empty());
    }

    #[test]
    fn a_cycle_is_told_with_its_path() {
        let nodes: [(&str, &[&str]); 4] = [("web", &["a"]), ("a", &["b"]), ("b", &["c"]), ("c", &["a"])];
        assert_eq!(told(&nodes), r#"services wait for each other: "a" after "b" after "c" after "a""#);
        assert_eq!(told(&[("a", &["a"])]), r#"services wait for each other: "a" after "a""#);
    }

    #[test]
    fn names_that_are_unknown_twice_or_unfit_are_told() {
        let unknown = r#"service "web": expected to start after one of web, db; found "bd""#;
        assert_eq!(told(&[("web", &["bd"]), ("db", &[])]), unknown);
        assert_eq!(told(&[("db", &[]), ("db", &[])]), r#"service "db": expected a name of its own, found it twice"#);
        for name in ["", "two words", "a\"b", "\u{e9}", &"x".repeat(SERVICE_NAME_BYTES_MAX + 1)] {
            assert_eq!(build(&[(name, &[])]), Err(GraphError::Name { found: name.to_owned() }));
        }
        let many: Vec<(String, &[&str])> = (0..=SERVICES_MAX).map(|n| (n.to_string(), &[][..])).collect();
        let many: Vec<(&str, &[&str])> = many.iter().map(|(name, after)| (name.as_str(), *after)).collect();
        assert_eq!(build(&many), Err(GraphError::TooMany { found: SERVICES_MAX + 1 }));
    }

    fn edges() -> impl Strategy<Value = (usize, Vec<(usize, usize)>)> {
        (1_usize..12).prop_flat_map(|count| (Just(count), prop::collection::vec((0..count, 0..count), 0..30)))
    }

    fn nodes(count: usize, edges: &[(usize, usize)]) -> Vec<Node> {
        let needs = |of: usize| edges.iter().filter(move |(from, _)| *from == of).map(|(_, to)| to.to_string());
        (0..count).map(|index| Node { name: index.to_string(), after: needs(index).collect() }).collect()
    }

    proptest! {
        /// Each order keeps every edge, or there is a cycle of real edges.
        #[test]
        fn either_every_dependency_is_lower_or_the_cycle_is_real((count, edges) in edges()) {
            match Graph::build(&nodes(count, &edges)) {
                Ok(graph) => {
                    let level = |of: usize| graph.levels().iter().position(|level| level.contains(&of)).unwrap();
                    prop_assert_eq!(graph.levels().iter().map(Vec::len).sum::<usize>(), count);
                    for (from, to) in edges {
                        prop_assert!(level(to) < level(from));
                        prop_assert!(graph.dependents(to).contains(&from));
                    }
                }
                Err(GraphError::Cycle { path }) => {
                    prop_assert!(path.len() > 1 && path.first() == path.last());
                    for pair in path.windows(2) {
                        let edge = (pair[0].parse().unwrap(), pair[1].parse().unwrap());
                        prop_assert!(edges.contains(&edge), "{:?}", pair);
                    }
                }
                Err(error) => prop_assert!(false, "{}", error),
            }
        }

        /// Edges to lower numbers alone cannot form a cycle.
        #[test]
        fn what_has_no_cycle_is_ordered((count, edges) in edges()) {
            let edges: Vec<_> = edges.into_iter().filter(|(from, to)| to < from).collect();
            prop_assert!(Graph::build(&nodes(count, &edges)).is_ok());
        }
    }
}
