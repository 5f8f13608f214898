//! The table `sys_crontab`: read periodically, from any of the databases.

mod columns;
mod connection;
mod edit;
mod identity;
#[cfg(feature = "mysql")]
mod mysql;
#[cfg(not(all(feature = "mysql", feature = "postgres", feature = "sqlite")))]
mod not_built;
mod payload;
#[cfg(feature = "postgres")]
mod postgres;
mod reading;
mod row;
mod rows;
mod saved_rows;
#[cfg(feature = "sqlite")]
mod sqlite;
mod statement;
mod store;
mod switch;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use jiff::Timestamp;
use runner_core::duration;
use runner_core::schedule::{Problem, Source, stable_hash};

use super::manifest::ScheduleContext;
use super::saved_state::SavedState;
use super::settings::TableSettings;
use super::shared::{Refresh, Shared, SourcePart};
use super::state_store::StateStore;
use super::status::{SourceError, SourceState};
use crate::background::BackgroundLoop;

pub(in crate::source) use edit::check as check_row;
pub use edit::{CheckedFields, EditError, EditableRow, RowEdit, RowEditor, RowField, RowFields, WriteError};
use rows::{RowChange, Rows};
use saved_rows::SavedRows;
use store::Store;
pub use store::TableError;

/// The kind under which the rows in force are saved.
const KIND: &str = "rows";

/// More changes than this in one reading are logged as a number: the first look, a restored dump.
const LOGGED_CHANGES: usize = 20;

/// Creates the table if it is missing. Returns whether it did. The directory of a file must exist.
///
/// # Errors
///
/// If the database cannot be reached within 5 seconds or refuses.
pub async fn migrate(settings: &TableSettings) -> Result<bool, TableError> {
    open(settings).migrate().await
}

fn open(settings: &TableSettings) -> Box<dyn Store> {
    match settings {
        #[cfg(feature = "sqlite")]
        TableSettings::OfBroker { path } => Box::new(sqlite::open_existing(path)),
        #[cfg(feature = "sqlite")]
        TableSettings::Sqlite { path } => Box::new(sqlite::open(path)),
        #[cfg(not(feature = "sqlite"))]
        TableSettings::OfBroker { .. } | TableSettings::Sqlite { .. } => Box::new(not_built::NotBuilt("sqlite")),
        #[cfg(feature = "mysql")]
        TableSettings::MySql(server) => Box::new(mysql::open(server)),
        #[cfg(not(feature = "mysql"))]
        TableSettings::MySql(_) => Box::new(not_built::NotBuilt("mysql")),
        #[cfg(feature = "postgres")]
        TableSettings::Postgres(server) => Box::new(postgres::open(server)),
        #[cfg(not(feature = "postgres"))]
        TableSettings::Postgres(_) => Box::new(not_built::NotBuilt("postgres")),
    }
}

/// The same table for edits, not connected yet.
fn open_rows(settings: &TableSettings) -> Box<dyn edit::RowStore> {
    match settings {
        #[cfg(feature = "sqlite")]
        TableSettings::OfBroker { path } | TableSettings::Sqlite { path } => Box::new(sqlite::open_existing(path)),
        #[cfg(not(feature = "sqlite"))]
        TableSettings::OfBroker { .. } | TableSettings::Sqlite { .. } => Box::new(not_built::NotBuilt("sqlite")),
        #[cfg(feature = "mysql")]
        TableSettings::MySql(server) => Box::new(mysql::open(server)),
        #[cfg(not(feature = "mysql"))]
        TableSettings::MySql(_) => Box::new(not_built::NotBuilt("mysql")),
        #[cfg(feature = "postgres")]
        TableSettings::Postgres(server) => Box::new(postgres::open(server)),
        #[cfg(not(feature = "postgres"))]
        TableSettings::Postgres(_) => Box::new(not_built::NotBuilt("postgres")),
    }
}

