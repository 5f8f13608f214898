//! Spans of a handler, as parts of the trace of its task: for a build with the feature `otlp` and a receiver for OpenTelemetry.
//!
//! Try it: `cargo run --features otlp --example traced -- -c config.yaml` with
//! `telemetry: {otlp: {endpoint: 'http://127.0.0.1:4318'}}`, then `… -- enqueue report --payload 3`.

use std::process::ExitCode;

use runner::sdk::{Ctx, Payload, Registry, TaskError};
use runner::{App, Task};
use tracing::Instrument as _;

/// A span of its own, by an attribute.
#[tracing::instrument(name = "read rows")]
async fn read_rows(count: u32) -> Vec<u32> {
    // One by hand, within the other.
    let sorting = tracing::info_span!("sort", rows = tracing::field::Empty);
    async {
        let rows: Vec<u32> = (0..count).rev().collect();
        tracing::Span::current().record("rows", rows.len());
        tracing::info!(first = rows.first(), "sorted");
        rows
    }
    .instrument(sorting)
    .await
}

/// Its task may come from a schedule, a hook or another program; what it enqueues belongs to the same trace.
async fn report(Payload(count): Payload<u32>, cx: Ctx) -> Result<String, TaskError> {
    let rows = read_rows(count).await;
    cx.enqueue(Task::new("mail").payload(rows.len().to_string())).await?;
    // For a call of a library that knows no `tracing`.
    Ok(cx.trace().map(|trace| trace.to_string()).unwrap_or_default())
}

async fn mail(Payload(rows): Payload<u32>) {
    tracing::info!(rows, "sent");
}

fn main() -> ExitCode {
    App::new()
        .name("traced")
        .handlers(|registry: Registry| registry.on("report", report).on("mail", mail))
        .main()
}
