//! What the config says of `jwt`, and its checks.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Jwt;
use super::jwks::{Origin, read_jwks};
use super::key::{Algorithm, Key, Material, SECRET_BYTES_MIN};
use super::pem::read_pem;
use super::source::{Source, Url};
use super::token::Rules;
use crate::plugin::builtin::auth_file::{self, FileError};
use crate::plugin::builtin::credential::Place;
use crate::plugin::builtin::headers::{check_field_name, is_request_field};
use crate::plugin::registry::Build;
use crate::plugin::{BuildContext, Mistake};
use crate::secret::Secret;
use crate::tls::Roots;
use crate::units::TimeSpan;

/// Lets requests pass that carry a signed token (RFC 7519), and tells what it says of their client. Others are answered with
/// 401.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::plugin::builtin) struct Options {
    /// Where a request may carry its token, in this order: `"bearer"` (`Authorization: Bearer`), `"header:NAME"`,
    /// `"cookie:NAME"` or `"query:NAME"`.
    pub from: Vec<String>,
    /// The keys that tokens are verified with. Files are read again on each reload.
    pub keys: Vec<KeyOptions>,
    /// The algorithms that are allowed; all that the keys have when left out. Each key is used with those of its type alone:
    /// a secret with HS256, HS384 and HS512 (as far as it is as long as the hash), RSA with RS and PS, P-256 with ES256,
    /// P-384 with ES384, Ed25519 with EdDSA.
    pub algorithms: Vec<String>,
    /// Who may have made a token (`iss`), exactly; empty: anybody who has a key.
    pub issuer: OneOrMore,
    /// Whom a token must be for (`aud`), one of these; empty: for anybody.
    pub audience: OneOrMore,
    /// How far the clocks of those who make tokens may be off.
    #[schemars(extend("x-maximum" = "10m"))]
    pub leeway: TimeSpan,
    /// Whether a token must say when it expires (`exp`).
    pub require_expiry: bool,
    /// False: a request without a token passes too; one with a bad token does not.
    pub required: bool,
    /// Whether the token is taken out of the request before it goes on.
    pub strip: bool,
    /// Names of claims, and the header fields of the request that are set to them; what the client sends in fields of these
    /// names never goes on. A name that begins with `/` is a path into the claims (RFC 6901). A list goes with commas; objects,
    /// and texts that could be read as something else, are left out.
    pub claims_to_headers: BTreeMap<String, String>,
    /// The claim that says who the client is, to plugins behind this one such as `rate-limit`; null for none.
    pub identity: Option<String>,
    /// Whether tokens are looked at before the route is found, so that predicates of routes can go by `claims_to_headers`. Only
    /// for global plugins.
    pub before_routing: bool,
    /// What clients are told to need a token for.
    pub realm: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            from: vec!["bearer".to_owned()],
            keys: Vec::new(),
            algorithms: Vec::new(),
            issuer: OneOrMore::default(),
            audience: OneOrMore::default(),
            leeway: TimeSpan::from_secs(30),
            require_expiry: true,
            required: true,
            strip: false,
            claims_to_headers: BTreeMap::new(),
            identity: Some("sub".to_owned()),
            before_routing: false,
            realm: "api".to_owned(),
        }
    }
}

/// A text, or a list of them.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(inline)]
pub(in crate::plugin::builtin) enum OneOrMore {
    /// One.
    One(String),
    /// Any number.
    More(Vec<String>),
}

impl Default for OneOrMore {
    fn default() -> Self {
        Self::More(Vec::new())
    }
}

impl OneOrMore {
    fn list(self) -> Vec<String> {
        match self {
            Self::One(one) => vec![one],
            Self::More(list) => list,
        }
    }
}

