//! The `schedule` of a function: a text, a map, or a list of maps.

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, tz};

use runner_core::cron::{self, CronError, DstRule, Expression};
use runner_core::function::FunctionOptions;
use runner_core::limit::SemaphoreReach;
use runner_core::notification::NotifyRules;
use runner_core::schedule::{Overlap, ScheduleId, Timing, When};

use super::notification::{read_expect, read_notify};
use super::options::{POLICIES, Policies, TASK_OPTIONS, TIMING, clipped_jitter, read_policies, read_task_options};
use super::payload::ManifestPayload;
use crate::source::function_check::FunctionCheck;
use crate::text::yaml::{Mark, Node, Value};
use crate::text::{Field, Fields, Report, quoted};

/// The most expressions of one schedule and the most instants of `at`.
const MAX_RULES: usize = 100;

/// The longest interval; enough for any use, and short compared with the epoch.
const MAX_EVERY: Duration = Duration::from_secs(366 * 86_400);

/// The defaults of a text.
#[derive(Debug, Clone)]
pub struct ScheduleContext {
    /// IANA name of the zone, for people.
    pub zone_name: String,
    /// The zone.
    pub zone: TimeZone,
    /// What happens when clocks change.
    pub dst: DstRule,
    /// Checks what functions run.
    pub vet: FunctionCheck,
    /// The connections to RabbitMQ that the settings name.
    pub rabbitmq: Vec<String>,
    /// The connections to Redis that triggers may name.
    pub redis: Vec<String>,
    /// The channels of notifications that the settings name.
    pub channels: Vec<String>,
    /// Which semaphores the broker can count.
    pub semaphores: SemaphoreReach,
}

impl ScheduleContext {
    /// An instant for display: whole seconds, with the offset of the zone of the settings.
    #[must_use]
    pub fn shown(&self, at: Timestamp) -> String {
        let local = at.to_zoned(self.zone.clone());
        local.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string()
    }
}

/// One schedule of a function, read.
pub struct Scheduled {
    /// Identity over all sources.
    pub id: ScheduleId,
    /// Where it begins.
    pub mark: Mark,
    /// When it occurs.
    pub timing: Timing,
    /// Its policies for overlap, lateness and jitter.
    pub policies: Policies,
    /// Merged over the function's payload.
    pub payload: Option<ManifestPayload>,
    /// Where that is.
    pub payload_mark: Option<Mark>,
    /// Over which channels people hear of it.
    pub notify: NotifyRules,
}

/// The overlap policy of a schedule in code that states none: such code often comes from schedulers that never check
/// whether the previous task has ended.
pub const CODED_OVERLAP: Overlap = Overlap::Allow;

/// Reads every schedule of the function called `function`.
pub fn read_schedules(
    field: &Field<'_>,
    function: &str,
    context: &ScheduleContext,
    report: &mut Report<'_>,
) -> Vec<Scheduled> {
    let node = field.node;
    match &node.value {
        Value::Text(_) => {
            let id = ScheduleId::manifest(function, "default");
            let timing = read_cron_text(field, &id, None, context, report);
            let policies = Policies::default();
            let mark = node.mark;
            let one = timing.map(|timing| Scheduled {
                id,
                mark,
                timing,
                policies,
                payload: None,
                payload_mark: None,
                notify: NotifyRules::default(),
            });
            one.into_iter().collect()
        }
        Value::Map(_) => read_one(node, "schedule", function, false, context, report)
            .into_iter()
            .collect(),
        Value::List(items) if !items.is_empty() => {
            let needs_id = items.len() > 1;
            let mut all: Vec<Scheduled> = Vec::with_capacity(items.len());
            for (index, item) in items.iter().enumerate() {
                let path = format!("schedule[{index}]");
                let Some(one) = read_one(item, &path, function, needs_id, context, report) else {
                    continue;
                };
                if let Some(first) = all.iter().find(|s| s.id == one.id) {
                    let text = format!(
                        "schedule id of {} is used twice (lines {}, {})",
                        one.id, first.mark.line, one.mark.line
                    );
                    report.error("E140", one.mark, text);
                    continue;
                }
                all.push(one);
            }
            all
        }
        _ => {
            field.mismatch::<()>("E200", "a string, a map or a list of maps", report);
            Vec::new()
        }
    }
}

