//! `basic-auth`: lets requests pass that carry the name and password of a known user (RFC 7617).
//!
//! Hashing a password takes tens of milliseconds by design. It is done on the core's blocking pool, few at a time
//! (`basic_auth/lane`), and what was right is known for a while, by a digest under a key of the core's own.

mod lane;
mod password;

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::marker::PhantomData;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::{hmac, rand};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::lane::Lane;
use self::password::{Hash, LINE};
use super::auth_file::{self, FileError};
use super::credential::of_scheme;
use super::headers::{check_field_name, is_request_field};
use super::recent::{Digest, Recent};
use crate::clock::{self, Moment};
use crate::http::{FieldError, Status};
use crate::limits::{BASIC_CREDENTIALS_BYTES_MAX, BASIC_KEPT_MAX, PASSWORDS_HASHED_MAX, PASSWORDS_WAITING_MAX};
use crate::plugin::registry::Build;
use crate::plugin::{
    BuildContext, Going, Hook, Hooks, LocalAnswer, Mistake, Peek, Plugin, PreHandler, Registration, Step, Verdict,
};
use crate::rt;
use crate::units::{self, TimeSpan};

pub(super) const REGISTRATION: Registration = Registration::new(
    "basic-auth",
    "lets requests pass that carry the name and password of a known user",
    PhantomData::<(Options, BasicAuth)>,
);

/// Lets requests pass that carry the name and password of a known user (RFC 7617). Others are answered with 401.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    /// A file with a user on each line: the name, a colon, and the hash of the password, of bcrypt (as `htpasswd -B` makes it) or
    /// argon2id. Empty lines and lines that begin with `#` are left out. It is read again on each reload.
    pub file: PathBuf,
    /// What browsers tell their user that the password is for.
    #[serde(default = "default_realm")]
    pub realm: String,
    /// How long a core knows a password that was right, so that it is not hashed for each request. `"0s"`: not at all.
    #[serde(default = "default_remember", with = "units::as_time_span")]
    #[schemars(with = "TimeSpan", extend("x-maximum" = "1h"))]
    pub remember: Duration,
    /// Whether `Authorization` is taken out of the request before it goes on.
    #[serde(default)]
    pub strip: bool,
    /// A header field of the request that is set to the user's name, in place of what the client sent; null for none.
    #[serde(default)]
    pub name_header: Option<String>,
}

fn default_realm() -> String {
    "restricted".to_owned()
}

fn default_remember() -> Duration {
    Duration::from_secs(300)
}

struct BasicAuth {
    users: HashMap<String, usize>,
    /// By the index in `users`.
    hashes: Arc<Vec<Hash>>,
    /// Which hash stands in for that of a user who is not known.
    stand_ins: RandomState,
    challenge: String,
    remember: Duration,
    strip: bool,
    name_header: Option<String>,
}

impl Build<Options> for BasicAuth {
    // The file may have changed.
    const KEEPS_STATE: bool = false;

    fn build(options: Options, context: &BuildContext<'_>) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let (mut users, mut hashes) = (HashMap::new(), Vec::new());
        match auth_file::read(&context.base_dir.join(&options.file), read_line) {
            Ok(lines) => {
                for (name, hash) in lines {
                    if let Some(before) = users.insert(name, hashes.len()) {
                        let found = format!("the user of entry {} again in entry {}", before + 1, hashes.len() + 1);
                        mistakes.push(Mistake::at("file", "a file with each user once", found));
                    }
                    hashes.push(hash);
                }
            }
            Err(FileError { expected, found }) => mistakes.push(Mistake::at("file", expected, found)),
        }
        let is_plain = |realm: &str| !realm.contains(|c: char| c.is_control() || c == '"' || c == '\\');
        if !is_plain(&options.realm) {
            let expected = "a text without quotes, backslashes and control characters";
            mistakes.push(Mistake::at("realm", expected, format!("{:?}", options.realm)));
        }
        if let Some(name) = &options.name_header {
            check_field_name(&["name_header".into()], name, is_request_field, &mut mistakes);
        }
        let challenge = format!("Basic realm=\"{}\", charset=\"UTF-8\"", options.realm);
        let (hashes, stand_ins) = (Arc::new(hashes), RandomState::new());
        let Options { remember, strip, name_header, .. } = options;
        let made = Self { users, hashes, stand_ins, challenge, remember, strip, name_header };
        if mistakes.is_empty() { Ok(made) } else { Err(mistakes) }
    }
}

