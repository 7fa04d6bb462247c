//! Predicates against a naive evaluation.
