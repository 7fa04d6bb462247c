//! Answers that come and that do not, with TLS and without.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::AlertDescription;

use super::*;
use crate::clock;
use crate::tls::tests::{
    CA, ELSEWHERE, EXPIRED, OTHER_CA, SERVER, VERSIONS, client, listen, name, serve, settings, soon,
};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
const BODY_MAX: usize = 64 * 1024;

/// Fetches with TLS from a server of this name, which one of these authorities must have vouched for.
fn fetch_tls(address: SocketAddr, roots: &[u8], host: &str, until: Moment) -> Result<(Status, Vec<u8>), FetchError> {
    let (client, name) = (client(roots), name(host));
    let answer = async || fetch(&Remote::Tcp(address), Some((&client, &name)), REQUEST, BODY_MAX, until).await;
    rt::run(&rt::Options::default(), |_| answer()).unwrap()
}

fn fetch_plain(address: SocketAddr) -> Result<(Status, Vec<u8>), FetchError> {
    let answer = async || fetch(&Remote::Tcp(address), None, REQUEST, BODY_MAX, soon()).await;
    rt::run(&rt::Options::default(), |_| answer()).unwrap()
}

fn text(answer: Result<(Status, Vec<u8>), FetchError>) -> Result<String, String> {
    match answer {
        Ok((status, body)) => Ok(format!("{} {}", status.code(), String::from_utf8_lossy(&body))),
        Err(error) => Err(error.to_string()),
    }
}

/// Takes the request, whole.
fn take_request(from: &mut impl Read) -> io::Result<()> {
    let mut request = vec![0; REQUEST.len()];
    from.read_exact(&mut request)?;
    assert_eq!(request, REQUEST);
    Ok(())
}

/// How a server ends its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Said,
    Cut,
}

/// A server that answers with these bytes.
fn answer(bytes: &'static [u8], end: End) -> (SocketAddr, JoinHandle<()>) {
    serve(settings(&[SERVER], &VERSIONS), move |session, socket| {
        let mut stream = rustls::Stream::new(session, socket);
        take_request(&mut stream).unwrap();
        stream.write_all(bytes).unwrap();
        if end == End::Said {
            stream.conn.send_close_notify();
        }
        stream.flush().unwrap();
    })
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nkeys";

#[test]
fn an_answer_comes_over_either_version_of_tls_from_a_server_that_is_asked_for_by_its_name() {
    for version in VERSIONS {
        for (host, sni) in [("localhost", Some("localhost")), ("127.0.0.1", None)] {
            let (address, served) = serve(settings(&[SERVER], &[version]), |session, socket| {
                let mut stream = rustls::Stream::new(session, socket);
                take_request(&mut stream).unwrap();
                stream.write_all(OK).unwrap();
                // The client takes leave as it should.
                assert_eq!(stream.read(&mut [0]).unwrap(), 0);
                (
                    session.protocol_version(),
                    session.alpn_protocol() == Some(b"http/1.1"),
                    session.server_name().map(str::to_owned),
                )
            });
            assert_eq!(text(fetch_tls(address, CA, host, soon())), Ok("200 keys".to_owned()));
            let seen = served.join().unwrap();
            assert_eq!(seen, (Some(version.version), true, sni.map(str::to_owned)));
        }
    }
}

#[test]
fn a_server_that_cannot_show_who_it_is_gets_no_request_and_is_told_why() {
    use AlertDescription::{BadCertificate, CertificateExpired, UnknownCA};
    for version in VERSIONS {
        for (certificate, roots, host, error, alert) in [
            (SERVER, OTHER_CA, "localhost", "its server's certificate is from an unknown issuer", UnknownCA),
            (ELSEWHERE, CA, "localhost", "its server's certificate is not for the name \"localhost\"", BadCertificate),
            (ELSEWHERE, CA, "127.0.0.1", "its server's certificate is not for the name \"127.0.0.1\"", BadCertificate),
            (SERVER, CA, "idp.example", "its server's certificate is not for the name \"idp.example\"", BadCertificate),
            (EXPIRED, CA, "localhost", "its server's certificate has expired", CertificateExpired),
        ] {
            let (address, served) = serve(settings(&[certificate], &[version]), |session, socket| {
                take_request(&mut rustls::Stream::new(session, socket)).unwrap_err().to_string()
            });
            let refused = text(fetch_tls(address, roots, host, soon())).unwrap_err();
            assert!(refused.starts_with(error), "{refused}");
            let told = served.join().unwrap();
            assert!(told.contains(&format!("{alert:?}")), "{told}");
        }
    }
}

#[test]
fn a_body_that_the_end_of_the_connection_ends_is_whole_only_where_the_server_says_so() {
    let whole = Ok("200 keys".to_owned());
    let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nkeys\r\n0\r\n\r\n";
    let endless = b"HTTP/1.1 200 OK\r\n\r\nkeys";
    for end in [End::Said, End::Cut] {
        for bytes in [OK, chunked] {
            let (address, served) = answer(bytes, end);
            assert_eq!(text(fetch_tls(address, CA, "localhost", soon())), whole, "{end:?}");
            served.join().unwrap();
            let (address, served) = answer(&bytes[..bytes.len() - 1], end);
            let cut = text(fetch_tls(address, CA, "localhost", soon())).unwrap_err();
            assert!(cut.contains("closed within the response body"), "{end:?} {cut}");
            served.join().unwrap();
        }
        let (address, served) = answer(endless, end);
        let found = text(fetch_tls(address, CA, "localhost", soon()));
        if end == End::Said {
            assert_eq!(found, whole);
        } else {
            assert!(found.as_ref().is_err_and(|error| error.contains("close_notify")), "{found:?}");
        }
        served.join().unwrap();
        let (address, served) = answer(b"HTTP/1.1 200 OK\r\nContent-", end);
        assert!(fetch_tls(address, CA, "localhost", soon()).is_err());
        served.join().unwrap();
    }
    // Without TLS it cannot be told.
    let (address, served) = listen(move |mut socket| {
        take_request(&mut socket).unwrap();
        socket.write_all(endless).unwrap();
    });
    assert_eq!(text(fetch_plain(address)), whole);
    served.join().unwrap();
}

#[test]
fn an_answer_may_come_byte_by_byte() {
    struct Dribble<'s>(&'s mut TcpStream);
    impl Read for Dribble<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.0.read(into)
        }
    }
    impl Write for Dribble<'_> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.write(&bytes[..bytes.len().min(1)])
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for version in VERSIONS {
        let (address, served) = serve(settings(&[SERVER], &[version]), |session, socket| {
            let mut socket = Dribble(socket);
            let mut stream = rustls::Stream::new(session, &mut socket);
            take_request(&mut stream).unwrap();
            // A record for each byte too.
            for byte in OK {
                stream.write_all(&[*byte]).unwrap();
            }
        });
        assert_eq!(text(fetch_tls(address, CA, "localhost", soon())), Ok("200 keys".to_owned()));
        served.join().unwrap();
    }
}

