//! Fixed responses: what is prepared, what is rendered, what is refused.

use super::super::testing::{ask, ask_slowly, get, request};
use super::*;
use crate::handler::Outcome;

fn spec(body: RespondBody) -> RespondSpec {
    RespondSpec { status: Status::OK, fields: Vec::new(), body }
}

fn text(text: &str) -> RespondSpec {
    spec(RespondBody::Text(text.into()))
}

fn with_field(spec: RespondSpec, name: &str, value: &str) -> RespondSpec {
    let mut fields = spec.fields;
    fields.push((name.into(), value.into()));
    RespondSpec { fields, ..spec }
}

#[test]
fn each_kind_of_body_has_its_media_type_unless_a_field_sets_one() {
    for (body, media_type, bytes) in [
        (RespondBody::Text("hi".into()), Some("text/plain; charset=utf-8"), &b"hi"[..]),
        (RespondBody::Json("[1]".into()), Some("application/json"), b"[1]"),
        (RespondBody::Bytes(vec![0, 255]), Some("application/octet-stream"), &[0, 255]),
        (RespondBody::Empty, None, b""),
    ] {
        let handler = Respond::new(spec(body.clone()), &[]).unwrap();
        assert_eq!(handler.pace(), Pace::Immediate);
        let answered = ask(&handler, "/", &get("/", &[]));
        assert_eq!((answered.status, answered.field("content-type")), (200, media_type));
        assert_eq!(answered.body, bytes);
        assert_eq!(answered.field("content-length"), Some(bytes.len().to_string().as_str()));

        let handler = Respond::new(with_field(spec(body), "content-type", "text/plain"), &[]).unwrap();
        assert_eq!(ask(&handler, "/", &get("/", &[])).field("content-type"), Some("text/plain"));
    }
}

#[test]
fn parameters_are_rendered_in_text_and_fields() {
    let spec = with_field(text("user {id} of {{id}}"), "X-User", "u/{id}");
    let handler = Respond::new(spec, &["id"]).unwrap();
    assert_eq!(handler.pace(), Pace::Immediate);
    let answered = ask(&handler, "/users/:id", &get("/users/a%20b", &[]));
    assert_eq!(answered.text(), "user a b of {id}");
    assert_eq!(answered.field("x-user"), Some("u/a%20b"));
    assert_eq!(answered.field("content-length"), Some("16"));
}

#[test]
fn a_parameter_in_json_stays_inside_its_string() {
    let json = r#"{"id":"{id}","{id}":{"a":"{no}"}}"#;
    let handler = Respond::new(spec(RespondBody::Json(json.into())), &["id"]).unwrap();
    let answered = ask(&handler, "/:id", &get("/%22%5C,%22x%22:%3Cb%3E", &[]));
    let value: serde_json::Value = serde_json::from_slice(&answered.body).unwrap();
    assert_eq!(value["id"], r#""\,"x":<b>"#);
    assert_eq!(value["{id}"]["a"], "{no}");
    assert!(!answered.body.contains(&b'<'));
}

#[test]
fn a_parameter_in_html_is_no_markup() {
    let spec = with_field(text("<p>{id}</p>"), "Content-Type", "text/html; charset=utf-8");
    let handler = Respond::new(spec, &["id"]).unwrap();
    let answered = ask(&handler, "/:id", &get("/%3Cscript%3E", &[]));
    assert_eq!(answered.text(), "<p>&lt;script&gt;</p>");
}

#[test]
fn head_gets_the_fields_and_no_body() {
    for body in ["short".to_owned(), "long ".repeat(10_000), "{id}".to_owned()] {
        let handler = Respond::new(text(&body), &["id"]).unwrap();
        let wanted = ask(&handler, "/:id", &get("/12", &[]));
        let answered = ask(&handler, "/:id", &request("HEAD", "/12", &[]));
        assert_eq!((answered.status, answered.body.len()), (200, 0));
        assert_eq!(answered.outcome, Outcome::Complete(Status::OK));
        assert_eq!(answered.field("content-length"), wanted.field("content-length"));
        assert_eq!(answered.field("content-type"), wanted.field("content-type"));
    }
}

#[test]
fn a_long_body_is_streamed_whole_however_little_the_client_takes() {
    let body = "0123456789abcdef".repeat(COPY_BYTES_MAX / 16) + "x";
    for (text_of, wanted) in [(body.clone(), body.clone()), (body.clone() + "{id}", body.clone() + "7")] {
        let handler = Respond::new(with_field(text(&text_of), "X-A", "b"), &["id"]).unwrap();
        assert_eq!(handler.pace(), Pace::Suspending);
        let answered = ask_slowly(&handler, "/:id", &get("/7", &[]), 1000);
        assert_eq!((answered.status, answered.field("x-a")), (200, Some("b")));
        assert_eq!(answered.outcome, Outcome::Complete(Status::OK));
        assert!(answered.text() == wanted);
    }
}

#[test]
fn a_body_of_exactly_the_bound_is_prepared() {
    let handler = Respond::new(spec(RespondBody::Bytes(vec![7; COPY_BYTES_MAX])), &[]).unwrap();
    assert_eq!(handler.pace(), Pace::Immediate);
}

#[test]
fn a_field_may_come_twice_and_the_status_may_be_any_final_one() {
    let status = Status::new(599).unwrap();
    let spec = RespondSpec { status, ..with_field(with_field(text("x"), "Set-Cookie", "a=1"), "Set-Cookie", "b=2") };
    let answered = ask(&Respond::new(spec, &[]).unwrap(), "/", &get("/", &[]));
    assert_eq!(answered.status, 599);
    let cookies: Vec<_> = answered.fields.iter().filter(|(name, _)| name == "set-cookie").collect();
    assert_eq!(cookies.len(), 2);
}

#[test]
fn no_content_has_neither_length_nor_type() {
    let spec = RespondSpec { status: Status::NO_CONTENT, ..spec(RespondBody::Empty) };
    let answered = ask(&Respond::new(spec, &[]).unwrap(), "/", &get("/", &[]));
    assert_eq!((answered.status, answered.field("content-length"), answered.field("content-type")), (204, None, None));
}

#[test]
fn mistakes_are_refused_and_named() {
    let refused = |spec: RespondSpec| Respond::new(spec, &["id"]).unwrap_err().to_string();
    let at = |status, body: &str| RespondSpec { status, ..text(body) };
    assert_eq!(refused(at(Status::EARLY_HINTS, "")), "status: expected a final status (200 to 999), found 103");
    for status in [Status::NO_CONTENT, Status::RESET_CONTENT, Status::NOT_MODIFIED] {
        assert!(refused(at(status, "x")).starts_with("expected no body with status"));
    }
    assert!(refused(with_field(text(""), "Content-Length", "1")).contains("\"Content-Length\""));
    assert!(refused(with_field(text(""), "a b", "1")).contains("token"));
    assert!(refused(with_field(text(""), "X-A", "a\r\nb")).contains("control byte"));
    assert!(refused(with_field(text(""), "X-A", "{nope}")).contains("(id), found {nope}"));
    assert!(refused(text("{nope}")).starts_with("body: expected a parameter of the route (id), found {nope}"));
}

#[test]
fn a_path_too_long_for_the_fields_is_the_clients_fault() {
    let handler = Respond::new(with_field(text(""), "X-A", "{id}{id}"), &["id"]).unwrap();
    let answered = ask(&handler, "/:id", &get(&format!("/{}", "a".repeat(40_000)), &[]));
    assert_eq!(answered.status, 414);
}
