//! Tasks from another program: it needs the crates `runner-core` and `runner-queue`, and neither handlers nor settings.
//!
//! Try it: `cargo run --example enqueue -- data/runner.db`, or `cargo run --example enqueue -- 127.0.0.1:6379` for a Redis.

use std::sync::Arc;
use std::time::Duration;

use runner_core::clock::SystemClock;
use runner_core::task::Task;
use runner_queue::embedded::EmbeddedBroker;
use runner_queue::redis::{RedisBroker, RedisSettings};
use runner_queue::{Broker, Producer};

type Error = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let place = std::env::args().nth(1).unwrap_or_else(|| "data/runner.db".to_owned());
    match place.contains(':') {
        true => over_redis(&place).await,
        // `open` makes a file that is not there; a producer that means the file of a running program does not want that.
        false if !std::path::Path::new(&place).exists() => Err(format!("{place} does not exist").into()),
        false => into_a_file(&place).await,
    }
}

async fn over_redis(address: &str) -> Result<(), Error> {
    let broker = RedisBroker::connect(RedisSettings::at(address)).await?;
    let greeting = Task::new("greet").payload(r#"{"name":"Ada"}"#);
    // The outer error: the broker could not be asked. The inner one: this task was refused.
    for answer in broker.enqueue(&[greeting]).await? {
        println!("{:?}", answer?);
    }
    Ok(())
}

/// The same with more options, and with every kind of broker behind one type.
async fn into_a_file(path: &str) -> Result<(), Error> {
    let broker: Arc<dyn Broker> = Arc::new(EmbeddedBroker::open(path, Arc::new(SystemClock)).await?);
    let greeting = Task::new("greet")
        .payload(r#"{"name":"Ada"}"#)
        .unique(Duration::from_secs(60));
    for answer in broker.enqueue(&[greeting]).await? {
        match answer {
            Ok(enqueued) => println!("enqueued: {enqueued:?}"),
            Err(refusal) => println!("refused: {refusal}"),
        }
    }
    Ok(())
}
