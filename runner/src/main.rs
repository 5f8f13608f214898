//! The program `runner`: the built-in functions and nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    runner::App::new().main()
}
