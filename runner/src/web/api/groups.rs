//! Groups of a queue, and actions on the tasks that wait in one.

use runner_queue::{Action, Page};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::endpoint::{ApiCall, Endpoint, ListPart, Nothing};
use super::paging;
use super::problem::ApiProblem;
use crate::web::act::Audit;

/// Calls of the store in one action: ten thousand tasks, within a second or two.
const CALLS: usize = 10;

/// What these calls are.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::list(
            "/queues/{queue}/groups",
            "Lists groups of a queue by name, with how many tasks wait in each; of very many groups the first thousand.",
            list,
        ),
        Endpoint::act(
            "/queues/{queue}/groups/{group}/run",
            "Runs the tasks of a group one by one now, at most ten thousand.",
            run,
        ),
        Endpoint::act(
            "/queues/{queue}/groups/{group}/archive",
            "Archives the tasks of a group, at most ten thousand.",
            archive,
        ),
        Endpoint::act(
            "/queues/{queue}/groups/{group}/delete",
            "Deletes the tasks of a group, at most ten thousand.",
            delete,
        ),
    ]
}

/// A group.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Group)]
pub struct ListedGroup {
    /// Its name.
    name: String,
    /// Tasks that wait in it.
    tasks: u64,
}

/// The query of the list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct GroupsQuery {
    /// How many, 50 unless given.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
    /// `next` of the part before, with the same limit.
    #[param(min_length = 1)]
    cursor: Option<String>,
}

async fn list(call: ApiCall, query: GroupsQuery) -> Result<ListPart<ListedGroup>, ApiProblem> {
    let size = paging::limit(query.limit)?;
    let skipped = paging::skipped("groups", query.cursor.as_deref())?;
    let number = skipped / size + 1;
    let page = call.app.broker.groups(&call.queue()?, Page { number, size }).await?;
    let end = number * size;
    let more = page.groups.len() == size && page.total > end as u64;
    let items = page.groups.into_iter().map(|group| ListedGroup {
        name: group.name,
        tasks: group.tasks,
    });
    Ok(ListPart {
        items: items.collect(),
        next: more.then(|| paging::cursor("groups", &end.to_string())),
    })
}

/// What an action on a group did.
#[derive(Debug, Serialize, ToSchema)]
pub struct GroupDone {
    /// Tasks that were acted on.
    tasks: u64,
    /// Whether some are left; the same call continues.
    more: bool,
}

async fn act(call: &ApiCall, action: Action) -> Result<GroupDone, ApiProblem> {
    let (queue, group) = (call.queue()?, call.name("group"));
    let audited = match action {
        Action::Run => "group.run",
        Action::Archive => "group.archive",
        Action::Delete => "group.delete",
    };
    let audit = Audit::intent(&call.cx, audited, format!("{queue}, group {group}"));
    let mut done = GroupDone { tasks: 0, more: true };
    for _ in 0..CALLS {
        match call.app.broker.act_group(&queue, &group, action).await {
            Ok(acted) => {
                done.tasks += acted.tasks;
                done.more = acted.more;
            }
            Err(error) => {
                audit.outcome("unknown");
                return Err(error.into());
            }
        }
        if !done.more {
            break;
        }
    }
    audit.outcome(&format!("{} done", done.tasks));
    Ok(done)
}

async fn run(call: ApiCall, _: Nothing) -> Result<GroupDone, ApiProblem> {
    act(&call, Action::Run).await
}

async fn archive(call: ApiCall, _: Nothing) -> Result<GroupDone, ApiProblem> {
    act(&call, Action::Archive).await
}

async fn delete(call: ApiCall, _: Nothing) -> Result<GroupDone, ApiProblem> {
    act(&call, Action::Delete).await
}
