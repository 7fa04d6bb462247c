//! `headers`: sets, adds and removes header fields of requests and responses.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::http::encode::is_server_owned;
use crate::http::{FieldError, FieldLine, Fields};
use crate::plugin::registry::Build;
use crate::plugin::{
    BodyPlan, BuildContext, Hook, Hooks, Mistake, OptionStep, Plugin, PluginError, PostHandler, PreHandler,
    Registration, Step, Verdict,
};

pub(super) const REGISTRATION: Registration = Registration::new(
    "headers",
    "sets, adds and removes header fields of requests and responses",
    PhantomData::<(Options, Headers)>,
);

/// Changes header fields: of requests before their handler, of responses before they are sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Options {
    /// Of requests.
    pub request: Edits,
    /// Of responses, whoever made them.
    pub response: Edits,
}

/// Changes of header fields, in the order `remove`, `set`, `add`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "HeaderEdits")]
pub(super) struct Edits {
    /// Names of fields that go, in any case.
    pub remove: Vec<String>,
    /// Fields that take the place of all of their name.
    pub set: BTreeMap<String, String>,
    /// Fields that come behind those of their name.
    pub add: BTreeMap<String, String>,
}

impl Edits {
    fn check(self, side: &str, is_free: fn(&str) -> bool, mistakes: &mut Vec<Mistake>) -> Changes {
        for (index, name) in self.remove.iter().enumerate() {
            check_field_name(&[side.into(), "remove".into(), index.into()], name, is_free, mistakes);
        }
        let mut check = |key: &str, fields: BTreeMap<String, String>| {
            let lines = fields.into_iter().filter_map(|(name, value)| {
                let path = [side.into(), key.into(), name.as_str().into()];
                check_field_name(&path, &name, is_free, mistakes);
                let line = FieldLine::new(&name, &value);
                if line == Err(FieldError::Value) {
                    let expected = "a header field's value without control characters".to_owned();
                    mistakes.push(Mistake { path: path.to_vec(), expected, found: format!("{value:?}") });
                }
                line.ok()
            });
            lines.collect()
        };
        let (set, add) = (check("set", self.set), check("add", self.add));
        Changes { remove: self.remove, set, add }
    }
}

/// Whether a plugin may set this field of a request.
pub(super) fn is_request_field(name: &str) -> bool {
    let fixed = ["host", "expect", "te"];
    !is_server_owned(name.as_bytes()) && !fixed.iter().any(|other| name.eq_ignore_ascii_case(other))
}

/// Whether a plugin may set this field of a response.
pub(super) fn is_response_field(name: &str) -> bool {
    !is_server_owned(name.as_bytes())
}

/// Reports a name that is no field's, or that of one that is not a plugin's to set.
pub(super) fn check_field_name(
    path: &[OptionStep],
    name: &str,
    is_free: fn(&str) -> bool,
    mistakes: &mut Vec<Mistake>,
) {
    let is_token = Fields::new().push(name, "") != Err(FieldError::Name);
    if !is_token || !is_free(name) {
        let expected = match is_token {
            false => "the name of a header field",
            true => "a header field that the server does not set itself (framing, connection, Host)",
        };
        mistakes.push(Mistake { path: path.to_vec(), expected: expected.to_owned(), found: format!("{name:?}") });
    }
}

/// [`Edits`], checked.
struct Changes {
    remove: Vec<String>,
    set: Vec<FieldLine>,
    add: Vec<FieldLine>,
}

impl Changes {
    fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}

struct Headers {
    request: Changes,
    response: Changes,
}

impl Build<Options> for Headers {
    const KEEPS_STATE: bool = true;

    fn build(options: Options, _: &BuildContext<'_>) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let request = options.request.check("request", is_request_field, &mut mistakes);
        let response = options.response.check("response", is_response_field, &mut mistakes);
        if mistakes.is_empty() { Ok(Self { request, response }) } else { Err(mistakes) }
    }
}

impl Headers {
    fn edit_request(&self, hook: &mut PreHandler<'_, '_>) -> Result<(), FieldError> {
        let Changes { remove, set, add } = &self.request;
        remove.iter().try_for_each(|name| hook.remove_header(name))?;
        set.iter().try_for_each(|line| hook.set_line(line))?;
        add.iter().try_for_each(|line| hook.add_line(line))
    }
}

impl Plugin for Headers {
    fn hooks(&self) -> Hooks {
        let hooks = if self.request.is_empty() { Hooks::NONE } else { Hooks::NONE.with(Hook::PreHandler) };
        if self.response.is_empty() { hooks } else { hooks.with(Hook::PostHandler) }
    }

    fn pre_handler<'a>(&'a self, hook: &'a mut PreHandler<'_, '_>) -> Step<'a> {
        let result = self.edit_request(hook);
        Step::Now(result.map_or_else(|error| Verdict::Fail(error.into()), |()| Verdict::Continue))
    }

    fn post_handler(&self, hook: &mut PostHandler<'_, '_>) -> Result<BodyPlan, PluginError> {
        let Changes { remove, set, add } = &self.response;
        let fields = hook.fields();
        remove.iter().for_each(|name| {
            fields.remove(name);
        });
        set.iter().try_for_each(|line| fields.set_line(line))?;
        add.iter().try_for_each(|line| fields.push_line(line))?;
        Ok(BodyPlan::AsIs)
    }
}
