//! Logs warnings about schedules and functions that are in force but probably not intended.
//!
//! Only warnings about the text; those that depend on servers and clocks have lines of their own.

use std::collections::BTreeSet;

use runner_core::cron::TIMING_LINTS;
use runner_core::schedule::{Problem, Severity};

/// The most lines at a time: a table may have ten thousand rows of one kind.
const MAX_LINES: usize = 20;

/// Warnings about what functions run, and about cells of rows: an unknown `status`, a payload that is not JSON.
const OTHER_LINTS: [&str; 4] = ["W301", "W252", "W253", "W254"];

/// The logged warnings, so that each is logged once while it lasts.
#[derive(Default)]
pub struct WarningLog(BTreeSet<String>);

impl WarningLog {
    /// Logs those of these problems that are new.
    pub fn tell(&mut self, problems: &[Problem]) {
        let (new, more) = self.new_ones(problems);
        for (code, problem) in new {
            tracing::warn!(code, problem, "probably not what was meant");
        }
        if more > 0 {
            tracing::warn!(
                more,
                "further schedules are probably not what was meant; `runner check` lists them"
            );
        }
    }

    /// Code and text of those to be logged, and how many are left out.
    fn new_ones(&mut self, problems: &[Problem]) -> (Vec<(String, String)>, usize) {
        let doubts = problems.iter().filter(|p| p.severity == Severity::Warning);
        let doubts = doubts.filter(|p| TIMING_LINTS.iter().chain(&OTHER_LINTS).any(|code| *code == p.code));
        let now: Vec<(&str, String)> = doubts.map(|p| (p.code.as_str(), p.one_line())).collect();
        let new = now.iter().filter(|(_, line)| !self.0.contains(line));
        let lines: Vec<_> = new
            .clone()
            .take(MAX_LINES)
            .map(|(code, line)| ((*code).to_owned(), line.clone()))
            .collect();
        let more = new.count() - lines.len();
        self.0 = now.into_iter().map(|(_, line)| line).collect();
        (lines, more)
    }
}

#[cfg(test)]
mod tests {
    use runner_core::schedule::{Origin, Source};

    use super::*;

    fn problem(code: &str, place: &str) -> Problem {
        let origin = Origin {
            source: Source::Manifest,
            place: place.to_owned(),
        };
        Problem::warning(code, "odd", origin)
    }

    #[test]
    fn a_warning_is_logged_once_while_it_lasts() {
        let mut log = WarningLog::default();
        let both = [problem("W232", "a"), problem("W211", "a"), problem("W301", "b")];
        assert_eq!(log.new_ones(&both).0.len(), 2);
        assert_eq!(log.new_ones(&both), (Vec::new(), 0));
        assert_eq!(log.new_ones(&both[..1]), (Vec::new(), 0));
        assert_eq!(log.new_ones(&both).0, [("W301".to_owned(), "b: W301 odd".to_owned())]);
        let row = [problem("W252", "sys_crontab id 3")];
        assert_eq!(
            log.new_ones(&row).0,
            [("W252".to_owned(), "sys_crontab id 3: W252 odd".to_owned())]
        );
        let many: Vec<Problem> = (0..30).map(|n| problem("W234", &n.to_string())).collect();
        let (lines, more) = log.new_ones(&many);
        assert_eq!((lines.len(), more), (MAX_LINES, 10));
    }
}
