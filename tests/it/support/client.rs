//! A client on a raw socket: it sends what it is told, byte for byte, and reads strictly.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use super::PATIENCE;
use super::message::{self, Response};

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    /// Received and not parsed yet.
    unread: Vec<u8>,
    ended: bool,
}

impl Client {
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap_or_else(|error| panic!("{address}: {error}"))
    }

    pub(crate) fn try_connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, unread: Vec::new(), ended: false })
    }

    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.try_send(bytes).unwrap();
        self
    }

    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Sends `GET` for a path on this connection and reads the response.
    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")).response()
    }

    /// The next response to anything but HEAD; an interim one too.
    #[track_caller]
    pub(crate) fn response(&mut self) -> Response {
        self.next(false).unwrap().expect("a response, not the end of the connection")
    }

    /// The next response, to HEAD.
    #[track_caller]
    pub(crate) fn response_to_head(&mut self) -> Response {
        self.next(true).unwrap().expect("a response, not the end of the connection")
    }

    /// The next response; `None` when the connection ended between responses.
    pub(crate) fn next(&mut self, head_only: bool) -> io::Result<Option<Response>> {
        loop {
            let parsed = message::parse(&self.unread, head_only, self.ended);
            if let Some((response, length)) =
                parsed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?
            {
                self.unread.drain(..length);
                return Ok(Some(response));
            }
            if self.ended && self.unread.is_empty() {
                return Ok(None);
            }
            if self.ended {
                let rest = String::from_utf8_lossy(&self.unread).into_owned();
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("cut response {rest:?}")));
            }
            self.fill()?;
        }
    }

    /// All responses until the connection ends, which it must do after a whole one.
    #[track_caller]
    pub(crate) fn responses(&mut self) -> Vec<Response> {
        std::iter::from_fn(|| self.next(false).unwrap()).collect()
    }

    /// Whatever comes until the connection ends, or is reset.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while !self.ended && self.fill().is_ok() {}
        std::mem::take(&mut self.unread)
    }

    /// Reads until `text` has come; it stays unread.
    #[track_caller]
    pub(crate) fn wait_for(&mut self, text: &[u8]) {
        while memchr::memmem::find(&self.unread, text).is_none() {
            assert!(!self.ended, "the connection ended before {text:?}");
            self.fill().unwrap();
        }
    }

    /// Whether the server has closed the connection: waits for it.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) {
        let rest = self.rest();
        assert!(self.ended && rest.is_empty(), "more than the end came: {:?}", String::from_utf8_lossy(&rest));
    }

    /// Ends the sending side.
    pub(crate) fn finish_sending(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// The socket, for what only few tests do with it.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    fn fill(&mut self) -> io::Result<()> {
        let mut buffer = [0; 64 * 1024];
        let count = match self.stream.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        };
        self.ended = count == 0;
        self.unread.extend_from_slice(&buffer[..count]);
        Ok(())
    }
}
