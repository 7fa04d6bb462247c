//! What a guest that holds a response waits for, and how long.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{self, Poll, Waker};
use std::time::Duration;

use super::abi::{Action, Half};
use super::instance::Fault;
use super::response::{Said, poll_said};
use super::seat::{Common, Seat, Visit};
use super::stream::{Stage, Wish};
use super::testing::{compile, setting, text};
use crate::clock;
use crate::handler::Context;
use crate::limits::WASM_PAUSE_MS;
use crate::rt::sim;

const PAUSES: &str = r#"(func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) i32.const 1)"#;

/// A core's own of a guest with this body, and a response that it holds.
fn held(name: &str, imports: &str, body: &str) -> (Rc<Seat>, Visit) {
    let program = compile(&text(imports, &format!("{PAUSES} {body}"))).expect("the guest compiles");
    let seat = Seat::new(Common::new(program, setting(name, "")), &Context::default());
    let visit = seat.visit(|stream| stream.response.stage = Stage::Open).unwrap();
    assert_eq!(visit.with(|instance, id| instance.headers(Half::Response, id, false)), Ok(Action::Pause));
    (seat, visit)
}

fn look(visit: &mut Visit) -> Poll<Result<Said, Fault>> {
    poll_said(visit, true, &mut task::Context::from_waker(Waker::noop()))
}

#[test]
fn a_response_that_is_paused_for_too_long_fails() {
    let report = sim::run(sim::Options::default(), || async {
        let (_seat, mut visit) = held("held-long", "", "");
        let began = clock::now();
        let said = poll_fn(|cx| poll_said(&mut visit, false, cx)).await;
        assert!(matches!(said, Err(Fault::Paused("it paused a response for too long"))));
        clock::now().since(began)
    });
    let waited = report.outcome.unwrap();
    let expected = Duration::from_millis(WASM_PAUSE_MS);
    assert!((expected..expected + Duration::from_secs(1)).contains(&waited), "{waited:?}");
}

#[test]
fn a_guest_is_shown_the_body_where_nothing_else_would_have_a_response_go_on() {
    let report = sim::run(sim::Options::default(), || async {
        let (_seat, mut visit) = held("held-alone", "", "");
        assert!(matches!(look(&mut visit), Poll::Ready(Ok(Said::More))));
        visit.stream(|stream| stream.response.is_ended = true).unwrap();
        assert!(look(&mut visit).is_pending(), "there is no more of it");
        visit.stream(|stream| stream.response.resumed = true).unwrap();
        assert!(matches!(look(&mut visit), Poll::Ready(Ok(Said::Wish(Wish::None)))));
        let timer = r#"(import "env" "proxy_set_tick_period_milliseconds" (func $every (param i32) (result i32)))"#;
        let ticks = r#"(func (export "proxy_on_configure") (param i32 i32) (result i32)
              (drop (call $every (i32.const 3600000))) i32.const 1)
            (func (export "proxy_on_tick") (param i32) (drop (call $every (i32.const 0))))"#;
        let (_seat, mut visit) = held("held-timer", timer, ticks);
        assert!(look(&mut visit).is_pending(), "its timer may have it go on");
        visit.with(|instance, _| instance.tick()).unwrap();
        assert!(matches!(look(&mut visit), Poll::Ready(Ok(Said::More))), "it has none any more");
    });
    report.outcome.unwrap();
}
