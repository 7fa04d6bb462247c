//! Connections end to end, on each backend: a small server on this thread's executor, a blocking client on another.

use std::future::poll_fn;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use super::body::Incoming;
use super::{Core, Door, Observing, Rates, Settings, Timeouts, accept};
use crate::handler::{Action, BodyError, BodyLength, BodySource, BodyState, Context, Exchange, Reply, Routes};
use crate::http::{BodyFraming, HeadLimits};
use crate::metrics::ShardWriter;
use crate::router::RouterBuf;
use crate::rt::{self, Input, Listener, Options};
use crate::{clock, sys};

crate::routes! {
    static ROUTES: Action = {
        GET "/" => Action::Immediate(hello),
        GET "/abandoned" => crate::suspending!(abandoned),
        GET "/big" => Action::Immediate(big),
        GET "/endless" => crate::suspending!(endless),
        GET "/slow" => crate::suspending!(slow),
        POST "/slow" => crate::suspending!(slow),
        POST "/piece" => crate::suspending!(one_piece),
        POST "/read" => crate::suspending!(read),
    }
}

fn hello(exchange: &mut Exchange<'_>) -> Reply {
    exchange.response.text("hello")
}

/// Reads one piece of the body and does not look whether there is more.
async fn one_piece(exchange: &mut Exchange<'_>) -> Reply {
    exchange.body.next().await?;
    exchange.response.text("piece")
}

/// Gives up on a write in the middle and takes the response for ended.
async fn abandoned(exchange: &mut Exchange<'_>) -> Reply {
    let piece = vec![b'x'; 32 << 20];
    exchange.response.start(BodyLength::Known(piece.len() as u64))?;
    let _ = rt::timeout(clock::now() + Duration::from_millis(100), exchange.response.write(&piece)).await;
    Ok(())
}

fn big(exchange: &mut Exchange<'_>) -> Reply {
    exchange.response.send(&[b'x'; 60_000])
}

async fn endless(exchange: &mut Exchange<'_>) -> Reply {
    exchange.response.start(BodyLength::Unknown)?;
    loop {
        exchange.response.write(b"tick").await?;
    }
}

async fn slow(exchange: &mut Exchange<'_>) -> Reply {
    rt::sleep_until(clock::now() + SLOW).await;
    exchange.response.text("slow")
}

async fn read(exchange: &mut Exchange<'_>) -> Reply {
    let mut length = 0;
    while let Some(piece) = exchange.body.next().await? {
        length += piece.len();
    }
    exchange.response.text(&length.to_string())
}

/// What `/slow` takes.
const SLOW: Duration = Duration::from_millis(1500);

fn settings() -> Settings {
    let timeouts = Timeouts {
        head: Duration::from_secs(10),
        body: Duration::from_secs(10),
        idle: Duration::from_secs(10),
        write: Duration::from_secs(10),
        ..Timeouts::default()
    };
    Settings {
        head: HeadLimits::default(),
        body: 1 << 20,
        connections: 100,
        timeouts,
        rates: Rates::default(),
        keepalive_requests: 1000,
        keepalive_age: Duration::from_secs(3600),
        server_name: None,
        observing: Observing::default(),
    }
}

fn core(settings: &Settings) -> Rc<Core> {
    let empty = RouterBuf::build(&[]).unwrap();
    let routes = Arc::new(Routes::new(&[&ROUTES], empty, Vec::new(), Vec::new()));
    let metrics = ShardWriter::create(0, 1, routes.names().len());
    Core::new(settings.clone(), routes, metrics, 1, Context::default())
}

/// On each backend that can run here, with eight receive buffers.
fn backends() -> Vec<Options> {
    let options =
        |(executor, driver)| Options { executor, driver, ring_entries: 64, ring_buffers: 8, ..Options::default() };
    rt::tests::backends().into_iter().map(options).collect()
}

/// Serves `ROUTES` with eight receive buffers until `client` has ended, on each backend; `check` then sees the core.
fn serve(settings: &Settings, client: impl Fn(SocketAddr) + Clone + Send + 'static, check: impl Fn(&Core)) {
    for options in backends() {
        let socket = sys::socket::listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = sys::socket::local_address(&socket).unwrap();
        let (running, ended) = rt::mailbox::<()>(1);
        let client = client.clone();
        let client = std::thread::spawn(move || {
            let _running = running;
            client(address);
        });
        rt::run(&options, |_| async {
            let core = core(settings);
            rt::spawn(accept(Listener::new(socket), Door::default(), core.clone()));
            let late = clock::now() + Duration::from_secs(30);
            rt::timeout(late, ended.next()).await.expect("the client ends");
            check(&core);
        })
        .unwrap();
        client.join().unwrap();
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    stream
}

/// Everything up to the end of the connection, which a reset is too.
fn read_all(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    match stream.read_to_end(&mut all) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error} after {} bytes", all.len()),
        _ => String::from_utf8_lossy(&all).into_owned(),
    }
}

/// A wait that is not for an event.
fn pause(length: Duration) {
    std::thread::park_timeout(length);
}

/// Whether a new client is answered within a second.
#[track_caller]
fn assert_served(address: SocketAddr) {
    let mut stream = connect(address);
    stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    stream.write_all(LAST.as_bytes()).unwrap();
    let got = read_all(&mut stream);
    assert!(got.ends_with("hello"), "{got}");
}

/// Sends as much as the server takes, and twice as much as its receive buffers hold at least.
fn flood(stream: &mut TcpStream, request: &str) {
    let request = request.repeat(64 * 1024 / request.len());
    while stream.write_all(request.as_bytes()).is_ok() {}
}

const LAST: &str = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

