//! `jwt`: lets requests pass that carry a signed token, and tells what it says of their client.
//!
//! | file | holds |
//! |---|---|
//! | `options` | what the config says, and its checks |
//! | `token` | a token verified: bytes, keys, rules and the time in, claims or a refusal out |
//! | `key`, `pem`, `jwks`, `json` | keys, each bound to its algorithms, and where they are read from |
//! | `source` | sets of keys that are fetched, on the master's thread |
//! | `kept` | what one core knows: those keys, and tokens that it has verified |
//! | `oracle` | what holds for every token |

mod json;
mod jwks;
mod kept;
mod key;
mod options;
pub(super) mod oracle;
mod pem;
mod source;
mod token;

#[cfg(test)]
mod attack_tests;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use self::kept::Kept;
use self::key::Key;
use self::options::Options;
use self::source::Source;
use self::token::{Refusal, Rules, Verified};
use super::credential::{self, Carried, Place};
use crate::clock;
use crate::http::{FieldError, RequestHead, Status};
use crate::plugin::{Hook, Hooks, LocalAnswer, Plugin, PluginError, PreHandler, PreRoute, Registration, Step, Verdict};

pub(super) const REGISTRATION: Registration = Registration::new(
    "jwt",
    "lets requests pass that carry a signed token (JWT), and tells its claims",
    PhantomData::<(Options, Jwt)>,
);

struct Jwt {
    places: Vec<Place>,
    rules: Rules,
    /// Those of the config and its files.
    keys: Vec<Key>,
    sources: Vec<Arc<Source>>,
    required: bool,
    strip: bool,
    before_routing: bool,
    /// Names of fields, and the claims that they are set to.
    headers: Vec<(String, String)>,
    /// The claim that says who the client is.
    identity: Option<String>,
    realm: String,
}

/// What a request's token came to.
#[derive(Clone)]
enum Outcome {
    /// There is none.
    Absent,
    Good(Rc<Verified>),
    Bad(Refusal),
    /// There are several.
    Many,
    /// The keys have not been fetched yet.
    NoKeys,
}

/// What of a hook before the handler is needed to tell of a token.
trait Telling {
    fn set(&mut self, name: &str, value: &str) -> Result<(), FieldError>;
    fn remove(&mut self, name: &str) -> Result<(), FieldError>;
    fn identify(&mut self, identity: &str);
    fn note_credential(&mut self);
}

macro_rules! telling {
    ($hook:ident) => {
        impl Telling for $hook<'_, '_> {
            fn set(&mut self, name: &str, value: &str) -> Result<(), FieldError> {
                self.set_header(name, value)
            }

            fn remove(&mut self, name: &str) -> Result<(), FieldError> {
                self.remove_header(name)
            }

            fn identify(&mut self, identity: &str) {
                self.set_identity(identity.as_bytes());
            }

            fn note_credential(&mut self) {
                $hook::note_credential(self);
            }
        }
    };
}

telling!(PreRoute);
telling!(PreHandler);

impl Jwt {
    fn judge(&self, head: &RequestHead<'_>, kept: &RefCell<Kept>) -> Outcome {
        let token = match credential::find(&self.places, head) {
            Carried::Nothing => return Outcome::Absent,
            Carried::Many => return Outcome::Many,
            Carried::One(token) => token,
        };
        let mut kept = kept.borrow_mut();
        kept.follow(&self.sources);
        let (digest, known) = kept.token(&token);
        let now = clock::wall();
        if let Some(known) = known {
            return match known.check_time(now.as_secs_f64()) {
                Ok(()) => Outcome::Good(known),
                Err(refusal) => {
                    kept.forget(&digest);
                    Outcome::Bad(refusal)
                }
            };
        }
        match token::verify(&token, self.keys.iter().chain(kept.keys()), &self.rules, now) {
            Ok(verified) => {
                let verified = Rc::new(verified);
                kept.keep(digest, verified.clone());
                Outcome::Good(verified)
            }
            Err(Refusal::UnknownKey { .. } | Refusal::Unfit) if kept.lacks_keys() => {
                self.sources.iter().for_each(|source| source.ask());
                Outcome::NoKeys
            }
            Err(refusal) => {
                if refusal == (Refusal::UnknownKey { is_named: true }) {
                    self.sources.iter().for_each(|source| source.ask());
                }
                Outcome::Bad(refusal)
            }
        }
    }

