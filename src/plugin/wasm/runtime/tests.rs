//! Guests that behave, and guests that do not.

use std::net::SocketAddr;

use super::abi::{Action, Half};
use super::fields::Of;
use super::instance::{Fault, Instance};
use super::stream::{Stage, Wish};
use super::testing::{compile, setting, start, text};
use crate::limits::WASM_LINGERING_MAX;

/// A request with a few fields.
fn open(instance: &mut Instance) -> Result<u32, Fault> {
    instance.open(|stream| {
        stream.request.headers.reset(Of::Request);
        stream.request.stage = Stage::Open;
        for (name, value) in [(":method", "GET"), (":path", "/a?b=c"), (":authority", "example.com"), ("X-One", "1")] {
            stream.request.headers.load(name.as_bytes(), value.as_bytes());
        }
        stream.facts.peer = SocketAddr::from(([192, 0, 2, 7], 4711));
    })
}

#[test]
fn a_guest_that_does_nothing_goes_on() {
    let mut guest = start("idle", &text("", "")).unwrap();
    let id = open(&mut guest).unwrap();
    assert_eq!(guest.headers(Half::Request, id, true), Ok(Action::Continue));
    assert_eq!(guest.headers(Half::Response, id, true), Ok(Action::Continue));
    guest.finish(id).unwrap();
    assert_eq!(guest.streams(), 0);
    assert!(matches!(guest.headers(Half::Request, id, true), Err(Fault::Gone(_))), "it is forgotten");
}

#[test]
fn an_endless_loop_is_stopped_and_the_guest_can_be_called_again() {
    let body = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (loop $l (br $l)) i32.const 0)
        (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) i32.const 0)"#;
    let mut guest = start("loop", &text("", body)).unwrap();
    let id = open(&mut guest).unwrap();
    assert_eq!(guest.headers(Half::Request, id, true), Err(Fault::Overrun(setting("loop", "").time_max)));
    assert_eq!(
        guest.headers(Half::Response, id, true),
        Ok(Action::Continue),
        "those who are in the middle of it end with it"
    );
}

#[test]
fn a_guest_that_allocates_without_end_is_refused_and_named() {
    let body = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
        unreachable)"#;
    let mut guest = start("grow", &text("", body)).unwrap();
    let id = open(&mut guest).unwrap();
    let Err(Fault::Trapped(what)) = guest.headers(Half::Request, id, true) else { panic!("it traps") };
    assert!(what.contains("refused more memory than its 4194304 bytes"), "{what}");
}

#[test]
fn recursion_without_end_ends_at_the_stack() {
    let body = r#"(func $f (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
        (call $f (local.get 0) (local.get 1) (local.get 2)) (call $f (local.get 0) (local.get 1) (local.get 2)) i32.add)"#;
    let mut guest = start("deep", &text("", body)).unwrap();
    let id = open(&mut guest).unwrap();
    let Err(Fault::Trapped(what)) = guest.headers(Half::Request, id, true) else { panic!("it traps") };
    assert!(what.contains("stack"), "{what}");
}

#[test]
fn an_allocator_that_asks_the_host_for_more_does_not_go_round_for_ever() {
    let imports = r#"(import "env" "proxy_get_buffer_bytes" (func $get (param i32 i32 i32 i32 i32) (result i32)))"#;
    let text = format!(
        r#"(module {imports} (memory (export "memory") 2) (func (export "proxy_abi_version_0_2_1"))
        (func $get_it (result i32) (call $get (i32.const 7) (i32.const 0) (i32.const -1) (i32.const 0) (i32.const 4)))
        (func (export "malloc") (param i32) (result i32) (i32.store (i32.const 16) (call $get_it)) i32.const 1024)
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) (drop (call $get_it)) (i32.load (i32.const 16))))"#
    );
    let mut guest = start("round", &text).unwrap();
    let id = open(&mut guest).unwrap();
    // What the allocator was told: an internal failure, 10, which is not zero.
    assert_eq!(guest.headers(Half::Request, id, true), Ok(Action::Pause));
}

