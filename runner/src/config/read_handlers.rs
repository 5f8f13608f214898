//! Reads what functions of manifests may do: `handlers`, a section for each kind.

use runner_handlers::{ExecSettings, HandlerSettings, HttpSettings};

use super::reader::Located;
use super::section::Section;

/// Reads `handlers`.
pub fn handlers(root: &Section<'_>) -> HandlerSettings {
    let section = root.section("handlers");
    let settings = HandlerSettings {
        exec: exec(section.section("exec")),
        http: http(section.section("http")),
    };
    section.finish();
    settings
}

fn exec(section: Section<'_>) -> ExecSettings {
    let default = ExecSettings::default();
    let allowed = section.list("allowed_commands").unwrap_or_default();
    for found in &allowed {
        check_allowed(&section, found);
    }
    let settings = ExecSettings {
        enabled: section.flag("enabled").unwrap_or(default.enabled),
        allowed_commands: allowed.into_iter().map(|found| found.value).collect(),
        ..default
    };
    section.finish();
    settings
}

fn http(section: Section<'_>) -> HttpSettings {
    let default = HttpSettings::default();
    let settings = HttpSettings {
        allow_private: section.flag("allow_private").unwrap_or(default.allow_private),
        allowed_hosts: section.texts("allowed_hosts").unwrap_or(default.allowed_hosts),
        ..default
    };
    section.finish();
    settings
}

/// An entry that can never match is a mistake that would block every command.
fn check_allowed(section: &Section<'_>, found: &Located<String>) {
    let entry = &found.value;
    let climbs = entry.split('/').any(|part| part == "..");
    if entry.is_empty() || climbs || (entry.contains('/') && !entry.starts_with('/')) {
        let message =
            format!("handlers.exec.allowed_commands {entry:?} must be a name or an absolute path without \"..\"");
        section.reader().error("CFG_VALUE", &found.place, message);
    }
}
