//! Named health checks: each runs by itself at its own pace, and whoever asks gets its last result. However often that is,
//! a check runs once in its period; a result that is too old counts as failed, so a check that hangs cannot look healthy.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use super::contained::{self, Contained};
use super::failure::Error;
use crate::clock::{self, Moment};
use crate::limits::{CHECK_DETAIL_BYTES_MAX, CHECK_EVERY_MS, CHECK_WITHIN_MS, CHECKS_MAX};
use crate::rt;

/// What a check finds: a word about what is well, or why it is not.
pub type Finding = Result<String, Error>;

/// A check that runs.
pub type Checking = Pin<Box<dyn Future<Output = Finding>>>;

/// Something that can be found to be well or not. Every `Fn() -> impl Future<Output = Finding>` is one.
///
/// It runs on the launcher's thread, as services do: what blocks belongs into `rt::blocking`.
pub trait HealthCheck {
    /// Looks once. Dropped when it takes longer than it may.
    fn check(&self) -> Checking;
}

impl<F, Work> HealthCheck for F
where
    F: Fn() -> Work,
    Work: Future<Output = Finding> + 'static,
{
    fn check(&self) -> Checking {
        Box::pin(self())
    }
}

/// Whether traffic depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// While it fails, the program is not ready.
    Required,
    /// It is only shown.
    Informative,
}

impl Weight {
    /// The name in answers.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Informative => "informative",
        }
    }
}

/// How a check is run. It is required unless it is said to be informative.
#[derive(Debug, Clone)]
pub struct CheckOptions {
    pub(super) name: String,
    weight: Weight,
    within: Duration,
    every: Duration,
    max_age: Option<Duration>,
}

impl CheckOptions {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            weight: Weight::Required,
            within: Duration::from_millis(CHECK_WITHIN_MS),
            every: Duration::from_millis(CHECK_EVERY_MS),
            max_age: None,
        }
    }

    /// Only shown: readiness does not depend on it.
    pub fn informative(&mut self) -> &mut Self {
        self.weight = Weight::Informative;
        self
    }

    /// How long one run may take; 2 seconds unless it is set. Longer is a failure.
    pub fn within(&mut self, within: Duration) -> &mut Self {
        self.within = within;
        self
    }

    /// How often it runs; every 5 seconds unless it is set. Its last result is what everybody sees meanwhile.
    pub fn every(&mut self, every: Duration) -> &mut Self {
        self.every = every;
        self
    }

    /// How old a result may be before it counts as failed; twice the period and the time-out unless it is set.
    pub fn max_age(&mut self, age: Duration) -> &mut Self {
        self.max_age = Some(age);
        self
    }

    fn age_max(&self) -> Duration {
        self.max_age.unwrap_or(2 * self.every + self.within)
    }
}

/// One run's result.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Ran {
    outcome: Result<String, String>,
    took: Duration,
    ended: Moment,
}

/// A check as it stands now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckView {
    /// Its name.
    pub name: String,
    /// Whether traffic depends on it.
    pub weight: Weight,
    /// Whether it passed, and not too long ago.
    pub has_passed: bool,
    /// What it said, or why it counts as failed.
    pub detail: String,
    /// How long its last run took; `None` before the first.
    pub took: Option<Duration>,
    /// How long ago that ended.
    pub age: Option<Duration>,
}

struct Check {
    options: CheckOptions,
    work: Rc<dyn HealthCheck>,
    last: Option<Ran>,
}

/// All checks of a program.
#[derive(Default)]
pub struct Health {
    checks: RefCell<Vec<Check>>,
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let checks = self.checks.borrow();
        f.debug_list().entries(checks.iter().map(|check| (&check.options.name, &check.last))).finish()
    }
}

impl Health {
    /// The checks as they stand now, in the order in which they were declared.
    pub fn view(&self) -> Vec<CheckView> {
        let now = clock::now();
        self.checks.borrow().iter().map(|check| judge(&check.options, check.last.as_ref(), now)).collect()
    }

