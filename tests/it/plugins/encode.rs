//! `compress` and `decompress`: what goes over the wire, to clients and to upstreams.

use std::io::Read as _;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::application;
use crate::support::upstream::{Upstream, ok};
use crate::support::{Response, Server, Start, on_each_driver, on_hand};

const CODINGS: [&str; 3] = ["gzip", "br", "zstd"];

fn plugin(name: &str, options: Value) -> Value {
    json!({ "use": name, "options": options })
}

/// A server that forwards everything to `upstream` through these plugins.
fn gateway(driver: &'static str, upstream: &Upstream, plugins: Value) -> Start {
    let routes = json!([{ "match": { "path": "/*rest" }, "proxy": { "upstream": "api" }, "plugins": plugins }]);
    Start::command(on_hand(driver), routes)
        .upstream("api", json!({ "servers": [{ "address": upstream.address.to_string() }] }))
}

fn unpack(coding: &str, packed: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    match coding {
        "gzip" => plain = miniz_oxide::inflate::decompress_to_vec(&packed[10..packed.len() - 8]).unwrap(),
        "br" => brotli::BrotliDecompress(&mut &*packed, &mut plain).unwrap(),
        "zstd" => drop(ruzstd::decoding::StreamingDecoder::new(packed).unwrap().read_to_end(&mut plain).unwrap()),
        other => panic!("{other}"),
    }
    plain
}

fn pack(coding: &str, plain: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    match coding {
        "gzip" => {
            packed.extend_from_slice(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]);
            packed.extend(miniz_oxide::deflate::compress_to_vec(plain, 6));
            packed.extend(zlib_rs::crc32::crc32(0, plain).to_le_bytes());
            packed.extend((plain.len() as u32).to_le_bytes());
        }
        "br" => {
            let options = brotli::enc::BrotliEncoderParams { quality: 5, ..Default::default() };
            brotli::BrotliCompress(&mut &*plain, &mut packed, &options).unwrap();
        }
        "zstd" => packed = ruzstd::encoding::compress_to_vec(plain, ruzstd::encoding::CompressionLevel::Fastest),
        other => panic!("{other}"),
    }
    packed
}

fn text(length: usize) -> String {
    (0..)
        .map(|number: u32| format!("line {number} of {}\n", number % 7))
        .flat_map(String::into_bytes)
        .take(length)
        .map(char::from)
        .collect()
}

