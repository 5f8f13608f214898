//! One document of a manifest: a function with its schedules.

use runner_core::function::{Function, FunctionKind, FunctionOptions, PayloadSchema};
use runner_core::limit::TaskLimit;
use runner_core::notification::NotifyRules;
use runner_core::schedule::{Definition, Origin, Overlap, ScheduleId, Source, stable_hash};
use runner_core::task::Task;
use runner_core::trigger::{ON_START, TRIGGER_HEADER, TriggerDefinition, TriggerId, TriggerKind};

use super::kinds;
use super::limits::{LIMITS, read_limits};
use super::notification::{read_expect, read_notify, read_ping_url};
use super::options::{TASK_OPTIONS, read_task_options};
use super::payload::ManifestPayload;
use super::payload_schema::read_payload_schema;
use super::places::{self, MAX_FUNCTION_NAME};
use super::schedule::{ScheduleContext, Scheduled, read_schedules};
use super::triggers::{ReadTrigger, TriggerContext, read_triggers};
use crate::source::calls::{BAD_PAYLOAD, NOT_TRIGGERED};
use crate::text::yaml::{Mark, Node, Value};
use crate::text::{Field, Fields, Report, quoted};

const ABOUT: [&str; 11] = [
    "apiVersion",
    "kind",
    "name",
    "description",
    "enabled",
    "schedule",
    "triggers",
    ON_START,
    "notify",
    "expect",
    "ping_url",
];

/// A function and what triggers it.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionEntry {
    /// What can be run.
    pub function: Function,
    /// Where its document begins.
    pub origin: Origin,
    /// When it is run; may be empty.
    pub schedules: Vec<Definition>,
    /// What else runs it; may be empty.
    pub triggers: Vec<TriggerDefinition>,
}

/// Reads one document. What it returns is in force only if nothing was reported as an error.
pub fn read_function(node: &Node, context: &ScheduleContext, report: &mut Report<'_>) -> Option<FunctionEntry> {
    let before = report.errors();
    let known = known_keys();
    let fields = Fields::read(node, "", &known, report)?;
    read_version(&fields, report);
    let name = read_name(&fields, report);
    let description = fields.get("description", report).and_then(|f| f.text("E114", report));
    let description = description.unwrap_or_default().trim().to_owned();
    let enabled = fields.get("enabled", report).and_then(|f| f.flag("E120", report));
    let kind = kinds::read_kind(&fields, report);
    let options = read_task_options(&fields, report);
    let limits = read_limits(&fields, (context.semaphores, options.queue.as_ref()), report);
    let (payload, payload_mark) = read_own_payload(&fields, report).unzip();
    let schema = fields.get("payload_schema", report);
    let schema = schema.and_then(|f| read_payload_schema(f, report));
    let notify = read_rules(&fields, context, report);
    // Schedules are read under any name, so that all errors show at once.
    let scheduled = match fields.get("schedule", report) {
        Some(f) => read_schedules(f, name.unwrap_or("unnamed"), context, report),
        None => Vec::new(),
    };
    let given = TriggerContext::new(context, payload.as_ref());
    let triggered = read_started(&fields, name, &scheduled, &given, report);
    if let Some(kind) = &kind {
        let first = scheduled.first().map(|s| &s.id);
        judge(kind, first, enabled.unwrap_or(true), &fields, context, report);
    }
    // A misspelt "schedule" is reported once, as a misspelling; a handler with options states them for its type.
    let handler = kind.as_ref().is_some_and(|kind| kind.handler_type().is_some());
    let stated = options != FunctionOptions::default() || schema.is_some() || !limits.is_empty();
    let started = ["schedule", "triggers"].iter().any(|key| fields.peek(key).is_some()) || !triggered.is_empty();
    let unscheduled = !(started || handler && stated) && report.errors() == before;
    let kind = kind?;
    let revision = revision_of(&kind, &options, &limits, schema.as_ref(), &description);
    let function = Function {
        name: name?.to_owned(),
        description,
        kind,
        options,
        payload: payload.as_ref().map(|payload| payload.to_json().into_bytes().into()),
        payload_schema: schema,
        limits,
        notify,
        revision,
    };
    if unscheduled {
        warn_not_triggered(&function, node.mark, report);
    }
    let mut template = Task::new(function.task_type());
    function.task_options().apply(&mut template);
    let enabled = enabled.unwrap_or(true);
    let define = |s: Scheduled, report: &mut Report<'_>| {
        let task = with_payload(&template, payload.as_ref(), s.payload.as_ref(), s.mark, report);
        check_payload(&function, &task, (&s, payload_mark), report);
        let definition = Definition {
            description: function.description.clone(),
            enabled,
            notify: s.notify.or(&function.notify),
            ..Definition::new(s.id, &function.name, origin(s.mark, report), s.timing, task)
        };
        s.policies.of(Overlap::default(), definition)
    };
    let schedules = scheduled.into_iter().map(|s| define(s, report)).collect();
    let triggers = triggered
        .into_iter()
        .map(|t| listening(t, &function, enabled, &template, report));
    let triggers = triggers.collect();
    Some(FunctionEntry {
        origin: origin(node.mark, report),
        function,
        schedules,
        triggers,
    })
}

