//! A request that went on to whoever stands behind the cache, and what is kept of its response.

use std::sync::Arc;

use bytes::Bytes;

use super::conditional::{freshen, is_same, strip_body_fields, strip_unstored};
use super::entry::{Entry, Record};
use super::flight::Landing;
use super::freshness::{Asked, Freshness, Rules, Times, judge};
use super::store::{Lead, Store};
use super::told::{Forward, Handling, Storing};
use super::vary::{Selected, Snapshot};
use crate::clock::{self, Moment};
use crate::http::{Fields, Status};
use crate::plugin::{BodyPlan, Finished, PluginError, PostHandler};

/// What responses are kept by.
#[derive(Debug)]
pub(super) struct Terms {
    pub(super) rules: Rules,
    pub(super) vary: Vec<String>,
    pub(super) max_body: usize,
}

/// A request on its way.
pub(super) struct Fetch {
    pub(super) store: Arc<Store>,
    pub(super) key: Box<[u8]>,
    pub(super) hash: u64,
    /// What was changed of the target before it was asked for.
    pub(super) stamp: u32,
    /// The client's fields: ours may differ.
    pub(super) snapshot: Snapshot,
    pub(super) asked: Asked,
    pub(super) kind: Kind,
    pub(super) why: Forward,
    /// Others wait for it.
    pub(super) lead: Option<Lead>,
    /// What is stored, and was not good enough.
    pub(super) stored: Option<Arc<Entry>>,
    pub(super) began: Moment,
    pub(super) filling: Option<Filling>,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// What the client asks for, as it asks.
    Plain,
    /// HEAD, as the client asks.
    Head,
    /// Whether what is stored is still right.
    Validation {
        /// The client has it.
        is_known: bool,
    },
}

/// A response that is coming and will be stored.
pub(super) struct Filling {
    fields: Fields,
    status: Status,
    freshness: Freshness,
    received: Moment,
    /// Bytes that there should be.
    length: Option<u64>,
    body: Vec<u8>,
    is_whole: bool,
    store: Arc<Store>,
    reserved: usize,
}

impl Drop for Filling {
    fn drop(&mut self) {
        self.store.release(self.reserved);
    }
}

/// Statuses that say that the origin failed, and not what it thinks (RFC 5861 section 4).
pub(super) fn is_failure(status: Status) -> bool {
    matches!(status.code(), 500 | 502 | 503 | 504)
}

impl Fetch {
    fn times(&self, now: Moment) -> Times {
        Times { received: clock::wall(), delay: now.since(self.began) }
    }

    fn land(&mut self, landing: Landing) {
        if let Some(mut lead) = self.lead.take() {
            lead.land(landing);
        }
    }

    /// What may be sent instead of a failure.
    pub(super) fn stale(&mut self, now: Moment) -> Option<Arc<Entry>> {
        let stored = self.stored.clone().filter(|stored| stored.record.freshness.serves_error(stored.age(now)))?;
        self.land(Landing::Stale(stored.clone()));
        Some(stored)
    }

    /// The head of the response has come: what is told of it, and what becomes of its body.
    pub(super) fn on_head(
        &mut self,
        hook: &mut PostHandler<'_, '_>,
        terms: &Terms,
    ) -> Result<(Handling, BodyPlan), PluginError> {
        let (now, status) = (clock::now(), hook.status());
        if self.kind == Kind::Head {
            if let Some(stored) = self.stored.as_ref().filter(|_| status == Status::OK)
                && !is_same(&stored.record.fields, hook.fields())
            {
                self.store.forget_entry(stored);
            }
            return Ok((self.handling(Storing::Not), BodyPlan::AsIs));
        }
        if let (Status::NOT_MODIFIED, Kind::Validation { is_known }, Some(stored)) =
            (status, self.kind, self.stored.clone())
        {
            return self.on_validated(hook, terms, &stored, is_known);
        }
        if is_failure(status)
            && let Some(stored) = self.stale(now)
        {
            return Ok(self.replace(hook, &stored, now));
        }
        let (times, fields) = (self.times(now), hook.fields());
        let mut fields = fields.clone();
        add_date(&mut fields)?;
        let judged = judge(self.asked, status, &fields, times, &terms.rules);
        let length = hook.length();
        let fits = length.is_none_or(|length| length <= terms.max_body as u64);
        let freshness = match judged {
            Ok(freshness) if fits => freshness,
            _ => {
                self.refuse(status, now);
                return Ok((self.handling(Storing::Not), BodyPlan::AsIs));
            }
        };
        let (body, received) = (Vec::new(), now);
        let store = self.store.clone();
        let filling =
            Filling { fields, status, freshness, received, length, body, is_whole: false, store, reserved: 0 };
        self.filling = Some(filling);
        let ttl = freshness.time_to_live(freshness.initial_age);
        Ok((self.handling(Storing::Yes { ttl }), BodyPlan::Watched))
    }

    /// The response is not to be stored; what was stored is not right any more.
    fn refuse(&mut self, status: Status, now: Moment) {
        if self.lead.is_some() && !is_failure(status) {
            self.store.pass(self.hash, now);
        }
        // A part, or that the client has it, says nothing of what is stored.
        let is_another = !is_failure(status) && !matches!(status.code(), 206 | 304 | 412 | 416);
        if let Some(stored) = self.stored.as_ref().filter(|_| is_another) {
            self.store.forget_entry(stored);
        }
        self.land(Landing::NotStored);
    }

    fn handling(&self, storing: Storing) -> Handling {
        Handling::Forwarded { why: self.why, status: None, storing }
    }

