//! What a client gets does not depend on which plugins hold a response, and for how long.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};

use proptest::prelude::*;

use super::{
    BodyHook, BodyPlan, Chain, Draft, Going, HeldHook, HeldStep, Hook, Hooks, OnFailure, Plugin, PluginError, Plugins,
    PostHandler, Wanted,
};
use crate::handler::pipeline::{Pipeline, Released, RunParts, RunState};
use crate::handler::{Context, Request, RequestId};
use crate::http::{Fields, Head, HeadLimits, RequestHead, Status, Version, parse_head};
use crate::router::Params;

/// What a plugin does with bodies.
#[derive(Clone, Copy, Debug)]
enum Way {
    Watches,
    Paces,
    /// Adds one to each byte, and its mark at the end.
    Changes,
    /// Puts an answer of its own in the place of what comes.
    Replaces,
}

/// How it holds a response.
#[derive(Clone, Copy, Debug, Default)]
struct Holding {
    /// Its head: for so many looks.
    head: Option<u8>,
    /// And before those until it has seen all of the body.
    until_end: bool,
    /// The end of the body: for so many looks.
    end: Option<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Fake {
    mark: u8,
    way: Way,
    holding: Holding,
}

/// What it keeps of a response.
#[derive(Default)]
struct Kept {
    body: Vec<u8>,
    looks: u8,
    is_head_held: bool,
    has_seen_end: bool,
}

impl Fake {
    fn plan(&self) -> BodyPlan {
        match self.way {
            Way::Watches => BodyPlan::Watched,
            Way::Paces => BodyPlan::Paced,
            Way::Changes => BodyPlan::Changed,
            Way::Replaces => BodyPlan::Replaced(vec![self.mark; 3].into()),
        }
    }

    fn make(&self, piece: &[u8], end: bool, out: &mut Vec<u8>) {
        match self.way {
            Way::Changes => {
                out.extend(piece.iter().map(|byte| byte.wrapping_add(1)));
                out.extend(end.then_some(self.mark));
            }
            Way::Watches | Way::Paces | Way::Replaces => out.extend_from_slice(piece),
        }
    }
}

impl Plugin for Fake {
    fn hooks(&self) -> Hooks {
        Hooks::NONE.with(Hook::PostHandler).with(Hook::PostHandlerBody)
    }

    fn post_handler(&self, hook: &mut PostHandler<'_, '_>) -> Result<BodyPlan, PluginError> {
        hook.fields().push("X-Mark", [self.mark])?;
        let held = self.holding.head;
        hook.slot().put(Kept { looks: held.unwrap_or(0), is_head_held: held.is_some(), ..Kept::default() });
        Ok(if held.is_some() { BodyPlan::Held } else { self.plan() })
    }

    fn post_handler_body(&self, hook: &mut BodyHook<'_>, piece: &[u8], end: bool) -> Result<(), PluginError> {
        let (slot, out) = hook.parts();
        let Some(kept) = slot.get_mut::<Kept>() else { return Err(PluginError("it has not seen the head".into())) };
        assert!(!kept.has_seen_end, "there is one end");
        kept.has_seen_end = end;
        if kept.is_head_held {
            self.make(piece, end, &mut kept.body);
            return Ok(());
        }
        match self.holding.end.filter(|_| end && !matches!(self.way, Way::Watches)) {
            Some(looks) => {
                kept.looks = looks;
                self.make(piece, end, &mut kept.body);
                hook.hold_end();
            }
            None => self.make(piece, end, out),
        }
        Ok(())
    }

