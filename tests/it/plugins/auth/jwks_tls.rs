//! `jwt` with a set of keys that is fetched by `https`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use ringfort::clock;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, Stream};
use serde_json::{Value, json};

use super::{Directory, data, get, status};
use crate::support::upstream::{Upstream, ok};
use crate::support::{Server, Start, on_each_driver, on_hand, wait_until};

/// Who makes tokens: its key, and a server with a certificate that tells it.
struct Issuer {
    pair: Ed25519KeyPair,
    server: Upstream,
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Issuer {
    fn start() -> Self {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        let pair = Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap();
        let jwk = json!({ "kty": "OKP", "crv": "Ed25519", "kid": "k", "x": encode(pair.public_key()) });
        let answer = ok(json!({ "keys": [jwk] }).to_string());
        let chain = vec![CertificateDer::from_pem_file(data("tls/server.pem")).unwrap()];
        let key = PrivateKeyDer::from_pem_file(data("tls/server.key")).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let settings = Arc::new(builder.with_no_client_auth().with_single_cert(chain, key).unwrap());
        let server = Upstream::start(move |peer| {
            let mut session = ServerConnection::new(settings.clone()).unwrap();
            let mut stream = Stream::new(&mut session, &mut peer.stream);
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                match stream.read(&mut byte) {
                    Ok(1) => request.push(byte[0]),
                    _ => return,
                }
            }
            assert!(request.starts_with(b"GET /keys HTTP/1.1\r\nHost: localhost:"));
            let _ = stream.write_all(&answer);
        });
        Self { pair, server }
    }

    /// Where the keys are, at the end of a URL.
    fn place(&self) -> String {
        format!("localhost:{}/keys", self.server.address.port())
    }

    /// A token of its own, as a request carries it.
    fn token(&self) -> String {
        let claims = json!({ "sub": "ann", "exp": clock::wall().as_secs() + 600 });
        let signed = format!("{}.{}", encode(r#"{"alg":"EdDSA","kid":"k"}"#), encode(claims.to_string()));
        format!("Authorization: Bearer {signed}.{}\r\n", encode(self.pair.sign(signed.as_bytes())))
    }
}

fn start(driver: &'static str, keys: Value) -> Start {
    let plugins = json!([{ "use": "jwt", "options": { "keys": [keys] } }]);
    let routes = json!([{ "match": { "path": "/" }, "respond": { "text": "in" }, "plugins": plugins }]);
    Start::command(driver, routes).workers(1).watch(false)
}

/// Waits for the line that says why there are no keys.
fn expect_failure(server: &mut Server, issuer: &Issuer, error: &str) {
    let line = server.log_line("the keys cannot be fetched; those that there are stay").expect("a line in the log");
    let line = line.to_string();
    assert!(line.contains(error) && line.contains(&format!("https://{}", issuer.place())), "{line}");
    let early = get(&mut server.client(), "/", &issuer.token());
    assert_eq!((early.status, early.field("retry-after")), (503, Some("1")));
}

#[test]
fn keys_come_over_tls_from_a_server_that_the_named_authority_vouches_for() {
    on_each_driver(|driver| {
        let issuer = Issuer::start();
        let keys = json!({ "jwks_url": format!("https://{}", issuer.place()), "jwks_ca": data("tls/ca.pem") });
        let server = start(driver, keys).serve();
        wait_until("the keys are fetched", || status(&server, "/", &issuer.token()) == 200);
        assert_eq!(status(&server, "/", &Issuer::start().token()), 401, "signed with another key");
        server.reload();
        assert_eq!(status(&server, "/", &issuer.token()), 200);
    });
}

#[test]
fn keys_of_a_server_that_nobody_trusted_vouches_for_are_not_taken() {
    let issuer = Issuer::start();
    let url = format!("https://{}", issuer.place());
    let mut server = start(on_hand("epoll"), json!({ "jwks_url": url, "jwks_ca": data("tls/other-ca.pem") })).serve();
    expect_failure(&mut server, &issuer, "its server's certificate is from an unknown issuer");
}

#[test]
fn without_a_named_authority_those_of_the_host_count() {
    let issuer = Issuer::start();
    let url = format!("https://{}", issuer.place());
    let with = |certificates: &Path| {
        let certificates = certificates.to_owned();
        let start = start(on_hand("epoll"), json!({ "jwks_url": url }));
        start.prepare(move |command| _ = command.env("SSL_CERT_FILE", certificates).env_remove("SSL_CERT_DIR")).serve()
    };
    let directory = Directory::new();
    let host = directory.file("host.pem", "# nobody yet\n");
    let mut server = with(Path::new(&host));
    expect_failure(&mut server, &issuer, "this host has no certificate of an authority (CA) that it trusts");
    // They are read again each time.
    fs::copy(data("tls/ca.pem"), &host).unwrap();
    wait_until("the keys are fetched", || status(&server, "/", &issuer.token()) == 200);
}
