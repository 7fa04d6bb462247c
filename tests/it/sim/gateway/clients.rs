//! Clients of the gateway: each knows for every request whether what it got may be the answer.

use super::super::answers::Answers;
use super::super::set_up::Shared;
use super::ledger::{Ledger, REQUEST_TRAILER, Wish, request_body};
use super::tunnels::{self, End, Hold};
use ringfort::clock;
use ringfort::rt;
use ringfort::rt::sim::{self, Client, Random};
use std::rc::Rc;
use std::time::Duration;

pub(super) struct Asking {
    pub(super) shared: Rc<Shared>,
    pub(super) ledger: Rc<Ledger>,
    pub(super) random: Random,
    /// How long an answer may take, whatever servers do.
    pub(super) patience: Duration,
}

/// Several connections, one after another.
pub(super) async fn run(mut asking: Asking) {
    for _ in 0..asking.random.between(1, 3) {
        let Ok(client) = sim::connect(asking.shared.address).await else { return };
        let leaves = asking.random.chance(100).then(|| Duration::from_millis(asking.random.below(2000)));
        let goes = async {
            match leaves {
                Some(after) => rt::sleep_until(clock::now() + after).await,
                None => std::future::pending().await,
            }
        };
        let talked = rt::select(talk(&mut asking, &client), goes).await;
        match talked {
            rt::Either::First(Ok(())) => {}
            rt::Either::First(Err(cause)) => sim::fail(format!("connection {}: {cause}", client.id())),
            rt::Either::Second(()) => client.reset(),
        }
    }
}

/// One connection: batches of requests, each batch sent without waiting; perhaps a tunnel behind them.
async fn talk(asking: &mut Asking, client: &Client) -> Result<(), String> {
    let mut answers = Answers::default();
    for _ in 0..asking.random.between(1, 4) {
        let (mut wire, mut requests) = (Vec::new(), Vec::new());
        for _ in 0..*asking.random.pick(&[1, 1, 1, 2, 3]) {
            requests.push(write_request(asking, &mut wire));
        }
        let sender = client.clone();
        // How sending ended shows by the answers.
        let sending = sim::task(async move { drop(sender.send(&wire).await) });
        for (id, is_head) in requests {
            if !matches!(get_answer(asking, client, &mut answers, id, is_head).await?, Got::Answer { goes_on: true }) {
                return Ok(());
            }
        }
        sending.await;
        let pause = asking.random.below(800);
        rt::sleep_until(clock::now() + Duration::from_millis(pause)).await;
    }
    if asking.random.chance(250) {
        return talk_through_tunnel(asking, client, answers).await;
    }
    if answers.rest().is_empty() { Ok(()) } else { Err("more answers than requests".to_owned()) }
}

/// Offers to switch protocols, with bytes of the new one behind that at times; where the server does, plays its end.
async fn talk_through_tunnel(asking: &mut Asking, client: &Client, mut answers: Answers) -> Result<(), String> {
    let id = asking.ledger.ask(Wish { method: "GET", takes_trailers: false, switches: true });
    let hold = Hold::new(asking.ledger.tunnel(id));
    let mut wire =
        format!("GET /t/{id} HTTP/1.1\r\nHost: sim\r\nConnection: upgrade\r\nUpgrade: sim\r\n\r\n").into_bytes();
    let early = *asking.random.pick(&[0, 0, 1, 300]);
    wire.extend(hold.tunnel.produce(End::Client, early));
    // Some have said all they want to before they know that it is a tunnel.
    let ends = asking.random.chance(100);
    let (sender, tunnel) = (client.clone(), hold.tunnel.clone());
    let sending = sim::task(async move {
        if sender.send(&wire).await.is_ok() && ends {
            tunnel.end(End::Client, &sender);
        }
    });
    match get_answer(asking, client, &mut answers, id, false).await? {
        Got::Answer { .. } | Got::Nothing => Ok(()),
        Got::Switch => {
            hold.tunnel.begin();
            sending.await;
            tunnels::run(hold, End::Client, client.clone(), answers.take_rest(), asking.random.fork()).await
        }
    }
}

