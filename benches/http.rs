//! What HTTP/1.1 costs without I/O: parsing a head, deciding its framing, decoding a chunked body, writing a response.
//! Compare runs on one machine, and take the minimum: `cargo bench --bench http -- --save-baseline before`.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringfort::http::chunked::{ChunkStep, ChunkedDecoder};
use ringfort::http::encode::{self, Fields};
use ringfort::http::framing::{ContentLength, TransferEncoding, decide_framing};
use ringfort::http::{Head, HeadLimits, Status, Version, parse_head};

const SHORT: &[u8] = b"GET /plaintext HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";
const BROWSER: &[u8] = b"GET /static/app/main.js?v=17 HTTP/1.1\r\nHost: www.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:131.0) Gecko/20100101 Firefox/131.0\r\nAccept: */*\r\n\
    Accept-Language: en-GB,en;q=0.7,de;q=0.3\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: https://www.example.com/\r\nConnection: keep-alive\r\nCookie: session=0123456789abcdef; theme=dark\r\n\
    Sec-Fetch-Dest: script\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Site: same-origin\r\n\r\n";

/// `httparse` beside it, which splits a head into lines and judges little.
fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse_head");
    for (name, bytes) in [("short", SHORT), ("browser", BROWSER)] {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        let (limits, mut head) = (HeadLimits::default(), Head::new());
        group.bench_function(name, |b| b.iter(|| parse_head(black_box(bytes), &limits, &mut head)));
        group.bench_function(format!("{name}/httparse alone"), |b| {
            b.iter(|| {
                let mut fields = [httparse::EMPTY_HEADER; 16];
                httparse::Request::new(&mut fields).parse(black_box(bytes)).map(|status| status.is_complete())
            });
        });
    }
}

fn framing(c: &mut Criterion) {
    let mut group = c.benchmark_group("decide_framing");
    let facts = [
        ("no_body", TransferEncoding::Absent, ContentLength::Absent),
        ("length", TransferEncoding::Absent, ContentLength::Valid(1024)),
        ("chunked", TransferEncoding::Chunked, ContentLength::Absent),
        ("refused", TransferEncoding::Chunked, ContentLength::Valid(1024)),
    ];
    for (name, encoding, length) in facts {
        group.bench_function(name, |b| {
            b.iter(|| decide_framing(black_box(Version::Http11), black_box(&encoding), black_box(&length)));
        });
    }
    // The value of one field, which is what a request with a body has and one without has not.
    group.bench_function("note_length", |b| {
        b.iter(|| {
            let mut length = ContentLength::default();
            length.note(black_box(b"1048576"));
            length
        });
    });
}

/// A body of 16 KiB in chunks of `size` bytes.
fn chunked_body(size: usize) -> Vec<u8> {
    let mut body = Vec::new();
    for _ in 0..(16 * 1024 / size) {
        encode::write_chunk_head(&mut body, size as u64);
        body.resize(body.len() + size, b'x');
        body.extend_from_slice(encode::CHUNK_END);
    }
    body.extend_from_slice(encode::LAST_CHUNK);
    body
}

fn chunked(c: &mut Criterion) {
    let mut group = c.benchmark_group("chunked");
    for (name, size) in [("16_chunks_of_1_KiB", 1024), ("1024_chunks_of_16_B", 16)] {
        let body = chunked_body(size);
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                let (mut decoder, mut at) = (ChunkedDecoder::new(), 0);
                loop {
                    match decoder.decode(black_box(&body[at..])).expect("a well-formed body") {
                        ChunkStep::Data { skip, len } => at += skip + len,
                        ChunkStep::NeedMore { consumed } | ChunkStep::Done { consumed } => break at + consumed,
                    }
                }
            });
        });
    }
}

fn encode_head(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode_head");
    let (mut out, mut fields) = (Vec::with_capacity(4096), Fields::new());
    group.bench_function("small_response", |b| {
        b.iter(|| {
            out.clear();
            fields.clear();
            fields.push("Content-Type", black_box("text/plain")).expect("a good field");
            encode::write_status_line(&mut out, black_box(Status::OK));
            fields.write_to(&mut out);
            encode::write_content_length(&mut out, black_box(13));
            encode::write_field(&mut out, "Server", black_box("ringfort"));
            encode::write_field(&mut out, "Date", black_box("Sat, 21 Nov 2026 08:00:00 GMT"));
            out.extend_from_slice(b"\r\n");
            out.len()
        });
    });
    group.bench_function("ten_checked_fields", |b| {
        b.iter(|| {
            fields.clear();
            for name in ["A", "B", "C", "D", "E", "F", "G", "H", "I", "J"] {
                fields.push(black_box(name), black_box("public, max-age=3600")).expect("a good field");
            }
            fields.len()
        });
    });
    group.bench_function("chunk_head", |b| {
        b.iter(|| {
            out.clear();
            encode::write_chunk_head(&mut out, black_box(16 * 1024));
            out.len()
        });
    });
}

criterion_group!(benches, parse, framing, chunked, encode_head);
criterion_main!(benches);
