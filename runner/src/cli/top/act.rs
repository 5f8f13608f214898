//! Carries out what was ordered by a key, as the commands do.

use runner_core::schedule::{Definition, Plan, ScheduleId};
use runner_core::task::{QueueName, TaskId};
use runner_queue::{Action, Broker, Pause};

use super::screen::Order;
use crate::cli::CommandContext;
use crate::cli::audited::{Audited, actor};
use crate::cli::exit::refused;
use crate::cli::schedule::{resume_now, run_now};
use crate::cli::task::{cancel_attempt, stop_for_good};
use crate::cli::worker::order_one;
use crate::{queue_pause, scheduler};

/// Does it, with an entry in the audit list; returns what to say.
pub(super) async fn carry_out(
    context: &CommandContext,
    broker: &dyn Broker,
    plan: &Plan,
    order: Order,
) -> anyhow::Result<String> {
    match order {
        Order::PauseQueue(queue) => {
            let line = match queue_pause::hold(broker, &queue, Pause::by(actor())).await? {
                true => "is paused",
                false => "was already paused",
            };
            let paused = Audited::done("queue.pause", &queue).becomes(line);
            paused.write(broker).await;
            Ok(format!("{queue} {line}"))
        }
        Order::ResumeQueue(queue) => {
            let line = match queue_pause::release(broker, &queue).await? {
                true => "is resumed",
                false => "was not paused",
            };
            let resumed = Audited::done("queue.resume", &queue).becomes(line);
            resumed.write(broker).await;
            Ok(format!("{queue} {line}"))
        }
        Order::Cancel(queue, id) => cancel_attempt(broker, &queue, &id).await,
        Order::Stop(queue, id) => stop_for_good(broker, &queue, &id, None).await,
        Order::RunAgain(queue, id) => {
            on_task(broker, (&queue, &id), Action::Run, "task.run").await?;
            Ok(format!("{id} is on its queue"))
        }
        Order::Delete(queue, id) => {
            on_task(broker, (&queue, &id), Action::Delete, "task.delete").await?;
            Ok(format!("{id} is deleted"))
        }
        Order::RunSchedule(id) => {
            let task = run_now(broker, known(plan, &id)?, false).await?;
            Ok(format!("{id} is run by the task {task}"))
        }
        Order::PauseSchedule(id) => {
            scheduler::pause(broker, known(plan, &id)?, &Pause::by(actor())).await?;
            Audited::done("schedule.pause", &id).write(broker).await;
            Ok(format!("{id} is paused"))
        }
        Order::ResumeSchedule(id) => resume_now(broker, known(plan, &id)?).await,
        Order::PauseWorker { id, name } => {
            order_one(context, broker, &id, "worker.pause", |order, _| order.pause()).await?;
            Ok(format!("{name} was ordered to take no new tasks"))
        }
        Order::ResumeWorker { id, name } => {
            order_one(context, broker, &id, "worker.resume", |order, host| order.resume(host)).await?;
            Ok(format!("{name} was ordered to take tasks again"))
        }
        Order::Resize { id, name, concurrency } => {
            order_one(context, broker, &id, "worker.set", move |order, _| {
                order.concurrency = Some(concurrency);
            })
            .await?;
            Ok(format!("{name} was ordered to run {concurrency} tasks at once"))
        }
    }
}

async fn on_task(
    broker: &dyn Broker,
    (queue, id): (&QueueName, &TaskId),
    action: Action,
    audited: &str,
) -> anyhow::Result<()> {
    broker.act(queue, id, action).await.map_err(refused)?;
    Audited::done(audited, format!("{queue}/{id}")).write(broker).await;
    Ok(())
}

fn known<'a>(plan: &'a Plan, id: &ScheduleId) -> anyhow::Result<&'a Definition> {
    plan.schedules
        .get(id)
        .ok_or_else(|| anyhow::anyhow!("{id} is in force no more"))
}