/// One key, or a set of them: exactly one of `secret`, `pem`, `jwks` and `jwks_url`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::plugin::builtin) struct KeyOptions {
    /// The `kid` of tokens that are signed with it. A key without one is tried for every token.
    pub kid: Option<String>,
    /// A secret of at least 32 bytes.
    pub secret: Option<Secret>,
    /// A PEM file with a public key.
    pub pem: Option<PathBuf>,
    /// A file with a set of keys (RFC 7517).
    pub jwks: Option<PathBuf>,
    /// Where a set of keys is fetched, by `https://` or `http://`. Secrets in it are left out.
    pub jwks_url: Option<String>,
    /// A PEM file with the certificates of those who may vouch for the server of `jwks_url`, with `https://`; those whom the
    /// host trusts when left out.
    pub jwks_ca: Option<PathBuf>,
    /// How often it is fetched, with `jwks_url`; 10 minutes when left out.
    #[schemars(with = "TimeSpan", extend("x-minimum" = "1s", "x-maximum" = "24h"))]
    pub refresh: Option<TimeSpan>,
    /// How long after a fetch a token with an unknown key may cause another, with `jwks_url`; 10 seconds when left out.
    #[schemars(with = "TimeSpan", extend("x-minimum" = "100ms", "x-maximum" = "1h"))]
    pub cooldown: Option<TimeSpan>,
}

/// Keys as they are read from the options.
#[derive(Default)]
struct Reading {
    keys: Vec<Key>,
    sources: Vec<std::sync::Arc<Source>>,
    mistakes: Vec<Mistake>,
}

impl Reading {
    fn fail(&mut self, index: usize, key: &str, expected: impl Into<String>, found: impl Into<String>) {
        let (expected, found) = (expected.into(), found.into());
        self.mistakes.push(Mistake { path: vec!["keys".into(), index.into(), key.into()], expected, found });
    }

    fn read(&mut self, index: usize, options: &KeyOptions, context: &BuildContext<'_>) {
        let KeyOptions { kid, secret, pem, jwks, jwks_url, jwks_ca, refresh, cooldown } = options;
        let given = [secret.is_some(), pem.is_some(), jwks.is_some(), jwks_url.is_some()];
        let count = given.iter().filter(|is_given| **is_given).count();
        if count != 1 {
            let expected = "exactly one of \"secret\", \"pem\", \"jwks\" and \"jwks_url\"";
            return self.mistakes.push(Mistake::at_index("keys", index, expected, format!("{count} of them")));
        }
        let of_url = [("jwks_ca", jwks_ca.is_some()), ("refresh", refresh.is_some()), ("cooldown", cooldown.is_some())];
        if let Some((key, _)) = of_url.iter().find(|(_, is_given)| *is_given && jwks_url.is_none()) {
            self.fail(index, key, "\"jwks_url\" beside it", "another kind of key");
        }
        if kid.is_some() && secret.is_none() && pem.is_none() {
            self.fail(index, "kid", "nothing: the keys of a set have their own", "a name");
        }
        if let Some(secret) = secret {
            match read_secret(secret, context) {
                Ok(material) => self.keys.push(Key { kid: kid.clone(), only: None, material }),
                Err((expected, found)) => self.fail(index, "secret", expected, found),
            }
        }
        if let Some(pem) = pem {
            let path = context.base_dir.join(pem);
            let read = auth_file::read_whole(&path).map_err(|FileError { expected, found }| (expected, found));
            let place = |(expected, found)| (expected, format!("{found} in \"{}\"", path.display()));
            match read.and_then(|text| read_pem(&text).map_err(place)) {
                Ok(material) => self.keys.push(Key { kid: kid.clone(), only: None, material }),
                Err((expected, found)) => self.fail(index, "pem", expected, found),
            }
        }
        if let Some(jwks) = jwks {
            let path = context.base_dir.join(jwks);
            let read = auth_file::read_whole(&path).map_err(|FileError { expected, found }| (expected, found));
            let place = |found| ("a set of keys (RFC 7517)".to_owned(), format!("{found} in \"{}\"", path.display()));
            match read.and_then(|text| read_jwks(&text, Origin::File).map_err(place)) {
                Ok(keys) => self.keys.extend(keys),
                Err((expected, found)) => self.fail(index, "jwks", expected, found),
            }
        }
        if let Some(url) = jwks_url {
            let refresh = refresh.unwrap_or(TimeSpan::from_secs(600)).get();
            let cooldown = cooldown.unwrap_or(TimeSpan::from_secs(10)).get();
            match Url::read(url) {
                Ok(read) if jwks_ca.is_some() && !read.is_https() => {
                    self.fail(index, "jwks_ca", "an https:// URL in \"jwks_url\"", format!("{url:?}"));
                }
                Ok(url) => match jwks_ca.as_ref().map(|path| read_roots(&context.base_dir.join(path))).transpose() {
                    Ok(roots) => self.sources.push(Source::of(url, roots, refresh, cooldown)),
                    Err(FileError { expected, found }) => self.fail(index, "jwks_ca", expected, found),
                },
                Err(expected) => self.fail(index, "jwks_url", expected, format!("{url:?}")),
            }
        }
    }

