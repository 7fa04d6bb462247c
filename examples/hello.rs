//! An application with routes of its own: two that conflict would not compile. It has Ringfort's whole command line:
//! `cargo run --release --example hello -- --listen 127.0.0.1:8080`, or `-- explain GET /hello/you`.

use std::process::ExitCode;

use ringfort::handler::{Action, Exchange, Reply};

ringfort::routes! {
    static ROUTES: Action = {
        GET "/" => Action::Immediate(hello),
        GET "/hello/:name" => Action::Immediate(greet),
        POST "/echo" => ringfort::suspending!(echo),
    }
}

/// Answers at once.
fn hello(exchange: &mut Exchange<'_>) -> Reply {
    exchange.response.text("Hello, World!\n")
}

/// Answers with a parameter of the path.
fn greet(exchange: &mut Exchange<'_>) -> Reply {
    let name = exchange.request.param("name").unwrap_or("nobody");
    exchange.response.text(&format!("Hello, {name}!\n"))
}

/// Takes its time: waits for the request's body.
async fn echo(exchange: &mut Exchange<'_>) -> Reply {
    let body = exchange.body.read_to_end(64 * 1024).await?;
    exchange.response.send(&body)
}

fn main() -> ExitCode {
    ringfort::cli::main(&[&ROUTES])
}
