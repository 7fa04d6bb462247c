//! Clients that connect and ask all the time, and to whom nothing may happen while one process follows the other.

use super::super::answers::Answers;
use super::stage::{Stage, Waiting, handled};
use ringfort::clock;
use ringfort::rt;
use ringfort::rt::sim::{self, Client, Random};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

/// How long a client waits for an answer: others may be before it, and no process has room for all.
const PATIENCE: Duration = Duration::from_secs(15);

/// A connection, with the bytes that were sent on it.
struct Kept(Client, u64);

/// Asks so often, on one connection as long as that lasts, or on another each time.
pub(super) async fn run(stage: Rc<Stage>, mut random: Random) {
    let keeps = random.chance(500);
    let mut kept: Option<Kept> = None;
    for _ in 0..random.between(2, 25) {
        rt::sleep_until(clock::now() + Duration::from_millis(random.below(200))).await;
        let ms = if random.chance(800) { random.below(20) } else { random.below(700) };
        // Once more where the connection was about to close, on one of its own.
        for _ in 0..2 {
            let (connection, is_fresh) = match kept.take() {
                Some(kept) => (kept, false),
                None => match sim::connect(super::stage::ADDRESS).await {
                    Ok(client) => (Kept(client, 0), true),
                    Err(_) if stage.is_stopping.get() => return,
                    Err(error) => return sim::fail(format!("a client is turned away: {error}")),
                },
            };
            match ask(&stage, connection, is_fresh, ms).await {
                Asked::Answered(connection) => {
                    kept = connection.filter(|_| keeps);
                    break;
                }
                Asked::Again => {}
                Asked::Over => return,
            }
        }
    }
}

enum Asked {
    /// With the connection, unless it closes.
    Answered(Option<Kept>),
    /// The connection had been about to close.
    Again,
    /// All of it stops.
    Over,
}

/// Asks once. A request that is not answered has to have an excuse.
async fn ask(stage: &Rc<Stage>, Kept(client, before): Kept, is_fresh: bool, ms: u64) -> Asked {
    let id = stage.asked.get();
    stage.asked.set(id + 1);
    let request = format!("GET /once/{id}/{ms} HTTP/1.1\r\nHost: sim\r\n\r\n");
    let sent = before + request.len() as u64;
    let waiting = Rc::new(Waiting { client: client.clone(), sent, is_due: Cell::new(false) });
    stage.waiting.borrow_mut().push(waiting.clone());
    let answer = exchange(&client, request.as_bytes()).await;
    stage.waiting.borrow_mut().retain(|other| !Rc::ptr_eq(other, &waiting));
    let connection = client.id();
    match answer {
        Ok((body, closes)) => {
            assert_eq!(body, id.to_string().as_bytes(), "connection {connection}: the answer to another request");
            assert_eq!(handled(id), 1, "connection {connection}: request {id} was handled more than once");
            stage.answered.set(stage.answered.get() + 1);
            let is_draining = client.core().is_some_and(|core| stage.process_of(core).drained.get().is_some());
            assert!(!closes || is_draining, "connection {connection}: closed for no reason");
            Asked::Answered((!closes).then_some(Kept(client, sent)))
        }
        Err(how) => {
            let process = client.core().map(|core| stage.process_of(core));
            let is_cut = process.as_ref().is_some_and(|process| process.cut.get() > 0);
            if client.is_disturbed() || is_cut {
                return Asked::Again;
            }
            if stage.is_stopping.get() && !waiting.is_due.get() {
                return Asked::Over;
            }
            let is_draining = process.is_some_and(|process| process.drained.get().is_some());
            let may = !is_fresh && is_draining && !waiting.is_due.get();
            assert!(may, "connection {connection}: {how} instead of the answer to request {id}; fresh: {is_fresh}");
            assert_eq!(handled(id), 0, "connection {connection}: request {id} was handled, and not answered");
            Asked::Again
        }
    }
}

/// Sends a request and reads its answer: the body, and whether the connection closes behind it.
async fn exchange(client: &Client, request: &[u8]) -> Result<(Vec<u8>, bool), &'static str> {
    // Who is not let in for long was forgotten, too.
    let until = clock::now() + PATIENCE;
    // An end that was on its way before the request shows when reading.
    let _ = client.send(request).await;
    let mut answers = Answers::default();
    loop {
        if let Some(answer) = answers.next(false).unwrap_or_else(|error| panic!("connection {}: {error}", client.id()))
        {
            if client.is_disturbed() && answer.status == 408 {
                return Err("a time-out");
            }
            assert_eq!(answer.status, 200, "connection {}", client.id());
            return Ok((answer.body, answer.closes));
        }
        match rt::timeout(until, client.recv(65_536)).await {
            Some(Ok(bytes)) if !bytes.is_empty() => answers.push(&bytes),
            Some(Ok(_)) => return Err("an end"),
            Some(Err(_)) => return Err("a reset"),
            None => return Err("nothing"),
        }
    }
}
