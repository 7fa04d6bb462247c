//! A client against rustls's own server, over sockets. `tests/data/tls/make` has made the certificates.

use std::future::poll_fn;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::task::ready;
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, ServerConnection, SupportedProtocolVersion};
use rustls_native_certs::load_certs_from_paths;

use super::*;
use crate::rt::{self, Remote};
use crate::{clock, sys};

macro_rules! data {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tls/", $name))
    };
}

pub(crate) const CA: &[u8] = data!("ca.pem");
pub(crate) const OTHER_CA: &[u8] = data!("other-ca.pem");
/// For `localhost`, 127.0.0.1 and ::1.
pub(crate) const SERVER: &[u8] = data!("server.pem");
pub(crate) const EXPIRED: &[u8] = data!("expired.pem");
/// For `elsewhere.example`.
pub(crate) const ELSEWHERE: &[u8] = data!("elsewhere.pem");
pub(crate) const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn soon() -> clock::Moment {
    clock::now() + PATIENCE
}

/// A server's settings, with the certificates of these texts.
pub(crate) fn settings(certificates: &[&[u8]], versions: &[&'static SupportedProtocolVersion]) -> ServerConfig {
    let chain = certificates.iter().map(|text| CertificateDer::from_pem_slice(text).unwrap()).collect();
    let key = PrivateKeyDer::from_pem_slice(data!("server.key")).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_protocol_versions(versions).unwrap().with_no_client_auth();
    let mut settings = builder.with_single_cert(chain, key).unwrap();
    settings.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    settings
}

/// A listening socket with a thread that has `script` serve the first connection, and what that gave.
#[allow(clippy::disallowed_methods, reason = "a server of the test's own, on a thread that blocks")]
pub(crate) fn listen<T: Send + 'static>(
    script: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<T>) {
    let socket = sys::socket::listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = sys::socket::local_address(&socket).unwrap();
    let listener = std::net::TcpListener::from(socket);
    listener.set_nonblocking(false).unwrap();
    let served = std::thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        socket.set_nonblocking(false).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        script(socket)
    });
    (address, served)
}

/// The same with TLS: `script` gets the session too.
pub(crate) fn serve<T: Send + 'static>(
    settings: ServerConfig,
    script: impl FnOnce(&mut ServerConnection, &mut TcpStream) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<T>) {
    listen(move |mut socket| script(&mut ServerConnection::new(Arc::new(settings)).unwrap(), &mut socket))
}

pub(crate) fn client(roots: &[u8]) -> Client {
    Client::new(&Roots::of_pem(roots).unwrap())
}

pub(crate) fn name(text: &str) -> Name {
    Name::read(text).unwrap()
}

async fn connect(address: SocketAddr, roots: &[u8]) -> Result<Stream, TlsError> {
    let socket = rt::connect(&Remote::Tcp(address), soon()).await.unwrap();
    rt::timeout(soon(), Stream::connect(&client(roots), &name("localhost"), socket)).await.unwrap()
}

/// All that comes until the end, and which end it was.
async fn receive_all(stream: &mut Stream) -> (Vec<u8>, Received) {
    let mut all = Vec::new();
    let received = rt::timeout(soon(), async {
        loop {
            match poll_fn(|cx| stream.poll_recv(cx, &mut all)).await.unwrap() {
                Received::Bytes => {}
                end => return end,
            }
        }
    });
    let end = received.await.unwrap();
    (all, end)
}

fn on_each_backend<T>(test: impl AsyncFn() -> T) {
    for (executor, driver) in rt::tests::backends() {
        let options = rt::Options { executor, driver, ..rt::Options::default() };
        rt::run(&options, |_| test()).unwrap();
    }
}

#[test]
fn bytes_go_both_ways_however_many_they_are() {
    on_each_backend(async || {
        for version in VERSIONS {
            let bytes: Vec<u8> = (0..1_000_003_u32).map(|index| (index % 251) as u8).collect();
            let count = bytes.len();
            let (address, served) = serve(settings(&[SERVER], &[version]), move |session, socket| {
                let mut echoed = vec![0; count];
                let mut stream = rustls::Stream::new(session, socket);
                stream.read_exact(&mut echoed).unwrap();
                stream.write_all(&echoed).unwrap();
                stream.conn.send_close_notify();
                stream.flush().unwrap();
                (stream.conn.protocol_version(), stream.conn.alpn_protocol().map(<[u8]>::to_vec))
            });
            let mut stream = connect(address, CA).await.unwrap();
            let mut sent = 0;
            let all_sent = poll_fn(|cx| {
                while sent < bytes.len() {
                    sent += ready!(stream.poll_send(cx, &bytes[sent..]))?;
                }
                stream.poll_flush(cx)
            });
            rt::timeout(soon(), all_sent).await.unwrap().unwrap();
            let (echoed, end) = receive_all(&mut stream).await;
            assert!(echoed == bytes && end == Received::End, "{} {end:?}", echoed.len());
            assert!(stream.received() > bytes.len() as u64);
            assert_eq!(served.join().unwrap(), (Some(version.version), Some(b"http/1.1".to_vec())));
        }
    });
}

#[test]
fn what_comes_with_the_end_of_the_handshake_is_not_lost() {
    on_each_backend(async || {
        let mut early = settings(&[SERVER], &[&TLS13]);
        early.send_half_rtt_data = true;
        let (address, served) = serve(early, |session, socket| {
            session.writer().write_all(b"early").unwrap();
            let _ = session.complete_io(socket);
        });
        let mut stream = connect(address, CA).await.unwrap();
        assert_eq!(receive_all(&mut stream).await, (b"early".to_vec(), Received::Cut));
        drop(stream);
        served.join().unwrap();
    });
}

