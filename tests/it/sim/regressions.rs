//! Mistakes that seeds once found, each as the few events that show it: a seed's meaning changes with the simulator, an
//! event's does not. Where the mistake can be planted, it is shown to be found so.

use super::scenario::start_worker;
use super::set_up::{GENEROUS, SLACK, Shared, pause, settings, start_master, stop};
use super::watch;
use ringfort::clock;
use ringfort::conn::Settings;
use ringfort::rt;
use ringfort::rt::sim::{self, Bug, CoreOptions, Options, Random, Report, Style};
use std::rc::Rc;
use std::time::Duration;

const FIXED: &[u8] = b"GET /fixed HTTP/1.1\r\nHost: sim\r\n\r\n";

fn planting(planted: Option<Bug>) -> Options {
    Options { seed: 1, planted, ..Options::default() }
}

/// Plays `work` against one worker, or two of which the last breaks down at `kill_at`; then drains.
fn play<T: Send + 'static>(
    core: CoreOptions,
    options: Options,
    kill_at: Option<Duration>,
    work: impl AsyncFnOnce(&Shared) -> T + Send + 'static,
) -> Report<T> {
    sim::run(options, move || async move {
        let (news, inbox) = rt::mailbox(16);
        let settings = Settings {
            connections: 10,
            keepalive_requests: 1000,
            keepalive_age: Duration::from_secs(3600),
            ..settings(&mut Random::new(0))
        };
        let shared = Rc::new(Shared::new(settings, true, false));
        let kills = [&[][..], kill_at.as_slice()];
        let kills = &kills[..1 + usize::from(kill_at.is_some())];
        let start = |(index, kills): (usize, &&[Duration])| start_worker(index, &shared, core, &news, kills);
        let serving: Vec<_> = kills.iter().enumerate().map(start).collect();
        watch::begin(shared.clone(), &serving);
        let master = start_master(&shared, &serving, inbox, GENEROUS);
        pause(10).await;
        let outcome = work(&shared).await;
        stop(&shared, master, serving, GENEROUS, None).await;
        outcome
    })
}

