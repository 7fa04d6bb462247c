//! The commands. Each reads its config, says what it has to say on the streams that it is given, and returns an exit
//! code; none touches the process's own streams, so that a test or a user's program can run them.

mod arguments;
mod asking;
mod check;
mod diff;
mod doctor;
mod explain;
mod listing;
mod new;
mod plugins;
mod serve;
mod top;
mod upgrade;
mod upstreams;

use std::any::Any;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

use clap::Parser as _;
use clap::error::ErrorKind;

use crate::config::{self, Failure, Host, Input, Prepared};
use crate::handler::Action;
use crate::lifecycle::Launcher;
use crate::plugin;
use crate::router::RouteTable;
use crate::worker::MakeContext;
use arguments::{Arguments, Command};

/// How a command ended, as scripts see it. The numbers of sysexits.h where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// The command line is wrong: 64 (EX_USAGE).
    Usage,
    /// The config is wrong: 78 (EX_CONFIG).
    Config,
    /// Anything else: 1.
    Failed,
}

impl Exit {
    /// The number.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 64,
            Self::Config => 78,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// What is run besides the config's routes: a program's own. [`Application::main`] is all of its `main`.
pub struct Application {
    /// Const route tables, asked before the config's routes.
    pub tables: Vec<&'static RouteTable<Action>>,
    /// Makes what handlers find under `Exchange::context`, once for each worker.
    pub context: MakeContext,
    /// Declares initializers, services and health checks. Only a command that serves calls it.
    pub parts: Box<dyn Fn(&mut Launcher)>,
}

impl Application {
    /// Routes alone.
    pub fn new(tables: &[&'static RouteTable<Action>]) -> Self {
        Self { tables: tables.to_vec(), context: Arc::new(|| Rc::new(())), parts: Box::new(|_| {}) }
    }

    /// What handlers find under `Exchange::context`: `make` is called once on each worker's thread. What workers, services
    /// and checks share is an `Arc` in it.
    #[must_use]
    pub fn context<T: Any>(mut self, make: impl Fn() -> T + Send + Sync + 'static) -> Self {
        self.context = Arc::new(move || -> Rc<dyn Any> { Rc::new(make()) });
        self
    }

    /// The program's own initializers, services and health checks; see [`crate::lifecycle`]. Its services start before the
    /// first request is taken and stop after the last, unless they are declared `after("workers")`.
    #[must_use]
    pub fn parts(mut self, declare: impl Fn(&mut Launcher) + 'static) -> Self {
        self.parts = Box::new(declare);
        self
    }

    /// A plugin of the program's own, which its config can use as it does the server's. For the whole process.
    #[must_use]
    pub fn plugin(self, registration: plugin::Registration) -> Self {
        plugin::register(registration);
        self
    }

    /// Runs this process's command line.
    pub fn main(&self) -> ExitCode {
        let (mut out, mut err) = (io::stdout(), io::stderr());
        run_application(std::env::args_os(), std::env::vars_os(), &mut out, &mut err, self).into()
    }
}

/// The whole `main` of a program: this process's command line and streams, and `tables` asked before the config's
/// routes. Without a config file, a program with tables of its own serves them alone.
pub fn main(tables: &[&'static RouteTable<Action>]) -> ExitCode {
    Application::new(tables).main()
}

/// Runs the command line `args` for an application, with these environment variables.
pub fn run_application(
    args: impl IntoIterator<Item = OsString>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
    out: &mut dyn Write,
    err: &mut dyn Write,
    application: &Application,
) -> Exit {
    let args: Vec<OsString> = args.into_iter().collect();
    let arguments = match Arguments::try_parse_from(&args) {
        Ok(arguments) => arguments,
        Err(error) => return tell_usage(&error, out, err),
    };
    let mut session = Session { out, err, args, variables: variables.into_iter().collect(), application };
    let outcome = match arguments.command.unwrap_or(Command::Serve(arguments.serve)) {
        Command::Serve(options) => serve::serve(&mut session, &options),
        Command::Check(options) => check::check(&mut session, &options),
        Command::Routes(options) => listing::list_routes(&mut session, &options),
        Command::Explain(options) => explain::explain(&mut session, &options),
        Command::Diff(options) => diff::diff(&mut session, &options),
        Command::Upgrade(options) => upgrade::upgrade(&mut session, &options),
        Command::Top(options) => top::top(&mut session, &options),
        Command::Plugins(options) => plugins::plugins(&mut session, &options),
        Command::Schema => session.out.write_all(config::schema_text().as_bytes()).map(|()| Exit::Done),
        Command::Doctor(options) => doctor::doctor(&mut session, &options),
        Command::New(options) => new::new(&mut session, &options),
    };
    match outcome.and_then(|exit| session.out.flush().map(|()| exit)) {
        Ok(exit) => exit,
        // The reader left (`ringfort schema | head`): nobody is there to be told.
        Err(_) => Exit::Failed,
    }
}

/// Help and version are what was asked for; everything else is a mistake.
fn tell_usage(error: &clap::Error, out: &mut dyn Write, err: &mut dyn Write) -> Exit {
    let text = error.render().to_string();
    let (written, exit) = match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => (out.write_all(text.as_bytes()), Exit::Done),
        _ => (err.write_all(text.as_bytes()), Exit::Usage),
    };
    if written.is_ok() { exit } else { Exit::Failed }
}

/// What a command works with.
struct Session<'s> {
    out: &'s mut dyn Write,
    err: &'s mut dyn Write,
    /// The command line, the program's name first.
    args: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    application: &'s Application,
}

impl Session<'_> {
    /// The config in `file` (or the built-in one) with what the environment sets.
    fn input(&self, file: Option<&PathBuf>) -> Input {
        let (overrides, errors) = config::read_variables(self.variables.iter().cloned());
        Input { file: file.cloned(), overrides, errors }
    }

    fn prepare(&self, input: &Input, host: &Host) -> Result<Prepared, Failure> {
        config::prepare(input, host, &self.application.tables)
    }

    fn say(&mut self, text: impl Display) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    fn say_json(&mut self, value: &serde_json::Value) -> io::Result<()> {
        writeln!(self.out, "{value:#}")
    }

    /// Tells why something was not done.
    fn complain(&mut self, text: impl Display) -> io::Result<()> {
        writeln!(self.err, "ringfort: {text}")
    }

    /// Tells what is wrong with the config.
    fn refuse(&mut self, failure: &Failure) -> io::Result<Exit> {
        writeln!(self.err, "{failure}")?;
        let count = failure.errors.len();
        self.complain(format!("{count} error{} in the config", if count == 1 { "" } else { "s" }))?;
        Ok(Exit::Config)
    }
}
