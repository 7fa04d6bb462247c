//! An upstream for uploads: reads requests with their whole bodies, keeps no byte of them, and answers each with how many
//! there were. It costs as little as it can, for it shares its core with the load.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use rustix::event::epoll;
use rustix::io::Errno;

/// Connections at once; one more is closed as soon as it is accepted.
const CONNECTIONS_MAX: usize = 4096;
/// Bytes of a request head that are taken.
const HEAD_BYTES_MAX: usize = 16 * 1024;
const READ_BYTES: usize = 256 * 1024;
const EVENTS: usize = 256;
const LISTENER: u64 = u64::MAX;
const HEAD_END: &[u8] = b"\r\n\r\n";

/// The fields that a server of its own accord sends with an answer: whoever forwards has the same work as with another.
const FIELDS: &str = "Server: sink\r\nDate: Sat, 21 Nov 2026 00:00:00 GMT\r\nContent-Type: text/plain";

/// The answer to a body of so many bytes: always of the same length, so that its length can be checked, too.
pub fn answer(body_length: u64) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{FIELDS}\r\nContent-Length: 21\r\n\r\n{body_length:020}\n").into_bytes()
}

/// Where a connection is in the stream of its requests.
#[derive(Debug, Default)]
struct Requests {
    /// The begin of a head whose end has not come yet.
    partial: Vec<u8>,
    /// The length of the body that is being read, and how much of it has not come yet.
    body: Option<(u64, u64)>,
}

impl Requests {
    /// Takes the next bytes of the stream; appends the answers to the requests that they complete.
    ///
    /// # Errors
    /// What is wrong with a request; the stream cannot be read on.
    fn take(&mut self, bytes: &[u8], answers: &mut Vec<u8>) -> Result<(), String> {
        if self.partial.is_empty() {
            return self.take_rest(bytes, answers);
        }
        let mut joined = std::mem::take(&mut self.partial);
        joined.extend_from_slice(bytes);
        self.take_rest(&joined, answers)
    }

    fn take_rest(&mut self, mut bytes: &[u8], answers: &mut Vec<u8>) -> Result<(), String> {
        loop {
            let (length, left) = match self.body.take() {
                Some(body) => body,
                None if bytes.is_empty() => return Ok(()),
                None => {
                    let Some(end) = bytes.windows(HEAD_END.len()).position(|window| window == HEAD_END) else {
                        if bytes.len() > HEAD_BYTES_MAX {
                            return Err(format!("expected a head of at most {HEAD_BYTES_MAX} bytes"));
                        }
                        self.partial = bytes.to_vec();
                        return Ok(());
                    };
                    let length = body_length(&bytes[..end])?;
                    bytes = &bytes[end + HEAD_END.len()..];
                    (length, length)
                }
            };
            let part = left.min(bytes.len() as u64);
            bytes = &bytes[part as usize..];
            if left > part {
                self.body = Some((length, left - part));
                return Ok(());
            }
            answers.extend(answer(length));
        }
    }
}

/// The length of the body behind this head; it has to be said, where there is a body.
fn body_length(head: &[u8]) -> Result<u64, String> {
    let mut length = 0;
    for line in String::from_utf8_lossy(head).split("\r\n").skip(1) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        if name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(format!("expected a body with a Content-Length, found {line:?}"));
        }
        if name.eq_ignore_ascii_case("content-length") {
            let value = value.trim();
            length = value.parse().map_err(|_| format!("expected a Content-Length in digits, found {value:?}"))?;
        }
    }
    Ok(length)
}

struct Connection {
    stream: TcpStream,
    requests: Requests,
}

/// One thread's sink.
pub struct Sink {
    listener: TcpListener,
    epoll: OwnedFd,
    /// By the number that their events carry.
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    buffer: Vec<u8>,
    answers: Vec<u8>,
}

