//! Shows that each rule of the layer test catches a planted offender, and leaves its innocent neighbour alone.

use super::{FILE_LINES_MAX, Offence, Source, WORKER_LINES_MAX, offences, scan};

/// What is found in one file whose second line, after the header, is where `code` begins.
fn planted(path: &str, code: &str) -> Vec<String> {
    planted_files(&[(path, code)])
}

fn planted_files(files: &[(&str, &str)]) -> Vec<String> {
    let source =
        |(path, code): &(&str, &str)| Source { path: (*path).to_owned(), text: format!("//! Header.\n{code}") };
    let sources = files.iter().map(source).collect::<Vec<_>>();
    offences(&sources).iter().map(Offence::to_string).collect()
}

#[track_caller]
fn assert_caught(path: &str, code: &str, expected: &str) {
    let found = planted(path, code);
    assert!(found.len() == 1 && found[0].contains(expected), "expected one `{expected}` in {path}, found {found:?}");
}

#[track_caller]
fn assert_clean(path: &str, code: &str) {
    assert_eq!(planted(path, code), Vec::<String>::new(), "in {path}: {code}");
}

#[test]
fn naming_a_higher_row_is_caught_with_file_line_and_both_modules() {
    let found = planted("http/parse.rs", "\nuse crate::conn::Connection;\n");
    assert_eq!(found.len(), 1);
    let expected = "src/http/parse.rs:3: module `http` (row 2) must not name `conn` (row 3): ";
    assert!(found[0].starts_with(expected), "{found:?}");
}

#[test]
fn every_way_to_name_a_module_is_seen() {
    for code in [
        "use crate::conn;",
        "use crate::conn as c;",
        "use crate::conn::*;",
        "use crate::{limits, conn::Connection};",
        "use crate::{limits::{A, B}, conn::{self, Connection}};",
        "use {crate::limits, crate::conn};",
        "pub(crate) use crate::conn::Connection;",
        "fn f(c: &crate::conn::Connection) {}",
        "fn f() { crate::conn::run::<u8>(1) }",
        "impl<T: crate::conn::Peer> Trait for T {}",
        "type P = <u8 as crate::conn::Peer>::Id;",
        "use super::super::conn;",
        "use super::super::{limits, conn};",
        "use super::{super::conn::Connection, chunked};",
        "use self::super::super::conn;",
        "fn f() { super::super::conn::run() }",
        "mod inner { use super::super::super::conn; }",
        "mod inner { mod deeper { fn f() { super::super::super::super::conn::run() } } }",
        "macro_rules! m { () => { $crate::conn::run() }; }",
        "macro_rules! m { () => { use $crate::conn::run; }; }",
        "use ringfort::conn;",
        "fn f(x: &str) { if x == \"//\" { crate::conn::run() } }",
        "fn f(c: char) { if c == '\"' { crate::conn::run() } }",
        "fn f<'a>(x: &'a str) { crate::conn::run() }",
        "/* /* nested */ */ use crate::conn;",
        "const S: &str = r#\"a\"b\"#; use crate::conn;",
        "#[cfg(test)] mod tests { use crate::conn; }",
    ] {
        assert_caught("http/parse.rs", code, "must not name `conn`");
    }
}

#[test]
fn text_that_only_looks_like_code_is_not_seen() {
    for code in [
        "// use crate::conn;",
        "/// See [`crate::conn`].",
        "/* use crate::conn; /* nested */ crate::conn */",
        "const S: &str = \"crate::conn::run() unsafe compio\";",
        "const S: &str = \"escaped \\\" crate::conn::run()\";",
        "const S: &str = r\"crate::conn\\\"; const T: u8 = 1;",
        "const S: &str = r##\"\"# unsafe crate::conn \"##;",
        "const S: &[u8] = b\"crate::conn\"; const B: u8 = b'\\''; const C: char = '\\u{1F600}';",
        "const S: &[u8] = br#\"crate::conn\"#; const C: &std::ffi::CStr = c\"unsafe\";",
    ] {
        assert_clean("http/parse.rs", code);
    }
}

#[test]
fn a_module_may_name_itself_and_lower_rows() {
    assert_clean(
        "http/parse.rs",
        "use crate::limits; use crate::rt::Stream; use crate::http::head::Head; use super::*;",
    );
    assert_clean("http/parse.rs", "pub(crate) fn a() {} pub(in crate::http) fn b() {} pub(super) fn c() {}");
    assert_clean("clock.rs", "mod tests { use super::*; }");
    assert_clean("conn/mod.rs", "use ::http::Uri; use std::io::{self, Read}; fn f() -> impl Sized + use<> {}");
}

