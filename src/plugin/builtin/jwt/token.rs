//! A token and what becomes of it: bytes, keys, rules and the time in; its claims out, or why it is refused. It neither reads
//! a clock nor waits.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::json::parse_object;
use super::key::{Algorithm, Key};
use crate::limits::{JWT_BYTES_MAX, JWT_KEYS_TRIED_MAX};

/// What a token must be.
#[derive(Clone, Debug, Default)]
pub(in crate::plugin::builtin) struct Rules {
    /// The algorithms that are allowed; empty: all that the keys have.
    pub(super) algorithms: Vec<Algorithm>,
    /// One of these made it; empty: anybody who has a key.
    pub(super) issuers: Vec<String>,
    /// It is for one of these at least; empty: for anybody.
    pub(super) audiences: Vec<String>,
    /// How far the issuer's clock may be off.
    pub(super) leeway: Duration,
    /// Whether it must say when it ends.
    pub(super) needs_expiry: bool,
}

/// Why a token is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::plugin::builtin) enum Refusal {
    /// It is no signed token, or too long.
    Malformed,
    /// Its algorithm is `none`, unknown or not allowed.
    Algorithm,
    /// The keys that it may mean are for other algorithms: such as HS256 where they are public ones, which everybody has.
    Unfit,
    /// It has extensions that must be understood (RFC 7515 section 4.1.11), and none is.
    Extension,
    /// No key that it may mean is known. Whether it names one.
    UnknownKey {
        /// A set of keys may have changed.
        is_named: bool,
    },
    /// The signature is not that of the key.
    Signature,
    /// A claim is of another type than it must be.
    Claims,
    /// It has ended.
    Expired,
    /// It does not say when it ends.
    Endless,
    /// It begins later.
    NotYetValid,
    /// Somebody else made it.
    Issuer,
    /// It is for somebody else.
    Audience,
}

impl Refusal {
    /// A sentence for the client.
    pub(in crate::plugin::builtin) const fn detail(self) -> &'static str {
        match self {
            Self::Malformed | Self::Extension | Self::Claims => "the token cannot be read",
            Self::Algorithm | Self::Unfit => "the token's algorithm is not allowed",
            Self::UnknownKey { .. } => "the token's key is not known",
            Self::Signature => "the token's signature is not valid",
            Self::Expired => "the token has expired",
            Self::Endless => "the token does not say when it expires",
            Self::NotYetValid => "the token is not valid yet",
            Self::Issuer => "the token's issuer is not accepted",
            Self::Audience => "the token is for another audience",
        }
    }
}

/// A token that is good.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::plugin::builtin) struct Verified {
    pub(super) claims: Map<String, Value>,
    /// Since the epoch: before and from then on it is refused.
    pub(super) not_before: f64,
    pub(super) until: f64,
}

/// What a token consists of.
struct Parts<'t> {
    algorithm: &'t str,
    kid: Option<&'t str>,
    /// What the signature is over.
    signed: &'t [u8],
    payload: &'t [u8],
    signature: Vec<u8>,
}

/// Verifies a token in the compact form (RFC 7515 section 7.1) at a time since the epoch.
///
/// # Errors
/// Why it is refused.
pub(super) fn verify<'k>(
    token: &[u8],
    keys: impl Iterator<Item = &'k Key> + Clone,
    rules: &Rules,
    now: Duration,
) -> Result<Verified, Refusal> {
    if token.len() > JWT_BYTES_MAX {
        return Err(Refusal::Malformed);
    }
    let mut pieces = token.split(|&b| b == b'.');
    let (Some(head), Some(payload), Some(signature), None) =
        (pieces.next(), pieces.next(), pieces.next(), pieces.next())
    else {
        return Err(Refusal::Malformed);
    };
    let header = decode(head).and_then(|json| parse_object(&json)).ok_or(Refusal::Malformed)?;
    let parts = Parts {
        algorithm: header.get("alg").and_then(Value::as_str).ok_or(Refusal::Malformed)?,
        kid: header.get("kid").map(|kid| kid.as_str().ok_or(Refusal::Malformed)).transpose()?,
        signed: &token[..head.len() + 1 + payload.len()],
        payload,
        signature: decode(signature).ok_or(Refusal::Malformed)?,
    };
    // `b64` changes what is signed (RFC 7797), and is to be named by `crit` where it is used.
    if header.contains_key("crit") || header.contains_key("b64") {
        return Err(Refusal::Extension);
    }
    check_signature(&parts, keys, rules)?;
    let claims = decode(parts.payload).and_then(|json| parse_object(&json)).ok_or(Refusal::Claims)?;
    check_claims(claims, rules, now)
}

fn decode(text: &[u8]) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