fn read_one(
    node: &Node,
    path: &str,
    function: &str,
    needs_id: bool,
    context: &ScheduleContext,
    report: &mut Report<'_>,
) -> Option<Scheduled> {
    let fields = Fields::read(
        node,
        path,
        &[&["id"], TIMING, POLICIES, &["payload", "notify", "expect"]].concat(),
        report,
    )?;
    let name = match fields.get("id", report) {
        Some(field) => read_id(field, report),
        None if needs_id && fields.peek("id").is_none() => {
            let text = format!("{path} needs an id because there is more than one schedule");
            report.error("E201", node.mark, text);
            None
        }
        None => (!needs_id).then(|| "default".to_owned()),
    };
    let id = ScheduleId::manifest(function, name.as_deref().unwrap_or("default"));
    let read = read_fields(&fields, path, id, Overlap::default(), context, report);
    name.as_ref()?;
    read
}

/// Reads a schedule in code, given as a map, and the options of its tasks. Its name is its id, and its payload that of its
/// task.
pub fn read_coded(
    node: &Node,
    id: ScheduleId,
    context: &ScheduleContext,
    report: &mut Report<'_>,
) -> Option<(Scheduled, FunctionOptions)> {
    let path = "schedule";
    let fields = Fields::read(node, path, &[TIMING, POLICIES, TASK_OPTIONS].concat(), report)?;
    let read = read_fields(&fields, path, id, CODED_OVERLAP, context, report);
    let options = read_task_options(&fields, report);
    read.map(|read| (read, options))
}

/// The part that is the same in manifests and code; `overlap` is the default policy.
fn read_fields(
    fields: &Fields<'_>,
    path: &str,
    id: ScheduleId,
    overlap: Overlap,
    context: &ScheduleContext,
    report: &mut Report<'_>,
) -> Option<Scheduled> {
    let own_zone = fields.get("timezone", report).map(|f| (f, read_zone(f, report)));
    let inner = match &own_zone {
        Some((_, Some((zone_name, zone)))) => ScheduleContext {
            zone_name: zone_name.clone(),
            zone: zone.clone(),
            dst: context.dst,
            vet: context.vet.clone(),
            rabbitmq: context.rabbitmq.clone(),
            redis: context.redis.clone(),
            channels: context.channels.clone(),
            semaphores: context.semaphores,
        },
        _ => context.clone(),
    };
    let zone_field = own_zone.as_ref().map(|(field, _)| *field);
    let timing = read_timing(fields, path, &id, zone_field, &inner, report);
    let policies = read_policies(fields, overlap, report);
    if let (Some(timing), Some(field)) = (&timing, fields.peek("jitter"))
        && let Some((room, gap)) = clipped_jitter(timing, policies.jitter)
    {
        let show = runner_core::duration::format;
        let text = format!(
            "jitter {} is clipped to {}, half of the {} interval",
            show(policies.jitter),
            show(room),
            show(gap)
        );
        report.warning("W223", field.node.mark, text);
    }
    let payload = read_payload(fields, report);
    let mut notify = match fields.get("notify", report) {
        Some(f) => read_notify(f, &context.channels, report),
        None => NotifyRules::default(),
    };
    if let Some(f) = fields.get("expect", report) {
        notify.expect = read_expect(f, report);
    }
    Some(Scheduled {
        id,
        mark: fields.mark,
        timing: timing?,
        policies,
        payload_mark: fields
            .peek("payload")
            .filter(|_| payload.is_some())
            .map(|field| field.node.mark),
        payload,
        notify,
    })
}

fn read_payload(fields: &Fields<'_>, report: &mut Report<'_>) -> Option<ManifestPayload> {
    let field = fields.peek("payload").filter(|f| f.node.value != Value::Null)?;
    let payload = ManifestPayload::read(field.node, &field.path, report)?;
    if let ManifestPayload::Other(_) = payload {
        let text = format!("{} must be a map so that it can be merged", field.path);
        report.error("E221", field.node.mark, text);
        return None;
    }
    Some(payload)
}

