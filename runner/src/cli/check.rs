//! `runner check`: everything that is wrong with the settings and the manifests, without starting anything.

use std::path::PathBuf;

use clap::Args;
use runner_core::schedule::Severity;
use serde_json::{Value, json};

use super::exit::{self, Found};
use super::{Context, parts, print};
use crate::config::{Refused, Settings};
use crate::source::check_paths;

/// Checks the settings and the manifests: all errors at once, exit code 65 if there are any.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    runner check\n  \
    runner check manifests/nightly.yaml deploy/manifests\n  \
    runner check --json | jq -r '.[] | .place + \" \" + .code'")]
pub struct Check {
    /// Manifest files or directories [default: manifests.dir]
    paths: Vec<PathBuf>,
    /// As an array of objects
    #[arg(long)]
    json: bool,
}

impl Check {
    pub fn run(self, context: &Context) -> anyhow::Result<()> {
        let mut findings = Vec::new();
        let settings = match context.settings() {
            Ok(settings) => {
                findings.extend(settings.warnings.iter().map(of_setting));
                Some(settings)
            }
            Err(error) => match error.downcast::<Refused>() {
                // A named file that cannot be read is a wrong call, not a finding.
                Ok(refused) if refused.0.iter().all(|p| p.code == "CFG_READ") => return Err(refused.into()),
                Ok(refused) => {
                    findings.extend(refused.0.iter().map(of_setting));
                    None
                }
                Err(error) => return Err(error),
            },
        };
        // Manifests depend on the settings only by their zone; with bad settings the defaults serve to check.
        let fallback = Settings::parse("(defaults)", "", &crate::config::Environment::default())?;
        let read = settings;
        let settings = read.unwrap_or(&fallback);
        if let Err(error) = parts::code_schedules(settings, context.schedules.clone()) {
            findings.push(finding("error", "CODE", "code", &format!("{error:#}"), None, None));
        }
        let paths = self.paths(settings);
        let problems = check_paths(&paths, &parts::sources(settings, Vec::new()).context());
        findings.extend(problems.iter().map(|p| {
            let severity = if exit::is_error(p) { "error" } else { "warning" };
            let (excerpt, hint) = (p.excerpt.as_deref(), p.hint.as_deref());
            finding(severity, &p.code, &p.origin.place, &p.message, excerpt, hint)
        }));
        let errors = findings.iter().filter(|f| f["severity"] == "error").count();
        if self.json {
            print::json(&Value::Array(findings))?;
        } else {
            print::text(&report(&findings, errors, read))?;
        }
        if errors > 0 { Err(Found(errors).into()) } else { Ok(()) }
    }

    fn paths(&self, settings: &Settings) -> Vec<PathBuf> {
        if !self.paths.is_empty() {
            return self.paths.clone();
        }
        let dir = settings.manifests.as_ref().map(|m| m.dir.clone());
        dir.into_iter().filter(|d| d.exists()).collect()
    }
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

fn finding(severity: &str, code: &str, place: &str, message: &str, excerpt: Option<&str>, hint: Option<&str>) -> Value {
    json!({
        "severity": severity, "code": code, "place": place, "message": message, "excerpt": excerpt, "hint": hint,
    })
}

fn report(findings: &[Value], errors: usize, settings: Option<&Settings>) -> String {
    let mut out = String::new();
    for f in findings {
        let text = |key: &str| f[key].as_str().unwrap_or_default().to_owned();
        let severity = if f["severity"] == "error" { "" } else { "warning " };
        out += &format!("{}: {severity}{} {}\n", text("place"), text("code"), text("message"));
        if let Some(excerpt) = f["excerpt"].as_str() {
            out += &format!("{excerpt}\n");
        }
        if let Some(hint) = f["hint"].as_str() {
            out += &format!("  help: {hint}\n");
        }
    }
    let origin = match settings {
        None => String::new(),
        Some(settings) => match &settings.origin {
            Some(path) => format!(" (settings: {})", path.display()),
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
