//! The facade on both drivers: what holds for every backend.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::{clock, sys};

fn on_both_drivers(test: impl Fn(Options)) {
    for driver in [DriverChoice::IoUring, DriverChoice::Epoll] {
        let options =
            Options { driver, ring_entries: 64, ring_buffers: 8, ring_buffer_bytes: 4096, ..Options::default() };
        if driver == DriverChoice::IoUring && sys::probe::io_uring().is_err() {
            eprintln!("io_uring is refused here: only epoll is tested");
            continue;
        }
        test(options);
    }
}

fn pair() -> (Listener, SocketAddr) {
    let socket = sys::socket::listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = sys::socket::local_address(&socket).unwrap();
    (Listener::new(socket), address)
}

async fn accept(listener: &mut Listener) -> (RecvHalf, SendHalf) {
    from_socket(poll_fn(|cx| listener.poll_accept(cx)).await.unwrap().0)
}

async fn recv(half: &mut RecvHalf) -> std::io::Result<Lease> {
    poll_fn(|cx| half.poll_recv(cx)).await
}

async fn send_all(half: &mut SendHalf, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let sent = poll_fn(|cx| half.poll_send(cx, bytes)).await.unwrap();
        bytes = &bytes[sent..];
    }
}

fn soon() -> Moment {
    clock::now() + Duration::from_secs(10)
}

#[test]
fn bytes_arrive_in_order_and_the_end_is_seen() {
    on_both_drivers(|options| {
        let (mut listener, address) = {
            let pair = pair();
            (pair.0, pair.1)
        };
        let client = std::thread::spawn(move || {
            let mut client = TcpStream::connect(address).unwrap();
            client.write_all(b"hello").unwrap();
            let mut back = [0; 5];
            client.read_exact(&mut back).unwrap();
            back
        });
        let got = run(&options, |_| async {
            let (mut recv_half, mut send_half) = accept(&mut listener).await;
            let mut got = Vec::new();
            while got.len() < 5 {
                got.extend_from_slice(&recv(&mut recv_half).await.unwrap());
            }
            send_all(&mut send_half, &got).await;
            assert!(recv(&mut recv_half).await.unwrap().is_empty(), "an empty lease marks the end");
            got
        });
        assert_eq!(got.unwrap(), b"hello");
        assert_eq!(&client.join().unwrap(), b"hello");
    });
}

#[test]
fn changing_the_mode_in_the_middle_loses_no_byte() {
    on_both_drivers(|options| {
        let (mut listener, address) = pair();
        let wanted: Vec<u8> = (0..400_000_u32).map(|n| (n % 251) as u8).collect();
        let sent = wanted.clone();
        let client = std::thread::spawn(move || {
            TcpStream::connect(address).unwrap().write_all(&sent).unwrap();
        });
        let got = run(&options, |_| async {
            let (mut recv_half, _send_half) = accept(&mut listener).await;
            let mut got = Vec::new();
            for turn in 0_usize.. {
                recv_half.set_mode(if turn % 3 == 0 { RecvMode::Stream } else { RecvMode::Pieces });
                let lease = timeout(soon(), recv(&mut recv_half)).await.expect("bytes come").unwrap();
                if lease.is_empty() {
                    break;
                }
                got.extend_from_slice(&lease);
            }
            got
        })
        .unwrap();
        client.join().unwrap();
        assert!(got == wanted, "{} bytes of {}", got.len(), wanted.len());
    });
}

#[test]
fn a_reader_without_buffers_waits_and_goes_on_when_one_returns() {
    on_both_drivers(|options| {
        let (mut listener, address) = pair();
        let client = std::thread::spawn(move || {
            let mut client = TcpStream::connect(address).unwrap();
            client.write_all(&vec![7; 1 << 20]).unwrap();
        });
        let (total, stats) = run(&options, |_| async {
            let (mut recv_half, _send_half) = accept(&mut listener).await;
            let mut held = Vec::new();
            let mut total = 0;
            loop {
                let short = clock::now() + Duration::from_millis(50);
                match timeout(short, recv(&mut recv_half)).await {
                    Some(lease) => {
                        let lease = lease.unwrap();
                        if lease.is_empty() {
                            break;
                        }
                        total += lease.len();
                        held.push(lease);
                    }
                    None => held.clear(),
                }
            }
            drop(held);
            (total, stats())
        })
        .unwrap();
        client.join().unwrap();
        assert_eq!(total, 1 << 20);
        assert!(stats.buffers_exhausted > 0 && stats.buffers_high_water == 8, "{stats:?}");
        assert_eq!(stats.buffers_in_use, 0, "{stats:?}");
    });
}

