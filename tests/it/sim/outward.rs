//! A core of a world connects to servers outside of it, by the same sockets as everywhere.

use ringfort::clock;
use ringfort::rt::sim::{self, CoreOptions, Faults, Options, Reception, Style};
use ringfort::rt::{self, Remote, SendHalf};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

const STYLES: [Style; 2] = [Style::Multishot, Style::Readiness];
const SEEDS: u64 = 40;

fn address() -> SocketAddr {
    SocketAddr::from(([10, 2, 0, 1], 80))
}

async fn connect(within: Duration) -> io::Result<rt::Socket> {
    rt::connect(&Remote::Tcp(address()), clock::now() + within).await
}

/// Runs `outside` beside a core that runs `inside`, with each style and many seeds.
fn in_worlds(faults: Faults, inside: fn() -> Play, outside: fn() -> Play) {
    for (seed, style) in (0..SEEDS).flat_map(|seed| STYLES.map(|style| (seed, style))) {
        let core = CoreOptions { style, buffers: 3, buffer_bytes: 100 };
        let report = sim::run(Options { seed, faults, ..Options::default() }, move || async move {
            let core = sim::core(core, inside());
            outside().await;
            core.await;
        });
        if let Err(cause) = report.outcome {
            panic!("{}\nseed {seed}, {style:?}: {cause}", report.trace.join("\n"));
        }
    }
}

type Play = std::pin::Pin<Box<dyn Future<Output = ()>>>;

async fn send_all(send: &mut SendHalf, bytes: &[u8]) {
    let mut sent = 0;
    while sent < bytes.len() {
        sent += poll_fn(|cx| send.poll_send(cx, &bytes[sent..])).await.expect("nobody resets it");
    }
}

fn pattern(count: u32) -> Vec<u8> {
    (0..count).map(|offset| (offset % 251) as u8).collect()
}

#[test]
fn a_core_and_a_server_outside_tell_each_other_everything() {
    let faults = Faults { short_sends: 300, refused_sends: 100, spurious_polls: 20, ..Faults::default() };
    let inside = || -> Play {
        Box::pin(async {
            let (mut recv, mut send) = rt::from_socket(connect(Duration::from_secs(1)).await.expect("it listens"));
            assert_eq!(sim::outward_connections(1), 1);
            send_all(&mut send, &pattern(5000)).await;
            send.shutdown();
            let mut got = Vec::new();
            loop {
                let lease = poll_fn(|cx| recv.poll_recv(cx)).await.expect("nobody resets it");
                if lease.is_empty() {
                    break;
                }
                got.extend_from_slice(&lease);
            }
            assert_eq!(got, pattern(7000));
        })
    };
    let outside = || -> Play {
        Box::pin(async {
            let acceptor = sim::serve(address());
            let peer = acceptor.accept().await;
            let mut got = Vec::new();
            loop {
                let bytes = peer.recv(1000).await.expect("nobody resets it");
                if bytes.is_empty() {
                    break;
                }
                got.extend(bytes);
            }
            assert_eq!(got, pattern(5000));
            peer.send(&pattern(6000)).await.expect("it reads");
            peer.send_at_once(&pattern(7000)[6000..]).await.expect("it reads");
            peer.shutdown();
        })
    };
    in_worlds(faults, inside, outside);
}

#[test]
fn a_connection_is_refused_where_nobody_listens() {
    let inside = || -> Play {
        Box::pin(async {
            let error = connect(Duration::from_secs(1)).await.expect_err("nobody listens");
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
            let path = Remote::Unix(PathBuf::from("/run/app.sock"));
            let error = rt::connect(&path, clock::now() + Duration::from_secs(1)).await.expect_err("there are none");
            assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        })
    };
    in_worlds(Faults::default(), inside, || -> Play { Box::pin(async {}) });
}

#[test]
fn a_server_may_be_late_or_never_answer() {
    let inside = || -> Play {
        Box::pin(async {
            let began = clock::now();
            drop(connect(Duration::from_secs(1)).await.expect("it is late"));
            let took = clock::now().since(began);
            assert!(took >= Duration::from_millis(500) && took < Duration::from_millis(600), "it took {took:?}");
            rt::sleep_until(began + Duration::from_secs(1)).await;
            let error = connect(Duration::from_secs(1)).await.expect_err("it is silent");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            let took = clock::now().since(began);
            assert!(took >= Duration::from_secs(2) && took < Duration::from_millis(2010), "it took {took:?}");
        })
    };
    let outside = || -> Play {
        Box::pin(async {
            let acceptor = sim::serve(address());
            acceptor.receive_as(Reception::Late(Duration::from_millis(500)));
            let peer = acceptor.accept().await;
            assert!(peer.recv(1).await.expect("it closes").is_empty());
            acceptor.receive_as(Reception::Silent);
            rt::sleep_until(clock::now() + Duration::from_secs(3)).await;
        })
    };
    in_worlds(Faults::default(), inside, outside);
}

#[test]
fn a_server_that_resets_or_goes_is_met_as_a_reset() {
    let inside = || -> Play {
        Box::pin(async {
            for _ in 0..2 {
                let (mut recv, _send) = rt::from_socket(connect(Duration::from_secs(1)).await.expect("it listens"));
                let error = poll_fn(|cx| recv.poll_recv(cx)).await.expect_err("it is reset");
                assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
            }
        })
    };
    let outside = || -> Play {
        Box::pin(async {
            let acceptor = sim::serve(address());
            acceptor.accept().await.reset();
            // The second one waits in the queue when its server goes.
            rt::sleep_until(clock::now() + Duration::from_millis(500)).await;
            drop(acceptor);
        })
    };
    in_worlds(Faults::default(), inside, outside);
}
