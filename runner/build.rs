//! Says from what the program was built: commit and date, for `runner --version`.
//!
//! `BUILD_COMMIT` and `SOURCE_DATE_EPOCH` go before git, so that packages can be built from an archive and repeated bit
//! by bit. A debug build does not ask git: otherwise each commit would compile this crate once more.

// A build script has neither settings nor a clock, and panics are not its way to report.
#![allow(clippy::disallowed_methods)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds of a day.
const DAY: i64 = 24 * 60 * 60;

/// Digits of a commit that are shown.
const DIGITS: usize = 12;

fn main() {
    for name in ["BUILD_COMMIT", "SOURCE_DATE_EPOCH"] {
        println!("cargo::rerun-if-env-changed={name}");
    }
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-env=BUILD_DETAILS={}", details());
}

/// What stands behind the version, with a space before it.
fn details() -> String {
    let release = variable("PROFILE").is_some_and(|profile| profile == "release");
    let git = release.then(repository).flatten();
    let commit = variable("BUILD_COMMIT").or_else(|| ask(git.as_deref()?, &["rev-parse", "HEAD"]));
    let seconds =
        variable("SOURCE_DATE_EPOCH").or_else(|| ask(git.as_deref()?, &["show", "-s", "--format=%ct", "HEAD"]));
    let seconds = match (seconds.and_then(|text| text.parse().ok()), release) {
        (Some(seconds), _) => Some(seconds),
        (None, true) => now(),
        (None, false) => None,
    };
    let commit = commit.map(|commit| {
        commit
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(DIGITS)
            .collect()
    });
    let known: Vec<String> = [commit, seconds.map(date)].into_iter().flatten().collect();
    match known.as_slice() {
        [] => " (debug build)".to_owned(),
        known => format!(" ({})", known.join(" ")),
    }
}

/// The top of this project, if it is a repository of its own and not a part of another one. Cargo looks here again
/// when another commit is checked out.
fn repository() -> Option<PathBuf> {
    let top = Path::new(&variable("CARGO_MANIFEST_DIR")?)
        .parent()?
        .canonicalize()
        .ok()?;
    let found = PathBuf::from(ask(&top, &["rev-parse", "--show-toplevel"])?);
    if found.canonicalize().ok()? != top {
        return None;
    }
    for name in ["HEAD", "logs/HEAD"] {
        let path = top.join(ask(&top, &["rev-parse", "--git-path", name])?);
        // A path that does not exist would run this script at every build.
        if path.exists() {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    Some(top)
}

fn ask(top: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(top).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn now() -> Option<i64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(since.as_secs()).ok()
}

/// The day in UTC, as `2026-11-29`. By hand, as a crate for it would have to be built before everything else.
fn date(seconds: i64) -> String {
    // Years begin in March here, so that the day that comes every four years is the last one.
    let days = seconds.div_euclid(DAY) + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{day:02}", year_of_era + era * 400 + next)
}
