//! Targets: forms by method, authorities, and the normal path.

use super::*;
use proptest::prelude::*;

fn normal(raw: &str, slash: bool) -> Result<String, TargetError> {
    let mut out = b"left over".to_vec();
    Ok(match normalize_path(raw.as_bytes(), slash, &mut out)? {
        Normalized::AsIs => raw.to_owned(),
        Normalized::Rewritten => {
            assert_ne!(out, raw.as_bytes());
            String::from_utf8(out).unwrap()
        }
    })
}

#[test]
fn path_normal_form_resolves_dot_segments() {
    for (raw, want) in [
        ("/", "/"),
        ("/a/b", "/a/b"),
        ("/a/b/", "/a/b/"),
        ("/a/./b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/b/..", "/a/"),
        ("/a/b/.", "/a/b/"),
        ("/a/b/../../c", "/c"),
        ("/.", "/"),
        ("/a/..", "/"),
        ("/a/%2e%2E/b", "/b"),
        ("/a/.%2e/b", "/b"),
        ("/%2e/b", "/b"),
        ("/a//b", "/a//b"),
        ("/a//../b", "/a/b"),
        ("//", "//"),
        ("//a/..", "//"),
        ("/...", "/..."),
        ("/..a/.b/c.", "/..a/.b/c."),
        ("/.well-known/x", "/.well-known/x"),
    ] {
        assert_eq!(normal(raw, false).as_deref(), Ok(want), "{raw}");
    }
}

#[test]
fn path_normal_form_decodes_unreserved_once_and_keeps_other_escapes_uppercase() {
    for (raw, want) in [
        ("/%41%7a%30%2D%5f%7e", "/Az0-_~"),
        ("/a%20b", "/a%20b"),
        ("/%c3%a9", "/%C3%A9"),
        ("/%252e%252e/", "/%252e%252e/"),
        ("/%25%32%65", "/%252e"),
        ("/%3f%23%5c%0d", "/%3F%23%5C%0D"),
        ("/{id}[0]|^", "/%7Bid%7D%5B0%5D%7C%5E"),
        ("/!$&'()*+,;=:@", "/!$&'()*+,;=:@"),
    ] {
        assert_eq!(normal(raw, false).as_deref(), Ok(want), "{raw}");
    }
}

#[test]
fn path_refuses_what_systems_read_differently() {
    for (raw, want) in [
        ("/..", TargetError::AboveRoot),
        ("/a/../..", TargetError::AboveRoot),
        ("/%2e%2e/a", TargetError::AboveRoot),
        ("/a/%2f", TargetError::EncodedSlash),
        ("/a/%2Fb", TargetError::EncodedSlash),
        ("/a%00", TargetError::EncodedNul),
        ("/a%", TargetError::Escape),
        ("/a%2", TargetError::Escape),
        ("/a%2/", TargetError::Escape),
        ("/a%zz", TargetError::Escape),
        ("/a%+1", TargetError::Escape),
        ("/a\\b", TargetError::Byte),
        ("/a#b", TargetError::Byte),
        ("/a b", TargetError::Byte),
        ("/a\"b", TargetError::Byte),
        ("/<a>", TargetError::Byte),
        ("/`", TargetError::Byte),
        ("/\u{e9}", TargetError::Byte),
        ("/\u{7f}", TargetError::Byte),
        ("a", TargetError::Form),
        ("", TargetError::Form),
    ] {
        assert_eq!(normal(raw, false), Err(want), "{raw}");
    }
}

#[test]
fn path_keeps_an_allowed_encoded_slash_unless_it_hides_a_dot_segment() {
    assert_eq!(normal("/a%2fb", true).as_deref(), Ok("/a%2Fb"));
    assert_eq!(normal("/%2F..a%2F", true).as_deref(), Ok("/%2F..a%2F"));
    for raw in ["/..%2fa", "/a%2f..", "/a%2F.%2Fb", "/a%2f%2e%2e/b", "/a/%2e%2F", "/a%2f./"] {
        assert_eq!(normal(raw, true), Err(TargetError::EncodedSlash), "{raw}");
    }
}

