//! `runner check`: everything that is wrong with the settings, the manifests and the rows of the table, without
//! starting anything.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use runner_core::cron::TIMING_LINTS;
use runner_core::schedule::{Definition, Problem, Served, Severity, Source, no_occurrence_left, not_served};
use runner_sdk::{Function, Functions};
use serde_json::{Value, json};

use super::app::Registrar;
use super::exit::{self, ProblemsFound};
use super::{CommandContext, check_broker as broker, defaults, print, room_settings, temporary};
use crate::config::{Refused, Settings};
use crate::source::{Catalog, Code, check_paths, drop_triggered};
use crate::text::signs;

/// How long the database may take to answer: a check must be quick where there is none.
const TABLE_LIMIT: Duration = Duration::from_secs(3);

/// Checks settings, manifests and the rows of the table: all errors at once, exit code 65 if there are any.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner check\n  \
    runner check manifests/nightly.yaml deploy/manifests\n  \
    runner check --offline\n  \
    runner check --json | jq -r '.[] | .place + \" \" + .code'")]
pub struct Check {
    /// Manifest files or directories, and nothing else [default: manifests.dir and the table]
    paths: Vec<PathBuf>,
    /// As an array of objects
    #[arg(long)]
    json: bool,
    /// Looks at texts only: neither for the programs that commands start, nor at the broker, nor at the table
    #[arg(long)]
    offline: bool,
}

impl Check {
    pub async fn run(self, context: &CommandContext, registrars: Vec<Registrar>) -> anyhow::Result<()> {
        let mut findings = Vec::new();
        let settings = read_settings(context, &mut findings)?;
        // Manifests depend on the settings only by their zone; with bad settings the defaults serve to check.
        let fallback = Settings::parse("(defaults)", "", &crate::config::Environment::default())?;
        let read = settings;
        let settings = read.unwrap_or(&fallback);
        if let Err(error) = room_settings::handlers(settings, registrars, Functions::default(), false) {
            findings.push(finding("error", "CODE", "code", &format!("{error:#}"), None, None));
        }
        let code = room_settings::read_code(settings, context.schedules.clone());
        findings.extend(code.errors().map(of_source));
        if self.paths.is_empty() {
            findings.extend(missing_directory(settings));
        }
        let paths = self.paths(settings);
        let mut checked = check_paths(&paths, &room_settings::checked(settings, !self.offline));
        let whole = self.paths.is_empty() && read.is_some();
        let table = match whole && !self.offline {
            true => table_findings(context, settings).await,
            false => TableFindings::default(),
        };
        if whole {
            drop_triggered(&mut checked.problems, &code.definitions);
            drop_triggered(&mut checked.problems, &table.definitions);
        }
        let now = context.clock.now();
        let doubt = |p: &Problem| with_next(of_source(p), p, &checked.definitions, now);
        findings.extend(checked.problems.iter().map(doubt));
        findings.extend(no_occurrence_left(&checked.definitions, now).iter().map(of_source));
        findings.extend(unserved(settings, &checked.definitions));
        let mut known = BTreeSet::new();
        if whole {
            findings.extend(code_findings(context, settings, code).await);
            if !self.offline {
                findings.extend(temporary::doubt(settings).as_ref().map(of_setting));
                findings.extend(table.findings);
                let broker = broker::look(context, settings, &checked.definitions).await;
                findings.extend(broker.findings);
                known = broker.known;
            }
        }
        let errors = findings.iter().filter(|f| f["severity"] == "error").count();
        if self.json {
            print::json(&Value::Array(findings))?;
        } else {
            let is_known = |f: &&Function| {
                checked
                    .definitions
                    .iter()
                    .any(|d| d.name == f.name && known.contains(&d.id))
            };
            let new: Vec<&Function> = checked.functions.iter().filter(|f| !is_known(f)).collect();
            let notes = defaults::notes(&new);
            print::text(&report(&findings, &notes, errors, read))?;
        }
        if errors > 0 {
            Err(ProblemsFound(errors).into())
        } else {
            Ok(())
        }
    }

