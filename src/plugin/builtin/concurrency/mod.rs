//! `concurrency`: how many requests may be under way at once.
//!
//! | file | holds |
//! |---|---|
//! | `permits` | those of a fixed limit, shared by the cores |
//! | `adaptive` | a limit that is found out, by each core for itself and by times that all of them measure |

mod adaptive;
#[cfg(test)]
mod model_tests;
mod permits;

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::adaptive::{Adaptive, Base, Bounds};
use self::permits::{Permits, Pool};
use crate::clock::{self, Moment};
use crate::handler::pipeline::Slot;
use crate::http::Status;
use crate::limits::CONCURRENCY_MAX;
use crate::plugin::registry::Build;
use crate::plugin::{
    BodyPlan, BuildContext, Hook, Hooks, Local, LocalAnswer, Mistake, Plugin, PluginError, PostHandler, PostResponse,
    PreHandler, Registration, Step, Verdict,
};
use crate::units::{self, TimeSpan};

pub(super) const REGISTRATION: Registration = Registration::new(
    "concurrency",
    "how many requests may be under way at once",
    PhantomData::<(Options, Concurrency)>,
);

/// How many requests may be under way at once. Further ones are answered at once with 503 and `Retry-After`, and do not wait.
/// Exactly one of `limit` and `adaptive`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    /// So many, over all cores.
    #[serde(default)]
    #[schemars(extend("minimum" = 1, "maximum" = CONCURRENCY_MAX))]
    pub limit: Option<u32>,
    /// As many as are answered without a queue behind: found out from how long answers take.
    #[serde(default)]
    pub adaptive: Option<AdaptiveOptions>,
    /// What `Retry-After` says.
    #[serde(default = "default_retry", with = "units::as_time_span")]
    #[schemars(with = "TimeSpan", extend("x-minimum" = "1s", "x-maximum" = "24h"))]
    pub retry_after: Duration,
}

/// As many as are answered without a queue behind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct AdaptiveOptions {
    /// The least, over all cores; each core allows one at least.
    #[schemars(extend("minimum" = 1, "maximum" = CONCURRENCY_MAX))]
    pub min: u32,
    /// The most, over all cores.
    #[schemars(extend("minimum" = 1, "maximum" = CONCURRENCY_MAX))]
    pub max: u32,
    /// How much longer answers may take than without a queue, without the limit falling.
    #[schemars(extend("minimum" = 1.0, "maximum" = 10.0))]
    pub tolerance: f64,
}

impl Default for AdaptiveOptions {
    fn default() -> Self {
        Self { min: 10, max: 1000, tolerance: 1.5 }
    }
}

fn default_retry() -> Duration {
    Duration::from_secs(1)
}

enum Limit {
    Fixed(Arc<Pool>),
    Adaptive(AdaptiveOptions, Arc<Base>),
}

/// What one core decides by.
enum Gate {
    Fixed(Permits),
    Adaptive { limit: RefCell<Adaptive>, under_way: Cell<u32> },
}

impl Gate {
    fn new(limit: &Limit, cores: usize) -> Self {
        match limit {
            Limit::Fixed(pool) => Self::Fixed(Permits::new(pool.clone(), cores)),
            Limit::Adaptive(AdaptiveOptions { min, max, tolerance }, base) => {
                let cores = u32::try_from(cores).unwrap_or(u32::MAX).max(1);
                let share = |all: u32| (all / cores).max(1);
                let bounds = Bounds { min: share(*min), max: share(*max), tolerance: *tolerance, cores };
                Self::Adaptive { limit: RefCell::new(Adaptive::new(bounds, base.clone())), under_way: Cell::new(0) }
            }
        }
    }

    /// Whether one more may come in.
    fn enter(&self, now: Moment) -> bool {
        match self {
            Self::Fixed(permits) => permits.take(),
            Self::Adaptive { limit, under_way } => {
                let is_free = under_way.get() < limit.borrow().limit(now);
                under_way.set(under_way.get() + u32::from(is_free));
                is_free
            }
        }
    }

