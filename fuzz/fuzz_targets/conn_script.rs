//! A whole connection, scripted, answers what its bytes ask for however they come, and gives everything back.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ringfort::conn::oracle::check_conn_script(data));
