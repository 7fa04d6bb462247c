//! `api-key`: lets requests pass that carry a known key.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::marker::PhantomData;
use std::path::PathBuf;

use ring::digest::{SHA256, digest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

use super::auth_file::{self, FileError};
use super::credential::{self, Carried, Place};
use super::headers::{check_field_name, is_request_field};
use crate::http::{FieldError, Status};
use crate::limits::{API_KEY_BYTES_MIN, AUTH_NAME_BYTES_MAX};
use crate::plugin::registry::Build;
use crate::plugin::{
    BuildContext, Hook, Hooks, LocalAnswer, Mistake, OptionStep, Plugin, PreHandler, Registration, Step, Verdict,
};
use crate::secret::Secret;

pub(super) const REGISTRATION: Registration =
    Registration::new("api-key", "lets requests pass that carry a known key", PhantomData::<(Options, ApiKeys)>);

/// Lets requests pass that carry a known key. Others are answered with 401.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Options {
    /// Where a request may carry its key, in this order: `"header:NAME"`, `"cookie:NAME"`, `"query:NAME"` or `"bearer"`
    /// (`Authorization: Bearer`).
    pub from: Vec<String>,
    /// Keys, each with the name of whom it was given to.
    pub keys: Vec<NamedKey>,
    /// A file with a key on each line: its name, a space, and the SHA-256 of the key in hexadecimal digits (as `printf %s
    /// "$KEY" | sha256sum` gives). Empty lines and lines that begin with `#` are left out. It is read again on each reload.
    pub file: Option<PathBuf>,
    /// False: a request without a key passes too, without a name; one with a wrong key does not.
    pub required: bool,
    /// Whether the key is taken out of the request before it goes on.
    pub strip: bool,
    /// A header field of the request that is set to the name of the key's owner, in place of what the client sent; null for
    /// none.
    pub name_header: Option<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            from: vec!["header:X-Api-Key".to_owned()],
            keys: Vec::new(),
            file: None,
            required: true,
            strip: false,
            name_header: None,
        }
    }
}

/// A key and whom it was given to.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NamedKey {
    /// Whom it was given to: the identity for plugins behind this one, such as `rate-limit`. Several keys may have one name.
    #[schemars(length(min = 1, max = 256))]
    pub name: String,
    /// The key, of at least 16 bytes.
    pub key: Secret,
}

type Digest = [u8; 32];

fn sha256(bytes: &[u8]) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// Keys by their digests. They are looked up by a hash under a key of this process, so that the time a look-up takes says
/// nothing of the digests that are there, and compared in constant time.
#[derive(Default)]
struct KeyRing {
    hasher: RandomState,
    /// By the hash.
    entries: Vec<(u64, Digest, String)>,
}

impl KeyRing {
    fn new(keys: Vec<(Digest, String)>) -> Self {
        let hasher = RandomState::new();
        let mut entries: Vec<_> = keys.into_iter().map(|(key, name)| (hasher.hash_one(key), key, name)).collect();
        entries.sort_unstable_by_key(|(hash, _, _)| *hash);
        Self { hasher, entries }
    }

    /// Whose key it is.
    fn owner(&self, key: &[u8]) -> Option<&str> {
        let key = sha256(key);
        let hash = self.hasher.hash_one(key);
        let start = self.entries.partition_point(|(own, _, _)| *own < hash);
        let same = self.entries[start..].iter().take_while(|(own, _, _)| *own == hash);
        same.into_iter().find(|(_, own, _)| bool::from(own.ct_eq(&key))).map(|(_, _, name)| name.as_str())
    }
}

struct ApiKeys {
    places: Vec<Place>,
    ring: KeyRing,
    required: bool,
    strip: bool,
    name_header: Option<String>,
}

impl Build<Options> for ApiKeys {
    // Files and variables may have changed.
    const KEEPS_STATE: bool = false;

    fn build(options: Options, context: &BuildContext<'_>) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let places = Place::read_list("from", &options.from, &mut mistakes);
        let mut keys = Vec::new();
        for (index, named) in options.keys.iter().enumerate() {
            check_name("keys", index, &named.name, &mut mistakes);
            match named.key.read(context.base_dir) {
                Ok(key) if key.len() < API_KEY_BYTES_MIN => {
                    let found = format!("one of {} bytes", key.len());
                    mistakes.push(at_key(index, format!("a key of at least {API_KEY_BYTES_MIN} bytes"), found));
                }
                Ok(key) => keys.push((sha256(&key), named.name.clone())),
                Err((expected, found)) => mistakes.push(at_key(index, expected, found)),
            }
        }
        if let Some(file) = &options.file {
            match auth_file::read(&context.base_dir.join(file), read_line) {
                Ok(read) => keys.extend(read),
                Err(FileError { expected, found }) => mistakes.push(Mistake::at("file", expected, found)),
            }
        }
        if options.keys.is_empty() && options.file.is_none() {
            mistakes.push(Mistake::at("keys", "at least one key, or a file of them", "none"));
        }
        let mut seen = HashSet::new();
        if let Some((_, name)) = keys.iter().find(|(key, _)| !seen.insert(*key)) {
            mistakes.push(Mistake::at("keys", "keys that are all different", format!("the key of {name:?} twice")));
        }
        if let Some(name) = &options.name_header {
            check_field_name(&["name_header".into()], name, is_request_field, &mut mistakes);
        }
        let Options { required, strip, name_header, .. } = options;
        let ring = KeyRing::new(keys);
        if mistakes.is_empty() { Ok(Self { places, ring, required, strip, name_header }) } else { Err(mistakes) }
    }
}

fn at_key(index: usize, expected: String, found: String) -> Mistake {
    let path: Vec<OptionStep> = vec!["keys".into(), index.into(), "key".into()];
    Mistake { path, expected, found }
}

