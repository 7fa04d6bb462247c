//! `POST /upgrade`, and what is known of binary upgrades so far.

use std::cell::{Cell, RefCell};
use std::fmt;

use serde_json::{Value, json};

use super::{Cause, answer_json, send_problem, state};
use crate::clock;
use crate::handler::{Exchange, Failure, Reply};
use crate::http::Status;
use crate::limits::CONTROL_MESSAGES_MAX;
use crate::metrics::keys::UpgradeResult;
use crate::rt::{self, Mailbox, Postbox};

/// What came of an upgrade.
#[derive(Debug, PartialEq, Eq)]
pub enum UpgradeOutcome {
    /// Another process serves: this one.
    Done(u32),
    /// No other came to serve, for this reason; this process serves on.
    Failed(String),
    /// It was not tried, for this reason.
    Refused(String),
}

impl UpgradeOutcome {
    /// As metrics count it.
    pub const fn result(&self) -> UpgradeResult {
        match self {
            Self::Done(_) => UpgradeResult::Success,
            Self::Failed(_) => UpgradeResult::Failed,
            Self::Refused(_) => UpgradeResult::Refused,
        }
    }

    const fn status(&self) -> Status {
        match self {
            Self::Done(_) => Status::OK,
            Self::Failed(_) => Status::SERVICE_UNAVAILABLE,
            Self::Refused(_) => Status::CONFLICT,
        }
    }

    fn to_json(&self) -> Value {
        let mut value = json!({ "result": self.result().name(), "detail": self.to_string() });
        if let Self::Done(pid) = self {
            value["pid"] = (*pid).into();
        }
        value
    }
}

impl fmt::Display for UpgradeOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done(pid) => write!(f, "process {pid} serves"),
            Self::Failed(reason) | Self::Refused(reason) => f.write_str(reason),
        }
    }
}

/// Somebody wants the program replaced.
pub struct UpgradeRequest {
    /// Why.
    pub cause: Cause,
    /// Where to tell what came of it: status and JSON.
    pub reply: Option<Postbox<(Status, Value)>>,
}

/// The upgrades so far, and where another one is asked for.
pub struct Upgrades {
    post: Postbox<UpgradeRequest>,
    counts: Cell<[u64; UpgradeResult::ALL.len()]>,
    last: RefCell<Value>,
}

impl Upgrades {
    /// None so far; with the box where they are asked for.
    pub fn new() -> (Self, Mailbox<UpgradeRequest>) {
        let (post, requests) = rt::mailbox(CONTROL_MESSAGES_MAX);
        (Self { post, counts: Cell::default(), last: RefCell::default() }, requests)
    }

    /// Where another thread asks for one.
    pub fn post(&self) -> Postbox<UpgradeRequest> {
        self.post.clone()
    }

    /// Asks for one.
    ///
    /// # Errors
    /// Gives the request back when as many wait as may.
    pub fn ask(&self, request: UpgradeRequest) -> Result<(), UpgradeRequest> {
        self.post.post(request)
    }

    /// Notes what came of one, and what to answer whoever asked for it.
    pub fn note(&self, cause: Cause, outcome: &UpgradeOutcome) -> (Status, Value) {
        // The successor counts it, and is still there to be asked.
        if !matches!(outcome, UpgradeOutcome::Done(_)) {
            self.count(outcome.result());
        }
        let value = outcome.to_json();
        self.note_last(cause.name(), value.clone());
        (outcome.status(), value)
    }

    /// This process is a successor, and serves.
    pub fn note_succeeded(&self) {
        self.count(UpgradeResult::Success);
        self.note_last("predecessor", UpgradeOutcome::Done(std::process::id()).to_json());
    }

    fn count(&self, result: UpgradeResult) {
        let mut counts = self.counts.get();
        counts[result as usize] += 1;
        self.counts.set(counts);
    }

    fn note_last(&self, cause: &str, mut value: Value) {
        value["cause"] = cause.into();
        value["time_seconds"] = clock::wall().as_secs_f64().into();
        self.last.replace(value);
    }

    /// How many there were of each result.
    pub fn counts(&self) -> [u64; UpgradeResult::ALL.len()] {
        self.counts.get()
    }

    pub(super) fn to_json(&self) -> Value {
        let count = |result: &UpgradeResult| (result.name().to_owned(), self.counts()[*result as usize].into());
        let counts: serde_json::Map<_, _> = UpgradeResult::ALL.iter().map(count).collect();
        json!({ "counts": counts, "last": *self.last.borrow() })
    }
}

pub(super) async fn upgrade(exchange: &mut Exchange<'_>) -> Reply {
    let state = state(exchange)?;
    if super::is_of_a_page(&exchange.request) {
        return Err(Failure::Status(Status::FORBIDDEN, "a request that a web page makes changes nothing here"));
    }
    let (reply, answer) = rt::mailbox(1);
    if state.upgrades().ask(UpgradeRequest { cause: Cause::Admin, reply: Some(reply) }).is_err() {
        return Err(Failure::Status(Status::SERVICE_UNAVAILABLE, "too many upgrades are asked for"));
    }
    match answer.next().await {
        Some((Status::OK, value)) => answer_json(exchange, Status::OK, &value),
        Some((status, value)) => send_problem(exchange, status, value),
        None => Err(Failure::Status(Status::SERVICE_UNAVAILABLE, "the process is stopping")),
    }
}
