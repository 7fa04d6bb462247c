//! The routes that a script's requests meet, one of each way of answering; and, apart from them, what they answer.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::clock;
use crate::handler::{
    Action, BodyLength, Exchange, Failure, Handler, Reply, Respond, RespondBody, RespondSpec, RouteName, Routes,
};
use crate::http::{Method, MethodSet, Status};
use crate::router::{Predicates, RouteSpec, RouterBuf};
use crate::rt;

crate::routes! {
    static ROUTES: Action = {
        GET "/text" => Action::Immediate(text),
        GET "/user/:id" => Action::Immediate(user),
        GET "/late" => crate::suspending!(late),
        GET "/empty" => Action::Immediate(empty),
        GET "/large/:n" => crate::suspending!(large),
        GET "/chunks/:n" => crate::suspending!(chunks),
        GET "/cut/:n" => crate::suspending!(cut),
        GET "/panic" => Action::Immediate(panic_now),
        GET "/panic-later" => crate::suspending!(panic_later),
        GET "/fail" => Action::Immediate(fail),
        GET "/none" => Action::Immediate(none),
        GET "/twice" => Action::Immediate(twice),
        POST "/ignore" => Action::Immediate(text),
        POST "/sum" => crate::suspending!(sum),
        POST "/echo" => crate::suspending!(echo),
        POST "/peek" => crate::suspending!(peek),
    }
}

/// Bytes of a streamed response's pieces.
const PIECE_BYTES: usize = 1500;
/// Bytes of a streamed response, at most.
const STREAM_BYTES_MAX: usize = 20_000;
/// Bytes of the configured response that is too long to copy.
const LONG_BYTES: usize = 18_000;

/// What a path is, and the methods that it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Resource<'p> {
    /// It answers this text, and does not look at the body.
    Text(&'p str),
    /// It answers this text, out of the config.
    Configured,
    ConfiguredLong,
    Empty,
    /// It streams so many bytes, as announced.
    Large(usize),
    /// It streams so many bytes, unannounced.
    Chunks(usize),
    /// It announces one byte more than so many.
    Cut(usize),
    Panic,
    Fail,
    /// It answers the sum of the body.
    Sum,
    /// It streams the body back.
    Echo,
    /// It answers after the first piece of the body.
    Peek,
}

impl<'p> Resource<'p> {
    /// What is at `path`, without the help of the router.
    pub(super) fn at(path: &'p str) -> Option<(Self, Method)> {
        let segments: Vec<&str> = path.split('/').collect();
        Some(match segments[..] {
            ["", "text"] => (Self::Text("text"), Method::Get),
            ["", "user", id] if !id.is_empty() => (Self::Text(id), Method::Get),
            ["", "late"] => (Self::Text("late"), Method::Get),
            ["", "empty"] => (Self::Empty, Method::Get),
            ["", "large", n] if !n.is_empty() => (Self::Large(number(n)), Method::Get),
            ["", "chunks", n] if !n.is_empty() => (Self::Chunks(number(n)), Method::Get),
            ["", "cut", n] if !n.is_empty() => (Self::Cut(number(n)), Method::Get),
            ["", "panic" | "panic-later"] => (Self::Panic, Method::Get),
            ["", "fail" | "none" | "twice"] => (Self::Fail, Method::Get),
            ["", "configured"] => (Self::Configured, Method::Get),
            ["", "configured-long"] => (Self::ConfiguredLong, Method::Get),
            ["", "ignore"] => (Self::Text("text"), Method::Post),
            ["", "sum"] => (Self::Sum, Method::Post),
            ["", "echo"] => (Self::Echo, Method::Post),
            ["", "peek"] => (Self::Peek, Method::Post),
            _ => return None,
        })
    }
}