    fn paths(&self, settings: &Settings) -> Vec<PathBuf> {
        if !self.paths.is_empty() {
            return self.paths.clone();
        }
        let dir = settings.manifests.as_ref().map(|m| m.dir.clone());
        dir.into_iter().filter(|d| d.exists()).collect()
    }
}

/// The settings, or `None` when they have errors; their warnings and errors become findings.
///
/// # Errors
///
/// A settings file that was named and cannot be read: the call is wrong, not the file.
fn read_settings<'c>(context: &'c CommandContext, findings: &mut Vec<Value>) -> anyhow::Result<Option<&'c Settings>> {
    match context.settings() {
        Ok(settings) => {
            findings.extend(settings.warnings.iter().map(of_setting));
            Ok(Some(settings))
        }
        Err(error) => match error.downcast::<Refused>() {
            Ok(refused) if refused.0.iter().all(|p| p.code == "CFG_READ") => Err(refused.into()),
            Ok(refused) => {
                findings.extend(refused.0.iter().map(of_setting));
                Ok(None)
            }
            Err(error) => Err(error),
        },
    }
}

/// A directory of manifests that is not there, unless the settings have said so.
fn missing_directory(settings: &Settings) -> Option<Value> {
    let dir = &settings.manifests.as_ref()?.dir;
    let known = settings.warnings.iter().any(|w| w.code == "CFG_DIR");
    if known || dir.exists() {
        return None;
    }
    let (place, hint) = (
        dir.display().to_string(),
        "`runner init` makes one with a sample; manifests.dir names another",
    );
    let message = "there is no manifest directory yet";
    Some(finding("warning", "W107", &place, message, None, Some(hint)))
}

/// Schedules whose tasks the worker of these settings would not take.
fn unserved<'a>(settings: &Settings, definitions: impl IntoIterator<Item = &'a Definition>) -> Vec<Value> {
    if !settings.roles.worker {
        return Vec::new();
    }
    let served = Served::Here(settings.worker.queues.keys().cloned().collect());
    not_served(definitions, &served).iter().map(of_source).collect()
}

/// What is doubtful about schedules in code, with what their functions say about their tasks.
async fn code_findings(context: &CommandContext, settings: &Settings, code: Code) -> Vec<Value> {
    let mut sources = room_settings::sources(settings, code);
    sources.table = None;
    let plan = Catalog::load_once(sources, context.clock.clone()).await.plan;
    let code = plan.schedules.values().filter(|d| d.origin.source == Source::Code);
    let definitions: Vec<Definition> = code.cloned().collect();
    let now = context.clock.now();
    // Errors are reported whether or not anything else is looked at.
    let doubts = plan.problems.iter();
    let doubts = doubts.filter(|p| p.origin.source == Source::Code && p.severity == Severity::Warning);
    doubts
        .map(|p| with_next(of_source(p), p, &definitions, now))
        .chain(unserved(settings, &definitions))
        .collect()
}

/// The rows, and what is wrong with them.
#[derive(Default)]
struct TableFindings {
    findings: Vec<Value>,
    definitions: Vec<Definition>,
}

