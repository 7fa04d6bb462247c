//! Files end to end: what a client gets for what it asks.

use std::fs::{create_dir_all, write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::super::testing::{Answered, ask, ask_slowly, get, request};
use super::*;
use crate::handler::Outcome;

/// A root with files, removed in the end.
struct Tree(PathBuf);

impl Tree {
    fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("ringfort-files-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let base = std::env::temp_dir().join(name);
        create_dir_all(base.join("root/dir/sub")).unwrap();
        create_dir_all(base.join("root/.git")).unwrap();
        create_dir_all(base.join("root/.well-known")).unwrap();
        create_dir_all(base.join("root/empty")).unwrap();
        let tree = Self(base);
        write(tree.0.join("secret"), "secret").unwrap();
        tree.write("index.html", b"<p>root</p>");
        tree.write("a.txt", b"0123456789");
        tree.write("dir/index.html", b"<p>dir</p>");
        tree.write("dir/a b.css", b"p{}");
        tree.write("none", b"");
        tree.write(".git/config", b"secret");
        tree.write(".env", b"secret");
        tree.write(".well-known/x", b"known");
        tree
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join("root").join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        write(self.path(name), bytes).unwrap();
    }

    fn spec(&self) -> FilesSpec {
        FilesSpec {
            root: self.0.join("root"),
            index: Some("index.html".into()),
            param: Some("file".into()),
            precompressed: Vec::new(),
            cache_control: None,
        }
    }

    fn files(&self) -> Files {
        Files::new(self.spec()).unwrap()
    }

    #[track_caller]
    fn get(&self, path: &str, lines: &[&str]) -> Answered {
        ask(&self.files(), "/s/*file", &get(&format!("/s/{path}"), lines))
    }

    fn coded(&self) -> Files {
        Files::new(FilesSpec { precompressed: Coding::ALL.to_vec(), ..self.spec() }).unwrap()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_file_comes_with_all_its_fields() {
    let tree = Tree::new();
    let spec = FilesSpec { cache_control: Some("max-age=60".into()), ..tree.spec() };
    let file = std::fs::File::open(tree.path("a.txt")).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(784_111_777)).unwrap();
    let answered = ask(&Files::new(spec).unwrap(), "/s/*file", &get("/s/a.txt", &[]));
    assert_eq!((answered.status, answered.text()), (200, "0123456789"));
    for (name, value) in [
        ("content-type", "text/plain; charset=utf-8"),
        ("content-length", "10"),
        ("accept-ranges", "bytes"),
        ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("cache-control", "max-age=60"),
        ("x-content-type-options", "nosniff"),
    ] {
        assert_eq!(answered.field(name), Some(value));
    }
    let etag = answered.field("etag").unwrap();
    assert!(etag.starts_with('"') && etag.ends_with('"'));
    assert_eq!((answered.field("vary"), answered.field("content-encoding")), (None, None));
}

#[test]
fn head_gets_the_fields_of_get_and_no_body() {
    let tree = Tree::new();
    tree.write("big", &[7; 100_000]);
    for name in ["a.txt", "none", "big", "missing"] {
        let whole = tree.get(name, &[]);
        let head = ask(&tree.files(), "/s/*file", &request("HEAD", &format!("/s/{name}"), &["Range: bytes=0-1"]));
        assert_eq!((head.status, head.body.len()), (whole.status, 0), "{name}");
        assert_eq!(head.outcome, whole.outcome);
        for field in ["content-length", "etag", "content-type"] {
            assert_eq!(head.field(field), whole.field(field), "{name} {field}");
        }
        assert_eq!(head.field("content-range"), None);
    }
}

#[test]
fn other_methods_are_refused_with_what_is_allowed() {
    let tree = Tree::new();
    for (method, status) in [("POST", 405), ("DELETE", 405), ("PROPFIND", 405), ("OPTIONS", 204)] {
        let answered = ask(&tree.files(), "/s/*file", &request(method, "/s/a.txt", &[]));
        assert_eq!((answered.status, answered.field("allow")), (status, Some("GET, HEAD, OPTIONS")), "{method}");
    }
}

#[test]
fn names_are_decoded_and_without_a_parameter_the_whole_path_counts() {
    let tree = Tree::new();
    assert_eq!(tree.get("dir/a%20b.css", &[]).field("content-type"), Some("text/css; charset=utf-8"));
    let files = Files::new(FilesSpec { param: None, ..tree.spec() }).unwrap();
    assert_eq!(ask(&files, "/a.txt", &get("/a.txt", &[])).text(), "0123456789");
    assert_eq!(ask(&files, "/*x", &get("/", &[])).text(), "<p>root</p>");
    assert_eq!(ask(&files, "/*x", &get("//a.txt", &[])).status, 404);
    let files = Files::new(FilesSpec { param: Some("other".into()), ..tree.spec() }).unwrap();
    assert_eq!(ask(&files, "/s/*file", &get("/s/a.txt", &[])).status, 500);
}

#[test]
fn nothing_outside_the_root_and_nothing_hidden_is_found() {
    let tree = Tree::new();
    symlink("../secret", tree.path("out")).unwrap();
    symlink(tree.0.join("secret"), tree.path("absolute")).unwrap();
    symlink("/etc", tree.path("etc")).unwrap();
    symlink("loop", tree.path("loop")).unwrap();
    symlink("a.txt", tree.path("in")).unwrap();
    for path in [
        "out",
        "absolute",
        "etc/passwd",
        "etc/",
        "etc",
        "loop",
        "/etc/passwd",
        "//etc/passwd",
        "dir//index.html",
        "..%5Csecret",
        "..%5c..%5csecret",
        "dir%2Findex.html",
        "dir%2F",
        "%2Fetc/passwd",
        "%252e%252e/secret",
        ".env",
        ".git/config",
        ".git",
        ".git/",
        "dir/.hidden",
        "...",
        "%FF",
        "missing",
        "a.txt/",
        "a.txt/b",
    ] {
        let answered = tree.get(path, &[]);
        assert_eq!(answered.status, 404, "{path}");
        assert!(!answered.text().contains("secret") && !answered.text().contains("root:"), "{path}");
    }
    assert_eq!(tree.get("in", &[]).text(), "0123456789");
    assert_eq!(tree.get(".well-known/x", &[]).text(), "known");
    assert_eq!(tree.get(&"a".repeat(300), &[]).status, 404);
    assert_eq!(tree.get(&"a/".repeat(3000), &[]).status, 404);
}

#[test]
fn a_directory_gives_its_index_behind_a_slash_only() {
    let tree = Tree::new();
    for path in ["", "dir/"] {
        let answered = tree.get(path, &[]);
        assert_eq!(
            (answered.status, answered.field("content-type")),
            (200, Some("text/html; charset=utf-8")),
            "{path}"
        );
    }
    let answered = tree.get("dir?a=1", &[]);
    assert_eq!((answered.status, answered.field("location")), (308, Some("/s/dir/?a=1")));
    assert_eq!(tree.get("dir/sub", &[]).field("location"), Some("/s/dir/sub/"));
    assert_eq!(tree.get("empty/", &[]).status, 404);
    // Where no index is configured, a redirect would lead to nothing.
    let files = Files::new(FilesSpec { index: None, ..tree.spec() }).unwrap();
    for path in ["/s/", "/s/dir/", "/s/dir"] {
        assert_eq!(ask(&files, "/s/*file", &get(path, &[])).status, 404, "{path}");
    }
    // An index that is a directory is none.
    create_dir_all(tree.path("empty/index.html")).unwrap();
    assert_eq!(tree.get("empty/", &[]).status, 404);
}

#[test]
fn the_redirect_of_a_directory_stays_on_this_host() {
    let tree = Tree::new();
    create_dir_all(tree.path("evil.example")).unwrap();
    let files = Files::new(FilesSpec { param: None, ..tree.spec() }).unwrap();
    assert_eq!(ask(&files, "/*x", &get("//evil.example", &[])).status, 404);
    assert_eq!(ask(&tree.files(), "/*file", &get("//evil.example", &[])).status, 404);
    assert_eq!(ask(&tree.files(), "/*file", &get("/evil.example", &[])).field("location"), Some("/evil.example/"));
    assert_eq!(tree.get("evil.example?//x", &[]).field("location"), Some("/s/evil.example/?//x"));
}

#[test]
fn who_may_not_read_gets_403_and_devices_are_no_files() {
    let tree = Tree::new();
    let status = std::process::Command::new("mkfifo").arg(tree.path("pipe")).status().unwrap();
    assert!(status.success());
    assert_eq!(tree.get("pipe", &[]).status, 404);
    std::fs::set_permissions(tree.path("a.txt"), std::fs::Permissions::from_mode(0o000)).unwrap();
    // Root reads everything.
    if std::fs::read(tree.path("a.txt")).is_err() {
        assert_eq!(tree.get("a.txt", &[]).status, 403);
    }
    for (code, status) in [
        (libc::EACCES, 403),
        (libc::EMFILE, 503),
        (libc::ENFILE, 503),
        (libc::EXDEV, 404),
        (libc::ELOOP, 404),
        (libc::ENAMETOOLONG, 404),
        (libc::EIO, 500),
    ] {
        let failure = open_failure(io::Error::from_raw_os_error(code));
        assert_eq!(failure.answer().unwrap().0.code(), status, "{code}");
    }
}

#[test]
fn conditions_answer_304_and_412() {
    let tree = Tree::new();
    let whole = tree.get("a.txt", &[]);
    let etag = whole.field("etag").unwrap();
    let date = whole.field("last-modified").unwrap();
    for line in [format!("If-None-Match: {etag}"), format!("If-Modified-Since: {date}"), "If-None-Match: *".into()] {
        let answered = tree.get("a.txt", &[&line, "Range: bytes=0-1"]);
        assert_eq!((answered.status, answered.body.len()), (304, 0), "{line}");
        assert_eq!(answered.field("etag"), Some(etag));
        for name in ["content-length", "content-type", "content-range", "last-modified"] {
            assert_eq!(answered.field(name), None, "{name}");
        }
    }
    for line in ["If-Match: \"x\"", "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT"] {
        let answered = tree.get("a.txt", &[line]);
        assert_eq!(answered.status, 412, "{line}");
        assert_eq!(answered.field("content-type"), Some("application/problem+json"));
    }
    // A condition on what is not there is not evaluated (RFC 9110 section 13.2.1).
    assert_eq!(tree.get("missing", &["If-Match: *"]).status, 404);
    // Another version has another tag.
    tree.write("a.txt", b"0123456780");
    std::fs::remove_file(tree.path("a.txt")).unwrap();
    tree.write("a.txt", b"0123456789");
    assert_eq!(tree.get("a.txt", &[&format!("If-None-Match: {etag}")]).status, 200);
}

#[test]
fn one_range_gives_206_and_what_cannot_be_satisfied_416() {
    let tree = Tree::new();
    for (range, body, content_range) in [
        ("0-0", "0", "bytes 0-0/10"),
        ("2-4", "234", "bytes 2-4/10"),
        ("7-", "789", "bytes 7-9/10"),
        ("7-99", "789", "bytes 7-9/10"),
        ("-3", "789", "bytes 7-9/10"),
        ("-99", "0123456789", "bytes 0-9/10"),
        ("0-", "0123456789", "bytes 0-9/10"),
    ] {
        let answered = tree.get("a.txt", &[&format!("Range: bytes={range}")]);
        assert_eq!((answered.status, answered.text()), (206, body), "{range}");
        assert_eq!(answered.field("content-range"), Some(content_range));
        assert_eq!(answered.field("content-length"), Some(body.len().to_string().as_str()));
        assert!(answered.field("etag").is_some());
    }
    for range in ["0-1,3-4", "4-2", "x", ""] {
        let answered = tree.get("a.txt", &[&format!("Range: bytes={range}")]);
        assert_eq!((answered.status, answered.field("content-range")), (200, None), "{range}");
    }
    for (name, range, content_range) in
        [("a.txt", "10-", "bytes */10"), ("a.txt", "-0", "bytes */10"), ("none", "0-", "bytes */0")]
    {
        let answered = tree.get(name, &[&format!("Range: bytes={range}")]);
        assert_eq!((answered.status, answered.field("content-range")), (416, Some(content_range)), "{range}");
        assert_eq!((answered.field("etag"), answered.field("last-modified")), (None, None));
    }
    let answered = tree.get("none", &["Range: bytes=-1"]);
    assert_eq!((answered.status, answered.field("content-length")), (200, Some("0")));
}

#[test]
fn if_range_decides_whether_the_range_counts() {
    let tree = Tree::new();
    let etag = tree.get("a.txt", &[]).field("etag").unwrap().to_owned();
    for (value, status) in [(etag.clone(), 206), (format!("W/{etag}"), 200), ("\"x\"".into(), 200)] {
        let answered = tree.get("a.txt", &["Range: bytes=0-1", &format!("If-Range: {value}")]);
        assert_eq!(answered.status, status, "{value}");
    }
    // A range that could not be satisfied counts no more than another.
    assert_eq!(tree.get("a.txt", &["Range: bytes=99-", "If-Range: \"x\""]).status, 200);
}

#[test]
fn the_best_accepted_sibling_is_sent() {
    let tree = Tree::new();
    tree.write("app.js", b"identity");
    tree.write("app.js.br", b"brotli");
    tree.write("app.js.gz", b"gzip");
    let files = tree.coded();
    let mut etags = Vec::new();
    for (accept, coding, body) in [
        ("br, gzip", Some("br"), "brotli"),
        ("gzip, zstd", Some("gzip"), "gzip"),
        ("gzip;q=0.9, br;q=0.1", Some("gzip"), "gzip"),
        ("zstd", None, "identity"),
        ("identity, br;q=0.5", None, "identity"),
        ("", None, "identity"),
    ] {
        let answered = ask(&files, "/s/*file", &get("/s/app.js", &[&format!("Accept-Encoding: {accept}")]));
        assert_eq!((answered.status, answered.text()), (200, body), "{accept}");
        assert_eq!(answered.field("content-encoding"), coding, "{accept}");
        assert_eq!(answered.field("vary"), Some("Accept-Encoding"));
        assert_eq!(answered.field("content-type"), Some("text/javascript; charset=utf-8"));
        etags.push((answered.field("etag").unwrap().to_owned(), body));
    }
    assert!(etags.iter().all(|(etag, body)| etags.iter().all(|(other, of)| (etag == other) == (body == of))));
    // Conditions and ranges are about the representation that is chosen.
    let accept = "Accept-Encoding: br";
    let answered = ask(&files, "/s/*file", &get("/s/app.js", &[accept, &format!("If-None-Match: {}", etags[0].0)]));
    assert_eq!((answered.status, answered.field("vary")), (304, Some("Accept-Encoding")));
    let answered = ask(&files, "/s/*file", &get("/s/app.js", &[accept, &format!("If-None-Match: {}", etags[3].0)]));
    assert_eq!(answered.status, 200);
    let answered = ask(&files, "/s/*file", &get("/s/app.js", &[accept, "Range: bytes=-3"]));
    assert_eq!((answered.text(), answered.field("content-range")), ("tli", Some("bytes 3-5/6")));
}

#[test]
fn a_sibling_needs_its_original_and_a_client_that_refuses_all_gets_406() {
    let tree = Tree::new();
    tree.write("only.js.gz", b"gzip");
    symlink("../../secret", tree.path("a.txt.gz")).unwrap();
    create_dir_all(tree.path("a.txt.br")).unwrap();
    let files = tree.coded();
    let with = |path: &str, accept: &str| ask(&files, "/s/*file", &get(path, &[&format!("Accept-Encoding: {accept}")]));
    assert_eq!(with("/s/only.js", "gzip").status, 404);
    assert_eq!(with("/s/a.txt", "gzip, br").text(), "0123456789");
    let answered = with("/s/a.txt", "zstd, identity;q=0");
    assert_eq!((answered.status, answered.field("vary")), (406, Some("Accept-Encoding")));
    // Who does not negotiate does not look.
    assert_eq!(tree.get("a.txt", &["Accept-Encoding: identity;q=0"]).status, 200);
}

#[test]
fn a_long_file_is_streamed_whole_and_in_parts() {
    let tree = Tree::new();
    let bytes: Vec<u8> = (0..300_001u32).flat_map(u32::to_le_bytes).collect();
    tree.write("long.bin", &bytes);
    let files = tree.files();
    let answered = ask_slowly(&files, "/s/*file", &get("/s/long.bin", &[]), 10_007);
    assert!(answered.body == bytes);
    assert_eq!(answered.outcome, Outcome::Complete(Status::OK));
    for (first, last) in [(1, 16_384), (1, 16_385), (65_535, 65_536), (7, 1_000_000), (1_199_999, 1_200_003)] {
        let answered = tree.get("long.bin", &[&format!("Range: bytes={first}-{last}")]);
        assert!(answered.body == bytes[first..=last], "{first}-{last}");
        assert_eq!(answered.outcome, Outcome::Complete(Status::PARTIAL_CONTENT));
    }
}

#[test]
fn a_file_that_shrinks_while_it_is_sent_cuts_the_response() {
    let tree = Tree::new();
    // The kernel says 4096 and gives less: the only file that reliably shrinks.
    let size = std::fs::metadata("/sys/kernel/uevent_seqnum").map(|metadata| metadata.len()).unwrap_or_default();
    if size < 100 {
        return;
    }
    let files = Files::new(FilesSpec { root: "/sys/kernel".into(), ..tree.spec() }).unwrap();
    let answered = ask(&files, "/s/*file", &get("/s/uevent_seqnum", &[]));
    assert_eq!(answered.outcome, Outcome::Cut(Status::OK));
    assert!(answered.failure.unwrap().to_string().contains("became shorter"));
}

#[test]
fn mistakes_are_named_when_the_handler_is_built() {
    let tree = Tree::new();
    let refused = |spec: FilesSpec| Files::new(spec).unwrap_err().to_string();
    let message = refused(FilesSpec { root: tree.0.join("nowhere"), ..tree.spec() });
    assert!(message.starts_with("root: expected a directory") && message.contains("nowhere"), "{message}");
    assert!(refused(FilesSpec { root: tree.path("a.txt"), ..tree.spec() }).contains("a.txt"));
    for index in ["", "..", "a/b"] {
        assert!(refused(FilesSpec { index: Some(index.into()), ..tree.spec() }).starts_with("index: "));
    }
    assert!(refused(FilesSpec { cache_control: Some("a\nb".into()), ..tree.spec() }).contains("cache_control"));
}
