//! Stages of tasks that are one thing, from another program: it needs the crate `runner-client`.
//!
//! Try it: `cargo run --example workflow -- data/runner.db` while `runner` runs with functions of these names; `runner workflow ls`
//! shows it.

use std::time::Duration;

use runner_client::{Client, Step, Task, Workflow};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let place = std::env::args().nth(1).unwrap_or_else(|| "data/runner.db".to_owned());
    let client = Client::connect(place).await?;

    let convert = |land: &str| {
        let task = Task::new("fn:convert").payload(format!(r#"{{"land":"{land}"}}"#));
        Step::new(task).result("file")
    };
    let import = Workflow::new("import")
        .then(Task::new("fn:fetch").payload(r#"{"day":"2026-07-01"}"#))
        .then_all(["de", "fr", "it"].map(convert))
        .then(Step::new(Task::new("fn:merge")).results("parts"))
        .on_done(Task::new("fn:announce"))
        .on_failed(Task::new("fn:alarm"));
    let import = client.workflow(import).await?;
    println!("{}", import.id());

    if let Some(head) = import.wait(Duration::from_secs(60)).await? {
        println!(
            "{}: {} of {} steps done",
            head.place.state.as_str(),
            head.done,
            head.plan.steps()
        );
    }
    Ok(())
}