#[test]
fn an_end_that_the_peer_has_not_said_is_a_cut_and_nothing_counts_behind_one_that_it_has() {
    on_each_backend(async || {
        for (is_said, end) in [(true, Received::End), (false, Received::Cut)] {
            let (address, served) = serve(settings(&[SERVER], &VERSIONS), move |session, socket| {
                let mut stream = rustls::Stream::new(session, socket);
                stream.write_all(b"part").unwrap();
                if is_said {
                    stream.conn.send_close_notify();
                    stream.flush().unwrap();
                    stream.sock.write_all(b"this is no TLS").unwrap();
                }
            });
            let mut stream = connect(address, CA).await.unwrap();
            assert_eq!(receive_all(&mut stream).await, (b"part".to_vec(), end));
            // It stays so.
            assert_eq!(receive_all(&mut stream).await, (Vec::new(), end));
            served.join().unwrap();
        }
    });
}

#[test]
fn a_handshake_that_is_cut_or_too_long_is_an_error() {
    on_each_backend(async || {
        let (address, served) = serve(settings(&[SERVER], &VERSIONS), |session, socket| {
            session.read_tls(socket).unwrap();
            session.process_new_packets().unwrap();
            let mut flight = Vec::new();
            session.write_tls(&mut flight).unwrap();
            socket.write_all(&flight[..flight.len() / 2]).unwrap();
            socket.shutdown(Shutdown::Write).unwrap();
            // What is left unread would be answered with a reset.
            let _ = socket.read_to_end(&mut Vec::new());
        });
        let cut = connect(address, CA).await.unwrap_err();
        assert!(matches!(cut, TlsError::Cut), "{cut:?}");
        served.join().unwrap();
        let chain: Vec<&[u8]> = std::iter::once(SERVER).chain(std::iter::repeat_n(CA, 140)).collect();
        let (address, served) = serve(settings(&chain, &VERSIONS), |session, socket| {
            let _ = session.complete_io(socket);
        });
        assert!(matches!(connect(address, CA).await, Err(TlsError::TooLong)));
        served.join().unwrap();
    });
}

#[test]
fn a_certificate_that_vouches_for_itself_is_good_where_it_is_named_and_is_no_authoritys() {
    on_each_backend(async || {
        for (certificate, is_good) in [(data!("alone.pem").as_slice(), true), (data!("alone-ca.pem"), false)] {
            let (address, served) = serve(settings(&[certificate], &VERSIONS), |session, socket| {
                let _ = session.complete_io(socket);
            });
            let found = connect(address, certificate).await.map(drop).map_err(|error| error.to_string());
            assert_eq!(found.is_ok(), is_good, "{found:?}");
            assert!(
                found.is_ok() || found.as_ref().is_err_and(|error| error.contains("of an authority (CA:TRUE)")),
                "{found:?}"
            );
            served.join().unwrap();
        }
    });
}

#[test]
fn each_connection_has_a_handshake_in_which_the_server_shows_its_certificate() {
    on_each_backend(async || {
        for version in VERSIONS {
            let (client, settings) = (client(CA), Arc::new(settings(&[SERVER], &[version])));
            for _ in 0..2 {
                let settings = settings.clone();
                let (address, served) = listen(move |mut socket| {
                    let mut session = ServerConnection::new(settings).unwrap();
                    let mut stream = rustls::Stream::new(&mut session, &mut socket);
                    // Tickets for another time come with it.
                    stream.write_all(b"hello").unwrap();
                    stream.conn.send_close_notify();
                    stream.flush().unwrap();
                    stream.conn.handshake_kind()
                });
                let socket = rt::connect(&Remote::Tcp(address), soon()).await.unwrap();
                let mut stream = Stream::connect(&client, &name("localhost"), socket).await.unwrap();
                assert_eq!(receive_all(&mut stream).await, (b"hello".to_vec(), Received::End));
                assert_eq!(served.join().unwrap(), Some(rustls::HandshakeKind::Full));
            }
        }
    });
}

#[test]
fn names_are_those_of_dns_and_addresses() {
    for good in ["localhost", "idp.example", "a-b.example.", "127.0.0.1", "::1", "xn--bcher-kva.example"] {
        assert!(Name::read(good).is_some(), "{good}");
    }
    for bad in ["", ".", "a b", "[::1]", "127.0.0.1:443", "-.example", "a..b", "*.example", "b\u{fc}cher.example"] {
        assert!(Name::read(bad).is_none(), "{bad}");
    }
}

#[test]
fn roots_are_all_of_a_named_file_or_what_the_host_has() {
    let both = Roots::of_pem(&[b"a comment\n", CA, OTHER_CA].concat()).unwrap();
    assert_eq!(format!("{both:?}"), "Roots(2)");
    assert!(both != Roots::of_pem(CA).unwrap() && Roots::of_pem(CA) == Roots::of_pem(CA));
    assert_eq!(Roots::of_pem(b" \n"), Err("nothing".to_owned()));
    assert_eq!(Roots::of_pem(data!("server.key")), Err("no certificate".to_owned()));
    let broken = |number| Err(format!("a certificate that cannot be read (number {number})"));
    assert_eq!(Roots::of_pem(&CA[..CA.len() - 10]), broken(1));
    let junk = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    assert_eq!(Roots::of_pem(&[CA, junk].concat()), broken(2));

    let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls");
    let of_file = |name: &str| Roots::of_loaded(load_certs_from_paths(Some(&data.join(name)), None));
    assert_eq!(of_file("ca.pem"), Roots::of_pem(CA));
    for none in ["server.key", "absent.pem"] {
        let error = of_file(none).unwrap_err();
        assert!(error.contains("no certificate of an authority") && error.contains("SSL_CERT_FILE"), "{error}");
        assert_eq!(error.contains("absent.pem"), none == "absent.pem", "{error}");
    }
}
