//! A guest that runs: its memory, its callbacks, and how long each may take.

use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::{Store, Trap, TypedFunc, UpdateDeadline, WasmParams, WasmResults};

use super::abi::{Action, Half};
use super::engine::arm;
use super::host::{Host, ROOT, Setting};
use super::memory::Reach;
use super::outgoing::{CallEnd, CallKey, Unsent};
use super::program::Program;
use super::queue::Listener;
use super::stream::Stream;
use crate::clock;
use crate::limits::WASM_START_MS;
use crate::rt::Mailbox;

/// Why a guest did not do what it was called for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It ran longer than it may.
    Overrun(Duration),
    /// It ended with a trap: the text says which, and whether memory was refused before.
    Trapped(String),
    /// It does not start, or refuses its configuration.
    Start(String),
    /// It has as many requests as it can have at once.
    Full,
    /// It said to wait where this server cannot.
    Paused(&'static str),
    /// It keeps more of a body than it may.
    TooLarge,
    /// It adds more to the fields of a message than find room there.
    NoRoom,
    /// It ended the exchange.
    Closed,
    /// It was given up for other requests' sake, or is switched off.
    Gone(&'static str),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overrun(max) => write!(f, "it took more than {max:?} of CPU time"),
            Self::Trapped(what) | Self::Start(what) => f.write_str(what),
            Self::Full => f.write_str("it has as many requests as it may have at once"),
            Self::Paused(what) => f.write_str(what),
            Self::TooLarge => f.write_str("it keeps more of a body than it may"),
            Self::NoRoom => f.write_str("it adds more fields to a message than find room there"),
            Self::Closed => f.write_str("it closed the exchange"),
            Self::Gone(why) => f.write_str(why),
        }
    }
}

impl Fault {
    /// Whether the guest's state cannot be relied on any more.
    pub(crate) fn is_fatal(&self) -> bool {
        match self {
            Self::Overrun(_) | Self::Trapped(_) | Self::Start(_) => true,
            Self::Full | Self::Paused(_) | Self::TooLarge | Self::NoRoom | Self::Closed | Self::Gone(_) => false,
        }
    }
}

/// The guest was stopped because of its time.
#[derive(Debug)]
struct Stopped;

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stopped")
    }
}

impl std::error::Error for Stopped {}

type Callback<P, R> = Option<TypedFunc<P, R>>;

/// A callback for headers; that of ABI 0.1.0 is not told whether the message ends with them.
enum OnHeaders {
    Absent,
    Short(TypedFunc<(u32, u32), u32>),
    Full(TypedFunc<(u32, u32, u32), u32>),
}

/// What the module exports. All were checked when it was compiled.
struct Callbacks {
    context_create: Callback<(u32, u32), ()>,
    vm_start: Callback<(u32, u32), u32>,
    configure: Callback<(u32, u32), u32>,
    request_headers: OnHeaders,
    request_body: Callback<(u32, u32, u32), u32>,
    request_trailers: Callback<(u32, u32), u32>,
    response_trailers: Callback<(u32, u32), u32>,
    response_headers: OnHeaders,
    response_body: Callback<(u32, u32, u32), u32>,
    done: Callback<u32, u32>,
    log: Callback<u32, ()>,
    delete: Callback<u32, ()>,
    tick: Callback<u32, ()>,
    queue_ready: Callback<(u32, u32), ()>,
    call_response: Callback<(u32, u32, u32, u32, u32), ()>,
}

/// One running guest.
pub(crate) struct Instance {
    program: Arc<Program>,
    store: Store<Host>,
    /// Shared, so that one can be called while the rest is changed: a copy of one would count references in the engine,
    /// which all cores have in common.
    callbacks: Rc<Callbacks>,
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance").field("program", &self.program).finish_non_exhaustive()
    }
}

