//! Servers behind the gateway: most answer as they should, and all of them at times do not.

use super::ledger::{Given, Ledger, Place, request_body};
use super::reader::{Heard, Reader};
use super::tunnels::{self, End, Hold};
use ringfort::clock;
use ringfort::rt;
use ringfort::rt::sim::{self, Acceptor, Peer, Random, Reception};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// From one piece of an endless answer to the next.
const BEAT: Duration = Duration::from_millis(200);

/// What a server does about one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    Plain,
    Chunked,
    /// With trailers behind it, some of which concern this connection alone.
    Trailers,
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
    /// Says that it switches protocols, when nobody asked for it or without saying to which.
    Switch,
    /// Switches as it was asked to.
    Tunnel,
    /// A byte now and then, for ever.
    Drip,
    /// Interim responses for ever.
    Chatter,
    Never,
    Vanish,
}

/// After these a connection is as its client was told.
const FAULTLESS: &[Act] = {
    use Act::*;
    &[Plain, Plain, Plain, Chunked, Trailers, NoContent, UntilClose, Closing, Interim]
};
const GOOD: &[Act] = {
    use Act::*;
    &[Plain, Plain, Plain, Chunked, Trailers, NoContent, UntilClose, Closing, Interim, Early, CloseIdle]
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
        Drip,
        Chatter,
        Never,
        Vanish,
    ]
};

/// What a server is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It answers as it should, always.
    Faultless,
    Ordinary,
    /// It gets copies: nobody may see its answers.
    Mirror,
}

