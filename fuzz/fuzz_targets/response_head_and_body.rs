//! An upstream's responses give the same heads, bodies and trailers, or fail the same way, however their bytes are split.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringfort::http::oracle::check_response_head_and_body(data));