/// An id: letters, digits, `.`, `_` and `-`, at most 40.
fn read_id(field: &Field<'_>, report: &mut Report<'_>) -> Option<String> {
    let id = field.text("E201", report)?;
    if super::places::is_name(id, 40) {
        return Some(id.to_owned());
    }
    let text = format!(
        "{} {} may use a-z, 0-9, \".\", \"_\", \"-\", at most 40",
        field.path,
        quoted(id)
    );
    report.error("E201", field.node.mark, text);
    None
}

/// A zone by its IANA name.
pub fn read_zone(field: &Field<'_>, report: &mut Report<'_>) -> Option<(String, TimeZone)> {
    let name = field.text("E210", report)?;
    match cron::find_zone(name) {
        Ok(zone) => Some((name.to_owned(), zone)),
        Err(error) => {
            report.error("E210", field.node.mark, error.to_string());
            None
        }
    }
}

fn read_timing(
    fields: &Fields<'_>,
    path: &str,
    id: &ScheduleId,
    zone: Option<&Field<'_>>,
    context: &ScheduleContext,
    report: &mut Report<'_>,
) -> Option<Timing> {
    let rules = ["cron", "every", "at"];
    let given: Vec<&str> = rules.into_iter().filter(|r| fields.peek(r).is_some()).collect();
    let [rule] = given.as_slice() else {
        let text = if given.is_empty() {
            format!("{path} needs one of cron, every, at")
        } else {
            format!("{path} has {}; keep one", given.join(" and "))
        };
        report.error("E202", fields.mark, text);
        return None;
    };
    let field = fields.get(rule, report)?;
    match (*rule, &field.node.value) {
        ("cron", Value::List(items)) => read_cron_list(field, items, id, zone, context, report),
        ("cron", _) => read_cron_text(field, id, zone, context, report),
        ("every", _) => {
            let every = field.seconds("E207", Duration::from_secs(1)..=MAX_EVERY, report)?;
            let when = Timing::every(id.as_str(), every);
            Some(timing(
                when,
                format!("@every {}", runner_core::duration::format(every)),
                context,
            ))
        }
        _ => read_at(field, context, report),
    }
}

fn timing(when: When, text: String, context: &ScheduleContext) -> Timing {
    Timing {
        when,
        text,
        zone_name: context.zone_name.clone(),
        zone: context.zone.clone(),
        dst: context.dst,
    }
}

/// One expression, `@every` and `CRON_TZ=` included.
fn read_cron_text(
    field: &Field<'_>,
    id: &ScheduleId,
    zone: Option<&Field<'_>>,
    context: &ScheduleContext,
    report: &mut Report<'_>,
) -> Option<Timing> {
    let text = field.text("E203", report)?;
    let expression = read_expression(&field.path, text, field.node.mark, id, report)?;
    if let (Some(zone), Some(_)) = (zone, expression.zone_name()) {
        let text = "time zone is set both in \"CRON_TZ=\" and in timezone; keep one";
        report.error("E211", zone.key, text);
        return None;
    }
    Timing::parse(id.as_str(), text, &context.zone_name, &context.zone, context.dst).ok()
}