    /// Sends what is stored instead of a failure.
    fn replace(&self, hook: &mut PostHandler<'_, '_>, stored: &Entry, now: Moment) -> (Handling, BodyPlan) {
        let failed = hook.status().code();
        hook.set_status(stored.record.status);
        hook.fields().clone_from(&stored.record.fields);
        push_age(hook.fields(), stored.age(now));
        let handling = Handling::Forwarded { why: self.why, status: Some(failed), storing: Storing::Not };
        (handling, BodyPlan::Replaced(stored.record.body.clone()))
    }

    /// The origin says that what is stored is still right (RFC 9111 section 4.3.4).
    fn on_validated(
        &mut self,
        hook: &mut PostHandler<'_, '_>,
        terms: &Terms,
        stored: &Arc<Entry>,
        is_known: bool,
    ) -> Result<(Handling, BodyPlan), PluginError> {
        let (now, told) = (clock::now(), hook.fields());
        add_date(told)?;
        let times = self.times(now);
        let (fields, freshness) = match freshen(&stored.record.fields, told) {
            Some(fields) => {
                // What the 304 says of its own age.
                let mut aged = fields.clone();
                if let Some(age) = told.get("age") {
                    aged.push_parsed(b"Age", age)?;
                }
                let freshness = judge(self.asked, stored.record.status, &aged, times, &terms.rules).ok();
                (fields, freshness)
            }
            None => (stored.record.fields.clone(), None),
        };
        let body = stored.record.body.clone();
        let (storing, age) = match freshness {
            Some(freshness) => {
                let entry = self.entry(stored.record.status, fields.clone(), body.clone(), freshness, now, terms);
                self.keep(&entry);
                (Storing::Yes { ttl: freshness.time_to_live(freshness.initial_age) }, freshness.initial_age)
            }
            None => {
                self.store.forget_entry(stored);
                self.land(Landing::NotStored);
                (Storing::Not, 0)
            }
        };
        let handling = Handling::Forwarded { why: self.why, status: Some(304), storing };
        *hook.fields() = fields;
        push_age(hook.fields(), age);
        if is_known {
            strip_body_fields(hook.fields());
            return Ok((handling, BodyPlan::Replaced(Bytes::new())));
        }
        hook.set_status(stored.record.status);
        Ok((handling, BodyPlan::Replaced(body)))
    }

    fn entry(
        &self,
        status: Status,
        mut fields: Fields,
        body: Bytes,
        freshness: Freshness,
        since: Moment,
        terms: &Terms,
    ) -> Arc<Entry> {
        strip_unstored(&mut fields);
        fields.remove("age");
        let selected = Selected::of(&fields, &terms.vary, &self.snapshot);
        let (key, hash) = (self.key.clone(), self.hash);
        Arc::new(Entry::new(Record { key, hash, status, fields, body, selected, freshness, since }))
    }

    /// Stores a response and tells those who wait for it.
    fn keep(&mut self, entry: &Arc<Entry>) {
        if !self.store.insert(entry, self.stamp) {
            return self.land(Landing::NotStored);
        }
        if !entry.record.freshness.serves_unasked() {
            // Each request has to ask for itself: none waits for another.
            self.store.pass(self.hash, entry.record.since);
        }
        self.land(Landing::Stored(entry.clone()));
    }

    /// A piece of the body has come.
    pub(super) fn on_piece(&mut self, piece: &[u8], end: bool, terms: &Terms) {
        let Some(filling) = &mut self.filling else { return };
        filling.is_whole |= end;
        let length = filling.body.len() + piece.len();
        if length > terms.max_body || !filling.reserve(length, terms.max_body) {
            self.filling = None;
            return self.land(Landing::NotStored);
        }
        filling.body.extend_from_slice(piece);
        if filling.length == Some(length as u64) {
            // All of it is here, and the client has not got the end of it yet: what it asks next finds it stored.
            self.store_filled(terms);
        }
    }

    fn store_filled(&mut self, terms: &Terms) {
        let Some(mut filling) = self.filling.take() else { return };
        let (fields, body) = (std::mem::take(&mut filling.fields), std::mem::take(&mut filling.body));
        let body = Bytes::from(body.into_boxed_slice());
        let entry = self.entry(filling.status, fields, body, filling.freshness, filling.received, terms);
        self.keep(&entry);
    }

    /// The exchange is over.
    pub(super) fn end(mut self, finished: Finished, terms: &Terms) {
        let is_whole = self.filling.as_ref().is_some_and(|filling| {
            let length = filling.body.len() as u64;
            filling.is_whole
                && matches!(finished, Finished::Whole(_))
                && filling.length.is_none_or(|announced| announced == length || filling.status.is_bodiless())
        });
        if is_whole {
            self.store_filled(terms);
        }
    }
}

impl Filling {
    /// Room for a body of so many bytes so far.
    fn reserve(&mut self, length: usize, most: usize) -> bool {
        if length <= self.reserved {
            return true;
        }
        // As a vector grows: few times.
        let wanted = self.length.map_or(2 * length, |announced| (announced as usize).max(length)).min(most);
        if !self.store.reserve(wanted - self.reserved) {
            return false;
        }
        self.reserved = wanted;
        self.body.reserve_exact(wanted - self.body.len());
        true
    }
}

/// RFC 9110 section 6.6.1: a message that is stored has a date.
fn add_date(fields: &mut Fields) -> Result<(), PluginError> {
    if !fields.contains("date") {
        fields.push_parsed(b"Date", &clock::http_date())?;
    }
    Ok(())
}

/// Tells the age of what is sent, in place of what it was when it came. Where there is no room for it, it is left out.
pub(super) fn push_age(fields: &mut Fields, age: u32) {
    fields.remove("age");
    let _ = fields.push_parsed(b"Age", itoa::Buffer::new().format(age).as_bytes());
}
