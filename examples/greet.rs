//! The smallest program of your own: one handler, one schedule.
//!
//! Try it: `cargo run --example greet -- -c config.yaml`, and `… -- enqueue greet --payload '{"name":"Ada"}'`.

use runner::sdk::{Payload, TaskError};
use runner::{App, TaskType};

#[derive(serde::Serialize, serde::Deserialize, TaskType)]
#[task(name = "greet", retry = 3)]
struct Greet {
    name: String,
}

async fn greet(Payload(greet): Payload<Greet>) -> Result<String, TaskError> {
    Ok(format!("hello, {}", greet.name))
}

fn main() -> std::process::ExitCode {
    App::new()
        .handlers(|registry| registry.on_task(greet))
        .schedule("greetings", "@every 10s", Greet { name: "Ada".into() })
        .main()
}
