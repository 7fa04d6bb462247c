//! What a request comes to: an answer from the store, a wait for somebody else's, or a fetch.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

use super::conditional::{is_not_modified, range_applies, strip_body_fields};
use super::entry::Entry;
use super::fetch::{Fetch, Kind};
use super::flight::{Landing, Wait};
use super::freshness::Asked;
use super::near::{Held, Near, Refresh, Tally};
use super::note::HitNote;
use super::store::{Fetching, Lead, Lookup, Purpose, variant_hash};
use super::told::Forward;
use super::vary::Snapshot;
use super::wanted::{Concern, Serve, Wanted, Why};
use super::{Cache, Role};
use crate::clock::{self, Moment};
use crate::handler::{Extent, decide_range};
use crate::http::{FieldError, Fields, RequestHead, Status};
use crate::limits::CACHE_ROUNDS_MAX;
use crate::plugin::{AnswerBody, LocalAnswer, PreHandler, Slot, Stored, Verdict};
use crate::rt;

/// What a request comes to.
pub(super) enum Plan {
    /// It is answered from the store.
    Answer { held: Rc<Held>, note: HitNote, wanted: Wanted, refresh: Refresh },
    /// It wants nothing but a stored response, and there is none that serves it.
    Refuse,
    /// The cache has nothing to do with it.
    Pass(Forward),
    /// It may change what is stored.
    Changes,
    /// It goes on.
    Fetch(Missing),
}

/// What was found for a request that is not answered from the store.
pub(super) struct Missing {
    wanted: Wanted,
    pub(super) hash: u64,
    why: Forward,
    /// What was found and is not good enough.
    stored: Option<Arc<Entry>>,
    /// What was found of the same target and is for other requests.
    other: Option<Arc<Entry>>,
}

/// What the beginning of a request came to.
pub(super) enum Begun {
    Done(Verdict),
    /// Somebody else's fetch is waited for.
    Wait(Wait),
}

impl Cache {
    /// What a request comes to. Its key is in `near` then, if it has one.
    pub(super) fn plan(&self, head: &RequestHead<'_>, near: &Near, now: Moment) -> Plan {
        let wanted = Wanted::of(head, self.heeds);
        match wanted.concern {
            Concern::Lookup if !wanted.has_strict_conditions() => {}
            Concern::Changes => return Plan::Changes,
            Concern::Lookup | Concern::None => return Plan::Pass(Forward::Bypass),
        }
        let mut key = near.key.borrow_mut();
        self.keys.write(head, &mut key);
        let hash = self.store.hash(&key);
        let (found, other) = match near.find(hash, &key, head) {
            Some(held) => (Some(held), None),
            None => match self.store.find(hash, &key, head) {
                Lookup::Found(entry) => (Some(near.keep(entry)), None),
                Lookup::Other(entry) => (None, Some(entry)),
                Lookup::Nothing => (None, None),
            },
        };
        let Some(held) = found else {
            let why = if other.is_some() { Forward::VaryMiss } else { Forward::UriMiss };
            return self.miss(Missing { wanted, hash, why, stored: None, other });
        };
        let (freshness, age) = (&held.0.record.freshness, held.0.age(now));
        let refresh = match wanted.serve(freshness, age) {
            Serve::Fresh | Serve::Stale => Refresh::No,
            Serve::WhileRevalidate => Refresh::Yes,
            Serve::Not(why) => {
                let why = if why == Why::Request { Forward::Request } else { Forward::Stale };
                return self.miss(Missing { wanted, hash, why, stored: Some(held.0.clone()), other: None });
            }
        };
        let note = HitNote::new(age, freshness.time_to_live(age));
        Plan::Answer { held, note, wanted, refresh }
    }

    fn miss(&self, missing: Missing) -> Plan {
        if missing.wanted.only_if_cached() { Plan::Refuse } else { Plan::Fetch(missing) }
    }

