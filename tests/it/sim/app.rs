//! The application that the simulated server runs: one route for each way of answering.

use ringfort::clock;
use ringfort::handler::{Action, Answer, BodyLength, Exchange, Failure, Files, FilesSpec, Handler, Reply};
use ringfort::rt;
use ringfort::rt::sim;
use std::any::Any;
use std::ops::Range;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::Duration;

ringfort::routes! {
    pub(super) static ROUTES: Action = {
        GET "/fixed" => Action::Immediate(fixed),
        GET "/users/:id" => Action::Immediate(user),
        GET "/slow/:ms" => ringfort::suspending!(slow),
        POST "/echo" => ringfort::suspending!(echo),
        POST "/sum" => ringfort::suspending!(sum),
        POST "/ignore" => Action::Immediate(fixed),
        GET "/large/:bytes" => ringfort::suspending!(large),
        GET "/panic" => Action::Immediate(panic_now),
        GET "/panic-later" => ringfort::suspending!(panic_later),
        GET "/panic-midway/:bytes" => ringfort::suspending!(panic_midway),
        GET "/cut/:bytes" => ringfort::suspending!(cut),
        POST "/late-sum" => ringfort::suspending!(late_sum),
        GET "/files/*path" => ringfort::suspending!(file),
    }
}

pub(super) const FIXED: &str = "fixed";
const PIECE_BYTES: usize = 5000;

/// The files of the world's disk, with their sizes; each holds the pattern.
pub(super) const FILES: &[(&str, usize)] =
    &[("empty.txt", 0), ("small.txt", 100), ("middle.txt", 9_000), ("large.txt", 70_000)];

/// Puts the files on the world's disk.
pub(super) fn put_files() {
    for (path, size) in FILES {
        sim::put_file(path, pattern(0..*size));
    }
}

/// What handlers find as their context.
pub(super) fn context() -> Rc<dyn Any> {
    let spec = FilesSpec {
        root: PathBuf::from("/"),
        index: None,
        param: Some("path".to_owned()),
        precompressed: Vec::new(),
        cache_control: None,
    };
    Rc::new(Files::new(spec).expect("the world has a root"))
}

async fn file(exchange: &mut Exchange<'_>) -> Reply {
    let files: &Files = exchange.context().ok_or_else(|| Failure::internal("the context is made above"))?;
    match files.handle(exchange) {
        Answer::Now(reply) => reply,
        Answer::Later(answering) => answering.await,
    }
}

/// The bytes of a large answer at these offsets.
pub(super) fn pattern(offsets: Range<usize>) -> Vec<u8> {
    static BYTES: LazyLock<Vec<u8>> =
        LazyLock::new(|| (0..1 << 20).map(|offset: usize| (offset % 251) as u8).collect());
    BYTES[offsets].to_vec()
}

pub(super) fn sum_of(body: &[u8]) -> String {
    let sum = body.iter().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    format!("{} bytes, {sum:016x}", body.len())
}

fn fixed(exchange: &mut Exchange<'_>) -> Reply {
    exchange.response.text(FIXED)
}

fn user(exchange: &mut Exchange<'_>) -> Reply {
    let id = exchange.request.param("id").unwrap_or_default();
    exchange.response.text(id)
}

fn number(exchange: &Exchange<'_>, name: &str) -> Result<u64, Failure> {
    let text = exchange.request.param(name).unwrap_or_default();
    text.parse().map_err(|_| Failure::internal("the clients send numbers"))
}

async fn slow(exchange: &mut Exchange<'_>) -> Reply {
    let ms = number(exchange, "ms")?;
    rt::sleep_until(clock::now() + Duration::from_millis(ms)).await;
    exchange.response.text(&format!("after {ms} ms"))
}

async fn echo(exchange: &mut Exchange<'_>) -> Reply {
    exchange.response.start(BodyLength::Unknown)?;
    while let Some(piece) = exchange.body.next().await? {
        exchange.response.write(piece).await?;
    }
    Ok(())
}

async fn sum(exchange: &mut Exchange<'_>) -> Reply {
    let body = exchange.body.read_to_end(1 << 20).await?;
    exchange.response.text(&sum_of(&body))
}

/// Looks at the body only after a while.
async fn late_sum(exchange: &mut Exchange<'_>) -> Reply {
    rt::sleep_until(clock::now() + Duration::from_millis(30)).await;
    sum(exchange).await
}

async fn large(exchange: &mut Exchange<'_>) -> Reply {
    let bytes = number(exchange, "bytes")? as usize;
    exchange.response.start(BodyLength::Known(bytes as u64))?;
    write_pattern(exchange, bytes).await
}

async fn write_pattern(exchange: &mut Exchange<'_>, bytes: usize) -> Reply {
    for start in (0..bytes).step_by(PIECE_BYTES) {
        let piece = pattern(start..bytes.min(start + PIECE_BYTES));
        exchange.response.write(&piece).await?;
    }
    Ok(())
}

/// Announces one byte more than it writes.
async fn cut(exchange: &mut Exchange<'_>) -> Reply {
    let bytes = number(exchange, "bytes")? as usize;
    exchange.response.start(BodyLength::Known(bytes as u64 + 1))?;
    write_pattern(exchange, bytes).await
}

async fn panic_midway(exchange: &mut Exchange<'_>) -> Reply {
    cut(exchange).await?;
    std::panic::resume_unwind(Box::new("planned"))
}

/// Without the panic hook, which would fill the test's output.
fn panic_now(_: &mut Exchange<'_>) -> Reply {
    std::panic::resume_unwind(Box::new("planned"))
}

async fn panic_later(_: &mut Exchange<'_>) -> Reply {
    rt::yield_now().await;
    std::panic::resume_unwind(Box::new("planned"))
}
