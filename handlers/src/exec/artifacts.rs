//! The files that a command leaves in its directory for artifacts: plain files, few and small.

use std::fs;
use std::path::{Path, PathBuf};

use runner_sdk::{Ctx, MAX_ARTIFACT_BYTES, MAX_ARTIFACTS};

use super::output::read_plain;

/// Longest name of a file, in bytes; that of most file systems.
const MAX_NAME: usize = 255;

/// More entries are not looked at.
const MAX_ENTRIES: usize = 1000;

/// Hands the files over to the run. What is left out is named in the log.
pub(super) async fn collect(directory: PathBuf, cx: &Ctx) {
    let found = tokio::task::spawn_blocking(move || read_all(&directory)).await;
    let Ok((files, notes)) = found else { return };
    for (name, content) in files {
        cx.keep_artifact(name, content);
    }
    for note in notes {
        cx.log().push("log", &format!("artifact {note}"));
    }
}

/// The files by name, and why others are left out.
fn read_all(directory: &Path) -> (Vec<(String, Vec<u8>)>, Vec<String>) {
    let (mut files, mut notes) = (Vec::new(), Vec::new());
    let listed = fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .take(MAX_ENTRIES);
    let mut paths: Vec<PathBuf> = listed.map(|entry| entry.path()).collect();
    paths.sort();
    let mut left = MAX_ARTIFACT_BYTES;
    for path in paths {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let shown = name.escape_debug().to_string();
        if files.len() == MAX_ARTIFACTS {
            notes.push(format!(
                "{shown} and any further ones were not kept: at most {MAX_ARTIFACTS} are"
            ));
            break;
        }
        if name.len() > MAX_NAME || name.contains(char::is_control) || name.contains('\u{fffd}') {
            notes.push(format!("{shown} was not kept: its name cannot be shown"));
            continue;
        }
        match read_plain(&path, left) {
            Ok(Some(content)) if content.len() > left => {
                let bytes = MAX_ARTIFACT_BYTES;
                notes.push(format!(
                    "{shown} was not kept: all files together may have {bytes} bytes"
                ));
            }
            Ok(Some(content)) => {
                left -= content.len();
                files.push((name, content));
            }
            Ok(None) => notes.push(format!("{shown} was not kept: it is not a plain file")),
            Err(error) => notes.push(format!("{shown} was not kept: {error}")),
        }
    }
    (files, notes)
}
