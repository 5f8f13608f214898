//! Tasks from another program: it needs the crates `runner-core` and `runner-queue`, and neither handlers nor settings.
//!
//! Try it: `cargo run --example enqueue -- data/runner.db`, or `cargo run --example enqueue -- 127.0.0.1:6379` for a Redis.

use std::sync::Arc;
use std::time::Duration;

use runner_core::clock::SystemClock;
use runner_core::task::Task;
use runner_queue::Broker;
use runner_queue::embedded::EmbeddedBroker;
use runner_queue::redis::{RedisBroker, RedisSettings};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let place = std::env::args().nth(1).unwrap_or_else(|| "data/runner.db".to_owned());
    let broker: Arc<dyn Broker> = match place.contains(':') {
        true => Arc::new(RedisBroker::connect(RedisSettings::at(&place)).await?),
        // `open` makes a file that is not there; a producer that means the file of a running program does not want that.
        false if !std::path::Path::new(&place).exists() => return Err(format!("{place} does not exist").into()),
        false => Arc::new(EmbeddedBroker::open(&place, Arc::new(SystemClock)).await?),
    };

    let greeting = Task::new("greet")
        .payload(r#"{"name":"Ada"}"#)
        .unique(Duration::from_secs(60));
    // The outer error: the broker could not be asked. The inner one: this task was refused.
    for answer in broker.enqueue(&[greeting]).await? {
        match answer {
            Ok(enqueued) => println!("enqueued: {enqueued:?}"),
            Err(refusal) => println!("refused: {refusal}"),
        }
    }
    Ok(())
}
