//! The integration tests: one binary, so that its servers start once and are shared.
//!
//! Each module lists its tests in `tests()`; `kit` explains how to add one. Not here: unit tests, which
//! live beside the code they test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod brokers;
mod golden;
mod kit;
mod pages;
mod table;
mod tidy;

fn main() -> std::process::ExitCode {
    kit::run(vec![
        kit::own_tests::tests(),
        tidy::tests(),
        brokers::tests(),
        golden::tests(),
        pages::tests(),
        table::tests(),
    ])
}
