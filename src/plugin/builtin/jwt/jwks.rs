//! Sets of keys in JSON (RFC 7517).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use super::json::parse_object;
use super::key::{Algorithm, Curve, Key, Material};
use crate::limits::JWKS_KEYS_MAX;

/// Whom a set comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// The operator's file.
    File,
    /// The network: a secret that came that way is none, and is left out.
    Network,
}

/// The keys of a set that can verify signatures. Those of another kind or use are left out, as RFC 7517 section 5 wants it.
///
/// # Errors
/// What was found instead of a set with such a key.
pub(super) fn read_jwks(bytes: &[u8], origin: Origin) -> Result<Vec<Key>, String> {
    let set = parse_object(bytes).ok_or("what is no JSON object")?;
    let members = set.get("keys").and_then(Value::as_array).ok_or("an object without a list \"keys\"")?;
    if members.len() > JWKS_KEYS_MAX {
        return Err(format!("{} keys", members.len()));
    }
    let keys: Vec<_> = members.iter().filter_map(|member| read_jwk(member.as_object()?, origin)).collect();
    if keys.is_empty() { Err("a set without a key that can be used".to_owned()) } else { Ok(keys) }
}

fn read_jwk(jwk: &Map<String, Value>, origin: Origin) -> Option<Key> {
    let kid = match jwk.get("kid") {
        None => None,
        Some(kid) => Some(kid.as_str()?.to_owned()),
    };
    if jwk.get("use").is_some_and(|own| own != "sig") {
        return None;
    }
    if let Some(uses) = jwk.get("key_ops") {
        uses.as_array()?.iter().find(|own| *own == "verify")?;
    }
    let only = match jwk.get("alg") {
        None => None,
        Some(name) => Some(Algorithm::find(name.as_str()?)?),
    };
    let material = read_material(jwk, origin)?;
    let key = Key { kid, only, material };
    Algorithm::ALL.iter().any(|algorithm| key.is_for(*algorithm)).then_some(key)
}

fn read_material(jwk: &Map<String, Value>, origin: Origin) -> Option<Material> {
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(jwk.get(name)?.as_str()?).ok();
    let curve = jwk.get("crv").and_then(Value::as_str);
    match jwk.get("kty")?.as_str()? {
        "oct" if origin == Origin::File => Some(Material::Secret(bytes("k")?)),
        "RSA" => Material::rsa(&bytes("n")?, &bytes("e")?),
        "EC" => {
            let curve = match curve? {
                "P-256" => Curve::P256,
                "P-384" => Curve::P384,
                _ => return None,
            };
            // Each coordinate is as long as the curve's (RFC 7518 section 6.2.1.2).
            let (x, y) = (bytes("x")?, bytes("y")?);
            let fits = [&x, &y].iter().all(|coordinate| coordinate.len() == curve.coordinate_bytes());
            fits.then(|| Material::point(curve, &[&[4], &x[..], &y[..]].concat())).flatten()
        }
        "OKP" if curve == Some("Ed25519") => Material::ed25519(&bytes("x")?),
        _ => None,
    }
}
