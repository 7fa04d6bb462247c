//! `cache`: keeps responses in memory and answers with them: a shared cache by RFC 9111.
//!
//! | file | holds |
//! |---|---|
//! | `directives`, `freshness`, `wanted`, `vary`, `conditional`, `key`, `told` | what the RFCs say, as functions of heads and times |
//! | `entry`, `queues`, `store`, `near` | where responses are kept: for all cores, and at hand of each |
//! | `flight` | one fetch for all who ask at once |
//! | `lookup`, `fetch`, `note` | a request's way: what it comes to, and what is kept of what comes back |
//! | `options` | what the operator says |

mod conditional;
mod directives;
mod entry;
mod fetch;
mod flight;
mod freshness;
mod key;
mod lookup;
mod near;
mod note;
mod options;
mod queues;
mod store;
#[cfg(test)]
mod tests;
mod told;
mod vary;
mod wanted;

use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::{Arc, PoisonError};

use crate::clock;
use crate::http::{Fields, StatusClass};
use crate::limits::COPY_BYTES_MAX;
use crate::plugin::registry::Build;
use crate::plugin::{
    AnswerBody, BodyHook, BodyPlan, BuildContext, Going, Hook, Hooks, Kept, KeptSample, Local, LocalAnswer, Mistake,
    OnError, Peek, Plugin, PluginError, PostHandler, PostResponse, PreHandler, Purge, Registration, Slot, Step,
};
use crate::sync::Mutex;
use crate::sync::atomic::Ordering;
use fetch::{Fetch, Terms, is_failure, push_age};
use key::{KeyRules, spellings};
use lookup::{Begun, Plan};
use near::{Held, Near, Promise, Tally};
use note::HitNote;
pub(super) use options::Options;
use store::Store;
use told::{Forward, Handling, Storing, tell};
use wanted::{Concern, Wanted};

pub(super) const REGISTRATION: Registration = Registration::new(
    "cache",
    "keeps responses in memory and answers with them, as a shared cache by RFC 9111",
    PhantomData::<(Options, Cache)>,
);

/// A cache.
struct Cache {
    store: Arc<Store>,
    keys: KeyRules,
    terms: Terms,
    wait: std::time::Duration,
    /// Clients may say how fresh they want it.
    heeds: bool,
    status_name: Option<String>,
    size: usize,
    tallies: Mutex<Vec<Arc<Tally>>>,
}

/// What is known of a request that was not answered from the store.
enum Role {
    /// It is none of the cache's affair.
    Passed(Forward),
    /// It may change what is stored of its target.
    Changes,
    /// It is on its way.
    Fetch(Box<Fetch>),
    /// It was refused: nothing is stored that serves it.
    Refused,
}

impl Build<Options> for Cache {
    const KEEPS_STATE: bool = true;

    fn build(options: Options, _: &BuildContext<'_>) -> Result<Self, Vec<Mistake>> {
        let mistakes = options.check();
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let (size, max_body) = (options.size as usize, options.max_body as usize);
        Ok(Self {
            store: Store::new(size, max_body),
            keys: options.key_rules(),
            terms: Terms { rules: options.rules(), vary: options.vary.clone(), max_body },
            wait: options.wait,
            heeds: options.client_directives,
            status_name: options.status_name,
            size,
            tallies: Mutex::default(),
        })
    }
}

impl Cache {
    fn make_near(&self, local: Option<&Local>) -> Near {
        let tally = Arc::<Tally>::default();
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner).push(tally.clone());
        Near::new(self.size / 8 / local.map_or(1, Local::cores).max(1), tally)
    }

    fn near(&self, hook: &PreHandler<'_, '_>) -> Rc<Near> {
        hook.local(|| self.make_near(hook.context().get::<Local>()))
    }

    /// Tells of a response what the cache did.
    fn tell(&self, fields: &mut Fields, handling: Handling) -> Result<(), PluginError> {
        let Some(name) = &self.status_name else { return Ok(()) };
        Ok(fields.push_parsed(b"Cache-Status", tell(name, handling).as_bytes())?)
    }

    /// The response to a request that may have changed things (RFC 9111 section 4.4).
    fn forget_changed(&self, hook: &mut PostHandler<'_, '_>) {
        if !matches!(hook.status().class(), StatusClass::Success | StatusClass::Redirection) {
            return;
        }
        let (request, fields) = hook.parts();
        let forget = |key: &[u8]| {
            for key in spellings(key) {
                self.store.forget(self.store.hash(&key), &key);
            }
        };
        let mut key = Vec::new();
        self.keys.write(&request.head, &mut key);
        forget(&key);
        for name in ["location", "content-location"] {
            let location = fields.get(name).unwrap_or_default();
            if !location.is_empty() && self.keys.write_location(&request.head, location, &mut key).is_some() {
                forget(&key);
            }
        }
    }
}

impl Plugin for Cache {
    fn hooks(&self) -> Hooks {
        let all = [Hook::PreHandler, Hook::PostHandler, Hook::PostHandlerBody, Hook::PostResponse, Hook::OnError];
        all.into_iter().fold(Hooks::NONE, Hooks::with)
    }

    fn kept(&self) -> Option<&dyn Kept> {
        Some(self)
    }

