//! What one request costs on its way, part by part: parsing a head, finding the route, decoding a chunked body, recording
//! the answer. Compare runs on one machine, and take the minimum: `cargo bench -- --save-baseline before`.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringfort::http::chunked::{ChunkStep, ChunkedDecoder};
use ringfort::http::{Head, HeadLimits, Method, MethodSet, parse_head};
use ringfort::metrics::{Class, ShardWriter};
use ringfort::router::{Predicates, RouteSpec, RouterBuf, Spans};

const SHORT: &[u8] = b"GET /plaintext HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n";
const BROWSER: &[u8] = b"GET /static/app/main.js?v=17 HTTP/1.1\r\nHost: www.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:131.0) Gecko/20100101 Firefox/131.0\r\nAccept: */*\r\n\
    Accept-Language: en-GB,en;q=0.7,de;q=0.3\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Referer: https://www.example.com/\r\nConnection: keep-alive\r\nCookie: session=0123456789abcdef; theme=dark\r\n\
    Sec-Fetch-Dest: script\r\nSec-Fetch-Mode: no-cors\r\nSec-Fetch-Site: same-origin\r\n\r\n";

ringfort::routes! {
    static ROUTES: u8 = {
        GET "/plaintext" => 1,
        GET "/json" => 2,
        GET "/users/list" => 3,
        GET "/users/:id" => 4,
        GET "/users/:id/posts/:post" => 5,
        GET "/static/*file" => 6,
    }
}

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse_head");
    for (name, bytes) in [("short", SHORT), ("browser", BROWSER)] {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        let (limits, mut head) = (HeadLimits::default(), Head::new());
        group.bench_function(name, |b| b.iter(|| parse_head(black_box(bytes), &limits, &mut head)));
    }
}

fn route(c: &mut Criterion) {
    let mut group = c.benchmark_group("route");
    let methods = MethodSet::of(&[Method::Get]);
    let patterns: Vec<String> = (0..10_000).map(|n| format!("/r{n}/:id")).collect();
    let spec = |pattern| RouteSpec { host: None, pattern, methods, predicates: Predicates::NONE };
    let specs: Vec<RouteSpec<'_>> = patterns.iter().map(|pattern| spec(pattern.as_str())).collect();
    let many = RouterBuf::build(&specs).expect("these routes differ");
    let mut spans = Spans::NONE;
    for (name, path) in [("static", "/plaintext"), ("one_param", "/users/42"), ("two_params", "/users/42/posts/7")] {
        group.bench_function(name, |b| {
            b.iter(|| ROUTES.lookup(black_box(None), black_box(path.as_bytes()), Method::Get, &mut spans))
        });
    }
    group.bench_function("one_param_of_10000", |b| {
        b.iter(|| many.lookup(black_box(None), black_box(b"/r7777/42"), Method::Get, &mut spans));
    });
}

fn chunked(c: &mut Criterion) {
    let mut body = Vec::new();
    for _ in 0..16 {
        body.extend_from_slice(b"400\r\n");
        body.resize(body.len() + 1024, b'x');
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\n\r\n");
    let mut group = c.benchmark_group("chunked");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("16_chunks_of_1_KiB", |b| {
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

fn record(c: &mut Criterion) {
    let writer = ShardWriter::create(0, 1, 16);
    let mut nanos = 1;
    c.bench_function("record_request", |b| {
        b.iter(|| {
            nanos = nanos * 31 % 1_000_003;
            writer.record_request(black_box(3), Class::Success, nanos);
        });
    });
}

criterion_group!(benches, parse, route, chunked, record);
criterion_main!(benches);
