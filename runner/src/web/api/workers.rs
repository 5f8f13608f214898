//! Workers and hosts: a list, and orders to take no new tasks, to take them again, and how many to run at once.

use serde::Deserialize;
use utoipa::ToSchema;

use super::endpoint::{ApiCall, Endpoint, ListPart, Nothing};
use super::problem::ApiProblem;
use super::tasks::Done;
use crate::objects::WorkerObject;
use crate::web::act::workers::{self, MAX_CONCURRENCY, OrderChange};

/// What these calls are.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::list("/workers", "Lists live workers and the tasks that they run.", list),
        Endpoint::act(
            "/workers/{id}/pause",
            "Orders a worker to take no new tasks; it obeys within seconds.",
            pause,
        ),
        Endpoint::act(
            "/workers/{id}/resume",
            "Orders a worker to take new tasks again.",
            resume,
        ),
        Endpoint::act("/workers/{id}/set", "Orders how many tasks a worker runs at once.", set),
        Endpoint::act(
            "/hosts/{host}/pause",
            "The same for all workers of a host, also later ones.",
            pause_host,
        ),
        Endpoint::act(
            "/hosts/{host}/resume",
            "The same for all workers of a host.",
            resume_host,
        ),
        Endpoint::act("/hosts/{host}/set", "The same for all workers of a host.", set_host),
    ]
}

async fn list(call: ApiCall, _: Nothing) -> Result<ListPart<WorkerObject>, ApiProblem> {
    let servers = call.app.broker.servers().await?;
    let zone = &call.app.settings.zone;
    Ok(ListPart {
        items: servers.iter().map(|server| WorkerObject::of(server, zone)).collect(),
        next: None,
    })
}

/// How many tasks run at once.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetConcurrency {
    /// From 1 to 10,000; `null` or left out: as the settings of the worker say.
    #[schema(minimum = 1, maximum = 10_000)]
    concurrency: Option<u32>,
}

impl SetConcurrency {
    fn change(&self) -> Result<OrderChange, ApiProblem> {
        match self.concurrency {
            Some(n) if !(1..=MAX_CONCURRENCY).contains(&n) => Err(ApiProblem::bad_value(
                "concurrency",
                format!("it must be from 1 to {MAX_CONCURRENCY}"),
            )),
            wanted => Ok(OrderChange::Concurrency(wanted)),
        }
    }
}

async fn order(call: &ApiCall, change: OrderChange, done: &str) -> Result<Done, ApiProblem> {
    workers::order_worker(&call.app, &call.cx, call.name("id"), change).await?;
    Ok(Done::new(done))
}

async fn order_host(call: &ApiCall, change: OrderChange, done: &str) -> Result<Done, ApiProblem> {
    workers::order_host(&call.app, &call.cx, call.name("host"), change).await?;
    Ok(Done::new(done))
}

async fn pause(call: ApiCall, _: Nothing) -> Result<Done, ApiProblem> {
    order(&call, OrderChange::Pause, "paused").await
}

async fn resume(call: ApiCall, _: Nothing) -> Result<Done, ApiProblem> {
    order(&call, OrderChange::Resume, "resumed").await
}

async fn set(call: ApiCall, body: SetConcurrency) -> Result<Done, ApiProblem> {
    order(&call, body.change()?, "set").await
}

async fn pause_host(call: ApiCall, _: Nothing) -> Result<Done, ApiProblem> {
    order_host(&call, OrderChange::Pause, "paused").await
}

async fn resume_host(call: ApiCall, _: Nothing) -> Result<Done, ApiProblem> {
    order_host(&call, OrderChange::Resume, "resumed").await
}

async fn set_host(call: ApiCall, body: SetConcurrency) -> Result<Done, ApiProblem> {
    order_host(&call, body.change()?, "set").await
}