#[test]
fn fields_are_read_and_edited() {
    let imports = r#"
        (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_replace_header_map_value" (func $replace (param i32 i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_remove_header_map_value" (func $remove (param i32 i32 i32) (result i32)))
        (import "env" "proxy_get_header_map_value" (func $get (param i32 i32 i32 i32 i32) (result i32)))"#;
    let body = r#"(data (i32.const 0) "x-one" "x-two" ":path" "/new" "bad name")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          ;; x-two is set to the value of x-one, x-one goes, the path is another.
          (if (call $get (i32.const 0) (i32.const 0) (i32.const 5) (i32.const 100) (i32.const 104)) (then unreachable))
          (if (call $add (i32.const 0) (i32.const 5) (i32.const 5) (i32.load (i32.const 100)) (i32.load (i32.const 104))) (then unreachable))
          (if (call $remove (i32.const 0) (i32.const 0) (i32.const 5)) (then unreachable))
          (if (call $replace (i32.const 0) (i32.const 10) (i32.const 5) (i32.const 15) (i32.const 4)) (then unreachable))
          ;; A name that is none, and a map that is not there yet.
          (if (i32.ne (call $add (i32.const 0) (i32.const 19) (i32.const 8) (i32.const 0) (i32.const 1)) (i32.const 2)) (then unreachable))
          (if (i32.ne (call $add (i32.const 2) (i32.const 5) (i32.const 5) (i32.const 0) (i32.const 1)) (i32.const 2)) (then unreachable))
          i32.const 0)"#;
    let mut guest = start("edit", &text(imports, body)).unwrap();
    let id = open(&mut guest).unwrap();
    assert_eq!(guest.headers(Half::Request, id, true), Ok(Action::Continue));
    let headers = &guest.stream(id).unwrap().request.headers;
    let expected = [(":method", "GET"), (":path", "/new"), (":authority", "example.com"), ("x-two", "1")];
    let expected = expected.map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    assert_eq!(headers.iter().collect::<Vec<_>>(), expected);
    assert_eq!(headers.touched().collect::<Vec<_>>(), [&b"x-two"[..], b"x-one", b":path"]);
}

#[test]
fn an_answer_of_the_guests_own_is_taken() {
    let imports = r#"(import "env" "proxy_send_local_response"
        (func $send (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))"#;
    let body = r#"(data (i32.const 0) "no entry" "\01\00\00\00\01\00\00\00\02\00\00\00a\00bc\00")
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (if (i32.ne (call $send (i32.const 99) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 8) (i32.const 0) (i32.const 0) (i32.const -1)) (i32.const 2)) (then unreachable))
          (if (call $send (i32.const 403) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 8) (i32.const 8) (i32.const 17) (i32.const -1)) (then unreachable))
          i32.const 1)"#;
    let mut guest = start("answer", &text(imports, body)).unwrap();
    let id = open(&mut guest).unwrap();
    assert_eq!(guest.headers(Half::Request, id, true), Ok(Action::Pause));
    let Wish::Answer(answer) = &guest.stream(id).unwrap().wish else { panic!("an answer") };
    assert_eq!((answer.status, answer.body.as_slice()), (403, &b"no entry"[..]));
    assert_eq!(answer.fields.iter().collect::<Vec<_>>(), [("a", &b"bc"[..])]);
}

#[test]
fn a_body_is_rewritten() {
    let imports = r#"(import "env" "proxy_set_buffer_bytes" (func $set (param i32 i32 i32 i32 i32) (result i32)))"#;
    let body = r#"(data (i32.const 0) "<>")
        (func (export "proxy_on_response_body") (param i32 i32 i32) (result i32)
          (if (i32.eqz (local.get 2)) (then (return (i32.const 1))))
          (if (call $set (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1)) (then unreachable))
          (if (call $set (i32.const 1) (i32.const -1) (i32.const 0) (i32.const 1) (i32.const 1)) (then unreachable))
          (if (call $set (i32.const 1) (i32.const 2) (i32.const 1) (i32.const 0) (i32.const 0)) (then unreachable))
          i32.const 0)"#;
    let mut guest = start("body", &text(imports, body)).unwrap();
    let id = open(&mut guest).unwrap();
    guest.stream(id).unwrap().response.body.extend_from_slice(b"ab");
    assert_eq!(guest.response_body(id, false), Ok(Action::Pause));
    guest.stream(id).unwrap().response.body.extend_from_slice(b"c");
    assert_eq!(guest.response_body(id, true), Ok(Action::Continue));
    assert_eq!(guest.stream(id).unwrap().response.body, b"<ac>");
}

