//! Binary upgrade: the program is started anew, gets all listening sockets, and takes over once it serves; then this process
//! drains. No socket is closed in between, so nobody is refused. Until the successor has said that it serves, everything can
//! be taken back, and this process serves on.

use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::rc::Rc;
use std::time::Duration;

use super::ServeError;
use super::admin_listener::AdminListener;
use super::reload::Changing;
use super::sockets::Listening;
use super::succession::{Host, Succession};
use super::supervisor::{Orders, Signal};
use crate::admin::{Cause, State, UpgradeOutcome, UpgradeRequest, WorkerState};
use crate::clock;
use crate::config::Steering;
use crate::lifecycle::{Phase, REPLACED};
use crate::limits::UPGRADE_SECONDS_MAX;
use crate::rt::{self, Mailbox, Postbox};
use crate::sys::handover::{self, HandoverError, Inheritance, Purpose, Word};
use crate::sys::notify::Notifier;
use crate::worker::Order;

/// How often whoever waits looks again.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How long systemd may take to make room for what it is told.
const TOLD_WITHIN: Duration = Duration::from_secs(5);
/// How long whoever asks on the admin listener has to take the answer before the drain begins.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);

/// How this process was started: what it was handed, whom it tells how it fares, and how to start it anew.
#[derive(Debug)]
pub struct Origin {
    /// The program's file, as it was found at the start: whatever is there by then is the successor.
    program: PathBuf,
    /// The arguments after the program's name.
    arguments: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    /// How long a successor may take to serve.
    patience: Duration,
    inheritance: Inheritance,
    notifier: Notifier,
}

/// What is wrong with the way in which this process was started.
#[derive(Debug)]
pub enum OriginError {
    /// The program's own file is not known.
    Program(io::Error),
    /// What was handed over is not what was said.
    Handover(HandoverError),
    /// systemd's socket cannot be reached.
    Notify(io::Error),
}

impl fmt::Display for OriginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(error) => write!(f, "cannot find this program's own file: {error}"),
            Self::Handover(error) => error.fmt(f),
            Self::Notify(error) => write!(f, "NOTIFY_SOCKET: cannot tell systemd: {error}"),
        }
    }
}

impl std::error::Error for OriginError {}

impl Origin {
    /// Of this process, which was started with these arguments, the program's name not among them, and these environment
    /// variables. To be called early: it takes over descriptors that are known by their numbers alone.
    ///
    /// # Errors
    /// See [`OriginError`].
    pub fn new(arguments: Vec<OsString>, variables: Vec<(OsString, OsString)>) -> Result<Self, OriginError> {
        let inheritance = Inheritance::take(&variables).map_err(OriginError::Handover)?;
        let notifier = Notifier::new(&variables).map_err(OriginError::Notify)?;
        let program = at_its_path(std::env::current_exe().map_err(OriginError::Program)?);
        let patience = Duration::from_secs(UPGRADE_SECONDS_MAX);
        Ok(Self { program, arguments, variables, patience, inheritance, notifier })
    }

    /// With so much time for a successor to serve, instead of what is usual.
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// What this process was handed.
    pub(super) fn inheritance(&mut self) -> &mut Inheritance {
        &mut self.inheritance
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).env_clear().envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// The path without what Linux adds when the file there was replaced.
fn at_its_path(program: PathBuf) -> PathBuf {
    let text = program.to_str().and_then(|text| text.strip_suffix(" (deleted)")).map(PathBuf::from);
    text.unwrap_or(program)
}

/// Starts successors.
pub(super) struct Upgrader {
    origin: Origin,
    /// Where the predecessor waits to be told that this process serves.
    predecessor: RefCell<Option<OwnedFd>>,
    state: Rc<State>,
    listening: Rc<RefCell<Listening>>,
    orders: Rc<Orders>,
    cores: Vec<usize>,
    admin: RefCell<Option<AdminListener>>,
    succession: Succession,
    signals: Postbox<Signal>,
}

impl Upgrader {
    pub(super) fn new(
        mut origin: Origin,
        state: Rc<State>,
        (listening, orders, cores): (Rc<RefCell<Listening>>, Rc<Orders>, Vec<usize>),
        admin: Option<AdminListener>,
        changing: Rc<Cell<Changing>>,
        signals: Postbox<Signal>,
    ) -> Rc<Self> {
        for closed in handover::count_by_address(&origin.inheritance.sockets).keys() {
            tracing::warn!(address = %closed, "a socket was handed over that the config does not have: it is closed");
        }
        origin.inheritance.sockets.clear();
        let predecessor = RefCell::new(origin.inheritance.ready.take());
        let admin = RefCell::new(admin);
        let succession = Succession::new(changing, origin.patience);
        let upgrader =
            Rc::new(Self { origin, predecessor, state, listening, orders, cores, admin, succession, signals });
        if let Some(every) = upgrader.origin.notifier.watchdog() {
            rt::spawn(upgrader.clone().feed_watchdog(every / 2));
        }
        upgrader
    }

