//! What is wrong with single files of one trigger: each is reported and counted once, for as long as it is there. What is wrong with
//! the directories is the state of the trigger, not reported here.

use std::collections::{BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use runner_core::trigger::TriggerDefinition;

use super::folder::{DirectoryContent, InWork, TakenFile};
use crate::trigger::{Board, ListenState};

/// Things that are remembered. What is wrong with more is not reported until some of these are gone.
const MAX_REPORTED: usize = 1000;

/// Where a thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Where {
    /// In the watched directory, known by its name.
    Waiting,
    /// In work, known by its token.
    InWork,
    /// The same, when its task has ended.
    Leaving,
}

/// See the module documentation.
pub(super) struct OnceReported {
    trigger: Arc<TriggerDefinition>,
    board: Arc<Board>,
    known: BTreeSet<(Where, OsString)>,
    /// Whether it was reported that there are more than one look reads, of each of the two.
    many: [bool; 2],
}

impl OnceReported {
    pub(super) fn new(trigger: &Arc<TriggerDefinition>, board: &Arc<Board>) -> Self {
        Self {
            trigger: Arc::clone(trigger),
            board: Arc::clone(board),
            known: BTreeSet::new(),
            many: [false; 2],
        }
    }

    /// Tells what is wrong with what waits, and forgets what is gone.
    pub(super) fn waiting(&mut self, seen: &DirectoryContent) {
        if !seen.more {
            let files = seen.files.iter().map(|(name, _)| name.as_os_str());
            let there = files.chain(seen.refused.iter().map(|(name, _)| name.as_os_str()));
            self.keep(Where::Waiting, &there.collect());
        }
        for (name, why) in &seen.refused {
            self.tell(Where::Waiting, name, name, why);
        }
        self.tell_many(0, seen.more, || {
            format!(
                "more than {} files wait; they are taken in parts, the oldest of each first",
                seen.files.len()
            )
        });
    }

    /// Tells what is wrong with what is in work, and forgets what is gone. Returns whether more than `most` directories are there,
    /// so that no further ones may be made.
    pub(super) fn in_work(&mut self, taken: &InWork, most: usize) -> bool {
        if !taken.more {
            let files = taken.files.iter().map(|file| OsStr::new(&file.token));
            let there = files.chain(taken.refused.iter().map(|(token, _)| token.as_os_str()));
            let there = there.collect();
            self.keep(Where::InWork, &there);
            self.keep(Where::Leaving, &there);
        }
        for (token, why) in &taken.refused {
            self.tell(Where::InWork, token, token, why);
        }
        let crowded = taken.more || taken.files.len() + taken.refused.len() > most;
        self.tell_many(1, crowded, || {
            format!("more than {most} files in work cannot leave; none is taken until there are fewer")
        });
        crowded
    }

    /// Tells what is wrong with a file in work.
    pub(super) fn tell_of(&mut self, file: &TakenFile, why: &str) {
        self.tell(Where::InWork, OsStr::new(&file.token), &file.name, why);
    }

    /// Tells what is wrong with the thing that is known by `key`, unless it was reported.
    pub(super) fn tell(&mut self, place: Where, key: &OsStr, name: &OsStr, why: &str) {
        if self.known.len() < MAX_REPORTED && self.known.insert((place, key.to_owned())) {
            let why = format!("{}: {why}", name.to_string_lossy());
            tracing::warn!(
                trigger = self.trigger.id.as_str(),
                code = "trigger_bad_message",
                error = why,
                "a file stays where it is, or has no task"
            );
            self.board.listens(&self.trigger, ListenState::Listening);
            self.board.bad(&self.trigger, &why);
        }
    }

    fn tell_many(&mut self, which: usize, many: bool, why: impl FnOnce() -> String) {
        if many && !self.many[which] {
            let error = why();
            tracing::warn!(
                trigger = self.trigger.id.as_str(),
                code = "file_many",
                error,
                "many files"
            );
        }
        self.many[which] = many;
    }

    fn keep(&mut self, place: Where, there: &HashSet<&OsStr>) {
        self.known
            .retain(|(of, key)| *of != place || there.contains(key.as_os_str()));
    }
}
