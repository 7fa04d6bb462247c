//! From a slice of the request's path to a path below the root.

use super::super::percent;

/// The decoded path below the root: empty for the root itself, with a slash at the end where a directory is meant. `None`
/// for what is never served: empty segments (one file has one address), dot segments and hidden names, and escapes that
/// hide a slash or a NUL. The parser refuses most of these already; this does not rely on it.
pub(super) fn decode(raw: &str) -> Option<String> {
    let mut path = Vec::with_capacity(raw.len());
    let mut segments = raw.split('/').enumerate().peekable();
    while let Some((index, segment)) = segments.next() {
        let start = path.len();
        percent::decode(segment.as_bytes(), &mut path);
        let name = &path[start..];
        let is_last = segments.peek().is_none();
        let is_hidden = name.starts_with(b".") && (index > 0 || name != b".well-known");
        if name.is_empty() && !(is_last && (index > 0 || raw.is_empty())) || is_hidden || !is_one_name(name) {
            return None;
        }
        if !is_last {
            path.push(b'/');
        }
    }
    String::from_utf8(path).ok()
}

/// Whether `name` is the name of one file that may be served.
pub(super) fn is_file_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && is_one_name(name.as_bytes())
}

fn is_one_name(name: &[u8]) -> bool {
    memchr::memchr2(b'/', 0, name).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_paths_are_decoded_once() {
        for (raw, wanted) in [
            ("", ""),
            ("a", "a"),
            ("a/", "a/"),
            ("a/b.css", "a/b.css"),
            ("a%20b/%C3%A9", "a b/é"),
            ("%252e%252e/a", "%2e%2e/a"),
            ("..%5C..%5Ca", ""),
            ("a..b/c.", "a..b/c."),
            (".well-known/acme", ".well-known/acme"),
            ("a%5C..%5Cb", "a\\..\\b"),
        ] {
            let wanted = (!wanted.is_empty() || raw.is_empty()).then(|| wanted.to_owned());
            assert_eq!(decode(raw), wanted, "{raw}");
        }
    }

    #[test]
    fn what_could_lead_elsewhere_is_refused() {
        for raw in [
            "..", "../a", "a/..", "a/../b", ".", "a/./b", "%2e%2e/a", "%2E./a", "..%2fa", "a%2Fb", "%2fetc", "a%00b",
            "/", "/a", "//a", "a//b", "a//", "%FF",
        ] {
            assert_eq!(decode(raw), None, "{raw}");
        }
    }

    #[test]
    fn hidden_names_are_refused_wherever_they_stand() {
        for raw in [".git/config", "a/.env", ".well-known/.x", "a/.well-known/x", "%2egit/x", ".well-known2", "..."] {
            assert_eq!(decode(raw), None, "{raw}");
        }
    }

    #[test]
    fn an_index_is_one_name() {
        assert!(is_file_name("index.html"));
        for name in ["", ".", "..", "a/b", "/a", "a\0"] {
            assert!(!is_file_name(name), "{name:?}");
        }
    }
    proptest::proptest! {
        #[test]
        fn no_path_names_anything_but_visible_files_below_the_root(raw in "(\\.|/|a|%2[eEfF]|%00|%5[cC]|%25|2e){0,8}") {
            if let Some(path) = decode(&raw) {
                let segments: Vec<&str> = path.split('/').collect();
                let (last, parents) = segments.split_last().unwrap();
                assert!(parents.iter().all(|name| !name.is_empty() && !name.starts_with('.')), "{raw} {path}");
                assert!(!last.starts_with('.') && !path.contains('\0'), "{raw} {path}");
                assert_eq!(segments.len(), raw.split('/').count(), "an escape became a separator");
            }
        }
    }
}
