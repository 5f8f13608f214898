//! `runner check`: everything that is wrong with the settings, the manifests and the rows of the table, without
//! starting anything.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use runner_core::function::{Function, Functions};
use runner_core::schedule::{Definition, Problem, ScheduleId, Severity, Source, no_occurrence_left};
use serde_json::Value;

use super::check_findings::{by_hand_unserved, finding, of_problem, unserved, with_next};
use super::exit::{ProblemsFound, Unavailable};
use super::parts::Registrar;
use super::{
    CommandContext, assemble, check_broker as broker, check_reasons, check_table as table, defaults, print, temporary,
};
use crate::config::{Refused, Settings};
use crate::source::{BAD_PAYLOAD, Catalog, Checked, Code, check_paths, drop_triggered};
use crate::text::signs;

/// Check settings, manifests and table rows; report every error at once and exit with 65 if there are any.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit code 69 means that there are no errors, but the broker or the table could not be checked.\n\nExamples:\n  \
    runner check\n  \
    runner check manifests/nightly.yaml deploy/manifests\n  \
    runner check --offline\n  \
    runner check --json | jq -r '.[] | .place + \" \" + .code'"
)]
pub struct Check {
    /// Manifest files or directories, and nothing else [default: manifests.dir and the table]
    paths: Vec<PathBuf>,
    /// Print a JSON array of objects
    #[arg(long)]
    json: bool,
    /// Check texts only: do not look for programs, nor ask the broker or the database
    #[arg(long)]
    offline: bool,
}

/// What a check has found.
pub(super) struct Looked<'c> {
    /// Errors and warnings, in the form of `check_findings`.
    pub(super) findings: Vec<Value>,
    /// The settings, if they can be used.
    pub(super) settings: Option<&'c Settings>,
    checked: Checked,
    known: BTreeSet<ScheduleId>,
    /// Whether the table could not be read.
    table_unseen: bool,
    /// Whether the broker could not be asked.
    broker_unseen: bool,
}

impl Looked<'_> {
    /// The number of functions that the manifests define.
    pub(super) fn functions(&self) -> usize {
        self.checked.functions.len()
    }
}

impl Check {
    /// Of everything that the settings name.
    pub(super) fn of_everything() -> Self {
        Self {
            paths: Vec::new(),
            json: false,
            offline: false,
        }
    }

    pub async fn run(self, context: &CommandContext, registrars: Vec<Registrar>) -> anyhow::Result<()> {
        let looked = self.look(context, registrars).await?;
        let findings = looked.findings;
        let errors = findings.iter().filter(|f| f["severity"] == "error").count();
        if self.json {
            print::json(&Value::Array(findings))?;
        } else {
            let notes = notes(&looked.checked, &looked.known);
            print::text(&report(&findings, &notes, errors, looked.settings))?;
        }
        match (errors, looked.table_unseen, looked.broker_unseen) {
            (0, false, false) => Ok(()),
            (0, true, false) => Err(unseen("the table")),
            (0, false, true) => Err(unseen("the broker")),
            (0, true, true) => Err(unseen("the table and the broker")),
            (errors, ..) => Err(ProblemsFound(errors).into()),
        }
    }

    /// Everything that is wrong, without saying it.
    ///
    /// # Errors
    ///
    /// Those of [`read_settings`].
    pub(super) async fn look<'c>(
        &self,
        context: &'c CommandContext,
        registrars: Vec<Registrar>,
    ) -> anyhow::Result<Looked<'c>> {
        let mut findings = Vec::new();
        let settings = read_settings(context, &mut findings)?;
        // Manifests depend on the settings only for the zone; if the settings are invalid the defaults will do for a
        // check.
        let fallback = Settings::parse("(defaults)", "", &crate::config::Environment::default())?;
        let read = settings;
        let settings = read.unwrap_or(&fallback);
        if let Err(error) = assemble::handlers(settings, registrars, Functions::default(), false).await {
            findings.push(finding("error", "CODE", "code", &format!("{error:#}"), None, None));
        }
        let code = assemble::read_code(settings, context.schedules.clone());
        findings.extend(code.errors().map(of_problem));
        if self.paths.is_empty() {
            findings.extend(missing_directory(settings));
        }
        let paths = self.paths(settings);
        let context_of_manifests = assemble::checked(settings, !self.offline);
        // Files may name functions of other files, which are in force beside them.
        let beside = match self.paths.is_empty() {
            true => Vec::new(),
            false => check_paths(&directory(settings), &context_of_manifests, &[]).functions,
        };
        let mut checked = check_paths(&paths, &context_of_manifests, &beside);
        let whole = self.paths.is_empty() && read.is_some();
        let coded = code.definitions.clone();
        let (broker, table) = match whole && !self.offline {
            true => stores(context, settings, &checked.definitions).await,
            false => Default::default(),
        };
        if whole {
            drop_triggered(&mut checked.problems, &code.definitions);
            drop_triggered(&mut checked.problems, &table.definitions);
        }
        let now = context.clock.now();
        let doubt = |p: &Problem| with_next(of_problem(p), p, &checked.definitions, now);
        findings.extend(checked.problems.iter().map(doubt));
        findings.extend(no_occurrence_left(&checked.definitions, now).iter().map(of_problem));
        findings.extend(unserved(settings, &checked.definitions));
        findings.extend(by_hand_unserved(settings, &checked));
        if whole {
            findings.extend(code_findings(context, settings, code).await);
            if !self.offline {
                findings.extend(temporary::check(settings).as_ref().map(of_problem));
            }
        }
        findings.extend(table.findings);
        findings.extend(broker.findings);
        if let Some(broker) = &broker.broker {
            let all = checked.definitions.iter().chain(&table.definitions).chain(&coded);
            let all: Vec<&Definition> = all.collect();
            let found = check_reasons::look(context, settings, &**broker, &all, &findings).await;
            // The settings already reported this place above.
            let is_new = |new: &&Value| {
                findings
                    .iter()
                    .all(|f| f["code"] != new["code"] || f["place"] != new["place"])
            };
            let new: Vec<Value> = found.iter().filter(is_new).cloned().collect();
            findings.extend(new);
        }
        Ok(Looked {
            findings,
            settings: read,
            checked,
            known: broker.known,
            table_unseen: table.unseen,
            broker_unseen: broker.unseen,
        })
    }

    fn paths(&self, settings: &Settings) -> Vec<PathBuf> {
        if !self.paths.is_empty() {
            return self.paths.clone();
        }
        directory(settings)
    }
}

