//! Which version of each row is in force, given one reading of the table after another. No I/O.
//!
//! A bad row affects only itself: its last good version stays in force, if it had one.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use runner_core::duration;
use runner_core::function::FunctionOptions;
use runner_core::schedule::{Definition, Origin, Problem, ScheduleId, Severity, Source};

use super::identity;
use super::row::{self, RowReading};
use super::store::{MAX_ROWS, TableRow};
use crate::source::manifest::ScheduleContext;
use crate::source::settings::DEFAULT_MASS_DELETE;
use crate::source::shared::SourcePart;
use crate::source::status::{LAST_GOOD, Rejected};

/// How long most of the rows must be missing before their schedules are removed: a restored dump takes less.
const MASS_GRACE: Duration = Duration::from_secs(2);

/// Up to this many rows are removed at once without delay, unless no row is left.
const FEW: usize = 3;

/// This many rows that disappear together and leave none were perhaps deleted by mistake.
const ALL: usize = 2;

/// All rows of the table.
pub struct Rows {
    context: ScheduleContext,
    rows: BTreeMap<String, Known>,
    mass: Option<(Instant, Vec<String>)>,
    too_many: bool,
    /// How long all rows must be missing before their schedules are removed.
    guard: Duration,
    emptied: Option<Emptied>,
    /// Rows that were in force before the start, and when they were read, until the first reading.
    kept: Option<(Timestamp, BTreeMap<String, TableRow>)>,
}

/// The table has lost all its rows.
#[derive(Debug, Clone, Copy)]
struct Emptied {
    rows: usize,
    /// Whether they are still in force.
    held: bool,
}

struct Known {
    row: TableRow,
    good: Option<Definition>,
    /// The row of the last good version, if it differs.
    good_row: Option<TableRow>,
    /// Options that the good version states for its tasks.
    stated: FunctionOptions,
    problems: Vec<Problem>,
}

/// A change of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum RowChange {
    /// It is new or changed.
    Applied(Box<Definition>),
    /// Its content is not in force.
    Rejected {
        /// The first error.
        first: Problem,
        /// Whether its last good version stays in force.
        kept: bool,
    },
    /// It is in force with warnings.
    Doubted(Problem),
    /// It is gone.
    Removed(String),
    /// All rows are gone; their schedules stay in force for a while.
    Emptied {
        /// How many.
        rows: usize,
        /// How long they stay.
        guard: Duration,
    },
    /// None came back; nothing of the table is in force.
    AllGone(usize),
}

/// The result of one reading.
#[derive(Debug, Default)]
pub struct RowStep {
    /// In no particular order.
    pub changes: Vec<RowChange>,
    /// When to read again at the latest.
    pub again: Option<Duration>,
}

impl Rows {
    /// No rows yet.
    #[must_use]
    pub fn new(context: ScheduleContext) -> Self {
        Self {
            context,
            rows: BTreeMap::new(),
            mass: None,
            too_many: false,
            guard: DEFAULT_MASS_DELETE,
            emptied: None,
            kept: None,
        }
    }

    /// Sets which rows were in force before the start. One that has errors in the next reading stays in force as it was
    /// then. If the reading has no rows, all were deleted meanwhile, as if this had been seen; otherwise the others are
    /// ignored.
    pub fn remember(&mut self, rows: Vec<TableRow>, at: Timestamp) {
        // Rows of which nothing is in force are checked again.
        self.rows.retain(|_, known| known.good.is_some());
        let rows = rows.into_iter().map(|row| (row.id.clone(), row)).collect();
        self.kept = Some((at, rows));
    }

    /// The version of a row that was in force before the start, and when it was read.
    fn kept(&self, id: &str) -> Option<(Known, Timestamp)> {
        let (at, rows) = self.kept.as_ref()?;
        let row = rows.get(id)?.clone();
        let RowReading { definition, stated, .. } = row::read(&row, &self.context);
        let good = Some(definition?);
        let known = Known {
            row,
            good,
            good_row: None,
            stated,
            problems: Vec::new(),
        };
        Some((known, *at))
    }

    /// Puts all rows in force that were before the start.
    fn restore_all(&mut self) {
        let ids: Vec<String> = self.kept.iter().flat_map(|(_, rows)| rows.keys().cloned()).collect();
        let known = |id: String| self.kept(&id).map(|(known, _)| (id, known));
        let rows: BTreeMap<String, Known> = ids.into_iter().filter_map(known).collect();
        if rows.len() >= ALL {
            self.rows = rows;
        }
    }

    /// An instant for display.
    #[must_use]
    pub fn shown(&self, at: Timestamp) -> String {
        self.context.shown(at)
    }

    /// Keeps all rows in force for this long when none is left.
    #[must_use]
    pub fn guarded(self, guard: Duration) -> Self {
        Self { guard, ..self }
    }

    /// The rows that are in force, each as it was read.
    #[must_use]
    pub fn in_force(&self) -> Vec<&TableRow> {
        let good = self.rows.values().filter(|known| known.good.is_some());
        good.map(|known| known.good_row.as_ref().unwrap_or(&known.row))
            .collect()
    }

    /// Processes one reading.
    pub fn apply(&mut self, mut rows: Vec<TableRow>, now: Instant) -> RowStep {
        let mut step = RowStep::default();
        self.too_many = rows.len() > MAX_ROWS;
        rows.truncate(MAX_ROWS);
        if rows.is_empty() && self.rows.is_empty() {
            self.restore_all();
        }
        let mut before = std::mem::take(&mut self.rows);
        for row in identity::distinct(rows) {
            let known = match before.remove(&row.id) {
                Some(known) if known.row == row => known,
                old => self.take(row, old, &mut step),
            };
            self.rows.insert(known.row.id.clone(), known);
        }
        self.kept = None;
        self.forget(before, now, &mut step);
        step
    }