/// Sends this again and again until nobody takes it any more, or far more than anybody should: whether somebody had enough.
fn repeat(stream: &mut impl Write, bytes: &[u8]) -> bool {
    let much = 16 * 1024 * 1024 / bytes.len();
    (0..much).any(|_| stream.write_all(bytes).is_err())
}

#[test]
fn a_server_that_never_stops_sending_is_given_up() {
    let long = b"HTTP/1.1 200 OK\r\n\r\n";
    let interim = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let chunks = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    let filler = [b'x'; 8 * 1024];
    let hints = interim.repeat(100);
    let chunk = [b"1;".to_vec(), vec![b'x'; 200], b"\r\nx\r\n".to_vec()].concat().repeat(40);
    for (head, then, error) in [
        (&long[..], &filler[..], "the response is too long"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 65537\r\n\r\n", &filler, "the response is too long"),
        (b"HTTP/1.1 200 OK\r\nX: ", &filler, "invalid response head"),
        (interim, &hints, "what it sent is far longer than its body"),
        (chunks, &chunk, "too many bytes of chunk extensions"),
    ] {
        let (head, then) = (head.to_vec(), then.to_vec());
        let (of_plain_head, of_plain) = (head.clone(), then.clone());
        let (address, served) = serve(settings(&[SERVER], &VERSIONS), move |session, socket| {
            let mut stream = rustls::Stream::new(session, socket);
            take_request(&mut stream).unwrap();
            stream.write_all(&head).unwrap();
            repeat(&mut stream, &then)
        });
        let found = text(fetch_tls(address, CA, "localhost", soon())).unwrap_err();
        assert!(found.contains(error), "{found}");
        assert!(served.join().unwrap(), "{error}");
        let (address, served) = listen(move |mut socket| {
            take_request(&mut socket).unwrap();
            socket.write_all(&of_plain_head).unwrap();
            repeat(&mut socket, &of_plain)
        });
        let found = text(fetch_plain(address)).unwrap_err();
        assert!(found.contains(error), "{found}");
        assert!(served.join().unwrap(), "{error}");
    }
}

#[test]
fn a_server_that_falls_silent_is_given_up_at_the_deadline() {
    let short = || clock::now() + Duration::from_millis(300);
    // Before the handshake, and after it.
    let (address, served) = listen(|mut socket| _ = socket.read_to_end(&mut Vec::new()));
    assert!(matches!(fetch_tls(address, CA, "localhost", short()), Err(FetchError::Timeout)));
    served.join().unwrap();
    let (address, served) = serve(settings(&[SERVER], &VERSIONS), |session, socket| {
        let mut stream = rustls::Stream::new(session, socket);
        _ = take_request(&mut stream).and_then(|()| stream.read(&mut [0]));
    });
    assert!(matches!(fetch_tls(address, CA, "localhost", short()), Err(FetchError::Timeout)));
    served.join().unwrap();
}

#[test]
fn a_server_without_tls_is_named_as_such_and_never_asked_without() {
    let (address, served) = listen(|mut socket| {
        let mut got = vec![0; 1024];
        let length = socket.read(&mut got).unwrap();
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        got.truncate(length);
        let _ = socket.read_to_end(&mut got);
        got
    });
    assert_eq!(text(fetch_tls(address, CA, "localhost", soon())), Err("its server does not speak TLS".to_owned()));
    let got = served.join().unwrap();
    assert!(got[0] == 22 && memchr::memmem::find(&got, b"GET").is_none(), "a hello and no request");
}
