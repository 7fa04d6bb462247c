//! Asking a second server when the first takes its time: whichever begins to answer first answers.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use super::ask::{Answering, ask};
use super::counters::UpstreamCounter;
use super::failure::AttemptError;
use super::forward::Job;
use super::standing::Admission;
use crate::clock;
use crate::{pool, rt};

/// Asks `server`, and after a while one more.
///
/// # Errors
/// That of the server that failed last, when both did.
pub(super) async fn ask_two(
    job: &mut Job<'_>,
    admission: Admission,
    after: Duration,
    body: &[u8],
) -> Result<(Answering, Admission), AttemptError> {
    let (local, upstream, until) = (job.local, job.upstream, job.until);
    let (mut first_head, mut second_head) = (pool::take(pool::Class::Small), pool::take(pool::Class::Small));
    let server = admission.server();
    job.write_head(&mut first_head, server);
    let request = job.held(&first_head, body);
    let mut first = pin!(ask(local, upstream, server, &request, until));
    if let Some(asked) = rt::timeout(clock::turn() + after, first.as_mut()).await {
        return job.admitted(asked, admission);
    }
    let Some(other) = job.admit_hedge() else { return job.admitted(first.await, admission) };
    upstream.counters.add(UpstreamCounter::Hedges, 1);
    job.write_head(&mut second_head, other.server());
    let second_request = job.held(&second_head, body);
    let mut second = pin!(ask(local, upstream, other.server(), &second_request, until));
    let (mut admission, mut other) = (Some(admission), Some(other));
    poll_fn(|cx| {
        let mut failed = None;
        if admission.is_some()
            && let Poll::Ready(asked) = first.as_mut().poll(cx)
            && let Some(admission) = admission.take()
        {
            match job.admitted(asked, admission) {
                Ok(answer) => return Poll::Ready(Ok(answer)),
                Err(error) => failed = Some(error),
            }
        }
        if other.is_some()
            && let Poll::Ready(asked) = second.as_mut().poll(cx)
            && let Some(other) = other.take()
        {
            match job.admitted(asked, other) {
                Ok(answer) => return Poll::Ready(Ok(answer)),
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) if admission.is_none() && other.is_none() => Poll::Ready(Err(error)),
            _ => Poll::Pending,
        }
    })
    .await
}
