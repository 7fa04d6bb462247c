//! The application that the simulated server runs: one route for each way of answering.

use ringfort::clock;
use ringfort::handler::{Action, BodyLength, Exchange, Failure, Reply};
use ringfort::rt;
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
        GET "/cut/:bytes" => ringfort::suspending!(cut),
    }
}

pub(super) const FIXED: &str = "fixed";
const PIECE_BYTES: usize = 5000;

/// The byte at an offset of a large answer.
pub(super) fn pattern(offset: usize) -> u8 {
    (offset % 251) as u8
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

async fn large(exchange: &mut Exchange<'_>) -> Reply {
    let bytes = number(exchange, "bytes")? as usize;
    exchange.response.start(BodyLength::Known(bytes as u64))?;
    write_pattern(exchange, bytes).await
}

async fn write_pattern(exchange: &mut Exchange<'_>, bytes: usize) -> Reply {
    for start in (0..bytes).step_by(PIECE_BYTES) {
        let piece: Vec<u8> = (start..bytes.min(start + PIECE_BYTES)).map(pattern).collect();
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

/// Without the panic hook, which would fill the test's output.
fn panic_now(_: &mut Exchange<'_>) -> Reply {
    std::panic::resume_unwind(Box::new("planned"))
}

async fn panic_later(_: &mut Exchange<'_>) -> Reply {
    rt::yield_now().await;
    std::panic::resume_unwind(Box::new("planned"))
}
