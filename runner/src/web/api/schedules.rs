//! Schedules: a list, one with why it does not fire, decisions; run now, pause, resume.

use axum::http::StatusCode;
use jiff::Timestamp;
use runner_core::schedule::{Definition, Plan, ScheduleId, manual_task};
use runner_core::task::{TaskId, covers};
use runner_queue::{Decision, DecisionKind, ManuallyRun, Pause, Refusal};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::endpoint::{ApiCall, Created, Endpoint, ListPart, Nothing};
use super::enqueue::{derived_id, seconds, task_address, written};
use super::paging;
use super::problem::ApiProblem;
use super::tasks::Done;
use crate::diagnose::{at_instant, why_absent, why_foreign, why_not_in_force};
use crate::facts;
use crate::objects::{
    AtInstantObject, DecisionObject, EnqueuedObject, ReasonWriter, ScheduleDetailsObject, ScheduleFactsNow,
    ScheduleObject, schedule_state,
};
use crate::scheduler::last_by_hand;
use crate::web::{act, format};

/// Future occurrences of each, if the query does not say.
const NEXT: usize = 5;

/// The most future occurrences of each.
const MOST_NEXT: usize = 100;

/// The most decisions of an answer.
const MOST_DECISIONS: usize = 200;

/// The most future occurrences of an answer: each takes a search in the calendar.
const MOST_NEXT_OF_ALL: usize = 2_500;

/// What a key does when a schedule is run.
const RUN_KEY: &str = "Makes the call repeatable: a second one with the same key adds nothing while the run is among the newest 200 \
    decisions of the schedule, or its task is there. A key counts for one token and schedule.";

/// What these calls are.
pub fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::list(
            "/schedules",
            "Lists schedules of manifests, table and code, those with errors, and entries of Go schedulers.",
            list,
        ),
        Endpoint::get("/schedules/{id}", "Shows one schedule, and why it does not fire.", one),
        Endpoint::get(
            "/schedules/{id}/why",
            "Shows the decision about one instant, or why there is none.",
            why_at,
        ),
        Endpoint::list(
            "/schedules/{id}/decisions",
            "Lists the decisions about its occurrences, newest first.",
            decisions_of_one,
        ),
        Endpoint::create_once(
            "/schedules/{id}/run",
            "Enqueues its task now, beside its occurrences.",
            RUN_KEY,
            run,
        ),
        Endpoint::act(
            "/schedules/{id}/pause",
            "Pauses it: nothing fires until it is resumed.",
            pause,
        ),
        Endpoint::act(
            "/schedules/{id}/resume",
            "Resumes it from now on; what fell into the pause does not fire.",
            resume,
        ),
        Endpoint::list(
            "/decisions",
            "Lists the decisions of all schedules, newest first.",
            decisions,
        ),
    ]
}

/// The query of the list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ScheduleListQuery {
    /// Only schedules whose ids or names match; `*` stands for any characters.
    #[serde(rename = "match")]
    pattern: Option<String>,
    /// Future occurrences of each, 0 to 100; 5 if left out. Times `limit`, at most 2,500.
    #[param(minimum = 0, maximum = 100)]
    next: Option<usize>,
    /// Items of a part, 1 to 500; 50 if left out.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
    /// `next` of the part before.
    #[param(min_length = 1)]
    cursor: Option<String>,
}

/// The kind of its cursors.
const SCHEDULES: &str = "schedules";

