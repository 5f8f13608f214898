//! Many small tasks become one: what is noted for a person within a minute is one digest.
//!
//! Try it: `cargo run --example digest -- -c config.yaml`, then a few times
//! `cargo run --example digest -- enqueue note --group digest:ada --payload '"the build is green"'`.

use std::process::ExitCode;
use std::time::Duration;

use runner::App;
use runner::sdk::{Group, Payload, Registry, TaskError};
use runner::task::Task;

/// What a `digest` task carries.
#[derive(serde::Serialize, serde::Deserialize)]
struct Digest {
    to: String,
    greeting: String,
    notes: Vec<String>,
}

/// Makes one `digest` of all notes of a group. An error leaves them together for another try in about two minutes.
async fn digest(group: Group) -> Result<Task, TaskError> {
    let mut notes = Vec::new();
    for task in group.tasks() {
        notes.push(serde_json::from_slice(&task.payload)?);
    }
    let to = group.name().trim_start_matches("digest:").to_owned();
    let greeting = greeting().await?;
    Ok(Task::new("digest")
        .json(&Digest { to, greeting, notes })?
        .retention(Duration::from_secs(3600)))
}

/// Read again for each digest, so that it can be changed while the program runs.
async fn greeting() -> Result<String, TaskError> {
    let read = tokio::task::spawn_blocking(|| std::fs::read_to_string("greeting.txt"));
    Ok(read
        .await?
        .map_or_else(|_| "hello".to_owned(), |text| text.trim().to_owned()))
}

async fn send(Payload(digest): Payload<Digest>) -> String {
    format!("{} {}: {}", digest.greeting, digest.to, digest.notes.join(", "))
}

fn register(registry: Registry) -> Registry {
    registry.aggregate("digest:*", digest).on("digest", send)
}

fn main() -> ExitCode {
    App::new().handlers(register).main()
}
