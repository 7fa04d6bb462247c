//! `time-out`: how long the answer to a request may take.

use std::marker::PhantomData;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plugin::registry::Build;
use crate::plugin::{BuildContext, Hook, Hooks, Mistake, Plugin, PreHandler, Registration, Step, Verdict};
use crate::units::{self, TimeSpan};

pub(super) const REGISTRATION: Registration = Registration::new(
    "time-out",
    "how long the answer to a request may take in all",
    PhantomData::<(Options, TimeOut)>,
);

/// How long the answer to a request may take in all, from the request's head to the last byte of the response that the handler
/// makes. Longer: 504, or where the response has begun, its connection is cut.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    /// So long. Of several such plugins on a route the shortest counts. What answers at once (a fixed response, a redirect)
    /// is never too late.
    #[serde(with = "units::as_time_span")]
    #[schemars(with = "TimeSpan", extend("x-minimum" = "1ms", "x-maximum" = "24h"))]
    pub after: Duration,
}

struct TimeOut {
    after: Duration,
}

impl Build<Options> for TimeOut {
    const KEEPS_STATE: bool = true;

    fn build(options: Options, _: &BuildContext<'_>) -> Result<Self, Vec<Mistake>> {
        Ok(Self { after: options.after })
    }
}

impl Plugin for TimeOut {
    fn hooks(&self) -> Hooks {
        Hooks::NONE.with(Hook::PreHandler)
    }

    fn pre_handler<'a>(&'a self, hook: &'a mut PreHandler<'_, '_>) -> Step<'a> {
        hook.limit_time(self.after);
        Step::Now(Verdict::Continue)
    }
}
