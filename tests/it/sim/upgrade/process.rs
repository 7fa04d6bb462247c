//! A process of the world: workers under the real supervisor, on listening sockets that it was handed or has opened, and the
//! real succession when it is to be replaced. What it is on Linux beyond that is what stands here.

use super::super::set_up::{STALL, WORKERS_MAX, pause};
use super::stage::{self, Stage};
use ringfort::admin::UpgradeOutcome;
use ringfort::clock::{self, Moment};
use ringfort::handler::Routes;
use ringfort::lifecycle::{Phase, REPLACED};
use ringfort::master::{Changing, Crew, Host, Note, Orders, ServeError, Signal, Succession, Supervisor, share_out};
use ringfort::metrics::ShardWriter;
use ringfort::router::RouterBuf;
use ringfort::rt::sim::{self, Joined, Random, Socket};
use ringfort::rt::{self, Mailbox, Postbox};
use ringfort::sys::handover::Word;
use ringfort::worker::{End, News, Order, Worker};
use std::cell::{Cell, RefCell};
use std::future::{pending, poll_fn};
use std::io;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// How long a successor may take to serve.
pub(super) const SERVES_WITHIN: Duration = Duration::from_secs(3);

/// What becomes of a process that is started to follow another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It comes to serve.
    Serves,
    /// It ends before it listens, as with a config that is wrong.
    EndsEarly,
    /// It dies while its workers accept connections already.
    Crashes,
    /// It gives up while its workers accept connections already: they drain.
    GivesUp,
    /// Its workers accept connections, and it never says that it serves.
    Hangs,
    /// It does nothing, not even end when it is asked to.
    Deaf,
}

/// How a process is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life {
    pub(super) fate: Fate,
    /// Milliseconds until its workers start, and from then until it crashes or gives up.
    pub(super) starts_after_ms: u64,
    pub(super) lasts_ms: u64,
    pub(super) workers: usize,
    /// How long it may drain.
    pub(super) patience: Duration,
}

impl Life {
    pub(super) fn pick(random: &mut Random, fates: &[Fate]) -> Self {
        use super::super::set_up::GENEROUS;
        let patience = if random.chance(850) { GENEROUS } else { Duration::from_millis(random.between(100, 400)) };
        Self {
            fate: *random.pick(fates),
            starts_after_ms: random.below(600),
            lasts_ms: random.below(500),
            workers: random.between(1, 3) as usize,
            patience,
        }
    }
}

/// Something that happens once.
#[derive(Default)]
struct Flag(Cell<bool>, RefCell<Vec<Waker>>);

impl Flag {
    fn set(&self) {
        self.0.set(true);
        self.1.take().into_iter().for_each(Waker::wake);
    }

