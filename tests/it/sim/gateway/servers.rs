//! Servers behind the gateway: most answer as they should, and all of them at times do not.

use super::ledger::{Ledger, request_body};
use ringfort::clock;
use ringfort::rt;
use ringfort::rt::sim::{self, Acceptor, Peer, Random, Reception};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// What a server does about one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Plain,
    Chunked,
    NoContent,
    UntilClose,
    /// Says that it closes, and does.
    Closing,
    /// Interim responses first.
    Interim,
    /// Answers before it has read the body.
    Early,
    SlowHead,
    SlowBody,
    Failing,
    /// Another whole answer behind it, in the same segment.
    Poison,
    /// Bytes behind it that are no answer.
    Garbage,
    /// Closes the idle connection without having said so.
    CloseIdle,
    CloseBefore,
    CutHead,
    CutBody,
    CutChunks,
    Reset,
    ResetUntilClose,
    BothLengths,
    BadChunk,
    Switch,
    Never,
    Vanish,
}

const GOOD: &[Act] = {
    use Act::*;
    &[Plain, Plain, Plain, Chunked, Chunked, NoContent, UntilClose, Closing, Interim, Early, CloseIdle]
};
const BAD: &[Act] = {
    use Act::*;
    &[
        SlowHead,
        SlowBody,
        Failing,
        Poison,
        Garbage,
        CloseBefore,
        CutHead,
        CutBody,
        CutChunks,
        Reset,
        ResetUntilClose,
        BothLengths,
        BadChunk,
        Switch,
        Never,
        Vanish,
    ]
};

pub(super) struct Server {
    pub(super) ledger: Rc<Ledger>,
    pub(super) random: RefCell<Random>,
    /// Of a thousand requests.
    pub(super) faulty: u64,
    /// Of a thousand looks, half a second apart.
    pub(super) away: u64,
    /// The longest that it takes its time.
    pub(super) slowest: Duration,
}

/// Serves as long as the world exists.
pub(super) async fn run(acceptor: Acceptor, server: Rc<Server>) {
    let acceptor = Rc::new(acceptor);
    let (mood, of) = (acceptor.clone(), server.clone());
    sim::task(async move {
        loop {
            let (wait, reception) = {
                let mut random = of.random.borrow_mut();
                let late = Duration::from_millis(random.below(1200));
                let away = [Reception::Refused, Reception::Silent, Reception::Late(late)];
                let reception = if random.chance(of.away) { *random.pick(&away) } else { Reception::Prompt };
                (random.below(1000), reception)
            };
            mood.receive_as(reception);
            rt::sleep_until(clock::now() + Duration::from_millis(wait)).await;
        }
    });
    loop {
        let peer = acceptor.accept().await;
        let server = server.clone();
        sim::task(async move {
            // How a connection ends is the other side's to notice.
            let _ = serve(&server, peer).await;
        });
    }
}

/// The reading side of a connection.
struct Reader {
    peer: Peer,
    bytes: Vec<u8>,
}

struct Heard {
    path: String,
    is_head: bool,
    length: Option<usize>,
    chunked: bool,
}

impl Reader {
    /// `None` at the end.
    async fn more(&mut self) -> Option<()> {
        let bytes = self.peer.recv(4096).await.ok().filter(|bytes| !bytes.is_empty())?;
        self.bytes.extend(bytes);
        Some(())
    }

    async fn line_end(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.bytes.windows(end.len()).position(|window| window == end) {
                return Some(self.bytes.drain(..at + end.len()).collect());
            }
            self.more().await?;
        }
    }

    async fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.bytes.len() < count {
            self.more().await?;
        }
        Some(self.bytes.drain(..count).collect())
    }

    async fn head(&mut self) -> Option<Heard> {
        let head = String::from_utf8(self.line_end(b"\r\n\r\n").await?).ok()?;
        let mut lines = head.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let (method, path) = (words.next()?, words.next()?.to_owned());
        let mut heard = Heard { path, is_head: method == "HEAD", length: None, chunked: false };
        for line in lines {
            match line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value)) {
                Some((name, value)) if name == "content-length" => heard.length = value.parse().ok(),
                Some((name, _)) if name == "transfer-encoding" => heard.chunked = true,
                _ => {}
            }
        }
        Some(heard)
    }

    async fn body(&mut self, heard: &Heard) -> Option<Vec<u8>> {
        if !heard.chunked {
            return self.take(heard.length.unwrap_or(0)).await;
        }
        let mut body = Vec::new();
        loop {
            let line = String::from_utf8(self.line_end(b"\r\n").await?).ok()?;
            let size = usize::from_str_radix(line.trim_end(), 16).ok()?;
            let chunk = self.take(size + 2).await?;
            body.extend_from_slice(&chunk[..size]);
            if size == 0 {
                return Some(body);
            }
        }
    }
}

