//! Requests of a guest's own (`proxy_http_call`): what it asks for, those that are under way, what comes of them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use super::abi::Status;
use super::fields::{FieldMap, Of, is_guests};
use super::pairs::Pair;
use crate::clock;
use crate::handler::Context;
use crate::http::{FieldError, Fields, Method, is_field_name, is_field_value};
use crate::limits::{WASM_CALL_BODIES_BYTES_MAX, WASM_CALL_BODY_BYTES_MAX, WASM_CALL_MS_MAX, WASM_CALLS_MAX};
use crate::proxy::{InquiryError, Question, Told, Upstream, inquire};
use crate::rt::{self, Mailbox, Postbox, mailbox};

/// What a guest asks an upstream, checked.
#[derive(Debug)]
pub(crate) struct Asked {
    upstream: Arc<Upstream>,
    method: String,
    target: String,
    host: String,
    fields: Fields,
    body: Vec<u8>,
    within: Duration,
}

impl Asked {
    /// Of what a guest passed. As with Envoy a method, a path and a host have to be among the fields. A time-out of zero is the
    /// longest one.
    ///
    /// # Errors
    /// [`Status::BadArgument`] for what is no request, [`Status::InternalFailure`] for one that is too large.
    pub(crate) fn new(
        upstream: Arc<Upstream>,
        pairs: &[Pair<'_>],
        body: &[u8],
        timeout_ms: u32,
    ) -> Result<Self, Status> {
        if body.len() > WASM_CALL_BODY_BYTES_MAX {
            return Err(Status::InternalFailure);
        }
        let (mut method, mut target, mut host) = (None, None, None);
        let mut fields = Fields::new();
        for (name, value) in pairs {
            let place = match name.to_ascii_lowercase().as_slice() {
                b":method" => &mut method,
                b":path" => &mut target,
                b":authority" | b"host" => &mut host,
                // The upstream's config says how it is spoken to.
                b":scheme" => continue,
                name if !is_field_name(name) || !is_field_value(value) => return Err(Status::BadArgument),
                name if !is_guests(name) => continue,
                _ => {
                    let pushed = fields.push(name, value);
                    pushed.map_err(|error| match error {
                        FieldError::TooLarge => Status::InternalFailure,
                        FieldError::Name | FieldError::Value | FieldError::ServerOwned => Status::BadArgument,
                    })?;
                    continue;
                }
            };
            *place = Some(*value);
        }
        let text = |value: Option<&[u8]>, is_good: fn(&[u8]) -> bool| {
            let value = value.filter(|value| is_good(value)).ok_or(Status::BadArgument)?;
            String::from_utf8(value.to_vec()).map_err(|_| Status::BadArgument)
        };
        let most = u32::try_from(WASM_CALL_MS_MAX).unwrap_or(u32::MAX);
        let within_ms = if timeout_ms == 0 { most } else { timeout_ms.min(most) };
        Ok(Self {
            upstream,
            // A tunnel is no question.
            method: text(method, |method| is_field_name(method) && method != b"CONNECT")?,
            target: text(target, |target| target.starts_with(b"/") && is_plain(target) && !target.contains(&b'#'))?,
            host: text(host, |host| !host.is_empty() && is_plain(host))?,
            fields,
            body: body.to_vec(),
            within: Duration::from_millis(u64::from(within_ms)),
        })
    }

    async fn ask(&self, context: &Context) -> Result<Told, InquiryError> {
        let question = Question {
            method: &self.method,
            target: &self.target,
            host: Some(&self.host),
            fields: &self.fields,
            body: &self.body,
            may_repeat: Method::from_bytes(self.method.as_bytes()).is_some_and(Method::is_idempotent),
            within: self.within,
            body_max: WASM_CALL_BODY_BYTES_MAX,
        };
        inquire(context, &self.upstream, &question, |_| true).await
    }
}

/// Printable ASCII without spaces: what may stand in a first line, or as a host.
fn is_plain(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_graphic)
}

/// What came of a request of the guest's own, as long as it is told.
#[derive(Debug)]
pub(crate) enum CallEnd {
    Answered(Box<CallAnswer>),
    /// There is no answer.
    Failed,
}

/// The answer to a request of the guest's own.
#[derive(Debug, Default)]
pub(crate) struct CallAnswer {
    pub(crate) headers: FieldMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: FieldMap,
}

impl CallEnd {
    pub(crate) fn answer(&self) -> Option<&CallAnswer> {
        match self {
            Self::Answered(answer) => Some(answer),
            Self::Failed => None,
        }
    }

