//! The tests' own application: handlers that read bodies, take their time, fail and panic. It runs in a process of its
//! own, which is this test binary again with another environment.

use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use ringfort::clock::{self, Moment};
use ringfort::handler::{Action, BodyLength, Exchange, Failure, Reply};
use ringfort::lifecycle::Launcher;
use ringfort::{config, master, rt, worker};

const CONFIG: &str = "RINGFORT_TEST_CONFIG";
/// With this in its environment, each worker of the application breaks down before it has begun.
pub(crate) const BREAKS_AT_START: &str = "RINGFORT_TEST_BREAKS_AT_START";

/// How many milliseconds a successor of the application has to serve.
pub(crate) const UPGRADE_MS: &str = "RINGFORT_TEST_UPGRADE_MS";
/// With a file of this name beside its config, no worker of the application ever begins.
pub(crate) const HANGS: &str = "hangs";

/// The command that runs the application.
pub(super) fn command(config: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "support::app::the_application_serves_in_a_child_process", "--nocapture"]);
    command.env(CONFIG, config);
    command
}

/// Not a test but the server of others: without its environment it does nothing.
#[test]
fn the_application_serves_in_a_child_process() {
    let Some(config) = std::env::var_os(CONFIG) else { return };
    let code = match serve(Path::new(&config)) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("ringfort: {error}");
            1
        }
    };
    #[allow(clippy::disallowed_methods, reason = "the exit code is what tests look at, not libtest's verdict")]
    std::process::exit(code);
}

ringfort::routes! {
    /// The application's routes.
    pub(crate) static ROUTES: Action = {
        GET "/" => Action::Immediate(hello),
        GET "/users/:id" => Action::Immediate(user),
        GET "/files/*path" => Action::Immediate(file),
        GET "/later/:id" => ringfort::suspending!(later),
        GET "/slow/:ms" => ringfort::suspending!(slow),
        GET "/stuck" => ringfort::suspending!(stuck),
        GET "/large/:mib" => ringfort::suspending!(large),
        GET "/stream" => ringfort::suspending!(stream),
        GET "/cut" => ringfort::suspending!(cut),
        GET "/panic" => Action::Immediate(panic_now),
        GET "/panic/later" => ringfort::suspending!(panic_later),
        GET "/worker" => Action::Immediate(worker),
        GET "/break-down" => Action::Immediate(break_down),
        GET "/block" => Action::Immediate(block),
        GET "/release" => Action::Immediate(release),
        GET "/fail" => Action::Immediate(fail),
        GET "/silent" => Action::Immediate(silent),
        POST "/echo" => ringfort::suspending!(echo),
        POST "/collect" => ringfort::suspending!(collect),
        POST "/ignore" => Action::Immediate(hello),
        GET "/seen" => Action::Immediate(super::plugin::seen),
        GET "/ended" => Action::Immediate(super::plugin::ended),
        POST "/peek" => ringfort::suspending!(peek),
    }
}

fn hello(exchange: &mut Exchange<'_>) -> Reply {
    exchange.response.text("hello")
}

fn user(exchange: &mut Exchange<'_>) -> Reply {
    let text = format!("user {}", exchange.request.param("id").unwrap_or_default());
    exchange.response.text(&text)
}

fn file(exchange: &mut Exchange<'_>) -> Reply {
    let text = format!("file {}", exchange.request.param("path").unwrap_or_default());
    exchange.response.text(&text)
}

/// Answers after the core has turned to others.
async fn later(exchange: &mut Exchange<'_>) -> Reply {
    rt::yield_now().await;
    let text = format!("later {}", exchange.request.param("id").unwrap_or_default());
    exchange.response.text(&text)
}

async fn slow(exchange: &mut Exchange<'_>) -> Reply {
    let ms = exchange.request.param("ms").unwrap_or_default().parse().map_err(Failure::internal)?;
    rt::sleep_until(clock::now() + Duration::from_millis(ms)).await;
    exchange.response.text("slow")
}

async fn stuck(exchange: &mut Exchange<'_>) -> Reply {
    exchange.response.start(BodyLength::Unknown)?;
    exchange.response.write(b"begun").await?;
    rt::sleep_until(Moment::NEVER).await;
    Ok(())
}

/// So many MiB of a pattern, of known length.
async fn large(exchange: &mut Exchange<'_>) -> Reply {
    let mib: u64 = exchange.request.param("mib").unwrap_or_default().parse().map_err(Failure::internal)?;
    let piece: Vec<u8> = (0..1 << 16).map(|at: u32| (at % 251) as u8).collect();
    exchange.response.start(BodyLength::Known(mib << 20))?;
    for _ in 0..mib * 16 {
        exchange.response.write(&piece).await?;
    }
    Ok(())
}

