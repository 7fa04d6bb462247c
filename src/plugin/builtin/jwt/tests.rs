//! Tokens from RFCs, from another implementation (`tests/data/jwt`) and made here; and what no token is.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use proptest::prelude::*;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use ring::{hmac, rand};
use serde_json::{Value, json};

use super::jwks::{Origin, read_jwks};
use super::key::{Algorithm, Curve, Key, Material};
use super::pem::read_pem;
use super::token::{Refusal, Rules, Verified, verify};

/// Within the life of the tokens in RFC 7515.
const THEN: Duration = Duration::from_secs(1_300_819_000);
/// Within the life of those in `tests/data/jwt`.
pub(super) const NOW: Duration = Duration::from_secs(1_800_000_000);

const RFC_PAYLOAD: &str =
    "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";

macro_rules! data {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/jwt/", $name))
    };
}

pub(super) fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

pub(super) fn decode(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

pub(super) fn key(kid: Option<&str>, material: Material) -> Key {
    Key { kid: kid.map(str::to_owned), only: None, material }
}

pub(super) fn foreign(name: &str) -> String {
    let tokens: Value = serde_json::from_str(data!("tokens.json")).unwrap();
    tokens[name].as_str().unwrap().to_owned()
}

pub(super) fn rsa() -> Key {
    key(Some("rsa-1"), read_pem(data!("rsa.pem").as_bytes()).unwrap())
}

pub(super) const SECRET: &[u8] = b"a secret of exactly 32 bytes ...";

pub(super) fn secret() -> Key {
    key(Some("s"), Material::Secret(SECRET.to_vec()))
}

/// Signed with HS256 under these bytes.
pub(super) fn sign_hs(secret: &[u8], header: &str, claims: &str) -> String {
    let signed = format!("{}.{}", encode(header), encode(claims));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
    format!("{signed}.{}", encode(signature))
}

fn hs(claims: Value) -> String {
    sign_hs(SECRET, r#"{"alg":"HS256","kid":"s"}"#, &claims.to_string())
}

pub(super) fn rules() -> Rules {
    Rules { needs_expiry: true, leeway: Duration::from_secs(30), ..Rules::default() }
}

pub(super) fn check(token: &str, keys: &[Key]) -> Result<Verified, Refusal> {
    verify(token.as_bytes(), keys.iter(), &rules(), NOW)
}

#[test]
fn the_examples_of_rfc_7515_and_8037_verify_and_nothing_like_them_does() {
    let secret = "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow";
    let set = json!({ "keys": [
        { "kty": "oct", "k": secret },
        { "kty": "RSA", "e": "AQAB", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ" },
        { "kty": "EC", "crv": "P-256", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
          "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0" },
        { "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" },
    ]});
    let keys = read_jwks(set.to_string().as_bytes(), Origin::File).unwrap();
    assert_eq!(keys.len(), 4);
    for (header, signature) in [
        ("eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
        (
            "eyJhbGciOiJSUzI1NiJ9",
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
        ),
        (
            "eyJhbGciOiJFUzI1NiJ9",
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
    ] {
        let token = format!("{header}.{RFC_PAYLOAD}.{signature}");
        let verified = verify(token.as_bytes(), keys.iter(), &rules(), THEN).unwrap();
        assert_eq!(verified.claim("iss"), Some(&"joe".into()));
        assert_eq!(verified.claim("/http:~1~1example.com~1is_root"), Some(&true.into()));
        assert_eq!(verify(token.as_bytes(), keys.iter(), &rules(), NOW), Err(Refusal::Expired));
        for at in 0..token.len() {
            let mut bent = token.clone().into_bytes();
            bent[at] = if bent[at] == b'A' { b'B' } else { b'A' };
            assert!(verify(&bent, keys.iter(), &rules(), THEN).is_err(), "{at}");
        }
    }
    // Its payload is a sentence and no claims: the signature is good, and it is no token.
    let signed = b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc";
    let signature = decode("hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg");
    assert!(keys[3].verify(Algorithm::EdDsa, signed, &signature));
    assert!(!keys[3].verify(Algorithm::EdDsa, &signed[1..], &signature));
    assert!(!keys[3].verify(Algorithm::Es256, signed, &signature));
}

#[test]
fn tokens_of_another_implementation_verify_with_keys_of_any_form() {
    let p384 = key(None, read_pem(data!("p384.pem").as_bytes()).unwrap());
    let pkcs1 = key(Some("rsa-1"), read_pem(data!("rsa-pkcs1.pem").as_bytes()).unwrap());
    assert!(rsa() == pkcs1);
    let jwk = json!({ "keys": [{ "kty": "RSA", "kid": "rsa-1", "e": "AQAB", "n": foreign("n") }] });
    assert!(read_jwks(jwk.to_string().as_bytes(), Origin::Network).unwrap() == [rsa()]);
    for name in ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"] {
        let verified = check(&foreign(name), &[rsa()]).unwrap();
        assert_eq!(verified.text("roles").as_deref(), Some("admin,editor"), "{name}");
        let only = Key { only: Some(Algorithm::Rs256), ..rsa() };
        assert_eq!(check(&foreign(name), &[only]).is_ok(), name == "RS256");
    }
    assert_eq!(check(&foreign("ES384"), std::slice::from_ref(&p384)).unwrap().claim("sub"), Some(&"ann".into()));
    assert_eq!(check(&foreign("ES384"), &[rsa()]), Err(Refusal::Unfit));
}

#[test]
fn signatures_of_keys_made_here_verify() {
    let random = rand::SystemRandom::new();
    let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let ec = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, made.as_ref(), &random).unwrap();
    let made = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
    let ed = Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap();
    let point = Material::point(Curve::P256, ec.public_key().as_ref()).unwrap();
    let ed_key = Material::Ed25519(ed.public_key().as_ref().try_into().unwrap());
    let keys = [key(Some("ec"), point), key(Some("ed"), ed_key)];
    let claims = encode(json!({ "exp": NOW.as_secs() + 1 }).to_string());
    let ec_signed = format!("{}.{claims}", encode(r#"{"alg":"ES256","kid":"ec"}"#));
    let ed_signed = format!("{}.{claims}", encode(r#"{"alg":"EdDSA","kid":"ed"}"#));
    let ec_token = format!("{ec_signed}.{}", encode(ec.sign(&random, ec_signed.as_bytes()).unwrap()));
    let ed_token = format!("{ed_signed}.{}", encode(ed.sign(ed_signed.as_bytes())));
    assert!(check(&ec_token, &keys).is_ok() && check(&ed_token, &keys).is_ok());
    assert_eq!(check(&ec_token, &keys[1..]), Err(Refusal::UnknownKey { is_named: true }));
}

#[test]
fn what_a_token_says_of_its_algorithm_never_decides_what_a_key_is_used_for() {
    let claims = json!({ "sub": "mallory", "exp": NOW.as_secs() + 60 }).to_string();
    let none = |alg: &str| format!("{}.{}.", encode(format!(r#"{{"alg":"{alg}"}}"#)), encode(&claims));
    for alg in ["none", "None", "NONE", "nOnE", "", "hs256", "RS1", "HS256 "] {
        assert_eq!(check(&none(alg), &[rsa(), secret()]), Err(Refusal::Algorithm), "{alg}");
    }
    // The public key as the secret of HS256, in every form in which a mistaken implementation could take it.
    let pem = data!("rsa.pem");
    let modulus = decode(&foreign("n"));
    for confused in [pem.as_bytes(), pem.trim().as_bytes(), data!("rsa-pkcs1.pem").as_bytes(), &modulus] {
        for header in [r#"{"alg":"HS256","kid":"rsa-1"}"#, r#"{"alg":"HS256"}"#] {
            let token = sign_hs(confused, header, &claims);
            assert_eq!(check(&token, &[rsa()]), Err(Refusal::Unfit));
            assert!(check(&token, &[rsa(), secret()]).is_err());
        }
    }
    // An allow-list holds for keys that could do more.
    let rules = Rules { algorithms: vec![Algorithm::Ps256], ..rules() };
    assert_eq!(verify(foreign("RS256").as_bytes(), [rsa()].iter(), &rules, NOW), Err(Refusal::Algorithm));
    assert!(verify(foreign("PS256").as_bytes(), [rsa()].iter(), &rules, NOW).is_ok());
    // A key that comes with the token is not looked at (RFC 7515 section 4.1.3).
    let jwk = format!(r#"{{"alg":"HS256","jwk":{{"kty":"oct","k":"{}"}}}}"#, encode([7; 32]));
    assert_eq!(check(&sign_hs(&[7; 32], &jwk, &claims), &[rsa(), secret()]), Err(Refusal::Signature));
}

#[test]
fn a_token_is_tried_with_few_keys_and_with_the_one_that_it_names_first() {
    let other = |byte: u8| key(None, Material::Secret(vec![byte; 32]));
    let named = hs(json!({ "exp": NOW.as_secs() + 60 }));
    let unnamed = sign_hs(SECRET, r#"{"alg":"HS256"}"#, &json!({ "exp": NOW.as_secs() + 60 }).to_string());
    let few = [other(1), other(2), other(3), secret()];
    let many = [other(1), other(2), other(3), other(4), other(5), secret()];
    assert!(check(&named, &many).is_ok() && check(&unnamed, &few).is_ok());
    assert_eq!(check(&unnamed, &many), Err(Refusal::Signature));
}

#[test]
fn a_token_is_refused_for_its_time_its_issuer_and_its_audience() {
    let now = NOW.as_secs();
    let rules = Rules { issuers: vec!["a".into(), "b".into()], audiences: vec!["x".into(), "y".into()], ..rules() };
    let base = json!({ "exp": now + 60, "iss": "a", "aud": "x" });
    for (change, wanted) in [
        (json!({}), Ok(())),
        (json!({ "exp": now - 29 }), Ok(())),
        (json!({ "exp": now - 30 }), Err(Refusal::Expired)),
        (json!({ "exp": now as f64 - 29.5 }), Ok(())),
        (json!({ "exp": null }), Err(Refusal::Claims)),
        (json!({ "exp": "9999999999" }), Err(Refusal::Claims)),
        (json!({ "exp": -1 }), Err(Refusal::Expired)),
        (json!({ "exp": 1e300 }), Ok(())),
        (json!({ "nbf": now + 30 }), Ok(())),
        (json!({ "nbf": now + 31 }), Err(Refusal::NotYetValid)),
        (json!({ "nbf": [] }), Err(Refusal::Claims)),
        (json!({ "iat": now + 31 }), Err(Refusal::NotYetValid)),
        (json!({ "iat": now - 9999 }), Ok(())),
        (json!({ "iss": "b" }), Ok(())),
        (json!({ "iss": "A" }), Err(Refusal::Issuer)),
        (json!({ "iss": ["a"] }), Err(Refusal::Claims)),
        (json!({ "aud": "z" }), Err(Refusal::Audience)),
        (json!({ "aud": ["z", "y"] }), Ok(())),
        (json!({ "aud": [] }), Err(Refusal::Audience)),
        (json!({ "aud": { "x": "x" } }), Err(Refusal::Audience)),
    ] {
        let mut claims = base.clone();
        claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let token = hs(claims.clone());
        let found = verify(token.as_bytes(), [secret()].iter(), &rules, NOW).map(|_| ());
        assert_eq!(found, wanted, "{claims}");
    }
    let without = |name: &str| {
        let mut claims = base.clone();
        claims.as_object_mut().unwrap().remove(name);
        verify(hs(claims).as_bytes(), [secret()].iter(), &rules, NOW).map(|_| ())
    };
    assert_eq!(without("exp"), Err(Refusal::Endless));
    assert_eq!(without("iss"), Err(Refusal::Issuer));
    assert_eq!(without("aud"), Err(Refusal::Audience));
    let endless = Rules { needs_expiry: false, ..Rules::default() };
    assert!(verify(hs(json!({})).as_bytes(), [secret()].iter(), &endless, NOW).is_ok());
}

#[test]
fn what_is_no_token_is_refused_before_any_key_is_used() {
    let claims = r#"{"exp":9999999999}"#;
    let signed = |header: &str| sign_hs(SECRET, header, claims);
    for (token, wanted) in [
        (signed(r#"{"alg":"HS256","crit":["b64"],"b64":false}"#), Refusal::Extension),
        (signed(r#"{"alg":"HS256","crit":["exp"],"exp":1}"#), Refusal::Extension),
        (signed(r#"{"alg":"HS256","crit":[]}"#), Refusal::Extension),
        (signed(r#"{"alg":"HS256","b64":true}"#), Refusal::Extension),
        (signed(r#"{"alg":"HS256","alg":"HS256"}"#), Refusal::Malformed),
        (signed(r#"{"alg":"HS256","kid":7}"#), Refusal::Malformed),
        (signed(r#"{"alg":["HS256"]}"#), Refusal::Malformed),
        (signed(r#"{"typ":"JWT"}"#), Refusal::Malformed),
        (signed(r#""HS256""#), Refusal::Malformed),
        (signed(r#"{"alg":"HS256","kid":"other"}"#), Refusal::UnknownKey { is_named: true }),
        (format!("{}=", signed(r#"{"alg":"HS256"}"#)), Refusal::Malformed),
        (format!("{}.", signed(r#"{"alg":"HS256"}"#)), Refusal::Malformed),
        (format!(" {}", signed(r#"{"alg":"HS256"}"#)), Refusal::Malformed),
        (sign_hs(SECRET, r#"{"alg":"HS256"}"#, r#"{"exp":1,"exp":9999999999}"#), Refusal::Claims),
        (sign_hs(SECRET, r#"{"alg":"HS256"}"#, "[]"), Refusal::Claims),
        (sign_hs(SECRET, r#"{"alg":"HS256"}"#, &format!("{{\"a\":{}", "[".repeat(5000))), Refusal::Claims),
        (sign_hs(SECRET, r#"{"alg":"HS256"}"#, &" ".repeat(20_000)), Refusal::Malformed),
        (String::new(), Refusal::Malformed),
        ("..".to_owned(), Refusal::Malformed),
        ("a.b.c.d.e".to_owned(), Refusal::Malformed),
    ] {
        assert_eq!(check(&token, &[secret()]), Err(wanted), "{token:.100}");
    }
    assert!(check(&signed(r#"{"alg":"HS256","typ":"JWT"}"#), &[secret()]).is_ok());
}

#[test]
fn a_claim_becomes_a_field_only_where_it_can_be_read_in_one_way() {
    let claims = json!({ "exp": 9999999999_u64, "s": "a b", "n": 7, "f": 1.5, "t": true, "z": null, "o": { "in": ["x"] },
        "l": ["a", 1, true], "empty": [], "comma": ["a", "b,c"], "nested": [["a"]], "lines": "a\r\nX-Admin: 1",
        "a.b": "dot", "a/b": "slash", "front": " a", "back": "a ", "blanks": ["a", " b"] });
    let verified = check(&hs(claims), &[secret()]).unwrap();
    for (name, wanted) in [
        ("s", Some("a b")),
        ("n", Some("7")),
        ("f", Some("1.5")),
        ("t", Some("true")),
        ("l", Some("a,1,true")),
        ("empty", Some("")),
        ("/o/in/0", Some("x")),
        ("/o/in", Some("x")),
        ("/a~1b", Some("slash")),
        ("a.b", Some("dot")),
        ("a/b", Some("slash")),
        ("z", None),
        ("o", None),
        ("comma", None),
        ("nested", None),
        ("lines", None),
        ("front", None),
        ("back", None),
        ("blanks", None),
        ("/o/in/1", None),
        ("/o/in/00", None),
        ("/o/in/+0", None),
        ("/s/0", None),
        ("", None),
        ("absent", None),
    ] {
        assert_eq!(verified.text(name).as_deref(), wanted, "{name}");
    }
}

#[test]
fn a_set_has_only_keys_that_can_verify() {
    let n = foreign("n");
    let usable = |jwk: Value, origin| {
        read_jwks(json!({ "keys": [jwk] }).to_string().as_bytes(), origin).is_ok_and(|keys| keys.len() == 1)
    };
    let oct = json!({ "kty": "oct", "k": encode([1; 32]) });
    assert!(usable(oct.clone(), Origin::File) && !usable(oct, Origin::Network));
    for (change, wanted) in [
        (json!({}), true),
        (json!({ "use": "sig", "key_ops": ["verify"], "alg": "PS512", "x5c": ["ignored"] }), true),
        (json!({ "use": "enc" }), false),
        (json!({ "key_ops": ["encrypt"] }), false),
        (json!({ "alg": "RSA-OAEP" }), false),
        (json!({ "alg": "HS256" }), false),
        (json!({ "kid": 1 }), false),
        (json!({ "e": "AQ" }), false),
        (json!({ "n": "AQAB" }), false),
        (json!({ "n": format!("{n}=") }), false),
        (json!({ "kty": "rsa" }), false),
    ] {
        let mut jwk = json!({ "kty": "RSA", "n": n, "e": "AQAB" });
        jwk.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        assert_eq!(usable(jwk, Origin::Network), wanted, "{change}");
    }
    for bad in ["", "{}", "[]", r#"{"keys":{}}"#, r#"{"keys":[]}"#, r#"{"keys":[1,null]}"#] {
        assert!(read_jwks(bad.as_bytes(), Origin::File).is_err(), "{bad}");
    }
}

#[test]
fn a_pem_file_is_one_public_key_of_a_size_that_is_safe() {
    let rsa_pem = data!("rsa.pem");
    for (text, found) in [
        (data!("rsa1024.pem").to_owned(), "another kind or size"),
        (format!("{rsa_pem}{rsa_pem}"), "more than one"),
        (rsa_pem.replace("PUBLIC KEY", "PRIVATE KEY"), "a private key"),
        (rsa_pem.replace("PUBLIC KEY", "CERTIFICATE"), "something else"),
        (rsa_pem.replace("-----END PUBLIC KEY-----", ""), "without its end"),
        (rsa_pem.replacen('M', "*", 1), "broken"),
        (String::new(), "without one"),
    ] {
        let error = read_pem(text.as_bytes()).err().expect("an error").1;
        assert!(error.contains(found), "{error}");
    }
}

/// Texts that are nearly tokens.
fn token_like() -> impl Strategy<Value = Vec<u8>> {
    let header = prop_oneof![
        Just(r#"{"alg":"HS256","kid":"s"}"#.to_owned()),
        Just(r#"{"alg":"RS256"}"#.to_owned()),
        Just(r#"{"alg":"none"}"#.to_owned()),
        r#"\{"alg":"(HS|RS|PS|ES|none|EdDSA)(256|384|512)?"(,"(kid|crit|b64|jwk)":("s"|\[\]|1|\{\}))?\}"#,
        ".{0,20}",
    ];
    let claims = prop_oneof![Just(r#"{"exp":9999999999}"#.to_owned()), ".{0,40}"];
    let signature = prop::collection::vec(any::<u8>(), 0..80);
    let whole = (header, claims, signature)
        .prop_map(|(header, claims, signature)| format!("{}.{}.{}", encode(header), encode(claims), encode(signature)));
    prop_oneof![whole.prop_map(String::into_bytes), prop::collection::vec(any::<u8>(), 0..300)]
}

proptest! {
    #[test]
    fn no_bytes_panic_or_are_accepted_that_nobody_signed(token in token_like()) {
        let keys = [rsa(), secret(), key(None, read_pem(data!("p384.pem").as_bytes()).unwrap())];
        let open = Rules::default();
        prop_assert!(verify(&token, keys.iter(), &open, NOW).is_err());
    }

    #[test]
    fn signed_claims_are_read_as_another_reader_reads_them(
        claims in r#"(\{("(exp|aud|sub|\\u0061)":([0-9]{1,11}|1e99|"[a,\n]?"|\[("a",?){0,2}\]|null|\{\}),?){0,3}\}|.{0,10})"#,
    ) {
        super::oracle::check_claims_of_anybody(claims.as_bytes());
        super::oracle::check_token_of_anybody(claims.as_bytes());
    }

    #[test]
    fn a_signed_token_that_is_changed_anywhere_is_refused(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let token = foreign("RS256").into_bytes();
        let mut bent = token.clone();
        let at = at.index(bent.len());
        bent[at] = byte;
        prop_assert_eq!(verify(&bent, [rsa()].iter(), &rules(), NOW).is_ok(), bent == token);
    }

    #[test]
    fn no_bytes_panic_as_keys(bytes in prop::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>()) {
        let _ = read_pem(&bytes);
        let _ = read_jwks(&bytes, Origin::File);
        let mut der = data!("p384.pem").replace("-----BEGIN PUBLIC KEY-----", "").replace("-----END PUBLIC KEY-----", "");
        der.retain(|c| !c.is_whitespace());
        let mut der = base64::engine::general_purpose::STANDARD.decode(der).unwrap();
        let at = at.index(der.len());
        der[at] = bytes.first().copied().unwrap_or(0x80);
        let pem = base64::engine::general_purpose::STANDARD.encode(der);
        let _ = read_pem(format!("-----BEGIN PUBLIC KEY-----\n{pem}\n-----END PUBLIC KEY-----").as_bytes());
    }
}
