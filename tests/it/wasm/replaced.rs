//! A module that is replaced under load.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::json;

use super::guests::{Modules, plugin, put_version, route};
use crate::support::{Client, wait_until};

#[test]
fn no_request_is_lost_and_none_sees_half_a_change() {
    let modules = Modules::new();
    put_version(&modules, "stamp", "1");
    let mut server = modules.start(json!([route("/", plugin("stamp", "closed"))])).serve();
    let address = server.address;
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU64::new(0));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, answered) = (stop.clone(), answered.clone());
            std::thread::spawn(move || {
                let mut client = Client::connect(address);
                let mut last = 1;
                while !stop.load(Ordering::SeqCst) {
                    let response = client.get("/");
                    assert_eq!((response.status, response.text()), (200, "/"));
                    let version: u64 = response.field("x-version").unwrap().parse().unwrap();
                    assert!(version >= last, "{version} after {last}");
                    last = version;
                    answered.fetch_add(1, Ordering::SeqCst);
                }
                last
            })
        })
        .collect();
    for version in ["2", "3", "4"] {
        put_version(&modules, "stamp", version);
        wait_until("the new module is in force", || server.get("/").field("x-version") == Some(version));
        let so_far = answered.load(Ordering::SeqCst);
        wait_until("requests go on", || answered.load(Ordering::SeqCst) > so_far + 100);
    }
    // One that cannot be used changes nothing.
    modules.put_bytes("stamp", b"hello");
    let line = server.log_line("the config is wrong").unwrap();
    assert!(line["error"].as_str().unwrap().contains("no WebAssembly module"), "{line}");
    assert_eq!(server.get("/").field("x-version"), Some("4"));
    stop.store(true, Ordering::SeqCst);
    let last = clients.into_iter().map(|client| client.join().unwrap());
    assert_eq!(last.max(), Some(4));
}