    /// Begins with a request; waits for somebody else's fetch where `may_wait`.
    pub(super) fn begin(&self, hook: &mut PreHandler<'_, '_>, near: &Rc<Near>, may_wait: bool) -> Begun {
        // A head that has become too large by changes is refused when they are made.
        let Ok(request) = hook.request() else { return Begun::Done(Verdict::Continue) };
        let now = clock::turn();
        let missing = match self.plan(&request.head, near, now) {
            Plan::Fetch(missing) => missing,
            plan => return Begun::Done(self.answer(hook, near, plan)),
        };
        Tally::add(&near.tally.misses);
        let Missing { wanted, hash, why, stored, other } = missing;
        let kind = match &stored {
            _ if wanted.is_head => Kind::Head,
            Some(stored) if !wanted.has_range() && has_validator(stored) => {
                Kind::Validation { is_known: is_not_modified(&request.head, &stored.record.fields) }
            }
            _ => Kind::Plain,
        };
        // What it asks for is what others would ask for, too.
        let is_common = match kind {
            Kind::Head => false,
            Kind::Validation { .. } => true,
            Kind::Plain => !wanted.has_range() && !wanted.has_conditions(),
        };
        let mut lead = None;
        if is_common && !self.wait.is_zero() && !wanted.no_store() {
            let selected = stored.as_ref().or(other.as_ref()).map(|entry| &entry.record.selected);
            let variant = variant_hash(&self.store, (hash, &near.key.borrow()), selected, &request.head);
            let purpose = if may_wait && !wanted.wants_new() { Purpose::Shared } else { Purpose::Own };
            match self.store.fly(hash, variant, purpose, now) {
                Fetching::Lead(leave) => lead = Some(leave),
                Fetching::Join(wait) => return Begun::Wait(wait),
                Fetching::Alone => {}
            }
        }
        let is_authorized = is_authorized(hook, wanted);
        let asked = Asked { is_authorized, no_store: wanted.no_store() };
        let verdict = ask_origin(hook, kind, stored.as_ref());
        let fetch = self.fetch(&request.head, near, (hash, why, kind), asked, stored, lead);
        hook.slot().put(Role::Fetch(Box::new(fetch)));
        Begun::Done(verdict)
    }

    fn fetch(
        &self,
        head: &RequestHead<'_>,
        near: &Near,
        (hash, why, kind): (u64, Forward, Kind),
        asked: Asked,
        stored: Option<Arc<Entry>>,
        lead: Option<Lead>,
    ) -> Fetch {
        Fetch {
            store: self.store.clone(),
            key: near.key.borrow().as_slice().into(),
            hash,
            stamp: self.store.stamp(hash),
            snapshot: Snapshot::of(head),
            asked,
            kind,
            why,
            lead,
            stored,
            began: clock::now(),
            filling: None,
        }
    }

    /// Waits for somebody else's fetch, and goes by what comes of it.
    pub(super) async fn wait(&self, hook: &mut PreHandler<'_, '_>, near: Rc<Near>, mut wait: Wait) -> Verdict {
        let until = clock::turn() + self.wait;
        for _ in 0..CACHE_ROUNDS_MAX {
            let landing = rt::timeout(until, wait).await;
            let may_wait = match landing {
                Some(Landing::Stored(entry)) => match self.use_landed(hook, &near, entry) {
                    Ok(verdict) => return verdict,
                    Err(is_for_others) => is_for_others,
                },
                Some(Landing::Stale(entry)) => {
                    let now = clock::turn();
                    if let Ok(request) = hook.request()
                        && entry.record.selected.matches(&request.head)
                    {
                        let note = HitNote::new(entry.age(now), entry.record.freshness.time_to_live(entry.age(now)));
                        let (held, wanted) = (near.keep(entry), Wanted::of(&request.head, self.heeds));
                        return self.answer(hook, &near, Plan::Answer { held, note, wanted, refresh: Refresh::No });
                    }
                    false
                }
                Some(Landing::NotStored) | None => false,
                Some(Landing::Failed) => true,
            };
            match self.begin(hook, &near, may_wait) {
                Begun::Done(verdict) => return verdict,
                Begun::Wait(next) => wait = next,
            }
        }
        match self.begin(hook, &near, false) {
            Begun::Done(verdict) => verdict,
            Begun::Wait(_) => Verdict::Continue,
        }
    }