    fn poll_held(&self, hook: &mut HeldHook<'_, '_>, _: &mut TaskContext<'_>) -> Poll<Result<HeldStep, PluginError>> {
        let is_head = hook.head().is_some();
        let Some(kept) = hook.slot().get_mut::<Kept>() else { return Poll::Pending };
        assert_eq!(is_head, kept.is_head_held);
        if is_head && self.holding.until_end && !kept.has_seen_end {
            return Poll::Ready(Ok(HeldStep::More));
        }
        if kept.looks > 0 {
            kept.looks -= 1;
            return Poll::Pending;
        }
        kept.is_head_held = false;
        let body = std::mem::take(&mut kept.body);
        hook.out.extend_from_slice(&body);
        Poll::Ready(Ok(HeldStep::Go(self.plan())))
    }
}

/// What a client gets of a response with these pieces: the marks in its head, and its body. As a connection does it.
fn run(fakes: &[Fake], pieces: &[Vec<u8>], is_whole: bool) -> (Vec<Vec<u8>>, Vec<u8>) {
    let (mut plugins, none) = (Plugins::default(), Plugins::default());
    let entries = fakes.iter().map(|fake| {
        let wanted = Wanted { kind: "fake", name: "fake", on_failure: OnFailure::Closed, recipe: String::new() };
        Some(plugins.add(wanted, &none, || Ok::<_, ()>(Box::new(*fake) as Box<dyn Plugin>)).unwrap())
    });
    let chain = Chain::new(entries.collect::<Vec<Option<Arc<_>>>>());
    let (raw, mut head) = (b"GET / HTTP/1.1\r\nHost: test\r\n\r\n", Head::new());
    parse_head(raw, &HeadLimits::MOST, &mut head).unwrap();
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let request = Request { head: RequestHead::new(raw, &head), params: Params::NONE, peer, id: RequestId::made(1) };
    let (mut state, context) = (RunState { going: Going::Suspends, ..RunState::default() }, Context::default());
    let mut parts = RunParts { request: &request, state: &mut state, context: &context };
    let (mut status, mut fields, mut out) = (Status::OK, Fields::new(), Vec::new());
    let mut draft =
        Draft { status: &mut status, fields: &mut fields, length: None, head_only: false, version: Version::Http11 };
    // What becomes of the head; all of the body where a plugin has put it there.
    let mut plan = chain.on_head(&mut parts, &mut draft).unwrap();
    if let (BodyPlan::Held, true, Some(hold)) =
        (&plan, is_whole, parts.state.held.as_mut().filter(|hold| !hold.is_ended))
    {
        (hold.made, hold.is_ended) = (pieces.concat(), true);
    }
    let mut next = pieces.iter().map(|piece| (piece.as_slice(), false)).chain([(&[][..], true)]);
    let mut looks = 0;
    let mut is_done = false;
    while !is_done {
        if matches!(plan, BodyPlan::Held) || parts.state.held.is_some() {
            looks += 1;
            assert!(looks < 1000, "it is held for ever");
            match chain.poll_held(&mut parts, &mut draft, &mut out, &mut TaskContext::from_waker(Waker::noop())) {
                Poll::Pending => {}
                Poll::Ready(Ok(Released::More)) => {
                    let (piece, end) = next.next().expect("there is more of the body");
                    chain.on_piece(&mut parts, piece, end, &mut Vec::new()).unwrap();
                }
                Poll::Ready(Ok(Released::Head(released))) => plan = released,
                Poll::Ready(Ok(Released::Whole | Released::Replaced)) => is_done = true,
                Poll::Ready(Err(failure)) => panic!("{failure}"),
            }
            continue;
        }
        if let BodyPlan::Replaced(body) = &plan {
            out.extend_from_slice(body);
            break;
        }
        let (piece, end) = next.next().expect("there is more of the body");
        chain.on_piece(&mut parts, piece, end, &mut out).unwrap();
        is_done = end && parts.state.held.is_none();
    }
    assert!(parts.state.held.is_none());
    (fields.iter().map(|(_, mark)| mark.to_vec()).collect(), out)
}

fn fake() -> impl Strategy<Value = Fake> {
    let way = prop_oneof![
        3 => Just(Way::Watches), 3 => Just(Way::Paces), 3 => Just(Way::Changes), 1 => Just(Way::Replaces)
    ];
    let looks = || prop::option::of(0..3_u8);
    (way, looks(), any::<bool>(), looks()).prop_map(|(way, head, until_end, end)| Fake {
        mark: 0,
        way,
        holding: Holding { head, until_end, end },
    })
}

proptest! {
    #[test]
    fn a_response_is_the_same_whoever_holds_it(
        fakes in prop::collection::vec(fake(), 0..6),
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..4), 0..5),
        is_whole in any::<bool>(),
    ) {
        let marked = |holding: fn(Fake) -> Holding| {
            let mark = |(index, fake): (usize, &Fake)| Fake { mark: b'a' + index as u8, holding: holding(*fake), ..*fake };
            fakes.iter().enumerate().map(mark).collect::<Vec<_>>()
        };
        let expected = run(&marked(|_| Holding::default()), &pieces, is_whole);
        prop_assert_eq!(run(&marked(|fake| fake.holding), &pieces, is_whole), expected);
    }
}
