//! No bytes are taken for a token that nobody signed, or panic as anything that says who a client is.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringfort::plugin::builtin::oracle::check_credential(data));
