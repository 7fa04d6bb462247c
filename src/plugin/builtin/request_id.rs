//! `request-id`: tells the request's id to the handler and to the client.

use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::headers::{check_field_name, is_request_field};
use crate::plugin::registry::Build;
use crate::plugin::{
    BodyPlan, BuildContext, Hook, Hooks, Mistake, Plugin, PluginError, PostHandler, PreHandler, Registration, Step,
    Verdict,
};

pub(super) const REGISTRATION: Registration = Registration::new(
    "request-id",
    "tells a request's id to its handler and to the client",
    PhantomData::<(Options, RequestIds)>,
);

/// Tells a request's id, the one in the logs, to its handler and to the client. Where ids are made or taken over from a proxy in
/// front, `server.request_id` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Options {
    /// The name of the field.
    pub header: String,
    /// Whether the request has it on its way to the handler, in place of what the client sent.
    pub request: bool,
    /// Whether the response has it.
    pub response: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { header: "X-Request-Id".to_owned(), request: true, response: true }
    }
}

struct RequestIds(Options);

impl Build<Options> for RequestIds {
    const KEEPS_STATE: bool = true;

    fn build(options: Options, _: &BuildContext<'_>) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        check_field_name(&["header".into()], &options.header, is_request_field, &mut mistakes);
        if mistakes.is_empty() { Ok(Self(options)) } else { Err(mistakes) }
    }
}

impl Plugin for RequestIds {
    fn hooks(&self) -> Hooks {
        let hooks = if self.0.request { Hooks::NONE.with(Hook::PreHandler) } else { Hooks::NONE };
        if self.0.response { hooks.with(Hook::PostHandler) } else { hooks }
    }

    fn pre_handler<'a>(&'a self, hook: &'a mut PreHandler<'_, '_>) -> Step<'a> {
        let id = hook.id();
        let result = hook.set_header(&self.0.header, id.bytes(&mut [0; 16]));
        Step::Now(result.map_or_else(|error| Verdict::Fail(error.into()), |()| Verdict::Continue))
    }

    fn post_handler(&self, hook: &mut PostHandler<'_, '_>) -> Result<BodyPlan, PluginError> {
        let (request, fields) = hook.parts();
        fields.set(&self.0.header, request.id().bytes(&mut [0; 16]))?;
        Ok(BodyPlan::AsIs)
    }
}
