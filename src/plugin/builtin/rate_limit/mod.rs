//! `rate-limit`: so many requests of a client in a time.
//!
//! | file | holds |
//! |---|---|
//! | `gcra` | what a key has used, as one moment |
//! | `table` | the cells of all keys, shared by the cores |
//! | `lease` | what a core has taken ahead, and the bound of the error that comes of it |

mod gcra;
mod lease;
mod table;

use std::cell::RefCell;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write as _;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv6Addr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::gcra::{Limit, seconds_until};
use self::lease::{Decision, Leases};
use self::table::Table;
use crate::clock;
use crate::handler::decode_percent;
use crate::handler::pipeline::Slot;
use crate::http::{FieldError, Fields, Status};
use crate::limits::{RATE_BURST_MAX, RATE_KEYS_MAX, TRUST_MAX};
use crate::plugin::client::Trust;
use crate::plugin::registry::Build;
use crate::plugin::{
    BodyPlan, BuildContext, Hook, Hooks, Local, LocalAnswer, Mistake, Plugin, PluginError, PostHandler, PreHandler,
    Registration, Step, Verdict,
};
use crate::pool::{self, Class};
use crate::proxy::Network;
use crate::units::Rate;

pub(super) const REGISTRATION: Registration = Registration::new(
    "rate-limit",
    "lets so many requests of a client through in a time",
    PhantomData::<(Options, RateLimit)>,
);

/// Lets so many requests of a client through in a time; others are answered with 429 and `Retry-After`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {
    /// Requests in a time, `"100/s"`, `"10/m"`, `"500/h"`, of each key, over all cores.
    pub rate: Rate,
    /// Requests that may come at once after a pause; as many as `rate` names when left out.
    #[serde(default)]
    #[schemars(extend("minimum" = 1, "maximum" = RATE_BURST_MAX))]
    pub burst: Option<u32>,
    /// What has a budget of its own: `"address"`, the client's; `"header:NAME"`, each value of a request field; `"param:NAME"`,
    /// each value of a parameter of the route; `"identity"`, who the client is as a plugin before this one found out; `"all"`, all
    /// requests together. A request that has no such field, parameter or identity, or the field more than once, counts by its
    /// address.
    #[serde(default = "default_key")]
    #[schemars(extend("pattern" = "^(address|identity|all|header:.+|param:.+)$"))]
    pub key: String,
    /// Leading bits of an IPv6 address that tell clients apart: one client has at least a network of 64.
    #[serde(default = "default_prefix")]
    #[schemars(extend("minimum" = 1, "maximum" = 128))]
    pub ipv6_prefix: u8,
    /// Proxies in front that are believed: of a request that comes from one, the client is the last address in
    /// `X-Forwarded-For` that is not in these networks.
    #[serde(default)]
    #[schemars(extend("maxItems" = TRUST_MAX))]
    pub trust: Vec<Network>,
    /// Keys that are told apart at once; a key counts from its first request until its budget is whole again.
    #[serde(default = "default_keys")]
    #[schemars(extend("minimum" = 1, "maximum" = RATE_KEYS_MAX))]
    pub max_keys: usize,
    /// What becomes of requests of a new key when there is no room for it.
    #[serde(default)]
    pub when_full: WhenFull,
    /// The status of the answer to requests that are too many.
    #[serde(default = "default_status")]
    #[schemars(extend("minimum" = 400, "maximum" = 599))]
    pub status: u16,
    /// Whether responses have the fields `RateLimit` and `RateLimit-Policy`.
    #[serde(default = "yes")]
    pub headers: bool,
}

/// What becomes of requests of a new key when there is no room for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(super) enum WhenFull {
    /// They go through, and are not counted.
    #[default]
    Allow,
    /// They are answered as those that are too many.
    Refuse,
}

fn default_key() -> String {
    "address".to_owned()
}

fn default_prefix() -> u8 {
    64
}

fn default_keys() -> usize {
    100_000
}

fn default_status() -> u16 {
    429
}

fn yes() -> bool {
    true
}

/// What has a budget of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Key {
    Address,
    Header(String),
    Param(String),
    Identity,
    All,
}

