//! The router answers as a naive matcher does.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringfort::router::oracle::check_route_match(data));
