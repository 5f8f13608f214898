//! Counts of runs by minute and by hour: a hash for each series and hour, and for each series and day, all in one slot of a
//! cluster. They expire by themselves.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use redis::Value;
use runner_core::task::{RunCounts, RunSeries};

use crate::redis::RedisBroker;
use crate::redis::format::scripts::Script;
use crate::redis::format::{keys, reply};
use crate::seam::packed;
use crate::{BrokerResult, CountedBy, CountedPeriods, HOURS_KEPT_FOR, MAX_RUN_SERIES, MINUTES_KEPT_FOR, Statistics};

/// Series written by one call of the script, which blocks the server for about half a millisecond.
const WRITTEN: usize = 40;

/// Hashes read by one call of the script, of sixty counts at most: about a millisecond.
const READ: usize = 60;

#[async_trait]
impl Statistics for RedisBroker {
    async fn add_run_counts(&self, added: &[(RunSeries, RunCounts)], ago: Duration) -> BrokerResult<()> {
        let added = added.iter().filter(|(_, counts)| !counts.is_empty());
        let added: Vec<(String, String)> = added
            .filter_map(|(series, counts)| Some((packed::name_of(series)?, packed::pack(counts))))
            .collect();
        // Not the connection of the worker: a flush must not delay claims.
        let mut trip = self.pages.trip("add counts of runs").await?;
        for some in added.chunks(WRITTEN) {
            trip.script(Script::AddRunCounts, &[keys::RUN_COUNTS])
                .arg(ago.as_secs().min(3600))
                .arg(MINUTES_KEPT_FOR.as_secs())
                .arg(HOURS_KEPT_FOR.as_secs())
                .arg(MAX_RUN_SERIES);
            for (series, counts) in some {
                trip.arg(series).arg(counts);
            }
        }
        trip.send().await.map(drop)
    }

    async fn run_counts(
        &self,
        series: &[RunSeries],
        by: CountedBy,
        (from, to): (Timestamp, Timestamp),
    ) -> BrokerResult<Vec<CountedPeriods>> {
        let (first, last) = by.span(from, to);
        let hashes = usize::try_from((last - first) / periods_of_hash(by) + 2).unwrap_or(1);
        let mut trip = self.pages.trip("read counts of runs").await?;
        for some in series.chunks((READ / hashes.max(1)).max(1)) {
            trip.script(Script::RunCounts, &[keys::RUN_COUNTS])
                .arg(by.seconds())
                .arg(first)
                .arg(last);
            for one in some {
                // One whose name is too long was never stored.
                trip.arg(packed::name_of(one).unwrap_or_default());
            }
        }
        let lists = trip.send().await?.into_iter().flat_map(reply::list);
        let mut found: Vec<CountedPeriods> = lists.map(|list| periods(by, list)).collect();
        found.resize(series.len(), Vec::new());
        Ok(found)
    }
}

fn periods_of_hash(by: CountedBy) -> i64 {
    match by {
        CountedBy::Minute => 60,
        CountedBy::Hour => 24,
    }
}

fn periods(by: CountedBy, list: Value) -> CountedPeriods {
    let mut row = reply::list(list).into_iter();
    let mut found = CountedPeriods::new();
    while let (Some(number), Some(counts)) = (row.next(), row.next()) {
        let counts = packed::unpack(&reply::shown(counts).unwrap_or_default());
        let start = reply::number(number).and_then(|number| by.start(number));
        found.extend(start.filter(|_| !counts.is_empty()).map(|start| (start, counts)));
    }
    found.sort_by_key(|(start, _)| *start);
    found
}