/// The directory of the manifests, if it is there.
fn directory(settings: &Settings) -> Vec<PathBuf> {
    let dir = settings.source.manifests.as_ref().map(|m| m.dir.clone());
    dir.into_iter().filter(|d| d.exists()).collect()
}

/// The settings, or `None` when they have errors; their warnings and errors become findings.
///
/// # Errors
///
/// A settings file that was named and cannot be read: the command line is wrong, not the file.
fn read_settings<'c>(context: &'c CommandContext, findings: &mut Vec<Value>) -> anyhow::Result<Option<&'c Settings>> {
    match context.settings() {
        Ok(settings) => {
            findings.extend(settings.warnings.iter().map(of_problem));
            Ok(Some(settings))
        }
        Err(error) => match error.downcast::<Refused>() {
            Ok(refused) if refused.0.iter().all(|p| p.code == "CFG_READ") => Err(refused.into()),
            Ok(refused) => {
                findings.extend(refused.0.iter().map(of_problem));
                Ok(None)
            }
            Err(error) => Err(error),
        },
    }
}

/// What was found in the broker and in the table.
async fn stores(
    context: &CommandContext,
    settings: &Settings,
    definitions: &[Definition],
) -> (broker::BrokerFindings, table::TableFindings) {
    let seen = broker::look(context, settings, definitions).await;
    let table = table::look(context, settings, seen.broker.clone()).await;
    (seen, table)
}

/// The defaults of functions of which no schedule has run yet.
fn notes(checked: &Checked, known: &BTreeSet<ScheduleId>) -> Vec<String> {
    let is_known = |f: &&Function| {
        let mut schedules = checked.definitions.iter().filter(|d| d.name == f.name);
        schedules.any(|d| known.contains(&d.id))
    };
    let new: Vec<&Function> = checked.functions.iter().filter(|f| !is_known(f)).collect();
    defaults::notes(&new)
}

/// A check that could not read everything must not pass.
fn unseen(what: &str) -> anyhow::Error {
    let text = format!("{what} could not be checked; --offline leaves it out");
    anyhow::Error::new(Unavailable).context(text)
}

/// That the directory of manifests does not exist.
pub(super) const MISSING: &str = "there is no manifest directory yet";

/// What to do about it.
pub(super) const MISSING_HINT: &str = "`runner init` makes one with a sample; manifests.dir names another";

/// A directory of manifests that is not there, unless the settings have said so.
fn missing_directory(settings: &Settings) -> Option<Value> {
    let dir = &settings.source.manifests.as_ref()?.dir;
    let known = settings.warnings.iter().any(|w| w.code == "CFG_DIR");
    if known || dir.exists() {
        return None;
    }
    let place = dir.display().to_string();
    Some(finding("warning", "W107", &place, MISSING, None, Some(MISSING_HINT)))
}

/// Warnings about schedules in code, with the options that their functions set for tasks.
async fn code_findings(context: &CommandContext, settings: &Settings, code: Code) -> Vec<Value> {
    let mut sources = assemble::sources(settings, code);
    sources.table = None;
    let plan = Catalog::load_once(sources, context.clock.clone()).await.plan;
    let code = plan.schedules.values().filter(|d| d.origin.source == Source::Code);
    let definitions: Vec<Definition> = code.cloned().collect();
    let now = context.clock.now();
    // Errors of the texts are reported whatever else is checked.
    let is_new = |p: &&Problem| p.severity == Severity::Warning || p.code == BAD_PAYLOAD;
    let doubts = plan.problems.iter().filter(is_new);
    let doubts = doubts.filter(|p| p.source == Some(Source::Code));
    doubts
        .map(|p| with_next(of_problem(p), p, &definitions, now))
        .chain(unserved(settings, &definitions))
        .collect()
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
        print::counted(errors, "error"),
        print::counted(warnings, "warning")
    )
}