impl Key {
    fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            None if text == "address" => Some(Self::Address),
            None if text == "identity" => Some(Self::Identity),
            None if text == "all" => Some(Self::All),
            Some(("header", name)) if Fields::new().push(name, "") != Err(FieldError::Name) => {
                Some(Self::Header(name.to_owned()))
            }
            Some(("param", name)) if !name.is_empty() => Some(Self::Param(name.to_owned())),
            _ => None,
        }
    }
}

struct RateLimit {
    limit: Limit,
    table: Table,
    key: Key,
    ipv6_mask: u128,
    trust: Trust,
    /// Of this process alone, so that nobody can choose keys that share a bucket.
    hasher: RandomState,
    when_full: WhenFull,
    status: Status,
    headers: bool,
    /// `"name"`, as a structured field has it.
    name: String,
    /// `RateLimit-Policy`.
    policy: String,
}

/// What is kept of a request until its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Note {
    is_refused: bool,
    /// Permits that are left.
    left: u32,
    /// Seconds until there is one again, or until all are back.
    seconds: u32,
}

impl Note {
    fn pack(self) -> Slot {
        Slot::Number(u64::from(self.is_refused) << 63 | u64::from(self.left) << 32 | u64::from(self.seconds))
    }

    fn unpack(slot: &Slot) -> Option<Self> {
        match slot {
            Slot::Number(number) => {
                Some(Self { is_refused: number >> 63 == 1, left: (number << 1 >> 33) as u32, seconds: *number as u32 })
            }
            Slot::Empty | Slot::Boxed(_) => None,
        }
    }
}

impl Build<Options> for RateLimit {
    const KEEPS_STATE: bool = true;

    fn build(options: Options, context: &BuildContext<'_>) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let key = Key::parse(&options.key);
        if key.is_none() {
            let expected = "\"address\", \"identity\", \"all\", \"header:NAME\" or \"param:NAME\"";
            mistakes.push(Mistake::at("key", expected, format!("{:?}", options.key)));
        }
        let status = Status::new(options.status).unwrap_or(Status::TOO_MANY_REQUESTS);
        let rate = options.rate;
        let limit = Limit::new(rate.count(), rate.per(), options.burst.unwrap_or(rate.count()).min(RATE_BURST_MAX));
        let Some(key) = key.filter(|_| mistakes.is_empty()) else { return Err(mistakes) };
        // A name may hold anything; a structured field's string may not.
        let is_plain = |b: u8| matches!(b, b' '..=b'~') && b != b'"' && b != b'\\';
        let name = if context.name.bytes().all(is_plain) { context.name } else { REGISTRATION.name };
        Ok(Self {
            limit,
            table: Table::new(options.max_keys),
            key,
            ipv6_mask: u128::MAX.checked_shl(128 - u32::from(options.ipv6_prefix)).unwrap_or(0),
            trust: Trust::new(&options.trust),
            hasher: RandomState::new(),
            when_full: options.when_full,
            status,
            headers: options.headers,
            policy: format!("\"{name}\";q={};w={}", limit.burst, seconds_until(limit.span(), 0)),
            name: format!("\"{name}\""),
        })
    }
}

/// Hashes what a parameter stands for.
fn hash_param(param: &str, hasher: &mut impl Hasher) {
    if !param.contains('%') {
        return hasher.write(param.as_bytes());
    }
    let mut plain = pool::take(Class::Small);
    decode_percent(param.as_bytes(), &mut plain);
    hasher.write(&plain);
}

impl RateLimit {
    /// The key of a request, as 64 bits.
    fn key(&self, hook: &mut PreHandler<'_, '_>) -> Result<u64, PluginError> {
        let mut hasher = self.hasher.build_hasher();
        // What it is made of is told apart from an address.
        hasher.write_u8(1);
        let is_known = match &self.key {
            Key::Address => false,
            Key::All => true,
            Key::Header(name) => {
                let request = hook.request().map_err(|error| PluginError(error.detail().to_owned()))?;
                let mut values = request.header_values(name);
                match (values.next(), values.next()) {
                    (Some(only), None) => {
                        hasher.write(only);
                        true
                    }
                    // Of several nobody knows which one counts elsewhere: another one each time would be a new budget.
                    (None, _) | (Some(_), Some(_)) => false,
                }
            }
            Key::Param(name) => {
                // As it is read elsewhere: `%21` and `!` are one.
                hook.param(name).map(|value| hash_param(value, &mut hasher)).is_some()
            }
            Key::Identity if hook.identity().is_empty() => false,
            Key::Identity => {
                hasher.write(hook.identity());
                true
            }
        };
        if is_known {
            return Ok(hasher.finish());
        }
        let mut hasher = self.hasher.build_hasher();
        hasher.write_u8(0);
        match hook.client(&self.trust)? {
            IpAddr::V4(address) => hasher.write(&address.octets()),
            IpAddr::V6(address) => {
                hasher.write(&Ipv6Addr::from_bits(address.to_bits() & self.ipv6_mask).octets());
            }
        }
        Ok(hasher.finish())
    }

