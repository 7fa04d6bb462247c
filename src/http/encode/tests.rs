//! Encoding: exact bytes, and a field list that no input can break out of.

use super::*;
use proptest::prelude::*;

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn status_line_and_lengths_have_their_exact_bytes() {
    assert_eq!(written(|o| write_status_line(o, Status::OK)), "HTTP/1.1 200 OK\r\n");
    assert_eq!(written(|o| write_status_line(o, Status::new(299).unwrap())), "HTTP/1.1 299 \r\n");
    assert_eq!(written(|o| write_content_length(o, 0)), "Content-Length: 0\r\n");
    assert_eq!(written(|o| write_content_length(o, u64::MAX)), "Content-Length: 18446744073709551615\r\n");
    assert_eq!(written(|o| write_field(o, "Allow", "GET")), "Allow: GET\r\n");
}

#[test]
fn chunk_head_is_lowercase_hex_without_leading_zeros() {
    for n in [1, 9, 15, 16, 255, 256, 4096, 65_535, 1 << 60, u64::MAX] {
        assert_eq!(written(|o| write_chunk_head(o, n)), format!("{n:x}\r\n"));
    }
}

#[test]
fn fields_are_kept_in_order_and_found_in_any_case() {
    let mut fields = Fields::new();
    fields.push("Content-Type", "text/plain").unwrap();
    fields.push("Set-Cookie", b"a=1").unwrap();
    fields.push("set-cookie", "  b=2\t").unwrap();
    assert_eq!(fields.encoded(), b"Content-Type: text/plain\r\nSet-Cookie: a=1\r\nset-cookie: b=2\r\n");
    assert_eq!(fields.get("SET-COOKIE"), Some(&b"a=1"[..]));
    assert_eq!(fields.len(), 3);
    assert_eq!(fields.iter().nth(2), Some(("set-cookie", &b"b=2"[..])));
    fields.set("content-TYPE", "text/html").unwrap();
    assert_eq!(fields.encoded(), b"Set-Cookie: a=1\r\nset-cookie: b=2\r\ncontent-TYPE: text/html\r\n");
    assert!(fields.remove("set-cookie"));
    assert!(!fields.remove("set-cookie"));
    assert_eq!(fields.encoded(), b"content-TYPE: text/html\r\n");
    fields.clear();
    assert!(fields.is_empty() && fields.encoded().is_empty());
}

#[test]
fn fields_refuse_header_injection() {
    let mut fields = Fields::new();
    for bad in ["a\r\nSet-Cookie: x", "a\nb", "a\rb", "a\0b", "\u{7f}", "\u{b}", "\r\n"] {
        assert_eq!(fields.push("X", bad), Err(FieldError::Value), "{bad:?}");
        assert_eq!(fields.set("X", bad), Err(FieldError::Value), "{bad:?}");
    }
    for bad in ["", "a b", "a:", "a\r\n", "a\0", "é"] {
        assert_eq!(fields.push(bad, "x"), Err(FieldError::Name), "{bad:?}");
    }
    assert!(fields.is_empty());
    fields.push("X", "caf\u{e9}").unwrap();
}

#[test]
fn fields_leave_framing_and_connection_to_the_server() {
    let mut fields = Fields::new();
    for name in ["Content-Length", "TRANSFER-ENCODING", "connection", "Keep-Alive", "Trailer", "Upgrade"] {
        assert_eq!(fields.push(name, "x"), Err(FieldError::ServerOwned));
        assert_eq!(fields.set(name, "x"), Err(FieldError::ServerOwned));
    }
    for name in ["Date", "Server", "Content-Type"] {
        fields.push(name, "x").unwrap();
    }
}

#[test]
fn vary_says_once_that_a_response_depends_on_a_field() {
    for (before, after) in [
        (vec![], vec!["Origin"]),
        (vec!["Accept", "Accept-Encoding"], vec!["Accept, Accept-Encoding, Origin"]),
        (vec!["accept, origin"], vec!["accept, origin"]),
        (vec!["a", "*"], vec!["a", "*"]),
    ] {
        let mut fields = Fields::new();
        before.iter().for_each(|line| fields.push("vary", line).unwrap());
        fields.add_vary("Origin").unwrap();
        assert_eq!(fields.values("Vary").map(|value| str::from_utf8(value).unwrap()).collect::<Vec<_>>(), after);
    }
}

