//! Stand-in until the config lands.
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
#[allow(missing_docs)]
pub struct Snapshot {
    pub config: Config,
    pub routes: Arc<crate::handler::Routes>,
    pub settings: crate::conn::Settings,
    pub executor: crate::rt::Options,
}
#[allow(missing_docs)]
pub struct Config {
    pub server: Server,
    pub admin: Admin,
    pub cores: Cores,
}
#[allow(missing_docs)]
pub struct Server {
    pub listen: Vec<SocketAddr>,
    pub timeouts: Timeouts,
}
#[allow(missing_docs)]
pub struct Timeouts {
    pub drain: Duration,
}
#[allow(missing_docs)]
pub struct Admin {
    pub listen: Option<SocketAddr>,
}
#[allow(missing_docs)]
pub struct Cores {
    pub steering: Steering,
}
#[derive(PartialEq, Clone, Copy)]
#[allow(missing_docs)]
pub enum Steering {
    Hash,
    Cpu,
}
#[allow(missing_docs)]
pub struct Plan {
    pub workers: Vec<usize>,
    pub master: Option<usize>,
    pub pin: bool,
    pub notes: Vec<String>,
}
#[allow(missing_docs)]
pub fn redact(_: &Config) -> serde_json::Value {
    serde_json::Value::Null
}