    /// What an upstream answered.
    pub(crate) fn of(told: Told) -> Self {
        let mut answer = CallAnswer { body: told.body, ..CallAnswer::default() };
        answer.headers.reset(Of::Other);
        answer.headers.load(b":status", &told.status.digits());
        for (name, value) in told.fields.iter() {
            answer.headers.load(name.as_bytes(), value);
        }
        answer.trailers.reset(Of::Other);
        for (name, value) in told.trailers.iter() {
            answer.trailers.load(name.as_bytes(), value);
        }
        Self::Answered(Box::new(answer))
    }
}

/// Which call: the context that it belongs to, and its number, which no other call of the instance has for a long time.
pub(crate) type CallKey = (u32, u32);

/// A call that has to be made.
#[derive(Debug)]
pub(crate) struct Unsent {
    pub(crate) key: CallKey,
    asked: Asked,
    stop: Mailbox<Infallible>,
}

impl Unsent {
    /// Makes it; `None` when nobody waits for it any more.
    pub(crate) async fn send(self, context: &Context, plugin: &str) -> Option<CallEnd> {
        let Self { key: _, asked, stop } = self;
        // The question bounds the answer; a server that does not take the request's body is given up here.
        let answered = rt::timeout(clock::turn() + asked.within, asked.ask(context));
        let error = match rt::select(stop.next(), answered).await {
            rt::Either::First(_) => return None,
            rt::Either::Second(Some(Ok(told))) => return Some(CallEnd::of(told)),
            rt::Either::Second(Some(Err(error))) => error.to_string(),
            rt::Either::Second(None) => "it took longer than it may".to_owned(),
        };
        let upstream = asked.upstream.spec.name.as_str();
        tracing::debug!(plugin, upstream, "a request of a WASM plugin's own failed: {error}");
        Some(CallEnd::Failed)
    }
}

/// A call that has not come to an end. Dropping it ends the call.
#[derive(Debug)]
struct UnderWay {
    _alive: Postbox<Infallible>,
    /// Of its body, which is kept to its end because it may be sent again.
    bytes: usize,
}

/// The calls of one instance.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    last: u32,
    /// Those that were asked for and have not come to an end.
    under_way: BTreeMap<CallKey, UnderWay>,
    /// Bytes of their bodies.
    bytes: usize,
    unsent: Vec<Unsent>,
}

impl Calls {
    /// Takes a call up for a context; gives its number.
    ///
    /// # Errors
    /// [`Status::InternalFailure`] when there are as many as there may be, or their bodies as large.
    pub(crate) fn begin(&mut self, context: u32, asked: Asked) -> Result<u32, Status> {
        let bytes = asked.body.len();
        if self.under_way.len() >= WASM_CALLS_MAX || self.bytes + bytes > WASM_CALL_BODIES_BYTES_MAX {
            return Err(Status::InternalFailure);
        }
        // Never zero, which some guests take for none.
        self.last = self.last.checked_add(1).unwrap_or(1);
        let key = (context, self.last);
        let (alive, stop) = mailbox(1);
        self.under_way.insert(key, UnderWay { _alive: alive, bytes });
        self.bytes += bytes;
        self.unsent.push(Unsent { key, asked, stop });
        Ok(self.last)
    }

    /// Those that have to be made now.
    pub(crate) fn take_unsent(&mut self) -> Vec<Unsent> {
        std::mem::take(&mut self.unsent)
    }

    /// One has come to its end; whether anybody waited for it.
    pub(crate) fn end(&mut self, key: CallKey) -> bool {
        let ended = self.under_way.remove(&key);
        self.bytes -= ended.as_ref().map_or(0, |call| call.bytes);
        ended.is_some()
    }

    /// Drops all of a context that is gone.
    pub(crate) fn leave(&mut self, context: u32) {
        while let Some((key, _)) = self.under_way.range((context, 0)..=(context, u32::MAX)).next() {
            let key = *key;
            self.end(key);
            self.unsent.retain(|unsent| unsent.key != key);
        }
    }

    /// Whether a context has any that have not come to an end.
    pub(crate) fn has(&self, context: u32) -> bool {
        self.under_way.range((context, 0)..=(context, u32::MAX)).next().is_some()
    }

    /// How many have not come to an end.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.under_way.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::upstream;
    use super::*;
    use proptest::prelude::*;

