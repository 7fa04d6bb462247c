//! What becomes of attempts and of the request: in the counters, in what is known of the servers, and for the client.

use super::ask::Answering;
use super::counters::{ServerCounter, UpstreamCounter};
use super::failure::AttemptError;
use super::forward::Job;
use super::relay::RelayError;
use super::standing::{Admission, FailureKind};
use super::termination::Termination;
use crate::clock;
use crate::handler::Failure;
use crate::http::{ResponseHead, Status, StatusClass};

impl Job<'_> {
    /// What the client is told when the last attempt failed so.
    pub(super) fn fail(&self, error: AttemptError) -> Failure {
        self.ending.end(Termination::of_error(error, self.ending.phase()));
        error.failure()
    }

    /// What the client is told when there is no server (left) to ask.
    pub(super) fn nobody(&self, last: Option<AttemptError>) -> Failure {
        match last {
            Some(error) => self.fail(error),
            None => {
                self.upstream.counters.add(UpstreamCounter::Unavailable, 1);
                self.ending.end(Termination::GatewayUnavailable);
                Failure::Status(Status::SERVICE_UNAVAILABLE, "no server of the upstream is available")
            }
        }
    }

    /// An attempt with its leave, where it came to an answer.
    pub(super) fn admitted(
        &self,
        asked: Result<Answering, AttemptError>,
        admission: Admission,
    ) -> Result<(Answering, Admission), AttemptError> {
        match asked {
            Ok(answer) => Ok((answer, admission)),
            Err(error) => {
                self.note_error(admission, error);
                Err(error)
            }
        }
    }

    pub(super) fn note_error(&self, admission: Admission, error: AttemptError) {
        let server = admission.server();
        self.count_error(server, error);
        if let Some(kind) = error.kind() {
            self.upstream.shared.standings.note_failure(admission, kind, clock::turn());
        }
    }

    pub(super) fn count_error(&self, server: usize, error: AttemptError) {
        tracing::debug!(
            request = %self.request.id(),
            upstream = self.upstream.shared.spec.name,
            server = self.upstream.server(server).name,
            attempt = self.attempts,
            code = Termination::of_error(error, self.ending.phase()).code(),
            %error,
            "an attempt failed"
        );
        if let Some(counter) = error.counter() {
            self.upstream.server_counters(server).add(counter, 1);
        }
    }

    pub(super) fn note_status(&self, admission: Admission, status: Status) {
        let counters = self.upstream.server_counters(admission.server());
        let standings = &self.upstream.shared.standings;
        if status.class() == StatusClass::ServerError {
            counters.add(ServerCounter::Status5xx, 1);
            standings.note_failure(admission, FailureKind::Status5xx, clock::turn());
        } else {
            counters.add(ServerCounter::Passed, 1);
            standings.note_success(admission, clock::turn());
        }
    }

    /// The head of a response to a probe says enough: others wait for what it finds.
    pub(super) fn note_head(&self, admission: Admission, head: &ResponseHead) -> Option<Admission> {
        if admission.is_probe() && !head.is_interim() {
            self.note_status(admission, head.status);
            return None;
        }
        Some(admission)
    }

    /// Counts a relayed response, and turns its failure into what the connection does about it.
    pub(super) fn note_relayed(
        &self,
        server: usize,
        admission: Option<Admission>,
        relayed: Result<(bool, Status), RelayError>,
    ) -> Result<bool, Failure> {
        match (relayed, admission) {
            (Ok((whole, status)), admission) => {
                if let Some(admission) = admission {
                    self.note_status(admission, status);
                }
                Ok(whole)
            }
            (Err(RelayError::Server(error)), Some(admission)) => {
                self.note_error(admission, error);
                Err(self.fail(error))
            }
            (Err(RelayError::Server(error)), None) => {
                self.count_error(server, error);
                Err(self.fail(error))
            }
            (Err(RelayError::Client(failure)), _) => Err(failure),
        }
    }
}
