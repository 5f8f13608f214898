//! The settings from outside, by subject.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod documented;
mod own;
mod places;
mod redis;
mod refused;
mod secrets;
mod shapes;
mod variables;

use super::{Environment, Refused, Settings};

fn parse(text: &str) -> Settings {
    Settings::parse("config.yaml", text, &Environment::default()).unwrap()
}

fn problems(text: &str) -> Vec<runner_core::schedule::Problem> {
    match Settings::parse("config.yaml", text, &Environment::default()) {
        Ok(_) => panic!("accepted: {text}"),
        Err(Refused(problems)) => problems,
    }
}