/// All keys of a document.
fn known_keys() -> Vec<&'static str> {
    let payload = ["payload", "payload_schema"];
    [&ABOUT[..], &kinds::keys(), &payload, TASK_OPTIONS, LIMITS].concat()
}

/// The payload of the function, and where it is.
fn read_own_payload(fields: &Fields<'_>, report: &mut Report<'_>) -> Option<(ManifestPayload, Mark)> {
    let field = fields.peek("payload").filter(|f| f.node.value != Value::Null)?;
    let payload = ManifestPayload::read(field.node, "payload", report)?;
    Some((payload, field.node.mark))
}

fn warn_not_triggered(function: &Function, mark: Mark, report: &mut Report<'_>) {
    let name = &function.name;
    let text = format!("no manifest schedules this function; `runner run {name}` runs it by hand");
    report.warning(NOT_TRIGGERED, mark, text).function = Some(function.task_type());
}

/// Who hears of it, and what is expected of it.
fn read_rules(fields: &Fields<'_>, context: &ScheduleContext, report: &mut Report<'_>) -> NotifyRules {
    let mut rules = match fields.get("notify", report) {
        Some(f) => read_notify(f, &context.channels, report),
        None => NotifyRules::default(),
    };
    if let Some(f) = fields.get("expect", report) {
        rules.expect = read_expect(f, report);
    }
    rules.ping_url = fields.get("ping_url", report).and_then(|f| read_ping_url(f, report));
    rules
}

/// Changes with everything that a function says of itself.
fn revision_of(
    kind: &FunctionKind,
    options: &FunctionOptions,
    limits: &[TaskLimit],
    schema: Option<&PayloadSchema>,
    description: &str,
) -> String {
    let mut stated = format!("{kind:?}{options:?}");
    // Functions without limits keep the revision that they had before there were any.
    if !limits.is_empty() {
        stated += &format!("{limits:?}");
    }
    stated.push_str(schema.map_or("", PayloadSchema::text));
    format!("{:016x}", stable_hash(&[&stated, description]))
}

/// Triggers are read under any name too.
fn read_started(
    fields: &Fields<'_>,
    name: Option<&str>,
    scheduled: &[Scheduled],
    context: &TriggerContext<'_>,
    report: &mut Report<'_>,
) -> Vec<ReadTrigger> {
    let ids: Vec<ScheduleId> = scheduled.iter().map(|s| s.id.clone()).collect();
    let name = name.unwrap_or("unnamed");
    let mut all = match fields.get("triggers", report) {
        Some(f) => read_triggers(f, name, &ids, context, report),
        None => Vec::new(),
    };
    let Some(field) = fields.get(ON_START, report) else {
        return all;
    };
    if field.flag("E120", report) == Some(true) {
        let id = TriggerId::new(name, ON_START);
        if all.iter().any(|other| other.id == id) || ids.contains(&ScheduleId::manifest(name, ON_START)) {
            let text = "the id \"on_start\" is used twice; a function with on_start needs it for that";
            report.error("E140", field.node.mark, text);
            return all;
        }
        all.push(ReadTrigger {
            id,
            mark: field.node.mark,
            kind: TriggerKind::Start,
        });
    }
    all
}

/// A payload that the schema of the function does not accept is an error here, so that its schedule never fires it.
fn check_payload(
    function: &Function,
    task: &Task,
    (scheduled, of_function): (&Scheduled, Option<Mark>),
    report: &mut Report<'_>,
) {
    let payload = task.payload.as_deref().unwrap_or_default();
    let fault = function
        .payload_schema
        .as_ref()
        .and_then(|schema| schema.fault(payload));
    if let Some(fault) = fault {
        let text = format!("{}: {fault}", scheduled.id);
        let written = scheduled.payload_mark.or(of_function).unwrap_or(scheduled.mark);
        report.error(BAD_PAYLOAD, written, text).schedule = Some(scheduled.id.clone());
    }
}

