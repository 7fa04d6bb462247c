//! A program on Ringfort: besides its routes an initializer, a background service and a health check, started, watched and
//! stopped with the server's own parts. `cargo run --example service`, then `curl http://127.0.0.1:8080/`; the checks are
//! at `http://127.0.0.1:9090/healthz`.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ringfort::cli::Application;
use ringfort::clock;
use ringfort::handler::{Action, Exchange, Failure, Reply};
use ringfort::lifecycle::{Handle, Outcome};
use ringfort::rt;

ringfort::routes! {
    static ROUTES: Action = {
        GET "/" => Action::Immediate(visit),
    }
}

/// What handlers, on the workers' threads, share with the service. It lives in a file from one run to the next.
struct Visits {
    count: AtomicU64,
    saved: AtomicU64,
    file: PathBuf,
}

fn visit(exchange: &mut Exchange<'_>) -> Reply {
    let visits = exchange.context::<Arc<Visits>>().ok_or_else(|| Failure::internal("no visits in the context"))?;
    let count = visits.count.fetch_add(1, Ordering::Relaxed) + 1;
    exchange.response.text(&format!("visit {count}\n"))
}

/// Before anything starts: an error ends the program, and says why.
async fn load(visits: Arc<Visits>) -> Outcome {
    let count = if visits.file.exists() { fs::read_to_string(&visits.file)?.trim().parse()? } else { 0 };
    visits.count.store(count, Ordering::Relaxed);
    Ok(())
}

/// Saves every second, and once more when the last request has been answered.
async fn save(visits: Arc<Visits>, handle: Handle) -> Outcome {
    handle.ready();
    loop {
        let is_last = handle.is_stopping();
        let (count, file) = (visits.count.load(Ordering::Relaxed), visits.file.clone());
        // What blocks must not hold up the other services.
        rt::blocking(move || fs::write(file, format!("{count}\n"))).await?;
        visits.saved.store(count, Ordering::Relaxed);
        if is_last {
            return Ok(());
        }
        rt::timeout(clock::now() + Duration::from_secs(1), handle.stopping()).await;
    }
}

pub(crate) fn application() -> Application {
    let file = env::var_os("VISITS_FILE").map_or_else(|| env::temp_dir().join("visits.txt"), PathBuf::from);
    let visits = Arc::new(Visits { count: AtomicU64::new(0), saved: AtomicU64::new(0), file });
    let shared = visits.clone();
    Application::new(&[&ROUTES]).context(move || shared.clone()).parts(move |launcher| {
        let (loaded, saved, checked) = (visits.clone(), visits.clone(), visits.clone());
        launcher.initializer("visits", move || load(loaded));
        launcher.service("saver", move |handle: Handle| save(saved, handle)).stop_within(Duration::from_secs(5));
        launcher.check("saver", move || {
            let unsaved = checked.count.load(Ordering::Relaxed) - checked.saved.load(Ordering::Relaxed);
            async move { if unsaved < 100_000 { Ok(format!("{unsaved} to save")) } else { Err("too slow".into()) } }
        });
    })
}

fn main() -> ExitCode {
    application().main()
}
