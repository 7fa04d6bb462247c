//! `ringfort upgrade`: asks the running server, on its admin listener, to start its program anew and leave.

use std::io;
use std::time::Duration;

use serde_json::Value;

use super::arguments::UpgradeOptions;
use super::asking::{Answer, admin_address, ask};
use super::{Exit, Session};
use crate::limits::{UPGRADE_END_SECONDS, UPGRADE_SECONDS_MAX};

/// How long the server may take to answer: what it gives its successor, and what it takes to end one that failed.
const ANSWER_WITHIN: Duration = Duration::from_secs(UPGRADE_SECONDS_MAX + 2 * UPGRADE_END_SECONDS + 10);

pub(super) fn upgrade(session: &mut Session<'_>, options: &UpgradeOptions) -> io::Result<Exit> {
    let address = match admin_address(session, options.admin, options.config.as_ref())? {
        Ok(address) => address,
        Err(exit) => return Ok(exit),
    };
    let answer = match ask(address, "POST", "/upgrade", ANSWER_WITHIN) {
        Ok(answer) => answer,
        Err(error) => {
            session.complain(format!("cannot ask the server at {address}: {error}"))?;
            return Ok(Exit::Failed);
        }
    };
    match answer {
        Some(Answer { status: 200, body }) => session.say(detail(&body)).map(|()| Exit::Done),
        Some(Answer { status, body }) => {
            session.complain(format!("no upgrade: {} ({status})", detail(&body)))?;
            Ok(Exit::Failed)
        }
        None => {
            session.complain(format!("what answers at {address} is no admin listener of Ringfort"))?;
            Ok(Exit::Failed)
        }
    }
}

/// What the server says in words.
fn detail(body: &Value) -> &str {
    body["detail"].as_str().or(body["title"].as_str()).unwrap_or("it does not say why")
}