    /// Answers with what another request has fetched. Otherwise says whether another wait may be of use: it was chosen for
    /// others, and not unfit for all.
    fn use_landed(&self, hook: &mut PreHandler<'_, '_>, near: &Rc<Near>, entry: Arc<Entry>) -> Result<Verdict, bool> {
        let Ok(request) = hook.request() else { return Ok(Verdict::Continue) };
        if !entry.record.selected.matches(&request.head) {
            return Err(true);
        }
        let (wanted, age) = (Wanted::of(&request.head, self.heeds), entry.age(clock::turn()));
        if wanted.serve(&entry.record.freshness, age) != Serve::Fresh {
            return Err(false);
        }
        let note = HitNote::new(age, entry.record.freshness.time_to_live(age));
        let held = if entry.is_live() { near.keep(entry) } else { Rc::new(Held(entry)) };
        Ok(self.answer(hook, near, Plan::Answer { held, note, wanted, refresh: Refresh::No }))
    }

    /// Answers as planned, or lets the request go on.
    pub(super) fn answer(&self, hook: &mut PreHandler<'_, '_>, near: &Rc<Near>, plan: Plan) -> Verdict {
        let (held, note, wanted, refresh) = match plan {
            Plan::Answer { held, note, wanted, refresh } => (held, note, wanted, refresh),
            Plan::Pass(why) => {
                hook.slot().put(Role::Passed(why));
                return Verdict::Continue;
            }
            Plan::Changes => {
                hook.slot().put(Role::Changes);
                return Verdict::Continue;
            }
            Plan::Refuse => {
                hook.slot().put(Role::Refused);
                let detail = "nothing is stored that serves this request, and it wants nothing else";
                return hook.answer(LocalAnswer::problem(Status::GATEWAY_TIMEOUT, detail));
            }
            Plan::Fetch(_) => return Verdict::Continue,
        };
        Tally::add(&near.tally.hits);
        held.0.note_use();
        if refresh == Refresh::Yes {
            self.refresh(hook, near, &held);
        }
        *hook.slot() = note.pack_into_slot();
        if held.0.record.status == Status::OK && (wanted.has_conditions() || wanted.has_range()) {
            match answer_part(hook, &held, wanted) {
                Ok(Some(answer)) => return hook.answer(answer),
                Ok(None) => {}
                Err(error) => return Verdict::Fail(error.into()),
            }
        }
        let status = held.0.record.status;
        hook.answer(LocalAnswer { status, fields: Fields::new(), body: AnswerBody::Stored(held) })
    }

    /// Has a stored response fetched anew without the client, unless that is under way.
    fn refresh(&self, hook: &mut PreHandler<'_, '_>, near: &Near, held: &Held) {
        let Ok(request) = hook.request() else { return };
        let stored = held.0.clone();
        let hash = stored.record.hash;
        // Also where it was found before its hooks ran.
        self.keys.write(&request.head, &mut near.key.borrow_mut());
        let selected = Some(&stored.record.selected);
        let variant = variant_hash(&self.store, (hash, &near.key.borrow()), selected, &request.head);
        let Fetching::Lead(lead) = self.store.fly(hash, variant, Purpose::Refresh, clock::turn()) else { return };
        let wanted = Wanted::of(&request.head, self.heeds);
        let is_authorized = is_authorized(hook, wanted);
        let asked = Asked { is_authorized, no_store: false };
        let kind = if has_validator(&stored) { Kind::Validation { is_known: false } } else { Kind::Plain };
        let fetch = self.fetch(&request.head, near, (hash, Forward::Stale, kind), asked, Some(stored), Some(lead));
        let mut slot = Slot::Empty;
        slot.put(Role::Fetch(Box::new(fetch)));
        hook.repeat(slot);
    }
}