    fn take(&self, row: TableRow, old: Option<Known>, step: &mut RowStep) -> Known {
        let RowReading {
            definition,
            stated,
            enabled,
            problems,
        } = row::read(&row, &self.context);
        if let Some(definition) = definition {
            step.changes.push(RowChange::Applied(Box::new(definition.clone())));
            step.changes.extend(problems.iter().cloned().map(RowChange::Doubted));
            return Known {
                row,
                good: Some(definition),
                good_row: None,
                stated,
                problems,
            };
        }
        let (old, restored) = match old {
            Some(old) => (Some(old), None),
            None => self.kept(&row.id).unzip(),
        };
        // Switching a row off must work even if something else in it is wrong.
        let good_row = old.as_ref().map(|k| TableRow {
            status: row.status.clone(),
            ..k.good_row.as_ref().unwrap_or(&k.row).clone()
        });
        let (good, stated) = old.map(|k| (k.good, k.stated)).unwrap_or_default();
        let good = good.map(|good| Definition {
            enabled: enabled && good.enabled,
            ..good
        });
        let mut problems = problems;
        if let Some(first) = problems.iter().find(|p| p.severity == Severity::Error).cloned() {
            step.changes.push(RowChange::Rejected {
                first,
                kept: good.is_some(),
            });
        }
        if let Some(good) = &good {
            let read = restored.map(|at| format!(", of {},", self.shown(at)));
            let read = read.unwrap_or_default();
            let text = format!("the row has errors; its last good version{read} stays in force");
            problems.push(Problem::warning(LAST_GOOD, text, good.origin.clone()).about(good.id.clone()));
        }
        Known {
            row,
            good,
            good_row,
            stated,
            problems,
        }
    }

    /// Drops rows that are gone, unless these are most of them and have only just disappeared.
    fn forget(&mut self, gone: BTreeMap<String, Known>, now: Instant, step: &mut RowStep) {
        let lost = gone.values().filter(|k| k.good.is_some()).count();
        let all = lost + self.rows.values().filter(|k| k.good.is_some()).count();
        let ids: Vec<String> = gone.keys().cloned().collect();
        let since = match self.mass.take() {
            Some((since, before)) if before == ids => since,
            _ => now,
        };
        let waited = now.duration_since(since);
        let emptied = lost >= ALL && lost == all;
        let grace = match emptied {
            true => self.guard,
            false if lost > FEW && lost * 2 > all => MASS_GRACE,
            false => Duration::ZERO,
        };
        if emptied && waited.is_zero() {
            let (rows, guard) = (lost, self.guard);
            step.changes.push(RowChange::Emptied { rows, guard });
        }
        if waited < grace {
            self.mass = Some((since, ids));
            self.rows.extend(gone);
            self.emptied = emptied.then_some(Emptied { rows: lost, held: true });
            step.again = Some(grace - waited + Duration::from_millis(5));
            return;
        }
        step.changes.extend(ids.into_iter().map(RowChange::Removed));
        if emptied {
            self.emptied = Some(Emptied {
                rows: lost,
                held: false,
            });
            step.changes.push(RowChange::AllGone(lost));
        } else if all > lost {
            self.emptied = None;
        }
    }

    fn emptied_problem(&self, emptied: Emptied) -> Problem {
        let rows = emptied.rows;
        let hint = "put them back, or wait; source.mass_delete says how long they stay";
        let mut problem = match emptied.held {
            true => {
                let guard = duration::format(self.guard);
                let text =
                    format!("all {rows} rows are gone from the table; their schedules stay in force for {guard}");
                Problem::error("D110", text, table_origin())
            }
            false => {
                let text = format!("all {rows} rows were deleted from the table; none of its schedules is in force");
                Problem::warning("D111", text, table_origin())
            }
        };
        problem.hint = emptied.held.then(|| hint.to_owned());
        problem
    }

    /// The content in force, and its problems.
    #[must_use]
    pub fn part(&self) -> SourcePart {
        let good = || self.rows.values().filter_map(|k| Some((k.good.as_ref()?, &k.stated)));
        let definitions = good().map(|(definition, _)| definition.clone()).collect();
        let stated = good().map(|(definition, stated)| (definition.id.clone(), stated.clone()));
        let stated = stated.collect();
        let bad = self.rows.values().filter(|k| k.good.is_none());
        let rejected = bad.map(Known::rejected).collect();
        let mut problems: Vec<Problem> = self.rows.values().flat_map(|k| k.problems.iter().cloned()).collect();
        problems.extend(self.emptied.map(|emptied| self.emptied_problem(emptied)));
        if self.too_many {
            let text = format!("more than {MAX_ROWS} rows; only the first {MAX_ROWS} by id are in force");
            problems.push(Problem::error("D107", text, table_origin()));
        }
        SourcePart {
            definitions,
            stated,
            rejected,
            problems,
            ..SourcePart::default()
        }
    }
}

impl Known {
    fn rejected(&self) -> Rejected {
        Rejected {
            id: Some(&self.row.id).filter(|id| !id.is_empty()).map(ScheduleId::row),
            name: self.row.name.clone().ok().flatten().unwrap_or_default(),
            origin: Origin {
                source: Source::Table,
                place: row::place(&self.row.id),
            },
            problems: self.problems.clone(),
        }
    }
}

/// The table as a whole.
#[must_use]
pub fn table_origin() -> Origin {
    Origin {
        source: Source::Table,
        place: "sys_crontab".to_owned(),
    }
}