fn read_cron_list(
    field: &Field<'_>,
    items: &[Node],
    id: &ScheduleId,
    zone: Option<&Field<'_>>,
    context: &ScheduleContext,
    report: &mut Report<'_>,
) -> Option<Timing> {
    if let [one] = items {
        let field = Field {
            node: one,
            ..field.clone()
        };
        return read_cron_text(&field, id, zone, context, report);
    }
    if items.is_empty() || items.len() > MAX_RULES {
        let text = format!("{} must list 1-{MAX_RULES} expressions", field.path);
        report.error("E203", field.node.mark, text);
        return None;
    }
    let (mut expressions, mut texts) = (Vec::new(), Vec::new());
    for (index, item) in items.iter().enumerate() {
        let item = Field {
            path: format!("{}[{index}]", field.path),
            key: item.mark,
            node: item,
        };
        let Some(text) = item.text("E203", report) else {
            continue;
        };
        let Some(read) = read_expression(&item.path, text, item.node.mark, id, report) else {
            continue;
        };
        if read.every().is_some() || read.zone_name().is_some() {
            let text = format!("{}: @every and CRON_TZ= cannot be part of a list", item.path);
            report.error("E203", item.node.mark, text).hint =
                Some("write a schedule of its own, or use timezone".to_owned());
            continue;
        }
        expressions.push(read);
        texts.push(text.trim().to_owned());
    }
    (expressions.len() == items.len()).then(|| timing(When::Cron(expressions), texts.join(" | "), context))
}

/// Parses an expression; errors point into it, and its oddities become warnings.
fn read_expression(path: &str, text: &str, mark: Mark, id: &ScheduleId, report: &mut Report<'_>) -> Option<Expression> {
    let refuse = |error: &CronError, report: &mut Report<'_>| {
        let place = report.inside(mark, text, error.span());
        let message = format!("{path} {}: {error}", quoted(text));
        report.error(error.code(), place, message).hint = error.hint();
    };
    match Expression::parse(text) {
        Ok(expression) if expression.never_fires() => {
            refuse(&CronError::never(&expression.to_string()), report);
            None
        }
        Ok(expression) => {
            // W250 is about Go schedulers, which read rows and never files.
            for lint in cron::lint(&expression).into_iter().filter(|l| l.code != "W250") {
                let warning = report.warning(lint.code, mark, lint.message);
                (warning.hint, warning.schedule) = (lint.hint, Some(id.clone()));
            }
            Some(expression)
        }
        Err(error) => {
            refuse(&error, report);
            None
        }
    }
}

fn read_at(field: &Field<'_>, context: &ScheduleContext, report: &mut Report<'_>) -> Option<Timing> {
    let items = match &field.node.value {
        Value::List(items) if (1..=MAX_RULES).contains(&items.len()) => items.as_slice(),
        Value::List(_) => {
            let text = format!("{} must list 1-{MAX_RULES} instants", field.path);
            report.error("E209", field.node.mark, text);
            return None;
        }
        _ => std::slice::from_ref(field.node),
    };
    let (mut instants, mut texts) = (Vec::new(), Vec::new());
    for item in items {
        let Value::Text(text) = &item.value else {
            let text = format!(
                "{} must be a time such as 2026-12-24T22:00:00, found {}",
                field.path,
                item.value.describe()
            );
            report.error("E209", item.mark, text);
            continue;
        };
        match read_instant(text.trim(), context) {
            Ok(instant) => {
                instants.push(instant);
                texts.push(text.trim().to_owned());
            }
            Err(why) => {
                let text = format!("{} {} {why}", field.path, quoted(text));
                report.error("E209", item.mark, text);
            }
        }
    }
    if instants.len() < items.len() {
        return None;
    }
    instants.sort_unstable();
    instants.dedup();
    Some(timing(When::At(instants), texts.join(" | "), context))
}

/// An instant with an offset, or a local time of the zone that exists once.
fn read_instant(text: &str, context: &ScheduleContext) -> Result<Timestamp, String> {
    let instant = if let Ok(instant) = text.parse::<Timestamp>() {
        instant
    } else {
        let local: DateTime = text
            .parse()
            .map_err(|_| "is not a time such as 2026-12-24T22:00:00 or 2026-12-24T22:00:00Z")?;
        let ambiguous = context.zone.to_ambiguous_timestamp(local);
        match ambiguous.offset() {
            tz::AmbiguousOffset::Gap { .. } => {
                return Err(format!(
                    "does not exist in {}: the clocks jump over it",
                    context.zone_name
                ));
            }
            _ => ambiguous.compatible().map_err(|_| "is out of range")?,
        }
    };
    if instant.subsec_nanosecond() != 0 {
        return Err("must be a whole second".to_owned());
    }
    Ok(instant)
}
