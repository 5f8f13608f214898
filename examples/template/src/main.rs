//! A function runner with handlers of its own.

use std::process::ExitCode;

use runner::sdk::{Payload, Registry, State, TaskError};
use runner::{App, TaskType};
use serde::{Deserialize, Serialize};

/// The section `greeting` of config.yaml.
#[derive(Deserialize)]
struct Greeting {
    word: String,
}

/// A task: its name, payload and options.
#[derive(Serialize, Deserialize, TaskType)]
#[task(name = "greet", retry = 3, retention = "1h")]
struct Greet {
    name: String,
}

/// Its handler. An error is retried, at most three times.
async fn greet(Payload(greet): Payload<Greet>, State(greeting): State<Greeting>) -> Result<String, TaskError> {
    if greet.name.is_empty() {
        return Err(TaskError::skip("the name is empty"));
    }
    // Kept with the run, and in the log of the process.
    tracing::info!(name = greet.name, "greeting");
    Ok(format!("{}, {}", greeting.word, greet.name))
}

fn handlers(registry: Registry) -> Registry {
    registry.on_task(greet)
}

fn main() -> ExitCode {
    App::new()
        .name(env!("CARGO_PKG_NAME"))
        .version(env!("CARGO_PKG_VERSION"))
        .section::<Greeting>("greeting")
        .handlers(handlers)
        .main()
}

#[cfg(test)]
mod tests {
    use runner::sdk::TaskState;
    use runner::sdk::testing::TestQueue;

    use super::*;

    #[tokio::test]
    async fn greets() -> Result<(), Box<dyn std::error::Error>> {
        let greeting = Greeting { word: "hello".into() };
        let queue = TestQueue::new(handlers(Registry::new().state(greeting)))?;
        let ada = queue.enqueue(Greet { name: "Ada".into() })?;
        let empty = queue.enqueue(Greet { name: String::new() })?;
        queue.run_due().await;
        let state = |id| queue.task(id).map(|task| task.state);
        assert_eq!(state(&ada), Some(TaskState::Completed));
        assert_eq!(state(&empty), Some(TaskState::Archived));
        Ok(())
    }
}
