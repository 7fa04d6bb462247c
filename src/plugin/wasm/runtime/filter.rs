//! A WASM plugin in the pipeline: shows the guest what the hooks are shown, and does what it wants.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use super::super::options::Options;
use super::abi::{Action, Half};
use super::host::Setting;
use super::instance::{Fault, Instance};
use super::manifest::{self, configuration_of};
use super::messages::{self, count_request, decide, fill_request, take_over};
use super::program::{Program, hex};
use super::response::{self, Taking};
use super::seat::{Common, Seat, Visit};
use super::shared::Shared;
use super::stream::{Stage, Wish};
use crate::clock;
use crate::http::BodyFraming;
use crate::limits::WASM_PAUSE_MS;
use crate::plugin::registry::Build;
use crate::plugin::{
    BodyHook, BodyPlan, BuildContext, Going, HeldHook, HeldStep, Hook, Hooks, LocalAnswer, Mistake, Peek, Plugin,
    PluginError, PostHandler, PostResponse, PreHandler, Step, Verdict,
};
use crate::rt;
use crate::units::{ByteSize, TimeSpan};

/// A WASM plugin of a config.
#[derive(Debug)]
pub(crate) struct Filter {
    common: Arc<Common>,
    traits: Traits,
}

/// What is known of a module ahead, by what it imports and exports.
#[derive(Clone, Copy, Debug)]
struct Traits {
    /// It can look at fields, or at what is taken from them.
    reads_fields: bool,
    /// It can resume what it has paused, so that waiting is of use.
    resumes: bool,
    sees_request_body: bool,
    sees_response: bool,
    /// Or the trailers behind them.
    sees_response_body: bool,
    sees_response_trailers: bool,
    /// It can have responses wait, and something has them go on: it, or the body that it is shown.
    holds_responses: bool,
    /// It can change bodies.
    writes_bodies: bool,
}

impl Traits {
    fn of(program: &Program) -> Self {
        const FIELDS: [&str; 8] = [
            "proxy_get_header_map_pairs",
            "proxy_get_header_map_value",
            "proxy_get_header_map_size",
            "proxy_set_header_map_pairs",
            "proxy_add_header_map_value",
            "proxy_replace_header_map_value",
            "proxy_remove_header_map_value",
            "proxy_get_property",
        ];
        const RESUMING: [&str; 3] = ["proxy_continue_stream", "proxy_continue_request", "proxy_http_call"];
        // An answer ends a pause too. Where it is not that of the callback which paused, it comes from a timer or a queue.
        const ENDING: [&str; 2] = ["proxy_send_local_response", "proxy_close_stream"];
        let is_called_later = program.exports("proxy_on_tick") || program.exports("proxy_on_queue_ready");
        let resumes = program.imports_any(&RESUMING) || program.imports_any(&ENDING) && is_called_later;
        let resumes_responses = resumes || program.imports_any(&["proxy_continue_response"]);
        let sees_response = program.exports("proxy_on_response_headers");
        let sees_response_trailers = program.exports("proxy_on_response_trailers");
        let sees_response_body = program.exports("proxy_on_response_body") || sees_response_trailers;
        Self {
            reads_fields: program.imports_any(&FIELDS),
            resumes,
            sees_request_body: program.exports("proxy_on_request_body"),
            sees_response,
            sees_response_body,
            sees_response_trailers,
            holds_responses: sees_response && (sees_response_body || resumes_responses)
                || sees_response_body && resumes_responses,
            writes_bodies: program.imports_any(&["proxy_set_buffer_bytes"]),
        }
    }
}

impl Build<Options> for Filter {
    // The module's file may have changed.
    const KEEPS_STATE: bool = false;

