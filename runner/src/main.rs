//! The program `runner`: the built-in functions and nothing else.

use std::process::ExitCode;

// The program's choice, not the library's: other programs choose their own.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    runner::App::new().main()
}