    /// One is over.
    fn leave(&self) {
        match self {
            Self::Fixed(permits) => permits.give(),
            // A core that was made anew meanwhile does not know of it.
            Self::Adaptive { under_way, .. } => under_way.set(under_way.get().saturating_sub(1)),
        }
    }

    /// The answer to one begins.
    fn note(&self, began: Moment) {
        if let Self::Adaptive { limit, under_way } = self {
            limit.borrow_mut().note(began, clock::now(), under_way.get());
        }
    }
}

/// What becomes of a request, in the two low bits of what is kept of it; above them, when it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Shed,
    UnderWay(Moment),
    Answered,
}

impl Stage {
    fn pack(self) -> Slot {
        Slot::Number(match self {
            Self::Shed => 0,
            Self::UnderWay(began) => began.as_nanos() << 2 | 1,
            Self::Answered => 2,
        })
    }

    fn unpack(slot: &Slot) -> Option<Self> {
        match slot {
            Slot::Number(number) => Some(match number & 3 {
                0 => Self::Shed,
                1 => Self::UnderWay(Moment::from_nanos(number >> 2)),
                _ => Self::Answered,
            }),
            Slot::Empty | Slot::Boxed(_) => None,
        }
    }
}

struct Concurrency {
    limit: Limit,
    retry_after: String,
}

impl Build<Options> for Concurrency {
    const KEEPS_STATE: bool = true;

    fn build(options: Options, _: &BuildContext<'_>) -> Result<Self, Vec<Mistake>> {
        let limit = match (options.limit, options.adaptive) {
            (Some(limit), None) => Limit::Fixed(Pool::new(limit)),
            (None, Some(adaptive)) if adaptive.min > adaptive.max => {
                let expected = format!("at most {}, as `max` is", adaptive.max);
                let path = vec!["adaptive".into(), "min".into()];
                return Err(vec![Mistake { path, expected, found: adaptive.min.to_string() }]);
            }
            (None, Some(adaptive)) => Limit::Adaptive(adaptive, Arc::default()),
            (limit, _) => {
                let found = if limit.is_some() { "both" } else { "neither" };
                return Err(vec![Mistake::at("limit", "exactly one of \"limit\" and \"adaptive\"", found)]);
            }
        };
        Ok(Self { limit, retry_after: options.retry_after.as_secs().to_string() })
    }
}

impl Concurrency {
    fn gate(&self, local: Option<&Local>) -> Gate {
        Gate::new(&self.limit, local.map_or(1, Local::cores))
    }
}

impl Plugin for Concurrency {
    fn hooks(&self) -> Hooks {
        Hooks::NONE.with(Hook::PreHandler).with(Hook::PostHandler).with(Hook::PostResponse)
    }

    fn edits_requests(&self) -> bool {
        false
    }

    fn pre_handler<'a>(&'a self, hook: &'a mut PreHandler<'_, '_>) -> Step<'a> {
        let gate = hook.local(|| self.gate(hook.context().get()));
        let now = clock::now();
        let is_in = gate.enter(now);
        let stage = if is_in { Stage::UnderWay(now) } else { Stage::Shed };
        *hook.slot() = stage.pack();
        Step::Now(match is_in {
            true => Verdict::Continue,
            false => hook.answer(LocalAnswer::problem(
                Status::SERVICE_UNAVAILABLE,
                "too many requests are under way; try again later",
            )),
        })
    }

    fn post_handler(&self, hook: &mut PostHandler<'_, '_>) -> Result<BodyPlan, PluginError> {
        match Stage::unpack(hook.slot()) {
            Some(Stage::Shed) => hook.fields().set("Retry-After", &self.retry_after)?,
            Some(Stage::UnderWay(began)) => {
                hook.local(|| self.gate(hook.context().get())).note(began);
                *hook.slot() = Stage::Answered.pack();
            }
            Some(Stage::Answered) | None => {}
        }
        Ok(BodyPlan::AsIs)
    }

    fn post_response(&self, hook: &mut PostResponse<'_>) {
        match Stage::unpack(hook.slot()) {
            Some(Stage::UnderWay(_) | Stage::Answered) => hook.local(|| self.gate(hook.context().get())).leave(),
            Some(Stage::Shed) | None => {}
        }
        *hook.slot() = Slot::Empty;
    }
}
