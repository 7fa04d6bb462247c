//! The `ringfort` command: a thin door to `ringfort::cli`.

use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    ringfort::cli::run(std::env::args_os(), &mut io::stdout(), &mut io::stderr(), &[])
}
