//! The smallest program of your own: one handler, one schedule.
//!
//! Try it: `cargo run --example greet -- -c config.yaml`, and `… -- enqueue greet --payload '{"name":"Ada"}'`.

use runner::App;
use runner::sdk::{Payload, TaskError};
use runner::task::Task;

#[derive(serde::Deserialize)]
struct Greeting {
    name: String,
}

async fn greet(Payload(greeting): Payload<Greeting>) -> Result<String, TaskError> {
    Ok(format!("hello, {}", greeting.name))
}

fn main() -> std::process::ExitCode {
    App::new()
        .handlers(|registry| registry.on("greet", greet))
        .schedule(
            "greetings",
            "@every 10s",
            Task::new("greet").payload(r#"{"name":"Ada"}"#),
        )
        .main()
}
