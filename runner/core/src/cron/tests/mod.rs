//! Tests of the engine, grouped by what they compare it with, and their shared helpers.
//!
//! `RUNNER_LONG=1` multiplies the cases of the generated ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod describe;
mod differential;
mod durations;
mod golden;
mod grammar;
mod hostile;
mod oracle;
mod properties;
mod refusals;
mod zones;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{DstRule, Expression, find_zone};

/// Cases of a generated test: `short`, or twenty times as many on request.
#[allow(clippy::disallowed_methods)] // how long to test is not a setting of the program
fn cases(short: u32) -> u32 {
    match std::env::var_os("RUNNER_LONG") {
        Some(_) => short * 20,
        None => short,
    }
}

fn expression(text: &str) -> Expression {
    Expression::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

fn zone(name: &str) -> TimeZone {
    find_zone(name).unwrap_or_else(|error| panic!("{error}"))
}

fn instant(text: &str) -> Timestamp {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// The first `count` occurrences after `from`.
fn fires(expression: &Expression, from: Timestamp, zone: &TimeZone, dst: DstRule, count: usize) -> Vec<Timestamp> {
    std::iter::successors(expression.next(from, zone, dst), |last| {
        expression.next(*last, zone, dst)
    })
    .take(count)
    .collect()
}
