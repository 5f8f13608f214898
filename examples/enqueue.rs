//! Tasks from another program, such as a web service: it needs the crate `runner-client`, and neither handlers nor settings.
//!
//! Try it: `cargo run --example enqueue -- data/runner.db`, or `cargo run --example enqueue -- redis://127.0.0.1:6379`, while
//! a program with a handler for `greet` runs, such as the example `own_handlers`.

use std::time::Duration;

use runner_client::{Client, TaskType};

/// A shared crate, or a shared module, is the place for this type: the handler takes it as `Payload<Greet>`.
#[derive(serde::Serialize, serde::Deserialize, TaskType)]
#[task(name = "greet", retry = 3, retention = "1h")]
struct Greet {
    name: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let place = std::env::args().nth(1).unwrap_or_else(|| "data/runner.db".to_owned());
    let client = Client::connect(place).await?;
    let greeting = client.enqueue(Greet { name: "Ada".into() }).await?;
    println!("{}", greeting.wait(Duration::from_secs(30)).await?.text());

    // Options for one task, and many tasks at once: one that is refused does not touch the others.
    let names = ["Bob", "Eve"].map(|name| Greet { name: name.into() }.task().delay(Duration::from_secs(1)));
    for sent in client.enqueue_many(names).await? {
        println!("{}", sent?.id());
    }
    Ok(())
}