    fn decide(&self, hook: &mut PreHandler<'_, '_>) -> Result<Verdict, PluginError> {
        // 0 stands for no key at all.
        let key = self.key(hook)?.max(1);
        let cores = hook.context().get::<Local>().map_or(1, Local::cores);
        let leases = hook.local(|| RefCell::new(Leases::new(&self.limit, cores)));
        let now = clock::turn().as_nanos();
        let decision = leases.borrow_mut().take(&self.table, key, now, &self.limit);
        let seconds = |moment| u32::try_from(seconds_until(moment, now)).unwrap_or(u32::MAX);
        let note = match decision {
            Decision::Admitted { left, cell } => Note { is_refused: false, left, seconds: seconds(cell) },
            Decision::Refused { cell } => {
                Note { is_refused: true, left: 0, seconds: seconds(self.limit.next(cell)).max(1) }
            }
            Decision::NoRoom if self.when_full == WhenFull::Allow => return Ok(Verdict::Continue),
            Decision::NoRoom => Note { is_refused: true, left: 0, seconds: 1 },
        };
        *hook.slot() = note.pack();
        Ok(match note.is_refused {
            true => hook.answer(LocalAnswer::problem(self.status, "too many requests; try again later")),
            false => Verdict::Continue,
        })
    }

    fn write(&self, note: Note, fields: &mut Fields) -> Result<(), FieldError> {
        let Note { is_refused, left, seconds } = note;
        if is_refused {
            fields.set("Retry-After", itoa::Buffer::new().format(seconds))?;
        }
        if self.headers {
            // Pushed and not set: of several limits on a route each says what it has left.
            fields.push("RateLimit-Policy", &self.policy)?;
            let mut text = pool::take(Class::Small);
            // Writing to a vector does not fail.
            let _ = write!(text, "{};r={left};t={seconds}", self.name);
            fields.push("RateLimit", &text[..])?;
        }
        Ok(())
    }
}

impl Plugin for RateLimit {
    fn hooks(&self) -> Hooks {
        Hooks::NONE.with(Hook::PreHandler).with(Hook::PostHandler)
    }

    fn edits_requests(&self) -> bool {
        false
    }

    fn pre_handler<'a>(&'a self, hook: &'a mut PreHandler<'_, '_>) -> Step<'a> {
        Step::Now(self.decide(hook).unwrap_or_else(Verdict::Fail))
    }

    fn post_handler(&self, hook: &mut PostHandler<'_, '_>) -> Result<BodyPlan, PluginError> {
        if let Some(note) = Note::unpack(hook.slot()) {
            self.write(note, hook.fields())?;
        }
        Ok(BodyPlan::AsIs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_a_request_is_read_as_it_was_written() {
        for is_refused in [false, true] {
            for (left, seconds) in [(0, 0), (1, u32::MAX), (RATE_BURST_MAX, 7), (u32::MAX >> 1, 0)] {
                let note = Note { is_refused, left, seconds };
                assert_eq!(Note::unpack(&note.pack()), Some(note));
            }
        }
        assert_eq!(Note::unpack(&Slot::Empty), None);
    }

    #[test]
    fn keys_are_read_from_text() {
        assert_eq!(Key::parse("header:X-Key"), Some(Key::Header("X-Key".to_owned())));
        assert_eq!(Key::parse("param:id"), Some(Key::Param("id".to_owned())));
        for text in ["", "ip", "header", "header:", "header:a b", "param:", "all:x"] {
            assert_eq!(Key::parse(text), None, "{text}");
        }
    }
}
