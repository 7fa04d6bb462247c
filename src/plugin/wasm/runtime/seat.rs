//! What one core keeps for a plugin: its instance, and those that have failed and still end the requests they had.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use super::host::Setting;
use super::instance::{Fault, Instance};
use super::outgoing::Unsent;
use super::program::Program;
use super::stream::Stream;
use crate::clock;
use crate::handler::{Context, WeakContext};
use crate::limits::{WASM_FAILURES_MAX, WASM_RETIRED_MAX};
use crate::plugin::pace::Pace;
use crate::rt::{self, Mailbox};
use crate::sync::atomic::{AtomicBool, Ordering};

/// What all cores have of a plugin.
#[derive(Debug)]
pub(crate) struct Common {
    pub(crate) program: Arc<Program>,
    pub(crate) setting: Arc<Setting>,
    /// It failed too often.
    is_off: AtomicBool,
}

impl Common {
    pub(crate) fn new(program: Arc<Program>, setting: Arc<Setting>) -> Arc<Self> {
        Arc::new(Self { program, setting, is_off: AtomicBool::new(false) })
    }

    /// Whether it was switched off.
    pub(crate) fn is_off(&self) -> bool {
        self.is_off.load(Ordering::Relaxed)
    }
}

const SWITCHED_OFF: &str = "it is switched off because it failed too often";

/// An instance, shared by the requests that it has.
struct Room {
    /// `None` when it was given up.
    instance: RefCell<Option<Instance>>,
    is_ticking: Cell<bool>,
}

/// One core's own of a plugin.
pub(crate) struct Seat {
    common: Arc<Common>,
    /// What the core has, of which this is a part: it has the connections to the upstreams.
    context: WeakContext,
    current: RefCell<Option<Rc<Room>>>,
    retired: RefCell<Vec<Weak<Room>>>,
    /// Failures in a row.
    failures: Cell<u32>,
    /// When they are logged.
    pace: Pace,
}

impl Seat {
    pub(crate) fn new(common: Arc<Common>, context: &Context) -> Rc<Self> {
        Rc::new(Self {
            common,
            context: context.downgrade(),
            current: RefCell::default(),
            retired: RefCell::default(),
            failures: Cell::new(0),
            pace: Pace::new(),
        })
    }

    /// Takes a request up in the core's instance, which is made when there is none.
    pub(crate) fn visit(self: &Rc<Self>, fill: impl FnOnce(&mut Stream)) -> Result<Visit, Fault> {
        if self.common.is_off() {
            return Err(Fault::Gone(SWITCHED_OFF));
        }
        let room = self.room()?;
        let mut visit = Visit { seat: self.clone(), room, id: 0, due: None, keeps: false };
        visit.id = visit.with(|instance, _| instance.open(fill))?;
        Ok(visit)
    }

    fn room(self: &Rc<Self>) -> Result<Rc<Room>, Fault> {
        if let Some(room) = &*self.current.borrow() {
            return Ok(room.clone());
        }
        match Instance::start(&self.common.program, &self.common.setting) {
            Ok(mut instance) => {
                let wants = Wants::of(&mut instance);
                let room = Rc::new(Room { instance: RefCell::new(Some(instance)), is_ticking: Cell::new(false) });
                *self.current.borrow_mut() = Some(room.clone());
                self.serve(&room, wants);
                Ok(room)
            }
            Err(fault) => {
                self.note_fault(&fault);
                Err(fault)
            }
        }
    }

    /// Has an instance that failed take no more requests.
    fn retire(&self, room: &Rc<Room>) {
        let current = self.current.borrow_mut().take_if(|current| Rc::ptr_eq(current, room));
        if current.is_none() {
            return;
        }
        if let Ok(mut held) = room.instance.try_borrow_mut()
            && let Some(instance) = held.as_mut()
        {
            instance.retire();
        }
        let mut retired = self.retired.borrow_mut();
        retired.retain(|room| room.strong_count() > 0);
        if retired.len() >= WASM_RETIRED_MAX
            && let Some(oldest) = retired.remove(0).upgrade()
            && let Ok(mut instance) = oldest.instance.try_borrow_mut()
        {
            *instance = None;
        }
        retired.push(Rc::downgrade(room));
    }

