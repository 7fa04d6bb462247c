//! Whole launches in the simulator's time: what runs, in which order, how long it takes, and who is blamed.

mod random;

use super::*;
use crate::clock::{self, Moment};
use crate::rt::{self, Postbox, sim};
use std::cell::RefCell;
use std::future::pending;
use std::rc::Rc;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// What happened, in order.
#[derive(Clone, Default)]
struct Journal(Rc<RefCell<Vec<String>>>);

impl Journal {
    fn add(&self, event: impl Into<String>) {
        self.0.borrow_mut().push(event.into());
    }

    fn events(&self) -> Vec<String> {
        self.0.borrow().clone()
    }
}

/// A launch under way in its world.
struct Play {
    launcher: Launcher,
    journal: Journal,
    signals: Postbox<Signal>,
    mailbox: rt::Mailbox<Signal>,
}

/// How it went.
#[derive(Debug)]
struct Played {
    result: Result<(), LaunchError>,
    events: Vec<String>,
    /// From the launch to its end.
    took: Duration,
}

impl Played {
    fn told(&self) -> String {
        self.result.as_ref().unwrap_err().to_string()
    }
}

impl Play {
    /// A service that is ready after a while, and stops after another.
    fn add(&mut self, name: &'static str, start: Duration, stop: Duration) -> &mut ServiceOptions {
        let journal = self.journal.clone();
        self.launcher.service(name, move |handle: Handle| async move {
            journal.add(format!("{name} starts"));
            rt::sleep_until(clock::now() + start).await;
            handle.ready();
            handle.stopping().await;
            journal.add(format!("{name} stops"));
            rt::sleep_until(clock::now() + stop).await;
            journal.add(format!("{name} ended"));
            Ok(())
        })
    }

    fn signal_after(&self, after: Duration) {
        let signals = self.signals.clone();
        rt::spawn(async move {
            rt::sleep_until(clock::now() + after).await;
            signals.post(Signal("SIGTERM")).unwrap();
        });
    }

    async fn run(self) -> Played {
        let Self { launcher, journal, mailbox, .. } = self;
        let (began, phases) = (clock::now(), journal.clone());
        let result = launcher.run(&mailbox, move |phase| phases.add(phase.name())).await;
        Played { result, events: journal.events(), took: clock::now().since(began) }
    }
}

/// Plays a launch under several seeds, with polls that nothing woke for: none may change what comes of it.
fn play(declare: impl Fn(&mut Play) + Send + Sync + Copy + 'static, check: impl Fn(Played)) {
    for seed in 0..8 {
        let faults = sim::Faults { spurious_polls: 200, ..sim::Faults::default() };
        let options = sim::Options { seed, faults, ..sim::Options::default() };
        let report = sim::run(options, move || async move {
            let (signals, mailbox) = rt::mailbox(8);
            let mut play = Play { launcher: Launcher::new(), journal: Journal::default(), signals, mailbox };
            declare(&mut play);
            play.run().await
        });
        match report.outcome {
            Ok(played) => check(played),
            Err(cause) => panic!("seed {seed}: {cause}\n{}", report.trace.join("\n")),
        }
    }
}

/// Without the panic hook, which would fill the test's output.
fn panic_now(message: &'static str) {
    std::panic::resume_unwind(Box::new(message));
}

#[track_caller]
fn assert_took(played: &Played, expected: Duration) {
    // Timers are some milliseconds late.
    let slack = Duration::from_millis(100);
    assert!(played.took >= expected && played.took < expected + slack, "{expected:?}: {played:?}");
}

#[test]
fn a_program_initializes_starts_serves_and_stops_in_reverse() {
    play(
        |play| {
            for name in ["first", "second"] {
                let journal = play.journal.clone();
                play.launcher.initializer(name, move || async move {
                    journal.add(name);
                    Ok(())
                });
            }
            play.add("web", SECOND, SECOND).after("db");
            play.add("db", 2 * SECOND, 3 * SECOND);
            play.signal_after(5 * SECOND);
        },
        |played| {
            let expected = [
                "first",
                "second",
                "starting",
                "db starts",
                "web starts",
                "serving",
                "stopping",
                "web stops",
                "web ended",
                "db stops",
                "db ended",
                "stopped",
            ];
            assert!(played.result.is_ok(), "{played:?}");
            // The first phase is the one that it begins with.
            let events: Vec<_> = played.events.iter().map(String::as_str).collect();
            assert_eq!(events, expected);
            assert_took(&played, 9 * SECOND);
        },
    );
}

