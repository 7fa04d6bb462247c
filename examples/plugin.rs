//! A plugin of one's own, used by the config as the server's are. Clients say which version of the API they speak; those that
//! are too old are told so before a handler sees them. `cargo run --example plugin -- serve --config FILE` with
//!
//! ```json
//! { "plugins": [{ "use": "api-version", "options": { "oldest": 2 } }] }
//! ```
//!
//! then `curl -i -H 'Api-Version: 1' http://127.0.0.1:8080/`.

use std::marker::PhantomData;
use std::process::ExitCode;

use ringfort::cli::Application;
use ringfort::handler::{Action, Exchange, Reply};
use ringfort::http::Status;
use ringfort::plugin::{
    BodyPlan, Build, BuildContext, Hook, Hooks, LocalAnswer, Mistake, Plugin, PluginError, PostHandler, PreHandler,
    Registration, Step, Verdict,
};
use schemars::JsonSchema;
use serde::Deserialize;

ringfort::routes! {
    static ROUTES: Action = {
        GET "/" => Action::Immediate(hello),
    }
}

fn hello(exchange: &mut Exchange<'_>) -> Reply {
    exchange.response.text("hello\n")
}

/// What the config may say; `ringfort check` holds it against the schema that is derived from this.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Options {
    /// The oldest version that is still spoken.
    #[schemars(range(min = 1, max = 1000))]
    oldest: u32,
}

struct ApiVersion {
    oldest: u32,
}

impl Build<Options> for ApiVersion {
    const KEEPS_STATE: bool = true;

    fn build(options: Options, _: &BuildContext<'_>) -> Result<Self, Vec<Mistake>> {
        Ok(Self { oldest: options.oldest })
    }
}

impl Plugin for ApiVersion {
    fn hooks(&self) -> Hooks {
        Hooks::NONE.with(Hook::PreHandler).with(Hook::PostHandler)
    }

    fn pre_handler<'a>(&'a self, hook: &'a mut PreHandler<'_, '_>) -> Step<'a> {
        let spoken = hook.header("api-version").map(|value| str::from_utf8(value).unwrap_or_default().parse::<u32>());
        Step::Now(match spoken {
            None => Verdict::Continue,
            Some(Ok(version)) if version >= self.oldest => Verdict::Continue,
            Some(Ok(_)) => hook.answer(LocalAnswer::problem(Status::GONE, "this version of the API is gone")),
            Some(Err(_)) => hook.answer(LocalAnswer::problem(Status::BAD_REQUEST, "Api-Version is no number")),
        })
    }

    fn post_handler(&self, hook: &mut PostHandler<'_, '_>) -> Result<BodyPlan, PluginError> {
        hook.fields().set("Api-Version-Oldest", self.oldest.to_string())?;
        Ok(BodyPlan::AsIs)
    }
}

pub(crate) fn application() -> Application {
    let plugin = PhantomData::<(Options, ApiVersion)>;
    Application::new(&[&ROUTES]).plugin(Registration::new("api-version", "refuses old clients", plugin))
}

fn main() -> ExitCode {
    application().main()
}