/// Whether the response is for this client alone, unless it says otherwise. Also where a plugin before this one has let the
/// client through by another credential, such as a cookie, or has taken `Authorization` away: it may tell the origin by other
/// fields who the client is.
fn is_authorized(hook: &PreHandler<'_, '_>, wanted: Wanted) -> bool {
    wanted.is_authorized() || hook.has_credential() || hook.takes_authorization()
}

fn has_validator(entry: &Entry) -> bool {
    entry.record.fields.contains("etag") || entry.record.fields.contains("last-modified")
}

/// Has a request ask what it is to ask: with our conditions in place of the client's, where what is stored is validated.
pub(super) fn ask_origin(hook: &mut PreHandler<'_, '_>, kind: Kind, stored: Option<&Arc<Entry>>) -> Verdict {
    match (kind, stored) {
        (Kind::Validation { .. }, Some(stored)) => {
            set_conditions(hook, stored).map_or_else(fail, |()| Verdict::Continue)
        }
        _ => Verdict::Continue,
    }
}

/// The same of a request without a client: nothing of what one client wanted is asked for all.
pub(super) fn ask_for_all(hook: &mut PreHandler<'_, '_>, kind: Kind, stored: Option<&Arc<Entry>>) -> Verdict {
    let own = ["range", "if-range", "if-none-match", "if-modified-since"];
    match own.iter().try_for_each(|name| remove_field(hook, name)) {
        Ok(()) => ask_origin(hook, kind, stored),
        Err(error) => fail(error),
    }
}

fn fail(error: FieldError) -> Verdict {
    Verdict::Fail(error.into())
}

fn set_conditions(hook: &mut PreHandler<'_, '_>, stored: &Entry) -> Result<(), FieldError> {
    for (condition, validator) in [("If-None-Match", "etag"), ("If-Modified-Since", "last-modified")] {
        match stored.record.fields.get(validator) {
            Some(value) => hook.set_header(condition, value)?,
            None => remove_field(hook, condition)?,
        }
    }
    Ok(())
}

fn remove_field(hook: &mut PreHandler<'_, '_>, name: &str) -> Result<(), FieldError> {
    // A change costs another parse of the head.
    if hook.header(name).is_some() { hook.remove_header(name) } else { Ok(()) }
}

/// What is sent of a stored response to a client that has it already, or wants a part of it. `None`: all of it.
fn answer_part(hook: &mut PreHandler<'_, '_>, held: &Held, wanted: Wanted) -> Result<Option<LocalAnswer>, FieldError> {
    let Ok(request) = hook.request() else { return Ok(None) };
    let record = &held.0.record;
    if wanted.has_conditions() && is_not_modified(&request.head, &record.fields) {
        let mut fields = record.fields.clone();
        strip_body_fields(&mut fields);
        return Ok(Some(made(Status::NOT_MODIFIED, fields, Bytes::new())));
    }
    if !wanted.has_range() || wanted.is_head || !range_applies(&request.head, &record.fields) {
        return Ok(None);
    }
    let size = record.body.len() as u64;
    match decide_range(request.header_values("range"), size) {
        Extent::Whole => Ok(None),
        Extent::Part { first, last } => {
            let mut fields = record.fields.clone();
            fields.set("Content-Range", format!("bytes {first}-{last}/{size}"))?;
            Ok(Some(made(Status::PARTIAL_CONTENT, fields, record.body.slice(first as usize..=last as usize))))
        }
        Extent::Unsatisfiable => {
            let answer = LocalAnswer::problem(Status::RANGE_NOT_SATISFIABLE, "no such range");
            Ok(Some(answer.with("Content-Range", format!("bytes */{size}"))?))
        }
    }
}

/// A response made of a stored one.
struct Made {
    fields: Fields,
    body: Bytes,
}

impl Stored for Made {
    fn fields(&self) -> &Fields {
        &self.fields
    }

    fn body(&self) -> &[u8] {
        &self.body
    }
}

fn made(status: Status, fields: Fields, body: Bytes) -> LocalAnswer {
    LocalAnswer { status, fields: Fields::new(), body: AnswerBody::Stored(Rc::new(Made { fields, body })) }
}
