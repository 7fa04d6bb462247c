//! A server behind the gateway, that says what a test tells it to, byte for byte.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use super::PATIENCE;

/// A listening socket with a thread for each connection. It closes when this is dropped.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stops: AtomicBool,
    connections: AtomicUsize,
    requests: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
}

/// A request as it arrived.
pub(crate) struct Received {
    /// The head as text, with its empty line.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// The trailer lines of a chunked body, each with its CRLF.
    pub(crate) trailers: String,
}

/// One connection of the gateway to the upstream.
pub(crate) struct Peer {
    pub(crate) stream: TcpStream,
    unread: Vec<u8>,
    shared: Arc<Shared>,
}

impl Upstream {
    /// Serves each connection with `serve`, which returns when it is to be closed.
    pub(crate) fn start(serve: impl Fn(&mut Peer) + Send + Sync + 'static) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), serve)
    }

    /// The same at an address where one was before.
    #[allow(clippy::disallowed_methods, reason = "a server of the test's own, with nothing of Ringfort in it")]
    pub(crate) fn start_at(address: SocketAddr, serve: impl Fn(&mut Peer) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let (of_acceptor, serve) = (shared.clone(), Arc::new(serve));
        let acceptor = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if of_acceptor.stops.load(Ordering::SeqCst) {
                    return;
                }
                of_acceptor.connections.fetch_add(1, Ordering::SeqCst);
                of_acceptor.open.lock().unwrap().push(stream.try_clone().unwrap());
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.set_nodelay(true).unwrap();
                let (shared, serve) = (of_acceptor.clone(), serve.clone());
                std::thread::spawn(move || {
                    let mut peer = Peer { stream, unread: Vec::new(), shared };
                    serve(&mut peer);
                    // Not closed by being dropped: whoever stops the upstream has it too.
                    let _ = peer.stream.shutdown(Shutdown::Both);
                });
            }
        });
        Self { address, shared, acceptor: Some(acceptor) }
    }

    /// Answers each request on a connection with what `answer` makes of it.
    pub(crate) fn answering(answer: impl Fn(&Received) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::start(move |peer| {
            while let Some(request) = peer.request() {
                peer.write(answer(&request));
            }
        })
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Requests read so far.
    pub(crate) fn requests(&self) -> usize {
        self.shared.requests.load(Ordering::SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stops.store(true, Ordering::SeqCst);
        // Wakes the acceptor.
        drop(TcpStream::connect(self.address));
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().unwrap();
        }
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Peer {
    /// The next request with its whole body; `None` when the connection ended before it.
    pub(crate) fn request(&mut self) -> Option<Received> {
        let head = self.head()?;
        let field = |name: &str| {
            head.lines().find_map(|line| {
                let (own, value) = line.split_once(':')?;
                own.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
            })
        };
        let (body, trailers) = match (field("content-length"), field("transfer-encoding")) {
            (Some(length), _) => (self.take(length.parse().unwrap())?, String::new()),
            (None, Some(_)) => self.chunked()?,
            (None, None) => Default::default(),
        };
        Some(Received { head, body, trailers })
    }

    /// The head of the next request.
    pub(crate) fn head(&mut self) -> Option<String> {
        loop {
            if let Some(end) = memchr::memmem::find(&self.unread, b"\r\n\r\n") {
                let head = self.unread.drain(..end + 4).collect();
                self.shared.requests.fetch_add(1, Ordering::SeqCst);
                return Some(String::from_utf8(head).unwrap());
            }
            self.fill()?;
        }
    }

    /// So many bytes of what follows.
    pub(crate) fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.unread.len() < count {
            self.fill()?;
        }
        Some(self.unread.drain(..count).collect())
    }

    /// The body, and its trailers.
    fn chunked(&mut self) -> Option<(Vec<u8>, String)> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
            if size == 0 {
                break;
            }
            body.extend(self.take(size)?);
            assert_eq!(self.take(2)?, b"\r\n");
        }
        let mut trailers = String::new();
        loop {
            match self.line()?.as_str() {
                "\r\n" => return Some((body, trailers)),
                line => trailers.push_str(line),
            }
        }
    }

    /// The next line, with its CRLF.
    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = memchr::memmem::find(&self.unread, b"\r\n") {
                return Some(String::from_utf8(self.unread.drain(..end + 2).collect()).unwrap());
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Option<()> {
        let mut buffer = [0; 64 * 1024];
        let count = self.stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        self.unread.extend_from_slice(&buffer[..count]);
        Some(())
    }

    /// Sends bytes; that the gateway is gone is no failure of the test.
    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Waits until the gateway has ended the connection.
    pub(crate) fn wait_end(&mut self) {
        while self.fill().is_some() {}
    }
}

/// A response with this body and a length.
pub(crate) fn ok(body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut response = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()).into_bytes();
    response.extend_from_slice(body);
    response
}