pub(super) struct Server {
    pub(super) ledger: Rc<Ledger>,
    pub(super) place: Place,
    pub(super) role: Role,
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

async fn serve(server: &Server, peer: Peer) -> Option<()> {
    let mut reader = Reader { peer, bytes: Vec::new() };
    loop {
        let heard = reader.head().await?;
        if heard.path == "/healthz" {
            let status = if server.random.borrow_mut().chance(server.away) { 500 } else { 200 };
            let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            return reader.peer.send(answer.as_bytes()).await.ok();
        }
        let Some(id) = heard.id() else {
            sim::fail(format!("a server is asked for {:?}", heard.path));
            return None;
        };
        if let Err(cause) = server.ledger.arrived(server.place, id, &heard) {
            sim::fail(cause);
        }
        let act = server.choose(&heard);
        sim::note(format_args!("connection {}: request {id}, {act:?}", reader.peer.id()));
        let asked = Asked { id: (server.role != Role::Mirror).then_some(id), act, heard: &heard };
        if act == Act::Early {
            answer(server, &reader.peer, &asked).await?;
        }
        let (body, trailers) = reader.body(&heard).await?;
        if trailers != server.ledger.request_trailers(id) {
            sim::fail(format!("request {id} arrives with the trailers {trailers:?}"));
        }
        if body != request_body(id, body.len()) || heard.length.is_some_and(|length| length != body.len()) {
            sim::fail(format!("the body of request {id} is not what its client sent"));
        }
        // An early answer may be behind us, and the next request here.
        if act != Act::Early && !reader.bytes.is_empty() {
            sim::fail(format!("connection {}: bytes behind request {id}", reader.peer.id()));
        }
        match act {
            Act::Early => {}
            Act::Tunnel => return tunnel(server, reader, id).await,
            _ => answer(server, &reader.peer, &asked).await?,
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

/// What is to be answered.
struct Asked<'h> {
    /// `None` for a copy.
    id: Option<usize>,
    act: Act,
    heard: &'h Heard,
}

impl Server {
    fn choose(&self, heard: &Heard) -> Act {
        let mut random = self.random.borrow_mut();
        let is_bad = random.chance(self.faulty);
        match self.role {
            Role::Faultless | Role::Ordinary if heard.is_upgrade && random.chance(700) => Act::Tunnel,
            // An answer to HEAD has no end that closing could show: the connection would seem to be good for another.
            Role::Faultless if heard.is_head => *random.pick(&[Act::Plain, Act::NoContent, Act::Closing]),
            Role::Faultless => *random.pick(FAULTLESS),
            Role::Ordinary | Role::Mirror => *random.pick(if is_bad { BAD } else { GOOD }),
        }
    }
}

/// Switches, and says something at once behind that.
async fn tunnel(server: &Server, reader: Reader, id: usize) -> Option<()> {
    let Reader { peer, bytes } = reader;
    let ledger = &server.ledger;
    let (mark, _) = ledger.give(Given { request: Some(id), status: 101, is_whole: true, ..Given::default() }, 0);
    let (hold, random) = (Hold::new(ledger.tunnel(id)), server.random.borrow_mut().fork());
    let (count, at_once) = {
        let mut random = server.random.borrow_mut();
        (*random.pick(&[0, 1, 100]), random.chance(500))
    };
    let mut wire = head(101, mark, "Connection: upgrade\r\nUpgrade: sim\r\n");
    wire.extend(hold.tunnel.produce(End::Server, count));
    if at_once {
        peer.send_at_once(&wire).await.ok()?
    } else {
        peer.send(&wire).await.ok()?
    }
    if let Err(cause) = tunnels::run(hold, End::Server, peer, bytes, random).await {
        sim::fail(cause);
    }
    None
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
async fn do_without(server: &Server, peer: &Peer, asked: &Asked<'_>) -> Option<bool> {
    match asked.act {
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
            let fields = if asked.heard.is_upgrade { "" } else { "Connection: upgrade\r\nUpgrade: other\r\n" };
            let switch = format!("HTTP/1.1 101 Switching Protocols\r\n{fields}\r\n");
            Some(peer.send(switch.as_bytes()).await.is_err())
        }
        Act::SlowHead => {
            pause(server).await;
            None
        }
        Act::Interim => {
            let interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </style>\r\n\r\n";
            peer.send(interim).await.is_err().then_some(true)
        }
        Act::Chatter => {
            repeat(peer, b"HTTP/1.1 103 Early Hints\r\nLink: </style>\r\n\r\n").await;
            Some(true)
        }
        _ => None,
    }
}

/// Sends it again and again, for as long as the other side bears it.
async fn repeat(peer: &Peer, bytes: &[u8]) {
    while peer.send(bytes).await.is_ok() {
        rt::sleep_until(clock::now() + BEAT).await;
    }
}

/// What is behind the head of an answer: fields that say how long it is, and its bytes.
fn frame(act: Act, mark: usize, body: Vec<u8>) -> (String, Vec<u8>) {
    let sized = format!("Content-Length: {}\r\n", body.len());
    let chunked = "Transfer-Encoding: chunked\r\n".to_owned();
    match act {
        Act::NoContent => (String::new(), Vec::new()),
        Act::Chunked => (chunked, [&chunks(&body), &b"0\r\n\r\n"[..]].concat()),
        Act::Trailers => {
            let fields = format!("{chunked}Connection: X-Hop\r\nTrailer: X-Sum, X-Hop\r\nX-Hop: 1\r\n");
            let [sum, timing] = trailers(mark).try_into().expect("they are two");
            let end = format!("0\r\n{sum}\r\nX-Hop: 2\r\nSet-Cookie: a=b\r\n{timing}\r\nConnection: close\r\n\r\n");
            (fields, [chunks(&body), end.into_bytes()].concat())
        }
        Act::UntilClose | Act::ResetUntilClose => (String::new(), body),
        Act::Closing => (format!("{sized}Connection: close\r\n"), body),
        Act::CutBody => (format!("Content-Length: {}\r\n", body.len() + 1), body),
        Act::CutChunks | Act::Drip => (chunked, chunks(&body)),
        Act::BadChunk => (chunked, [&chunks(&body), &b"zz\r\n"[..]].concat()),
        Act::BothLengths => (format!("{sized}{chunked}"), chunks(&body)),
        _ => (sized, body),
    }
}

/// Those of the trailers of [`Act::Trailers`] that go on to who takes trailers.
fn trailers(mark: usize) -> Vec<String> {
    vec![format!("X-Sum: {mark}"), "Server-Timing: a".to_owned()]
}

/// Answers; `None` when the connection is over by that.
async fn answer(server: &Server, peer: &Peer, asked: &Asked<'_>) -> Option<()> {
    let act = asked.act;
    let length = {
        let mut random = server.random.borrow_mut();
        let most = *random.pick(&[0, 10, 500, 2000, 30_000]);
        random.below(most + 1) as usize
    };
    let length = if act == Act::Poison { length.min(500) } else { length };
    let is_whole = !matches!(
        act,
        Act::CutHead
            | Act::CutBody
            | Act::CutChunks
            | Act::ResetUntilClose
            | Act::BothLengths
            | Act::BadChunk
            | Act::Drip
    );
    if let Some(is_over) = do_without(server, peer, asked).await {
        return (!is_over).then_some(());
    }
    let status = match act {
        Act::Failing => *server.random.borrow_mut().pick(&[500, 503]),
        Act::NoContent => 204,
        _ => 200,
    };
    let (mark, body) = server.ledger.give(Given { request: asked.id, status, is_whole, ..Given::default() }, length);
    if act == Act::Trailers {
        server.ledger.add_trailers(mark, trailers(mark));
    }
    let (fields, wire) = frame(act, mark, body);
    let (head, wire) = (head(status, mark, &fields), if asked.heard.is_head { Vec::new() } else { wire });
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
        Act::Drip if !asked.heard.is_head => {
            repeat(peer, b"1\r\n.\r\n").await;
            None
        }
        Act::UntilClose | Act::Closing | Act::CutBody | Act::CutChunks => None,
        _ => Some(()),
    }
}

/// A second answer behind the first, which comes together with it: whoever takes it was told before that it is nobody's.
async fn send_poisoned(server: &Server, peer: &Peer, mut bytes: Vec<u8>) -> Option<()> {
    let (mark, body) = server.ledger.give(Given { status: 200, is_whole: true, ..Given::default() }, 10);
    bytes.extend(head(200, mark, &format!("Content-Length: {}\r\n", body.len())));
    bytes.extend(body);
    peer.send_at_once(&bytes).await.ok()
}