/// What is wrong with the rows; that they cannot be read now is no fault of theirs.
async fn table_findings(context: &CommandContext, settings: &Settings) -> TableFindings {
    let sources = room_settings::looked_at(settings, Code::default());
    let Some(table) = sources.table.clone() else {
        return TableFindings::default();
    };
    let unread = |reason: &str| {
        let text = format!("the table cannot be read, so its rows are not checked: {reason}");
        TableFindings {
            findings: vec![finding("warning", "D109", &table.place(), &text, None, None)],
            definitions: Vec::new(),
        }
    };
    let loaded = Catalog::load_once(sources, context.clock.clone());
    let Ok(loaded) = tokio::time::timeout(TABLE_LIMIT, loaded).await else {
        return unread(&format!("no answer within {}s", TABLE_LIMIT.as_secs()));
    };
    let problems = loaded.plan.problems.iter().filter(|p| p.origin.source == Source::Table);
    let rows = loaded
        .plan
        .schedules
        .values()
        .filter(|d| d.origin.source == Source::Table);
    let definitions: Vec<Definition> = rows.cloned().collect();
    let now = context.clock.now();
    let doubt = |p: &Problem| with_next(of_source(p), p, &definitions, now);
    let findings: Vec<Value> = problems.map(doubt).chain(unserved(settings, &definitions)).collect();
    let status = loaded.statuses.iter().find(|s| s.source == Source::Table);
    match status.and_then(|s| s.state.reason()) {
        Some(reason) if findings.is_empty() => unread(reason),
        _ => TableFindings { findings, definitions },
    }
}

fn of_source(p: &Problem) -> Value {
    let severity = if exit::is_error(p) { "error" } else { "warning" };
    let (excerpt, hint) = (p.excerpt.as_deref(), p.hint.as_deref());
    finding(severity, &p.code, &p.origin.place, &p.message, excerpt, hint)
}

/// A doubt about when a schedule fires, with when that would be.
fn with_next(mut finding: Value, problem: &Problem, definitions: &[Definition], now: Timestamp) -> Value {
    /// Enough to see a rhythm.
    const NEXT: usize = 4;
    let doubted = TIMING_LINTS.contains(&problem.code.as_str());
    let about = |d: &&Definition| doubted && problem.schedule.as_ref() == Some(&d.id);
    if let Some(definition) = definitions.iter().find(about) {
        let timing = &definition.timing;
        let next = timing
            .upcoming(now, NEXT)
            .into_iter()
            .map(|at| at.to_zoned(timing.zone.clone()));
        finding["next"] = next
            .map(|at| at.strftime("%a %Y-%m-%d %H:%M:%S %Z").to_string())
            .collect();
    }
    finding
}

fn of_setting(p: &crate::config::Problem) -> Value {
    let severity = match p.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    finding(
        severity,
        p.code,
        &p.place,
        &p.message,
        p.excerpt.as_deref(),
        p.hint.as_deref(),
    )
}

pub(super) fn finding(
    severity: &str,
    code: &str,
    place: &str,
    message: &str,
    excerpt: Option<&str>,
    hint: Option<&str>,
) -> Value {
    json!({
        "severity": severity, "code": code, "place": place, "message": message, "excerpt": excerpt, "hint": hint,
    })
}

fn report(findings: &[Value], notes: &[String], errors: usize, settings: Option<&Settings>) -> String {
    let mut out = String::new();
    for f in findings {
        let text = |key: &str| f[key].as_str().unwrap_or_default();
        let severity = if f["severity"] == "error" { "" } else { "warning " };
        let finding = print::Finding {
            place: text("place"),
            code: &format!("{severity}{}", text("code")),
            message: text("message"),
            excerpt: f["excerpt"].as_str(),
            hint: f["hint"].as_str(),
        };
        out += &finding.lines();
        out += "\n";
        if let Some(next) = f["next"].as_array().filter(|next| !next.is_empty()) {
            let next: Vec<&str> = next.iter().filter_map(Value::as_str).collect();
            out += &format!("  next: {}\n", signs::line(&next.join(", ")));
        }
    }
    for note in notes {
        out += &format!("note: {}\n", signs::line(note));
    }
    let origin = match settings {
        None => String::new(),
        Some(settings) => match &settings.origin {
            Some(path) => format!(" (settings: {})", signs::line(&path.display().to_string())),
            None => " (settings: defaults)".to_owned(),
        },
    };
    let warnings = findings.len() - errors;
    out + &format!(
        "{}, {}{origin}\n",
        counted(errors, "error"),
        counted(warnings, "warning")
    )
}

fn counted(count: usize, word: &str) -> String {
    format!("{count} {word}{}", if count == 1 { "" } else { "s" })
}
