//! `security-headers`: fields that have browsers be careful with a response.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::headers::{check_field_name, is_response_field};
use crate::http::Fields;
use crate::plugin::registry::Build;
use crate::plugin::{BodyPlan, BuildContext, Hook, Hooks, Mistake, Plugin, PluginError, PostHandler, Registration};

pub(super) const REGISTRATION: Registration = Registration::new(
    "security-headers",
    "fields that have browsers be careful with a response",
    PhantomData::<(Options, SecurityHeaders)>,
);

/// Fields of responses that have browsers be careful. Each is set where the response does not have it; null leaves it out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Options {
    /// `X-Content-Type-Options`.
    pub content_type_options: Option<String>,
    /// `X-Frame-Options`.
    pub frame_options: Option<String>,
    /// `Referrer-Policy`.
    pub referrer_policy: Option<String>,
    /// `Content-Security-Policy`; none unless given, for it depends on the site.
    pub content_security_policy: Option<String>,
    /// `Permissions-Policy`.
    pub permissions_policy: Option<String>,
    /// `Cross-Origin-Opener-Policy`.
    pub cross_origin_opener_policy: Option<String>,
    /// `Cross-Origin-Resource-Policy`.
    pub cross_origin_resource_policy: Option<String>,
    /// `Strict-Transport-Security`, such as `"max-age=31536000; includeSubDomains"`; none unless given: it is a promise for
    /// the whole host, and browsers heed it over TLS alone (RFC 6797 section 7.2).
    pub strict_transport_security: Option<String>,
    /// Fields of responses that tell what made them, and are taken away.
    pub remove: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            content_type_options: Some("nosniff".to_owned()),
            frame_options: Some("SAMEORIGIN".to_owned()),
            referrer_policy: Some("strict-origin-when-cross-origin".to_owned()),
            content_security_policy: None,
            permissions_policy: None,
            cross_origin_opener_policy: Some("same-origin".to_owned()),
            cross_origin_resource_policy: Some("same-origin".to_owned()),
            strict_transport_security: None,
            remove: vec!["X-Powered-By".to_owned()],
        }
    }
}

struct SecurityHeaders {
    set: Fields,
    remove: Vec<String>,
}

impl Build<Options> for SecurityHeaders {
    const KEEPS_STATE: bool = true;

    fn build(options: Options, _: &BuildContext<'_>) -> Result<Self, Vec<Mistake>> {
        let fields: BTreeMap<_, _> = [
            ("content_type_options", ("X-Content-Type-Options", options.content_type_options)),
            ("frame_options", ("X-Frame-Options", options.frame_options)),
            ("referrer_policy", ("Referrer-Policy", options.referrer_policy)),
            ("content_security_policy", ("Content-Security-Policy", options.content_security_policy)),
            ("permissions_policy", ("Permissions-Policy", options.permissions_policy)),
            ("cross_origin_opener_policy", ("Cross-Origin-Opener-Policy", options.cross_origin_opener_policy)),
            ("cross_origin_resource_policy", ("Cross-Origin-Resource-Policy", options.cross_origin_resource_policy)),
            ("strict_transport_security", ("Strict-Transport-Security", options.strict_transport_security)),
        ]
        .into();
        let (mut set, mut mistakes) = (Fields::new(), Vec::new());
        for (key, (name, value)) in fields {
            let Some(value) = value else { continue };
            if value.trim().is_empty() || set.push(name, &value).is_err() {
                let expected = "a header field's value without control characters (or null: no such field)";
                mistakes.push(Mistake::at(key, expected, format!("{value:?}")));
            }
        }
        for (index, name) in options.remove.iter().enumerate() {
            check_field_name(&["remove".into(), index.into()], name, is_response_field, &mut mistakes);
        }
        if mistakes.is_empty() { Ok(Self { set, remove: options.remove }) } else { Err(mistakes) }
    }
}

impl Plugin for SecurityHeaders {
    fn hooks(&self) -> Hooks {
        Hooks::NONE.with(Hook::PostHandler)
    }

    fn post_handler(&self, hook: &mut PostHandler<'_, '_>) -> Result<BodyPlan, PluginError> {
        let fields = hook.fields();
        for name in &self.remove {
            fields.remove(name);
        }
        fields.push_missing(&self.set)?;
        Ok(BodyPlan::AsIs)
    }
}