#[test]
fn properties_have_the_names_and_forms_of_envoy() {
    let imports = r#"(import "env" "proxy_get_property" (func $get (param i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_log" (func $log (param i32 i32 i32) (result i32)))
        (import "env" "proxy_add_header_map_value" (func $add (param i32 i32 i32 i32 i32) (result i32)))"#;
    let body = r#"(data (i32.const 0) "request\00path" "source\00address" "plugin_root_id" "request\00headers\00x-one" "nothing" "x")
        (func $one (param i32 i32)
          (if (call $get (local.get 0) (local.get 1) (i32.const 200) (i32.const 204)) (then unreachable))
          (if (call $add (i32.const 0) (i32.const 68) (i32.const 1) (i32.load (i32.const 200)) (i32.load (i32.const 204))) (then unreachable)))
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
          (call $one (i32.const 0) (i32.const 12))
          (call $one (i32.const 12) (i32.const 14))
          (call $one (i32.const 26) (i32.const 14))
          (call $one (i32.const 40) (i32.const 21))
          (i32.ne (call $get (i32.const 61) (i32.const 7) (i32.const 200) (i32.const 204)) (i32.const 1)))"#;
    let mut guest = start("properties", &text(imports, body)).unwrap();
    let id = open(&mut guest).unwrap();
    assert_eq!(guest.headers(Half::Request, id, true), Ok(Action::Continue), "an unknown one is not found");
    let found = guest.stream(id).unwrap().request.headers.values(b"x").map(<[u8]>::to_vec).collect::<Vec<_>>();
    assert_eq!(found, [b"/a?b=c".to_vec(), b"192.0.2.7:4711".to_vec(), b"root".to_vec(), b"1".to_vec()]);
}

#[test]
fn a_request_whose_end_is_put_off_is_ended_by_the_guest() {
    let imports = r#"(import "env" "proxy_done" (func $done (result i32)))
        (import "env" "proxy_set_effective_context" (func $turn_to (param i32) (result i32)))"#;
    let body = r#"(global $kept (mut i32) (i32.const 0)) (global $deleted (mut i32) (i32.const 0))
        (func (export "proxy_on_done") (param i32) (result i32) (global.set $kept (local.get 0)) i32.const 0)
        (func (export "proxy_on_delete") (param i32) (if (i32.ne (local.get 0) (global.get $kept)) (then unreachable)))
        (func (export "proxy_on_tick") (param i32)
          (if (call $turn_to (global.get $kept)) (then unreachable))
          (if (call $done) (then unreachable)))"#;
    let mut guest = start("linger", &text(imports, body)).unwrap();
    let id = open(&mut guest).unwrap();
    guest.finish(id).unwrap();
    assert_eq!(guest.streams(), 1);
    guest.tick().unwrap();
    assert_eq!(guest.streams(), 0);
}

#[test]
fn the_oldest_of_too_many_requests_whose_end_is_put_off_ends() {
    // It never says that it is done, and each that ends is the one behind the last that did: ids begin at 65538.
    let body = r#"(global $ended (mut i32) (i32.const 65537))
        (func (export "proxy_on_done") (param i32) (result i32) i32.const 0)
        (func (export "proxy_on_delete") (param i32)
          (global.set $ended (i32.add (global.get $ended) (i32.const 1)))
          (if (i32.ne (local.get 0) (global.get $ended)) (then unreachable)))"#;
    let mut guest = start("linger-long", &text("", body)).unwrap();
    for number in 1..=WASM_LINGERING_MAX + 3 {
        let id = open(&mut guest).unwrap();
        guest.finish(id).unwrap();
        assert_eq!(guest.streams(), number.min(WASM_LINGERING_MAX));
    }
}

#[test]
fn a_guest_that_refuses_its_configuration_does_not_start() {
    let body = r#"(func (export "proxy_on_configure") (param i32 i32) (result i32) i32.const 0)"#;
    let Err(Fault::Start(what)) = start("refuses", &text("", body)) else { panic!("it does not start") };
    assert!(what.contains("proxy_on_configure gave back false"), "{what}");
}

