//! How requests are called: ids of the server's own or of proxies in front of it, and the traces that they belong to.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use super::core::Core;
use crate::handler::{RequestId, Trace};
use crate::http::RequestHead;
use crate::log::access::{Field, Spec};

/// How requests are told apart, followed and logged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observing {
    /// Request ids.
    pub request_id: RequestIds,
    /// Whether requests belong to traces: `traceparent` is read, and made where there is none.
    pub trace: bool,
    /// The access log.
    pub access: Spec,
}

/// Where request ids come from, besides the server itself, and who is told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestIds {
    /// The field that an id is accepted from.
    pub header: Option<String>,
    /// Who may send one: networks, from their first address to their last.
    pub trust: Vec<RangeInclusive<IpAddr>>,
    /// The field of responses that tells it.
    pub respond: Option<String>,
}

impl RequestIds {
    fn trusts(&self, peer: SocketAddr) -> bool {
        let address = peer.ip().to_canonical();
        self.trust.iter().any(|network| network.contains(&address))
    }
}

impl Observing {
    /// The id of a request: that of a trusted peer where it is one, else the number.
    #[inline]
    pub(super) fn request_id<'h>(&self, number: u64, head: &RequestHead<'h>, peer: SocketAddr) -> RequestId<'h> {
        let ids = &self.request_id;
        if ids.trust.is_empty() {
            return RequestId::made(number);
        }
        let accepted = || {
            let value = head.header(ids.header.as_deref()?).filter(|_| ids.trusts(peer))?;
            RequestId::accepted(number, value)
        };
        accepted().unwrap_or(RequestId::made(number))
    }
}

impl Core {
    /// The trace that a request belongs to; `None` where nobody asked for traces.
    pub(super) fn trace(&self, observing: &Observing, head: &RequestHead<'_>) -> Option<Trace> {
        if !observing.trace {
            return None;
        }
        let mut values = head.header_values("traceparent");
        let resumed = match (values.next(), values.next()) {
            (Some(only), None) => Trace::resume(only, || self.next_chance()),
            (None, _) | (Some(_), Some(_)) => None,
        };
        Some(resumed.unwrap_or_else(|| Trace::begin(|| self.next_chance())))
    }

    /// The trace of a request that is not forwarded: only the access log has a use for it.
    pub(super) fn trace_for_log(&self, observing: &Observing, head: &RequestHead<'_>) -> Option<Trace> {
        observing.access.has(Field::TraceId).then(|| self.trace(observing, head)).flatten()
    }

    /// 64 bits by chance (splitmix64): to tell apart, not to protect.
    fn next_chance(&self) -> u64 {
        let state = self.chance.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.chance.set(state);
        let mut mixed = state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