    /// The checks that traffic depends on and that do not pass.
    pub fn missing(&self) -> Vec<CheckView> {
        let mut missing = self.view();
        missing.retain(|check| check.weight == Weight::Required && !check.has_passed);
        missing
    }

    /// Takes the checks in; whether there are not too many.
    pub(super) fn set(&self, checks: Vec<(CheckOptions, Rc<dyn HealthCheck>)>) -> bool {
        let fits = checks.len() <= CHECKS_MAX;
        let make = |(options, work)| Check { options, work, last: None };
        *self.checks.borrow_mut() = checks.into_iter().take(CHECKS_MAX).map(make).collect();
        fits
    }

    fn note(&self, index: usize, ran: Ran) {
        let mut checks = self.checks.borrow_mut();
        let check = &mut checks[index];
        let (name, had_passed) = (&check.options.name, check.last.as_ref().map(|ran| ran.outcome.is_ok()));
        match (&ran.outcome, had_passed) {
            (Err(cause), Some(true) | None) => tracing::warn!(check = name, cause, "a health check fails"),
            (Ok(_), Some(false)) => tracing::info!(check = name, "a health check passes again"),
            (Ok(_), Some(true) | None) | (Err(_), Some(false)) => {}
        }
        check.last = Some(ran);
    }
}

/// What a result is worth now.
fn judge(options: &CheckOptions, last: Option<&Ran>, now: Moment) -> CheckView {
    let age = last.map(|ran| now.since(ran.ended));
    let (has_passed, detail) = match (last, age) {
        (None, _) | (_, None) => (false, "it has not run yet".to_owned()),
        (Some(_), Some(age)) if age > options.age_max() => {
            (false, format!("its last result is {age:.1?} old, expected at most {:.1?}", options.age_max()))
        }
        (Some(Ran { outcome: Ok(detail), .. }), _) => (true, detail.clone()),
        (Some(Ran { outcome: Err(cause), .. }), _) => (false, cause.clone()),
    };
    let (name, weight) = (options.name.clone(), options.weight);
    CheckView { name, weight, has_passed, detail, took: last.map(|ran| ran.took), age }
}

/// Runs every check at its pace, without end.
pub(super) fn run_checks(overview: &Rc<super::Overview>) -> Vec<Contained<()>> {
    let count = overview.health().checks.borrow().len();
    (0..count).map(|index| Contained::new(run_check(overview.clone(), index))).collect()
}

async fn run_check(overview: Rc<super::Overview>, index: usize) {
    let health = overview.health();
    let (work, within, every) = {
        let checks = health.checks.borrow();
        let Check { work, options, .. } = &checks[index];
        (work.clone(), options.within, options.every)
    };
    loop {
        let began = clock::now();
        let checking = contained::make(|| work.check());
        let outcome = match checking {
            Err(panic) => Err(format!("it panicked: {panic}")),
            Ok(checking) => match rt::timeout(began + within, Contained::new(checking)).await {
                None => Err(format!("it took longer than {within:?}")),
                Some(Err(panic)) => Err(format!("it panicked: {panic}")),
                Some(Ok(Err(error))) => Err(error.to_string()),
                Some(Ok(Ok(detail))) => Ok(detail),
            },
        };
        let ended = clock::now();
        let outcome = outcome.map(shorten).map_err(shorten);
        health.note(index, Ran { outcome, took: ended.since(began), ended });
        // Never more often than once a period; with a period of nothing, others still get their turn.
        rt::sleep_until((began + every).max(ended + Duration::from_millis(1))).await;
    }
}

/// What a check says is kept and shown: it has a bound.
fn shorten(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(CHECK_DETAIL_BYTES_MAX));
    text
}

#[cfg(test)]
#[cfg(feature = "sim")]
mod tests;