/// The background loop of the table.
pub struct Table {
    store: Box<dyn Store>,
    /// A file that need not exist yet.
    awaited: Option<PathBuf>,
    place: String,
    rows: Rows,
    memory: SavedState,
    /// It was read in this run of the program.
    loaded: bool,
    /// When the rows in force were read in an earlier run, if this one could not read any yet.
    restored: Option<Timestamp>,
    interval: Duration,
    shared: Arc<Shared>,
    trigger: Arc<Refresh>,
    looks: u64,
}

impl Table {
    /// Nothing was read yet.
    pub fn new(
        settings: &TableSettings,
        interval: Duration,
        context: ScheduleContext,
        shared: Arc<Shared>,
        trigger: Arc<Refresh>,
    ) -> Self {
        let (store, place, rows) = (open(settings), settings.place(), Rows::new(context));
        let awaited = match settings {
            TableSettings::OfBroker { path } => Some(path.clone()),
            _ => None,
        };
        Self {
            store,
            awaited,
            memory: SavedState::new(None, KIND, &place),
            place,
            rows,
            loaded: false,
            restored: None,
            interval,
            shared,
            trigger,
            looks: 0,
        }
    }

    /// Keeps all rows in force for this long when none is left.
    #[must_use]
    pub fn guarded(mut self, guard: Duration) -> Self {
        self.rows = self.rows.guarded(guard);
        self
    }

    /// Saves what is in force there, for a restart while the database is unreachable or a row has errors.
    #[must_use]
    pub fn keeping(mut self, keep: Option<Arc<dyn StateStore>>) -> Self {
        self.memory = SavedState::new(keep, KIND, &self.place);
        self
    }

    /// Requests a reading of this table.
    pub fn trigger(&self) -> Arc<Refresh> {
        Arc::clone(&self.trigger)
    }

    /// What edits the rows of this table and has them read afterwards.
    pub fn editor(&self, settings: &TableSettings, context: ScheduleContext) -> RowEditor {
        let (shared, trigger) = (Arc::clone(&self.shared), Arc::clone(&self.trigger));
        RowEditor::new(settings.clone(), context, shared, trigger, open_rows)
    }

    /// Reads the table once. Returns when to read again, if sooner than usual.
    pub async fn look(&mut self) -> Option<Duration> {
        if self.is_absent() {
            // Not an error: it was not created yet.
            let news = self
                .shared
                .fail(Source::Table, &SourceError::Absent(self.place.clone()));
            if news {
                tracing::debug!(table = %self.place, "there is no table yet; `runner migrate` creates it");
            }
            return None;
        }
        match self.store.rows().await {
            Ok(rows) => {
                if let Some(kept) = self.memory.recall::<SavedRows>().await {
                    let at = kept.at;
                    self.rows.remember(kept.into_rows(), at);
                }
                let step = self.rows.apply(rows, tokio::time::Instant::now());
                if self.shared.recovered(Source::Table) {
                    tracing::info!(table = %self.place, "table can be read again");
                }
                log_changes(&step.changes);
                (self.loaded, self.restored) = (true, None);
                let now = self.shared.now();
                self.shared.publish(Source::Table, self.rows.part(), now);
                let (body, fingerprint) = saved_rows::body_of(&self.rows.in_force(), now);
                self.memory.save(fingerprint, body).await;
                step.again
            }
            Err(error) => {
                self.restore().await;
                self.unavailable(&error);
                None
            }
        }
    }

    /// Whether there never was a file.
    fn is_absent(&self) -> bool {
        let was_read = matches!(
            self.shared.state_of(Source::Table),
            Some(SourceState::Loaded | SourceState::Stale { .. })
        );
        !was_read && self.awaited.as_ref().is_some_and(|path| !path.exists())
    }

    /// Continues without an answer: with the rows of an earlier run, if they are known.
    pub async fn fall_back(&mut self) {
        self.restore().await;
        self.unavailable(&TableError::Database("it does not answer yet".to_owned()));
    }

