//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};

use crate::config::{Override, Setting};
use crate::rt::ExecutorChoice;

const AFTER_HELP: &str = "\
Exit codes: 0 done, 64 the command line is wrong, 78 the config is wrong, 1 anything else.

Any value of the config can be set from the environment: RINGFORT__SERVER__TIMEOUTS__IDLE=30s sets
server.timeouts.idle. Flags win over the environment, and that over the file.";

/// HTTP gateway and application server for Linux.
#[derive(Debug, Parser)]
#[command(name = "ringfort", version, about, after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Option<Command>,
    #[command(flatten)]
    pub(super) serve: ServeOptions,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serve (also without a command); opens no socket before the config is found valid
    Serve(ServeOptions),
    /// Read the config and report every error in it
    Check(CheckOptions),
    /// List the routes in the order in which they are asked
    Routes(CheckOptions),
    /// Say which route a request gets, why, and what runs
    Explain(ExplainOptions),
    /// Say what a reload from one config to another would do, and whether it can (exit code 1: it cannot)
    Diff(DiffOptions),
    /// Have the running server start its program anew, hand over its listening sockets, and leave (exit code 1: it serves on)
    Upgrade(UpgradeOptions),
    /// Show the running server: cores, rates, percentiles, routes and upstreams, drawn anew each second
    Top(TopOptions),
    /// List the plugins that a config can use, or the options of one
    Plugins(PluginsOptions),
    /// Print the JSON Schema of the config
    Schema,
    /// Say what this host allows and what Ringfort would do with it
    Doctor(CheckOptions),
    /// Make a program of your own: routes, a service and a health check in Rust
    New(NewOptions),
}

#[derive(Debug, Clone, Default, Args)]
pub(super) struct ServeOptions {
    /// Config file; without it, built-in welcome routes on 127.0.0.1:8080
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Address to listen on instead of server.listen; may be repeated
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<String>,
    /// Address of the admin listener, or off
    #[arg(long, value_name = "ADDRESS|off")]
    admin: Option<String>,
    /// Workers: a number, core ids (2,3,4), or auto
    #[arg(long, value_name = "N|IDS|auto")]
    workers: Option<String>,
    /// What runs tasks on each core; those but compio only where they are compiled in
    #[arg(long, value_name = "EXECUTOR", value_parser = PossibleValuesParser::new(ExecutorChoice::NAMES))]
    executor: Option<String>,
    /// How the executor talks to the kernel
    #[arg(long, value_name = "DRIVER", value_parser = PossibleValuesParser::new(["auto", "io_uring", "epoll"]))]
    driver: Option<String>,
    /// Level of logs: off, error, warn, info, debug, trace, or target=level with commas
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Format of logs
    #[arg(long, value_name = "FORMAT", value_parser = PossibleValuesParser::new(["json", "pretty", "text"]))]
    log_format: Option<String>,
}

impl ServeOptions {
    /// What the flags set.
    pub(super) fn overrides(&self) -> Vec<Override> {
        let mut overrides = Vec::new();
        if !self.listen.is_empty() {
            overrides.push(Override::flag("--listen", "server.listen", Setting::List(self.listen.clone())));
        }
        for (name, path, value) in [
            ("--admin", "admin.listen", &self.admin),
            ("--workers", "cores.workers", &self.workers),
            ("--executor", "cores.executor", &self.executor),
            ("--driver", "cores.driver", &self.driver),
            ("--log-level", "log.level", &self.log_level),
            ("--log-format", "log.format", &self.log_format),
        ] {
            overrides.extend(value.iter().map(|text| Override::flag(name, path, Setting::Text(text.clone()))));
        }
        overrides
    }
}

#[derive(Debug, Clone, Args)]
pub(super) struct CheckOptions {
    /// Config file; without it, the built-in one
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Clone, Args)]
pub(super) struct PluginsOptions {
    /// The plugin whose options are wanted
    #[arg(value_name = "NAME")]
    pub(super) name: Option<String>,
    /// Print JSON; of one plugin the JSON Schema of its options
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Clone, Args)]
pub(super) struct UpgradeOptions {
    /// Address of the running server's admin listener
    #[arg(long, value_name = "ADDRESS", conflicts_with = "config")]
    pub(super) admin: Option<SocketAddr>,
    /// Config file that says it; without it, the built-in one
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(super) struct DiffOptions {
    /// Config file that is in force
    #[arg(value_name = "OLD")]
    pub(super) old: PathBuf,
    /// Config file that would be
    #[arg(value_name = "NEW")]
    pub(super) new: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Debug, Clone, Args)]
pub(super) struct NewOptions {
    /// Directory to make; its last part is the program's name
    #[arg(value_name = "NAME")]
    pub(super) directory: PathBuf,
    /// Checkout of Ringfort to build with, instead of the version on the registry
    #[arg(long, value_name = "PATH")]
    pub(super) ringfort: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub(super) struct TopOptions {
    /// Admin listener of the server
    #[arg(long, value_name = "ADDRESS", conflicts_with = "config")]
    pub(super) admin: Option<SocketAddr>,
    /// Config file of the server, which says where its admin listener is; without it, the built-in one
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(super) every: u64,
    /// What rates and times are of
    #[arg(long, value_name = "WINDOW", default_value = "10s", value_parser = PossibleValuesParser::new(["1s", "10s", "60s"]))]
    pub(super) window: String,
    /// Show it once, as plain text
    #[arg(long)]
    pub(super) once: bool,
}

#[derive(Debug, Clone, Args)]
pub(super) struct ExplainOptions {
    /// Method, as GET
    #[arg(value_parser = parse_token)]
    pub(super) method: String,
    /// URL, as http://example.com/users/7, or a path
    #[arg(value_parser = parse_url)]
    pub(super) url: String,
    /// Header field of the request; may be repeated
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE", value_parser = parse_field)]
    pub(super) headers: Vec<String>,
    /// Config file; without it, the built-in one
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// A method that the parser of requests would take; anything else would be another request than the one asked about.
fn parse_token(text: &str) -> Result<String, String> {
    match crate::http::Method::from_bytes(text.as_bytes()) {
        Some(_) => Ok(text.to_owned()),
        None => Err("expected a method, such as GET".to_owned()),
    }
}

fn parse_url(text: &str) -> Result<String, String> {
    match text.bytes().all(|byte| byte.is_ascii_graphic()) && !text.is_empty() {
        true => Ok(text.to_owned()),
        false => Err("expected a URL in ASCII without spaces (others as %XX)".to_owned()),
    }
}

fn parse_field(text: &str) -> Result<String, String> {
    let Some((name, value)) = text.split_once(':') else { return Err("expected 'Name: value'".to_owned()) };
    if crate::http::Method::from_bytes(name.as_bytes()).is_none() {
        return Err(format!("expected a field name before the colon, found {name:?}"));
    }
    match value.chars().any(|char| char.is_control() && char != '\t') {
        true => Err("expected a value without control characters".to_owned()),
        false => Ok(text.to_owned()),
    }
}
