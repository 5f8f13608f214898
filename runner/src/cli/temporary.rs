//! Whether commands can have their temporary directories here: without one no command can start.

use runner_core::schedule::Problem;

use crate::config::Settings;

/// A warning if a worker of these settings runs commands and has no directory for them.
pub(super) fn check(settings: &Settings) -> Option<Problem> {
    if !settings.roles.worker || !settings.handlers.exec.enabled {
        return None;
    }
    runner_handlers::try_run_directory().err().map(warning)
}

fn warning(why: String) -> Problem {
    let message = format!("commands cannot run: {why}");
    Problem::of_settings("CFG_TMPDIR", "TMPDIR", message).as_warning().hint(
        "let TMPDIR name a directory that this process may write, such as a tmpfs, or set handlers.exec.enabled: false",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Environment;

    #[test]
    fn a_worker_that_runs_commands_needs_a_directory() {
        let of = |text: &str| check(&Settings::parse("c", text, &Environment::default()).unwrap());
        assert!(of("").is_none(), "tests have a temporary directory");
        let said = warning("no directory".to_owned());
        assert!(
            !said.is_error() && said.to_string().contains("TMPDIR: CFG_TMPDIR"),
            "{said}"
        );
    }
}