async fn stream(exchange: &mut Exchange<'_>) -> Reply {
    exchange.response.start(BodyLength::Unknown)?;
    for piece in ["one ", "two ", "three"] {
        exchange.response.write(piece.as_bytes()).await?;
        rt::yield_now().await;
    }
    Ok(())
}

/// Announces more than it writes.
async fn cut(exchange: &mut Exchange<'_>) -> Reply {
    exchange.response.start(BodyLength::Known(10))?;
    exchange.response.write(b"half").await
}

fn panic_now(_: &mut Exchange<'_>) -> Reply {
    panic!("the application panics")
}

async fn panic_later(_: &mut Exchange<'_>) -> Reply {
    rt::yield_now().await;
    panic!("the application panics")
}

/// Says which worker answers.
fn worker(exchange: &mut Exchange<'_>) -> Reply {
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    exchange.response.text(&name)
}

/// Breaks the worker down, and not the handler: a waker that panics is called by the executor itself.
fn break_down(exchange: &mut Exchange<'_>) -> Reply {
    struct Breaking;
    impl Wake for Breaking {
        fn wake(self: Arc<Self>) {
            panic!("the application breaks its worker down");
        }
    }
    let waker = Waker::from(Arc::new(Breaking));
    let deadline = rt::Deadline::new();
    deadline.set(clock::now() + Duration::from_millis(10));
    let _ = deadline.poll_due(&mut Context::from_waker(&waker));
    // Kept until it is due.
    rt::spawn(async move {
        std::future::pending::<()>().await;
        drop(deadline);
    });
    exchange.response.text("breaking down")
}

/// Whether blocked handlers go on.
static RELEASED: Mutex<bool> = Mutex::new(false);
static RELEASING: Condvar = Condvar::new();

/// Keeps its worker's thread until somebody asks another worker to release it.
fn block(exchange: &mut Exchange<'_>) -> Reply {
    let released = RELEASED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut released = RELEASING.wait_while(released, |released| !*released).unwrap_or_else(PoisonError::into_inner);
    *released = false;
    exchange.response.text("released")
}

fn release(exchange: &mut Exchange<'_>) -> Reply {
    *RELEASED.lock().unwrap_or_else(PoisonError::into_inner) = true;
    RELEASING.notify_all();
    exchange.response.text("releasing")
}

fn fail(_: &mut Exchange<'_>) -> Reply {
    Err(Failure::internal("a secret cause"))
}

fn silent(_: &mut Exchange<'_>) -> Reply {
    Ok(())
}

/// Sends each piece of the body back as it comes.
async fn echo(exchange: &mut Exchange<'_>) -> Reply {
    exchange.response.start(BodyLength::Unknown)?;
    while let Some(piece) = exchange.body.next().await? {
        exchange.response.write(piece).await?;
    }
    Ok(())
}

/// Reads all of the body before it answers.
async fn collect(exchange: &mut Exchange<'_>) -> Reply {
    let body = exchange.body.read_to_end(usize::MAX).await?;
    let sum: u64 = body.iter().map(|&b| u64::from(b)).sum();
    exchange.response.text(&format!("{} bytes, sum {sum}", body.len()))
}

/// Reads one piece of the body and no more.
async fn peek(exchange: &mut Exchange<'_>) -> Reply {
    exchange.body.next().await?;
    exchange.response.text("peeked")
}

/// What `ringfort serve` does, with the application's routes.
fn serve(config: &Path) -> Result<(), Box<dyn std::error::Error>> {
    ringfort::plugin::register(super::plugin::REGISTRATION);
    crate::plugins::example::register();
    let origin = master::Origin::new(std::env::args_os().skip(1).collect(), std::env::vars_os().collect())?;
    let patience = std::env::var(UPGRADE_MS).ok().map(|ms| ms.parse().map(Duration::from_millis)).transpose()?;
    let origin = patience.into_iter().fold(origin, master::Origin::with_patience);
    let hangs = config.with_file_name(HANGS);
    let input = config::Input { file: Some(config.to_owned()), ..config::Input::default() };
    let config::Prepared { snapshot, plan, fingerprint, .. } =
        config::prepare(&input, &config::Host::read(), &[&ROUTES])?;
    let log = Some(ringfort::log::init(&ringfort::log::LogOptions::default())?);
    let context: worker::MakeContext = Arc::new(move || {
        while hangs.exists() {
            std::thread::park();
        }
        assert!(std::env::var_os(BREAKS_AT_START).is_none(), "the application breaks its worker down");
        Rc::new(())
    });
    let source = master::Source {
        watched: input.file.clone().filter(|_| snapshot.config.reload.watch),
        known: fingerprint,
        load: Arc::new(move |before| config::prepare_next(&input, &config::Host::read(), &[&ROUTES], before)),
    };
    let mut launcher = Launcher::new();
    crate::lifecycle::declare(&mut launcher);
    let service = master::Service { snapshot, plan, context, log, source, origin };
    Ok(master::serve_with(service, launcher)?)
}
