//! Entries of Go schedulers on the same broker, as `runner ls schedules` lists them and `runner schedule show` shows
//! one with what it enqueued. Read only: they are changed where they are registered.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use runner_core::schedule::ScheduleId;
use runner_queue::{EnqueueEventPage, Entries, ForeignEntry, Page};
use serde_json::json;

use super::print::{self, JsonField, Object};
use crate::objects::ScheduleObject;

/// An entry with the last tasks that it enqueued, newest first.
pub(super) struct Shown {
    entry: ForeignEntry,
    enqueued: EnqueueEventPage,
}

/// The entry with this id and at most `count` of its tasks.
pub(super) async fn find(broker: &dyn Entries, id: &str, count: u16) -> anyhow::Result<Option<Shown>> {
    let id = ScheduleId::from_text(id);
    let entries = broker.foreign_entries().await?;
    let Some(entry) = entries.into_iter().find(|entry| entry.id == id) else {
        return Ok(None);
    };
    let page = Page {
        number: 1,
        size: usize::from(count),
    };
    let enqueued = broker.enqueue_events(&id, page).await?;
    Ok(Some(Shown { entry, enqueued }))
}

impl Shown {
    /// The scheduler that registered it.
    pub(super) fn scheduler(&self) -> &str {
        &self.entry.scheduler
    }

    /// Why it cannot be changed from here.
    pub(super) fn refusal(&self) -> String {
        let ForeignEntry { id, scheduler, .. } = &self.entry;
        format!("{id} is an entry of the Go scheduler {scheduler}; it can be shown here and is changed there only")
    }

    pub(super) fn json(&self, zone: &TimeZone) -> Object {
        let events = self.enqueued.events.iter();
        let enqueued = events.map(|event| json!({"at": print::instant(event.at, zone), "task": event.task}));
        Object::of_serialized(&ScheduleObject::foreign(&self.entry, zone))
            .with("state", JsonField::Value("go".into()))
            .with("enqueued", JsonField::Value(enqueued.collect()))
            .with("enqueued_total", JsonField::Value(self.enqueued.total.into()))
    }

    pub(super) fn text(&self, zone: &TimeZone) -> String {
        let entry = &self.entry;
        let fact = |name: &str, value: String| vec![name.to_owned(), value];
        let shown = |at: Option<Timestamp>| at.map_or_else(String::new, |at| print::instant(at, zone));
        let facts = [
            fact("state", "go: changed in that scheduler only".to_owned()),
            fact("scheduler", entry.scheduler.clone()),
            fact("spec", entry.spec.clone()),
            fact("timezone", entry.zone.clone()),
            fact("type", entry.kind.clone()),
            fact("queue", entry.queue().to_owned()),
            fact("options", entry.options.join(", ")),
            fact("next", shown(entry.next)),
            fact("last", shown(entry.last)),
        ];
        let events = self.enqueued.events.iter();
        let rows: Vec<Vec<String>> = events
            .map(|event| vec![print::instant(event.at, zone), event.task.to_string()])
            .collect();
        let facts = print::facts(["SCHEDULE", entry.id.as_str()], &facts);
        format!("{facts}\n{}", print::table(&["ENQUEUED", "TASK"], &rows))
    }
}

pub(super) fn foreign_row(zone: &TimeZone, entry: &ForeignEntry) -> Vec<String> {
    let shown = |at: Option<Timestamp>| at.map_or_else(String::new, |at| print::instant(at, zone));
    vec![
        entry.id.to_string(),
        String::new(),
        entry.spec.clone(),
        entry.zone.clone(),
        entry.kind.clone(),
        "go".to_owned(),
        shown(entry.next),
        shown(entry.last),
    ]
}