fn check_name(key: &str, index: usize, name: &str, mistakes: &mut Vec<Mistake>) {
    if !auth_file::is_name(name) {
        let expected = format!("a name of 1 to {AUTH_NAME_BYTES_MAX} bytes without control characters");
        mistakes.push(Mistake {
            path: vec![key.into(), index.into(), "name".into()],
            expected,
            found: format!("{name:?}"),
        });
    }
}

/// `NAME DIGEST`.
fn read_line(line: &str) -> Result<(Digest, String), String> {
    let expected = || "a name, a space and the 64 hexadecimal digits of a SHA-256".to_owned();
    let (name, digits) = line.rsplit_once([' ', '\t']).ok_or_else(expected)?;
    let name = name.trim();
    let key = read_digest(digits).filter(|_| auth_file::is_name(name)).ok_or_else(expected)?;
    Ok((key, name.to_owned()))
}

fn read_digest(digits: &str) -> Option<Digest> {
    let mut key = Digest::default();
    let pairs = digits.as_bytes().chunks(2);
    if digits.len() != 2 * key.len() {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(pairs) {
        let digit = |at: usize| (pair[at] as char).to_digit(16);
        *byte = (digit(0)? << 4 | digit(1)?) as u8;
    }
    Some(key)
}

impl ApiKeys {
    fn admit(&self, hook: &mut PreHandler<'_, '_>) -> Result<Verdict, FieldError> {
        if let Some(header) = &self.name_header {
            hook.remove_header(header)?;
        }
        let request = match hook.request() {
            Ok(request) => request,
            Err(error) => return Ok(hook.answer(LocalAnswer::problem(error.status(), error.detail()))),
        };
        let owner = match credential::find(&self.places, &request) {
            Carried::Nothing if !self.required => return Ok(Verdict::Continue),
            Carried::Nothing => return refuse(hook, "a key is needed"),
            Carried::Many => return refuse(hook, "more than one key was sent"),
            Carried::One(key) => match self.ring.owner(&key) {
                Some(owner) => owner,
                None => return refuse(hook, "the key is not known"),
            },
        };
        hook.set_identity(owner.as_bytes());
        if let Some(header) = &self.name_header {
            hook.set_header(header, owner)?;
        }
        if self.strip {
            self.places.iter().try_for_each(|place| place.strip(hook))?;
        }
        Ok(Verdict::Continue)
    }
}

fn refuse(hook: &mut PreHandler<'_, '_>, detail: &'static str) -> Result<Verdict, FieldError> {
    // A 401 must say how to come in (RFC 9110 section 15.5.2); no scheme is registered for keys.
    Ok(hook.answer(LocalAnswer::problem(Status::UNAUTHORIZED, detail).with("WWW-Authenticate", "ApiKey")?))
}

impl Plugin for ApiKeys {
    fn hooks(&self) -> Hooks {
        Hooks::NONE.with(Hook::PreHandler)
    }

    fn pre_handler<'a>(&'a self, hook: &'a mut PreHandler<'_, '_>) -> Step<'a> {
        Step::Now(self.admit(hook).unwrap_or_else(|error| Verdict::Fail(error.into())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;
    use std::path::Path;

    use crate::proxy::Upstreams;

    fn build(options: serde_json::Value) -> Result<ApiKeys, Vec<Mistake>> {
        let upstreams = Upstreams::default();
        let wasm = crate::plugin::wasm::Settings::default();
        let context = BuildContext {
            base_dir: Path::new("."),
            upstreams: &upstreams,
            wasm: &wasm,
            name: "api-key",
            is_global: false,
        };
        ApiKeys::build(serde_json::from_value(options).unwrap(), &context)
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
    }

    #[test]
    fn a_key_has_its_owner_and_nothing_else_has_one() {
        let ring = KeyRing::new((0..100).map(|n| (sha256(format!("key {n}").as_bytes()), n.to_string())).collect());
        for n in 0..100 {
            assert_eq!(ring.owner(format!("key {n}").as_bytes()), Some(&*n.to_string()));
        }
        for bad in ["", "key", "key 100", "key 1 ", "Key 1"] {
            assert_eq!(ring.owner(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn the_line_of_a_file_is_a_name_and_a_digest() {
        let digits = hex(&sha256(b"abc"));
        assert_eq!(digits, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(read_line(&format!("mobile app \t{digits}")), Ok((sha256(b"abc"), "mobile app".to_owned())));
        assert_eq!(read_line(&format!("m {}", digits.to_uppercase())), Ok((sha256(b"abc"), "m".to_owned())));
        for bad in [digits.clone(), format!("m {}", &digits[1..]), format!("m {}é", &digits[2..]), " ".to_owned()] {
            assert!(read_line(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_wrong_with_the_options_is_said_without_the_keys() {
        let found = |options| {
            let mistakes = build(options).err().expect("mistakes");
            mistakes.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
        };
        assert!(found(serde_json::json!({})).contains("at least one key"));
        let twice = found(serde_json::json!({ "keys": [
            { "name": "a", "key": "0123456789abcdef" }, { "name": "b", "key": "0123456789abcdef" }] }));
        assert!(twice.contains("the key of \"b\" twice") && !twice.contains("0123"), "{twice}");
        let short = found(serde_json::json!({ "keys": [{ "name": "a", "key": "s3cret" }] }));
        assert!(short.contains("at least 16 bytes") && !short.contains("s3cret"), "{short}");
        let places =
            found(serde_json::json!({ "from": ["body:x"], "keys": [{ "name": "a", "key": "0123456789abcdef" }] }));
        assert!(places.contains("\"body:x\""), "{places}");
    }
}