#[test]
fn authority_takes_names_and_addresses_with_an_optional_port() {
    for (raw, host, port) in [
        ("example.com", "example.com", None),
        ("Example.COM:8080", "Example.COM", Some(8080)),
        ("127.0.0.1:80", "127.0.0.1", Some(80)),
        ("[::1]", "[::1]", None),
        ("[2001:DB8::1]:443", "[2001:DB8::1]", Some(443)),
        ("a_b~c", "a_b~c", None),
        ("example.com:", "example.com", None),
        ("a:65535", "a", Some(65535)),
    ] {
        assert_eq!(parse_authority(raw.as_bytes()), Some(Authority { host: host.as_bytes(), port }), "{raw}");
    }
}

#[test]
fn authority_refuses_everything_else() {
    let long = "a".repeat(HOST_BYTES_MAX + 1);
    for raw in [
        "",
        ":80",
        "a:b",
        "a:65536",
        "a:000080",
        "a:-1",
        "a:+1",
        "a:80:80",
        "a b",
        "a,b",
        "a/b",
        "a?b",
        "a#b",
        "user@a",
        "user:p@a",
        "a%41",
        "é",
        "[::1",
        "::1",
        "[::g]",
        "[]",
        "[::1]x",
        "[::1%eth0]",
        "[v1.a]",
        "[127.0.0.1]",
        "a\0",
        "a\\b",
        "[::1]:x",
        "a\t",
        &long,
    ] {
        assert_eq!(parse_authority(raw.as_bytes()), None, "{raw:?}");
    }
}

#[test]
fn authorities_compare_in_any_case_and_by_the_port_they_mean() {
    let same = |a: &str, b: &str, port| {
        parse_authority(a.as_bytes()).unwrap().is_same(&parse_authority(b.as_bytes()).unwrap(), port)
    };
    assert!(same("A.example", "a.EXAMPLE:80", 80));
    assert!(same("a:", "a", 80));
    assert!(same("a:443", "a", 443));
    assert!(!same("a:81", "a", 80));
    assert!(!same("a", "b", 80));
}

fn path() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/", ".", "..", "a", "%2e", "%2E", "%2f", "%2F", "%41", "%c3", "%25", "%32", "{", "%7b", "b", "%20", "%5c",
        "//", "%00", "%",
    ]);
    prop::collection::vec(piece, 0..14).prop_map(|pieces| format!("/{}", pieces.concat()))
}

/// An oracle that shares nothing with the code: decode, split, push and pop.
fn naive_normal(raw: &str) -> Option<String> {
    let mut decoded = String::new();
    let mut rest = raw;
    while let Some(c) = rest.chars().next() {
        rest = &rest[1..];
        if c == '%' {
            let b = rest.get(..2).filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()))?;
            let b = u8::from_str_radix(b, 16).ok()?;
            rest = &rest[2..];
            match b {
                0 | b'/' => return None,
                b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => decoded.push(b as char),
                _ => decoded.push_str(&format!("%{b:02X}")),
            }
        } else if c == '{' {
            decoded.push_str("%7B");
        } else {
            decoded.push(c);
        }
    }
    let mut stack: Vec<&str> = Vec::new();
    let mut is_directory = false;
    for segment in decoded[1..].split('/') {
        is_directory = matches!(segment, "." | "..");
        match segment {
            "." => {}
            ".." => drop(stack.pop()?),
            other => stack.push(other),
        }
    }
    if is_directory {
        stack.push("");
    }
    Some(format!("/{}", stack.join("/")))
}

proptest! {
    #[test]
    fn path_normal_form_is_idempotent_and_has_no_dot_segment(raw in path(), slash: bool) {
        if let Ok(once) = normal(&raw, slash) {
            prop_assert_eq!(normal(&once, slash), Ok(once.clone()));
            prop_assert!(once.starts_with('/'));
            prop_assert!(once[1..].split('/').all(|s| s != "." && s != ".."), "{}", once);
            prop_assert!(once.bytes().all(|b| b.is_ascii_graphic()));
        }
    }

    #[test]
    fn path_normal_form_agrees_with_a_naive_one(raw in path()) {
        prop_assert_eq!(normal(&raw, false).ok(), naive_normal(&raw));
    }

    #[test]
    fn path_of_random_bytes_never_panics(raw in prop::collection::vec(any::<u8>(), 0..40), slash: bool) {
        let mut out = Vec::new();
        let _ = normalize_path(&raw, slash, &mut out);
        let _ = parse_authority(&raw);
    }
}