    /// Sets the fields that tell of the token. Those of the client go in any case: nobody can forge one.
    fn tell(&self, outcome: &Outcome, hook: &mut impl Telling) -> Result<(), FieldError> {
        let claims = match outcome {
            Outcome::Good(verified) => Some(verified),
            Outcome::Absent | Outcome::Bad(_) | Outcome::Many | Outcome::NoKeys => None,
        };
        if claims.is_some() {
            hook.note_credential();
        }
        for (name, claim) in &self.headers {
            match claims.and_then(|claims| claims.text(claim)) {
                Some(value) => match hook.set(name, &value) {
                    // A text that cannot stand in a field.
                    Err(FieldError::Value) => hook.remove(name)?,
                    result => result?,
                },
                None => hook.remove(name)?,
            }
        }
        if let Some(identity) = self.identity.as_ref().and_then(|name| claims?.text(name)) {
            hook.identify(&identity);
        }
        Ok(())
    }

    fn decide(&self, outcome: &Outcome, hook: &mut PreHandler<'_, '_>) -> Result<Verdict, FieldError> {
        let (status, error, detail) = match outcome {
            Outcome::Good(_) => return Ok(Verdict::Continue),
            Outcome::Absent if !self.required => return Ok(Verdict::Continue),
            Outcome::Absent => (Status::UNAUTHORIZED, None, "a token is needed"),
            Outcome::Bad(refusal) => (Status::UNAUTHORIZED, Some("invalid_token"), refusal.detail()),
            Outcome::Many => (Status::BAD_REQUEST, Some("invalid_request"), "more than one token was sent"),
            Outcome::NoKeys => {
                let detail = "the keys for tokens are not there yet";
                let answer = LocalAnswer::problem(Status::SERVICE_UNAVAILABLE, detail).with("Retry-After", "1")?;
                return Ok(hook.answer(answer));
            }
        };
        let realm = &self.realm;
        // RFC 6750 section 3: without a token, no error is named.
        let challenge = match error {
            None => format!("Bearer realm=\"{realm}\""),
            Some(error) => format!("Bearer realm=\"{realm}\", error=\"{error}\", error_description=\"{detail}\""),
        };
        Ok(hook.answer(LocalAnswer::problem(status, detail).with("WWW-Authenticate", challenge)?))
    }

    fn admit(&self, hook: &mut PreHandler<'_, '_>) -> Result<Verdict, FieldError> {
        let outcome = match hook.slot().take::<Outcome>() {
            // It was judged before the route was found, and told of.
            Some(outcome) => outcome,
            None => {
                let kept = hook.local(RefCell::<Kept>::default);
                let request = match hook.request() {
                    Ok(request) => request,
                    Err(error) => return Ok(hook.answer(LocalAnswer::problem(error.status(), error.detail()))),
                };
                let outcome = self.judge(&request, &kept);
                self.tell(&outcome, hook)?;
                outcome
            }
        };
        if self.strip {
            self.places.iter().try_for_each(|place| place.strip(hook))?;
        }
        self.decide(&outcome, hook)
    }
}

impl Plugin for Jwt {
    fn hooks(&self) -> Hooks {
        let hooks = Hooks::NONE.with(Hook::PreHandler);
        if self.before_routing { hooks.with(Hook::PreRoute) } else { hooks }
    }

    fn attend(&self) -> Option<Pin<Box<dyn Future<Output = ()>>>> {
        let mut tasks: Vec<_> = self.sources.iter().map(|source| Box::pin(source.clone().attend())).collect();
        let all = poll_fn(move |cx| {
            for task in &mut tasks {
                // None of them ends.
                let _ = task.as_mut().poll(cx);
            }
            Poll::Pending
        });
        (!self.sources.is_empty()).then(|| Box::pin(all) as Pin<Box<dyn Future<Output = ()>>>)
    }

    /// Tells of the token, so that predicates of routes can go by it. Whether the request may pass is decided later, when its
    /// route is known: one may do without this plugin.
    fn pre_route(&self, hook: &mut PreRoute<'_, '_>) -> Verdict {
        let kept = hook.local(RefCell::<Kept>::default);
        let request = match hook.request() {
            Ok(request) => request,
            Err(error) => return hook.answer(LocalAnswer::problem(error.status(), error.detail())),
        };
        let outcome = self.judge(&request, &kept);
        if let Err(error) = self.tell(&outcome, hook) {
            return PluginError::from(error).into();
        }
        hook.slot().put(outcome);
        Verdict::Continue
    }

    fn pre_handler<'a>(&'a self, hook: &'a mut PreHandler<'_, '_>) -> Step<'a> {
        Step::Now(self.admit(hook).unwrap_or_else(|error| Verdict::Fail(error.into())))
    }
}