impl Instance {
    /// Makes a guest and starts it: what initialises the module, then `proxy_on_vm_start` and `proxy_on_configure`.
    ///
    /// # Errors
    /// [`Fault::Start`], with what it was at.
    pub(crate) fn start(program: &Arc<Program>, setting: &Arc<Setting>) -> Result<Self, Fault> {
        let mut store = Store::new(&program.machine.engine, Host::new(setting.clone()));
        store.limiter(|host| &mut host.memory);
        store.epoch_deadline_callback(move |mut context| {
            // Or the ticks would end while the guest runs on.
            arm();
            let host = context.data_mut();
            let now = clock::thread_cpu();
            match host.seen_at {
                None => host.seen_at = Some(now),
                Some(seen_at) if now.saturating_sub(seen_at) >= host.time_max => {
                    return Err(wasmtime::Error::new(Stopped));
                }
                Some(_) => {}
            }
            Ok(UpdateDeadline::Continue(1))
        });
        let time_max = Duration::from_millis(WASM_START_MS);
        begin(&mut store, time_max);
        let made = program.pre.instantiate(&mut store).map_err(|error| fault(&store, &error).at("it is made"))?;
        let memory = made.get_memory(&mut store, "memory");
        let memory = memory.ok_or_else(|| Fault::Start("it exports no memory".to_owned()))?;
        let allocate = find(&made, &mut store, "proxy_on_memory_allocate");
        let allocate = allocate.or_else(|| find(&made, &mut store, "malloc"));
        store.data_mut().reach = Some(Reach { memory, allocate });
        let callbacks = Callbacks::find(&made, &mut store);
        let initialize: Callback<(), ()> = find(&made, &mut store, "_initialize");
        let main: Callback<(u32, u32), u32> = initialize.as_ref().and_then(|_| find(&made, &mut store, "main"));
        let start = initialize.clone().or_else(|| find(&made, &mut store, "_start"));
        let mut instance = Self { program: program.clone(), store, callbacks: Rc::new(callbacks) };
        if let Some(start) = start {
            let name = if initialize.is_some() { "_initialize" } else { "_start" };
            instance.call_within(time_max, ROOT, &start, ()).map_err(|fault| fault.at(name))?;
        }
        if let Some(main) = main {
            instance.call_within(time_max, ROOT, &main, (0, 0)).map_err(|fault| fault.at("main"))?;
        }
        instance.configure(time_max)?;
        Ok(instance)
    }

    /// Whether a guest of this setting starts. What it does to the things that a module shares is done to others, which nobody
    /// sees: requests may run on the real ones, and the config that asks for this may yet be refused.
    ///
    /// # Errors
    /// As [`Instance::start`].
    pub(crate) fn try_out(program: &Arc<Program>, setting: &Setting) -> Result<(), Fault> {
        let setting = Setting { shared: Arc::default(), ..setting.clone() };
        Self::start(program, &Arc::new(setting)).map(drop)
    }

    fn configure(&mut self, time_max: Duration) -> Result<(), Fault> {
        let size = self.store.data().setting.configuration.len() as u32;
        let callbacks = self.callbacks.clone();
        if let Some(create) = &callbacks.context_create {
            let created = self.call_within(time_max, ROOT, create, (ROOT, 0));
            created.map_err(|fault| fault.at("proxy_on_context_create"))?;
        }
        let steps = [("proxy_on_vm_start", &callbacks.vm_start, 0), ("proxy_on_configure", &callbacks.configure, size)];
        for (name, callback, size) in steps {
            let Some(callback) = callback else { continue };
            let accepted = self.call_within(time_max, ROOT, callback, (ROOT, size));
            if accepted.map_err(|fault| fault.at(name))? == 0 {
                let what = format!("it refuses its configuration ({name} gave back false; its log may say why)");
                return Err(Fault::Start(what));
            }
        }
        Ok(())
    }

    /// Takes a request up; `fill` tells what is known of it.
    pub(crate) fn open(&mut self, fill: impl FnOnce(&mut Stream)) -> Result<u32, Fault> {
        let (id, stream) = self.store.data_mut().streams.open().ok_or(Fault::Full)?;
        fill(stream);
        let callbacks = self.callbacks.clone();
        if let Some(create) = &callbacks.context_create
            && let Err(fault) = self.call(id, create, (id, ROOT))
        {
            self.store.data_mut().close(id);
            return Err(fault);
        }
        Ok(id)
    }

