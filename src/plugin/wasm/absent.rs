//! What stands for WASM plugins in a build without them: it says so.

use std::io;

use super::options::Options;
use crate::metrics::guests::GuestSample;
use crate::plugin::registry::Build;
use crate::plugin::{BuildContext, Hooks, Mistake, Plugin};

/// Nothing needs to be started.
pub(super) fn start() -> io::Result<()> {
    Ok(())
}

/// There are no guests that could have defined any.
pub(super) fn metrics() -> Vec<GuestSample> {
    Vec::new()
}

/// Never made.
pub(super) enum Filter {}

impl Build<Options> for Filter {
    const KEEPS_STATE: bool = false;

    fn build(options: Options, _: &BuildContext<'_>) -> Result<Self, Vec<Mistake>> {
        let expected = "a build of the server with its feature `wasm`";
        Err(vec![Mistake::at("module", expected, format!("one without it, and the module {:?}", options.module))])
    }
}

impl Plugin for Filter {
    fn hooks(&self) -> Hooks {
        match *self {}
    }
}