#[test]
fn a_peer_that_reads_late_gets_every_byte() {
    on_both_drivers(|options| {
        let (mut listener, address) = pair();
        let client = std::thread::spawn(move || {
            let mut client = TcpStream::connect(address).unwrap();
            let mut all = Vec::new();
            client.write_all(b"go").unwrap();
            // Long enough for the sockets' buffers to fill.
            std::thread::park_timeout(Duration::from_millis(200));
            client.read_to_end(&mut all).unwrap();
            all.len()
        });
        let stats = run(&options, |_| async {
            let (mut recv_half, mut send_half) = accept(&mut listener).await;
            recv(&mut recv_half).await.unwrap();
            send_all(&mut send_half, &vec![1; 32 << 20]).await;
            stats()
        });
        assert_eq!(client.join().unwrap(), 32 << 20);
        assert!(stats.unwrap().send_waits > 0);
    });
}

#[test]
fn timers_mailboxes_and_blocking_work_wake_their_tasks() {
    on_both_drivers(|options| {
        let (post, mailbox) = mailbox::<u32>(4);
        let poster = std::thread::spawn(move || {
            for number in 0..100 {
                let mut message = number;
                while let Err(back) = post.post(message) {
                    message = back;
                    std::thread::yield_now();
                }
            }
        });
        let spawned = Rc::new(Cell::new(0));
        let seen = spawned.clone();
        run(&options, |_| async {
            spawn(async move {
                sleep_until(clock::now() + Duration::from_millis(5)).await;
                seen.set(blocking(|| 42).await);
            });
            for number in 0..100 {
                assert_eq!(timeout(soon(), mailbox.next()).await.expect("a message comes"), Some(number));
            }
            assert_eq!(timeout(soon(), mailbox.next()).await.expect("the end comes"), None);
            while spawned.get() != 42 {
                yield_now().await;
            }
        })
        .unwrap();
        poster.join().unwrap();
    });
}

#[test]
fn files_beneath_a_root_are_read_at_any_offset() {
    on_both_drivers(|options| {
        let directory = std::env::temp_dir().join(format!("ringfort-rt-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("f"), vec![b'x'; 100_000]).unwrap();
        let root = std::sync::Arc::new(fs::open_root(&directory).unwrap());
        run(&options, |_| async {
            let file = fs::open_beneath(&root, "f").await.unwrap();
            assert_eq!(file.metadata().size, 100_000);
            assert_eq!(file.read_at(99_990, 4096).await.unwrap().len(), 10);
            assert_eq!(file.read_at(0, 4096).await.unwrap().len(), 4096);
            assert_eq!(file.read_at(100_000, 4096).await.unwrap().len(), 0);
            assert!(fs::open_beneath(&root, "../f").await.is_err());
        })
        .unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
    });
}

#[test]
fn a_task_that_never_waits_does_not_keep_the_kernels_news_from_others() {
    on_both_drivers(|options| {
        let (mut listener, address) = pair();
        let client = std::thread::spawn(move || {
            let mut client = TcpStream::connect(address).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            client.write_all(b"hello").unwrap();
            let _ = client.read(&mut [0]);
        });
        let got = run(&options, |_| async {
            spawn(async {
                loop {
                    yield_now().await;
                }
            });
            let (mut recv_half, _send_half) = accept(&mut listener).await;
            let until = clock::now() + Duration::from_secs(2);
            timeout(until, recv(&mut recv_half)).await.map(|lease| lease.unwrap().len())
        });
        assert_eq!(got.unwrap(), Some(5));
        client.join().unwrap();
    });
}

#[test]
fn a_connection_that_waits_is_accepted_before_the_driver_tells_of_it() {
    on_both_drivers(|options| {
        let (mut listener, address) = pair();
        let accepted = run(&options, |_| async {
            poll_fn(|cx| Poll::Ready(listener.poll_accept(cx).is_pending())).await;
            let _client = TcpStream::connect(address).unwrap();
            listener.accept_waiting().is_some() && listener.accept_waiting().is_none()
        });
        assert!(accepted.unwrap());
    });
}