    async fn wait(&self) {
        poll_fn(|cx| {
            if self.0.get() {
                return Poll::Ready(());
            }
            self.1.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

pub(super) struct Process {
    pub(super) number: u32,
    pub(super) life: Life,
    stage: Weak<Stage>,
    phase: Cell<Phase>,
    /// As the master keeps them, until the drain.
    sockets: RefCell<Vec<Socket>>,
    pub(super) cores: RefCell<Vec<usize>>,
    ends: RefCell<Vec<Joined<()>>>,
    accepting: Cell<usize>,
    signals: Postbox<Signal>,
    killed: Flag,
    /// Where its predecessor waits for its word.
    ready: Cell<Option<Postbox<()>>>,
    pub(super) succession: Succession,
    pub(super) drained: Cell<Option<Moment>>,
    /// Connections that its drain's deadline cut.
    pub(super) cut: Cell<usize>,
    pub(super) is_gone: Cell<bool>,
}

impl Process {
    /// Starts one that gets these sockets, or opens its own when there are none.
    pub(super) fn start(stage: &Rc<Stage>, life: Life, inherited: Vec<Socket>, ready: Option<Postbox<()>>) -> Rc<Self> {
        let (post, signals) = rt::mailbox(16);
        let process = Rc::new(Self {
            number: stage.processes.borrow().len() as u32,
            life,
            stage: Rc::downgrade(stage),
            phase: Cell::new(Phase::Starting),
            sockets: RefCell::new(inherited),
            cores: RefCell::default(),
            ends: RefCell::default(),
            accepting: Cell::new(0),
            signals: post,
            killed: Flag::default(),
            ready: Cell::new(ready),
            succession: Succession::new(Rc::new(Cell::new(Changing::Nothing)), SERVES_WITHIN),
            drained: Cell::new(None),
            cut: Cell::new(0),
            is_gone: Cell::new(false),
        });
        sim::note(format_args!("process {}: {life:?}", process.number));
        stage.processes.borrow_mut().push(process.clone());
        // Nobody waits for it: a parent learns of its child's end otherwise.
        drop(sim::task(process.clone().run(signals)));
        process
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Whether it serves for good, as it says itself.
    pub(super) fn serves(&self) -> bool {
        self.phase.get() == Phase::Serving
    }

    fn stage(&self) -> Rc<Stage> {
        self.stage.upgrade().expect("the stage is there as long as the world")
    }

    /// As its launcher takes it.
    pub(super) fn signal(&self, signal: Signal) {
        if signal == REPLACED && !self.serves() {
            return;
        }
        self.phase.set(Phase::Draining);
        let _ = self.signals.post(signal);
    }

    /// It is no more, in the middle of whatever it is at.
    fn kill(&self, is_excuse: bool) {
        sim::note(format_args!("process {} is killed", self.number));
        if is_excuse {
            self.cores.borrow().iter().for_each(|core| sim::disturb(*core));
        }
        self.killed.set();
    }

    async fn run(self: Rc<Self>, signals: Mailbox<Signal>) {
        rt::select(self.live(&signals), self.killed.wait()).await;
        let ends = self.ends.take();
        for end in ends {
            end.await;
        }
        self.sockets.take();
        self.phase.set(Phase::Stopped);
        self.is_gone.set(true);
        self.ready.take();
        sim::note(format_args!("process {} is gone", self.number));
    }

    async fn live(self: &Rc<Self>, signals: &Mailbox<Signal>) {
        if self.life.fate == Fate::Deaf {
            return pending().await;
        }
        let early = rt::select(pause(self.life.starts_after_ms), signals.next()).await;
        if matches!(early, rt::Either::Second(_)) || self.life.fate == Fate::EndsEarly {
            return;
        }
        if self.sockets.borrow().is_empty() {
            let opened = (0..self.life.workers).map(|_| sim::listen(stage::ADDRESS));
            self.sockets.borrow_mut().extend(opened);
        }
        let (news_post, news) = rt::mailbox(16);
        let posts = (0..self.life.workers).map(|index| self.start_worker(index, &news_post)).collect();
        let orders = Orders::new(posts);
        let drain = Rc::new(Cell::new(self.life.patience));
        let crew = Workers { process: self.clone(), news: news_post, orders: orders.clone() };
        let ends_itself = async {
            pause(self.life.lasts_ms).await;
            match self.life.fate {
                Fate::Crashes => self.kill(true),
                Fate::GivesUp => self.signal(Signal("itself")),
                Fate::Serves | Fate::EndsEarly | Fate::Hangs | Fate::Deaf => {}
            }
            pending::<()>().await;
        };
        let supervisor = Supervisor::new(orders, drain, STALL);
        let result = rt::select(supervisor.run(&news, signals, &crew), ends_itself).await;
        if let rt::Either::First(Err(error)) = result {
            sim::fail(format!("process {}: {error}", self.number));
        }
    }

    fn start_worker(self: &Rc<Self>, index: usize, news: &Postbox<News>) -> Postbox<Order> {
        let stage = self.stage();
        let none = RouterBuf::build(&[]).expect("no routes are no conflict");
        let routes = Arc::new(Routes::new(&[&stage::ROUTES], none, Vec::new(), Vec::new()));
        let (post, orders) = rt::mailbox(16);
        let sockets = self.sockets.borrow();
        let own = share_out(sockets.len(), index, self.life.workers);
        let worker = Worker {
            index,
            count: WORKERS_MAX,
            pin: None,
            executor: rt::Options::default(),
            listeners: own.map(|at| (stage::ADDRESS, sockets[at].another_listener().into())).collect(),
            stall: STALL,
            settings: stage.settings.clone(),
            metrics: ShardWriter::create(index as u32, 1, routes.names().len()),
            routes,
            access: None,
            context: Arc::new(|| Rc::new(())),
            orders,
            news: news.clone(),
        };
        self.cores.borrow_mut().push(sim::count_cores());
        let (process, news) = (self.clone(), news.clone());
        let started = rt::Started { executor: rt::Executor::default(), driver: rt::Driver::IoUring, fallback: None };
        let end = sim::core(stage.core, async move {
            if let rt::Either::First(cut) = rt::select(worker.serve(started), process.killed.wait()).await {
                process.cut.set(process.cut.get() + cut);
                let _ = news.post(News::Ended(index, End::Left { cut }));
            }
        });
        self.ends.borrow_mut().push(end);
        post
    }

    /// All its workers accept connections.
    fn note_serving(&self, orders: &Orders) {
        let is_successor = self.number > 0;
        if is_successor && self.life.fate != Fate::Serves || self.phase.get() != Phase::Starting {
            return;
        }
        sim::note(format_args!("process {} serves", self.number));
        self.phase.set(Phase::Serving);
        if let Some(ready) = self.ready.take() {
            let _ = ready.post(());
        }
        // Where there were fewer workers before, some share a socket: now they get their own.
        let mut sockets = self.sockets.borrow_mut();
        let inherited = sockets.len();
        sockets.extend((inherited..self.life.workers).map(|_| sim::listen(stage::ADDRESS)));
        orders.give(|index| {
            let own = sockets.get(index).filter(|_| index >= inherited);
            Order::Listen(own.map(|socket| (stage::ADDRESS, socket.another_listener().into())).into_iter().collect())
        });
    }

    fn note_draining(&self) {
        sim::note(format_args!("process {} drains", self.number));
        self.phase.set(Phase::Draining);
        self.drained.set(Some(clock::now()));
        self.stage().note_drain(self);
        self.sockets.take();
    }
}

/// What the supervisor works through.
struct Workers {
    process: Rc<Process>,
    news: Postbox<News>,
    orders: Rc<Orders>,
}

impl Crew for Workers {
    fn start(&self, index: usize) -> Result<Postbox<Order>, ServeError> {
        Ok(self.process.start_worker(index, &self.news))
    }

    /// It is not what this is about.
    fn last_beat(&self, _: usize) -> Option<Moment> {
        Some(clock::now())
    }

    fn note(&self, note: Note) {
        let process = &self.process;
        match note {
            Note::Accepting(..) => {
                process.accepting.set(process.accepting.get() + 1);
                if process.accepting.get() == process.life.workers {
                    process.note_serving(&self.orders);
                }
            }
            Note::Draining => process.note_draining(),
            Note::Down(index, reason, _) => sim::fail(format!("process {}: worker {index}: {reason}", process.number)),
            Note::Tick | Note::Stalled(..) | Note::Resumed(..) | Note::Ended(..) | Note::TookUp(..) => {}
        }
    }
}

/// An upgrade that somebody asked a process for.
pub(super) struct Asked {
    pub(super) process: Rc<Process>,
    /// What the program is by now that it will be replaced by.
    pub(super) life: Life,
    pub(super) outcome: RefCell<Option<UpgradeOutcome>>,
}

/// A child that has not taken over yet: it ends with its parent.
pub(super) struct Successor {
    process: Option<Rc<Process>>,
    word: Mailbox<()>,
}

impl Successor {
    fn process(&self) -> io::Result<&Rc<Process>> {
        self.process.as_ref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        if let Some(process) = self.process.take().filter(|process| !process.is_gone.get()) {
            process.kill(false);
        }
    }
}

impl Host for Asked {
    type Successor = Successor;

    fn phase(&self) -> Phase {
        self.process.phase()
    }

    async fn start(&self) -> Result<Successor, UpgradeOutcome> {
        let sockets = self.process.sockets.borrow().iter().map(Socket::another_listener).collect();
        // As long as it takes to fork.
        pause(sim::random().below(5)).await;
        let (ready, word) = rt::mailbox(1);
        let process = Process::start(&self.process.stage(), self.life, sockets, Some(ready));
        Ok(Successor { process: Some(process), word })
    }

    async fn listen(&self, successor: &mut Successor, most: Duration) -> Word {
        match rt::timeout(clock::now() + most, successor.word.next()).await {
            None => Word::Nothing,
            Some(Some(())) => Word::Ready,
            Some(None) => Word::End,
        }
    }

    fn find_end(&self, successor: &mut Successor) -> io::Result<Option<String>> {
        Ok(successor.process()?.is_gone.get().then(|| "it is gone".to_owned()))
    }

    fn ask_to_end(&self, successor: &Successor) -> io::Result<()> {
        successor.process()?.signal(Signal("TERM"));
        Ok(())
    }

    async fn force_to_end(&self, mut successor: Successor) -> io::Result<String> {
        let process = successor.process.take().ok_or(io::ErrorKind::NotFound)?;
        process.kill(process.life.fate == Fate::Deaf);
        while !process.is_gone.get() {
            pause(1).await;
        }
        Ok("it was killed".to_owned())
    }

    fn pid(&self, successor: &Successor) -> u32 {
        successor.process.as_ref().map_or(0, |process| process.number)
    }

    async fn leave(&self, mut successor: Successor) {
        let pid = successor.process.take().map_or(0, |process| process.number);
        sim::note(format_args!("process {} leaves everything to process {pid}", self.process.number));
        self.outcome.replace(Some(UpgradeOutcome::Done(pid)));
        // Whoever asked has time to take the answer.
        pause(sim::random().below(20)).await;
        self.process.signal(REPLACED);
    }

    fn stay(&self, outcome: &UpgradeOutcome) {
        sim::note(format_args!("process {} stays: {outcome}", self.process.number));
        self.outcome.replace(Some(match outcome {
            UpgradeOutcome::Done(pid) => UpgradeOutcome::Done(*pid),
            UpgradeOutcome::Failed(reason) => UpgradeOutcome::Failed(reason.clone()),
            UpgradeOutcome::Refused(reason) => UpgradeOutcome::Refused(reason.clone()),
        }));
    }
}