    /// What the guest has to do with a request that is open.
    pub(crate) fn stream(&mut self, id: u32) -> Result<&mut Stream, Fault> {
        self.store.data_mut().streams.get_mut(id).ok_or(Fault::Gone("the plugin does not know the request"))
    }

    /// Shows it the head of a message.
    pub(crate) fn headers(&mut self, half: Half, id: u32, end: bool) -> Result<Action, Fault> {
        let message = self.stream(id)?.message_mut(half);
        let number = (message.headers.len() + message.uncopied) as u32;
        let callbacks = self.callbacks.clone();
        let callback = match half {
            Half::Request => &callbacks.request_headers,
            Half::Response => &callbacks.response_headers,
        };
        let given = match callback {
            OnHeaders::Absent => return Ok(Action::Continue),
            OnHeaders::Short(callback) => self.call(id, callback, (id, number)),
            OnHeaders::Full(callback) => self.call(id, callback, (id, number, u32::from(end))),
        };
        given.map(Action::of)
    }

    /// Shows it the body of the request, as far as it is kept.
    pub(crate) fn request_body(&mut self, id: u32, end: bool) -> Result<Action, Fault> {
        let size = self.stream(id)?.request.body.len() as u32;
        let callbacks = self.callbacks.clone();
        let Some(callback) = &callbacks.request_body else { return Ok(Action::Continue) };
        self.call(id, callback, (id, size, u32::from(end))).map(Action::of)
    }

    /// Shows it the trailers of a message.
    pub(crate) fn trailers(&mut self, half: Half, id: u32) -> Result<Action, Fault> {
        let number = self.stream(id)?.message_mut(half).trailers.len() as u32;
        let callbacks = self.callbacks.clone();
        let callback = match half {
            Half::Request => &callbacks.request_trailers,
            Half::Response => &callbacks.response_trailers,
        };
        let Some(callback) = callback else { return Ok(Action::Continue) };
        self.call(id, callback, (id, number)).map(Action::of)
    }

    /// Shows it the body of the response, as far as it is kept.
    pub(crate) fn response_body(&mut self, id: u32, end: bool) -> Result<Action, Fault> {
        let size = self.stream(id)?.response.body.len() as u32;
        let callbacks = self.callbacks.clone();
        let Some(callback) = &callbacks.response_body else { return Ok(Action::Continue) };
        self.call(id, callback, (id, size, u32::from(end))).map(Action::of)
    }

    /// The exchange is over: unless the guest wants to know of it for longer, it is forgotten.
    pub(crate) fn finish(&mut self, id: u32) -> Result<(), Fault> {
        self.stream(id)?;
        let callbacks = self.callbacks.clone();
        let is_done = match &callbacks.done {
            Some(done) => self.call(id, done, id)? != 0,
            None => true,
        };
        if is_done {
            return self.forget(id);
        }
        match self.store.data_mut().linger(id) {
            Some(oldest) => self.forget(oldest),
            None => Ok(()),
        }
    }

    /// Drops a request without a word to the guest, unless that has put its end off.
    pub(crate) fn leave(&mut self, id: u32) {
        if self.stream(id).is_ok_and(|stream| !stream.is_lingering) {
            self.store.data_mut().close(id);
        }
    }

    fn forget(&mut self, id: u32) -> Result<(), Fault> {
        let callbacks = self.callbacks.clone();
        let log = callbacks.log.as_ref().map_or(Ok(()), |log| self.call_plainly(id, log, id));
        let delete = callbacks.delete.as_ref().map_or(Ok(()), |delete| self.call_plainly(id, delete, id));
        self.store.data_mut().close(id);
        log.and(delete)
    }

