//! A shop: axum and a database of its own, tasks in Redis, and the dashboard at `/queue` of the same web server.
//!
//! Try it, with a Redis at 127.0.0.1:6379: `cargo run`, then
//! `curl -d customer=ada@example.org http://127.0.0.1:3000/orders`, and look at <http://127.0.0.1:3000/queue>.

use std::error::Error;
use std::process::ExitCode;

use axum::extract::{Form, State as Shared};
use axum::routing::post;
use runner::sdk::{Ctx, Payload, State, TaskError};
use runner::{App, Client, Task, TaskType};
use serde::{Deserialize, Serialize};
use sqlx::SqlitePool;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

type AnyError = Box<dyn Error + Send + Sync>;

/// The section `shop` of config.yaml.
#[derive(Deserialize)]
struct ShopSettings {
    addr: String,
    database: String,
}

/// Name, payload and options of a task, for the page that enqueues it and the handler that runs it.
#[derive(Serialize, Deserialize, TaskType)]
#[task(name = "receipt", queue = "mail", retry = 5, retention = "1h")]
struct Receipt {
    order: i64,
}

/// An error of the database is retried; an order that does not exist is not.
async fn send_receipt(
    Payload(receipt): Payload<Receipt>,
    State(database): State<SqlitePool>,
    cx: Ctx,
) -> Result<String, TaskError> {
    let customer: Option<String> = sqlx::query_scalar("SELECT customer FROM orders WHERE id = ?")
        .bind(receipt.order)
        .fetch_optional(&*database)
        .await?;
    let customer = customer.ok_or_else(|| TaskError::skip("there is no such order"))?;
    tracing::info!(customer, attempt = cx.attempt(), "sending a receipt");
    Ok(format!("sent to {customer}"))
}

/// Deletes old orders; the schedule in code runs it each night.
async fn forget(State(database): State<SqlitePool>) -> Result<String, sqlx::Error> {
    let deleted = sqlx::query("DELETE FROM orders WHERE at < unixepoch() - 90 * 86400").execute(&*database).await?;
    Ok(format!("{} orders deleted", deleted.rows_affected()))
}

/// What the pages of the shop share.
#[derive(Clone)]
struct Shop {
    database: SqlitePool,
    tasks: Client,
}

#[derive(Deserialize)]
struct Order {
    customer: String,
}

async fn order(Shared(shop): Shared<Shop>, Form(order): Form<Order>) -> Result<String, String> {
    let id = sqlx::query("INSERT INTO orders (customer) VALUES (?)")
        .bind(order.customer)
        .execute(&shop.database)
        .await
        .map_err(|error| error.to_string())?
        .last_insert_rowid();
    let task = Receipt { order: id }.task().id(format!("receipt-{id}"));
    let sent = shop.tasks.enqueue(task).await.map_err(|error| error.to_string())?;
    Ok(format!("order {id}, task {}\n", sent.id()))
}

async fn open(url: &str) -> Result<SqlitePool, sqlx::Error> {
    let database = SqlitePool::connect(url).await?;
    let orders = "CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, customer TEXT NOT NULL, at INTEGER DEFAULT (unixepoch()))";
    sqlx::query(orders).execute(&database).await?;
    Ok(database)
}

/// Plain, without `#[tokio::main]`: commands of manifests start this program once more as their guard, which needs no runtime and
/// must not begin to serve.
fn main() -> ExitCode {
    if let Some(code) = runner::guard_main() {
        return code;
    }
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shop: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Ctrl-C, or what service managers and containers send.
async fn asked_to_stop() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => (),
        () = terminated => (),
    }
}

/// Runner lives inside the runtime of the shop, from its start to its end.
#[tokio::main]
async fn serve() -> Result<(), AnyError> {
    let (opened, is_open) = tokio::sync::oneshot::channel();
    let started = App::new()
        .config("config.yaml")
        .section::<ShopSettings>("shop")
        .setup(async |registry| {
            let settings = registry.state_of::<ShopSettings>().ok_or("the section shop is missing")?;
            let database = open(&settings.database).await?;
            // The pages use the same pool.
            let _ = opened.send((database.clone(), settings.addr.clone()));
            Ok::<_, AnyError>(registry.state(database).on_task(send_receipt).on("forget", forget))
        })
        .schedule("forget", "0 3 * * *", Task::new("forget"))
        .start()
        .await?;
    let (database, addr) = is_open.await?;
    let tasks = started.client();
    let pages = axum::Router::new()
        .route("/orders", post(order))
        .with_state(Shop { database, tasks })
        .merge(started.router()?);
    let listener = TcpListener::bind(addr).await?;
    println!("http://{}/queue", listener.local_addr()?);
    axum::serve(listener, pages)
        .with_graceful_shutdown(asked_to_stop())
        .await?;
    // No request comes any more: running tasks end, the others go back to their queue.
    started.stop().await;
    Ok(())
}