async fn serve(server: &Server, peer: Peer) -> Option<()> {
    let mut reader = Reader { peer, bytes: Vec::new() };
    loop {
        let heard = reader.head().await?;
        if heard.path == "/healthz" {
            let status = if server.random.borrow_mut().chance(server.away) { 500 } else { 200 };
            let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            return reader.peer.send(answer.as_bytes()).await.ok();
        }
        let Some(id) = heard.path.strip_prefix("/p/").and_then(|id| id.parse::<usize>().ok()) else {
            sim::fail(format!("a server is asked for {:?}", heard.path));
            return None;
        };
        if let Err(cause) = server.ledger.arrived(id) {
            sim::fail(cause);
        }
        let act = {
            let mut random = server.random.borrow_mut();
            let acts = if random.chance(server.faulty) { BAD } else { GOOD };
            *random.pick(acts)
        };
        sim::note(format_args!("connection {}: request {id}, {act:?}", reader.peer.id()));
        if act == Act::Early {
            answer(server, &reader.peer, act, id, heard.is_head).await?;
        }
        let body = reader.body(&heard).await?;
        if body != request_body(id, body.len()) || heard.length.is_some_and(|length| length != body.len()) {
            sim::fail(format!("the body of request {id} is not what its client sent"));
        }
        // An early answer may be behind us, and the next request here.
        if act != Act::Early && !reader.bytes.is_empty() {
            sim::fail(format!("connection {}: bytes behind request {id}", reader.peer.id()));
        }
        if act != Act::Early {
            answer(server, &reader.peer, act, id, heard.is_head).await?;
        }
        match act {
            Act::Never => while reader.more().await.is_some() {},
            Act::Poison if reader.more().await.is_some() => {
                sim::fail(format!("connection {}: used again with bytes left over", reader.peer.id()));
            }
            Act::CloseIdle => {
                let idle = server.random.borrow_mut().below(300);
                rt::sleep_until(clock::now() + Duration::from_millis(idle)).await;
                return None;
            }
            _ => {}
        }
    }
}

fn head(status: u16, mark: usize, fields: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status} Whatever\r\nX-Answer: {mark}\r\n{fields}\r\n").into_bytes()
}

fn chunks(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in body.chunks(1000) {
        out.extend(format!("{:x}\r\n", piece.len()).into_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out
}

async fn pause(server: &Server) {
    let most = server.slowest.as_millis() as u64;
    let pause = server.random.borrow_mut().below(most);
    rt::sleep_until(clock::now() + Duration::from_millis(pause)).await;
}

/// What comes before an answer, or instead of one: then whether the connection is over by that.
async fn do_without(server: &Server, peer: &Peer, act: Act) -> Option<bool> {
    match act {
        Act::CloseBefore => Some(true),
        Act::Reset => {
            peer.reset();
            Some(true)
        }
        Act::Vanish => {
            peer.vanish();
            std::future::pending().await
        }
        Act::Never => Some(false),
        Act::Switch => {
            let switch = b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\n";
            Some(peer.send(switch).await.is_err())
        }
        Act::SlowHead => {
            pause(server).await;
            None
        }
        Act::Interim => {
            let interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </style>\r\n\r\n";
            peer.send(interim).await.is_err().then_some(true)
        }
        _ => None,
    }
}

/// Answers; `None` when the connection is over by that.
async fn answer(server: &Server, peer: &Peer, act: Act, id: usize, is_head: bool) -> Option<()> {
    let length = {
        let mut random = server.random.borrow_mut();
        let most = *random.pick(&[0, 10, 500, 2000, 30_000]);
        random.below(most + 1) as usize
    };
    let length = if act == Act::Poison { length.min(500) } else { length };
    let is_whole = !matches!(
        act,
        Act::CutHead | Act::CutBody | Act::CutChunks | Act::ResetUntilClose | Act::BothLengths | Act::BadChunk
    );
    if let Some(is_over) = do_without(server, peer, act).await {
        return (!is_over).then_some(());
    }
    let status = match act {
        Act::Failing => *server.random.borrow_mut().pick(&[500, 503]),
        Act::NoContent => 204,
        _ => 200,
    };
    let (mark, body) = server.ledger.give(Some(id), status, length, is_whole);
    let sized = format!("Content-Length: {}\r\n", body.len());
    let (fields, wire) = match act {
        Act::NoContent => (String::new(), Vec::new()),
        Act::Chunked => ("Transfer-Encoding: chunked\r\n".to_owned(), [&chunks(&body), &b"0\r\n\r\n"[..]].concat()),
        Act::UntilClose | Act::ResetUntilClose => (String::new(), body),
        Act::Closing => (format!("{sized}Connection: close\r\n"), body),
        Act::CutBody => (format!("Content-Length: {}\r\n", body.len() + 1), body),
        Act::CutChunks => ("Transfer-Encoding: chunked\r\n".to_owned(), chunks(&body)),
        Act::BadChunk => ("Transfer-Encoding: chunked\r\n".to_owned(), [&chunks(&body), &b"zz\r\n"[..]].concat()),
        Act::BothLengths => (format!("{sized}Transfer-Encoding: chunked\r\n"), chunks(&body)),
        _ => (sized, body),
    };
    let (head, wire) = (head(status, mark, &fields), if is_head { Vec::new() } else { wire });
    match act {
        Act::CutHead => {
            peer.send(&head[..head.len() / 2]).await.ok()?;
            return None;
        }
        Act::Poison => return send_poisoned(server, peer, [head, wire].concat()).await,
        Act::SlowBody => {
            let half = wire.len() / 2;
            peer.send(&[&head, &wire[..half]].concat()).await.ok()?;
            pause(server).await;
            peer.send(&wire[half..]).await.ok()?;
        }
        _ => peer.send(&[head, wire].concat()).await.ok()?,
    }
    match act {
        Act::Garbage => {
            peer.send(b"more than was asked for\r\n\r\n").await.ok()?;
            Some(())
        }
        Act::ResetUntilClose => {
            peer.reset();
            None
        }
        Act::UntilClose | Act::Closing | Act::CutBody | Act::CutChunks => None,
        _ => Some(()),
    }
}

/// A second answer behind the first, which comes together with it: whoever takes it was told before that it is nobody's.
async fn send_poisoned(server: &Server, peer: &Peer, mut bytes: Vec<u8>) -> Option<()> {
    let (mark, body) = server.ledger.give(None, 200, 10, true);
    bytes.extend(head(200, mark, &format!("Content-Length: {}\r\n", body.len())));
    bytes.extend(body);
    peer.send_at_once(&bytes).await.ok()
}