/// Sends a request and waits for its answer: how long it took.
async fn ask(shared: &Shared, request: &[u8]) -> Duration {
    let asked = clock::now();
    let client = sim::connect(shared.address).await.expect("somebody listens");
    client.send(request).await.expect("the way is open");
    let mut answer = Vec::new();
    // The network delivers in pieces of any size.
    while answer.len() < 12 {
        let more = client.recv(1000).await.expect("an answer");
        assert!(!more.is_empty(), "an end instead of an answer");
        answer.extend_from_slice(&more);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    clock::now().since(asked)
}

fn outcome<T>(report: Report<T>) -> T {
    report.outcome.unwrap_or_else(|cause| panic!("{}\n{cause}", report.trace.join("\n")))
}

#[test]
fn one_client_that_sends_ahead_leaves_buffers_to_others() {
    let core = CoreOptions { style: Style::Multishot, buffers: 8, buffer_bytes: 100 };
    let report = play(core, planting(None), None, async |shared| {
        let greedy = sim::connect(shared.address).await.expect("somebody listens");
        greedy.send(b"GET /slow/1500 HTTP/1.1\r\nHost: sim\r\n\r\n").await.expect("the way is open");
        pause(100).await;
        greedy.send(&FIXED.repeat(50)).await.expect("the way is open");
        pause(200).await;
        ask(shared, FIXED).await
    });
    let waited = outcome(report);
    assert!(waited < SLACK, "waited {waited:?} behind another client's slow request");
}

/// A client that was refused, and neither reads nor closes, while another asks.
fn ask_beside_a_refused_client(planted: Option<Bug>) -> Report<Duration> {
    let core = CoreOptions { style: Style::Multishot, buffers: 1, buffer_bytes: 100 };
    play(core, planting(planted), None, async |shared| {
        let refused = sim::connect(shared.address).await.expect("somebody listens");
        refused.send(b"GARBAGE\r\n\r\nand more").await.expect("the way is open");
        pause(300).await;
        let waited = ask(shared, FIXED).await;
        drop(refused);
        waited
    })
}

#[test]
fn a_lingering_connection_leaves_the_only_receive_buffer_to_others() {
    assert!(outcome(ask_beside_a_refused_client(None)) < SLACK);
    let cause = ask_beside_a_refused_client(Some(Bug::LingerKeepsBuffer)).outcome.unwrap_err();
    assert!(cause.contains("keeps a receive buffer"), "{cause}");
}

/// A lone client whose head is many times as long as the core's one buffer.
fn ask_through_one_small_buffer(planted: Option<Bug>) -> Report<Duration> {
    let core = CoreOptions { style: Style::Multishot, buffers: 1, buffer_bytes: 16 };
    play(core, planting(planted), None, async |shared| {
        let filler = "f".repeat(3000);
        ask(shared, format!("GET /fixed HTTP/1.1\r\nHost: sim\r\nX-Filler: {filler}\r\n\r\n").as_bytes()).await
    })
}

#[test]
fn a_receiver_whose_buffer_came_back_meanwhile_does_not_sleep() {
    assert!(outcome(ask_through_one_small_buffer(None)) < SLACK);
    let cause = ask_through_one_small_buffer(Some(Bug::ForgottenWaiter)).outcome.unwrap_err();
    assert!(cause.contains("knows nothing of it"), "{cause}");
}

/// One worker breaks down in a drain, while the other answers slowly.
fn ask_while_a_worker_breaks_down_in_the_drain(planted: Option<Bug>) -> Report<Duration> {
    let core = CoreOptions { style: Style::Multishot, buffers: 100, buffer_bytes: 1000 };
    play(core, planting(planted), Some(Duration::from_millis(200)), async |shared| {
        // Some of them are on the worker that stays.
        let asks: Vec<_> = (0..8)
            .map(|_| {
                let address = shared.address;
                sim::task(async move {
                    let client = sim::connect(address).await.expect("somebody listens");
                    client.send(b"GET /slow/800 HTTP/1.1\r\nHost: sim\r\n\r\n").await.expect("the way is open");
                    let answer = client.recv(1000).await;
                    client.is_disturbed() || answer.is_ok_and(|answer| !answer.is_empty())
                })
            })
            .collect();
        pause(120).await;
        shared.signal();
        let began = clock::now();
        for ask in asks {
            assert!(ask.await, "a client of the worker that stays lost its answer");
        }
        clock::now().since(began)
    })
}

#[test]
fn a_worker_that_breaks_down_in_a_drain_does_not_cut_the_others_short() {
    outcome(ask_while_a_worker_breaks_down_in_the_drain(None));
    let cause = ask_while_a_worker_breaks_down_in_the_drain(Some(Bug::DrainAgain)).outcome.unwrap_err();
    assert!(cause.contains("drain begins anew"), "{cause}");
    let cause = ask_while_a_worker_breaks_down_in_the_drain(Some(Bug::RestartInDrain)).outcome.unwrap_err();
    assert!(cause.contains("started again in a drain"), "{cause}");
}

/// A client that sends ahead of a request whose answer is cut: what it received, and whether that ended without a reset.
fn send_ahead_of_a_cut_answer(planted: Option<Bug>) -> Report<(Vec<u8>, bool)> {
    let core = CoreOptions { style: Style::Readiness, buffers: 100, buffer_bytes: 1000 };
    play(core, planting(planted), None, async |shared| {
        let client = sim::connect(shared.address).await.expect("somebody listens");
        let cut = b"GET /cut/10 HTTP/1.1\r\nHost: sim\r\n\r\n".to_vec();
        // More than one receive takes.
        let ahead = FIXED.repeat(300);
        let mut received = Vec::new();
        if client.send(&[FIXED, &cut, &ahead].concat()).await.is_err() {
            return (received, false);
        }
        loop {
            match client.recv(1000).await {
                Ok(bytes) if bytes.is_empty() => return (received, true),
                Ok(bytes) => received.extend(bytes),
                Err(_) => return (received, false),
            }
        }
    })
}

#[test]
fn an_answer_that_is_cut_takes_no_earlier_answer_with_it() {
    let (received, ended) = outcome(send_ahead_of_a_cut_answer(None));
    assert!(ended && received.windows(5).any(|window| window == b"fixed"), "{}", String::from_utf8_lossy(&received));
    let (_, ended) = outcome(send_ahead_of_a_cut_answer(Some(Bug::CutOverUnread)));
    assert!(!ended);
}

/// A client that stops in the middle of a head and does not even take the answer to that.
fn stop_in_a_head_and_take_nothing(planted: Option<Bug>) -> Report<()> {
    let core = CoreOptions { style: Style::Multishot, buffers: 100, buffer_bytes: 1000 };
    let options = Options { pipe_bytes_max: 64, ..planting(planted) };
    play(core, options, None, async |shared| {
        let client = sim::connect(shared.address).await.expect("somebody listens");
        client.send(b"GET /fixed HTTP/1.1\r\n").await.expect("the way is open");
        while client.closed_at().is_none() {
            pause(10).await;
        }
    })
}

#[test]
fn a_client_that_takes_no_time_out_answer_is_not_waited_for_again() {
    outcome(stop_in_a_head_and_take_nothing(None));
    let cause = stop_in_a_head_and_take_nothing(Some(Bug::EndlessWrite)).outcome.unwrap_err();
    assert!(cause.contains("its client takes nothing"), "{cause}");
}