    fn build(options: Options, context: &BuildContext<'_>) -> Result<Self, Vec<Mistake>> {
        let settings = context.wasm;
        let wrong = |found: String| {
            let expected = format!("a module in {} that can be used", settings.dir.display());
            vec![Mistake::at("module", expected, format!("{:?}: {found}", options.module))]
        };
        let found = manifest::read(&context.base_dir.join(&settings.dir), &options.module).map_err(wrong)?;
        let manifest = found.manifest;
        let program = Program::of(&found.bytes).map_err(|error| wrong(error.to_string()))?;
        let asks = program.imports_any(&["proxy_http_call"]);
        let upstreams = if asks { context.upstreams.iter().cloned().collect() } else { Vec::new() };
        let setting = Arc::new(Setting {
            name: context.name.to_owned(),
            module: options.module.clone(),
            root_id: options.root_id.clone().or(manifest.root_id).unwrap_or_default(),
            configuration: configuration_of(options.configuration.as_ref().or(manifest.configuration.as_ref())),
            memory_max: options.memory.or(manifest.memory).map_or(settings.memory, ByteSize::get) as usize,
            time_max: options.time.or(manifest.time).map_or(settings.time, TimeSpan::get),
            body_max: settings.body as usize,
            upstreams,
            shared: Shared::of(&options.module),
        });
        // What a core would make: its faults are found here, and not at the first request.
        Instance::try_out(&program, &setting).map_err(|fault| wrong(format!("it does not start: {fault}")))?;
        let (name, about, hash) = (manifest.name.as_deref(), manifest.about.as_deref(), hex(&program.hash));
        tracing::debug!(
            plugin = context.name,
            module = options.module,
            name,
            about,
            sha256 = hash,
            "a WASM plugin was checked"
        );
        let traits = Traits::of(&program);
        Ok(Self { common: Common::new(program, setting), traits })
    }
}

impl From<Fault> for PluginError {
    fn from(fault: Fault) -> Self {
        Self(fault.to_string())
    }
}

impl Plugin for Filter {
    fn hooks(&self) -> Hooks {
        let hooks = Hooks::NONE.with(Hook::PreHandler).with(Hook::PostResponse);
        let hooks = if self.traits.sees_response_body { hooks.with(Hook::PostHandlerBody) } else { hooks };
        if self.traits.sees_response || self.traits.sees_response_body { hooks.with(Hook::PostHandler) } else { hooks }
    }

    fn going(&self, peek: &Peek<'_>) -> Going {
        let has_body = !matches!(peek.head.framing(), BodyFraming::None | BodyFraming::Length(0));
        let Traits { resumes, holds_responses, sees_request_body, .. } = self.traits;
        if resumes || holds_responses || sees_request_body && has_body { Going::Suspends } else { Going::AtOnce }
    }

    fn pre_handler<'a>(&'a self, hook: &'a mut PreHandler<'_, '_>) -> Step<'a> {
        let entered = match self.enter(hook) {
            Ok(entered) => entered,
            Err(fault) => return Step::Now(Verdict::Fail(fault.into())),
        };
        match entered {
            Entered::Decided(answer) => Step::Now(verdict(Ok(answer), hook)),
            Entered::Waiting(waiting) => {
                Step::Later(Box::pin(async move { verdict(self.wait(waiting, hook).await, hook) }))
            }
        }
    }

    fn post_handler(&self, hook: &mut PostHandler<'_, '_>) -> Result<BodyPlan, PluginError> {
        let Some(mut visit) = hook.slot().take::<Visit>() else { return Ok(BodyPlan::AsIs) };
        let plan = response::show_head(&mut visit, hook, self.taking())?;
        hook.slot().put(visit);
        Ok(plan)
    }

    fn post_handler_body(&self, hook: &mut BodyHook<'_>, piece: &[u8], end: bool) -> Result<(), PluginError> {
        let Some(mut visit) = hook.parts().0.take::<Visit>() else {
            // It failed before, and the request goes on without it.
            hook.out.extend_from_slice(piece);
            return Ok(());
        };
        match response::show_body(&mut visit, hook, piece, end, self.taking()) {
            Ok(holds_end) => {
                if holds_end {
                    hook.hold_end();
                }
                hook.parts().0.put(visit);
                Ok(())
            }
            Err(fault) => {
                if response::give_back(&visit, piece, hook.out) {
                    hook.give_back();
                }
                Err(fault.into())
            }
        }
    }