    const HEAD: [Pair<'_>; 3] = [(b":method", b"POST"), (b":path", b"/a?b"), (b":authority", b"example.com")];

    fn asked(pairs: &[Pair<'_>], body: &[u8], timeout_ms: u32) -> Result<Asked, Status> {
        Asked::new(upstream(), pairs, body, timeout_ms)
    }

    #[test]
    fn a_call_needs_a_method_a_path_and_a_host_that_are_some() {
        assert!(asked(&HEAD, b"", 0).is_ok());
        for missing in 0..HEAD.len() {
            let mut pairs = HEAD.to_vec();
            pairs.remove(missing);
            assert_eq!(asked(&pairs, b"", 0).err(), Some(Status::BadArgument));
        }
        let bad: [Pair<'_>; 8] = [
            (b":method", b"CONNECT"),
            (b":method", b"A B"),
            (b":path", b"a"),
            (b":path", b"/a b"),
            (b":path", b"/\r\nx: y"),
            (b":authority", b""),
            (b":unknown", b"x"),
            (b"x", b"a\r\nb: c"),
        ];
        for pair in bad {
            let pairs = HEAD.into_iter().chain([pair]).collect::<Vec<_>>();
            assert_eq!(asked(&pairs, b"", 0).err(), Some(Status::BadArgument), "{pair:?}");
        }
    }

    #[test]
    fn the_framing_is_not_the_guests_and_its_time_out_has_a_bound() {
        let own: [Pair<'_>; 4] =
            [(b"content-length", b"7"), (b"X-One", b"1"), (b"transfer-encoding", b"chunked"), (b"host", b"b")];
        let pairs = HEAD.into_iter().chain(own).collect::<Vec<_>>();
        let call = asked(&pairs, b"body", 20).unwrap();
        assert_eq!(call.fields.iter().collect::<Vec<_>>(), [("X-One", &b"1"[..])]);
        assert_eq!((call.host.as_str(), call.within.as_millis()), ("b", 20));
        for timeout_ms in [0, u32::MAX] {
            assert_eq!(asked(&HEAD, b"", timeout_ms).unwrap().within.as_millis(), u128::from(WASM_CALL_MS_MAX));
        }
        let long = vec![0; WASM_CALL_BODY_BYTES_MAX + 1];
        assert_eq!(asked(&HEAD, &long, 0).err(), Some(Status::InternalFailure));
    }

    #[test]
    fn an_instance_has_so_many_calls_at_once_and_no_more() {
        let mut calls = Calls::default();
        for _ in 0..WASM_CALLS_MAX {
            calls.begin(2, asked(&HEAD, b"", 0).unwrap()).unwrap();
        }
        assert_eq!(calls.begin(3, asked(&HEAD, b"", 0).unwrap()), Err(Status::InternalFailure));
        assert!(calls.end((2, 1)) && !calls.end((2, 1)), "it ends once");
        assert!(calls.begin(3, asked(&HEAD, b"", 0).unwrap()).is_ok());
    }

    #[test]
    fn the_bodies_of_an_instances_calls_have_a_bound_together_and_free_what_they_had() {
        let mut calls = Calls::default();
        let body = vec![0; WASM_CALL_BODY_BYTES_MAX];
        for round in 0..3 {
            for _ in 0..WASM_CALL_BODIES_BYTES_MAX / body.len() {
                calls.begin(2, asked(&HEAD, &body, 0).unwrap()).unwrap();
            }
            assert_eq!(calls.begin(3, asked(&HEAD, b"x", 0).unwrap()), Err(Status::InternalFailure), "{round}");
            let last = calls.begin(3, asked(&HEAD, b"", 0).unwrap()).unwrap();
            assert!(calls.end((3, last)) && calls.end((2, last - 1)));
            let number = calls.begin(3, asked(&HEAD, &body, 0).unwrap()).unwrap();
            assert!(calls.end((3, number)));
            calls.leave(2);
        }
        assert_eq!((calls.bytes, calls.len()), (0, 0));
    }

    proptest! {
        #[test]
        fn a_context_that_goes_takes_its_own_calls_along_and_no_others(steps in prop::collection::vec((0..4_u8, 0..4_u32), 0..60)) {
            let (mut calls, mut expected) = (Calls::default(), Vec::<CallKey>::new());
            for (kind, context) in steps {
                match kind {
                    0 | 1 => expected.push((context, calls.begin(context, asked(&HEAD, b"", 0).unwrap()).unwrap())),
                    2 => {
                        calls.leave(context);
                        expected.retain(|key| key.0 != context);
                        prop_assert!(calls.take_unsent().iter().all(|unsent| unsent.key.0 != context));
                    }
                    _ => {
                        // None ends before it was made.
                        calls.take_unsent();
                        if let Some(key) = expected.pop() {
                            prop_assert!(calls.end(key));
                        }
                    }
                }
                prop_assert_eq!(calls.len(), expected.len());
                prop_assert!(expected.iter().all(|key| calls.under_way.contains_key(key)));
            }
        }
    }
}