    /// Whether the plugin was switched off, perhaps by another core: then the guest is not called of its own any more. What
    /// has paused its requests would not come, so they are told.
    fn is_over(&self, room: &Room) -> bool {
        let is_off = self.common.is_off();
        if is_off
            && let Ok(mut held) = room.instance.try_borrow_mut()
            && let Some(instance) = held.as_mut()
        {
            instance.fail_waiting(&Fault::Gone(SWITCHED_OFF));
        }
        is_off
    }

    fn note_fault(&self, fault: &Fault) {
        if !fault.is_fatal() {
            return;
        }
        self.failures.set(self.failures.get() + 1);
        let (plugin, module) = (self.common.setting.name.as_str(), self.common.setting.module.as_str());
        if let Some(unlogged) = self.pace.line(clock::turn()) {
            tracing::warn!(plugin, module, unlogged, "a WASM plugin failed: {fault}");
        }
        if self.failures.get() >= WASM_FAILURES_MAX && !self.common.is_off.swap(true, Ordering::Relaxed) {
            tracing::error!(
                plugin,
                module,
                "a WASM plugin is switched off: it failed {WASM_FAILURES_MAX} times in a row, the last time because {fault}; \
                 change its module or the config to have it tried again"
            );
        }
    }

    /// Sees to what a guest has asked for.
    fn serve(self: &Rc<Self>, room: &Rc<Room>, wants: Wants) {
        self.tick_if_wanted(room);
        if let Some(bell) = wants.bell {
            rt::spawn(listen(Rc::downgrade(self), Rc::downgrade(room), bell));
        }
        if wants.calls.is_empty() {
            return;
        }
        // Without it the core is going down.
        let Some(context) = self.context.upgrade() else { return };
        for unsent in wants.calls {
            rt::spawn(make_call(Rc::downgrade(self), Rc::downgrade(room), context.clone(), unsent));
        }
    }

    /// Sees to the guest's timer, once it wants one.
    fn tick_if_wanted(self: &Rc<Self>, room: &Rc<Room>) {
        let wants = || room.instance.try_borrow().ok()?.as_ref()?.tick_period();
        if !room.is_ticking.get() && wants().is_some() {
            room.is_ticking.set(true);
            rt::spawn(tick(Rc::downgrade(self), Rc::downgrade(room)));
        }
    }
}

/// Calls the guest's timer for as long as it wants it, and takes requests or has some: those may wait for it.
async fn tick(seat: Weak<Seat>, room: Weak<Room>) {
    loop {
        let period = {
            let Some(room) = room.upgrade() else { return };
            let instance = room.instance.borrow();
            let Some(period) = instance.as_ref().and_then(Instance::tick_period) else {
                room.is_ticking.set(false);
                return;
            };
            period
        };
        rt::sleep_until(clock::turn() + period).await;
        let (Some(seat), Some(room)) = (seat.upgrade(), room.upgrade()) else { return };
        // What went wrong is noted; the next request gets another instance.
        if seat.is_over(&room) || call(&seat, &room, Instance::tick).is_err() {
            return;
        }
    }
}

/// What a guest has asked for during a call, besides its timer.
struct Wants {
    calls: Vec<Unsent>,
    bell: Option<Mailbox<()>>,
}

impl Wants {
    fn of(instance: &mut Instance) -> Self {
        Self { calls: instance.take_unsent(), bell: instance.take_bell() }
    }
}

