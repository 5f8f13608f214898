//! What `--fix` corrects: only what loses nothing and runs nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::diagnosis::{Diagnosis, Level};
use crate::cli::check::Looked;
use crate::config::Settings;
use crate::source;

/// Corrects what was found; a line for each correction, whether or not it worked.
pub(super) async fn correct(looked: &Looked<'_>) -> Vec<Diagnosis> {
    let Some(settings) = looked.settings else {
        return Vec::new();
    };
    let mut done = Vec::new();
    for problem in &looked.findings {
        let place = problem["place"].as_str().unwrap_or_default();
        match problem["code"].as_str() {
            Some("CFG_PERM") => done.push(private(Path::new(place))),
            Some("W107" | "CFG_DIR") => done.extend(directory(settings, place)),
            Some("D108") => done.extend(table(settings).await),
            _ => {}
        }
    }
    done
}

/// Takes the rights of others away; owner and group keep theirs, since a service may read the file by its group.
fn private(file: &Path) -> Diagnosis {
    let made = fs::metadata(file).and_then(|before| {
        let mode = before.permissions().mode() & 0o7770;
        fs::set_permissions(file, fs::Permissions::from_mode(mode))
    });
    let text = format!("{} cannot be read by others any more", file.display());
    outcome("settings", "CFG_PERM", made.map(|()| text))
}

fn directory(settings: &Settings, place: &str) -> Option<Diagnosis> {
    let dir = &settings.source.manifests.as_ref()?.dir;
    if dir.exists() {
        return None;
    }
    let code = if place == dir.display().to_string() {
        "W107"
    } else {
        "CFG_DIR"
    };
    let made = fs::create_dir_all(dir).map(|()| format!("{} exists now; it is empty", dir.display()));
    Some(outcome("manifests", code, made))
}

async fn table(settings: &Settings) -> Option<Diagnosis> {
    let table = settings.source.table.as_ref()?;
    let made = source::migrate(table).await;
    let text = format!("{}: sys_crontab was made", table.place());
    Some(outcome("table", "D108", made.map(|_| text)))
}

fn outcome<E: std::error::Error + 'static>(area: &'static str, code: &str, done: Result<String, E>) -> Diagnosis {
    match done {
        Ok(text) => Diagnosis::new(Level::Fixed, area, text).code(code),
        Err(error) => {
            let text = format!("it cannot be corrected: {}", runner_core::chain::chain(&error));
            Diagnosis::new(Level::Error, area, text).code(code)
        }
    }
}
