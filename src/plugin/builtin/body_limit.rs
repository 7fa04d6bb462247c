//! `body-limit`: how long the bodies of requests may be on some routes.

use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plugin::registry::Build;
use crate::plugin::{BuildContext, Hooks, Mistake, Plugin, Registration};
use crate::units::{self, ByteSize};

pub(super) const REGISTRATION: Registration = Registration::new(
    "body-limit",
    "how long the bodies of requests may be, instead of server.limits.body",
    PhantomData::<(Options, BodyLimit)>,
);

/// How long the bodies of requests may be. A request that announces more, or sends more, is answered with 413.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    /// Bytes of a request body, in place of `server.limits.body`: less or more than that. Of several such plugins on a route
    /// the last one counts.
    #[serde(with = "units::as_byte_size")]
    #[schemars(with = "ByteSize", extend("minimum" = 0, "maximum" = 1_u64 << 40))]
    pub max: u64,
}

struct BodyLimit {
    max: u64,
}

impl Build<Options> for BodyLimit {
    const KEEPS_STATE: bool = true;

    fn build(options: Options, _: &BuildContext<'_>) -> Result<Self, Vec<Mistake>> {
        Ok(Self { max: options.max })
    }
}

impl Plugin for BodyLimit {
    fn hooks(&self) -> Hooks {
        Hooks::NONE
    }

    fn body_limit(&self) -> Option<u64> {
        Some(self.max)
    }
}
