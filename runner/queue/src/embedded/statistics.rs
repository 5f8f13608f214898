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
use super::rows::{count, micros, span};
use super::writer::Tx;
use crate::seam::packed;
use crate::{BrokerResult, CountedBy, CountedPeriods, MAX_RUN_SERIES, Statistics};

/// Microseconds of a second.
const SECOND: i64 = 1_000_000;

/// The name of the total, which is always counted.
const TOTAL: &str = "a";

/// Hours of a UTC day.
const HOURS: i64 = 24;

/// Rows that one pass deletes; the next pass continues.
const CHUNK: i64 = 1_000;

/// Both lengths of periods.
const BOTH: [CountedBy; 2] = [CountedBy::Minute, CountedBy::Hour];

/// Series that one change writes: about 4 ms in which no task is claimed.
const WRITTEN: usize = 100;

/// Counts to add, by the name of the series.
type Added = Vec<(String, RunCounts)>;

/// Those that may be counted: the total, what was counted on this day, and others while there is room. All rows of the day are
/// read to find out how many were counted, so that is done once at most.
fn admitted(
    added: Added,
    is_known: impl Fn(&str) -> Result<bool, SqlError>,
    counted: impl Fn() -> Result<u64, SqlError>,
) -> Result<Added, SqlError> {
    let (mut admitted, mut room) = (Vec::with_capacity(added.len()), None);
    for (series, counts) in added {
        if series != TOTAL && !is_known(&series)? {
            let left: u64 = match room {
                Some(left) => left,
                None => (MAX_RUN_SERIES as u64).saturating_sub(counted()?),
            };
            room = Some(left.saturating_sub(1));
            if left == 0 {
                continue;
            }
        }
        admitted.push((series, counts));
    }
    Ok(admitted)
}

/// See [`admitted`]; on the day of this second.
fn admitted_on(conn: &Connection, added: Added, second: i64) -> Result<Added, SqlError> {
    let unit = CountedBy::Hour.seconds();
    let first = second.div_euclid(unit * HOURS) * HOURS;
    let last = first + HOURS - 1;
    let is_known = |series: &str| {
        let text = "SELECT EXISTS (SELECT 1 FROM run_counts WHERE series = ? AND unit = ? AND at BETWEEN ? AND ?)";
        conn.value(text, params![series, unit, first, last])
    };
    let counted = || {
        let text =
            "SELECT count(DISTINCT series) FROM run_counts WHERE unit = ? AND at BETWEEN ? AND ? AND series <> ?";
        conn.value(text, params![unit, first, last, TOTAL]).map(count)
    };
    admitted(added, is_known, counted)
}

fn add(tx: &Tx<'_>, series: &str, counts: &RunCounts, second: i64) -> Result<(), SqlError> {
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
            "INSERT INTO run_counts (series, unit, at, counts) VALUES (?, ?, ?, ?) \
             ON CONFLICT DO UPDATE SET counts = excluded.counts",
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
        let added: Added = added
            .filter_map(|(series, counts)| Some((packed::name_of(series)?, counts.clone())))
            .collect();
        if added.is_empty() {
            return Ok(());
        }
        let ago = span(ago.min(Duration::from_secs(3600)));
        let second = micros(self.clock.now()).saturating_sub(ago).div_euclid(SECOND);
        // Beside the writer, which would hold up claims. Two processes may both use the last room: a few series too many.
        let query = move |conn: &Connection| admitted_on(conn, added.clone(), second);
        let added = self.readers.query("look for room for counts of runs", query).await?;
        for some in added.chunks(WRITTEN).map(<[_]>::to_vec) {
            let change = move |tx: &mut Tx<'_>| {
                let second = tx.now.saturating_sub(ago).div_euclid(SECOND);
                some.iter()
                    .try_for_each(|(series, counts)| add(tx, series, counts, second))
            };
            self.writer.write_unsynced("add counts of runs", change).await?;
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::cell::Cell;

    use super::*;

    #[test]
    fn how_many_series_a_day_has_is_read_once_for_all_beyond_the_bound() {
        let names = [TOTAL.to_owned()].into_iter().chain((0..300).map(|n| format!("q:{n}")));
        let added: Added = names.map(|name| (name, RunCounts::default())).collect();
        let of_day = |known: &[&str], counted: u64| {
            let reads = Cell::new(0);
            let is_known = |series: &str| Ok(known.contains(&series));
            let counted = || {
                reads.set(reads.get() + 1);
                Ok(counted)
            };
            let admitted = admitted(added.clone(), is_known, counted).unwrap();
            (admitted.len(), reads.get())
        };
        let full = MAX_RUN_SERIES as u64;
        assert_eq!(of_day(&["q:7"], full), (2, 1));
        assert_eq!(of_day(&["q:7"], full + 5), (2, 1));
        assert_eq!(of_day(&["q:7"], full - 10), (12, 1));
        assert_eq!(of_day(&[], 0), (301, 1));
    }
}
