//! The `ringfort` command: a thin door to `ringfort::cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ringfort::cli::main(&[])
}
