//! Guests that ask upstreams: what they are told, and that nobody is told who is gone. What the upstream does, the integration
//! tests show.

use super::abi::{Action, Half};
use super::instance::{Fault, Instance};
use super::outgoing::{CallEnd, Unsent};
use super::stream::Stage;
use super::testing::{start, text};
use crate::http::{Fields, Status};
use crate::proxy::Told;

const IMPORTS: &str = r#"
    (import "env" "proxy_http_call" (func $ask (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_get_status" (func $status (param i32 i32 i32) (result i32)))
    (import "env" "proxy_set_effective_context" (func $turn_to (param i32) (result i32)))
    (import "env" "proxy_continue_stream" (func $resume (param i32) (result i32)))
    (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
    (import "env" "proxy_get_buffer_bytes" (func $bytes (param i32 i32 i32 i32 i32) (result i32)))"#;

/// Asks the upstream whose name is at 0 by the fields at 16, and keeps what it was told at 256, and the number at 260.
const ASK: &str = r#"
    (data (i32.const 0) "one" "two")
    (data (i32.const 16) "\03\00\00\00\07\00\00\00\03\00\00\00\05\00\00\00\01\00\00\00\0a\00\00\00\01\00\00\00:method\00GET\00:path\00/\00:authority\00h\00")
    (data (i32.const 128) "x-said" "x-sum")
    (func $ask_it (param $name i32)
      (i32.store (i32.const 256) (call $ask (local.get $name) (i32.const 3) (i32.const 16) (i32.const 61)
        (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 500) (i32.const 260))))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
      (call $ask_it (i32.const 0))
      (if (i32.load (i32.const 256)) (then unreachable))
      i32.const 1)"#;

fn open(guest: &mut Instance) -> u32 {
    guest.open(|stream| stream.request.stage = Stage::Open).unwrap()
}

/// A request that has asked, and what it asked.
fn ask(guest: &mut Instance) -> (u32, Unsent) {
    let id = open(guest);
    assert_eq!(guest.headers(Half::Request, id, true), Ok(Action::Pause));
    let mut unsent = guest.take_unsent();
    assert_eq!(unsent.len(), 1);
    (id, unsent.remove(0))
}

fn told() -> CallEnd {
    let (mut fields, mut trailers) = (Fields::new(), Fields::new());
    fields.push("X-Said", "yes").unwrap();
    trailers.push("X-Sum", "7").unwrap();
    CallEnd::of(Told { status: Status::OK, fields, body: b"body".to_vec(), trailers })
}

#[test]
fn an_answer_is_read_in_its_callback_and_not_after_it() {
    // It copies a field, a trailer and the body to the request, and its numbers: all have to be as expected.
    let body = r#"
        (func $copy (param $map i32) (param $name i32) (param $size i32)
          (if (call $get (local.get $map) (local.get $name) (local.get $size) (i32.const 300) (i32.const 304)) (then unreachable))
          (if (call $add (i32.const 0) (local.get $name) (local.get $size) (i32.load (i32.const 300)) (i32.load (i32.const 304)))
            (then unreachable)))
        (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
          (if (i32.ne (local.get 0) (i32.const 1)) (then unreachable))
          (if (i32.ne (local.get 1) (i32.load (i32.const 260))) (then unreachable))
          (if (i32.ne (local.get 2) (i32.const 2)) (then unreachable))
          (if (i32.ne (local.get 3) (i32.const 4)) (then unreachable))
          (if (i32.ne (local.get 4) (i32.const 1)) (then unreachable))
          (call $copy (i32.const 6) (i32.const 128) (i32.const 6))
          (call $copy (i32.const 7) (i32.const 134) (i32.const 5))
          (if (call $bytes (i32.const 4) (i32.const 0) (i32.const 99) (i32.const 300) (i32.const 304)) (then unreachable))
          (if (call $add (i32.const 0) (i32.const 128) (i32.const 6) (i32.load (i32.const 300)) (i32.load (i32.const 304)))
            (then unreachable))
          (if (call $resume (i32.const 0)) (then unreachable)))
        (func (export "proxy_on_request_body") (param i32 i32 i32) (result i32)
          (if (i32.ne (call $get (i32.const 6) (i32.const 128) (i32.const 6) (i32.const 300) (i32.const 304)) (i32.const 1))
            (then unreachable))
          (if (i32.ne (call $bytes (i32.const 4) (i32.const 0) (i32.const 99) (i32.const 300) (i32.const 304)) (i32.const 1))
            (then unreachable))
          i32.const 0)"#;
    let mut guest = start("call-read", &text(IMPORTS, &format!("{ASK}{body}"))).unwrap();
    let (id, unsent) = ask(&mut guest);
    guest.call_ended(unsent.key, told()).unwrap();
    let stream = guest.stream(id).unwrap();
    assert!(stream.request.resumed);
    let found = stream.request.headers.values(b"x-said").map(<[u8]>::to_vec).collect::<Vec<_>>();
    assert_eq!(found, [b"yes".to_vec(), b"body".to_vec()]);
    assert_eq!(stream.request.headers.get(b"x-sum"), Some(&b"7"[..]));
    assert_eq!(guest.request_body(id, true), Ok(Action::Continue));
    assert_eq!(guest.calls(), 0);
}

#[test]
fn a_call_without_an_answer_is_told_without_fields_and_as_reset() {
    let body = r#"(func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32)
        (if (i32.or (local.get 2) (i32.or (local.get 3) (local.get 4))) (then unreachable))
        (if (call $status (i32.const 300) (i32.const 304) (i32.const 308)) (then unreachable))
        (if (i32.ne (i32.load (i32.const 300)) (i32.const 11)) (then unreachable))
        (if (i32.ne (i32.load (i32.const 308)) (i32.const 5)) (then unreachable)))"#;
    let mut guest = start("call-failed", &text(IMPORTS, &format!("{ASK}{body}"))).unwrap();
    let (_, unsent) = ask(&mut guest);
    guest.call_ended(unsent.key, CallEnd::Failed).unwrap();
}

#[test]
fn nobody_is_called_for_a_request_that_is_gone() {
    let body = r#"(func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32) unreachable)"#;
    let mut guest = start("call-gone", &text(IMPORTS, &format!("{ASK}{body}"))).unwrap();
    let ((left, first), (finished, second)) = (ask(&mut guest), ask(&mut guest));
    assert_eq!(guest.calls(), 2);
    guest.leave(left);
    guest.finish(finished).unwrap();
    assert_eq!(guest.calls(), 0);
    // Another request has its place: it is not told of what that one asked.
    open(&mut guest);
    guest.call_ended(first.key, told()).unwrap();
    guest.call_ended(second.key, told()).unwrap();
}

#[test]
fn a_guest_that_traps_over_an_answer_fails_the_request_that_waits_for_it() {
    let body = r#"(func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32) unreachable)"#;
    let mut guest = start("call-traps", &text(IMPORTS, &format!("{ASK}{body}"))).unwrap();
    let (id, unsent) = ask(&mut guest);
    assert!(matches!(guest.call_ended(unsent.key, told()), Err(Fault::Trapped(_))));
    assert!(matches!(guest.stream(id).unwrap().fault, Some(Fault::Trapped(_))));
}

#[test]
fn an_upstream_that_there_is_not_and_fields_that_are_no_request_are_bad_arguments() {
    let body = r#"(func (export "proxy_on_tick") (param i32)
        (call $ask_it (i32.const 3))
        (if (i32.ne (i32.load (i32.const 256)) (i32.const 2)) (then unreachable))
        ;; Without a host: two pairs.
        (i32.store (i32.const 16) (i32.const 2))
        (call $ask_it (i32.const 0))
        (if (i32.ne (i32.load (i32.const 256)) (i32.const 2)) (then unreachable)))"#;
    let mut guest = start("call-bad", &text(IMPORTS, &format!("{ASK}{body}"))).unwrap();
    guest.tick().unwrap();
    assert_eq!((guest.take_unsent().len(), guest.calls()), (0, 0));
}

#[test]
fn the_plugin_itself_asks_from_its_timer() {
    let body = r#"(global $told (mut i32) (i32.const 0))
        (func (export "proxy_on_tick") (param i32)
          (if (global.get $told) (then unreachable))
          (call $ask_it (i32.const 0)))
        (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32) (global.set $told (i32.const 1)))"#;
    let mut guest = start("call-tick", &text(IMPORTS, &format!("{ASK}{body}"))).unwrap();
    guest.tick().unwrap();
    let unsent = guest.take_unsent().remove(0);
    // Requests come and go meanwhile.
    let id = open(&mut guest);
    guest.finish(id).unwrap();
    guest.call_ended(unsent.key, told()).unwrap();
    assert!(matches!(guest.tick(), Err(Fault::Trapped(_))), "it was told");
}