async fn list(call: ApiCall, query: ScheduleListQuery) -> Result<ListPart<ScheduleObject>, ApiProblem> {
    let limit = paging::limit(query.limit)?;
    let skip = paging::skipped(SCHEDULES, query.cursor.as_deref())?;
    let next = match query.next.unwrap_or(NEXT) {
        next @ 0..=MOST_NEXT => next,
        _ => {
            return Err(ApiProblem::bad_value(
                "next",
                format!("it must be from 0 to {MOST_NEXT}"),
            ));
        }
    };
    if limit * next > MOST_NEXT_OF_ALL {
        let detail = format!(
            "limit times next is {}; at most {MOST_NEXT_OF_ALL} is possible",
            limit * next
        );
        return Err(ApiProblem::new(StatusCode::BAD_REQUEST, "api_bad_query", detail)
            .hint("ask for smaller parts, or for fewer occurrences of each"));
    }
    let broker = &*call.app.broker;
    let wanted = |id: &str, name: &str| {
        let pattern = query.pattern.as_deref();
        pattern.is_none_or(|pattern| covers(pattern, id) || covers(pattern, name))
    };
    let plan = call.app.catalog.plan();
    let in_force: Vec<&Definition> = plan
        .schedules
        .values()
        .filter(|d| wanted(d.id.as_str(), &d.name))
        .collect();
    let on_part: Vec<&Definition> = in_force.iter().skip(skip).take(limit).copied().collect();
    let ids: Vec<ScheduleId> = on_part.iter().map(|d| d.id.clone()).collect();
    let (standings, by_hand) = tokio::try_join!(broker.standings(&ids), last_by_hand(broker, &ids))?;
    let now = call.cx.locale.now;
    let listed = on_part.iter().zip(&standings).map(|(d, standing)| {
        let facts = ScheduleFactsNow {
            standing: standing.as_ref(),
            by_hand: by_hand.get(&d.id),
        };
        ScheduleObject::of(&plan, d, facts, now, next)
    });
    let mut items: Vec<ScheduleObject> = listed.collect();
    // Those that are not in force follow.
    let zone = &call.app.settings.zone;
    let rejected = call.app.catalog.rejected();
    let broken = rejected.iter().map(ScheduleObject::rejected);
    let foreign = broker.foreign_entries().await?;
    let others = broken.chain(foreign.iter().map(|entry| ScheduleObject::foreign(entry, zone)));
    let others: Vec<ScheduleObject> = others
        .filter(|other| wanted(other.id.as_deref().unwrap_or_default(), &other.name))
        .collect();
    let all = in_force.len() + others.len();
    let before = skip.saturating_sub(in_force.len());
    let room = limit - items.len();
    items.extend(others.into_iter().skip(before).take(room));
    let end = skip.saturating_add(items.len());
    let next = (end < all && !items.is_empty()).then(|| paging::cursor(SCHEDULES, &end.to_string()));
    Ok(ListPart { items, next })
}

fn id_of(call: &ApiCall) -> ScheduleId {
    ScheduleId::from_text(call.name("id"))
}

/// The schedule of the path, which must be in force.
fn in_force<'p>(plan: &'p Plan, id: &ScheduleId) -> Result<&'p Definition, ApiProblem> {
    plan.schedules
        .get(id)
        .ok_or_else(|| ApiProblem::gone("schedule", id.as_str()))
}

async fn one(call: ApiCall, _: Nothing) -> Result<ScheduleDetailsObject, ApiProblem> {
    let id = id_of(&call);
    let plan = call.app.catalog.plan();
    let broker = &*call.app.broker;
    let now = call.cx.locale.now;
    let Some(definition) = plan.schedules.get(&id) else {
        return not_in_force(&call, &plan, &id).await;
    };
    let ids = [id];
    let (standings, by_hand, decisions) = tokio::try_join!(
        broker.standings(&ids),
        last_by_hand(broker, &ids),
        broker.decisions(Some(&ids[0]), facts::DECISIONS)
    )?;
    let standing = standings.into_iter().next().flatten();
    let fault = call.app.health.fault();
    let reasons = facts::of_schedule(broker, &plan, definition, standing.as_ref(), &decisions, fault).await?;
    let writer = ReasonWriter {
        now,
        zone: &definition.timing.zone,
    };
    let known = ScheduleFactsNow {
        standing: standing.as_ref(),
        by_hand: by_hand.get(&definition.id),
    };
    Ok(ScheduleDetailsObject {
        schedule: ScheduleObject::of(&plan, definition, known, now, NEXT),
        state: schedule_state(&plan, definition, standing.as_ref()).to_owned(),
        reasons: writer.objects(&reasons),
    })
}

/// One that has errors, or an entry of a Go scheduler.
async fn not_in_force(call: &ApiCall, plan: &Plan, id: &ScheduleId) -> Result<ScheduleDetailsObject, ApiProblem> {
    let zone = &call.app.settings.zone;
    let writer = ReasonWriter {
        now: call.cx.locale.now,
        zone,
    };
    let rejected = call.app.catalog.rejected();
    if let Some(rejected) = rejected.iter().find(|rejected| rejected.id.as_ref() == Some(id)) {
        let why = (rejected.origin.place.as_str(), rejected.problems.as_slice());
        let why = why_not_in_force(Some(why), plan.problems_of(id)).unwrap_or_else(why_absent);
        return Ok(ScheduleDetailsObject {
            schedule: ScheduleObject::rejected(rejected),
            state: "broken".to_owned(),
            reasons: writer.objects(&[why]),
        });
    }
    let entries = call.app.broker.foreign_entries().await?;
    match entries.iter().find(|entry| entry.id == *id) {
        Some(entry) => Ok(ScheduleDetailsObject {
            schedule: ScheduleObject::foreign(entry, zone),
            state: "go".to_owned(),
            reasons: writer.objects(&[why_foreign(&entry.scheduler)]),
        }),
        None => Err(ApiProblem::gone("schedule", id.as_str())),
    }
}

