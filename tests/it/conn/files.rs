//! Files over a connection: sent from the kernel's cache, whole and in parts, to clients fast and slow.

use std::io::Read;
use std::path::PathBuf;

use serde_json::json;

use crate::support::{Server, Start, on_each_driver};

const LENGTH: usize = 3 * 1024 * 1024 + 17;

/// A directory with one long file, removed at the end.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("ringfort-it-files-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("long"), content()).unwrap();
        Self(path)
    }

    fn serve(&self, driver: &'static str) -> Server {
        let files = json!({ "root": self.0 });
        Start::command(driver, json!([{ "match": { "path": "/files/*file" }, "files": files }])).serve()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Bytes that differ from place to place, so that a piece left out, sent twice or out of order shows.
fn content() -> Vec<u8> {
    (0..LENGTH as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[test]
fn a_long_file_arrives_byte_for_byte_and_so_do_the_answers_behind_it() {
    on_each_driver(|driver| {
        let directory = Directory::new(&format!("whole-{driver}"));
        let server = directory.serve(driver);
        let mut client = server.client();
        client.send("GET /files/long HTTP/1.1\r\nHost: test\r\n\r\n".repeat(3));
        client.send("GET /files/none HTTP/1.1\r\nHost: test\r\n\r\n");
        for _ in 0..3 {
            let response = client.response();
            assert_eq!(response.status, 200);
            assert!(response.body == content(), "another file");
        }
        assert_eq!(client.response().status, 404);
    });
}

#[test]
fn a_range_of_a_long_file_is_cut_where_it_says() {
    on_each_driver(|driver| {
        let directory = Directory::new(&format!("range-{driver}"));
        let server = directory.serve(driver);
        let mut client = server.client();
        for (first, last) in [(0, 0), (4095, 300_000), (1_000_001, LENGTH - 1)] {
            client.send(format!("GET /files/long HTTP/1.1\r\nHost: test\r\nRange: bytes={first}-{last}\r\n\r\n"));
            let response = client.response();
            assert_eq!(response.status, 206);
            assert!(response.body == content()[first..=last], "another part than {first}-{last}");
        }
    });
}

#[test]
fn a_client_that_reads_a_long_file_in_small_sips_gets_all_of_it() {
    on_each_driver(|driver| {
        let directory = Directory::new(&format!("slow-{driver}"));
        let server = directory.serve(driver);
        let mut client = server.client();
        client.send("GET /files/long HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
        let (mut answer, mut sip) = (Vec::new(), [0; 1777]);
        loop {
            match client.stream().read(&mut sip).unwrap() {
                0 => break,
                // Others are served in between, while the file waits for room.
                taken => answer.extend_from_slice(&sip[..taken]),
            }
            if answer.len() % 64 == 0 {
                assert_eq!(server.get("/files/none").status, 404);
            }
        }
        assert!(answer.ends_with(&content()), "another file");
    });
}

#[test]
fn a_file_that_is_cut_short_while_it_is_sent_cuts_the_response() {
    on_each_driver(|driver| {
        let directory = Directory::new(&format!("cut-{driver}"));
        // Longer than the buffers of both sockets together, so that the server still has most of it to send.
        let path = directory.0.join("long");
        std::fs::File::options().write(true).open(&path).unwrap().set_len(64 * 1024 * 1024).unwrap();
        let server = directory.serve(driver);
        let mut client = server.client();
        client.send("GET /files/long HTTP/1.1\r\nHost: test\r\n\r\n");
        client.wait_for(b"\r\n\r\n");
        std::fs::File::options().write(true).open(&path).unwrap().set_len(1).unwrap();
        assert!(client.rest().len() < 64 * 1024 * 1024);
        assert_eq!(server.get("/files/none").status, 404);
    });
}
