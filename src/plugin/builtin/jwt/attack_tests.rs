//! What attackers have done to other implementations (RFC 8725 and the advisories since).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use ring::{hmac, rand};
use serde_json::json;

use super::jwks::{Origin, read_jwks};
use super::key::{Algorithm, Curve, Key, Material};
use super::pem::read_pem;
use super::tests::{NOW, SECRET, check, decode, encode, foreign, key, rsa, rules, secret, sign_hs};
use super::token::{Refusal, Rules, verify};

/// Claims that are good.
fn claims() -> String {
    json!({ "exp": NOW.as_secs() + 60 }).to_string()
}

fn point(pair: &EcdsaKeyPair) -> Key {
    key(Some("ec"), Material::point(Curve::P256, pair.public_key().as_ref()).unwrap())
}

#[test]
fn a_signature_is_of_the_one_form_that_its_algorithm_has() {
    let random = rand::SystemRandom::new();
    let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let fixed = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, made.as_ref(), &random).unwrap();
    let der = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, made.as_ref(), &random).unwrap();
    let keys = [point(&fixed)];
    let signed = format!("{}.{}", encode(r#"{"alg":"ES256","kid":"ec"}"#), encode(claims()));
    let with = |signature: &[u8]| check(&format!("{signed}.{}", encode(signature)), &keys).map(|_| ());
    let good = fixed.sign(&random, signed.as_bytes()).unwrap();
    assert_eq!(with(good.as_ref()), Ok(()));
    assert_eq!(with(der.sign(&random, signed.as_bytes()).unwrap().as_ref()), Err(Refusal::Signature), "in DER");
    // Zeros are a signature of everything where nobody looks whether they are in range (CVE-2022-21449).
    for zeros in [&[0; 64][..], &[0; 0], &[0; 63], &[0; 65], &[0; 96]] {
        assert_eq!(with(zeros), Err(Refusal::Signature), "{} zeros", zeros.len());
    }
    let order = decode("_____wAAAAD__________7zm-q2nF56E87nKwvxjJVE");
    assert_eq!(with(&[&order[..], &order].concat()), Err(Refusal::Signature), "the order of the curve, which is none");
    assert_eq!(with(&[&good.as_ref()[32..], &good.as_ref()[..32]].concat()), Err(Refusal::Signature));
    assert_eq!(with(&[good.as_ref(), &[0]].concat()), Err(Refusal::Signature));
}

#[test]
fn no_algorithm_takes_an_empty_or_a_shortened_signature() {
    let p384 = key(None, read_pem(include_bytes!("../../../../tests/data/jwt/p384.pem")).unwrap());
    let ed = key(None, Material::ed25519(&decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")).unwrap());
    let long = key(None, Material::Secret(vec![7; 64]));
    let keys = [rsa(), secret(), p384, ed, long];
    for algorithm in Algorithm::ALL {
        let signed = format!("{}.{}", encode(json!({ "alg": algorithm.name() }).to_string()), encode(claims()));
        let refused = if *algorithm == Algorithm::Es256 { Refusal::Unfit } else { Refusal::Signature };
        for zeros in [0, 1, 32, 64, 96, 256] {
            let token = format!("{signed}.{}", encode(vec![0; zeros]));
            assert_eq!(check(&token, &keys), Err(refused), "{} {zeros}", algorithm.name());
        }
        assert_eq!(check(&signed, &keys), Err(Refusal::Malformed), "{}: two pieces", algorithm.name());
    }
    let signed = format!("{}.{}", encode(r#"{"alg":"HS256"}"#), encode(claims()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), signed.as_bytes());
    for length in 0..32 {
        let token = format!("{signed}.{}", encode(&tag.as_ref()[..length]));
        assert_eq!(check(&token, &[secret()]), Err(Refusal::Signature), "{length} bytes of a tag");
    }
    assert!(check(&format!("{signed}.{}", encode(tag)), &[secret()]).is_ok());
}

#[test]
fn a_key_under_which_one_signature_is_good_for_everything_is_none() {
    // With the neutral element for a key, `R = S * B - h * A` holds for `R` the same and `S` zero, whatever is signed.
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let (signature, weak) = ([&neutral[..], &[0; 32]].concat(), key(None, Material::Ed25519(neutral)));
    let token = format!("{}.{}.{}", encode(r#"{"alg":"EdDSA"}"#), encode(claims()), encode(&signature));
    assert!(check(&token, &[weak]).is_ok(), "nobody else refuses it; if ring does now, this may go");
    for low in [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
    ] {
        let byte = |at: usize| u8::from_str_radix(&low[2 * at..2 * at + 2], 16).unwrap();
        let mut point: [u8; 32] = std::array::from_fn(byte);
        for sign in [0, 0x80] {
            point[31] = point[31] & 0x7f | sign;
            let jwk = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "x": encode(point) }] });
            assert!(read_jwks(jwk.to_string().as_bytes(), Origin::File).is_err(), "{low}");
            let der = [&[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00][..], &point].concat();
            let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der));
            assert!(read_pem(pem.as_bytes()).is_err(), "{low}");
        }
    }
}

#[test]
fn a_point_that_is_not_on_its_curve_verifies_nothing() {
    let random = rand::SystemRandom::new();
    let made = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, made.as_ref(), &random).unwrap();
    let mut off = pair.public_key().as_ref().to_vec();
    *off.last_mut().unwrap() ^= 1;
    let signed = format!("{}.{}", encode(r#"{"alg":"ES256"}"#), encode(claims()));
    let token = format!("{signed}.{}", encode(pair.sign(&random, signed.as_bytes()).unwrap()));
    for bytes in [off, [&[4][..], &[0; 64]].concat()] {
        let off = key(None, Material::point(Curve::P256, &bytes).unwrap());
        assert_eq!(check(&token, &[off]), Err(Refusal::Signature));
    }
    assert!(check(&token, &[point(&pair)]).is_ok());
}

#[test]
fn a_kid_selects_no_key_for_an_algorithm_that_is_not_the_keys() {
    // Also where another key would have been good, which it does not name.
    for (alg, kid, wanted) in [
        ("HS256", "rsa-1", Refusal::Unfit),
        ("ES256", "rsa-1", Refusal::Unfit),
        ("EdDSA", "rsa-1", Refusal::Unfit),
        ("RS256", "s", Refusal::Unfit),
        ("HS512", "s", Refusal::Unfit),
        ("HS256", "S", Refusal::UnknownKey { is_named: true }),
        ("HS256", "", Refusal::UnknownKey { is_named: true }),
        ("HS256", "../../../dev/null", Refusal::UnknownKey { is_named: true }),
        ("HS256", "s' OR '1'='1", Refusal::UnknownKey { is_named: true }),
    ] {
        let token = sign_hs(SECRET, &json!({ "alg": alg, "kid": kid }).to_string(), &claims());
        assert_eq!(check(&token, &[rsa(), secret()]), Err(wanted), "{alg} {kid}");
    }
    // Two keys of one name: each for its own algorithms.
    let same = Key { kid: Some("rsa-1".to_owned()), ..secret() };
    let token = sign_hs(SECRET, r#"{"alg":"HS256","kid":"rsa-1"}"#, &claims());
    assert!(check(&token, &[rsa(), same]).is_ok());
    let with_modulus = sign_hs(&decode(&foreign("n")), r#"{"alg":"HS256","kid":"rsa-1"}"#, &claims());
    assert_eq!(
        check(&with_modulus, &[rsa(), Key { kid: Some("rsa-1".to_owned()), ..secret() }]),
        Err(Refusal::Signature)
    );
}

#[test]
fn keys_that_come_with_a_token_are_not_looked_at() {
    let own = encode([7; 32]);
    for header in [
        json!({ "alg": "HS256", "jwk": { "kty": "oct", "k": own } }),
        json!({ "alg": "HS256", "jku": "http://127.0.0.1:1/jwks.json", "kid": "theirs" }),
        json!({ "alg": "HS256", "x5u": "http://127.0.0.1:1/cert.pem" }),
        json!({ "alg": "HS256", "x5c": ["MIIB"], "x5t": "AAAA", "x5t#S256": "AAAA" }),
    ] {
        let forged = sign_hs(&[7; 32], &header.to_string(), &claims());
        assert!(check(&forged, &[rsa(), secret()]).is_err(), "{header}");
        let mut honest = header.clone();
        honest.as_object_mut().unwrap().remove("kid");
        assert!(check(&sign_hs(SECRET, &honest.to_string(), &claims()), &[secret()]).is_ok(), "{honest}");
    }
}

#[test]
fn a_token_has_three_pieces_of_base64url_in_the_one_way_that_they_can_be_written() {
    let good = sign_hs(SECRET, r#"{"alg":"HS256"}"#, &claims());
    assert!(check(&good, &[secret()]).is_ok());
    let [header, payload, signature]: [&str; 3] = good.split('.').collect::<Vec<_>>().try_into().unwrap();
    // The last character of 32 bytes has two bits that count for nothing: another one would be a second name for the same.
    let other_end = |text: &str| {
        let last = text.chars().last().unwrap();
        let next = char::from(u8::try_from(u32::from(last)).unwrap() + 1);
        format!("{}{next}", &text[..text.len() - 1])
    };
    for bad in [
        format!("{header}.{payload}"),
        format!("{header}.{payload}."),
        format!("{header}.{payload}.{signature}."),
        format!("{header}.{payload}.{signature}.{signature}"),
        format!("{header}.{payload}..{signature}.{signature}"),
        format!(".{payload}.{signature}"),
        format!("{header}..{signature}"),
        format!("{header}=.{payload}.{signature}"),
        format!("{header}.{payload}=.{signature}"),
        format!("{header}.{payload}.{signature}="),
        format!("{header}.{payload}.{signature} "),
        format!("{header}.{payload}.{signature}\n"),
        format!("{header}. {payload}.{signature}"),
        format!("{header}.{payload}.{}\n{}", &signature[..10], &signature[10..]),
        format!("{header}.{payload}.{}", other_end(signature)),
        format!("{header}.{payload}.{}", signature.replace('-', "+").replace('_', "/") + "+"),
        format!("{header}.{payload}.%{signature}"),
        format!("{header}\0.{payload}.{signature}"),
    ] {
        assert!(check(&bad, &[secret()]).is_err(), "{bad}");
    }
    // A text whose encoding differs between the two alphabets, signed as it stands.
    let standard = STANDARD.encode(r#"{"alg":"HS256","x":"???>>>"}"#);
    assert!(standard.contains(['+', '/']));
    let signed = format!("{}.{payload}", standard.trim_end_matches('='));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, SECRET), signed.as_bytes());
    assert_eq!(check(&format!("{signed}.{}", encode(tag)), &[secret()]), Err(Refusal::Malformed));
}

#[test]
fn headers_that_two_readers_could_read_in_two_ways_are_refused() {
    for header in [
        r#"{"alg":"none","alg":"HS256"}"#,
        r#"{"alg":"HS256","\u0061lg":"none"}"#,
        r#"{"alg":"HS256","kid":"s","kid":"x"}"#,
        r#"{"alg":"HS256""#,
        r#"{"alg":"HS256"}{"alg":"none"}"#,
        r#"{"alg":"HS256",}"#,
        r#"{'alg':'HS256'}"#,
        r#"[{"alg":"HS256"}]"#,
        r#"{"ALG":"HS256"}"#,
        "\u{feff}{\"alg\":\"HS256\"}",
        r#"{"alg":"HS256","x":[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]}"#,
        r#"{"alg":null}"#,
        r#"{"alg":"HS256","kid":null}"#,
    ] {
        assert_eq!(check(&sign_hs(SECRET, header, &claims()), &[secret()]), Err(Refusal::Malformed), "{header}");
    }
    for crit in ["[]", "null", r#"["exp"]"#, r#"["b64"]"#, r#"["http://example.com/UNDEFINED"]"#, "1"] {
        let token = sign_hs(SECRET, &format!(r#"{{"alg":"HS256","crit":{crit}}}"#), &claims());
        assert_eq!(check(&token, &[secret()]), Err(Refusal::Extension), "{crit}");
    }
}

#[test]
fn times_are_numbers_that_can_be_compared() {
    let now = NOW.as_secs();
    let rules = Rules { leeway: Duration::ZERO, ..rules() };
    let judge = |claims: &str| {
        let token = sign_hs(SECRET, r#"{"alg":"HS256"}"#, claims);
        verify(token.as_bytes(), [secret()].iter(), &rules, NOW).map(|_| ())
    };
    for (exp, wanted) in [
        ("1e400".to_owned(), Err(Refusal::Claims)),
        ("-1e400".to_owned(), Err(Refusal::Claims)),
        ("1e308".to_owned(), Ok(())),
        ("-1".to_owned(), Err(Refusal::Expired)),
        ("-0.0".to_owned(), Err(Refusal::Expired)),
        ("NaN".to_owned(), Err(Refusal::Claims)),
        ("Infinity".to_owned(), Err(Refusal::Claims)),
        ("9223372036854775808".to_owned(), Ok(())),
        ("18446744073709551616".to_owned(), Ok(())),
        ("-9223372036854775809".to_owned(), Err(Refusal::Expired)),
        (format!("{now}.5"), Ok(())),
        (format!("{now}"), Err(Refusal::Expired)),
        (format!("\"{}\"", now + 60), Err(Refusal::Claims)),
        (format!("[{}]", now + 60), Err(Refusal::Claims)),
        ("true".to_owned(), Err(Refusal::Claims)),
        ("{}".to_owned(), Err(Refusal::Claims)),
    ] {
        assert_eq!(judge(&format!("{{\"exp\":{exp}}}")), wanted, "{exp}");
    }
    for name in ["nbf", "iat"] {
        for (begin, wanted) in [
            ("9223372036854775808", Err(Refusal::NotYetValid)),
            ("1e300", Err(Refusal::NotYetValid)),
            ("1e400", Err(Refusal::Claims)),
            ("-1e300", Ok(())),
            ("0", Ok(())),
            ("\"0\"", Err(Refusal::Claims)),
            ("null", Err(Refusal::Claims)),
        ] {
            let found = judge(&format!("{{\"exp\":{},\"{name}\":{begin}}}", now + 60));
            assert_eq!(found, wanted, "{name} {begin}");
        }
    }
}

#[test]
fn an_audience_is_a_text_or_a_list_and_is_compared_whole() {
    let rules = Rules { audiences: vec!["api".to_owned()], ..rules() };
    for (aud, wanted) in [
        (json!("api"), true),
        (json!(["other", "api"]), true),
        (json!("api "), false),
        (json!("API"), false),
        (json!("api,other"), false),
        (json!("a"), false),
        (json!(""), false),
        (json!([]), false),
        (json!([["api"]]), false),
        (json!([{ "api": "api" }]), false),
        (json!({ "0": "api" }), false),
        (json!(null), false),
        (json!(true), false),
    ] {
        let token =
            sign_hs(SECRET, r#"{"alg":"HS256"}"#, &json!({ "exp": NOW.as_secs() + 60, "aud": aud }).to_string());
        assert_eq!(verify(token.as_bytes(), [secret()].iter(), &rules, NOW).is_ok(), wanted, "{aud}");
    }
}

#[test]
fn keys_that_are_too_short_or_for_something_else_are_left_out_of_a_set() {
    let short: Vec<_> = std::iter::once(0xc1).chain([0xab; 126]).chain([1]).collect();
    for jwk in [
        json!({ "kty": "RSA", "e": "AQAB", "n": encode(&short) }),
        json!({ "kty": "RSA", "e": "AQAB", "n": encode([&[0; 128][..], &short].concat()) }),
        json!({ "kty": "RSA", "e": "AQAB", "n": foreign("n"), "use": "enc" }),
        json!({ "kty": "RSA", "e": "AQAB", "n": foreign("n"), "use": ["sig"] }),
        json!({ "kty": "RSA", "e": "AQAB", "n": foreign("n"), "key_ops": ["sign"] }),
        json!({ "kty": "RSA", "e": "AQAB", "n": foreign("n"), "alg": "none" }),
        json!({ "kty": "RSA", "e": "", "n": foreign("n") }),
        json!({ "kty": "RSA", "e": "AQAB", "n": "" }),
        json!({ "kty": "oct", "k": "" }),
        json!({ "kty": "oct", "k": encode([1; 31]) }),
        json!({ "kty": "OKP", "crv": "X25519", "x": encode([9; 32]) }),
        json!({ "kty": "OKP", "crv": "Ed25519", "x": encode([9; 31]) }),
        json!({ "kty": "EC", "crv": "P-521", "x": encode([9; 66]), "y": encode([9; 66]) }),
        json!({ "kty": "EC", "crv": "secp256k1", "x": encode([9; 32]), "y": encode([9; 32]) }),
        json!({ "kty": "EC", "crv": "P-256", "x": encode([9; 48]), "y": encode([9; 16]) }),
    ] {
        let set = json!({ "keys": [jwk, { "kty": "RSA", "kid": "good", "e": "AQAB", "n": foreign("n") }] });
        let keys = read_jwks(set.to_string().as_bytes(), Origin::File).unwrap();
        assert!(keys.iter().map(|key| key.kid.as_deref()).eq([Some("good")]), "{set}");
    }
    let twice = format!(r#"{{"keys":[{{"kty":"RSA","e":"AQAB","n":"{0}","n":"{0}"}}]}}"#, foreign("n"));
    assert!(read_jwks(twice.as_bytes(), Origin::File).is_err(), "a name twice");
}

proptest! {
    #[test]
    fn a_token_of_any_length_is_judged_in_little_time(pieces in prop::collection::vec("[A-Za-z0-9_=-]{0,40}", 0..200)) {
        // Dots without end, and texts without end: nothing of it is decoded.
        let token = pieces.join(".");
        prop_assert!(check(&token, &[secret()]).is_err());
    }
}
