//! A trigger that follows another function: it starts when a task of that function has ended for good.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::template::JsonTemplate;

/// The values of an ended task that templates can name: `after.result`. Those inside of `result` and `payload` as well.
pub const ENDED_VALUES: [&str; 8] = [
    "function", "type", "id", "queue", "outcome", "error", "payload", "result",
];

/// How long the end of a task is known, so that it starts nothing twice: much longer than any repeated call.
pub const FOLLOW_REMEMBER: Duration = Duration::from_secs(7 * 24 * 3600);

/// The header of a task that names the task before it: `<queue>/<id>`.
pub const AFTER_HEADER: &str = "runner-after";

/// One task for each task of another function that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct AfterTrigger {
    /// The other function, or a pattern of names: `*` matches any text.
    pub function: String,
    /// The types of the tasks that it follows, each with the name of their function; empty while no manifest defines one.
    pub follows: BTreeMap<String, String>,
    /// Which ends start it.
    pub on: FollowOn,
    /// The payload; `None`: that of the function.
    pub payload: Option<JsonTemplate>,
}

impl AfterTrigger {
    /// Whether it follows all functions that a pattern names.
    #[must_use]
    pub fn is_pattern(&self) -> bool {
        self.function.contains('*')
    }
}

/// Which ends of a task start the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FollowOn {
    /// It succeeded.
    #[default]
    Success,
    /// It failed for good.
    Failure,
    /// However it ended.
    Any,
}

impl FollowOn {
    /// All of them, by their words.
    pub const WORDS: [(&'static str, Self); 3] = [
        ("success", Self::Success),
        ("failure", Self::Failure),
        ("any", Self::Any),
    ];

    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Any => "any",
        }
    }
}