/// The query of decisions.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct DecisionListQuery {
    /// Only those of one kind: `fired`, `skipped`, `missed`, `paused`, `manual` or `corrected`; of the newest 200.
    #[param(pattern = "^(fired|skipped|missed|paused|manual|corrected)$")]
    only: Option<String>,
    /// The newest this many, 1 to 200; 50 if left out.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<usize>,
}

async fn decisions(call: ApiCall, query: DecisionListQuery) -> Result<ListPart<DecisionObject>, ApiProblem> {
    decided(&call, None, &query).await
}

async fn decisions_of_one(call: ApiCall, query: DecisionListQuery) -> Result<ListPart<DecisionObject>, ApiProblem> {
    let id = id_of(&call);
    let part = decided(&call, Some(&id), &query).await?;
    let unknown = part.items.is_empty() && !call.app.catalog.plan().schedules.contains_key(&id);
    match unknown {
        true => Err(ApiProblem::gone("schedule", id.as_str())),
        false => Ok(part),
    }
}

async fn decided(
    call: &ApiCall,
    id: Option<&ScheduleId>,
    query: &DecisionListQuery,
) -> Result<ListPart<DecisionObject>, ApiProblem> {
    let limit = paging::limit_to(query.limit, MOST_DECISIONS)?;
    let only = match query.only.as_deref() {
        None => None,
        Some(word) => Some(
            DecisionKind::from_word(word)
                .ok_or_else(|| ApiProblem::bad_value("only", format!("{word:?} is not a kind of decision")))?,
        ),
    };
    let read = if only.is_some() { MOST_DECISIONS } else { limit };
    let mut found = call.app.broker.decisions(id, read).await?;
    found.retain(|decision| only.is_none_or(|only| decision.kind == only));
    let zone = &call.app.settings.zone;
    let items = found
        .iter()
        .take(limit)
        .map(|decision| DecisionObject::of(decision, zone));
    Ok(ListPart {
        items: items.collect(),
        next: None,
    })
}

/// An instant.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct WhyAtQuery {
    /// RFC 3339, or a local time such as `2026-11-22T02:00` in the zone of the schedule.
    at: String,
}

/// Only of schedules in force: of others no occurrences are known.
async fn why_at(call: ApiCall, query: WhyAtQuery) -> Result<AtInstantObject, ApiProblem> {
    let id = id_of(&call);
    let plan = call.app.catalog.plan();
    let definition = in_force(&plan, &id)?;
    let zone = &definition.timing.zone;
    let at = format::instant_in(zone, &query.at)
        .ok_or_else(|| ApiProblem::bad_value("at", "it must be an instant such as 2026-11-22T10:00:00+08:00"))?;
    let ids = [id];
    let (standings, decisions) = tokio::try_join!(
        call.app.broker.standings(&ids),
        call.app.broker.decisions(Some(&ids[0]), MOST_DECISIONS)
    )?;
    let standing = standings.into_iter().next().flatten();
    let all = decisions.len() < MOST_DECISIONS;
    let answer = at_instant(
        definition,
        standing.as_ref(),
        (&decisions, all),
        (at, call.cx.locale.now),
    );
    Ok(AtInstantObject::of(at, &answer, zone))
}

/// How a schedule is run now.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RunSchedule {
    /// Run it even if another run has not ended.
    #[serde(default)]
    force: bool,
}