/// Calls the guest when there is something in a queue that it has registered, for as long as it takes requests.
async fn listen(seat: Weak<Seat>, room: Weak<Room>, bell: Mailbox<()>) {
    while bell.next().await.is_some() {
        loop {
            let (Some(seat), Some(room)) = (seat.upgrade(), room.upgrade()) else { return };
            if seat.is_over(&room) {
                return;
            }
            match call(&seat, &room, Instance::queue_ready) {
                Ok(true) => {}
                Ok(false) => break,
                // What went wrong is noted; another instance is called for the rest.
                Err(_) => return,
            }
            drop((seat, room));
            rt::yield_now().await;
        }
    }
}

/// Makes a request of the guest's own, and tells the guest what came of it. It ends when nobody waits for it any more.
async fn make_call(seat: Weak<Seat>, room: Weak<Room>, context: Context, unsent: Unsent) {
    let key = unsent.key;
    let Some(common) = seat.upgrade().map(|seat| seat.common.clone()) else { return };
    let Some(end) = unsent.send(&context, &common.setting.name).await else { return };
    // Or what the core keeps would live for as long as this task.
    drop(context);
    let (Some(seat), Some(room)) = (seat.upgrade(), room.upgrade()) else { return };
    if seat.is_over(&room) {
        return;
    }
    // What went wrong is noted, and told to the request that it was about.
    let _ = call(&seat, &room, |instance| instance.call_ended(key, end));
}

/// Calls a guest, and sees to what it asked for meanwhile.
fn call<T>(seat: &Rc<Seat>, room: &Rc<Room>, work: impl FnOnce(&mut Instance) -> Result<T, Fault>) -> Result<T, Fault> {
    let (result, wants) = {
        let mut held = room.instance.try_borrow_mut().map_err(|_| Fault::Gone("the plugin is being called"))?;
        let instance = held.as_mut().ok_or(Fault::Gone("the plugin's instance was given up"))?;
        let result = work(instance);
        (result, Wants::of(instance))
    };
    seat.serve(room, wants);
    if let Err(fault) = &result {
        seat.note_fault(fault);
        if fault.is_fatal() {
            seat.retire(room);
        }
    }
    result
}

/// A request in an instance. Dropping it has the instance forget the request without a word to the guest.
pub(crate) struct Visit {
    seat: Rc<Seat>,
    room: Rc<Room>,
    id: u32,
    /// When a response that the guest holds goes on without it.
    pub(crate) due: Option<rt::Deadline>,
    /// The guest keeps back some of the response's body.
    pub(crate) keeps: bool,
}

impl fmt::Debug for Visit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Visit").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Visit {
    /// Calls the guest, or looks at what it has of the request.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Instance, u32) -> Result<T, Fault>) -> Result<T, Fault> {
        call(&self.seat, &self.room, |instance| work(instance, self.id))
    }

    /// The exchange is over.
    pub(crate) fn finish(self) -> Result<(), Fault> {
        self.with(Instance::finish)?;
        // All of it went well: what failed before was not in a row.
        self.seat.failures.set(0);
        Ok(())
    }

    /// Looks at what the guest has of the request.
    pub(crate) fn stream<T>(&self, work: impl FnOnce(&mut Stream) -> T) -> Result<T, Fault> {
        let mut held = self.room.instance.try_borrow_mut().map_err(|_| Fault::Gone("the plugin is being called"))?;
        let instance = held.as_mut().ok_or(Fault::Gone("the plugin's instance was given up"))?;
        instance.stream(self.id).map(work)
    }
}