impl Sink {
    /// Listens at `address`; connections wait until it runs.
    ///
    /// # Errors
    /// The kernel's, where it cannot listen there.
    pub fn bind(address: SocketAddrV4) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
        Ok(Self {
            listener,
            epoll,
            connections: (0..CONNECTIONS_MAX).map(|_| None).collect(),
            free: (0..CONNECTIONS_MAX).rev().collect(),
            buffer: vec![0; READ_BYTES],
            answers: Vec::new(),
        })
    }

    /// Serves until the process is ended.
    ///
    /// # Errors
    /// The kernel's, where it cannot wait for events.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in &events {
                match event.data.u64() {
                    LISTENER => self.accept(),
                    number => self.serve(number as usize),
                }
            }
        }
    }

    fn accept(&mut self) {
        // An error is that of one connection, or passes: the listener is asked again with its next event.
        while let Ok((stream, _)) = self.listener.accept() {
            let Some(number) = self.free.pop() else { continue };
            let data = epoll::EventData::new_u64(number as u64);
            let added = stream
                .set_nonblocking(true)
                .and_then(|()| stream.set_nodelay(true))
                .and_then(|()| Ok(epoll::add(&self.epoll, &stream, data, epoll::EventFlags::IN)?));
            match added {
                Ok(()) => self.connections[number] = Some(Connection { stream, requests: Requests::default() }),
                Err(_) => self.free.push(number),
            }
        }
    }

    /// Reads once: what is left is another event, behind those of the others.
    fn serve(&mut self, number: usize) {
        let Some(Connection { stream, requests }) = &mut self.connections[number] else { return };
        let goes_on = match stream.read(&mut self.buffer) {
            Ok(0) => false,
            Ok(count) => match requests.take(&self.buffer[..count], &mut self.answers) {
                // Answers are small: a client that leaves no room for one does not read, and is left.
                Ok(()) => self.answers.is_empty() || stream.write_all(&self.answers).is_ok(),
                Err(what) => {
                    eprintln!("ringfort-load: {what}");
                    false
                }
            },
            Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        };
        self.answers.clear();
        if !goes_on {
            self.connections[number] = None;
            self.free.push(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answers to a stream that comes in pieces of this size.
    fn answers(stream: &[u8], piece: usize) -> Result<Vec<u8>, String> {
        let (mut requests, mut answers) = (Requests::default(), Vec::new());
        for part in stream.chunks(piece) {
            requests.take(part, &mut answers)?;
        }
        Ok(answers)
    }

    #[test]
    fn each_request_is_answered_with_the_length_of_its_body_however_the_stream_is_split() {
        let stream = b"POST /p HTTP/1.1\r\nHost: x\r\ncontent-length:  11\r\n\r\n0123\r\n\r\n789GET /p HTTP/1.1\r\nHost: x\r\n\r\n\
            POST /p HTTP/1.1\r\nContent-Length: 0\r\n\r\nPOST /p HTTP/1.1\r\nContent-Length: 1\r\n\r\nx";
        let expected = [11, 0, 0, 1].map(answer).concat();
        for piece in 1..=stream.len() {
            assert_eq!(answers(stream, piece).as_deref(), Ok(&expected[..]), "in pieces of {piece}");
        }
    }

    #[test]
    fn an_answer_waits_for_the_last_byte_of_the_body() {
        let stream = b"POST /p HTTP/1.1\r\nContent-Length: 4\r\n\r\nabc";
        assert_eq!(answers(stream, 100), Ok(Vec::new()));
        assert_eq!(answers(stream, 1), Ok(Vec::new()));
    }

    #[test]
    fn answers_have_the_length_that_they_say() {
        for length in [0, 1 << 20, u64::MAX] {
            let text = String::from_utf8(answer(length)).unwrap();
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert!(head.ends_with(&format!("Content-Length: {}", body.len())), "{head}");
            assert_eq!(body.trim_end().parse(), Ok(length));
        }
    }

    #[test]
    fn requests_without_a_length_that_can_be_read_are_refused() {
        for (line, message) in [
            (
                "Transfer-Encoding: chunked",
                "expected a body with a Content-Length, found \"Transfer-Encoding: chunked\"",
            ),
            ("Content-Length: -1", "expected a Content-Length in digits, found \"-1\""),
        ] {
            let stream = format!("POST /p HTTP/1.1\r\n{line}\r\n\r\n");
            assert_eq!(answers(stream.as_bytes(), 100).unwrap_err(), message);
        }
        let endless = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &vec![b'x'; HEAD_BYTES_MAX]].concat();
        assert!(answers(&endless, 1000).unwrap_err().contains("at most"));
    }
}