    /// The algorithms that are allowed.
    fn algorithms(&mut self, names: &[String]) -> Vec<Algorithm> {
        let mut algorithms = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let Some(algorithm) = Algorithm::find(name) else {
                let known: Vec<_> = Algorithm::ALL.iter().map(|known| format!("\"{}\"", known.name())).collect();
                let expected = format!("one of {}", known.join(", "));
                self.mistakes.push(Mistake::at_index("algorithms", index, expected, format!("{name:?}")));
                continue;
            };
            // What keys a set at a URL has, nobody knows yet.
            let is_possible = !self.sources.is_empty() || self.keys.iter().any(|key| key.is_for(algorithm));
            if !is_possible && self.mistakes.is_empty() {
                let expected = "an algorithm that one of the keys has";
                self.mistakes.push(Mistake::at_index("algorithms", index, expected, format!("{name:?}")));
            }
            algorithms.push(algorithm);
        }
        algorithms
    }
}

fn read_roots(path: &Path) -> Result<Roots, FileError> {
    Roots::of_pem(&auth_file::read_whole(path)?).map_err(|found| FileError {
        expected: "certificates of authorities (BEGIN CERTIFICATE)".to_owned(),
        found: format!("{found} in \"{}\"", path.display()),
    })
}

fn read_secret(secret: &Secret, context: &BuildContext<'_>) -> Result<Material, (String, String)> {
    let secret = secret.read(context.base_dir)?;
    let expected = || format!("a secret of at least {SECRET_BYTES_MIN} bytes");
    if secret.trim_ascii_start().starts_with(b"-----BEGIN") {
        // With a public key for a secret, everybody could sign.
        return Err((expected(), "a PEM text; the file of a public key belongs to \"pem\"".to_owned()));
    }
    if secret.len() < SECRET_BYTES_MIN {
        return Err((expected(), format!("one of {} bytes", secret.len())));
    }
    Ok(Material::Secret(secret))
}

impl Build<Options> for Jwt {
    // Files may have changed; what was fetched stays where it is.
    const KEEPS_STATE: bool = false;

    fn build(options: Options, context: &BuildContext<'_>) -> Result<Self, Vec<Mistake>> {
        let mut reading = Reading::default();
        for (index, key) in options.keys.iter().enumerate() {
            reading.read(index, key, context);
        }
        if options.keys.is_empty() {
            reading.mistakes.push(Mistake::at("keys", "at least one key", "none"));
        }
        let algorithms = reading.algorithms(&options.algorithms);
        let Reading { keys, sources, mut mistakes } = reading;
        let places = Place::read_list("from", &options.from, &mut mistakes);
        for (claim, name) in &options.claims_to_headers {
            check_field_name(
                &["claims_to_headers".into(), claim.as_str().into()],
                name,
                is_request_field,
                &mut mistakes,
            );
        }
        if options.before_routing && !context.is_global {
            let expected = "false: the route is found before its plugins run";
            mistakes.push(Mistake::at("before_routing", expected, "true on a route"));
        }
        let is_plain = |realm: &str| realm.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\');
        if !is_plain(&options.realm) {
            let expected = "a text of ASCII without quotes and backslashes";
            mistakes.push(Mistake::at("realm", expected, format!("{:?}", options.realm)));
        }
        if !mistakes.is_empty() {
            return Err(mistakes);
        }
        let rules = Rules {
            algorithms,
            issuers: options.issuer.list(),
            audiences: options.audience.list(),
            leeway: options.leeway.get(),
            needs_expiry: options.require_expiry,
        };
        let Options { required, strip, before_routing, identity, realm, .. } = options;
        let headers = options.claims_to_headers.into_iter().map(|(claim, name)| (name, claim)).collect();
        Ok(Self { places, rules, keys, sources, required, strip, before_routing, headers, identity, realm })
    }
}