#[test]
fn a_piece_that_the_handler_took_last_is_not_read_as_a_request() {
    let client = |address| {
        let mut stream = connect(address);
        let body = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
        let head = format!("POST /piece HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(format!("{head}{body}{LAST}").as_bytes()).unwrap();
        let got = read_all(&mut stream);
        assert_eq!(got.matches("HTTP/1.1 ").count(), 2, "{got}");
        assert!(got.contains("piece") && got.ends_with("hello"), "{got}");
    };
    serve(&settings(), client, |_| {});
}

#[test]
fn a_response_whose_write_was_abandoned_is_cut_and_nothing_follows_it() {
    let client = |address| {
        let mut stream = connect(address);
        let first = "GET /abandoned HTTP/1.1\r\nHost: a\r\n\r\n";
        stream.write_all(format!("{first}{LAST}").as_bytes()).unwrap();
        pause(Duration::from_millis(500));
        let got = read_all(&mut stream);
        assert_eq!(got.matches("HTTP/1.1 ").count(), 1, "an answer stands in the body of another");
        assert!(got.len() < 32 << 20);
    };
    serve(&settings(), client, |_| {});
}

#[test]
fn a_client_that_does_not_read_leaves_the_receive_buffers_to_others() {
    let client = |address| {
        let mut greedy = connect(address);
        flood(&mut greedy, "GET /big HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_served(address);
    };
    serve(&settings(), client, |_| {});
}

#[test]
fn slow_answers_hold_no_receive_buffer() {
    let flooded = |address| {
        let mut greedy = connect(address);
        let request = "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n";
        greedy.write_all(request.repeat(2).as_bytes()).unwrap();
        pause(Duration::from_millis(50));
        flood(&mut greedy, request);
        assert_served(address);
    };
    serve(&settings(), flooded, |_| {});
    for request in [
        "GET /slow HTTP/1.1\r\nHost: a\r\n\r\nGET /slow HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody",
    ] {
        let many = |address| {
            let streams: Vec<TcpStream> = (0..16)
                .map(|_| {
                    let mut stream = connect(address);
                    stream.write_all(request.as_bytes()).unwrap();
                    stream
                })
                .collect();
            pause(Duration::from_millis(50));
            assert_served(address);
            drop(streams);
        };
        serve(&settings(), many, |_| {});
    }
}

#[test]
fn a_stream_to_a_client_that_keeps_up_lets_others_be_served() {
    let client = |address| {
        let mut reader = connect(address);
        reader.write_all(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut buffer = [0; 4096];
        reader.read_exact(&mut buffer).unwrap();
        let other = std::thread::spawn(move || assert_served(address));
        while !other.is_finished() {
            let _ = reader.read(&mut buffer).unwrap();
        }
        drop(reader);
        other.join().unwrap();
    };
    serve(&settings(), client, |_| {});
}

#[test]
fn an_upload_by_a_client_that_keeps_up_lets_others_be_served() {
    let client = |address| {
        let mut writer = connect(address);
        let head = format!("POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 1_u64 << 40);
        writer.write_all(head.as_bytes()).unwrap();
        let other = std::thread::spawn(move || assert_served(address));
        let piece = vec![b'x'; 1 << 20];
        while !other.is_finished() {
            let _ = writer.write(&piece);
        }
        drop(writer);
        other.join().unwrap();
    };
    serve(&Settings { body: u64::MAX, ..settings() }, client, |_| {});
}

#[test]
fn a_request_that_came_while_another_was_answered_is_timed_from_its_own_arrival() {
    let client = |address| {
        let mut stream = connect(address);
        stream.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        pause(SLOW - Duration::from_millis(300));
        stream.write_all(LAST.as_bytes()).unwrap();
        assert!(read_all(&mut stream).ends_with("hello"));
    };
    let check = |core: &Core| {
        let routes = core.metrics().shard().read().routes;
        let (_, hello) = routes.cells.iter().find(|(index, _)| *index == 0).expect("it was counted");
        assert!(Duration::from_nanos(hello.max) < SLOW / 2, "{} ns", hello.max);
    };
    serve(&settings(), client, check);
}

#[test]
fn a_client_that_takes_no_interim_response_runs_out_of_time() {
    let timeouts = Timeouts { body: Duration::from_millis(100), ..settings().timeouts };
    let settings = Settings { timeouts, ..settings() };
    for options in backends() {
        let socket = sys::socket::listen(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let _client = connect(sys::socket::local_address(&socket).unwrap());
        let result = rt::run(&options, |_| async {
            let mut listener = Listener::new(socket);
            let (mut recv, send) = rt::from_socket(poll_fn(|cx| listener.poll_accept(cx)).await.unwrap().0);
            // The socket counts as writable only when a third of it is free, so it is asked anew each time.
            let mut refused = 0;
            while refused < 5 {
                let mut send = send.another();
                let taken = poll_fn(|cx| Poll::Ready(send.poll_send(cx, &[0; 65536]).is_ready())).await;
                refused = if taken { 0 } else { refused + 1 };
                rt::sleep_until(clock::now() + Duration::from_millis(if taken { 0 } else { 50 })).await;
            }
            let (core, mut input, deadline, body) =
                (core(&settings), Input::default(), rt::Deadline::new(), BodyState::default());
            body.awaited.set(true);
            let (framing, interim) = (BodyFraming::Length(5), Some(send.another()));
            let mut incoming = Incoming::new(framing, &mut input, Some(&mut recv), &deadline, &core, &settings, &body)
                .with_interim(interim);
            let late = clock::now() + Duration::from_secs(3);
            rt::timeout(late, poll_fn(|cx| incoming.poll_piece(cx))).await
        });
        assert_eq!(result.unwrap(), Some(Err(BodyError::Timeout)));
    }
}
