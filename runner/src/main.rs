//! The front door: the program `runner` with the built-in functions.

use std::process::ExitCode;

fn main() -> ExitCode {
    runner::App::new().main()
}