#[test]
fn a_trial_of_a_guest_leaves_what_its_module_shares_as_it_is() {
    let imports = r#"(import "env" "proxy_set_shared_data" (func $set (param i32 i32 i32 i32 i32) (result i32)))
        (import "env" "proxy_register_shared_queue" (func $queue (param i32 i32 i32) (result i32)))
        (import "env" "proxy_dequeue_shared_queue" (func $take (param i32 i32 i32) (result i32)))"#;
    let body = r#"(data (i32.const 0) "k")
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
          (drop (call $set (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 0)))
          (drop (call $queue (i32.const 0) (i32.const 1) (i32.const 16)))
          (drop (call $take (i32.load (i32.const 16)) (i32.const 20) (i32.const 24)))
          i32.const 1)"#;
    let (program, setting) = (compile(&text(imports, body)).unwrap(), setting("trial", ""));
    let shared = &setting.shared;
    shared.set(b"k", b"live", 0).unwrap();
    let queue = shared.register_queue(b"k", None).unwrap();
    shared.enqueue(queue, b"item").unwrap();
    Instance::try_out(&program, &setting).unwrap();
    let mut found = Vec::new();
    shared.get(b"k", &mut found).unwrap();
    shared.dequeue(queue, &mut found).unwrap();
    assert_eq!(found, b"liveitem");
    // As a guest that is kept does.
    let _guest = Instance::start(&program, &setting).unwrap();
    found.clear();
    shared.get(b"k", &mut found).unwrap();
    assert_eq!(found, b"k");
}

#[test]
fn modules_that_cannot_work_are_refused_with_what_is_missing() {
    let cases = [
        ("(module (memory (export \"memory\") 1))", "exports none of proxy_abi_version_0_2_1"),
        (
            "(module (memory (export \"memory\") 1) (func (export \"proxy_abi_version_0_3_0\")))",
            "it exports proxy_abi_version_0_3_0, this server knows",
        ),
        ("(module (func (export \"proxy_abi_version_0_2_1\")))", "does not export its memory"),
        (
            "(module (import \"env\" \"proxy_fly\" (func)) (memory (export \"memory\") 1) (func (export \"proxy_abi_version_0_2_1\")))",
            "env::proxy_fly",
        ),
        (
            "(module (memory (export \"memory\") 1) (func (export \"proxy_abi_version_0_2_0\")) (func (export \"malloc\")))",
            "\"malloc\" is no function of 1 i32 that gives back an i32",
        ),
    ];
    for (text, expected) in cases {
        let error = compile(text).expect_err("it is refused").to_string();
        assert!(error.contains(expected), "{error}");
    }
    let error = super::program::Program::of(b"hello").expect_err("it is refused").to_string();
    assert!(error.contains("no WebAssembly module"), "{error}");
}

#[test]
fn a_module_is_compiled_once() {
    let (one, other) = (compile(&text("", "")).unwrap(), compile(&text("", "")).unwrap());
    assert!(std::sync::Arc::ptr_eq(&one, &other));
}

#[test]
fn calls_to_tables_in_the_long_form_of_new_compilers_are_valid() {
    let text = r#"(module (type (func)) (table 1 funcref) (memory (export "memory") 1)
        (func (export "proxy_abi_version_0_2_1") i32.const 0 call_indirect (type 0)))"#;
    let mut bytes = wat::parse_str(text).unwrap();
    // The code section is the last: its size, one body, its size, no locals, `i32.const 0`, `call_indirect`, `end`.
    let code = bytes.len() - 11;
    assert_eq!(bytes[code..], [10, 9, 1, 7, 0, 0x41, 0, 0x11, 0, 0, 0x0b]);
    // The table's index in five bytes, as LLVM leaves it for its linker.
    let index = bytes.len() - 2;
    bytes.splice(index..=index, [0x80, 0x80, 0x80, 0x80, 0]);
    bytes[code + 1] += 4;
    bytes[code + 3] += 4;
    super::program::Program::of(&bytes).unwrap();
}