/// `NAME:HASH`.
fn read_line(line: &str) -> Result<(String, Hash), String> {
    let (name, hash) = line.split_once(':').ok_or(LINE)?;
    let hash = Hash::read(hash.trim()).filter(|_| auth_file::is_name(name)).ok_or(LINE)?;
    Ok((name.to_owned(), hash))
}

/// Name and password as a client sent them, with a colon between them.
#[derive(Debug, PartialEq, Eq)]
struct Credentials {
    text: String,
    colon: usize,
}

impl Credentials {
    /// Those in the value of `Authorization`; `None` where it has none.
    fn read(value: &[u8]) -> Option<Self> {
        let encoded = of_scheme(value, "Basic")?;
        if encoded.len() > BASIC_CREDENTIALS_BYTES_MAX {
            return None;
        }
        let text = String::from_utf8(STANDARD.decode(encoded).ok()?).ok()?;
        let colon = text.find(':')?;
        // RFC 7617 section 2 has control characters in neither.
        (!text.contains(char::is_control)).then_some(Self { text, colon })
    }

    fn user(&self) -> &str {
        &self.text[..self.colon]
    }

    fn password(&self) -> &str {
        &self.text[self.colon + 1..]
    }
}

/// One core's own.
struct Local {
    /// Without one, nothing is remembered.
    key: Option<hmac::Key>,
    /// Until when credentials are known to be right.
    right: RefCell<Recent<Moment>>,
    lane: Rc<Lane>,
}

impl Local {
    fn new() -> Self {
        Self {
            key: hmac::Key::generate(hmac::HMAC_SHA256, &rand::SystemRandom::new()).ok(),
            right: RefCell::new(Recent::new(BASIC_KEPT_MAX)),
            lane: Lane::new(PASSWORDS_HASHED_MAX, PASSWORDS_WAITING_MAX),
        }
    }

    fn digest(&self, credentials: &Credentials) -> Option<Digest> {
        let tag = hmac::sign(self.key.as_ref()?, credentials.text.as_bytes());
        tag.as_ref().try_into().ok()
    }

    /// Whether they are known to be right at this moment.
    fn knows(&self, credentials: &Credentials, at: Moment) -> bool {
        let digest = self.digest(credentials);
        digest.is_some_and(|digest| self.right.borrow().get(&digest).is_some_and(|until| at < *until))
    }

    fn remember(&self, credentials: &Credentials, most: Duration) {
        if let Some(digest) = self.digest(credentials).filter(|_| !most.is_zero()) {
            self.right.borrow_mut().keep(digest, clock::turn() + most);
        }
    }
}

/// What hashing a password came to.
enum Hashed {
    Right,
    Wrong,
    /// Too many wait for it already.
    Busy,
}

impl BasicAuth {
    /// Has the password hashed elsewhere. That of a user who is not known is held against somebody else's hash, so that the
    /// time it takes does not tell who is known.
    async fn hash(&self, local: &Local, credentials: &Credentials) -> Hashed {
        let known = self.users.get(credentials.user()).copied();
        let stand_in = || self.stand_ins.hash_one(credentials.user()) as usize % self.hashes.len().max(1);
        let index = known.unwrap_or_else(stand_in);
        let Some(turn) = local.lane.enter().await else { return Hashed::Busy };
        let (hashes, password) = (self.hashes.clone(), credentials.password().to_owned());
        let (post, result) = rt::mailbox(1);
        // A task of its own: the turn lasts as long as the hashing, also where the client leaves meanwhile.
        rt::spawn(async move {
            let work = move || hashes.get(index).is_some_and(|hash| hash.verify(password.as_bytes()));
            let is_right = rt::blocking(work).await;
            // Nobody waits for it any more.
            let _ = post.post(is_right);
            drop(turn);
        });
        let is_right = result.next().await.unwrap_or(false);
        if is_right && known.is_some() { Hashed::Right } else { Hashed::Wrong }
    }

    async fn admit_hashed(&self, local: Rc<Local>, credentials: Credentials, hook: &mut PreHandler<'_, '_>) -> Verdict {
        match self.hash(&local, &credentials).await {
            Hashed::Right => {
                local.remember(&credentials, self.remember);
                self.admit(&credentials, hook)
            }
            Hashed::Wrong => self.refuse("the name or the password is wrong", hook),
            Hashed::Busy => {
                let detail = "too many passwords are being checked";
                let answer = LocalAnswer::problem(Status::SERVICE_UNAVAILABLE, detail).with("Retry-After", "1");
                answer.map_or_else(|error| Verdict::Fail(error.into()), |answer| hook.answer(answer))
            }
        }
    }