fn listening(
    read: ReadTrigger,
    function: &Function,
    enabled: bool,
    template: &Task,
    report: &Report<'_>,
) -> TriggerDefinition {
    TriggerDefinition {
        function: function.name.clone(),
        origin: origin(read.mark, report),
        enabled,
        task: template
            .clone()
            .header(TRIGGER_HEADER, read.id.as_str())
            .started_by(read.kind.key(), &read.kind.event()),
        kind: read.kind,
        payload_schema: function.payload_schema.clone(),
        id: read.id,
    }
}

fn origin(mark: Mark, report: &Report<'_>) -> Origin {
    Origin {
        source: Source::Manifest,
        place: report.place(mark),
    }
}

fn with_payload(
    template: &Task,
    base: Option<&ManifestPayload>,
    over: Option<&ManifestPayload>,
    mark: Mark,
    report: &mut Report<'_>,
) -> Task {
    let payload = match (base, over) {
        (Some(base), Some(over)) => base.merged(over).or_else(|| {
            let text = "the function's payload must be a map, so that the schedule's can be merged over it";
            report.error("E221", mark, text);
            None
        }),
        (one, None) | (None, one) => one.cloned(),
    };
    let mut task = template.clone();
    task.payload = payload.map(|p| p.to_json().into_bytes().into());
    task
}

/// Manifests need neither `apiVersion` nor `kind`; if given, both must have the supported value.
fn read_version(fields: &Fields<'_>, report: &mut Report<'_>) {
    if let Some(field) = fields.get("apiVersion", report)
        && field.node.value != Value::Text("runner/v1".to_owned())
    {
        let text = format!(
            "unsupported apiVersion, found {}; this runner reads runner/v1",
            field.node.value.describe()
        );
        report.error("E101", field.node.mark, text);
    }
    if let Some(field) = fields.get("kind", report)
        && field.node.value != Value::Text("Function".to_owned())
    {
        let text = format!("unknown kind, found {}; expected Function", field.node.value.describe());
        report.error("E102", field.node.mark, text);
    }
}

fn read_name<'a>(fields: &Fields<'a>, report: &mut Report<'_>) -> Option<&'a str> {
    let Some(field) = fields.get("name", report) else {
        if fields.peek("name").is_none() {
            report.error("E111", fields.mark, "name is required");
        }
        return None;
    };
    let name = field.text("E111", report)?;
    if places::is_name(name, MAX_FUNCTION_NAME) {
        return Some(name);
    }
    refuse_name(field, name, report);
    None
}

fn refuse_name(field: &Field<'_>, name: &str, report: &mut Report<'_>) {
    let text = format!(
        "name {} may use a-z, 0-9, \".\", \"_\", \"-\", begin and end with a letter or digit, at most {MAX_FUNCTION_NAME}",
        quoted(name)
    );
    let slug: String = name
        .to_lowercase()
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "._-".contains(c) {
                c
            } else {
                '-'
            }
        })
        .collect();
    let slug = slug.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let hint = places::is_name(slug, MAX_FUNCTION_NAME).then(|| slug.to_owned());
    report.error("E112", field.node.mark, text).hint = hint;
}

/// Reports problems of the function's action; warnings are about its schedules, of which `first` is
/// one. Nothing runs a disabled function, so what this worker lacks for it is not reported.
fn judge(
    kind: &FunctionKind,
    first: Option<&ScheduleId>,
    enabled: bool,
    fields: &Fields<'_>,
    context: &ScheduleContext,
    report: &mut Report<'_>,
) {
    let mark = fields.peek(kind.key()).map_or(fields.mark, |f| f.node.mark);
    for (what, hint) in kinds::doubts(kind) {
        let warning = report.warning("W301", mark, what);
        (warning.hint, warning.schedule) = (Some(hint), first.cloned());
    }
    let Some(finding) = context.vet.doubt(kind) else { return };
    let hint = finding.hint.map(str::to_owned);
    if finding.refused {
        report.error(finding.code, mark, finding.message).hint = hint;
    } else if enabled {
        let warning = report.warning(finding.code, mark, finding.message);
        (warning.hint, warning.schedule) = (hint, first.cloned());
    }
}
