//! What `runner check` finds, by area: settings, code, manifests and rows. What it says of the broker and of deployed schedules
//! is left to the areas of this command, which have more evidence.

use serde_json::Value;

use super::diagnosis::{Diagnosis, Level};
use crate::cli::check::Looked;
use crate::cli::print;

/// The areas, in the order of the report.
const AREAS: [&str; 4] = ["settings", "code", "table", "manifests"];

/// A line for each problem, and one for each area without any. What was corrected is left out.
pub(super) fn areas(looked: &Looked<'_>, corrected: &[Diagnosis]) -> Vec<Diagnosis> {
    let mut found = Vec::new();
    for area in AREAS {
        let before = found.len();
        let of_area = looked.findings.iter().filter(|problem| area_of(problem) == Some(area));
        for problem in of_area {
            let finding = of_problem(area, problem);
            if corrected.iter().all(|done| done.code != finding.code) {
                found.push(finding);
            }
        }
        if found.len() == before {
            found.push(match looked.settings {
                None if area != "manifests" => {
                    Diagnosis::new(Level::Warning, area, "not looked at: the settings have errors")
                }
                _ => Diagnosis::new(Level::Ok, area, fine(area, looked)),
            });
        }
    }
    found
}

fn fine(area: &str, looked: &Looked<'_>) -> String {
    match (area, looked.settings) {
        ("settings", Some(settings)) => match &settings.origin {
            Some(path) => path.display().to_string(),
            None => "no file: the defaults".to_owned(),
        },
        ("manifests", Some(_)) => print::counted(looked.functions(), "function"),
        ("table", Some(settings)) => match &settings.source.table {
            Some(table) => table.place(),
            None => "none is configured".to_owned(),
        },
        _ => "no problem".to_owned(),
    }
}

/// `None`: the broker and deployed schedules.
fn area_of(problem: &Value) -> Option<&'static str> {
    let code = problem["code"].as_str().unwrap_or_default();
    match code {
        "CODE" => Some("code"),
        code if code.starts_with("CFG_") => Some("settings"),
        code if code.starts_with("broker_") => None,
        code if code.starts_with('D') => Some("table"),
        code if code.starts_with('S') || code.starts_with("W1") && code != "W107" => None,
        _ => Some("manifests"),
    }
}

fn of_problem(area: &'static str, problem: &Value) -> Diagnosis {
    let text = |key: &str| problem[key].as_str().unwrap_or_default();
    let level = match text("severity") {
        "error" => Level::Error,
        _ => Level::Warning,
    };
    let finding = Diagnosis::new(level, area, format!("{}: {}", text("place"), text("message"))).code(text("code"));
    match problem["hint"].as_str() {
        Some(hint) => finding.hint(hint),
        None => finding,
    }
}
