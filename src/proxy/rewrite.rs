//! The path that goes to the server.

use super::spec::PathRewrite;
use crate::handler::Request;
use crate::handler::template::{Escape, Template, UnknownParam};

/// What becomes of a path, ready to be done.
#[derive(Debug)]
pub(super) enum Rewrite {
    Keep,
    Prefix { strip: Vec<u8>, add: Vec<u8> },
    Template(Template),
}

impl Rewrite {
    /// For a route with these parameters.
    ///
    /// # Errors
    /// When a template names a parameter that the route has not.
    pub(super) fn new(path: &PathRewrite, params: &[&str]) -> Result<Self, UnknownParam> {
        // A prefix is given with or without the slash at its end; it means the same.
        let trim = |prefix: &str| prefix.trim_end_matches('/').as_bytes().to_vec();
        Ok(match path {
            PathRewrite::Keep => Self::Keep,
            PathRewrite::Prefix { strip, add } => Self::Prefix { strip: trim(strip), add: trim(add) },
            PathRewrite::Template(text) => Self::Template(Template::text(text, params)?),
        })
    }

    /// Appends the path for a request; it begins with a slash.
    pub(super) fn write(&self, request: &Request<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Keep => out.extend_from_slice(request.path_bytes()),
            Self::Prefix { strip, add } => {
                out.extend_from_slice(add);
                out.extend_from_slice(strip_prefix(request.path_bytes(), strip));
            }
            Self::Template(template) => {
                let start = out.len();
                template.render(request, Escape::AsSent, out);
                if out.get(start) != Some(&b'/') {
                    out.insert(start, b'/');
                }
            }
        }
    }
}

/// The path without the prefix, where it has it and the prefix ends with a segment.
fn strip_prefix<'p>(path: &'p [u8], prefix: &[u8]) -> &'p [u8] {
    match path.strip_prefix(prefix) {
        Some([]) => b"/",
        Some(rest) if rest.starts_with(b"/") => rest,
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_taken_away_at_the_end_of_a_segment_alone() {
        let strip = |path: &str, prefix: &str| {
            String::from_utf8(strip_prefix(path.as_bytes(), prefix.as_bytes()).to_vec()).unwrap()
        };
        assert_eq!(strip("/api/users", "/api"), "/users");
        assert_eq!(strip("/api", "/api"), "/");
        assert_eq!(strip("/api/", "/api"), "/");
        assert_eq!(strip("/apis", "/api"), "/apis");
        assert_eq!(strip("/other", "/api"), "/other");
        assert_eq!(strip("/any", ""), "/any");
    }
}