/// Its number, and whether it is HEAD.
fn write_request(asking: &mut Asking, wire: &mut Vec<u8>) -> (usize, bool) {
    let random = &mut asking.random;
    let method = *random.pick(&["GET", "GET", "GET", "HEAD", "POST", "POST", "PUT"]);
    let takes_trailers = random.chance(400);
    let id = asking.ledger.ask(Wish { method, takes_trailers, switches: false });
    // What the route does not let through is no more than a field.
    let (path, offers) = if random.chance(300) { ("t", false) } else { ("p", random.chance(200)) };
    let fields = match (takes_trailers, offers) {
        (true, true) => "TE: trailers\r\nConnection: TE, upgrade\r\nUpgrade: sim\r\n",
        (true, false) => "TE: trailers\r\nConnection: TE\r\n",
        (false, true) => "Connection: upgrade\r\nUpgrade: sim\r\n",
        (false, false) => "",
    };
    wire.extend(format!("{method} /{path}/{id} HTTP/1.1\r\nHost: sim\r\n{fields}").into_bytes());
    if matches!(method, "GET" | "HEAD") {
        wire.extend_from_slice(b"\r\n");
        return (id, method == "HEAD");
    }
    let most = *random.pick(&[10, 1000, 10_000, 40_000]);
    let body = request_body(id, random.below(most) as usize);
    if random.chance(300) {
        wire.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
        for piece in body.chunks(700) {
            wire.extend(format!("{:x}\r\n", piece.len()).into_bytes());
            wire.extend_from_slice(piece);
            wire.extend_from_slice(b"\r\n");
        }
        if random.chance(300) {
            wire.extend(format!("0\r\n{REQUEST_TRAILER}\r\n\r\n").into_bytes());
            asking.ledger.ends_with_trailer(id);
        } else {
            wire.extend_from_slice(b"0\r\n\r\n");
        }
    } else {
        wire.extend(format!("Content-Length: {}\r\n\r\n", body.len()).into_bytes());
        wire.extend_from_slice(&body);
    }
    (id, false)
}

/// What came for a request.
enum Got {
    /// An answer; whether there may be another behind it.
    Answer { goes_on: bool },
    /// Another protocol.
    Switch,
    /// The connection is over, and that is excused.
    Nothing,
}

/// Waits for the answer.
async fn get_answer(
    asking: &Asking,
    client: &Client,
    answers: &mut Answers,
    id: usize,
    is_head: bool,
) -> Result<Got, String> {
    let until = clock::now() + asking.patience;
    loop {
        if let Some(answer) = answers.next(is_head)? {
            if answer.status / 100 == 1 && answer.status != 101 {
                continue;
            }
            sim::note(format_args!("connection {}: {} to request {id}", client.id(), answer.status));
            asking.ledger.received(id, &answer)?;
            asking.shared.answered.set(asking.shared.answered.get() + 1);
            return Ok(if answer.status == 101 { Got::Switch } else { Got::Answer { goes_on: !answer.closes } });
        }
        let is_excused = client.is_disturbed() || asking.shared.is_ending();
        match rt::timeout(until, client.recv(5000)).await {
            Some(Ok(bytes)) if !bytes.is_empty() => answers.push(&bytes),
            Some(_) => {
                let is_cut = !answers.rest().is_empty() || asking.ledger.is_begun(id);
                // The reset that tells of a torn tunnel can overtake the 101 before it, as any reset can.
                let was_torn = asking.ledger.was_torn(id);
                let is_excused = is_excused || was_torn || client.is_disturbed() || asking.shared.is_ending();
                return if is_cut || is_excused {
                    Ok(Got::Nothing)
                } else {
                    Err(format!("request {id} gets no answer"))
                };
            }
            None if is_excused || client.is_disturbed() => return Ok(Got::Nothing),
            None => return Err(format!("no answer to request {id} within {:?}", asking.patience)),
        }
    }
}