#[test]
fn what_is_independent_starts_and_stops_at_the_same_time() {
    play(
        |play| {
            for name in ["a", "b", "c"] {
                play.add(name, 2 * SECOND, 2 * SECOND);
            }
            play.signal_after(3 * SECOND);
        },
        |played| {
            assert!(played.result.is_ok());
            assert_took(&played, 5 * SECOND);
        },
    );
}

#[test]
fn a_service_that_never_becomes_ready_is_named_with_who_waited_and_the_rest_rolls_back() {
    play(
        |play| {
            play.add("db", SECOND, SECOND);
            let journal = play.journal.clone();
            let stuck = move |handle: Handle| async move {
                handle.stopping().await;
                journal.add("cache stops");
                Ok(())
            };
            play.launcher.service("cache", stuck).after("db").start_within(3 * SECOND);
            play.add("web", SECOND, SECOND).after("cache");
            play.add("api", SECOND, SECOND).after("web");
        },
        |played| {
            let told = r#"service "cache" did not start: it took longer than 3s (waiting for it: web, api)"#;
            assert_eq!(played.told(), told);
            let expected = ["starting", "db starts", "rolling_back", "cache stops", "db stops", "db ended", "stopped"];
            assert_eq!(played.events, expected);
            assert_took(&played, 5 * SECOND);
        },
    );
}

#[test]
fn a_service_that_ends_or_lets_its_handle_go_before_it_is_ready_has_failed() {
    play(
        |play| {
            play.launcher.service("quick", |_handle: Handle| async { Ok(()) });
        },
        |played| {
            let told = r#"service "quick" did not start: it ended without having said that it is ready"#;
            assert_eq!(played.told(), told);
        },
    );
    play(
        |play| {
            play.launcher.service("careless", |handle: Handle| {
                drop(handle);
                pending()
            });
        },
        |played| {
            let told =
                r#"service "careless" did not start: it dropped its handle without having said that it is ready"#;
            assert_eq!(played.told(), told);
        },
    );
}

