//! A guest driven without a server, for benchmarks: what a request costs in it.

use std::rc::Rc;
use std::sync::Arc;

use super::super::options::Settings;
use super::abi::Half;
use super::fields::Of;
use super::host::Setting;
use super::program::Program;
use super::seat::{Common, Seat};
use super::shared::Shared;
use super::stream::Stage;
use crate::handler::Context;

/// One core with one plugin.
pub struct Drive(Rc<Seat>);

impl Drive {
    /// Of this module.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn new(module: &[u8]) -> Result<Self, String> {
        let settings = Settings::default();
        let setting = Setting {
            name: "drive".to_owned(),
            module: "drive".to_owned(),
            root_id: String::new(),
            configuration: Vec::new(),
            memory_max: settings.memory as usize,
            time_max: settings.time,
            body_max: settings.body as usize,
            upstreams: Vec::new(),
            shared: Shared::of("drive"),
        };
        let program = Program::of(module).map_err(|error| error.to_string())?;
        Ok(Self(Seat::new(Common::new(program, Arc::new(setting)), &Context::default())))
    }

    /// One request with these fields from its head to the end of its response, which has the same ones.
    ///
    /// # Errors
    /// What went wrong.
    pub fn request(&self, fields: &[(&str, &str)]) -> Result<(), String> {
        let visit = self.0.visit(|stream| {
            stream.request.stage = Stage::Open;
            for (name, value) in fields {
                stream.request.headers.load(name.as_bytes(), value.as_bytes());
            }
        });
        let visit = visit.map_err(|fault| fault.to_string())?;
        let shown = visit.with(|instance, id| {
            instance.headers(Half::Request, id, true)?;
            let response = &mut instance.stream(id)?.response;
            response.stage = Stage::Open;
            response.headers.reset(Of::Response);
            for (name, value) in fields {
                response.headers.load(name.as_bytes(), value.as_bytes());
            }
            instance.headers(Half::Response, id, true)
        });
        shown.map_err(|fault| fault.to_string())?;
        visit.finish().map_err(|fault| fault.to_string())
    }
}
