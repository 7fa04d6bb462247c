//! A chunked body decodes to the same bytes, or fails the same way, however its bytes are split.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringfort::http::oracle::check_framing_and_body(data));