    /// Begins to answer on the admin listener. A successor leaves it to its predecessor until it has taken over: whoever asks
    /// means that one.
    ///
    /// # Errors
    /// [`ServeError::Duplicate`].
    pub(super) fn open_admin(&self) -> Result<(), ServeError> {
        match &*self.admin.borrow() {
            Some(admin) if self.predecessor.borrow().is_none() => admin.open(),
            Some(_) | None => Ok(()),
        }
    }

    /// Answers nobody new on the admin listener.
    pub(super) async fn close_admin(&self) {
        let admin = self.admin.take();
        if let Some(admin) = admin {
            admin.close().await;
        }
    }

    /// Makes upgrades until nobody can ask for one any more.
    pub(super) async fn run(self: Rc<Self>, requests: Mailbox<UpgradeRequest>) {
        while let Some(UpgradeRequest { cause, reply }) = requests.next().await {
            let asked = Asked { upgrader: self.clone(), cause, reply: Cell::new(reply) };
            match self.succession.refusal() {
                Some(refusal) => asked.stay(&refusal),
                None => {
                    rt::spawn(async move { asked.upgrader.succession.hand_over(&asked).await });
                    // It claims its turn at once, if nobody else has it.
                    rt::yield_now().await;
                }
            }
        }
    }

    /// The process serves: whoever waits for that is told.
    pub(super) fn note_serving(self: &Rc<Self>) {
        let Some(predecessor) = self.predecessor.take() else { return self.tell("READY=1") };
        self.state.upgrades().note_succeeded();
        handover::say_ready(predecessor);
        if let Some(admin) = &*self.admin.borrow()
            && let Err(error) = admin.open()
        {
            tracing::error!(%error, "nobody answers on the admin listener");
        }
        self.tell("READY=1");
        tracing::info!(pid = std::process::id(), "took over from the process before");
    }

    /// Opens the listening sockets that are missing where the process before had fewer workers, or systemd handed over one.
    pub(super) fn complete_listening(&self, steering: Steering) {
        let opened = match self.listening.borrow_mut().complete(steering, &self.cores) {
            Ok(opened) => opened,
            Err(error) => return tracing::warn!(%error, "workers share the sockets that were handed over"),
        };
        let mut opened = opened.into_iter();
        self.orders.give(|_| {
            let own = opened.next().unwrap_or_default();
            Order::Listen(own.into_iter().map(|(address, socket)| (address, socket.into())).collect())
        });
    }

    /// The process begins to stop.
    pub(super) fn note_draining(self: &Rc<Self>) {
        // systemd would take the service down, whose successor serves.
        if !self.succession.has_begun() {
            self.tell("STOPPING=1");
        }
    }

    /// Tells systemd, soon.
    fn tell(self: &Rc<Self>, state: &'static str) {
        let upgrader = self.clone();
        rt::spawn(async move { upgrader.tell_surely(state).await });
    }

    /// Tells systemd; waits a while for room in its queue.
    async fn tell_surely(&self, state: &str) {
        let until = clock::now() + TOLD_WITHIN;
        let told = rt::look_every(LOOK_EVERY, until, || match self.origin.notifier.tell(state) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            told => Some(told),
        });
        if let Err(error) = told.await.unwrap_or(Err(io::ErrorKind::WouldBlock.into())) {
            tracing::warn!(%error, state, "systemd cannot be told");
        }
    }

    /// Shows systemd that this process is well, as long as every worker is.
    async fn feed_watchdog(self: Rc<Self>, every: Duration) {
        while matches!(self.state.phase(), Phase::Initializing | Phase::Starting | Phase::Serving) {
            if self.state.workers().iter().all(WorkerState::is_alive) {
                // Where its queue is full the next is soon enough.
                let _ = self.origin.notifier.tell("WATCHDOG=1");
            }
            rt::sleep_until(clock::now() + every).await;
        }
    }

    fn answer(&self, cause: Cause, reply: Option<Reply>, outcome: &UpgradeOutcome) {
        match outcome {
            UpgradeOutcome::Done(pid) => tracing::info!(cause = cause.name(), pid, "a successor serves"),
            UpgradeOutcome::Failed(reason) | UpgradeOutcome::Refused(reason) => {
                tracing::error!(cause = cause.name(), reason, "no upgrade: this process serves on");
            }
        }
        let answer = self.state.upgrades().note(cause, outcome);
        if let Some(reply) = reply {
            // Who asked may be gone.
            let _ = reply.post(answer);
        }
    }

