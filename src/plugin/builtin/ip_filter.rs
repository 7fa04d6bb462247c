//! `ip-filter`: requests of some networks alone, or of all but some.

use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::http::Status;
use crate::limits::{IP_FILTER_NETWORKS_MAX, TRUST_MAX};
use crate::plugin::client::{NetworkTable, Trust};
use crate::plugin::registry::Build;
use crate::plugin::{BuildContext, Hook, Hooks, LocalAnswer, Mistake, Plugin, PreHandler, Registration, Step, Verdict};
use crate::proxy::Network;

pub(super) const REGISTRATION: Registration = Registration::new(
    "ip-filter",
    "takes requests of some networks alone, or of all but some",
    PhantomData::<(Options, IpFilter)>,
);

/// Takes requests of some networks alone, or of all but some; others are answered with 403. The smallest network that a
/// client is in decides, and where it is in both lists with the same one it is refused. Of a client that is in none, requests are
/// taken where `allow` is empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Options {
    /// Networks whose requests are taken, as `"10.0.0.0/8"`, `"2001:db8::/32"`, `"192.0.2.1"`.
    #[schemars(extend("maxItems" = IP_FILTER_NETWORKS_MAX))]
    pub allow: Vec<Network>,
    /// Networks whose requests are refused.
    #[schemars(extend("maxItems" = IP_FILTER_NETWORKS_MAX))]
    pub deny: Vec<Network>,
    /// Proxies in front that are believed: of a request that comes from one, the client is the last address in
    /// `X-Forwarded-For` that is not in these networks. Without them it is the peer.
    #[schemars(extend("maxItems" = TRUST_MAX))]
    pub trust: Vec<Network>,
}

struct IpFilter {
    /// Whether requests from there are taken.
    table: NetworkTable<bool>,
    takes_others: bool,
    trust: Trust,
}

impl Build<Options> for IpFilter {
    const KEEPS_STATE: bool = true;

    fn build(options: Options, _: &BuildContext<'_>) -> Result<Self, Vec<Mistake>> {
        let Options { allow, deny, trust } = options;
        if allow.is_empty() && deny.is_empty() {
            return Err(vec![Mistake::at("allow", "a network, here or in `deny`", "none")]);
        }
        let takes_others = allow.is_empty();
        let allowed = allow.into_iter().map(|network| (network, true));
        // Those that are denied come last: of equal networks that is what counts.
        let table = NetworkTable::new(allowed.chain(deny.into_iter().map(|network| (network, false))));
        Ok(Self { table, takes_others, trust: Trust::new(&trust) })
    }
}

impl Plugin for IpFilter {
    fn hooks(&self) -> Hooks {
        Hooks::NONE.with(Hook::PreHandler)
    }

    fn edits_requests(&self) -> bool {
        false
    }

    fn pre_handler<'a>(&'a self, hook: &'a mut PreHandler<'_, '_>) -> Step<'a> {
        let client = match hook.client(&self.trust) {
            Ok(client) => client,
            Err(error) => return Step::Now(Verdict::Fail(error)),
        };
        Step::Now(match self.table.get(client).unwrap_or(self.takes_others) {
            true => Verdict::Continue,
            false => hook.answer(LocalAnswer::problem(Status::FORBIDDEN, "requests from this address are refused")),
        })
    }
}