    fn poll_held(
        &self,
        hook: &mut HeldHook<'_, '_>,
        cx: &mut task::Context<'_>,
    ) -> Poll<Result<HeldStep, PluginError>> {
        let Some(mut visit) = hook.slot().take::<Visit>() else {
            // It failed before, and the response goes on without it.
            return Poll::Ready(Ok(HeldStep::Go(BodyPlan::AsIs)));
        };
        let polled = response::poll_held(&mut visit, hook, self.taking(), cx);
        match polled {
            Poll::Ready(Err(fault)) => {
                if response::give_back(&visit, &[], hook.out) {
                    hook.give_back();
                }
                Poll::Ready(Err(fault.into()))
            }
            Poll::Ready(Ok(step)) => {
                hook.slot().put(visit);
                Poll::Ready(Ok(step))
            }
            Poll::Pending => {
                hook.slot().put(visit);
                Poll::Pending
            }
        }
    }

    fn post_response(&self, hook: &mut PostResponse<'_>) {
        if let Some(visit) = hook.slot().take::<Visit>() {
            // What went wrong is logged; the request is past it.
            let _ = visit.finish();
        }
    }
}

fn verdict(entered: Result<Option<LocalAnswer>, Fault>, hook: &mut PreHandler<'_, '_>) -> Verdict {
    match entered {
        Ok(None) => Verdict::Continue,
        Ok(Some(answer)) => hook.answer(answer),
        Err(fault) => Verdict::Fail(fault.into()),
    }
}

/// What came of showing the head of a request.
enum Entered {
    /// It goes on, or is answered.
    Decided(Option<LocalAnswer>),
    Waiting(Waiting),
}

/// A request that its guest has paused, or of which it is to see the body.
struct Waiting {
    visit: Visit,
    is_paused: bool,
}

impl Filter {
    fn taking(&self) -> Taking {
        let Traits { reads_fields, holds_responses: holds, sees_response_body: sees_body, .. } = self.traits;
        let Traits { sees_response_trailers: sees_trailers, writes_bodies: writes_body, .. } = self.traits;
        let body_max = self.common.setting.body_max;
        Taking { reads_fields, holds, sees_body, sees_trailers, writes_body, body_max }
    }

    fn open(&self, hook: &mut PreHandler<'_, '_>) -> Result<Visit, Fault> {
        let seat = hook.local(|| SeatOf(Seat::new(self.common.clone(), hook.context())));
        let request = hook.request().map_err(|_| Fault::Gone("the request's head is too large"))?;
        let reads_fields = self.traits.reads_fields;
        seat.0.visit(|stream| {
            stream.request.stage = Stage::Open;
            if reads_fields {
                fill_request(stream, &request);
            } else {
                count_request(stream, &request);
            }
        })
    }

    /// Shows the head. Most guests have decided then, and nothing is kept for a future.
    fn enter(&self, hook: &mut PreHandler<'_, '_>) -> Result<Entered, Fault> {
        let visit = self.open(hook)?;
        let has_body = hook.body.remaining() != Some(0);
        let action = visit.with(|instance, id| instance.headers(Half::Request, id, !has_body))?;
        let (wish, resumed) =
            visit.stream(|stream| (std::mem::take(&mut stream.wish), std::mem::take(&mut stream.request.resumed)))?;
        let (answer, is_paused) = (decide(wish), action == Action::Pause && !resumed);
        if answer.is_none() {
            if is_paused && !(self.traits.resumes && hook.may_wait()) {
                return Err(Fault::Paused("it paused a request, and does not import what it would resume it with"));
            }
            if is_paused || has_body && self.traits.sees_request_body && hook.may_wait() {
                return Ok(Entered::Waiting(Waiting { visit, is_paused }));
            }
            take_over(&visit, hook)?;
        }
        hook.slot().put(visit);
        Ok(Entered::Decided(answer))
    }

