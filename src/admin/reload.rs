//! `POST /reload`, and what is known of reloads so far.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::{answer_json, send_problem, state};
use crate::clock;
use crate::config::{Changes, Failure as ConfigFailure};
use crate::handler::{Exchange, Failure, Reply};
use crate::http::Status;
use crate::limits::RELOADS_WAITING_MAX;
use crate::metrics::keys::ReloadResult;
use crate::rt::{self, Mailbox, Postbox};

/// Why the config is read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The file has changed.
    File,
    /// SIGHUP.
    Signal,
    /// `POST /reload`.
    Admin,
}

impl Cause {
    /// As logs and `/status` call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Signal => "signal",
            Self::Admin => "admin",
        }
    }
}

/// What came of a reload.
#[derive(Debug)]
pub enum Outcome {
    /// Another config is in force.
    Done {
        /// Its generation.
        generation: u64,
        /// What it changed.
        changes: Box<Changes>,
        /// Workers that have not taken it up yet: they stand still, and will when they go on.
        late: Vec<usize>,
    },
    /// The config is wrong; nothing was changed.
    Invalid(ConfigFailure),
    /// Something in it cannot be changed by a reload; nothing was.
    Fixed(Box<Changes>),
    /// It could not be done, for this reason; nothing was changed.
    Impossible(String),
}

impl Outcome {
    /// As metrics count it.
    pub fn result(&self) -> ReloadResult {
        match self {
            Self::Done { .. } => ReloadResult::Success,
            Self::Invalid(_) => ReloadResult::Invalid,
            Self::Fixed(_) => ReloadResult::Refused,
            Self::Impossible(_) => ReloadResult::Failed,
        }
    }

    fn to_json(&self) -> Value {
        let mut value = match self {
            Self::Done { generation, changes, late } => {
                json!({ "generation": generation, "changes": changes, "workers_late": late })
            }
            Self::Invalid(failure) => json!({
                "origin": failure.origin,
                "errors": failure.errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
            }),
            Self::Fixed(changes) => json!({ "changes": changes }),
            Self::Impossible(_) => json!({}),
        };
        value["result"] = self.result().name().into();
        value["detail"] = self.to_string().into();
        value
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done { changes, .. } => f.write_str(&changes.summary()),
            Self::Invalid(failure) => {
                write!(f, "{} error{}", failure.errors.len(), if failure.errors.len() == 1 { "" } else { "s" })?;
                failure.errors.first().map_or(Ok(()), |first| write!(f, ", the first: {first}"))
            }
            Self::Fixed(changes) => {
                f.write_str("not by a reload, restart for it: ")?;
                changes.fixed.iter().enumerate().try_for_each(|(at, fixed)| {
                    write!(f, "{}{} ({})", if at == 0 { "" } else { ", " }, fixed.change, fixed.reason)
                })
            }
            Self::Impossible(reason) => f.write_str(reason),
        }
    }
}

/// Somebody wants the config read again.
pub struct Request {
    /// Why.
    pub cause: Cause,
    /// Where to tell what came of it: status and JSON.
    pub reply: Option<Postbox<(Status, Arc<Value>)>>,
}

/// Reloads so far.
#[derive(Debug, Default)]
pub struct Reloads {
    counts: [u64; ReloadResult::ALL.len()],
    last: Option<Last>,
    /// Of the last one that succeeded, or of the start.
    succeeded: Duration,
}

#[derive(Debug)]
struct Last {
    cause: Cause,
    /// Since the Unix epoch.
    when: Duration,
    /// Shared with who asked: it may name a hundred thousand routes.
    outcome: Arc<Value>,
    result: ReloadResult,
}

impl Reloads {
    /// None so far.
    pub fn new() -> Self {
        Self { succeeded: clock::wall(), ..Self::default() }
    }

    /// Notes what came of one, and what to answer whoever asked for it.
    pub fn note(&mut self, cause: Cause, outcome: &Outcome) -> (Status, Arc<Value>) {
        let (result, when) = (outcome.result(), clock::wall());
        self.counts[result as usize] += 1;
        if result == ReloadResult::Success {
            self.succeeded = when;
        }
        let value = Arc::new(outcome.to_json());
        self.last = Some(Last { cause, when, outcome: value.clone(), result });
        let status = match result {
            ReloadResult::Success => Status::OK,
            ReloadResult::Invalid => Status::UNPROCESSABLE_CONTENT,
            ReloadResult::Refused => Status::CONFLICT,
            ReloadResult::Failed => Status::SERVICE_UNAVAILABLE,
        };
        (status, value)
    }

    /// How many there were of each result.
    pub fn counts(&self) -> [u64; ReloadResult::ALL.len()] {
        self.counts
    }

    /// Whether the config in force is what was last asked for.
    pub fn last_succeeded(&self) -> bool {
        self.last.as_ref().is_none_or(|last| last.result == ReloadResult::Success)
    }

    /// When a config was last put in force, since the Unix epoch.
    pub fn succeeded(&self) -> Duration {
        self.succeeded
    }

    pub(super) fn to_json(&self) -> Value {
        let counts: serde_json::Map<_, _> = ReloadResult::ALL
            .iter()
            .map(|result| (result.name().to_owned(), self.counts[*result as usize].into()))
            .collect();
        json!({
            "counts": counts,
            "last": self.last.as_ref().map(|last| {
                let mut value = Value::clone(&last.outcome);
                value["cause"] = last.cause.name().into();
                value["time_seconds"] = last.when.as_secs_f64().into();
                value
            }),
        })
    }
}

/// Where reloads are asked for, and where they are made.
pub fn requests() -> (Postbox<Request>, Mailbox<Request>) {
    rt::mailbox(RELOADS_WAITING_MAX)
}

pub(super) async fn reload(exchange: &mut Exchange<'_>) -> Reply {
    let state = state(exchange)?;
    if super::is_of_a_page(&exchange.request) {
        return Err(Failure::Status(Status::FORBIDDEN, "a request that a web page makes changes nothing here"));
    }
    let (reply, answer) = rt::mailbox(1);
    let asked = state.reload_post().post(Request { cause: Cause::Admin, reply: Some(reply) });
    if asked.is_err() {
        return Err(Failure::Status(Status::SERVICE_UNAVAILABLE, "too many reloads wait already"));
    }
    match answer.next().await {
        Some((Status::OK, value)) => answer_json(exchange, Status::OK, &*value),
        Some((status, value)) => send_problem(exchange, status, Value::clone(&value)),
        None => Err(Failure::Status(Status::SERVICE_UNAVAILABLE, "the process is stopping")),
    }
}
