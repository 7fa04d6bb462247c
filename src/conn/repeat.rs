//! Requests that plugins make themselves: exchanges without a client, whose response only plugins see.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::rc::Rc;
use std::task::{self, Poll};

use super::core::Core;
use super::exchange::{call, poll_handler};
use super::held::end_waiting;
use super::turn::Turn;
use crate::handler::pipeline::{Going, Repeat, Repeats, Run, Slot};
use crate::handler::{Answer, Body, BodyState, Exchange, NoBody, Request, Response, Sink};
use crate::http::{HeadLimits, Parse, RequestHead, parse_head};
use crate::router::Spans;
use crate::rt;

/// Has the core make the requests that its plugins want made, until it drains.
pub fn make_repeats(core: &Rc<Core>) {
    let Some(repeats) = core.context.get::<Repeats>() else { return };
    let core = Rc::downgrade(core);
    repeats.attach(move |repeat, under_way| {
        let Some(core) = core.upgrade().filter(|core| !core.is_draining()) else { return false };
        // A drain does not wait for it: it ends with the worker.
        rt::spawn(async move {
            make(&core, repeat).await;
            drop(under_way);
        });
        true
    });
}

/// Where nobody listens.
struct Nobody;

impl Sink for Nobody {
    fn poll_send(&mut self, _: &mut task::Context<'_>, slices: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }
}

async fn make(core: &Rc<Core>, repeat: Repeat) {
    let mut turn = core.take_turn();
    // Where the request is none, or its route has no plugins any more, nobody waits for it.
    let _ = answer(core, repeat, &mut turn).await;
    core.give_turn(turn);
}

async fn answer(core: &Rc<Core>, repeat: Repeat, turn: &mut Turn) -> Option<()> {
    let Repeat { head: bytes, peer, origin, slot } = repeat;
    let serving = core.serving();
    parse_head(&bytes, &HeadLimits::MOST, &mut turn.head).ok().filter(|parsed| *parsed == Parse::Complete)?;
    let number = core.next_number();
    let head = RequestHead::new(&bytes, &turn.head);
    let mut spans = Spans::NONE;
    let found = serving.routes.find(&head, &mut spans);
    let plugins = found.plugins()?;
    let id = serving.settings.observing.request_id(number, &head, peer);
    let request = Request { head, params: found.params(), peer, id };
    let body = BodyState::default();
    let terms = core.terms(&serving, &body, id, head.version(), false, true);
    turn.edited.reset();
    let state = &mut turn.run;
    state.begin();
    state.going = Going::Suspends;
    state.origin = Some(origin);
    state.slots.resize_with(origin.at, Slot::default);
    state.slots.push(slot);
    let run = Run::new(plugins, state, request, &core.context);
    let (mut no_body, mut nobody) = (NoBody, Nobody);
    let response = Response::new(&mut turn.out, &mut turn.fields, &mut nobody, terms).through(Some(run));
    let (body, edited) = (Body::new(&mut no_body), Some(&turn.edited));
    let mut exchange = Exchange { request, body, response, context: &core.context, notes: None, edited };
    core.note_route(found.index());
    let reply = match call(&found, &mut exchange) {
        Ok(Answer::Now(reply)) => Ok(reply),
        Ok(Answer::Later(mut answering)) => poll_fn(|cx| poll_handler(&found, &mut answering, core, cx)).await,
        Err(panicked) => Err(panicked),
    };
    end_waiting(&mut exchange, reply, None, core).await;
    Some(())
}
