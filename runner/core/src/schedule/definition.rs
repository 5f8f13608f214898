//! A schedule after reading: identity, origin, timing, policies, and the task to enqueue.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Timing;
use crate::notification::NotifyRules;
use crate::task::{FUNCTION_PREFIX, Task};

/// The lasting identity of a schedule: `m:<function>:<schedule>`, `db:<row id>` or `code:<name>`.
///
/// Never derived from content, so that an edited schedule remains the same schedule.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ScheduleId(String);

impl ScheduleId {
    /// The schedule called `schedule` of the manifest function `function`.
    #[must_use]
    pub fn manifest(function: &str, schedule: &str) -> Self {
        Self::of(Source::Manifest, format_args!("{function}:{schedule}"))
    }

    /// The row of `sys_crontab` with this primary key.
    #[must_use]
    pub fn row(id: impl fmt::Display) -> Self {
        Self::of(Source::Table, id)
    }

    /// The schedule registered in code under this name.
    #[must_use]
    pub fn code(name: &str) -> Self {
        Self::of(Source::Code, name)
    }

    /// Any text, from a URL or a command line; it need not name an existing schedule.
    #[must_use]
    pub fn from_text(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    fn of(source: Source, rest: impl fmt::Display) -> Self {
        Self(format!("{}{rest}", source.prefix()))
    }

    /// The source whose schedules have such ids.
    #[must_use]
    pub fn source(&self) -> Option<Source> {
        Source::ALL
            .into_iter()
            .find(|source| self.0.starts_with(source.prefix()))
    }

    /// The function of a manifest whose schedule it is.
    #[must_use]
    pub fn function(&self) -> Option<&str> {
        let rest = self.0.strip_prefix(Source::Manifest.prefix())?;
        Some(rest.split_once(':')?.0)
    }

    /// The identity as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ScheduleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The three sources of schedules, in the order of listings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A YAML file in the manifest directory.
    Manifest,
    /// A row of `sys_crontab`.
    Table,
    /// A call in a program's own `main`.
    Code,
}

impl Source {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Manifest, Self::Table, Self::Code];

    /// The source of this word.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.as_str() == word)
    }

    /// What the ids of its schedules begin with.
    fn prefix(self) -> &'static str {
        match self {
            Self::Manifest => "m:",
            Self::Table => "db:",
            Self::Code => "code:",
        }
    }

    /// The word in listings and on pages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Table => "table",
            Self::Code => "code",
        }
    }
}

/// The exact origin of a definition or a problem.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Origin {
    /// The source.
    pub source: Source,
    /// `manifests/a.yaml:3`, `sys_crontab id 42`, `code`.
    pub place: String,
}

impl Origin {
    /// Of everything that a program registers itself.
    #[must_use]
    pub fn code() -> Self {
        Self {
            source: Source::Code,
            place: Source::Code.as_str().to_owned(),
        }
    }
}

/// What to do if the previous task of the schedule is unfinished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Overlap {
    /// Record the occurrence as skipped. A task that waits for its retry is unfinished too: two runs are never active at the
    /// same time.
    #[default]
    Skip,
    /// The same, but a task that waits for its retry counts as finished; its next attempt may overlap another run.
    SkipIgnoringRetries,
    /// Enqueue it anyway.
    Allow,
}

impl Overlap {
    /// Whether a previous task can block an occurrence.
    #[must_use]
    pub fn skips(self) -> bool {
        self != Self::Allow
    }

    /// Whether a task that waits for its retry can block one.
    #[must_use]
    pub fn counts_retries(self) -> bool {
        self == Self::Skip
    }

    /// The word in stores and fingerprints.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Skip => "skip",
            Self::SkipIgnoringRetries => "skip_ignoring_retries",
            Self::Allow => "allow",
        }
    }
}

/// Which late occurrences still run after no instance was up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CatchUpPolicy {
    /// None; all are recorded as missed.
    None,
    /// The newest one inside the window, unless one fires on time now.
    #[default]
    Last,
    /// Each one inside the window, oldest first, up to the maximum.
    All,
}

/// The default window of `last` and `all`.
pub const DEFAULT_CATCH_UP_WINDOW: Duration = Duration::from_secs(3600);

/// The default maximum of `all`.
pub const DEFAULT_CATCH_UP_MAX: u32 = 50;

/// Policy and bounds for late occurrences.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CatchUp {
    /// Which of them run.
    pub policy: CatchUpPolicy,
    /// The maximum lateness.
    pub window: Duration,
    /// The maximum number of runs at once under `all`, 1 to 1000.
    pub max: u32,
}

