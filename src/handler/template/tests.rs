//! What braces mean, and what values become.

use super::*;

const PARAMS: &[&str] = &["id", "rest"];

/// A template as text again, with `<name>` for a parameter.
fn shown(template: &Template) -> String {
    let pieces = template.pieces.iter().map(|piece| match piece {
        Piece::Fixed(bytes) => String::from_utf8(bytes.clone()).unwrap(),
        Piece::Param(name) => format!("<{name}>"),
    });
    pieces.collect()
}

fn escaped(value: &str, escape: Escape) -> String {
    let mut out = Vec::new();
    push_value(value, escape, &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn only_braces_right_around_an_identifier_are_special() {
    for (text, wanted) in [
        ("", ""),
        ("user {id}", "user <id>"),
        ("{id}{rest}", "<id><rest>"),
        ("{{id}}", "{id}"),
        ("{{other}}", "{other}"),
        ("{{{id}}}", "{<id>}"),
        ("{{{{id}}}}", "{{<id>}}"),
        ("{ id }", "{ id }"),
        ("{}", "{}"),
        ("{", "{"),
        ("}{", "}{"),
        ("{id", "{id"),
        ("id}", "id}"),
        ("{1}", "{1}"),
        ("{é}", "{é}"),
        (r#"{"a":{"b":1}}"#, r#"{"a":{"b":1}}"#),
        (r#"{"a":{"b":{id}}}"#, r#"{"a":{"b":<id>}}"#),
    ] {
        assert_eq!(shown(&Template::text(text, PARAMS).unwrap()), wanted, "{text}");
    }
}

#[test]
fn an_unknown_parameter_in_a_text_is_named_with_the_known_ones() {
    let error = Template::text("a {idd} b", PARAMS).unwrap_err();
    assert_eq!(
        error.to_string(),
        "expected a parameter of the route (id, rest), found {idd} (write {{idd}} for the text {idd})"
    );
    let error = Template::text("{id}", &[]).unwrap_err();
    assert!(error.to_string().starts_with("expected no parameter, for the route has none, found {id}"));
}

#[test]
fn json_takes_parameters_in_string_values_only() {
    for (json, wanted) in [
        (r#"{"id":"{id}"}"#, r#"{"id":"<id>"}"#),
        (r#"{"{id}" : "{id}"}"#, r#"{"{id}" : "<id>"}"#),
        (r#"["{id}","{other}","{{id}}","{{other}}"]"#, r#"["<id>","{other}","{id}","{{other}}"]"#),
        (r#"["a\"{id}\\"]"#, r#"["a\"<id>\\"]"#),
        (r#"{id}"#, "{id}"),
        (r#"{"a":{"b":{}}}"#, r#"{"a":{"b":{}}}"#),
        (r#"""#, r#"""#),
        (r#""{id}"#, r#""<id>"#),
        (r#""a\"#, r#""a\"#),
        ("\"é{id}é\"", "\"é<id>é\""),
    ] {
        assert_eq!(shown(&Template::json(json, PARAMS)), wanted, "{json}");
    }
}

#[test]
fn values_are_decoded_for_people_unless_they_are_no_plain_text() {
    assert_eq!(escaped("a%20b%C3%A9", Escape::Text), "a bé");
    assert_eq!(escaped("%252e", Escape::Text), "%2e");
    for kept in ["%FF", "a%0Ab", "%7F", "%C2%85", "%1B[31m"] {
        assert_eq!(escaped(kept, Escape::Text), kept);
        assert_eq!(escaped(kept, Escape::Json), kept);
    }
}

#[test]
fn values_cannot_leave_their_place() {
    assert_eq!(escaped("%22,%5C%3Cb%3E%26", Escape::Json), r#"\",\\\u003cb\u003e\u0026"#);
    assert_eq!(escaped("%3Cb%20x='%22'%3E&amp", Escape::Markup), "&lt;b x=&#39;&quot;&#39;&gt;&amp;amp");
    assert_eq!(escaped("a&b=c+d;e%26", Escape::Query), "a%26b%3Dc%2Bd%3Be%26");
    assert_eq!(escaped("a%20&", Escape::AsSent), "a%20&");
}

#[test]
fn the_media_type_decides_how_values_are_escaped() {
    for (media_type, wanted) in [
        ("text/plain; charset=utf-8", Escape::Text),
        ("Text/HTML;charset=utf-8", Escape::Markup),
        ("application/xhtml+xml", Escape::Markup),
        ("image/svg+xml", Escape::Markup),
        ("application/xml", Escape::Markup),
        ("application/json", Escape::Json),
        ("application/problem+json", Escape::Json),
        ("nonsense", Escape::Text),
    ] {
        assert_eq!(Escape::of_media_type(media_type), wanted, "{media_type}");
    }
}