#[test]
fn a_line_that_was_checked_does_what_its_name_and_value_do() {
    let (mut by_line, mut by_parts) = (Fields::new(), Fields::new());
    for (name, value) in [("A", "1"), ("b", ""), ("a", " 2\t"), ("B", "3")] {
        let line = FieldLine::new(name, value).unwrap();
        assert_eq!(line.name(), name.as_bytes());
        by_line.push_line(&line).unwrap();
        by_parts.push(name, value).unwrap();
        assert_eq!(by_line, by_parts);
    }
    by_line.set_line(&FieldLine::new("a", "4").unwrap()).unwrap();
    by_parts.set("a", "4").unwrap();
    assert_eq!(by_line, by_parts);
    assert_eq!(by_line.encoded(), b"b: \r\nB: 3\r\na: 4\r\n");
    for (name, value, error) in
        [("a b", "1", FieldError::Name), ("a", "\n", FieldError::Value), ("Upgrade", "1", FieldError::ServerOwned)]
    {
        assert_eq!(FieldLine::new(name, value), Err(error));
    }
    let full = FieldLine::new("a", "x".repeat(RESPONSE_FIELDS_BYTES_MAX)).unwrap();
    assert_eq!(by_line.set_line(&full), Err(FieldError::TooLarge));
    assert_eq!(by_line, by_parts, "nothing has changed");
}

#[test]
fn fields_are_bounded_and_a_refused_field_changes_nothing() {
    let mut fields = Fields::new();
    for _ in 0..RESPONSE_FIELDS_MAX {
        fields.push("a", "b").unwrap();
    }
    let before = fields.clone();
    assert_eq!(fields.push("a", "b"), Err(FieldError::TooLarge));
    assert_eq!(fields.set("a", "b"), Err(FieldError::TooLarge));
    assert_eq!(fields, before);
    fields.clear();
    assert_eq!(fields.push("a", vec![b'x'; RESPONSE_FIELDS_BYTES_MAX]), Err(FieldError::TooLarge));
}

/// A list of fields as its methods should leave it, done the simplest way.
#[derive(Default)]
struct Naive(Vec<(String, String)>);

impl Naive {
    fn remove(&mut self, name: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|(own, _)| !own.eq_ignore_ascii_case(name));
        self.0.len() < before
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

proptest! {
    /// Names that differ in little, so that what tells most of them apart at a glance is wrong often.
    #[test]
    fn fields_are_changed_as_a_plain_list_would_be(
        steps in prop::collection::vec((0..8_u8, "[aAbB][-a]{0,2}[aB_]?", "[0-9]{0,3}"), 0..60),
    ) {
        static TOGETHER: FieldNames<3> = FieldNames::new(["a-a", "B", "aaB"]);
        let (mut fields, mut naive) = (Fields::new(), Naive::default());
        let mut others = Fields::new();
        for (step, name, value) in steps {
            prop_assert_eq!(fields.contains(&name), naive.get(&name).is_some());
            prop_assert_eq!(fields.get(&name), naive.get(&name).map(str::as_bytes));
            let line = FieldLine::new(&name, &value).unwrap();
            match step {
                0 => fields.push(&name, &value).unwrap(),
                1 => fields.push_line(&line).unwrap(),
                2 => fields.set(&name, &value).unwrap(),
                3 => fields.set_line(&line).unwrap(),
                4 => prop_assert_eq!(fields.remove(&name), naive.remove(&name)),
                5 => fields.remove_all(&TOGETHER),
                6 => fields.push_missing(&others).unwrap(),
                _ => {
                    let mut copy = Fields::new();
                    copy.clone_from(&fields);
                    fields = copy;
                    if !others.contains(&name) {
                        others.push(&name, &value).unwrap();
                    }
                }
            }
            match step {
                2 | 3 => {
                    naive.remove(&name);
                    naive.0.push((name, value));
                }
                0 | 1 => naive.0.push((name, value)),
                5 => ["a-a", "B", "aaB"].into_iter().for_each(|name| _ = naive.remove(name)),
                6 => for (name, value) in others.iter() {
                    if naive.get(name).is_none() {
                        naive.0.push((name.to_owned(), str::from_utf8(value).unwrap().to_owned()));
                    }
                },
                _ => {}
            }
            let found: Vec<_> = fields.iter().map(|(name, value)| (name.to_owned(), str::from_utf8(value).unwrap().to_owned())).collect();
            prop_assert_eq!(&found, &naive.0);
        }
    }

    #[test]
    fn fields_always_encode_to_exactly_the_fields_pushed(
        pairs in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..8), prop::collection::vec(any::<u8>(), 0..16)), 0..12),
        drop in "[a-c]",
    ) {
        let mut fields = Fields::new();
        let mut kept = 0;
        for (name, value) in &pairs {
            kept += usize::from(fields.push(name, value).is_ok());
        }
        fields.push(&drop, "1").unwrap();
        fields.push("z", "2").unwrap();
        fields.push(&drop, "3").unwrap();
        prop_assert_eq!(fields.len(), kept + 3);
        fields.remove(&drop);
        let lines: Vec<&[u8]> = fields.encoded().split_inclusive(|&b| b == b'\n').collect();
        prop_assert_eq!(lines.len(), fields.len());
        for (line, (name, value)) in lines.iter().zip(fields.iter()) {
            prop_assert_eq!(*line, [name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
    }
}