/// With a key the id of its task follows from it, and a run of this id that is on record is not repeated.
async fn run(call: ApiCall, body: RunSchedule) -> Result<Created<EnqueuedObject>, ApiProblem> {
    let id = id_of(&call);
    let plan = call.app.catalog.plan();
    let definition = in_force(&plan, &id)?;
    let mut task = manual_task(definition);
    let queue = task.queue.clone();
    let keyed = match call.idempotency_key()? {
        None => None,
        Some(key) => Some(
            TaskId::new(format!("{id}@manual-{}", derived_id(&call, id.as_str(), key)))
                .map_err(|why| ApiProblem::bad_value("Idempotency-Key", why))?,
        ),
    };
    if let Some(keyed) = &keyed {
        let before = call.app.broker.decisions(Some(&id), MOST_DECISIONS).await?;
        if before.iter().any(|decision| decision.task.as_ref() == Some(keyed)) {
            return repeated(&call, &queue, keyed).await;
        }
        task.id = Some(keyed.clone());
    }
    match act::schedules::run_now(&call.app, &call.cx, definition, task, body.force).await? {
        ManuallyRun::Done(Decision { task: Some(task), .. }) => {
            let info = call.app.broker.glance(&queue, &task).await?;
            let mut object = EnqueuedObject::repeated(&queue, &task, info.map(|info| info.state));
            object.repeated = false;
            Ok(Created {
                at: task_address(&queue, &task),
                body: object,
                new: true,
            })
        }
        ManuallyRun::Done(_) => Err(ApiProblem::conflict("it was enqueued, and its task has no id")),
        ManuallyRun::Busy { task, .. } if keyed.as_ref() == Some(&task) => repeated(&call, &queue, &task).await,
        ManuallyRun::Busy { task, what } => {
            let detail = format!("another run has not ended: task {task} {what}");
            Err(ApiProblem::conflict(detail).hint("force: true runs it beside that one"))
        }
        ManuallyRun::Refused(Refusal::IdTaken | Refusal::Received) if keyed.is_some() => {
            let task = keyed.unwrap_or_else(TaskId::random);
            repeated(&call, &queue, &task).await
        }
        ManuallyRun::Refused(refusal) => Err(refusal.into()),
    }
}

async fn repeated(
    call: &ApiCall,
    queue: &runner_core::task::QueueName,
    task: &TaskId,
) -> Result<Created<EnqueuedObject>, ApiProblem> {
    let info = call.app.broker.glance(queue, task).await?;
    Ok(Created {
        at: task_address(queue, task),
        body: EnqueuedObject::repeated(queue, task, info.map(|info| info.state)),
        new: false,
    })
}

/// A pause: until someone resumes the schedule, unless it has an end.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SchedulePause {
    /// Why, on one line.
    note: Option<String>,
    /// Resume it after this time, to within a few seconds.
    for_seconds: Option<u64>,
    /// Resume it at this instant, RFC 3339.
    #[schema(format = DateTime)]
    until: Option<String>,
}

async fn pause(call: ApiCall, body: SchedulePause) -> Result<Done, ApiProblem> {
    let plan = call.app.catalog.plan();
    let definition = in_force(&plan, &id_of(&call))?;
    let now = call.cx.locale.now;
    let until = match (body.for_seconds, body.until) {
        (None, None) => None,
        (Some(length), None) => now.checked_add(seconds("for_seconds", length)?).ok(),
        (None, Some(until)) => Some(written("until", &until)?),
        (Some(_), Some(_)) => {
            return Err(ApiProblem::bad_value(
                "until",
                "for_seconds and until exclude each other",
            ));
        }
    };
    if until.is_some_and(|until| until <= now) {
        return Err(ApiProblem::bad_value("until", "the pause would be over already"));
    }
    let pause = Pause {
        until: until.and_then(|until| Timestamp::from_second(until.as_second()).ok()),
        ..Pause::by(call.cx.name())
    };
    let pause = pause.because(body.note.as_deref());
    let before = paused(&call, definition).await?;
    let changed = before.is_none_or(|before| {
        let other_note = pause.note.is_some() && pause.note != before.note;
        other_note || pause.until != before.until
    });
    act::schedules::hold(&call.app, &call.cx, definition, &pause).await?;
    Ok(Done {
        changed,
        ..Done::new("paused")
    })
}

async fn resume(call: ApiCall, _: Nothing) -> Result<Done, ApiProblem> {
    let plan = call.app.catalog.plan();
    let definition = in_force(&plan, &id_of(&call))?;
    let changed = paused(&call, definition).await?.is_some();
    if changed {
        act::schedules::release(&call.app, &call.cx, definition).await?;
    }
    Ok(Done {
        changed,
        ..Done::new("resumed")
    })
}

async fn paused(call: &ApiCall, definition: &Definition) -> Result<Option<Pause>, ApiProblem> {
    let standings = call.app.broker.standings(std::slice::from_ref(&definition.id)).await?;
    let standing = standings.into_iter().next().flatten();
    Ok(standing.and_then(|standing| standing.paused))
}