#[test]
fn a_service_that_fails_while_it_runs_stops_the_others_and_is_named() {
    play(
        |play| {
            play.add("db", SECOND, SECOND);
            let tired = |handle: Handle| async move {
                handle.ready();
                rt::sleep_until(clock::now() + SECOND).await;
                Err("out of disk".into())
            };
            play.launcher.service("queue", tired).after("db");
            play.add("web", SECOND, SECOND).after("queue");
        },
        |played| {
            assert!(played.told().starts_with(r#"service "queue" failed: out of disk"#), "{played:?}");
            assert!(played.events.ends_with(&["db stops".into(), "db ended".into(), "stopped".into()]));
        },
    );
}

#[test]
fn a_panic_is_contained_and_named_wherever_it_comes() {
    for (at, during) in [(0, "did not start"), (1, "did not start"), (2, "failed"), (3, "did not stop well")] {
        let declare = move |play: &mut Play| {
            play.add("db", SECOND, SECOND);
            let shaky = move |handle: Handle| {
                (at == 0).then(|| panic_now("shaken"));
                async move {
                    (at == 1).then(|| panic_now("shaken"));
                    handle.ready();
                    rt::sleep_until(clock::now() + 2 * SECOND).await;
                    (at == 2).then(|| panic_now("shaken"));
                    handle.stopping().await;
                    panic_now("shaken");
                    Ok(())
                }
            };
            play.launcher.service("shaky", shaky).after("db");
            play.signal_after(9 * SECOND);
        };
        play(declare, |played| {
            assert_eq!(played.told(), format!(r#"service "shaky" {during}: it panicked: shaken"#));
            assert!(played.events.contains(&"db ended".to_owned()), "the others are still stopped: {played:?}");
        });
    }
}

#[test]
fn a_stop_has_its_own_time_however_long_the_start_took() {
    play(
        |play| {
            play.launcher.start_within(4 * SECOND);
            play.add("db", 3 * SECOND, 5 * SECOND).start_within(3500 * SECOND / 1000).stop_within(6 * SECOND);
            let stuck = |handle: Handle| async move {
                let _kept = handle;
                pending().await
            };
            play.launcher.service("stuck", stuck).after("db").stop_within(SECOND);
        },
        |played| {
            let told = r#"service "stuck" did not start: it was not done when 4s for all were over; service "stuck" did not stop well: it took longer than 1s"#;
            assert_eq!(played.told(), told);
            assert!(played.events.contains(&"db ended".to_owned()), "{played:?}");
            assert_took(&played, 10 * SECOND);
        },
    );
}

#[test]
fn a_service_that_does_not_stop_is_left_behind_and_all_of_them_have_one_budget() {
    play(
        |play| {
            play.launcher.stop_within(5 * SECOND);
            for (name, after) in [("a", None), ("b", Some("a")), ("c", Some("b"))] {
                let options = play.add(name, SECOND, 60 * SECOND).stop_within(3 * SECOND);
                after.map(|after| options.after(after));
            }
            play.signal_after(4 * SECOND);
        },
        |played| {
            let blamed: Vec<_> = match &played.result {
                Err(LaunchError::Failed { failures }) => {
                    failures.iter().map(|failure| (failure.service.as_str(), failure.during, &failure.reason)).collect()
                }
                result => panic!("{result:?}"),
            };
            let spent = Reason::BudgetSpent { total: 5 * SECOND };
            let late = Reason::TimedOut { within: 3 * SECOND };
            let expected = [("c", During::Stop, &late), ("b", During::Stop, &spent), ("a", During::Stop, &spent)];
            assert_eq!(blamed, expected);
            assert!(played.events.contains(&"a stops".to_owned()), "each is told, though no time is left: {played:?}");
            assert_took(&played, 9 * SECOND);
        },
    );
}

#[test]
fn a_drain_takes_nothing_off_the_time_of_the_others() {
    play(
        |play| {
            play.launcher.stop_within(3 * SECOND);
            play.add("db", SECOND, 2 * SECOND);
            play.add("web", SECOND, 20 * SECOND).after("db").drains().stop_within(30 * SECOND);
            play.signal_after(4 * SECOND);
        },
        |played| {
            assert!(played.result.is_ok(), "{played:?}");
            assert_took(&played, 26 * SECOND);
        },
    );
}

#[test]
fn a_signal_before_all_are_ready_takes_the_start_back() {
    play(
        |play| {
            play.add("db", SECOND, SECOND);
            play.add("web", 5 * SECOND, SECOND).after("db");
            play.add("api", SECOND, SECOND).after("web");
            play.signal_after(2 * SECOND);
        },
        |played| {
            assert_eq!(played.told(), "SIGTERM came before the start was done; what had started was stopped");
            assert!(
                played.events.contains(&"db ended".to_owned()) && !played.events.contains(&"api starts".to_owned())
            );
        },
    );
    play(
        |play| {
            play.launcher.initializer("slow", || async {
                rt::sleep_until(clock::now() + 5 * SECOND).await;
                Ok(())
            });
            play.add("db", SECOND, SECOND);
            play.signal_after(SECOND);
        },
        |played| {
            assert_eq!(played.result, Err(LaunchError::Interrupted { signal: "SIGTERM", failures: Vec::new() }));
            assert!(played.events.is_empty());
            assert_took(&played, SECOND);
        },
    );
}

#[test]
fn a_second_signal_ends_it_at_once_and_names_what_still_ran() {
    play(
        |play| {
            play.add("db", SECOND, SECOND);
            play.add("web", SECOND, 60 * SECOND).after("db").stop_within(100 * SECOND);
            play.signal_after(4 * SECOND);
            play.signal_after(5 * SECOND);
        },
        |played| {
            let running = vec!["web".to_owned(), "db".to_owned()];
            assert_eq!(played.result, Err(LaunchError::Cut { signal: "SIGTERM", running }));
            assert_took(&played, 5 * SECOND);
        },
    );
}

#[test]
fn it_lingers_before_it_stops_when_a_signal_came_and_not_after_a_failure() {
    play(
        |play| {
            play.launcher.linger(5 * SECOND);
            play.add("web", SECOND, SECOND).drains();
            play.signal_after(2 * SECOND);
        },
        |played| {
            assert!(played.result.is_ok());
            let expected = ["starting", "web starts", "serving", "draining", "web stops", "web ended", "stopped"];
            assert_eq!(played.events[..], expected);
            assert_took(&played, 8 * SECOND);
        },
    );
    play(
        |play| {
            play.launcher.linger(5 * SECOND);
            play.add("web", SECOND, SECOND).drains();
            let weary = |handle: Handle| async move {
                handle.ready();
                rt::sleep_until(clock::now() + 2 * SECOND).await;
                handle.give_up("weary");
                handle.stopping().await;
                Ok(())
            };
            play.launcher.service("weary", weary);
        },
        |played| {
            assert_eq!(played.told(), r#"service "weary" failed: weary"#);
            assert_took(&played, 3 * SECOND);
        },
    );
}

#[test]
fn an_initializer_that_fails_starts_nothing() {
    type Make = fn() -> Running;
    let cases: [(&str, Make); 3] = [
        ("no schema", || Box::pin(async { Err("no schema".into()) })),
        ("it panicked: shaken", || {
            panic_now("shaken");
            Box::pin(pending())
        }),
        ("it took longer than 7s", || Box::pin(pending())),
    ];
    for (cause, make) in cases {
        play(
            move |play| {
                play.add("db", SECOND, SECOND);
                play.launcher.initializer_within("schema", 7 * SECOND, make);
            },
            |played| {
                assert_eq!(played.told(), format!(r#"initializer "schema" failed: {cause}"#));
                assert!(played.events.is_empty());
            },
        );
    }
}

#[test]
fn what_cannot_be_ordered_or_named_starts_nothing() {
    play(
        |play| {
            play.add("a", SECOND, SECOND).after("b");
            play.add("b", SECOND, SECOND).after("a");
        },
        |played| {
            assert_eq!(played.told(), r#"services wait for each other: "a" after "b" after "a""#);
            assert!(played.events.is_empty());
        },
    );
    play(
        |play| {
            for _ in 0..2 {
                play.launcher.check("disk", || async { Ok("fine".to_owned()) });
            }
        },
        |played| assert!(played.told().starts_with("health checks: expected a name of its own"), "{played:?}"),
    );
}

#[test]
fn the_overview_shows_phases_states_and_failures() {
    let report = sim::run(sim::Options::default(), || async {
        let (_signals, mailbox) = rt::mailbox::<Signal>(8);
        let mut launcher = Launcher::new();
        let seen = Rc::new(RefCell::new(Vec::new()));
        let overview = launcher.overview();
        assert_eq!((overview.phase(), overview.services().len()), (Phase::Initializing, 0));
        let (watched, states) = (overview.clone(), seen.clone());
        launcher.service("db", |handle: Handle| async move {
            rt::sleep_until(clock::now() + SECOND).await;
            handle.ready();
            handle.stopping().await;
            Ok(())
        });
        launcher.service("web", |_handle: Handle| async { Err("no".into()) }).after("db");
        let result = launcher
            .run(&mailbox, move |_| {
                states.borrow_mut().push(watched.services().iter().map(|view| view.state).collect::<Vec<_>>());
            })
            .await;
        assert!(result.is_err());
        use ServiceState::{Failed, Starting, Stopped, Stopping, Waiting};
        assert_eq!(*seen.borrow(), [[Starting, Waiting], [Stopping, Failed], [Stopped, Failed]]);
        let services = overview.services();
        assert_eq!(services[1].failure.as_deref(), Some(r#"service "web" did not start: no"#));
        assert_eq!((services[0].failure.as_deref(), services[1].after.as_slice()), (None, &["db".to_owned()][..]));
        assert!(services[0].since > Moment::default() && overview.phase() == Phase::Stopped);
    });
    report.outcome.unwrap();
}