    fn going(&self, peek: &Peek<'_>) -> Going {
        let near = peek.local(|| self.make_near(peek.context().get::<Local>()));
        if !peek.is_settled {
            let wanted = Wanted::of(&peek.head, self.heeds);
            return if wanted.concern == Concern::Lookup { Going::Suspends } else { Going::AtOnce };
        }
        let (plan, ticket) = (self.plan(&peek.head, &near, clock::turn()), peek.ticket());
        match (plan, ticket) {
            (Plan::Answer { held, note, wanted, refresh }, Some(ticket))
                if wanted.is_head || held.0.record.body.len() <= COPY_BYTES_MAX =>
            {
                *near.promise.borrow_mut() = Some(Promise { ticket, held, note, wanted, refresh });
                Going::Answers
            }
            // Nobody waits there.
            (Plan::Fetch(missing), _) if self.store.is_passed(missing.hash, clock::turn()) => Going::AtOnce,
            (Plan::Answer { .. } | Plan::Refuse | Plan::Fetch(_), _) => Going::Suspends,
            (Plan::Pass(_) | Plan::Changes, _) => Going::AtOnce,
        }
    }

    fn pre_handler<'a>(&'a self, hook: &'a mut PreHandler<'_, '_>) -> Step<'a> {
        if let Some(Role::Fetch(fetch)) = hook.slot().get::<Role>() {
            let (stored, kind) = (fetch.stored.clone(), fetch.kind);
            return Step::Now(lookup::ask_for_all(hook, kind, stored.as_ref()));
        }
        let near = self.near(hook);
        let ticket = hook.ticket();
        let promised = near.promise.borrow_mut().take_if(|promise| Some(promise.ticket) == ticket);
        if let Some(Promise { held, note, wanted, refresh, .. }) = promised {
            return Step::Now(self.answer(hook, &near, Plan::Answer { held, note, wanted, refresh }));
        }
        match self.begin(hook, &near, hook.may_wait()) {
            Begun::Done(verdict) => Step::Now(verdict),
            Begun::Wait(wait) => Step::Later(Box::pin(self.wait(hook, near, wait))),
        }
    }

    fn post_handler(&self, hook: &mut PostHandler<'_, '_>) -> Result<BodyPlan, PluginError> {
        let slot = std::mem::take(hook.slot());
        if let Slot::Number(note) = slot {
            let note = HitNote::unpack(note);
            *hook.slot() = slot;
            push_age(hook.fields(), note.age);
            self.tell(hook.fields(), note.handling())?;
            return Ok(BodyPlan::AsIs);
        }
        *hook.slot() = slot;
        let Some(mut role) = hook.slot().take::<Role>() else { return Ok(BodyPlan::AsIs) };
        let (handling, plan) = match &mut role {
            Role::Passed(why) => {
                (Handling::Forwarded { why: *why, status: None, storing: Storing::Not }, BodyPlan::AsIs)
            }
            Role::Changes => {
                self.forget_changed(hook);
                let why = Forward::Method;
                (Handling::Forwarded { why, status: None, storing: Storing::Not }, BodyPlan::AsIs)
            }
            Role::Fetch(fetch) => fetch.on_head(hook, &self.terms)?,
            Role::Refused => (Handling::Refused, BodyPlan::AsIs),
        };
        hook.slot().put(role);
        self.tell(hook.fields(), handling)?;
        Ok(plan)
    }

    fn post_handler_body(&self, hook: &mut BodyHook<'_>, piece: &[u8], end: bool) -> Result<(), PluginError> {
        if let Some(Role::Fetch(fetch)) = hook.slot().get_mut::<Role>() {
            fetch.on_piece(piece, end, &self.terms);
        }
        Ok(())
    }

    fn post_response(&self, hook: &mut PostResponse<'_>) {
        let finished = hook.finished();
        if let Some(Role::Fetch(fetch)) = hook.slot().take::<Role>() {
            fetch.end(finished, &self.terms);
        }
    }

    fn on_error(&self, hook: &mut OnError<'_>) -> Option<LocalAnswer> {
        let (status, now) = (hook.status(), clock::now());
        let Some(Role::Fetch(fetch)) = hook.slot().get_mut::<Role>() else { return None };
        // Nothing of it was sent, so that nothing of it is stored.
        fetch.filling = None;
        let stored = if is_failure(status) { fetch.stale(now) } else { None }?;
        let record = &stored.record;
        *hook.slot() = HitNote::new(stored.age(now), record.freshness.time_to_live(stored.age(now))).pack_into_slot();
        Some(LocalAnswer {
            status: record.status,
            fields: Fields::new(),
            body: AnswerBody::Stored(Rc::new(Held(stored))),
        })
    }
}

impl Kept for Cache {
    fn purge(&self, which: &Purge<'_>) -> u64 {
        self.store.purge(which)
    }

    fn sample(&self) -> KeptSample {
        let counts = self.store.counts();
        let tallies = self.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = |of: fn(&Tally) -> u64| tallies.iter().map(|tally| of(tally)).sum();
        KeptSample {
            entries: counts.entries,
            bytes: counts.bytes,
            bytes_max: self.size as u64,
            hits: sum(|tally| tally.hits.load(Ordering::Relaxed)),
            misses: sum(|tally| tally.misses.load(Ordering::Relaxed)),
            stored: counts.stored,
            evicted: counts.evicted,
        }
    }
}