    /// Waits for a guest that paused the head, and shows it the body.
    async fn wait(
        &self,
        Waiting { visit, is_paused }: Waiting,
        hook: &mut PreHandler<'_, '_>,
    ) -> Result<Option<LocalAnswer>, Fault> {
        let action = if is_paused { Action::Pause } else { Action::Continue };
        let mut answer = self.settle(&visit, action).await?;
        if answer.is_none() && hook.body.remaining() != Some(0) && self.traits.sees_request_body {
            answer = self.show_request_body(&visit, hook).await?;
        }
        if answer.is_none() {
            take_over(&visit, hook)?;
        }
        hook.slot().put(visit);
        Ok(answer)
    }

    async fn show_request_body(
        &self,
        visit: &Visit,
        hook: &mut PreHandler<'_, '_>,
    ) -> Result<Option<LocalAnswer>, Fault> {
        let (body, trailers) = match messages::gather(hook, self.common.setting.body_max).await {
            Ok(gathered) => gathered,
            Err(answer) => return Ok(Some(answer)),
        };
        let has_trailers = visit.stream(|stream| {
            stream.request.body.extend_from_slice(&body);
            messages::fill_trailers(stream, &trailers)
        })?;
        let action = visit.with(|instance, id| instance.request_body(id, !has_trailers))?;
        // With trailers still to come, to pause is to ask for them.
        let action = if has_trailers { Action::Continue } else { action };
        if let Some(answer) = self.settle(visit, action).await? {
            return Ok(Some(answer));
        }
        if has_trailers {
            let action = visit.with(|instance, id| instance.trailers(Half::Request, id))?;
            if let Some(answer) = self.settle(visit, action).await? {
                return Ok(Some(answer));
            }
        }
        if self.traits.writes_bodies {
            let made = visit.stream(|stream| std::mem::take(&mut stream.request.body))?;
            hook.body.replace(made.into());
        }
        Ok(None)
    }

    /// Waits until the guest says what becomes of the request.
    async fn settle(&self, visit: &Visit, action: Action) -> Result<Option<LocalAnswer>, Fault> {
        let mut is_paused = action == Action::Pause;
        let until = clock::turn() + Duration::from_millis(WASM_PAUSE_MS);
        let said = poll_fn(|cx| {
            let looked = visit.stream(|stream| {
                is_paused &= !std::mem::take(&mut stream.message_mut(Half::Request).resumed);
                if let Some(fault) = stream.fault.take() {
                    return Some(Err(fault));
                }
                let wish = std::mem::take(&mut stream.wish);
                if matches!(wish, Wish::None) && is_paused {
                    stream.waker = Some(cx.waker().clone());
                    return None;
                }
                Some(Ok(wish))
            });
            match looked {
                Ok(None) => Poll::Pending,
                Ok(Some(said)) => Poll::Ready(said.map(decide)),
                Err(fault) => Poll::Ready(Err(fault)),
            }
        });
        rt::timeout(until, said).await.unwrap_or(Err(Fault::Paused("it paused a request for too long")))
    }
}

/// What a core keeps of the plugin.
struct SeatOf(Rc<Seat>);

#[cfg(test)]
mod tests {
    use super::super::testing::{compile, text};
    use super::*;

    #[test]
    fn a_pause_can_be_ended_by_an_answer_from_a_timer_or_a_queue() {
        let answer =
            r#"(import "env" "proxy_send_local_response" (func (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))"#;
        let close = r#"(import "env" "proxy_close_stream" (func (param i32) (result i32)))"#;
        let tick = r#"(func (export "proxy_on_tick") (param i32))"#;
        let queue = r#"(func (export "proxy_on_queue_ready") (param i32 i32))"#;
        let resumes = |imports, body| Traits::of(&compile(&text(imports, body)).unwrap()).resumes;
        for (imports, body) in [(answer, tick), (answer, queue), (close, tick), (close, queue)] {
            assert!(resumes(imports, body), "{imports} {body}");
        }
        for (imports, body) in [(answer, ""), (close, ""), ("", tick), ("", queue)] {
            assert!(!resumes(imports, body), "nothing would end it: {imports} {body}");
        }
    }
}