/// A response of the upstream's, of a type that is compressed, with these further fields.
fn typed(fields: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn get(server: &Server, path: &str, accept: &str) -> Response {
    server.client().send(format!("GET {path} HTTP/1.1\r\nHost: test\r\nAccept-Encoding: {accept}\r\n\r\n")).response()
}

fn post(path: &str, coding: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Encoding: {coding}\r\nContent-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

#[test]
fn clients_get_the_coding_that_they_prefer_however_the_body_is_sent() {
    on_each_driver(|driver| {
        let body = text(40_000);
        let sent = body.clone();
        let upstream = Upstream::answering(move |request| match request.head.starts_with("GET /chunked") {
            false => typed("", sent.as_bytes()),
            true => {
                let mut response =
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
                for piece in sent.as_bytes().chunks(777) {
                    response
                        .extend(format!("{:x}\r\n", piece.len()).bytes().chain(piece.iter().copied()).chain(*b"\r\n"));
                }
                [&response[..], b"0\r\n\r\n"].concat()
            }
        });
        let server = gateway(driver, &upstream, json!([plugin("compress", json!({}))])).serve();
        for path in ["/length", "/chunked"] {
            for (accept, coding) in [
                ("gzip", Some("gzip")),
                ("gzip, br, zstd", Some("br")),
                ("br;q=0.5, zstd", Some("zstd")),
                ("*", Some("br")),
                ("identity;q=0, gzip;q=0.1", Some("gzip")),
                ("identity, gzip;q=0.5", None),
                ("br;q=0", None),
                ("", None),
                ("deflate", None),
            ] {
                let answer = get(&server, path, accept);
                assert_eq!((answer.status, answer.field("content-encoding")), (200, coding), "{path} {accept}");
                assert_eq!(answer.field("vary"), Some("Accept-Encoding"), "{path} {accept}");
                let plain = coding.map_or_else(|| answer.body.clone(), |coding| unpack(coding, &answer.body));
                assert!(plain == body.as_bytes(), "{path} {accept}");
                assert!(coding.is_none() || answer.body.len() < body.len() / 3, "{path} {accept}");
            }
        }
    });
}

#[test]
fn bodies_of_all_sizes_come_back_on_one_connection() {
    let whole = text(70_000);
    let sent = whole.clone();
    let upstream = Upstream::answering(move |request| {
        let size: usize = request.head["GET /".len()..].split(' ').next().unwrap().parse().unwrap();
        typed("", &sent.as_bytes()[..size])
    });
    let server = gateway("epoll", &upstream, json!([plugin("compress", json!({ "min_size": 0 }))])).serve();
    let mut client = server.client();
    let edges =
        [0, 1, 2, 1023, 4095, 4096, 4097, 8191, 8192, 8193, 16_363, 16_383, 16_384, 16_385, 32_768, 65_535, 65_536];
    for size in edges.into_iter().chain((0..=70_000).step_by(3_331)).chain([70_000]) {
        for coding in CODINGS {
            client.send(format!("GET /{size} HTTP/1.1\r\nHost: test\r\nAccept-Encoding: {coding}\r\n\r\n"));
            let answer = client.response();
            assert_eq!(answer.field("content-encoding"), Some(coding));
            assert!(unpack(coding, &answer.body) == whole.as_bytes()[..size], "{coding} {size}");
        }
    }
}

#[test]
fn what_is_not_to_be_compressed_is_left_alone() {
    let body = text(5000);
    let sent = body.clone();
    let upstream = Upstream::answering(move |request| {
        let (body, path) = (sent.as_bytes(), request.head.split(' ').nth(1).unwrap());
        match path {
            "/encoded" => typed("Content-Encoding: br\r\n", body),
            "/no-transform" => typed("Cache-Control: public, No-Transform\r\n", body),
            "/range" => {
                let part = typed("Content-Range: bytes 0-4999/9000\r\n", body);
                [&b"HTTP/1.1 206 Partial Content"[..], &part["HTTP/1.1 200 OK".len()..]].concat()
            }
            "/digest" => typed("Repr-Digest: sha-256=:AAAA:\r\n", body),
            "/small" => typed("", &body[..1023]),
            "/image" => {
                [&b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 5000\r\n\r\n"[..], body].concat()
            }
            "/untyped" => ok(body),
            "/304" => b"HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n".to_vec(),
            "/204" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
            _ if request.head.starts_with("HEAD") => {
                b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nETag: \"a\"\r\nContent-Length: 5000\r\n\r\n".to_vec()
            }
            "/identity" => {
                typed("Content-Encoding: identity\r\nETag: \"a\"\r\nAccept-Ranges: bytes\r\nVary: Origin\r\n", body)
            }
            _ => typed("", body),
        }
    });
    let twice = json!([plugin("compress", json!({})), { "use": "compress", "name": "again", "options": {} }]);
    let server = gateway("epoll", &upstream, twice).serve();
    for path in ["/encoded", "/no-transform", "/range", "/digest", "/small", "/image", "/untyped", "/304", "/204"] {
        let answer = get(&server, path, "gzip, br, zstd");
        let encoded = (path == "/encoded").then_some("br");
        assert_eq!((answer.field("content-encoding"), answer.field("vary")), (encoded, None), "{path}");
        assert!(answer.body.is_empty() || body.as_bytes().starts_with(&answer.body), "{path}");
    }
    let asked = "GET / HTTP/1.1\r\nHost: test\r\nAccept-Encoding: gzip\r\nCache-Control: no-transform\r\n\r\n";
    assert_eq!(server.client().send(asked).response().field("content-encoding"), None);
    let mut client = server.client();
    client.send("HEAD / HTTP/1.1\r\nHost: test\r\nAccept-Encoding: gzip\r\n\r\n");
    let head = client.response_to_head();
    assert_eq!((head.field("content-encoding"), head.field("content-length")), (None, Some("5000")));
    assert_eq!((head.field("vary"), head.field("etag")), (Some("Accept-Encoding"), Some("\"a\"")));
    client.send("GET /identity HTTP/1.1\r\nHost: test\r\nAccept-Encoding: gzip\r\n\r\n");
    let answer = client.response();
    assert_eq!((answer.field("content-encoding"), answer.field("etag")), (Some("gzip"), Some("W/\"a\"")));
    assert_eq!(answer.field("accept-ranges"), None);
    assert_eq!(answer.field("vary"), Some("Origin, Accept-Encoding"));
    assert!(unpack("gzip", &answer.body) == body.as_bytes(), "once, by one of the two");
}

#[test]
fn an_event_reaches_its_client_before_the_next_one_is_made() {
    on_each_driver(|driver| {
        let (more, wants) = mpsc::channel::<()>();
        let wants = Mutex::new(wants);
        let upstream = Upstream::start(move |peer| {
            peer.head();
            peer.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
            for number in 0..3 {
                // Two chunks at once, so that they are gathered, and then nothing.
                peer.write(format!("9\r\ndata: {number}\n\n\r\n2\r\n:\n\r\n"));
                wants.lock().unwrap().recv().unwrap();
            }
            peer.write("0\r\n\r\n");
        });
        let server = gateway(driver, &upstream, json!([plugin("compress", json!({}))])).serve();
        let mut client = server.client();
        client.send("GET / HTTP/1.0\r\nAccept-Encoding: gzip\r\n\r\n");
        let byte = || {
            let mut byte = [0];
            assert_eq!(client.stream().read(&mut byte).unwrap(), 1, "the end came before the event");
            byte
        };
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.extend(byte());
        }
        let (mut inflate, mut plain) = (zlib_rs::Inflate::new(true, 31), Vec::new());
        for number in 0..3 {
            let expected = format!("data: {number}\n\n:\n");
            while plain != expected.as_bytes() {
                let mut room = [0; 256];
                let made = inflate.total_out();
                inflate.decompress(&byte(), &mut room, zlib_rs::InflateFlush::NoFlush).unwrap();
                plain.extend_from_slice(&room[..(inflate.total_out() - made) as usize]);
            }
            plain.clear();
            more.send(()).unwrap();
        }
    });
}

#[test]
fn what_a_handler_writes_goes_out_though_it_pauses() {
    let typed = plugin("headers", json!({ "response": { "set": { "Content-Type": "text/plain" } } }));
    let server = application(json!([plugin("compress", json!({})), typed])).serve();
    let mut client = server.client();
    client.send("GET /stuck HTTP/1.1\r\nHost: test\r\nAccept-Encoding: gzip\r\n\r\n");
    // Short texts are written as they are, or by fixed codes; what matters is that the flush came: an empty stored block.
    client.wait_for(&[0, 0, 0xff, 0xff]);
}

#[test]
fn ten_thousand_codings_are_refused_or_looked_through() {
    let body = text(5000);
    let route =
        json!([{ "match": { "path": "/" }, "respond": { "text": body }, "plugins": [plugin("compress", json!({}))] }]);
    let mut accept = "a;q=1,".repeat(10_000);
    accept.push_str("gzip");
    let server = Start::command(on_hand("epoll"), route.clone()).serve();
    assert_eq!(get(&server, "/", &accept).status, 431);
    let server = Start::command(on_hand("epoll"), route).limit("head", "64KiB").serve();
    let answer = get(&server, "/", &accept);
    assert_eq!((answer.status, answer.field("content-encoding")), (200, Some("gzip")));
    assert!(unpack("gzip", &answer.body) == body.as_bytes());
}

#[test]
fn handlers_read_what_clients_compressed() {
    on_each_driver(|driver| {
        let server = Start::app(on_hand(driver))
            .workers(1)
            .set("plugins", json!([plugin("decompress", json!({}))]))
            .watch(false);
        let server = server.serve();
        let body = text(60_000);
        let mut client = server.client();
        for coding in CODINGS {
            let answer = client.send(post("/echo", coding, &pack(coding, body.as_bytes()))).response();
            assert!(answer.text() == body, "{coding}");
            for outer in CODINGS {
                let packed = pack(outer, &pack(coding, body.as_bytes()));
                let answer = client.send(post("/echo", &format!("{coding}, Identity, {outer}"), &packed)).response();
                assert!(answer.text() == body, "{outer} of {coding}");
            }
        }
        assert_eq!(client.send(post("/echo", "gzip", b"")).response().text(), "");
        assert_eq!(client.send(post("/echo", "identity", b"as it is")).response().text(), "as it is");
        assert_eq!(client.send(post("/ignore", "gzip", b"never read")).response().text(), "hello");
    });
}

#[test]
fn bodies_that_cannot_or_must_not_be_decompressed_are_refused_with_the_reason() {
    let options = json!({ "max": "100KiB", "codings": ["gzip", "zstd"] });
    let server = application(json!([plugin("decompress", options)])).serve();
    let good = pack("gzip", text(3000).as_bytes());
    let long = text(103_000);
    let bomb = pack("gzip", &vec![0; 90_000]);
    let mut wrong = good.clone();
    let last = wrong.len() - 6;
    wrong[last] ^= 1;
    for (coding, body, status) in [
        ("br", &good[..], 415),
        ("deflate", &good[..], 415),
        ("gzip, gzip, gzip", &good[..], 415),
        ("zstd", &good[..], 400),
        ("gzip", &good[..good.len() - 1], 400),
        ("gzip", &wrong[..], 400),
        ("gzip", &[&good[..], b"junk"].concat()[..], 400),
        ("gzip, gzip", &good[..], 400),
        ("gzip", &pack("gzip", long.as_bytes())[..], 413),
        ("gzip", &bomb[..], 413),
        ("gzip, gzip", &pack("gzip", &bomb)[..], 413),
    ] {
        let answer = server.client().send(post("/collect", coding, body)).response();
        assert_eq!(
            (answer.status, answer.field("accept-encoding")),
            (status, (status == 415).then_some("gzip, zstd")),
            "{coding}"
        );
        assert_eq!(answer.field("content-type"), Some("application/problem+json"));
    }
    assert_eq!(server.client().send(post("/echo", "x-gzip", &good)).response().text(), text(3000));
}

#[test]
fn bombs_take_no_memory() {
    let server = application(json!([plugin("decompress", json!({ "max_ratio": 100_000 }))])).serve();
    let peak = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    server.get("/");
    let before = peak();
    for coding in CODINGS {
        let bomb = pack(coding, &vec![0; 48 << 20]);
        // The handler would keep all of it: it is refused at 8 MiB.
        let answer = server.client().send(post("/collect", coding, &bomb)).response();
        assert_eq!(answer.status, 413, "{coding}");
        let twice = pack("gzip", &bomb);
        assert_eq!(server.client().send(post("/collect", &format!("{coding}, gzip"), &twice)).response().status, 413);
    }
    assert!(peak() - before < 32 * 1024, "{} KiB more", peak() - before);
}

#[test]
fn upstreams_get_a_body_without_coding_in_chunks_and_nothing_behind_it() {
    on_each_driver(|driver| {
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = heads.clone();
        let upstream = Upstream::answering(move |request| {
            seen.lock().unwrap().push(request.head.clone());
            let trailers = request.trailers.replace("\r\n", "|");
            ok([&request.body[..], trailers.as_bytes()].concat())
        });
        let server = gateway(driver, &upstream, json!([plugin("decompress", json!({}))])).workers(1).serve();
        let body = text(30_000);
        let mut client = server.client();
        for coding in CODINGS {
            let packed = pack(coding, body.as_bytes());
            // Behind it, in the same send, the next request: neither takes anything of the other.
            let behind = b"GET /next HTTP/1.1\r\nHost: test\r\n\r\n";
            client.send([&post("/length", coding, &packed)[..], behind].concat());
            assert!(client.response().text() == body, "{coding}");
            assert_eq!(client.response().text(), "");
            let mut chunked = format!(
                "POST /chunked HTTP/1.1\r\nHost: test\r\nContent-Encoding: {coding}\r\n\
                Transfer-Encoding: chunked\r\nContent-Digest: sha-256=:AAAA:\r\n\r\n"
            )
            .into_bytes();
            for piece in packed.chunks(100) {
                chunked.extend(format!("{:x}\r\n", piece.len()).bytes().chain(piece.iter().copied()).chain(*b"\r\n"));
            }
            chunked.extend_from_slice(b"0\r\nX-After: 1\r\nRepr-Digest: sha-256=:AAAA:\r\n\r\n");
            assert!(client.send(chunked).response().text() == format!("{body}X-After: 1|"), "{coding}");
        }
        let old = String::from_utf8(post("/old", "gzip", b"")).unwrap().replace("HTTP/1.1", "HTTP/1.0");
        let packed = pack("gzip", body.as_bytes());
        let old = old.replace("Length: 0", &format!("Length: {}", packed.len()));
        assert!(server.client().send([old.as_bytes(), &packed].concat()).response().text() == body);
        for head in heads.lock().unwrap().iter() {
            let head = head.to_lowercase();
            assert!(!head.contains("content-length") && !head.contains("content-encoding"), "{head}");
            assert!(!head.contains("digest"), "{head}");
            assert_eq!(
                head.matches("transfer-encoding: chunked\r\n").count(),
                usize::from(head.starts_with("post")),
                "{head}"
            );
        }
        assert_eq!(upstream.connections(), 1, "all were kept in step");
    });
}

#[test]
fn a_body_that_turns_out_bad_is_never_whole_for_the_upstream() {
    let whole = Arc::new(Mutex::new(Vec::new()));
    let seen = whole.clone();
    let upstream = Upstream::start(move |peer| {
        while let Some(request) = peer.request() {
            seen.lock().unwrap().push(request.body.len());
            peer.write(ok("answer"));
        }
    });
    let server = gateway("epoll", &upstream, json!([plugin("decompress", json!({ "max": "1MiB" }))])).serve();
    let mut torn = pack("gzip", text(200_000).as_bytes());
    torn.truncate(torn.len() - 3);
    let bomb = pack("gzip", &vec![0; 4 << 20]);
    for (body, status) in [(&torn, 400), (&bomb, 413)] {
        let answer = server.client().send(post("/", "gzip", body)).response();
        assert_eq!(answer.status, status);
        assert_eq!(server.get("/").text(), "answer");
    }
    assert_eq!(*whole.lock().unwrap(), [0, 0]);
}
