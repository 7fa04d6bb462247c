//! Copies of requests: sent beside the request itself, and what comes back is thrown away.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;

use super::ask::{Answering, Held, RESPONSE_LIMITS, ask};
use super::body::Plan;
use super::counters::UpstreamCounter;
use super::failure::AttemptError;
use super::forward::Job;
use super::local::{Local, LocalUpstream};
use super::upstream::Upstream;
use crate::clock::{self, Moment};
use crate::http::{ChunkStep, ChunkedDecoder, RequestKind, ResponseFraming, Status};
use crate::limits::{INTERIM_RESPONSES_MAX, MIRROR_BYTES_MAX, MIRRORS_MAX};
use crate::{pool, rt};

/// Sends a copy of the request to the mirror, for `share` of the requests. Only of requests whose body is in hand: a copy
/// must not slow its original down.
pub(super) fn send(job: &Job<'_>, mirror: &Arc<Upstream>, share: f64, plan: Plan, body: &[u8]) {
    if job.local.chance().unit() >= share {
        return;
    }
    let upstream = job.local.upstream(mirror);
    let Some(local) = job.local.own().filter(|local| plan == Plan::Held && local.mirrors.get() < MIRRORS_MAX) else {
        upstream.counters.add(UpstreamCounter::MirrorsDropped, 1);
        return;
    };
    let Some(server) = upstream.pick(&[], None, clock::turn()) else {
        upstream.counters.add(UpstreamCounter::MirrorsDropped, 1);
        return;
    };
    let mut head = pool::take(pool::Class::Small);
    job.write_head_for(&mut head, &upstream.server(server).name);
    let kind = job.kind();
    let mut copy = pool::take(pool::Class::Small);
    copy.extend_from_slice(body);
    let under_way = UnderWay::new(local);
    upstream.counters.add(UpstreamCounter::Mirrored, 1);
    rt::spawn(async move {
        deliver(&under_way.0, &upstream, server, kind, &head, &copy).await;
    });
}

struct UnderWay(Rc<Local>);

impl UnderWay {
    fn new(local: Rc<Local>) -> Self {
        local.mirrors.set(local.mirrors.get() + 1);
        Self(local)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.mirrors.set(self.0.mirrors.get() - 1);
    }
}

async fn deliver(
    local: &Local,
    upstream: &Rc<LocalUpstream>,
    server: usize,
    kind: RequestKind,
    head: &[u8],
    body: &[u8],
) {
    let now = clock::turn();
    let standings = &upstream.shared.standings;
    let Some(admission) = standings.admit(server, now) else { return };
    let until = now + upstream.shared.spec.timeouts.total;
    let was_stale = Cell::new(false);
    #[cfg_attr(not(feature = "sim"), expect(unused_mut, reason = "only a planted mistake changes it"))]
    let mut request = Held { head, body, kind, may_repeat: false, was_stale: &was_stale };
    #[cfg(feature = "sim")]
    if rt::sim::planted(rt::sim::Bug::CopyAgain) {
        request.may_repeat = true;
    }
    match ask(local, upstream, server, &request, until).await {
        Ok(mut answer) => {
            standings.note_success(admission, clock::turn());
            #[cfg(feature = "sim")]
            let until = if rt::sim::planted(rt::sim::Bug::EndlessCopy) { Moment::NEVER } else { until };
            if discard(upstream, &mut answer, kind, until).await.is_ok_and(|clean| clean) {
                answer.connection.release();
            }
        }
        Err(error) => {
            if let Some(kind) = error.kind() {
                standings.note_failure(admission, kind, clock::turn());
            }
        }
    }
}

/// Reads the response to its end, when that is not far, by `until` at the latest; whether the connection can go on.
async fn discard(
    upstream: &LocalUpstream,
    answer: &mut Answering,
    kind: RequestKind,
    until: Moment,
) -> Result<bool, AttemptError> {
    let timeouts = &upstream.shared.spec.timeouts;
    let Answering { connection, head, .. } = answer;
    let reading = &mut connection.reading;
    let mut interim = 0;
    while head.is_interim() {
        if head.status == Status::SWITCHING_PROTOCOLS || interim == INTERIM_RESPONSES_MAX {
            return Err(AttemptError::Upgrade);
        }
        interim += 1;
        reading.consume(head.len);
        let until = until.min(clock::turn() + timeouts.response);
        poll_fn(|cx| reading.poll_head(cx, &RESPONSE_LIMITS, kind, head, until)).await?;
    }
    reading.consume(head.len);
    let mut decoder = ChunkedDecoder::new();
    let mut thrown = 0;
    let mut left = match head.framing {
        ResponseFraming::None => 0,
        ResponseFraming::Length(length) => length,
        ResponseFraming::Chunked => u64::MAX,
        ResponseFraming::UntilClose => return Ok(false),
    };
    while left > 0 {
        let bytes = reading.bytes();
        let used = if head.framing == ResponseFraming::Chunked {
            match decoder.decode(bytes).map_err(AttemptError::Chunk)? {
                ChunkStep::Data { skip, len } => skip + len,
                ChunkStep::NeedMore { consumed } => consumed,
                ChunkStep::Done { consumed } => {
                    left = 0;
                    consumed
                }
            }
        } else {
            let used = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
            left -= used as u64;
            used
        };
        reading.consume(used);
        thrown += used;
        if thrown > MIRROR_BYTES_MAX {
            return Ok(false);
        }
        if left > 0 && reading.bytes().is_empty() {
            let until = until.min(clock::turn() + timeouts.idle);
            if !poll_fn(|cx| reading.poll_more(cx, until)).await? {
                return Ok(false);
            }
        }
    }
    Ok(head.persistent && !reading.has_leftover())
}
