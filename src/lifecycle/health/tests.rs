//! Checks that pass, fail, panic, hang and grow old, in the simulator's time.

use super::super::{Handle, Launcher, Signal};
use super::*;
use crate::rt::sim;
use std::cell::Cell;
use std::future::pending;

const SECOND: Duration = Duration::from_secs(1);

/// Runs these checks for a while in a world, and looks at them then.
fn after(time: Duration, declare: impl Fn(&mut Launcher) + Send + 'static) -> Vec<CheckView> {
    let report = sim::run(sim::Options::default(), move || async move {
        let (signals, mailbox) = rt::mailbox::<Signal>(8);
        let mut launcher = Launcher::new();
        launcher.service("idle", |handle: Handle| async move {
            handle.ready();
            handle.stopping().await;
            Ok(())
        });
        declare(&mut launcher);
        let overview = launcher.overview();
        assert!(overview.health().view().is_empty());
        let look = async {
            rt::sleep_until(clock::now() + time).await;
            overview.health().view()
        };
        match rt::select(launcher.run(&mailbox, |_| {}), look).await {
            rt::Either::First(result) => panic!("{result:?}"),
            rt::Either::Second(view) => {
                drop(signals);
                view
            }
        }
    });
    report.outcome.unwrap()
}

fn only(views: Vec<CheckView>) -> (bool, String) {
    let [view] = views.try_into().unwrap();
    let CheckView { has_passed, detail, .. } = view;
    (has_passed, detail)
}

#[test]
fn a_check_passes_or_fails_with_its_word() {
    let passed = after(SECOND, |launcher| _ = launcher.check("disk", || async { Ok("7 GiB free".to_owned()) }));
    assert_eq!(only(passed), (true, "7 GiB free".to_owned()));
    let failed = after(SECOND, |launcher| _ = launcher.check("disk", || async { Err("full".into()) }));
    assert_eq!(only(failed), (false, "full".to_owned()));
}

#[test]
fn a_check_that_panics_or_hangs_fails_and_runs_again() {
    for (hangs, cause) in [(false, "it panicked: oh"), (true, "it took longer than 2s")] {
        let declare = move |launcher: &mut Launcher| {
            let runs = Rc::new(Cell::new(0));
            let check = move || {
                runs.set(runs.get() + 1);
                let is_bad = runs.get() < 3;
                async move {
                    match (is_bad, hangs) {
                        (false, _) => Ok("well again".to_owned()),
                        (true, true) => pending().await,
                        (true, false) => std::panic::resume_unwind(Box::new("oh")),
                    }
                }
            };
            launcher.check("moody", check).every(4 * SECOND);
        };
        assert_eq!(only(after(3 * SECOND, declare)), (false, cause.to_owned()));
        assert_eq!(only(after(11 * SECOND, declare)), (true, "well again".to_owned()));
    }
}

#[test]
fn a_check_runs_once_in_its_period_however_often_it_is_asked() {
    let report = sim::run(sim::Options::default(), || async {
        let (_signals, mailbox) = rt::mailbox::<Signal>(8);
        let mut launcher = Launcher::new();
        let runs = Rc::new(Cell::new(0));
        let counted = runs.clone();
        let count = move || {
            counted.set(counted.get() + 1);
            async { Ok(String::new()) }
        };
        launcher.check("counted", count).every(2 * SECOND);
        let overview = launcher.overview();
        let ask = async {
            for _ in 0..2000 {
                assert!(overview.health().view().len() <= 1);
                rt::sleep_until(clock::now() + Duration::from_millis(5)).await;
            }
        };
        assert!(matches!(rt::select(launcher.run(&mailbox, |_| {}), ask).await, rt::Either::Second(())));
        runs.get()
    });
    let runs = report.outcome.unwrap();
    // 2000 times 5 ms, each some milliseconds late, are 10 seconds and somewhat more.
    assert!((5..=11).contains(&runs), "{runs}");
}

#[test]
fn a_result_that_is_too_old_and_none_at_all_count_as_failed() {
    let mut options = CheckOptions::new("db");
    let ran = Ran { outcome: Ok("fine".to_owned()), took: SECOND, ended: Moment::from_nanos(0) };
    let at = |seconds: u64| Moment::from_nanos(0) + Duration::from_secs(seconds);
    assert!(judge(&options, Some(&ran), at(12)).has_passed, "twice the period and the time-out");
    let old = judge(&options, Some(&ran), at(13));
    assert_eq!((old.has_passed, old.detail.as_str()), (false, "its last result is 13.0s old, expected at most 12.0s"));
    assert_eq!(old.age, Some(13 * SECOND));
    options.max_age(SECOND);
    assert!(!judge(&options, Some(&ran), at(2)).has_passed);
    let none = judge(&options, None, at(0));
    assert_eq!((none.has_passed, none.detail.as_str()), (false, "it has not run yet"));
}

#[test]
fn only_required_checks_are_missed() {
    let health = Health::default();
    let mut shown = CheckOptions::new("shown");
    shown.informative();
    let work = || -> Rc<dyn HealthCheck> { Rc::new(|| async { Ok(String::new()) }) };
    assert!(health.set(vec![(CheckOptions::new("needed"), work()), (shown, work())]));
    let missing: Vec<_> = health.missing().into_iter().map(|check| check.name).collect();
    assert_eq!(missing, ["needed"]);
    assert!(!health.set((0..=CHECKS_MAX).map(|_| (CheckOptions::new("many"), work())).collect()));
}

#[test]
fn what_a_check_says_is_cut_at_its_bound() {
    let long = "\u{e9}".repeat(CHECK_DETAIL_BYTES_MAX);
    let views = after(SECOND, move |launcher| {
        let long = long.clone();
        launcher.check("chatty", move || {
            let long = long.clone();
            async { Ok(long) }
        });
    });
    assert_eq!(only(views).1.len(), CHECK_DETAIL_BYTES_MAX);
}
