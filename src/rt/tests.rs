//! The facade on each backend that is built, and each of its drivers: what holds for all of them.

use std::cell::Cell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::{clock, sys};

/// What this build and this host can run on.
pub(crate) fn backends() -> Vec<(Executor, DriverChoice)> {
    let has_io_uring = sys::probe::io_uring().is_ok();
    if !has_io_uring {
        eprintln!("io_uring is refused here: only epoll is tested");
    }
    let drivers = [DriverChoice::IoUring, DriverChoice::Epoll];
    let all = Executor::BUILT.iter().flat_map(|executor| drivers.map(|driver| (*executor, driver)));
    all.filter(|(executor, driver)| executor.refusal(*driver).is_none())
        .filter(|(_, driver)| has_io_uring || *driver == DriverChoice::Epoll)
        .collect()
}

fn on_each_backend(test: impl Fn(Options)) {
    for (executor, driver) in backends() {
        eprintln!("on {}, {}", executor.name(), driver.name());
        test(Options { executor, driver, ring_entries: 64, ring_buffers: 8, ring_buffer_bytes: 4096 });
    }
}

fn listen() -> (OwnedFd, SocketAddr) {
    let socket = sys::socket::listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = sys::socket::local_address(&socket).unwrap();
    (socket, address)
}

async fn accept(socket: OwnedFd) -> (RecvHalf, SendHalf) {
    let mut listener = Listener::new(socket);
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
    on_each_backend(|options| {
        let (socket, address) = listen();
        let client = std::thread::spawn(move || {
            let mut client = TcpStream::connect(address).unwrap();
            client.write_all(b"hello").unwrap();
            let mut back = [0; 5];
            client.read_exact(&mut back).unwrap();
            back
        });
        let got = run(&options, |_| async {
            let (mut recv_half, mut send_half) = accept(socket).await;
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
    on_each_backend(|options| {
        let (socket, address) = listen();
        let wanted: Vec<u8> = (0..400_000_u32).map(|n| (n % 251) as u8).collect();
        let sent = wanted.clone();
        let client = std::thread::spawn(move || {
            TcpStream::connect(address).unwrap().write_all(&sent).unwrap();
        });
        let got = run(&options, |_| async {
            let (mut recv_half, _send_half) = accept(socket).await;
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
    on_each_backend(|options| {
        let (socket, address) = listen();
        let client = std::thread::spawn(move || {
            let mut client = TcpStream::connect(address).unwrap();
            client.write_all(&vec![7; 1 << 20]).unwrap();
        });
        let (total, stats) = run(&options, |_| async {
            let (mut recv_half, _send_half) = accept(socket).await;
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
        // The ring's eight, and the pooled one that the first receive went into.
        assert!(stats.buffers_exhausted > 0 && (8..=9).contains(&stats.buffers_high_water), "{stats:?}");
        assert_eq!(stats.buffers_in_use, 0, "{stats:?}");
    });
}

#[test]
fn a_receive_buffer_holds_what_the_options_say() {
    on_each_backend(|options| {
        let options = Options { ring_buffer_bytes: 16 * 1024, ..options };
        let (socket, address) = listen();
        let client = std::thread::spawn(move || {
            TcpStream::connect(address).unwrap().write_all(&vec![7; 1 << 20]).unwrap();
        });
        let most = run(&options, |_| async {
            let (mut recv_half, _send_half) = accept(socket).await;
            let mut most = 0;
            loop {
                match recv(&mut recv_half).await.unwrap().len() {
                    0 => break most,
                    length => most = most.max(length),
                }
                // Lets more come than one small receive takes.
                sleep_until(clock::now() + Duration::from_millis(1)).await;
            }
        });
        client.join().unwrap();
        assert_eq!(most.unwrap(), 16 * 1024);
    });
}

#[test]
fn a_peer_that_reads_late_gets_every_byte() {
    on_each_backend(|options| {
        let (socket, address) = listen();
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
            let (mut recv_half, mut send_half) = accept(socket).await;
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
    on_each_backend(|options| {
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
    on_each_backend(|options| {
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
    on_each_backend(|options| {
        let (socket, address) = listen();
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
            let (mut recv_half, _send_half) = accept(socket).await;
            let until = clock::now() + Duration::from_secs(2);
            timeout(until, recv(&mut recv_half)).await.map(|lease| lease.unwrap().len())
        });
        assert_eq!(got.unwrap(), Some(5));
        client.join().unwrap();
    });
}

#[test]
fn a_connection_that_waits_is_accepted_before_the_driver_tells_of_it() {
    on_each_backend(|options| {
        let (socket, address) = listen();
        let accepted = run(&options, |_| async {
            let mut listener = Listener::new(socket);
            poll_fn(|cx| Poll::Ready(listener.poll_accept(cx).is_pending())).await;
            let _client = TcpStream::connect(address).unwrap();
            listener.accept_waiting().is_some() && listener.accept_waiting().is_none()
        });
        assert!(accepted.unwrap());
    });
}

/// Says that it was dropped.
struct Flag(Rc<Cell<bool>>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

#[test]
fn tasks_that_still_wait_are_dropped_and_their_connections_closed_when_the_core_ends() {
    on_each_backend(|options| {
        let (socket, address) = listen();
        let dropped = Rc::new(Cell::new(false));
        let flag = Flag(dropped.clone());
        let mut client = TcpStream::connect(address).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        run(&options, |_| async {
            let (mut recv_half, send_half) = accept(socket).await;
            let mut other = send_half.another();
            spawn(async move {
                let _flag = flag;
                recv(&mut recv_half).await.unwrap();
            });
            // One that waits for room.
            spawn(async move {
                let _keep = send_half;
                loop {
                    poll_fn(|cx| other.poll_send(cx, &[0; 65536])).await.unwrap();
                }
            });
            sleep_until(clock::now() + Duration::from_millis(50)).await;
            assert_eq!(stats().send_waits, 1);
        })
        .unwrap();
        assert!(dropped.get(), "the task was dropped");
        let end = client.read_to_end(&mut Vec::new());
        assert!(end.is_ok() || end.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
    });
}

#[test]
fn a_task_that_panics_harms_no_other_and_the_main_future_panics_on() {
    on_each_backend(|options| {
        let outlived = run(&options, |_| async {
            spawn(async { panic!("a task panics, as this test wants") });
            sleep_until(clock::now() + Duration::from_millis(10)).await;
            blocking(|| 7).await
        });
        assert_eq!(outlived.unwrap(), 7);
        let main = std::panic::catch_unwind(|| run(&options, |_| async { panic!("main panics, as this test wants") }));
        assert!(main.is_err());
    });
}

#[test]
fn deadlines_come_due_in_time_after_a_long_sleep_and_are_never_early() {
    on_each_backend(|options| {
        let (post, mailbox) = mailbox::<()>(1);
        let poster = std::thread::spawn(move || {
            std::thread::park_timeout(Duration::from_millis(120));
            post.post(()).unwrap();
        });
        run(&options, |_| async {
            // Nothing happens for a while: what comes then must not be judged by the time before.
            mailbox.next().await.unwrap();
            let wait = Duration::from_millis(30);
            let (asked, until) = (clock::now(), clock::turn() + wait);
            assert!(asked.since(clock::turn()) < Duration::from_millis(50), "the turn began when the message came");
            sleep_until(until).await;
            assert!(clock::now() >= until);
            let far = Deadline::new();
            far.set(clock::now() + Duration::from_secs(3600));
            // An earlier one overtakes it.
            let asked = clock::now();
            sleep_until(asked + wait).await;
            assert!((wait..Duration::from_secs(5)).contains(&clock::now().since(asked)));
        })
        .unwrap();
        poster.join().unwrap();
    });
}
