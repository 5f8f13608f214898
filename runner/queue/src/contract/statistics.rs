//! Clauses about counts of runs over time.

use std::time::Duration;

use jiff::Timestamp;
use runner_core::task::{RunCounts, RunSeries};

use super::shared::secs;
use super::{Clause, Fresh, START};
use crate::{CountedBy, HOURS_KEPT_FOR, MAX_RUN_SERIES, MAX_RUN_SERIES_NAME, MINUTES_KEPT_FOR};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        counts_of_runs_add_up_by_minute_and_by_hour,
        series_of_runs_are_apart_and_keep_their_names,
        counts_of_runs_are_read_for_a_range_that_is_bounded,
        on_one_day_a_bounded_number_of_series_is_counted,
    ]
}

fn counts(done: u64, failed: u64, bucket: usize) -> RunCounts {
    let mut counts = RunCounts {
        done,
        failed,
        ..RunCounts::default()
    };
    counts.took[bucket] = done + failed;
    counts.waited[23 - bucket] = done;
    counts
}

fn all(counts: RunCounts) -> (RunSeries, RunCounts) {
    (RunSeries::All, counts)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// The minute in which the store begins.
const MINUTE: i64 = START - START % 60;
/// The hour.
const HOUR: i64 = START - START % 3600;

async fn counts_of_runs_add_up_by_minute_and_by_hour(fresh: Fresh) {
    let broker = &fresh.broker;
    let read = async |by| {
        let range = (at(START - 3600), fresh.now());
        broker.run_counts(&[RunSeries::All], by, range).await.unwrap().remove(0)
    };
    assert_eq!(read(CountedBy::Minute).await, []);
    broker
        .add_run_counts(&[all(counts(5, 1, 3))], Duration::ZERO)
        .await
        .unwrap();
    broker
        .add_run_counts(&[all(counts(2, 0, 23))], Duration::ZERO)
        .await
        .unwrap();
    // What was counted a minute ago belongs there.
    broker.add_run_counts(&[all(counts(7, 0, 0))], secs(60)).await.unwrap();
    broker.add_run_counts(&[], Duration::ZERO).await.unwrap();
    broker
        .add_run_counts(&[all(RunCounts::default())], Duration::ZERO)
        .await
        .unwrap();
    fresh.clock.advance(secs(60));
    broker
        .add_run_counts(&[all(counts(0, 1, 3))], Duration::ZERO)
        .await
        .unwrap();
    let mut first = counts(5, 1, 3);
    first.add(&counts(2, 0, 23));
    let expected = [
        (at(MINUTE - 60), counts(7, 0, 0)),
        (at(MINUTE), first.clone()),
        (at(MINUTE + 60), counts(0, 1, 3)),
    ];
    assert_eq!(read(CountedBy::Minute).await, expected);
    first.add(&counts(7, 0, 0));
    first.add(&counts(0, 1, 3));
    assert_eq!(read(CountedBy::Hour).await, [(at(HOUR), first)]);
    fresh.is_sound().await;
}

async fn series_of_runs_are_apart_and_keep_their_names(fresh: Fresh) {
    let broker = &fresh.broker;
    let odd = "a}b:{c} 空\n%";
    let long = "x".repeat(MAX_RUN_SERIES_NAME + 1);
    let series = [
        RunSeries::All,
        RunSeries::Queue("mail".to_owned()),
        RunSeries::Type("mail".to_owned()),
        RunSeries::Type(odd.to_owned()),
        RunSeries::Type(long),
        RunSeries::Queue("never used".to_owned()),
    ];
    let added: Vec<_> = series[..5]
        .iter()
        .cloned()
        .zip((1..).map(|n| counts(n, 0, 1)))
        .collect();
    broker.add_run_counts(&added, Duration::ZERO).await.unwrap();
    let range = (fresh.now(), fresh.now());
    let read = broker.run_counts(&series, CountedBy::Minute, range).await.unwrap();
    let done: Vec<Option<u64>> = read.iter().map(|list| Some(list.first()?.1.done)).collect();
    assert_eq!(done, [Some(1), Some(2), Some(3), Some(4), None, None]);
    assert!(broker.run_counts(&[], CountedBy::Hour, range).await.unwrap().is_empty());
    fresh.is_sound().await;
}

async fn counts_of_runs_are_read_for_a_range_that_is_bounded(fresh: Fresh) {
    let broker = &fresh.broker;
    for _ in 0..3 {
        broker
            .add_run_counts(&[all(counts(1, 0, 1))], Duration::ZERO)
            .await
            .unwrap();
        fresh.clock.advance(secs(600));
    }
    let read = async |by, from, to| {
        let range = (at(from), at(to));
        let found = broker.run_counts(&[RunSeries::All], by, range).await.unwrap().remove(0);
        found
            .into_iter()
            .map(|(start, _)| start.as_second())
            .collect::<Vec<_>>()
    };
    let minutes = CountedBy::Minute;
    let of_both = [MINUTE, MINUTE + 600];
    assert_eq!(read(minutes, START, START + 600).await, of_both, "both ends are in it");
    assert!(read(minutes, START + 60, START + 590).await.is_empty());
    assert!(read(minutes, START + 600, START).await.is_empty(), "backwards");
    // Of a longer range the end is read.
    let kept = i64::try_from(MINUTES_KEPT_FOR.as_secs()).unwrap();
    assert_eq!(
        read(minutes, 0, START + kept + 600).await,
        [MINUTE + 600, MINUTE + 1200]
    );
    let kept = i64::try_from(HOURS_KEPT_FOR.as_secs()).unwrap();
    assert_eq!(read(CountedBy::Hour, 0, START + kept).await, [HOUR]);
    assert!(read(CountedBy::Hour, 0, START + kept + 7200).await.is_empty());
    fresh.is_sound().await;
}

async fn on_one_day_a_bounded_number_of_series_is_counted(fresh: Fresh) {
    let broker = &fresh.broker;
    let series: Vec<RunSeries> = (0..MAX_RUN_SERIES + 300)
        .map(|n| RunSeries::Type(format!("t{n}")))
        .collect();
    let added = |some: &[RunSeries]| -> Vec<_> {
        let each = some.iter().cloned().map(|one| (one, counts(1, 0, 1)));
        [all(counts(1, 0, 1))].into_iter().chain(each).collect()
    };
    broker.add_run_counts(&added(&series), Duration::ZERO).await.unwrap();
    // A known one has room later as well.
    broker
        .add_run_counts(&added(&series[..1]), Duration::ZERO)
        .await
        .unwrap();
    let range = (fresh.now(), fresh.now());
    let asked = [
        &series[..1],
        &series[MAX_RUN_SERIES - 1..=MAX_RUN_SERIES],
        &series[MAX_RUN_SERIES + 299..],
    ];
    let asked = [&asked.concat()[..], &[RunSeries::All]].concat();
    let read = broker.run_counts(&asked, CountedBy::Hour, range).await.unwrap();
    let done: Vec<Option<u64>> = read.iter().map(|list| Some(list.first()?.1.done)).collect();
    assert_eq!(done, [Some(2), Some(1), None, None, Some(2)]);
    // The next day has room of its own.
    fresh.clock.advance(secs(24 * 3600));
    broker
        .add_run_counts(&added(&series[MAX_RUN_SERIES..]), Duration::ZERO)
        .await
        .unwrap();
    let range = (fresh.now(), fresh.now());
    let read = broker
        .run_counts(&series[MAX_RUN_SERIES..], CountedBy::Minute, range)
        .await
        .unwrap();
    assert_eq!(read[0].len(), 1);
    fresh.is_sound().await;
}
