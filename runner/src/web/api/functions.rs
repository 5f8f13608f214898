//! Functions of the manifests, what starts them, and their runs; problems of what defines them.

use runner_core::task::covers;
use runner_queue::MAX_RUNS_KEPT;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::endpoint::{ApiCall, Endpoint, ListPart, Nothing};
use super::paging;
use super::problem::ApiProblem;
use crate::facts::runs_named;
use crate::objects::{FunctionObject, ProblemObject, RunObject, TriggerObject};
use crate::trigger::reports;

/// Queues in which runs are searched.
const QUEUES_SEARCHED: usize = 200;

/// What these calls are.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::list("/functions", "Lists the functions of all manifests by name.", list),
        Endpoint::get("/functions/{name}", "Shows one function, and what starts it.", one),
        Endpoint::list(
            "/functions/{name}/runs",
            "Lists the last runs of a function, or with `type:NAME` of a task type, newest first.",
            runs,
        ),
        Endpoint::get(
            "/runs/{queue}/{id}",
            "Shows the run of a task, also when the task is gone, with its output.",
            run,
        ),
        Endpoint::list(
            "/triggers",
            "Lists triggers of manifests, and how each instance is doing with them.",
            triggers,
        ),
        Endpoint::list(
            "/problems",
            "Lists what is wrong with manifests, rows and schedules in code.",
            problems,
        ),
    ]
}

/// The query of the list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct FunctionListQuery {
    /// Only functions whose names match; `*` stands for any characters.
    #[serde(rename = "match")]
    pattern: Option<String>,
    /// Items of a part, 1 to 500; 50 if left out.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
    /// `next` of the part before.
    #[param(min_length = 1)]
    cursor: Option<String>,
}

/// The kind of its cursors.
const FUNCTIONS: &str = "functions";

async fn list(call: ApiCall, query: FunctionListQuery) -> Result<ListPart<FunctionObject>, ApiProblem> {
    let limit = paging::limit(query.limit)?;
    let after = paging::place(FUNCTIONS, query.cursor.as_deref())?;
    let mut all = call.app.catalog.functions();
    let pattern = query.pattern.as_deref();
    all.retain(|(function, _)| {
        let name = function.name.as_str();
        pattern.is_none_or(|pattern| covers(pattern, name)) && after.as_deref().is_none_or(|after| name > after)
    });
    let more = all.len() > limit;
    all.truncate(limit);
    let last = all.last().filter(|_| more);
    let next = last.map(|(function, _)| paging::cursor(FUNCTIONS, &function.name));
    let (plan, triggers, types) = (
        call.app.catalog.plan(),
        call.app.catalog.triggers(),
        call.app.catalog.type_options(),
    );
    let object = |(function, place): &(std::sync::Arc<runner_core::function::Function>, String)| {
        FunctionObject::of(function, place, &types.of_function(function), &plan, &triggers)
    };
    Ok(ListPart {
        items: all.iter().map(object).collect(),
        next,
    })
}

async fn one(call: ApiCall, _: Nothing) -> Result<FunctionObject, ApiProblem> {
    let name = call.name("name");
    let catalog = &call.app.catalog;
    let (function, place) = catalog
        .function(&name)
        .ok_or_else(|| ApiProblem::gone("function", &name))?;
    let options = catalog.type_options().of_function(&function);
    Ok(FunctionObject::of(
        &function,
        &place,
        &options,
        &catalog.plan(),
        &catalog.triggers(),
    ))
}

/// The query of runs.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct RunListQuery {
    /// Only runs in this queue; of more than 200 queues only the first are searched.
    #[param(min_length = 1)]
    queue: Option<String>,
    /// Only runs whose last attempt failed.
    #[serde(default)]
    failed: bool,
    /// The newest this many, 1 to 100, which is how many are kept; 50 if left out.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<usize>,
}

async fn runs(call: ApiCall, query: RunListQuery) -> Result<ListPart<RunObject>, ApiProblem> {
    let name = call.name("name");
    let limit = paging::limit_to(query.limit, MAX_RUNS_KEPT)?;
    let broker = &*call.app.broker;
    let queues = match query.queue {
        Some(queue) => vec![queue.try_into().map_err(|why| ApiProblem::bad_value("queue", why))?],
        None => broker.queue_names().await?.into_iter().take(QUEUES_SEARCHED).collect(),
    };
    let (mut found, _) = runs_named(broker, &name, &queues).await?;
    if found.is_empty() && call.app.catalog.function(&name).is_none() && !name.starts_with("type:") {
        return Err(ApiProblem::gone("function", &name));
    }
    found.retain(|run| !query.failed || run.outcome.is_failure());
    let zone = &call.app.settings.zone;
    Ok(ListPart {
        items: found.iter().take(limit).map(|run| RunObject::of(run, zone)).collect(),
        next: None,
    })
}

/// A run with its output.
#[derive(Debug, Serialize, ToSchema)]
pub struct RunWithOutput {
    /// The run.
    #[serde(flatten)]
    run: RunObject,
    /// What it printed: the beginning and the end of a long one.
    output: Option<String>,
    /// Whether that is only a part; `runner logs` and the dashboard have all of it for two weeks.
    output_cut: bool,
}

async fn run(call: ApiCall, _: Nothing) -> Result<RunWithOutput, ApiProblem> {
    let (queue, id) = (call.queue()?, call.task()?);
    let record = call.app.broker.run(&queue, &id).await?;
    let record = record.ok_or_else(|| ApiProblem::gone("run of task", id.as_str()))?;
    Ok(RunWithOutput {
        run: RunObject::of(&record, &call.app.settings.zone),
        output: record.output,
        output_cut: record.output_cut,
    })
}

async fn triggers(call: ApiCall, _: Nothing) -> Result<ListPart<TriggerObject>, ApiProblem> {
    let broker = &*call.app.broker;
    let (reports, now) = (reports(broker).await?, broker.now().await?);
    let zone = &call.app.settings.zone;
    let triggers = call.app.catalog.triggers();
    let objects = triggers
        .iter()
        .map(|trigger| TriggerObject::of(trigger, &reports, now, zone));
    Ok(ListPart {
        items: objects.collect(),
        next: None,
    })
}

/// The kind of the cursors of problems.
const PROBLEMS: &str = "problems";

/// The query of a plain list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct PartQuery {
    /// Items of a part, 1 to 500; 50 if left out.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
    /// `next` of the part before.
    #[param(min_length = 1)]
    cursor: Option<String>,
}

async fn problems(call: ApiCall, query: PartQuery) -> Result<ListPart<ProblemObject>, ApiProblem> {
    let limit = paging::limit(query.limit)?;
    let skip = paging::skipped(PROBLEMS, query.cursor.as_deref())?;
    let plan = call.app.catalog.plan();
    let items: Vec<ProblemObject> = plan
        .problems
        .iter()
        .skip(skip)
        .take(limit)
        .map(ProblemObject::of)
        .collect();
    let end = skip.saturating_add(items.len());
    Ok(ListPart {
        next: (end < plan.problems.len() && !items.is_empty()).then(|| paging::cursor(PROBLEMS, &end.to_string())),
        items,
    })
}