    /// Requests of its own that it has asked for meanwhile.
    pub(crate) fn take_unsent(&mut self) -> Vec<Unsent> {
        self.store.data_mut().calls.take_unsent()
    }

    /// Tells it what came of a request of its own, unless nobody waits for it any more.
    ///
    /// As with Envoy the callback is about the plugin itself, and guests turn to the request that they asked for. Those that
    /// do not find it already there.
    pub(crate) fn call_ended(&mut self, key: CallKey, end: CallEnd) -> Result<(), Fault> {
        if !self.store.data_mut().calls.end(key) {
            return Ok(());
        }
        let callbacks = self.callbacks.clone();
        let Some(callback) = &callbacks.call_response else { return Ok(()) };
        let (context, number) = key;
        let sizes = end.answer().map(|answer| (answer.headers.len(), answer.body.len(), answer.trailers.len()));
        let (headers, body, trailers) = sizes.unwrap_or_default();
        let parameters = (ROOT, number, headers as u32, body as u32, trailers as u32);
        self.store.data_mut().call_end = Some(end);
        let told = self.call(context, callback, parameters);
        self.store.data_mut().call_end = None;
        match (&told, self.stream(context)) {
            (Err(fault), Ok(stream)) => {
                stream.fault = Some(fault.clone());
                stream.wake();
            }
            // There is one call less that it can wait for.
            (Ok(()), Ok(stream)) => stream.wake(),
            (_, Err(_)) => self.store.data_mut().streams.wake_all(),
        }
        told
    }

    /// Whether the guest is going to be called again for a request that it has paused, besides for its body: there is a call of
    /// the request's or of the plugin's own under way, or a timer, or a queue.
    pub(crate) fn may_be_called_for(&self, id: u32) -> bool {
        let host = self.store.data();
        let has_queue = host.listener.is_some() && self.callbacks.queue_ready.is_some();
        host.calls.has(id) || host.calls.has(ROOT) || has_queue || self.tick_period().is_some()
    }

    /// What rings when there is something in a queue that it has registered, the first time that this is asked after it has.
    pub(crate) fn take_bell(&mut self) -> Option<Mailbox<()>> {
        self.store.data_mut().bell.take()
    }

    /// Calls it for one item of a queue, if it is to be called for any.
    pub(crate) fn queue_ready(&mut self) -> Result<bool, Fault> {
        let ready = self.store.data().listener.as_ref().and_then(Listener::take_ready);
        let Some(queue) = ready else { return Ok(false) };
        let callbacks = self.callbacks.clone();
        if let Some(callback) = &callbacks.queue_ready {
            self.call(ROOT, callback, (ROOT, queue))?;
        }
        Ok(true)
    }

    /// It takes no more requests, and others are called for its queues.
    pub(crate) fn retire(&mut self) {
        self.store.data_mut().listener = None;
    }

    /// Tells all requests that wait for it that it will say nothing.
    pub(crate) fn fail_waiting(&mut self, fault: &Fault) {
        self.store.data_mut().streams.fail_waiting(fault);
    }

    /// The period of its timer, if it wants one.
    pub(crate) fn tick_period(&self) -> Option<Duration> {
        self.callbacks.tick.as_ref()?;
        self.store.data().tick_period
    }

    /// Its timer has come due.
    pub(crate) fn tick(&mut self) -> Result<(), Fault> {
        let callbacks = self.callbacks.clone();
        let Some(tick) = &callbacks.tick else { return Ok(()) };
        let ticked = self.call(ROOT, tick, ROOT);
        if self.tick_period().is_none() {
            self.store.data_mut().streams.wake_all();
        }
        ticked
    }

    /// How many requests of its own are under way.
    #[cfg(test)]
    pub(crate) fn calls(&self) -> usize {
        self.store.data().calls.len()
    }

    /// How many requests it has.
    #[cfg(test)]
    pub(crate) fn streams(&self) -> usize {
        self.store.data().streams.len()
    }

