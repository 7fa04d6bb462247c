//! `jwt`.

use std::fs;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use ring::{hmac, rand};
use ringfort::clock;
use serde_json::{Value, json};

use super::{data, echo, get, status};
use crate::support::upstream::{Upstream, ok};
use crate::support::{Response, Start, on_each_driver, on_hand, wait_until};

const SECRET: &str = "a secret of exactly 32 bytes ...";

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn now() -> u64 {
    clock::wall().as_secs()
}

/// Claims that are good now, with these changes.
fn claims(changes: Value) -> Value {
    let mut claims = json!({ "sub": "ann", "iss": "idp", "aud": "shop", "exp": now() + 600 });
    claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    claims
}

fn sign_hs(secret: &[u8], header: Value, claims: &Value) -> String {
    let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
    format!("{signed}.{}", encode(signature))
}

fn hs(changes: Value) -> String {
    sign_hs(SECRET.as_bytes(), json!({ "alg": "HS256", "kid": "s" }), &claims(changes))
}

fn foreign(name: &str) -> String {
    let tokens: Value = serde_json::from_str(&fs::read_to_string(data("jwt/tokens.json")).unwrap()).unwrap();
    tokens[name].as_str().unwrap().to_owned()
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

#[track_caller]
fn expect_refused(response: &Response, token: &str) {
    assert_eq!(response.status, 401, "{token}");
    let challenge = response.field("www-authenticate").unwrap();
    assert!(challenge.starts_with("Bearer realm=\"api\", error=\"invalid_token\""), "{challenge}");
    // Nothing of what was sent comes back.
    for part in token.split('.').filter(|part| part.len() > 8) {
        assert!(!challenge.contains(part) && !response.text().contains(part), "{challenge} {}", response.text());
    }
}

#[test]
fn forged_expired_and_misdirected_tokens_are_refused() {
    on_each_driver(|driver| {
        let options = json!({
            "keys": [
                { "kid": "rsa-1", "pem": data("jwt/rsa.pem") },
                { "kid": "s", "secret": SECRET },
            ],
            "audience": "shop",
            "leeway": "5s",
        });
        let routes = json!([{ "match": { "path": "/" }, "respond": { "text": "in" },
            "plugins": [{ "use": "jwt", "options": options }] }]);
        let server = Start::command(driver, routes).workers(1).serve();
        let mut client = server.client();
        let good = [hs(json!({})), hs(json!({ "aud": ["x", "shop"] })), foreign("RS256"), foreign("PS384")];
        for token in &good {
            for _ in 0..2 {
                assert_eq!(get(&mut client, "/", &bearer(token)).text(), "in", "{token}");
            }
        }
        let rsa_header = json!({ "alg": "HS256", "kid": "rsa-1" });
        let pem = fs::read(data("jwt/rsa.pem")).unwrap();
        let none = format!("{}.{}.", encode(r#"{"alg":"none"}"#), encode(claims(json!({})).to_string()));
        let (head, _) = good[2].rsplit_once('.').unwrap();
        for token in [
            none.clone(),
            none.trim_end_matches('.').to_owned(),
            sign_hs(&pem, rsa_header.clone(), &claims(json!({}))),
            sign_hs(&pem, json!({ "alg": "HS256" }), &claims(json!({}))),
            sign_hs(pem.trim_ascii(), rsa_header, &claims(json!({}))),
            hs(json!({ "exp": now() - 60 })),
            hs(json!({ "nbf": now() + 60 })),
            hs(json!({ "iat": now() + 60 })),
            hs(json!({ "aud": "billing" })),
            sign_hs(SECRET.as_bytes(), json!({ "alg": "HS256", "kid": "unknown" }), &claims(json!({}))),
            sign_hs(b"another secret of 32 bytes .....", json!({ "alg": "HS256", "kid": "s" }), &claims(json!({}))),
            format!("{head}.{}", encode([0; 256])),
            foreign("ES384"),
            "junk".to_owned(),
            "....".to_owned(),
            format!("{}.{}", good[0], "x"),
        ] {
            expect_refused(&get(&mut client, "/", &bearer(&token)), &token);
        }
        let absent = get(&mut client, "/", "");
        assert_eq!((absent.status, absent.field("www-authenticate")), (401, Some("Bearer realm=\"api\"")));
        let twice = get(&mut client, "/", &(bearer(&good[0]) + &bearer(&good[1])));
        assert_eq!(twice.status, 400);
    });
}

#[test]
fn claims_decide_the_route_and_cannot_be_forged() {
    let upstream = echo();
    let options = json!({
        "keys": [{ "kid": "s", "secret": SECRET }],
        "from": ["bearer", "cookie:token"],
        "claims_to_headers": { "sub": "X-User", "role": "X-Role" },
        "before_routing": true,
        "strip": true,
    });
    let routes = json!([
        { "match": { "path": "/", "headers": { "X-Role": "admin" } }, "respond": { "text": "for admins" } },
        { "match": { "path": "/" }, "proxy": { "upstream": "api" } },
        { "match": { "path": "/public" }, "proxy": { "upstream": "api" }, "plugins": [{ "use": "jwt", "enabled": false }] },
    ]);
    let spec = json!({ "servers": [{ "address": upstream.address.to_string() }] });
    let start = Start::command(on_hand("epoll"), routes).upstream("api", spec).workers(1);
    let server = start.plugins(json!([{ "use": "jwt", "options": options }])).serve();
    let mut client = server.client();
    let admin = hs(json!({ "role": "admin" }));
    assert_eq!(get(&mut client, "/", &bearer(&admin)).text(), "for admins");
    assert_eq!(get(&mut client, "/", &format!("Cookie: token={admin}\r\n")).text(), "for admins");
    let forged = "X-Role: admin\r\nx-role: admin\r\nX-User: root\r\n";
    let plain = get(&mut client, "/", &(bearer(&hs(json!({}))) + forged));
    assert_eq!(plain.status, 200);
    assert!(plain.text().contains("x-user: ann\r\n") && !plain.text().contains("x-role"), "{}", plain.text());
    assert!(!plain.text().contains("authorization"), "{}", plain.text());
    // Nor behind the body, where some applications look too.
    let chunked =
        "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Role: admin\r\nx-user: root\r\nX-Note: kept\r\n\r\n";
    let head = format!("POST / HTTP/1.1\r\nHost: x\r\n{}", bearer(&hs(json!({}))));
    let posted = client.send(format!("{head}{chunked}")).response();
    assert!(posted.text().contains("trailers: x-note: kept\r\n|"), "{}", posted.text());
    assert_eq!(get(&mut client, "/", forged).status, 401);
    assert_eq!(get(&mut client, "/nowhere", forged).status, 401);
    let public = get(&mut client, "/public", forged);
    assert!(public.status == 200 && !public.text().contains("root") && !public.text().contains("x-role"));
    expect_refused(&get(&mut client, "/", &bearer(&hs(json!({ "exp": 1, "role": "admin" })))), "");
}

/// The public halves of two keys as they stand in a set, and tokens that they sign.
fn two_keys() -> (impl Fn(usize) -> Value, impl Fn(usize) -> String) {
    let random = rand::SystemRandom::new();
    let make = || Ed25519KeyPair::from_pkcs8(Ed25519KeyPair::generate_pkcs8(&random).unwrap().as_ref()).unwrap();
    let pairs = [make(), make()];
    let points = [0, 1].map(|index: usize| encode(pairs[index].public_key()));
    let jwk =
        move |index: usize| json!({ "kty": "OKP", "crv": "Ed25519", "kid": index.to_string(), "x": points[index] });
    let token = move |index: usize| {
        let header = json!({ "alg": "EdDSA", "kid": index.to_string() });
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims(json!({})).to_string()));
        format!("{signed}.{}", encode(pairs[index].sign(signed.as_bytes())))
    };
    (jwk, token)
}

#[test]
fn a_set_of_keys_is_fetched_again_when_a_token_names_an_unknown_one_and_stays_when_that_fails() {
    let (jwk, token) = two_keys();
    let answer = Arc::new(Mutex::new(ok("no set")));
    let of_idp = answer.clone();
    let idp = Upstream::start(move |peer| {
        while let Some(request) = peer.request() {
            assert!(request.head.starts_with("GET /keys?v=1 HTTP/1.1\r\n"), "{}", request.head);
            let answer = of_idp.lock().unwrap().clone();
            peer.write(answer);
        }
    });
    let url = format!("http://{}/keys?v=1", idp.address);
    let options = json!({ "keys": [{ "jwks_url": url, "cooldown": "100ms", "refresh": "1h" }] });
    let routes = json!([{ "match": { "path": "/" }, "respond": { "text": "in" },
        "plugins": [{ "use": "jwt", "options": options }] }]);
    let server = Start::command(on_hand("epoll"), routes).workers(2).watch(false).serve();
    let early = get(&mut server.client(), "/", &bearer(&token(0)));
    assert_eq!((early.status, early.field("retry-after")), (503, Some("1")));
    *answer.lock().unwrap() = ok(json!({ "keys": [jwk(0)] }).to_string());
    wait_until("the keys are fetched", || status(&server, "/", &bearer(&token(0))) == 200);
    assert_eq!(status(&server, "/", &bearer(&token(1))), 401);
    *answer.lock().unwrap() = ok(json!({ "keys": [jwk(1)] }).to_string());
    wait_until("the new key is fetched", || status(&server, "/", &bearer(&token(1))) == 200);
    // A token that was good under the old key is not kept.
    assert_eq!(status(&server, "/", &bearer(&token(0))), 401);
    *answer.lock().unwrap() = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n".to_vec();
    let before = idp.requests();
    wait_until("they are asked for again, in vain", || {
        assert_eq!(status(&server, "/", &bearer(&token(0))), 401);
        idp.requests() > before
    });
    assert_eq!(status(&server, "/", &bearer(&token(1))), 200);
    // A plugin that is made anew has them too.
    server.reload();
    assert_eq!(status(&server, "/", &bearer(&token(1))), 200);
}

#[test]
fn plugins_that_share_a_set_of_keys_have_one_of_them_fetch_it_and_another_when_that_goes() {
    let (jwk, token) = two_keys();
    let answer = Arc::new(Mutex::new(ok(json!({ "keys": [jwk(0)] }).to_string())));
    let of_idp = answer.clone();
    let idp = Upstream::start(move |peer| {
        while peer.request().is_some() {
            let answer = of_idp.lock().unwrap().clone();
            peer.write(answer);
        }
    });
    let options =
        json!({ "keys": [{ "jwks_url": format!("http://{}/", idp.address), "cooldown": "100ms", "refresh": "1h" }] });
    let paths = ["/a", "/b", "/c"];
    let routes = paths.map(|path| {
        json!({ "match": { "path": path }, "respond": { "text": "in" }, "plugins": [{ "use": "jwt", "options": options }] })
    });
    let start = Start::command(on_hand("epoll"), json!(routes)).watch(false);
    let mut server = start.serve();
    for path in paths {
        wait_until("the keys are fetched", || status(&server, path, &bearer(&token(0))) == 200);
    }
    // Plugins that are made anew find what was fetched, and when.
    server.reload();
    assert!(paths.iter().all(|path| status(&server, path, &bearer(&token(0))) == 200));
    assert_eq!(idp.requests(), 1);
    // The ones that come first go, one after the other; who is left is told of unknown keys.
    for (gone, known) in [(1, 1), (2, 0)] {
        server.edit(|config| config["routes"] = json!(routes[gone..]));
        server.reload();
        assert_eq!(status(&server, paths[gone - 1], ""), 404);
        *answer.lock().unwrap() = ok(json!({ "keys": [jwk(known)] }).to_string());
        wait_until("the new key is fetched", || status(&server, "/c", &bearer(&token(known))) == 200);
    }
}
