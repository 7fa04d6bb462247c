//! What is decided in a binary upgrade: when a successor is started, what is waited for, which of the two leaves, and how one
//! that did not come to serve is seen off. It knows processes and sockets by their [`Host`] alone, so that it runs as well
//! where processes are none.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use super::reload::Changing;
use crate::admin::UpgradeOutcome;
use crate::clock::{self, Moment};
use crate::lifecycle::Phase;
use crate::limits::UPGRADE_END_SECONDS;
use crate::rt;
#[cfg(feature = "sim")]
use crate::rt::sim::{Bug, planted};
use crate::sys::handover::Word;

/// How often whoever waits looks again.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How long one wait for the successor's word is; in between it is seen whether this process is to stop.
const LISTEN_FOR: Duration = Duration::from_millis(100);

/// Through whom an upgrade reaches the two processes, or what stands for them.
pub trait Host {
    /// A successor that was started and has not taken over. It ends with whoever holds this.
    type Successor;

    /// Where this process is.
    fn phase(&self) -> Phase;

    /// Starts a successor, which gets all listening sockets.
    fn start(&self) -> impl Future<Output = Result<Self::Successor, UpgradeOutcome>>;

    /// Waits for the successor's word, at most so long.
    fn listen(&self, successor: &mut Self::Successor, most: Duration) -> impl Future<Output = Word>;

    /// How the successor ended, if it has.
    ///
    /// # Errors
    /// It cannot be told.
    fn find_end(&self, successor: &mut Self::Successor) -> io::Result<Option<String>>;

    /// Asks the successor to end: it serves whom it has let in.
    ///
    /// # Errors
    /// There is none any more.
    fn ask_to_end(&self, successor: &Self::Successor) -> io::Result<()>;

    /// Ends the successor, whatever it is at; how it ended.
    ///
    /// # Errors
    /// There is none any more.
    fn force_to_end(&self, successor: Self::Successor) -> impl Future<Output = io::Result<String>>;

    /// The successor's process id.
    fn pid(&self, successor: &Self::Successor) -> u32;

    /// The successor serves, and belongs to nobody: this process leaves everything to it.
    fn leave(&self, successor: Self::Successor) -> impl Future<Output = ()>;

    /// This process serves on, for that reason.
    fn stay(&self, outcome: &UpgradeOutcome);
}

/// Why a successor did not take over.
enum Unready {
    Ended,
    Late(Duration),
    Unwanted,
}

impl fmt::Display for Unready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("ended before it served; its own log says why"),
            Self::Late(patience) => write!(f, "did not serve within {patience:?} and was ended"),
            Self::Unwanted => f.write_str("was ended, because this process stops"),
        }
    }
}

/// How one process follows the other.
#[derive(Debug, Clone)]
pub struct Succession {
    changing: Rc<Cell<Changing>>,
    /// How long a successor may take to serve.
    patience: Duration,
}

impl Succession {
    /// Upgrades that take turns with whatever else is changed.
    pub fn new(changing: Rc<Cell<Changing>>, patience: Duration) -> Self {
        Self { changing, patience }
    }

    /// Why another upgrade makes no sense now: one is under way, or a successor serves already.
    pub fn refusal(&self) -> Option<UpgradeOutcome> {
        #[cfg(feature = "sim")]
        if planted(Bug::SecondSuccessor) {
            return None;
        }
        let is_under_way = self.changing.get() == Changing::Program;
        is_under_way.then(|| UpgradeOutcome::Refused("an upgrade is under way already".to_owned()))
    }

    /// Whether this process stops because another follows it, or is about to.
    pub fn has_begun(&self) -> bool {
        self.changing.get() == Changing::Program
    }

    /// Has a successor follow this process, when its turn has come. Until the successor has said that it serves, everything
    /// can be taken back.
    pub async fn hand_over(&self, host: &impl Host) {
        let is_starting = || matches!(host.phase(), Phase::Initializing | Phase::Starting);
        let has_turn = || self.changing.get() != Changing::Config && !is_starting();
        rt::look_every(LOOK_EVERY, Moment::NEVER, || has_turn().then_some(())).await;
        if let Some(refusal) = self.refusal() {
            return host.stay(&refusal);
        }
        self.changing.set(Changing::Program);
        match self.find_successor(host).await {
            Ok(successor) => {
                #[cfg(feature = "sim")]
                if planted(Bug::BothLeave) {
                    let _ = host.ask_to_end(&successor);
                }
                host.leave(successor).await;
            }
            Err(outcome) => {
                #[cfg(feature = "sim")]
                if planted(Bug::KeptTurn) {
                    return host.stay(&outcome);
                }
                self.changing.set(Changing::Nothing);
                host.stay(&outcome);
            }
        }
    }

    /// Starts a successor and waits until it serves.
    async fn find_successor<H: Host>(&self, host: &H) -> Result<H::Successor, UpgradeOutcome> {
        if host.phase() != Phase::Serving {
            return Err(UpgradeOutcome::Refused(format!("the process is {}", host.phase().name())));
        }
        let mut successor = host.start().await?;
        let Err(reason) = self.wait_until_ready(host, &mut successor).await else { return Ok(successor) };
        #[cfg(feature = "sim")]
        if planted(Bug::FailureLeaves) {
            return Ok(successor);
        }
        let pid = host.pid(&successor);
        let end = see_off(host, successor, &reason).await.unwrap_or_else(|error| error.to_string());
        Err(UpgradeOutcome::Failed(format!("the successor, process {pid}, {reason} ({end})")))
    }

    async fn wait_until_ready<H: Host>(&self, host: &H, successor: &mut H::Successor) -> Result<(), Unready> {
        let until = clock::now() + self.patience;
        #[cfg(feature = "sim")]
        if planted(Bug::HastyLeave) {
            return Ok(());
        }
        loop {
            match host.listen(successor, LISTEN_FOR).await {
                Word::Ready => return Ok(()),
                Word::End => return Err(Unready::Ended),
                Word::Nothing if host.phase() != Phase::Serving => return Err(Unready::Unwanted),
                Word::Nothing if clock::now() >= until => return Err(Unready::Late(self.patience)),
                Word::Nothing => {}
            }
        }
    }
}

/// Sees a successor end: by itself where it is about to, else because it is asked to, so that clients which it has let in are
/// served; and when it does neither, by force.
async fn see_off<H: Host>(host: &H, mut successor: H::Successor, reason: &Unready) -> io::Result<String> {
    let ends_by_itself = matches!(reason, Unready::Ended);
    if ends_by_itself && let Some(end) = wait_for_end(host, &mut successor).await? {
        return Ok(end);
    }
    #[cfg(feature = "sim")]
    if planted(Bug::ForcedAtOnce) {
        return host.force_to_end(successor).await;
    }
    host.ask_to_end(&successor)?;
    match wait_for_end(host, &mut successor).await? {
        Some(end) => Ok(end),
        #[cfg(feature = "sim")]
        None if planted(Bug::DeafSuccessorKept) => {
            let _ = std::mem::ManuallyDrop::new(successor);
            Ok("left alone".to_owned())
        }
        None => host.force_to_end(successor).await,
    }
}

async fn wait_for_end<H: Host>(host: &H, successor: &mut H::Successor) -> io::Result<Option<String>> {
    let until = clock::now() + Duration::from_secs(UPGRADE_END_SECONDS);
    rt::look_every(LOOK_EVERY, until, || host.find_end(successor).transpose()).await.transpose()
}
