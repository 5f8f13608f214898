//! Logs what is wrong with functions and rows taken together: circles of triggers, payloads that a schema refuses, triggers that
//! follow nothing. Each has one line when it appears and one when it is gone.
//!
//! What is wrong with one file or row by itself is logged by its source, when it is read.

use std::collections::BTreeMap;

use runner_core::schedule::{Problem, Severity};

/// The most lines at a time: a table may have ten thousand rows of one kind.
const MAX_LINES: usize = 20;

/// The problems that are logged, by code and message: where they are changes with every line above them.
#[derive(Default)]
pub struct MergedLog(BTreeMap<(String, String), Severity>);

/// What has changed, at most [`MAX_LINES`] of each, and how many are left out.
#[derive(Debug, Default, PartialEq)]
struct News<'a> {
    new: Vec<&'a Problem>,
    gone: Vec<(String, String)>,
    more: usize,
}

impl MergedLog {
    /// Logs what has changed since the last call.
    pub fn tell(&mut self, problems: &[Problem]) {
        let news = self.news(problems);
        for problem in news.new {
            let (code, text) = (problem.code.as_str(), problem.one_line());
            match problem.severity {
                Severity::Error => tracing::error!(code, problem = text, "not in force"),
                Severity::Warning => tracing::warn!(code, problem = text, "probably not what was meant"),
            }
        }
        for (code, problem) in news.gone {
            tracing::info!(code, problem, "a problem is gone");
        }
        if news.more > 0 {
            tracing::warn!(
                more = news.more,
                "further problems have come or gone; `runner check` lists those that are left"
            );
        }
    }

    fn news<'a>(&mut self, problems: &'a [Problem]) -> News<'a> {
        let key = |problem: &Problem| (problem.code.clone(), problem.message.clone());
        let now: BTreeMap<_, _> = problems
            .iter()
            .map(|problem| (key(problem), problem.severity))
            .collect();
        let mut new: Vec<&Problem> = problems.iter().filter(|p| !self.0.contains_key(&key(p))).collect();
        let before = std::mem::replace(&mut self.0, now);
        let mut gone: Vec<_> = before.into_keys().filter(|key| !self.0.contains_key(key)).collect();
        let all = new.len() + gone.len();
        new.truncate(MAX_LINES);
        gone.truncate(MAX_LINES);
        News {
            more: all - new.len() - gone.len(),
            new,
            gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use runner_core::schedule::{Origin, Source};

    use super::*;

    fn problem(message: &str, line: usize) -> Problem {
        let place = format!("a.yaml:{line}:1");
        let origin = Origin {
            source: Source::Manifest,
            place,
        };
        Problem::error("E148", message, origin)
    }

    #[test]
    fn each_has_a_line_when_it_comes_and_when_it_goes() {
        let mut log = MergedLog::default();
        let (one, two) = (problem("one", 1), problem("two", 2));
        let both = [one.clone(), two.clone()];
        assert_eq!(log.news(&both).new, [&one, &two]);
        // Another line above them is nothing new.
        assert_eq!(log.news(&[problem("one", 5), two.clone()]), News::default());
        let left = [two];
        let news = log.news(&left);
        assert_eq!(news.new.len(), 0);
        assert_eq!(news.gone, [("E148".to_owned(), "one".to_owned())]);
        assert_eq!(log.news(&both).new, [&one], "it is back");
        assert_eq!(log.news(&[]).gone.len(), 2);
        let many: Vec<Problem> = (0..50).map(|n| problem(&n.to_string(), n)).collect();
        let news = log.news(&many);
        assert_eq!((news.new.len(), news.more), (MAX_LINES, 50 - MAX_LINES));
    }
}