impl Default for CatchUp {
    fn default() -> Self {
        Self {
            policy: CatchUpPolicy::default(),
            window: DEFAULT_CATCH_UP_WINDOW,
            max: DEFAULT_CATCH_UP_MAX,
        }
    }
}

impl From<CatchUpPolicy> for CatchUp {
    /// The policy with the default bounds.
    fn from(policy: CatchUpPolicy) -> Self {
        Self {
            policy,
            ..Self::default()
        }
    }
}

/// A valid schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// Lasting identity.
    pub id: ScheduleId,
    /// Label for people: the row's name, the function's name.
    pub name: String,
    /// Longer text for people; may be empty.
    pub description: String,
    /// Where it is defined.
    pub origin: Origin,
    /// Enabled by its definition; an operator's pause is separate and stored in the broker.
    pub enabled: bool,
    /// When it occurs.
    pub timing: Timing,
    /// What to do while the previous task is unfinished.
    pub overlap: Overlap,
    /// What to do with late occurrences.
    pub catch_up: CatchUp,
    /// Maximum delay of each fire, the same on every instance.
    pub jitter: Duration,
    /// Over which channels people hear of it.
    pub notify: NotifyRules,
    /// The task to enqueue; its id and run time are set for each fire.
    pub task: Task,
}

impl Definition {
    /// An enabled schedule with the default policies and no description.
    #[must_use]
    pub fn new(id: ScheduleId, name: impl Into<String>, origin: Origin, timing: Timing, task: Task) -> Self {
        Self {
            id,
            name: name.into(),
            description: String::new(),
            origin,
            enabled: true,
            timing,
            overlap: Overlap::default(),
            catch_up: CatchUp::default(),
            jitter: Duration::ZERO,
            notify: NotifyRules::default(),
            task,
        }
    }

    /// The function of a manifest that it runs. One whose action is a handler runs under the handler's type.
    #[must_use]
    pub fn function(&self) -> Option<&str> {
        self.task
            .kind
            .strip_prefix(FUNCTION_PREFIX)
            .or_else(|| self.id.function())
    }

    /// The policies by which its occurrences are decided, for a comparison with those of other instances.
    ///
    /// Names every field: when one is added, this decides whether instances that differ in it have different versions.
    #[must_use]
    pub fn policies(&self) -> [String; 3] {
        let Self {
            overlap,
            catch_up,
            jitter,
            // Compared otherwise, or only texts for people.
            id: _,
            name: _,
            description: _,
            origin: _,
            enabled: _,
            notify: _,
            timing: _,
            task: _,
        } = self;
        let CatchUp { policy, window, max } = catch_up;
        [
            overlap.as_str().to_owned(),
            format!("{policy:?} {} {max}", window.as_millis()),
            jitter.as_millis().to_string(),
        ]
    }

    /// A fingerprint of everything that determines *when* the schedule occurs.
    ///
    /// When it changes, the cursor is set to the present, so that editing, enabling or disabling never fires the past; a change
    /// of payload or options does not affect it.
    #[must_use]
    pub fn revision(&self) -> String {
        if !self.enabled {
            return "off".to_owned();
        }
        format!("{:016x}", self.timing.fingerprint())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::cron::DstRule;
    use crate::schedule::When;
    use jiff::tz::TimeZone;

    fn every(seconds: u64) -> Definition {
        let timing = Timing {
            when: When::Every {
                every: Duration::from_secs(seconds),
                phase: Duration::ZERO,
            },
            text: format!("@every {seconds}s"),
            zone_name: "UTC".to_owned(),
            zone: TimeZone::UTC,
            dst: DstRule::default(),
        };
        Definition::new(ScheduleId::code("a"), "a", Origin::code(), timing, Task::new("t"))
    }

    #[test]
    fn only_what_determines_the_instants_changes_the_revision() {
        let before = every(60).revision();
        let mut same = every(60);
        same.task = Task::new("other").payload("{}");
        (same.name, same.overlap, same.jitter) = ("b".to_owned(), Overlap::Allow, Duration::from_secs(5));
        same.catch_up = CatchUpPolicy::All.into();
        assert_eq!(same.revision(), before);
        assert_ne!(every(61).revision(), before);
        let mut off = every(60);
        off.enabled = false;
        assert_eq!(off.revision(), "off", "so that switching it on begins at the present");
    }
}
