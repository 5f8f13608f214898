//! Measures how fast one client enqueues: `cargo run --release -p runner-client --example speed -- redis://127.0.0.1:6379 20000`.
//!
//! The tasks stay in the queue `speed`. `runner bench enqueue` is the same without the client.

use std::time::Instant;

use runner_client::{Client, Task};

fn task() -> Task {
    Task::new("bench:noop").queue("speed").payload(vec![b'x'; 100])
}

#[tokio::main]
#[allow(clippy::disallowed_methods)] // measures
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let place = arguments.next().unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned());
    let tasks: u32 = arguments.next().map_or(Ok(20_000), |text| text.parse())?;
    let client = Client::connect(place).await?;
    for _ in 0..3 {
        let began = Instant::now();
        for answer in client.enqueue_many((0..tasks).map(|_| task())).await? {
            answer?;
        }
        let many = f64::from(tasks) / began.elapsed().as_secs_f64();
        let singly = tasks / 10;
        let began = Instant::now();
        for _ in 0..singly {
            client.enqueue(task()).await?;
        }
        let one = f64::from(singly) / began.elapsed().as_secs_f64();
        println!("many {many:9.0} tasks/s    one by one {one:9.0} tasks/s");
    }
    Ok(())
}