    /// All of them, with what they are for.
    fn duplicate_sockets(&self) -> io::Result<Vec<(Purpose, SocketAddr, OwnedFd)>> {
        let mut sockets = Vec::new();
        if let Some(admin) = &*self.admin.borrow() {
            sockets.push((Purpose::Admin, admin.configured, admin.socket.try_clone()?));
        }
        for (configured, socket) in self.listening.borrow().descriptors() {
            sockets.push((Purpose::Server, configured, socket.try_clone_to_owned()?));
        }
        Ok(sockets)
    }
}

type Reply = Postbox<(crate::http::Status, serde_json::Value)>;

/// An upgrade that somebody asked for.
struct Asked {
    upgrader: Rc<Upgrader>,
    cause: Cause,
    /// Taken by the answer.
    reply: Cell<Option<Reply>>,
}

impl Asked {
    fn answer(&self, outcome: &UpgradeOutcome) {
        self.upgrader.answer(self.cause, self.reply.take(), outcome);
    }
}

impl Host for Asked {
    type Successor = Successor;

    fn phase(&self) -> Phase {
        self.upgrader.state.phase()
    }

    async fn start(&self) -> Result<Successor, UpgradeOutcome> {
        if std::process::id() == 1 {
            let reason = "this is process 1, with which its container ends: replace the container instead";
            return Err(UpgradeOutcome::Refused(reason.to_owned()));
        }
        let failed = |error: io::Error| UpgradeOutcome::Failed(format!("the program cannot be started: {error}"));
        let sockets = self.upgrader.duplicate_sockets().map_err(failed)?;
        let (reader, writer) = io::pipe().map_err(failed)?;
        let command = self.upgrader.origin.command();
        let started = rt::blocking(move || {
            let sockets: Vec<_> = sockets.iter().map(|(what, address, fd)| (*what, *address, fd.as_fd())).collect();
            handover::start_successor(command, &sockets, writer.as_fd())
        });
        let successor = Successor { child: Some(started.await.map_err(failed)?), reader: Some(reader) };
        let program = self.upgrader.origin.program.display();
        tracing::info!(pid = successor.id(), %program, "a successor starts");
        Ok(successor)
    }

    async fn listen(&self, successor: &mut Successor, most: Duration) -> Word {
        let Some(mut reader) = successor.reader.take() else { return Word::End };
        let (reader, word) = rt::blocking(move || {
            let word = handover::wait_for_word(&mut reader, most);
            (reader, word)
        })
        .await;
        successor.reader = Some(reader);
        word
    }

    fn find_end(&self, successor: &mut Successor) -> io::Result<Option<String>> {
        Ok(successor.child()?.try_wait()?.map(|status| status.to_string()))
    }

    fn ask_to_end(&self, successor: &Successor) -> io::Result<()> {
        handover::ask_to_end(successor.child.as_ref().ok_or(io::ErrorKind::NotFound)?)
    }

    async fn force_to_end(&self, mut successor: Successor) -> io::Result<String> {
        let mut child = successor.child.take().ok_or(io::ErrorKind::NotFound)?;
        rt::blocking(move || {
            child.kill()?;
            Ok(child.wait()?.to_string())
        })
        .await
    }

    fn pid(&self, successor: &Successor) -> u32 {
        successor.id()
    }

    /// The admin listener first, so that whoever was told finds the successor there, then the workers' sockets.
    async fn leave(&self, successor: Successor) {
        let (pid, upgrader) = (successor.release(), &self.upgrader);
        upgrader.tell_surely(&format!("MAINPID={pid}")).await;
        let admin = upgrader.admin.take();
        if let Some(admin) = &admin {
            admin.close().await;
        }
        self.answer(&UpgradeOutcome::Done(pid));
        if let Some(admin) = admin {
            admin.drain(ANSWERED_WITHIN).await;
        }
        // A full mailbox holds signals enough, all of them to the same end.
        let _ = upgrader.signals.post(REPLACED);
    }

    fn stay(&self, outcome: &UpgradeOutcome) {
        self.answer(outcome);
    }
}

/// A successor that has not taken over yet. It ends with whoever holds this.
struct Successor {
    /// None once it has been released, or is about to be ended by force.
    child: Option<Child>,
    /// Where it says that it serves; none while somebody listens.
    reader: Option<io::PipeReader>,
}

impl Successor {
    fn id(&self) -> u32 {
        self.child.as_ref().map_or(0, Child::id)
    }

    fn child(&mut self) -> io::Result<&mut Child> {
        self.child.as_mut().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// It serves, and belongs to nobody.
    fn release(mut self) -> u32 {
        self.child.take().map_or(0, |child| child.id())
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