    /// Puts the rows of an earlier run in force, if none was read in this one.
    async fn restore(&mut self) {
        if self.loaded || self.restored.is_some() {
            return;
        }
        let Some(kept) = self.memory.recall::<SavedRows>().await else {
            return;
        };
        let at = kept.at;
        self.rows.apply(kept.into_rows(), tokio::time::Instant::now());
        self.restored = Some(at);
        let mut part: SourcePart = self.rows.part();
        let rows = part.definitions.len();
        let of = self.rows.shown(at);
        let text = format!("the table cannot be read; the last known version of its {rows} rows, of {of}, is in force");
        part.problems.push(Problem::warning("D112", text, rows::table_origin()));
        tracing::warn!(
            code = "rows_restored", table = %self.place, rows, read_at = %at,
            "the rows of an earlier run are in force until the table can be read"
        );
        self.shared.restore(Source::Table, part, at);
    }

    fn unavailable(&self, error: &TableError) {
        let since = self.restored.map(|at| self.rows.shown(at));
        let since = since.map(|at| format!("; its rows of {at} are in force"));
        let reason = format!("{error}{}", since.unwrap_or_default());
        let news = self.shared.fail(Source::Table, &SourceError::Failed(reason));
        if *error == TableError::NoTable {
            let mut part: SourcePart = self.rows.part();
            let mut problem = Problem::error("D108", "table sys_crontab does not exist", rows::table_origin());
            problem.hint = Some(format!("`runner migrate` creates it in {}", self.place));
            part.problems.push(problem);
            self.shared.publish_part(Source::Table, part);
        }
        if !news {
            return;
        }
        let in_force = match self.shared.state_of(Source::Table) {
            Some(SourceState::Stale { .. }) => "the rows last read",
            _ => "no row",
        };
        tracing::error!(table = %self.place, reason = %error, in_force, "table cannot be read");
    }

    /// Between 90 and 110 percent of the interval, so that many instances do not ask in step.
    fn pause(&self) -> Duration {
        let spread = stable_hash(&[&self.place, &std::process::id().to_string(), &self.looks.to_string()]) % 200;
        self.interval
            .mul_f64(0.9 + f64::from(u32::try_from(spread).unwrap_or_default()) / 1000.0)
    }
}

fn log_changes(changes: &[RowChange]) {
    for change in changes {
        // Errors are always logged; the rest only if it is short enough to read.
        match change {
            RowChange::Rejected { first, kept } => {
                let in_force = if *kept {
                    "its last good version"
                } else {
                    "nothing of this row"
                };
                tracing::error!(in_force, problem = %first.one_line(), "row rejected");
            }
            RowChange::Doubted(problem) if changes.len() <= LOGGED_CHANGES => {
                tracing::warn!(problem = %problem.one_line(), "row has a warning");
            }
            RowChange::Applied(d) if changes.len() <= LOGGED_CHANGES => {
                tracing::info!(schedule = %d.id, name = %d.name, spec = %d.timing.text, enabled = d.enabled, "row applied");
            }
            RowChange::Emptied { rows, guard } => tracing::error!(
                code = "D110", rows, guard = %duration::format(*guard),
                "all rows are gone from the table; their schedules stay in force for a while (source.mass_delete)"
            ),
            RowChange::AllGone(rows) => tracing::error!(
                code = "D111",
                rows,
                "all rows were deleted from the table; none of its schedules is in force"
            ),
            RowChange::Removed(id) if changes.len() <= LOGGED_CHANGES => {
                tracing::info!(schedule = %format_args!("db:{id}"), "row removed")
            }
            RowChange::Applied(_) | RowChange::Doubted(_) | RowChange::Removed(_) => (),
        }
    }
    if changes.len() > LOGGED_CHANGES {
        tracing::info!(changes = changes.len(), "rows applied");
    }
}

#[async_trait]
impl BackgroundLoop for Table {
    fn name(&self) -> &'static str {
        "table"
    }

    fn every(&self) -> Duration {
        // Only a bound: each turn returns when the next one is due.
        self.interval * 2
    }

    async fn turn(&mut self) -> Option<Duration> {
        let asked = self.trigger.begin();
        self.looks += 1;
        let again = self.look().await;
        self.trigger.end(asked);
        let pause = self.pause();
        Some(again.map_or(pause, |again| again.min(pause)))
    }
}