fn check_signature<'k>(
    parts: &Parts<'_>,
    keys: impl Iterator<Item = &'k Key> + Clone,
    rules: &Rules,
) -> Result<(), Refusal> {
    let algorithm = Algorithm::find(parts.algorithm).ok_or(Refusal::Algorithm)?;
    if !rules.algorithms.is_empty() && !rules.algorithms.contains(&algorithm) {
        return Err(Refusal::Algorithm);
    }
    if !keys.clone().any(|key| key.is_named(parts.kid)) {
        return Err(Refusal::UnknownKey { is_named: parts.kid.is_some() });
    }
    let fits = |key: &&Key| key.is_named(parts.kid) && key.is_for(algorithm);
    let is_meant = |key: &&Key| key.kid.is_some() && parts.kid.is_some();
    // Those that it names come first, so that the bound on keys that are tried leaves out none of them.
    let others = keys.clone().filter(fits).filter(|key| !is_meant(key));
    let mut fitting = keys.filter(fits).filter(is_meant).chain(others).peekable();
    if fitting.peek().is_none() {
        return Err(Refusal::Unfit);
    }
    let is_good = fitting.take(JWT_KEYS_TRIED_MAX).any(|key| key.verify(algorithm, parts.signed, &parts.signature));
    if is_good { Ok(()) } else { Err(Refusal::Signature) }
}

/// Looks at the registered claims (RFC 7519 section 4.1).
fn check_claims(claims: Map<String, Value>, rules: &Rules, now: Duration) -> Result<Verified, Refusal> {
    let time = |name: &str| match claims.get(name) {
        None => Ok(None),
        // Seconds, with a fraction or without (`NumericDate`).
        Some(value) => value.as_f64().filter(|seconds| seconds.is_finite()).map(Some).ok_or(Refusal::Claims),
    };
    let (now, leeway) = (now.as_secs_f64(), rules.leeway.as_secs_f64());
    let until = match time("exp")? {
        Some(expiry) => expiry + leeway,
        None if rules.needs_expiry => return Err(Refusal::Endless),
        None => f64::INFINITY,
    };
    let not_before = time("nbf")?.map_or(f64::NEG_INFINITY, |begin| begin - leeway);
    // One that will be made tomorrow is forged, or its issuer's clock is off by more than is allowed.
    let made = time("iat")?.map_or(f64::NEG_INFINITY, |made| made - leeway);
    let verified = Verified { not_before: not_before.max(made), until, claims };
    verified.check_time(now)?;
    let claims = &verified.claims;
    if !rules.issuers.is_empty() {
        let issuer = claims.get("iss").ok_or(Refusal::Issuer)?.as_str().ok_or(Refusal::Claims)?;
        rules.issuers.iter().find(|known| *known == issuer).ok_or(Refusal::Issuer)?;
    }
    if !rules.audiences.is_empty() {
        let is_ours = |name: &Value| name.as_str().is_some_and(|name| rules.audiences.iter().any(|own| own == name));
        let is_meant = match claims.get("aud") {
            None => false,
            Some(Value::Array(names)) => names.iter().any(is_ours),
            Some(name) => is_ours(name),
        };
        if !is_meant {
            return Err(Refusal::Audience);
        }
    }
    Ok(verified)
}

impl Verified {
    /// Whether it is good at this time too, in seconds since the epoch.
    ///
    /// # Errors
    /// [`Refusal::Expired`], [`Refusal::NotYetValid`].
    pub(super) fn check_time(&self, now: f64) -> Result<(), Refusal> {
        if now >= self.until {
            return Err(Refusal::Expired);
        }
        if now < self.not_before { Err(Refusal::NotYetValid) } else { Ok(()) }
    }

    /// The claim of this name; one that begins with `/` is a path into the claims (RFC 6901).
    pub(super) fn claim(&self, name: &str) -> Option<&Value> {
        let Some(path) = name.strip_prefix('/') else { return self.claims.get(name) };
        let mut steps = path.split('/').map(|step| step.replace("~1", "/").replace("~0", "~"));
        let first = self.claims.get(&steps.next()?)?;
        steps.try_fold(first, |value, step| match value {
            Value::Object(members) => members.get(&step),
            // RFC 6901 section 4: digits, without zeros in front.
            Value::Array(list) => list.get(step.parse::<usize>().ok().filter(|index| index.to_string() == step)?),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
        })
    }

    /// A claim as a header field's value: a text as it is, a list with commas. `None` for what could be read as something else:
    /// an object, a list in a list, a text with a control character or a blank at an end, one with a comma in a list.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        let text = match self.claim(name)? {
            Value::Array(list) => {
                let texts: Option<Vec<_>> =
                    list.iter().map(|value| scalar(value).filter(|t| !t.contains(','))).collect();
                texts?.join(",")
            }
            value => scalar(value)?,
        };
        (!text.contains(char::is_control)).then_some(text)
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        // Whoever reads the field does not see blanks at its ends.
        Value::String(text) => (text.trim_matches(' ') == text).then(|| text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}
