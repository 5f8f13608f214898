//! Counts of runs by minute and by hour: one row for each series and period. Old ones are deleted by `sweep`.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use runner_core::task::{RunCounts, RunSeries};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, params};

use super::EmbeddedBroker;
use super::connection::Statements as _;
use super::error::SqlError;
use super::rows::{column, count, span};
use super::writer::Tx;
use crate::seam::packed;
use crate::{BrokerResult, CountedBy, CountedPeriods, MAX_RUN_SERIES, Statistics};

/// Microseconds of a second.
const SECOND: i64 = 1_000_000;

/// Hours of a UTC day.
const HOURS: i64 = 24;

/// Rows that one pass deletes; the next pass continues.
const CHUNK: i64 = 1_000;

/// Both lengths of periods.
const BOTH: [CountedBy; 2] = [CountedBy::Minute, CountedBy::Hour];

/// Whether the series may be counted: the total, one that was counted on this day, or one for which there is room.
fn has_room(tx: &Tx<'_>, series: &str, hour: i64) -> Result<bool, SqlError> {
    if series == "a" {
        return Ok(true);
    }
    let first = hour.div_euclid(HOURS) * HOURS;
    let of_day = params![series, CountedBy::Hour.seconds(), first, first + HOURS - 1];
    let known = "SELECT EXISTS (SELECT 1 FROM run_counts WHERE series = ? AND unit = ? AND at BETWEEN ? AND ?)";
    if tx.conn.value(known, of_day)? {
        return Ok(true);
    }
    let counted: i64 = tx.conn.value(
        "SELECT count(DISTINCT series) FROM run_counts WHERE unit = ? AND at BETWEEN ? AND ?",
        params![CountedBy::Hour.seconds(), first, first + HOURS - 1],
    )?;
    // The total is among them.
    Ok(counted <= column(MAX_RUN_SERIES as u64))
}

fn add(tx: &Tx<'_>, series: &str, counts: &RunCounts, second: i64) -> Result<(), SqlError> {
    if !has_room(tx, series, second.div_euclid(CountedBy::Hour.seconds()))? {
        return Ok(());
    }
    for by in BOTH {
        let unit = by.seconds();
        let place = params![series, unit, second.div_euclid(unit)];
        let text = "SELECT counts FROM run_counts WHERE series = ? AND unit = ? AND at = ?";
        let mut sum = tx
            .conn
            .first(text, place, |row| Ok(counts_of(row.get_ref(0)?)))?
            .unwrap_or_default();
        sum.add(counts);
        tx.conn.exec(
            "INSERT OR REPLACE INTO run_counts (series, unit, at, counts) VALUES (?, ?, ?, ?)",
            params![series, unit, second.div_euclid(unit), packed::pack(&sum)],
        )?;
    }
    Ok(())
}

/// What a column holds, whatever that is.
fn counts_of(value: ValueRef<'_>) -> RunCounts {
    let text = value.as_bytes().map(String::from_utf8_lossy).unwrap_or_default();
    packed::unpack(&text)
}

fn read(conn: &Connection, series: &str, by: CountedBy, (first, last): (i64, i64)) -> Result<CountedPeriods, SqlError> {
    let found = conn.all(
        "SELECT at, counts FROM run_counts WHERE series = ? AND unit = ? AND at BETWEEN ? AND ? ORDER BY at",
        params![series, by.seconds(), first, last],
        |row| Ok((row.get::<_, i64>(0)?, counts_of(row.get_ref(1)?))),
    )?;
    let found = found.into_iter().filter(|(_, counts)| !counts.is_empty());
    Ok(found.filter_map(|(at, counts)| Some((by.start(at)?, counts))).collect())
}

/// Deletes counts that are old. Returns whether there may be more.
pub(super) fn forget(tx: &Tx<'_>) -> Result<bool, SqlError> {
    let mut more = false;
    for by in BOTH {
        let oldest = tx
            .now
            .saturating_sub(span(by.kept_for()))
            .div_euclid(SECOND * by.seconds());
        let gone = tx.conn.exec(
            "DELETE FROM run_counts WHERE (series, unit, at) IN \
             (SELECT series, unit, at FROM run_counts WHERE unit = ? AND at < ? LIMIT ?)",
            [by.seconds(), oldest, CHUNK],
        )?;
        more |= gone == count(CHUNK);
    }
    Ok(more)
}

#[async_trait]
impl Statistics for EmbeddedBroker {
    async fn add_run_counts(&self, added: &[(RunSeries, RunCounts)], ago: Duration) -> BrokerResult<()> {
        let added = added.iter().filter(|(_, counts)| !counts.is_empty());
        let added: Vec<(String, RunCounts)> = added
            .filter_map(|(series, counts)| Some((packed::name_of(series)?, counts.clone())))
            .collect();
        if added.is_empty() {
            return Ok(());
        }
        let ago = ago.min(Duration::from_secs(3600));
        let change = move |tx: &mut Tx<'_>| {
            let second = tx.now.saturating_sub(span(ago)).div_euclid(SECOND);
            added
                .iter()
                .try_for_each(|(series, counts)| add(tx, series, counts, second))
        };
        self.writer.write_unsynced("add counts of runs", change).await
    }

    async fn run_counts(
        &self,
        series: &[RunSeries],
        by: CountedBy,
        (from, to): (Timestamp, Timestamp),
    ) -> BrokerResult<Vec<CountedPeriods>> {
        let names: Vec<Option<String>> = series.iter().map(packed::name_of).collect();
        let span = by.span(from, to);
        let query = move |conn: &Connection| {
            let of = |name: &Option<String>| match name {
                Some(name) => read(conn, name, by, span),
                None => Ok(Vec::new()),
            };
            names.iter().map(of).collect()
        };
        self.readers.query("read counts of runs", query).await
    }
}
