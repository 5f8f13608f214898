//! Variables that look like settings but have no effect: each is named, with the one that was probably meant.
//!
//! Other tools use the same prefix, so names that resemble no setting share one warning.

use runner_core::schedule::Problem;

use super::environment::Environment;
use crate::text::nearest;

/// Names in one warning; a service of Kubernetes called `runner` makes seven.
const NAMED: usize = 20;

/// Findings about variables of our prefixes; `known` are the two names of each setting, the preferred one first.
pub fn ignored(environment: &Environment, known: &[[String; 2]]) -> Vec<Problem> {
    let is_known = |name: &str| known.iter().flatten().any(|k| k == name);
    let mut problems: Vec<Problem> = environment
        .not_text()
        .iter()
        .filter(|name| is_known(name))
        .map(|name| Problem::of_settings("CFG_VALUE", name, "the value of this variable is not UTF-8"))
        .collect();
    let mut far = Vec::new();
    let unread = environment.not_text().iter().map(String::as_str);
    for name in environment.overrides().chain(unread) {
        if let Some([first, _]) = known.iter().find(|[_, second]| second == name) {
            if first != name && environment.get(first).is_some() {
                let text = format!("this variable has no effect: {first} is set and comes first");
                let problem = Problem::of_settings("CFG_IGNORED", name, text).as_warning();
                problems.push(problem.hint("remove one of them"));
            }
        } else if !is_known(name) {
            match meant_by(name, known) {
                Some(meant) => problems.push(unknown(name, "this variable overrides no setting", meant)),
                None => far.push(name),
            }
        }
    }
    // Other tools use small letters too, so only names that would be settings in capitals count.
    let capitals = environment
        .in_other_case()
        .map(|name| (name, name.to_ascii_uppercase()));
    for (name, meant) in capitals.filter(|(_, meant)| is_known(meant)) {
        let text = "this variable overrides no setting: names are in capitals";
        problems.push(unknown(name, text, &meant));
    }
    if let Some(&first) = far.first() {
        let more = match far.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        far.truncate(NAMED);
        let text = format!(
            "no setting has these variables, they have no effect: {}{more}",
            far.join(", ")
        );
        let hint =
            "redis.host is RUNNER_REDIS_HOST, log.maxSize is RUNNER_LOG_MAX_SIZE; those of other tools are harmless";
        problems.push(Problem::of_settings("CFG_IGNORED", first, text).as_warning().hint(hint));
    }
    problems
}

/// The name that was probably meant; the common prefix does not count.
fn meant_by<'a>(name: &str, known: &'a [[String; 2]]) -> Option<&'a str> {
    let (prefix, word) = name.split_once('_')?;
    let names = known.iter().flatten().filter_map(|k| k.split_once('_'));
    let words = names.filter(|(p, _)| *p == prefix).map(|(_, word)| word);
    let meant = nearest(word, words)?;
    let is_meant = |k: &&String| k.split_once('_') == Some((prefix, meant));
    known.iter().flatten().find(is_meant).map(String::as_str)
}

fn unknown(name: &str, text: &str, meant: &str) -> Problem {
    let problem = Problem::of_settings("CFG_UNKNOWN", name, text).as_warning();
    problem.hint(format!("did you mean {meant}?"))
}