#[test]
fn siblings_are_allowed_only_as_listed() {
    assert_clean("router/lookup.rs", "use crate::http::Method;");
    assert_caught("http/parse.rs", "use crate::router::Table;", "must not name `router` (row 2)");
    assert_clean("rt/compio.rs", "use crate::{sys, pool::Pool, metrics};");
    assert_caught("sys/mod.rs", "use crate::rt;", "must not name `rt`");
    assert_caught("limits.rs", "use super::clock;", "must not name `clock`");
    assert_caught("clock.rs", "use crate::limits;", "must not name `limits`");
}

#[test]
fn the_crate_root_is_no_way_around_the_layers() {
    assert_caught("http/parse.rs", "use crate::*;", "names `crate::*`");
    assert_caught("http/parse.rs", "use crate::{self as root};", "names `crate::self`");
    assert_caught("http/parse.rs", "use super::super as root;", "names `crate::self`");
    assert_caught("http/parse.rs", "use crate::Connection;", "names `crate::Connection`");
}

#[test]
fn an_exported_macro_belongs_to_the_module_that_defines_it() {
    let defines = "#[macro_export] macro_rules! routes { () => {}; }";
    let uses = "fn f() { crate::routes!() }";
    assert_eq!(planted_files(&[("router/table.rs", defines), ("admin/mod.rs", uses)]), Vec::<String>::new());
    let found = planted_files(&[("router/table.rs", defines), ("sys/mod.rs", uses)]);
    assert!(found.len() == 1 && found[0].contains("must not name `router`"), "{found:?}");
}

#[test]
fn unsafe_is_caught_outside_the_marked_rows() {
    for code in ["fn f() { unsafe { g() } }", "unsafe impl Send for X {}", "#[unsafe(no_mangle)] fn f() {}"] {
        assert_caught("http/parse.rs", code, "holds `unsafe`");
        for path in ["sys/mod.rs", "rt/sim/net.rs", "pool.rs", "metrics/shard.rs"] {
            assert_clean(path, code);
        }
    }
    for code in ["#![allow(unsafe_code)]", "#[expect(dead_code, unsafe_code)] fn f() {}"] {
        assert_caught("conn/mod.rs", code, "holds permission for `unsafe_code`");
        assert_caught("lib.rs", code, "holds permission for `unsafe_code`");
        assert_clean("pool.rs", code);
    }
    assert_clean("conn/mod.rs", "#![forbid(unsafe_code)]");
}

#[test]
fn a_file_without_a_header_is_caught() {
    for text in ["", "fn f() {}\n", "// Not a header.\n", "//!\n", "\n//! Too late.\n"] {
        let source = Source { path: "clock.rs".to_owned(), text: text.to_owned() };
        let found = offences(&[source]).iter().map(Offence::to_string).collect::<Vec<_>>();
        assert!(
            found.len() == 1 && found[0].starts_with("src/clock.rs:1: module `clock` (row 0) has a file"),
            "{found:?}"
        );
    }
}

#[test]
fn executors_are_named_only_in_rt() {
    assert_caught("worker.rs", "use compio::runtime::Runtime;", "names `compio`");
    assert_caught("worker.rs", "use crate::rt::monoio;", "names `monoio`");
    assert_caught("sys/mod.rs", "fn f() { glommio::spawn_local(x) }", "names `glommio`");
    assert_caught("conn/mod.rs", "#[cfg(test)] mod tests { use compio::net; }", "names `compio`");
    assert_clean("rt/compio.rs", "use compio::runtime::Runtime;");
    assert_clean("config/model.rs", "enum Executor { #[cfg(feature = \"monoio\")] Monoio }");
}

#[test]
fn the_time_is_read_only_in_clock() {
    assert_caught("conn/mod.rs", "fn f() { std::time::Instant::now(); }", "names `Instant::now`");
    assert_caught("rt/mod.rs", "fn f() { SystemTime::now(); }", "names `SystemTime::now`");
    assert_caught("sys/mod.rs", "use libc::clock_gettime;", "names `clock_gettime`");
    assert_caught("conn/tests.rs", "fn f() { Instant::now(); }", "names `Instant::now`");
    assert_clean("clock.rs", "fn f() { Instant::now(); }");
    assert_clean("conn/mod.rs", "fn f(at: std::time::Instant) { at.elapsed(); now(); }");
}

