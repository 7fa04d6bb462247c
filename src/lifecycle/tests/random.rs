//! Random programs in random worlds: whatever goes wrong, the order is kept, and the blame falls on who deserves it.

use super::*;
use crate::rt::sim::Random;
use std::collections::BTreeMap;

const SERVICES: usize = 6;

/// What a service does, of what it should not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    NeverReady,
    EndsEarly,
    PanicsEarly,
    FailsLater,
    GivesUp,
    PanicsInStop,
    NeverStops,
}

#[derive(Debug, Clone)]
struct Plan {
    needs: Vec<usize>,
    flaw: Flaw,
    start: Duration,
    stop: Duration,
}

fn plan(random: &mut Random) -> Vec<Plan> {
    use Flaw::{EndsEarly, FailsLater, GivesUp, NeverReady, NeverStops, None, PanicsEarly, PanicsInStop};
    let service = |at: usize| {
        let flaws = [NeverReady, EndsEarly, PanicsEarly, FailsLater, GivesUp, PanicsInStop, NeverStops];
        let flaw = if random.chance(150) { *random.pick(&flaws) } else { None };
        let needs = (0..at).filter(|_| random.chance(300)).collect();
        let mut ms = || Duration::from_millis(random.below(2000));
        Plan { needs, flaw, start: ms(), stop: ms() }
    };
    (0..SERVICES).map(service).collect()
}

async fn run_service(at: usize, plan: Plan, journal: Journal, handle: Handle) -> Outcome {
    journal.add(format!("{at} starts"));
    rt::sleep_until(clock::now() + plan.start).await;
    match plan.flaw {
        Flaw::NeverReady => pending().await,
        Flaw::EndsEarly => return Ok(()),
        Flaw::PanicsEarly => panic_now("early"),
        Flaw::None | Flaw::FailsLater | Flaw::GivesUp | Flaw::PanicsInStop | Flaw::NeverStops => {}
    }
    journal.add(format!("{at} ready"));
    handle.ready();
    match plan.flaw {
        Flaw::FailsLater => return Err("later".into()),
        Flaw::GivesUp => handle.give_up("worn"),
        _ => {}
    }
    handle.stopping().await;
    journal.add(format!("{at} stops"));
    rt::sleep_until(clock::now() + plan.stop).await;
    match plan.flaw {
        Flaw::PanicsInStop => panic_now("in stop"),
        Flaw::NeverStops => pending().await,
        _ => {}
    }
    Ok(())
}

/// When each event came first.
fn moments(events: &[String]) -> BTreeMap<&str, usize> {
    events.iter().enumerate().rev().map(|(at, event)| (event.as_str(), at)).collect()
}

fn check(plans: &[Plan], played: &Played) {
    let at = moments(&played.events);
    let moment = |service: usize, what: &str| at.get(format!("{service} {what}").as_str()).copied();
    for (service, plan) in plans.iter().enumerate() {
        for &needed in &plan.needs {
            if let Some(started) = moment(service, "starts") {
                assert!(moment(needed, "ready").is_some_and(|ready| ready < started), "{service} needs {needed}");
            }
            if let (Some(stopped), Some(needed)) = (moment(service, "stops"), moment(needed, "stops")) {
                assert!(stopped < needed, "{service} stops after what it needs");
            }
        }
        // Who was ready and did not end by itself was told to stop.
        let is_told = moment(service, "stops").is_some();
        let is_ready = moment(service, "ready").is_some();
        assert_eq!(is_told, is_ready && plan.flaw != Flaw::FailsLater, "{service}");
    }
    match &played.result {
        Err(LaunchError::Failed { failures }) => {
            for failure in failures {
                let flaw = plans[failure.service.parse::<usize>().unwrap()].flaw;
                assert_ne!(flaw, Flaw::None, "{failure}");
            }
        }
        Err(LaunchError::Interrupted { .. }) => assert!(!played.events.contains(&"serving".to_owned())),
        Ok(()) => {
            let is_harmless = |plan: &Plan| plan.flaw == Flaw::None;
            assert!(plans.iter().all(is_harmless) && played.events.contains(&"serving".to_owned()));
        }
        Err(error) => panic!("{error}"),
    }
    // At most six levels, each with its time-outs, and the signal.
    assert!(played.took < Duration::from_secs(6 * (3 + 5) + 20), "{:?}", played.took);
}

#[test]
fn random_programs_keep_the_order_and_blame_nobody_innocent() {
    let mut outcomes = [0; 3];
    for seed in 0..200 {
        let plans = plan(&mut Random::new(seed));
        let declared = plans.clone();
        let faults = sim::Faults { spurious_polls: 100, ..sim::Faults::default() };
        let options = sim::Options { seed, faults, ..sim::Options::default() };
        let report = sim::run(options, move || async move {
            let (signals, mailbox) = rt::mailbox(8);
            let mut play = Play { launcher: Launcher::new(), journal: Journal::default(), signals, mailbox };
            for (at, plan) in declared.into_iter().enumerate() {
                let (journal, needs) = (play.journal.clone(), plan.needs.clone());
                let work = move |handle: Handle| run_service(at, plan, journal, handle);
                let options = play.launcher.service(&at.to_string(), work);
                // One that is told to stop while it starts goes on to its end.
                options.start_within(3 * SECOND).stop_within(5 * SECOND);
                needs.iter().for_each(|needed| _ = options.after(&needed.to_string()));
            }
            play.signal_after(Duration::from_millis(sim::random().below(20_000)));
            play.run().await
        });
        match report.outcome {
            Ok(played) => {
                let verdict = std::panic::catch_unwind(|| check(&plans, &played));
                assert!(verdict.is_ok(), "seed {seed}: {plans:#?}\n{played:#?}");
                outcomes[match played.result {
                    Ok(()) => 0,
                    Err(LaunchError::Interrupted { .. }) => 1,
                    Err(_) => 2,
                }] += 1;
            }
            Err(cause) => panic!("seed {seed}: {cause}\n{}", report.trace.join("\n")),
        }
    }
    assert!(outcomes.iter().all(|count| *count > 5), "each way it can go is seen: {outcomes:?}");
}
