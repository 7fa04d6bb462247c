//! What a WASM plugin costs a request that it does nothing to: context, head of the request, head of the response, end. The
//! target is at most 3 µs. And what one does that reads and edits fields, made by an SDK.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use ringfort::plugin::wasm::drive::Drive;

/// All callbacks that a request goes through, each of which does nothing, and a function for fields, so that they are copied.
const IDLE: &str = r#"(module
    (import "env" "proxy_get_header_map_value" (func (param i32 i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "proxy_abi_version_0_2_1"))
    (func (export "proxy_on_memory_allocate") (param i32) (result i32) i32.const 1024)
    (func (export "proxy_on_context_create") (param i32 i32))
    (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32) i32.const 0)
    (func (export "proxy_on_response_headers") (param i32 i32 i32) (result i32) i32.const 0)
    (func (export "proxy_on_done") (param i32) (result i32) i32.const 1)
    (func (export "proxy_on_log") (param i32))
    (func (export "proxy_on_delete") (param i32)))"#;

const FIELDS: [(&str, &str); 10] = [
    (":method", "GET"),
    (":path", "/users/1234?page=2"),
    (":authority", "www.example.com"),
    (":scheme", "https"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("accept-language", "en-US,en;q=0.5"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("cookie", "session=0123456789abcdef0123456789abcdef"),
    ("x-forwarded-for", "192.0.2.7"),
];

fn request(criterion: &mut Criterion) {
    let idle = Drive::new(&wat::parse_str(IDLE).expect("it is WebAssembly")).expect("it can be used");
    criterion.bench_function("no-op", |bencher| bencher.iter(|| idle.request(black_box(&FIELDS))));
}

criterion_group!(benches, request);
criterion_main!(benches);