    /// Calls the guest about a context, and then does what it asked for meanwhile.
    fn call<P: WasmParams, R: WasmResults>(
        &mut self,
        context: u32,
        callback: &TypedFunc<P, R>,
        parameters: P,
    ) -> Result<R, Fault> {
        let result = self.call_plainly(context, callback, parameters)?;
        // Each ends one that was put off, and what it calls in turn is seen by the next round.
        while let Some(finished) = self.store.data_mut().finished.pop() {
            self.forget(finished)?;
        }
        Ok(result)
    }

    fn call_plainly<P: WasmParams, R: WasmResults>(
        &mut self,
        context: u32,
        callback: &TypedFunc<P, R>,
        parameters: P,
    ) -> Result<R, Fault> {
        let time_max = self.store.data().setting.time_max;
        self.call_within(time_max, context, callback, parameters)
    }

    fn call_within<P: WasmParams, R: WasmResults>(
        &mut self,
        time_max: Duration,
        context: u32,
        callback: &TypedFunc<P, R>,
        parameters: P,
    ) -> Result<R, Fault> {
        begin(&mut self.store, time_max);
        self.store.data_mut().effective = context;
        callback.call(&mut self.store, parameters).map_err(|error| fault(&self.store, &error))
    }
}

impl Fault {
    /// A fault of the start, with what the guest was at.
    fn at(self, step: &str) -> Self {
        Self::Start(format!("at {step}: {self}"))
    }
}

/// A call begins: its time is taken from the next tick on.
fn begin(store: &mut Store<Host>, time_max: Duration) {
    store.set_epoch_deadline(1);
    let host = store.data_mut();
    (host.seen_at, host.time_max) = (None, time_max);
    host.memory.was_refused = false;
    arm();
}

/// What a failed call means.
fn fault(store: &Store<Host>, error: &wasmtime::Error) -> Fault {
    let host = store.data();
    if error.downcast_ref::<Stopped>().is_some() {
        return Fault::Overrun(host.time_max);
    }
    let memory = if host.memory.was_refused {
        format!("; before that it was refused more memory than its {} bytes", host.setting.memory_max)
    } else {
        String::new()
    };
    match error.downcast_ref::<Trap>() {
        Some(trap) => Fault::Trapped(format!("it trapped: {trap}{memory}")),
        None => Fault::Trapped(format!("it failed: {error:#}{memory}")),
    }
}

impl Callbacks {
    fn find(made: &wasmtime::Instance, store: &mut Store<Host>) -> Self {
        Self {
            context_create: find(made, store, "proxy_on_context_create"),
            vm_start: find(made, store, "proxy_on_vm_start"),
            configure: find(made, store, "proxy_on_configure"),
            request_headers: OnHeaders::find(made, store, "proxy_on_request_headers"),
            request_body: find(made, store, "proxy_on_request_body"),
            request_trailers: find(made, store, "proxy_on_request_trailers"),
            response_trailers: find(made, store, "proxy_on_response_trailers"),
            response_headers: OnHeaders::find(made, store, "proxy_on_response_headers"),
            response_body: find(made, store, "proxy_on_response_body"),
            done: find(made, store, "proxy_on_done"),
            log: find(made, store, "proxy_on_log"),
            delete: find(made, store, "proxy_on_delete"),
            tick: find(made, store, "proxy_on_tick"),
            queue_ready: find(made, store, "proxy_on_queue_ready"),
            call_response: find(made, store, "proxy_on_http_call_response"),
        }
    }
}

impl OnHeaders {
    fn find(made: &wasmtime::Instance, store: &mut Store<Host>, name: &str) -> Self {
        match find(made, store, name) {
            Some(callback) => Self::Full(callback),
            None => find(made, store, name).map_or(Self::Absent, Self::Short),
        }
    }
}

/// An export, as a function of this type; those of another type were refused when the module was compiled.
fn find<P: WasmParams, R: WasmResults>(
    made: &wasmtime::Instance,
    store: &mut Store<Host>,
    name: &str,
) -> Callback<P, R> {
    made.get_typed_func(store, name).ok()
}