/// All of the above, built once.
pub(super) fn routes() -> Arc<Routes> {
    static BUILT: OnceLock<Arc<Routes>> = OnceLock::new();
    let build = || {
        let spec = |pattern| RouteSpec {
            host: None,
            pattern,
            methods: MethodSet::of(&[Method::Get]),
            predicates: Predicates::NONE,
        };
        let router = RouterBuf::build(&[spec("/configured"), spec("/configured-long")]).expect("two good routes");
        let bodies = ["configured".to_owned(), long_text()];
        let name = |label: &str| RouteName { label: label.to_owned(), kind: "respond" };
        let handlers = bodies.into_iter().map(|body| {
            let fields = vec![("X-From".to_owned(), "config".to_owned())];
            let spec = RespondSpec { status: Status::OK, fields, body: RespondBody::Text(body) };
            Box::new(Respond::new(spec, &[]).expect("a good response")) as Box<dyn Handler>
        });
        let names = vec![name("/configured"), name("/configured-long")];
        Arc::new(Routes::new(&[&ROUTES], router, handlers.collect(), names))
    };
    BUILT.get_or_init(build).clone()
}

pub(super) fn long_text() -> String {
    "long ".repeat(LONG_BYTES / 5)
}

/// The bytes of a streamed response.
pub(super) fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|offset| (offset % 251) as u8).collect()
}

pub(super) fn sum_of(body: &[u8]) -> String {
    let sum = body.iter().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    format!("{} bytes, {sum:016x}", body.len())
}

fn number(text: &str) -> usize {
    text.parse().unwrap_or(0).min(STREAM_BYTES_MAX)
}

fn param<'x>(exchange: &Exchange<'x>, name: &str) -> &'x str {
    exchange.request.param(name).unwrap_or_default()
}

fn text(exchange: &mut Exchange<'_>) -> Reply {
    exchange.response.text("text")
}

fn user(exchange: &mut Exchange<'_>) -> Reply {
    let id = param(exchange, "id");
    exchange.response.text(id)
}

async fn late(exchange: &mut Exchange<'_>) -> Reply {
    rt::sleep_until(clock::now() + Duration::from_millis(20)).await;
    exchange.response.text("late")
}

fn empty(exchange: &mut Exchange<'_>) -> Reply {
    exchange.response.status(Status::NO_CONTENT).send(b"no content, so this is left out")
}

async fn large(exchange: &mut Exchange<'_>) -> Reply {
    let bytes = number(param(exchange, "n"));
    exchange.response.start(BodyLength::Known(bytes as u64))?;
    stream(exchange, bytes).await
}

async fn chunks(exchange: &mut Exchange<'_>) -> Reply {
    let bytes = number(param(exchange, "n"));
    exchange.response.start(BodyLength::Unknown)?;
    stream(exchange, bytes).await
}

async fn cut(exchange: &mut Exchange<'_>) -> Reply {
    let bytes = number(param(exchange, "n"));
    exchange.response.start(BodyLength::Known(bytes as u64 + 1))?;
    stream(exchange, bytes).await
}

async fn stream(exchange: &mut Exchange<'_>, bytes: usize) -> Reply {
    for piece in pattern(bytes).chunks(PIECE_BYTES) {
        exchange.response.write(piece).await?;
    }
    Ok(())
}

/// Without the panic hook, which a fuzzer makes the end of the process.
fn panic_now(_: &mut Exchange<'_>) -> Reply {
    std::panic::resume_unwind(Box::new("planned"))
}

async fn panic_later(_: &mut Exchange<'_>) -> Reply {
    rt::yield_now().await;
    std::panic::resume_unwind(Box::new("planned"))
}

fn fail(_: &mut Exchange<'_>) -> Reply {
    Err(Failure::internal("planned"))
}

fn none(_: &mut Exchange<'_>) -> Reply {
    Ok(())
}

fn twice(exchange: &mut Exchange<'_>) -> Reply {
    exchange.response.text("first")?;
    exchange.response.json(b"{}")
}

async fn sum(exchange: &mut Exchange<'_>) -> Reply {
    let body = exchange.body.read_to_end(1 << 20).await?;
    exchange.response.text(&sum_of(&body))
}

async fn echo(exchange: &mut Exchange<'_>) -> Reply {
    exchange.response.start(BodyLength::Unknown)?;
    while let Some(piece) = exchange.body.next().await? {
        exchange.response.write(piece).await?;
    }
    Ok(())
}

async fn peek(exchange: &mut Exchange<'_>) -> Reply {
    exchange.body.next().await?;
    exchange.response.text("peeked")
}