#[test]
fn std_sockets_are_named_only_in_sys_rt_and_tests() {
    assert_caught("admin/mod.rs", "use std::net::{SocketAddr, TcpListener};", "names `TcpListener`");
    assert_caught("admin/mod.rs", "fn f() { std::net::TcpStream::connect(a); }", "names `TcpStream`");
    assert_caught("admin/mod.rs", "use socket2::Socket;", "names `socket2`");
    assert_clean("sys/listen.rs", "use std::net::TcpListener;");
    assert_clean("rt/epoll.rs", "use std::net::TcpStream;");
    assert_clean("admin/mod.rs", "#[cfg(test)]\nmod tests { fn f() { mod deep { use std::net::TcpStream; } } }");
    assert_clean(
        "admin/mod.rs",
        "#[cfg(all(test, target_os = \"linux\"))] pub(crate) mod t { use std::net::TcpStream; }",
    );
    assert_clean("admin/tests.rs", "use std::net::TcpStream;");
    assert_caught("admin/contests.rs", "use std::net::TcpStream;", "names `TcpStream`");
    let apart = [("admin/mod.rs", "#[cfg(test)]\nmod client;"), ("admin/client.rs", "use std::net::TcpStream;")];
    assert_eq!(planted_files(&apart), Vec::<String>::new());
    assert_caught("admin/mod.rs", "#[cfg(not(test))] mod t { use std::net::TcpStream; }", "names `TcpStream`");
    assert_caught("admin/mod.rs", "#[cfg(test)] use x; mod t { use std::net::TcpStream; }", "names `TcpStream`");
    assert_caught("admin/mod.rs", "#[cfg(test)] mod t { } use std::net::TcpStream;", "names `TcpStream`");
}

#[test]
fn json_is_read_only_in_config() {
    assert_caught("admin/mod.rs", "fn f() { simd_json::from_slice(x) }", "names `simd_json`");
    assert_clean("config/load.rs", "use simd_json::from_slice;");
}

#[test]
fn lib_declares_the_table_in_its_order_and_nothing_else() {
    assert_clean("lib.rs", "pub mod limits;\npub mod rt;\n#[cfg(unix)] pub mod pool;\npub mod conn;\n");
    assert_caught("lib.rs", "pub mod pool;\npub mod rt;\n", "src/lib.rs:3: declares `rt` after `pool`");
    assert_caught("lib.rs", "pub mod rt;\npub mod rt;\n", "declares `rt` after `rt`");
    assert_caught(
        "lib.rs",
        "pub mod limits;\nmod cache;\n",
        "src/lib.rs:3: declares `cache`, which is not in the table",
    );
    assert_caught("lib.rs", "pub mod cache { }\n", "declares `cache`");
    assert_caught("cache/mod.rs", "", "module `cache` is not in the table");
    let found = planted_files(&[("lib.rs", "pub mod limits;"), ("limits.rs", ""), ("clock.rs", "")]);
    assert!(found.len() == 1 && found[0].contains("does not declare `clock`"), "{found:?}");
}

#[test]
fn nameless_modules_are_caught() {
    for name in ["util", "utils", "common", "misc"] {
        assert_caught(&format!("http/{name}.rs"), "", "says nothing about its contents");
        assert_caught("http/mod.rs", &format!("mod {name};"), "says nothing about its contents");
        assert_caught("http/mod.rs", &format!("mod {name} {{ }}"), "says nothing about its contents");
    }
}

#[test]
fn main_names_only_the_library() {
    assert_clean("main.rs", "fn main() -> std::process::ExitCode { ringfort::cli::run() }");
    assert_clean("main.rs", "use ringfort::cli;\nuse std::process::ExitCode;\nfn main() -> ExitCode { cli::run() }");
    assert_clean("main.rs", "use ringfort::{cli as door};\nfn main() { door::run(Vec::new()) }");
    assert_caught("main.rs", "fn main() { clap::Command::new(\"x\"); }", "names `clap`");
    assert_caught("main.rs", "use tracing;\nfn main() {}", "names `tracing`");
    assert_caught("main.rs", "fn main() { tracing::info!(\"x\") }", "names `tracing`");
    assert_caught("main.rs", "mod start;\nfn main() {}", "declares `start`");
}

#[test]
fn long_files_are_caught() {
    // The header is the first line, so one line less fits.
    assert_clean("http/parse.rs", &"\n".repeat(FILE_LINES_MAX - 1));
    assert_caught("http/parse.rs", &"\n".repeat(FILE_LINES_MAX), "src/http/parse.rs:601: 601 lines, at most 600");
    assert_clean("worker.rs", &"\n".repeat(WORKER_LINES_MAX - 1));
    assert_caught("worker.rs", &"\n".repeat(WORKER_LINES_MAX), "301 lines, at most 300");
}

#[test]
fn lines_are_counted_through_comments_and_literals() {
    let text = "/* 1\n2 */ a \"3\n4\" b r#\"5\n6\"# c 'd' '\\n' e // 6\nf";
    let found = scan::tokens(text);
    let named = found.iter().filter_map(|token| token.ident().map(|name| (name, token.line))).collect::<Vec<_>>();
    assert_eq!(named, [("a", 2), ("b", 3), ("c", 4), ("e", 4), ("f", 5)]);
}

#[test]
fn unfinished_source_ends_the_scan() {
    for code in [
        "\"",
        "'",
        "'\\",
        "r#\"",
        "/*",
        "use",
        "use crate::{",
        "use crate::{a, ",
        "mod",
        "mod x",
        "#[cfg(",
        "}}",
        "a::",
    ] {
        planted("http/parse.rs", code);
    }
}
