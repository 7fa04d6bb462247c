//! What holds for every token, and for all claims.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Map, Value};

use super::jwks::{Origin, read_jwks};
use super::key::{Key, Material};
use super::pem::read_pem;
use super::token::{Rules, verify};

/// What signs tokens here, and nobody else has.
const SECRET: &[u8] = b"a secret of exactly 32 bytes ...";
/// A time in the life of most tokens.
const NOW: Duration = Duration::from_secs(1_800_000_000);

fn key() -> Key {
    Key { kid: None, only: None, material: Material::Secret(SECRET.to_vec()) }
}

fn sign(signed: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), signed))
}

/// A token that is taken has the signature that signing it anew gives.
pub(in crate::plugin::builtin) fn check_token_of_anybody(data: &[u8]) {
    let _ = read_pem(data);
    let keys = read_jwks(data, Origin::File).unwrap_or_default();
    for found in &keys {
        assert!(!found.verify(super::key::Algorithm::Rs256, data, data), "a signature out of nothing");
    }
    if verify(data, [key()].iter(), &Rules::default(), NOW).is_ok() {
        let end = data.iter().rposition(|&b| b == b'.').expect("a token has dots");
        assert_eq!(sign(&data[..end]).as_bytes(), &data[end + 1..], "a token that nobody signed is taken");
    }
}

/// Claims are what another reader reads, and none of them can end a header field.
pub(in crate::plugin::builtin) fn check_claims_of_anybody(data: &[u8]) {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#), URL_SAFE_NO_PAD.encode(data));
    let token = format!("{signed}.{}", sign(signed.as_bytes()));
    let Ok(verified) = verify(token.as_bytes(), [key()].iter(), &Rules::default(), NOW) else { return };
    let other: Map<String, Value> = serde_json::from_slice(data).expect("claims that are taken are JSON");
    assert_eq!(verified.claims, other);
    let expiry = other.get("exp").and_then(Value::as_f64);
    assert!(expiry.is_none_or(|expiry| expiry > NOW.as_secs_f64()), "it has expired");
    for name in other.keys() {
        let text = verified.text(name).unwrap_or_default();
        assert!(!text.contains(['\r', '\n', '\0']), "{text:?}");
    }
}