    fn admit(&self, credentials: &Credentials, hook: &mut PreHandler<'_, '_>) -> Verdict {
        hook.set_identity(credentials.user().as_bytes());
        self.tell(credentials, hook).map_or_else(|error| Verdict::Fail(error.into()), |()| Verdict::Continue)
    }

    fn tell(&self, credentials: &Credentials, hook: &mut PreHandler<'_, '_>) -> Result<(), FieldError> {
        if let Some(header) = &self.name_header {
            hook.set_header(header, credentials.user())?;
        }
        if self.strip { hook.remove_header("Authorization") } else { Ok(()) }
    }

    fn refuse(&self, detail: &'static str, hook: &mut PreHandler<'_, '_>) -> Verdict {
        let answer = LocalAnswer::problem(Status::UNAUTHORIZED, detail).with("WWW-Authenticate", &self.challenge);
        answer.map_or_else(|error| Verdict::Fail(error.into()), |answer| hook.answer(answer))
    }
}

/// The credentials of a request that has one `Authorization`.
fn presented<'v>(mut values: impl Iterator<Item = &'v [u8]>) -> Option<Credentials> {
    let only = values.next()?;
    if values.next().is_some() { None } else { Credentials::read(only) }
}

impl Plugin for BasicAuth {
    fn hooks(&self) -> Hooks {
        Hooks::NONE.with(Hook::PreHandler)
    }

    fn going(&self, peek: &Peek<'_>) -> Going {
        // What is known must still be known when the hook runs.
        let soon = clock::turn() + Duration::from_secs(1);
        match presented(peek.head.header_values("authorization")) {
            Some(credentials) if !peek.local(Local::new).knows(&credentials, soon) => Going::Suspends,
            Some(_) | None => Going::AtOnce,
        }
    }

    fn pre_handler<'a>(&'a self, hook: &'a mut PreHandler<'_, '_>) -> Step<'a> {
        if let Some(Err(error)) = self.name_header.as_ref().map(|header| hook.remove_header(header)) {
            return Verdict::Fail(error.into()).into();
        }
        let request = match hook.request() {
            Ok(request) => request,
            Err(error) => return hook.answer(LocalAnswer::problem(error.status(), error.detail())).into(),
        };
        let Some(credentials) = presented(request.header_values("authorization")) else {
            return self.refuse("a name and a password are needed", hook).into();
        };
        let local = hook.local(Local::new);
        if local.knows(&credentials, clock::turn()) {
            return self.admit(&credentials, hook).into();
        }
        Step::Later(Box::pin(self.admit_hashed(local, credentials, hook)))
    }
}

/// Takes bytes for what a client sends and for a line of a file: neither panics.
pub(super) fn read_anything(data: &[u8]) {
    let _ = Credentials::read(data);
    if let Some(read) = Credentials::read(format!("Basic {}", STANDARD.encode(data)).as_bytes()) {
        assert_eq!(format!("{}:{}", read.user(), read.password()).as_bytes(), data);
    }
    let _ = read_line(&String::from_utf8_lossy(data));
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(value: &str) -> Option<(String, String)> {
        let read = Credentials::read(value.as_bytes())?;
        Some((read.user().to_owned(), read.password().to_owned()))
    }

    #[test]
    fn credentials_are_read_as_rfc_7617_has_them() {
        let some = |user: &str, password: &str| Some((user.to_owned(), password.to_owned()));
        for (value, wanted) in [
            ("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==", some("Aladdin", "open sesame")),
            ("basic  dGVzdDoxMjPCow==", some("test", "123\u{a3}")),
            ("Basic Og==", some("", "")),
            ("Basic YTpiOmM=", some("a", "b:c")),
            // `123` and a pound sign of Latin 1.
            ("Basic dGVzdDoxMjOj", None),
            ("Basic YWJj", None),
            ("Basic YTpiAA==", None),
            ("Basic YTpi YTpi", None),
            ("Basic", None),
            ("Bearer YTpi", None),
        ] {
            assert_eq!(read(value), wanted, "{value}");
        }
        assert_eq!(read(&format!("Basic {}", STANDARD.encode("a:".repeat(5000)))), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic_as_credentials(value in prop::collection::vec(any::<u8>(), 0..60)) {
            read_anything(&value);
        }
    }
}
