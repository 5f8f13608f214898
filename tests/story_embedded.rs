//! The program inside another one: started on its runtime, stopped by it, with its dashboard in another web server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use runner::sdk::{Ctx, Payload, TaskError};
use runner::{App, TaskType};
use tokio::net::TcpListener;

use crate::kit::{self, Site};

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![needs(): a_program_runs_inside_another_one, a_program_ends_when_the_other_one_says_so]
}

#[derive(serde::Serialize, serde::Deserialize, TaskType)]
#[task(name = "greet", queue = "low", retention = "1h")]
struct Greet {
    name: String,
}

/// Shared by all runs.
struct Word(&'static str);

async fn greet(Payload(greet): Payload<Greet>, word: runner::sdk::State<Word>, cx: Ctx) -> Result<String, TaskError> {
    cx.enqueue(runner::task::Task::new("followed").id("one")).await?;
    Ok(format!("{}, {}", word.0.0, greet.name))
}

const SETTINGS: &str = "roles: [scheduler, worker]\nworker: {queues: {low: 1, default: 1}}\n";

/// Logs of programs inside this one go nowhere: they would come between the results of tests.
fn app(site: &Site) -> App {
    let _set_before = tracing::subscriber::set_global_default(tracing::subscriber::NoSubscriber::default());
    App::new()
        .config(site.dir.join("config.yaml"))
        .setup(async |registry| Ok::<_, std::io::Error>(registry.state(Word("hello"))))
        .handlers(|registry| registry.on_task(greet).on("followed", async || ()))
}

async fn a_program_runs_inside_another_one() {
    let site = Site::new(SETTINGS);
    let stopped = Arc::new(AtomicBool::new(false));
    let at_stop = Arc::clone(&stopped);
    let started = app(&site)
        .on_start(async |client| {
            client
                .enqueue(runner::task::Task::new("followed").id("first"))
                .await
                .map(drop)
        })
        .on_stop(async move |_| {
            at_stop.store(true, Ordering::SeqCst);
            Ok::<_, std::io::Error>(())
        })
        .start()
        .await
        .expect("a start");
    assert_eq!(started.address(), None, "the settings do not have the role");
    let greeting = started
        .client()
        .enqueue(Greet { name: "Ada".into() })
        .await
        .expect("a task");
    let result = greeting.wait(Duration::from_secs(30)).await.expect("a result");
    assert_eq!(result.text(), "hello, Ada");

    let listener = TcpListener::bind("127.0.0.1:0").await.expect("an address");
    let address = listener.local_addr().expect("an address");
    let own = axum::Router::new()
        .route("/own", axum::routing::get(async || "own"))
        .merge(started.router().expect("pages"));
    let web = tokio::spawn(async move { axum::serve(listener, own).await });
    let client = kit::Http::new(format!("http://{address}"));
    let own = client.get("/own").await;
    assert_eq!((own.status, own.body.as_str()), (200, "own"));
    assert_eq!(client.get("/healthz").await.status, 200);
    // On a loopback address and without users the dashboard is open.
    let first = client.get("/queue").await;
    assert!(
        first.status == 200 && first.body.contains("/queue/schedules"),
        "{} {}",
        first.status,
        first.body
    );
    started.stop().await;
    assert!(stopped.load(Ordering::SeqCst));
    web.abort();
}

async fn a_program_ends_when_the_other_one_says_so() {
    let site = Site::new(SETTINGS);
    let (stop, stopping) = tokio::sync::oneshot::channel::<()>();
    let run = tokio::spawn(app(&site).stop_when(async { drop(stopping.await) }).run());
    kit::eventually_within(Duration::from_secs(30), "the store is there", async || {
        let store = site.dir.join("data/runner.db");
        store.exists().then_some(()).ok_or("no store")
    })
    .await;
    stop.send(()).expect("it runs");
    let ended = tokio::time::timeout(Duration::from_secs(30), run)
        .await
        .expect("an end");
    ended.expect("no panic").expect("no error");
    let missing = app(&site).handlers(|registry| registry.on("x", async |_: runner::sdk::State<u8>| ()));
    let error = missing
        .run()
        .await
        .expect_err("a handler without its state")
        .to_string();
    assert!(error.contains("handler `x` needs the state `u8`"), "{error}");
}