impl Drop for Visit {
    /// After [`Visit::finish`] the instance does not know the request any more, or the guest has put its end off.
    fn drop(&mut self) {
        if let Ok(mut held) = self.room.instance.try_borrow_mut()
            && let Some(instance) = held.as_mut()
        {
            instance.leave(self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{Future, poll_fn};
    use std::pin::pin;
    use std::task::{self, Poll, Wake, Waker};
    use std::time::Duration;

    use super::super::abi::{Action, Half};
    use super::super::testing::{compile, setting, text};
    use super::*;

    /// A core's own of a plugin with this guest.
    fn seat(name: &str, text: &str) -> Rc<Seat> {
        let program = compile(text).expect("the guest compiles");
        Seat::new(Common::new(program, setting(name, "")), &Context::default())
    }

    /// What a request that is paused is told.
    async fn told(visit: &Visit) -> Result<Option<Fault>, Fault> {
        poll_fn(|cx| {
            let fault = visit.stream(|stream| {
                stream.waker = Some(cx.waker().clone());
                stream.fault.take()
            });
            match fault {
                Ok(None) => Poll::Pending,
                said => Poll::Ready(said),
            }
        })
        .await
    }

    const TIMER: &str = r#"(import "env" "proxy_set_tick_period_milliseconds" (func $every (param i32) (result i32)))
        (import "env" "proxy_register_shared_queue" (func $queue (param i32 i32 i32) (result i32)))"#;

    /// A guest that pauses all requests, and traps when it is called of its own.
    const PAUSES: &str = r#"
        (func (export "proxy_on_configure") (param i32 i32) (result i32)
          (call $every (i32.const 10)) (call $queue (i32.const 0) (i32.const 1) (i32.const 16)) i32.or i32.eqz)
        (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) i32.const 1)
        (func (export "proxy_on_http_call_response") (param i32 i32 i32 i32 i32) unreachable)
        (func (export "proxy_on_queue_ready") (param i32 i32) unreachable)
        (func (export "proxy_on_tick") (param i32) unreachable)"#;

    #[test]
    fn a_plugin_that_was_switched_off_is_not_called_of_its_own_and_lets_nobody_wait_for_that() {
        let run = rt::run(&rt::Options::default(), |_| async {
            let seat = seat("seat-off", &text(TIMER, PAUSES));
            let visit = seat.visit(|_| {}).unwrap();
            assert_eq!(visit.with(|instance, id| instance.headers(Half::Request, id, true)), Ok(Action::Pause));
            // As another core does. Its timer has not come yet, and its queue is empty.
            seat.common.is_off.store(true, Ordering::Relaxed);
            seat.common.setting.shared.enqueue(1, b"x").unwrap();
            let deadline = clock::turn() + Duration::from_secs(20);
            let told = rt::timeout(deadline, told(&visit)).await.expect("it is told long before");
            assert_eq!(told, Ok(Some(Fault::Gone(SWITCHED_OFF))));
            // Until its timer is over as well.
            let is_over = async {
                while Rc::weak_count(&visit.room) > 0 {
                    rt::yield_now().await;
                }
            };
            rt::timeout(deadline, is_over).await.expect("nobody calls it any more");
            assert_eq!(seat.failures.get(), 0, "it was not called");
        });
        run.expect("an executor");
    }

    #[test]
    fn those_who_wait_in_an_instance_that_is_given_up_are_told_at_once() {
        let body = r#"(func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) i32.const 1)"#;
        let seat = seat("seat-given-up", &text("", body));
        let visit = seat.visit(|_| {}).unwrap();
        assert_eq!(visit.with(|instance, id| instance.headers(Half::Request, id, true)), Ok(Action::Pause));
        let (bell, mut waiting) = (Arc::new(Bell::default()), pin!(told(&visit)));
        let waker = Waker::from(bell.clone());
        let mut look = || waiting.as_mut().poll(&mut task::Context::from_waker(&waker));
        assert!(look().is_pending());
        let mut others = Vec::new();
        for number in 0..=WASM_RETIRED_MAX {
            assert!(!bell.rang.load(Ordering::Relaxed), "{number} are kept");
            seat.retire(&seat.room().unwrap());
            others.push(seat.visit(|_| {}).unwrap());
        }
        assert!(bell.rang.load(Ordering::Relaxed));
        assert!(matches!(look(), Poll::Ready(Err(Fault::Gone(_)))));
        assert!(others.iter().all(|visit| visit.stream(|_| {}).is_ok()));
    }

    /// Tells whether somebody was woken.
    #[derive(Default)]
    struct Bell {
        rang: AtomicBool,
    }

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.rang.store(true, Ordering::Relaxed);
        }
    }
}
