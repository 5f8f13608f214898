//! All rows: what is kept of bad ones and of those that are gone.

use std::time::Duration;

use tokio::time::Instant;

use super::{context, row};
use crate::source::table::rows::{RowChange, Rows};
use crate::source::table::store::{MAX_ROWS, TableRow};

#[test]
fn a_bad_row_keeps_its_last_good_version_but_can_be_switched_off() {
    let mut rows = Rows::new(context());
    let now = Instant::now();
    rows.apply(vec![row("t", "@daily", "~", "1")], now);
    let step = rows.apply(vec![row("t", "0 25 * * *", "~", "1")], now);
    assert!(matches!(step.changes[..], [RowChange::Rejected { kept: true, .. }]));
    let part = rows.part();
    assert_eq!(
        (part.definitions[0].timing.text.as_str(), part.definitions[0].enabled),
        ("@daily", true)
    );
    let codes: Vec<&str> = part.problems.iter().map(|p| p.code.as_str()).collect();
    assert_eq!(codes, ["E203", "W104"]);
    assert!(
        rows.apply(vec![row("t", "0 25 * * *", "~", "1")], now)
            .changes
            .is_empty()
    );
    rows.apply(vec![row("t", "0 25 * * *", "~", "0")], now);
    assert!(!rows.part().definitions[0].enabled);
    rows.apply(vec![row("t", "0 5 * * *", "~", "1")], now);
    assert_eq!(
        (rows.part().problems.len(), rows.part().definitions[0].enabled),
        (0, true)
    );
}

#[test]
fn rows_of_one_id_are_an_error_and_the_version_in_force_stays() {
    let named = |id: &str, name: &str| TableRow {
        id: id.into(),
        name: Ok(Some(name.into())),
        ..row("t", "@daily", "~", "1")
    };
    let mut rows = Rows::new(context());
    let now = Instant::now();
    let three = || vec![named("0", "a"), named("0", "b"), named("", "c")];
    let step = rows.apply(three(), now);
    assert_eq!(step.changes.len(), 2, "{:?}", step.changes);
    assert!(rows.apply(three(), now).changes.is_empty(), "reported once");
    let part = rows.part();
    assert_eq!(part.definitions, []);
    let reported: Vec<String> = part.problems.iter().map(ToString::to_string).collect();
    assert!(
        reported[0].contains("D113") && reported[0].contains("1 row has no id (\"c\")"),
        "{reported:?}"
    );
    let expected = "2 rows have this id (\"a\", \"b\"); none of them is applied";
    assert!(
        reported[1].contains("D114") && reported[1].contains("id 0") && reported[1].contains(expected),
        "{reported:?}"
    );
    rows.apply(vec![named("0", "a")], now);
    assert_eq!((rows.part().definitions.len(), rows.part().problems.len()), (1, 0));
    rows.apply(vec![named("0", "a"), named("0", "b")], now);
    let part = rows.part();
    assert_eq!((part.definitions[0].name.as_str(), part.problems.len()), ("a", 2));
}

#[test]
fn most_rows_gone_must_be_gone_for_a_while_and_too_many_are_reported() {
    let many = |n: usize| {
        (0..n)
            .map(|i| TableRow {
                id: i.to_string(),
                ..row("t", "@daily", "~", "1")
            })
            .collect::<Vec<_>>()
    };
    let mut rows = Rows::new(context());
    let start = Instant::now();
    rows.apply(many(10), start);
    let step = rows.apply(many(1), start + Duration::from_secs(10));
    assert_eq!((step.changes.len(), rows.part().definitions.len()), (0, 10));
    assert!(step.again.is_some_and(|a| a < Duration::from_secs(3)));
    let step = rows.apply(many(1), start + Duration::from_secs(13));
    assert_eq!((step.changes.len(), rows.part().definitions.len()), (9, 1));
    rows.apply(many(MAX_ROWS + 1), start + Duration::from_secs(20));
    let part = rows.part();
    assert_eq!(
        (part.definitions.len(), part.problems[0].code.as_str()),
        (MAX_ROWS, "D107")
    );
}

#[test]
fn when_no_row_is_left_all_stay_for_the_guard_and_it_is_an_error() {
    let some = |ids: &[usize]| -> Vec<TableRow> {
        let one = |id: &usize| TableRow {
            id: id.to_string(),
            ..row("t", "@daily", "~", "1")
        };
        ids.iter().map(one).collect()
    };
    let guard = Duration::from_secs(60);
    let mut rows = Rows::new(context()).guarded(guard);
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let codes = |rows: &Rows| -> Vec<String> { rows.part().problems.into_iter().map(|p| p.code).collect() };
    rows.apply(some(&[1, 2]), start);
    let step = rows.apply(Vec::new(), at(1));
    assert_eq!(step.changes, [RowChange::Emptied { rows: 2, guard }]);
    assert_eq!(
        (rows.part().definitions.len(), codes(&rows)),
        (2, vec!["D110".to_owned()])
    );
    // They come back, and go again.
    assert_eq!(rows.apply(some(&[1, 2]), at(50)).changes, []);
    assert_eq!(codes(&rows), [""; 0]);
    assert_eq!(rows.apply(Vec::new(), at(55)).changes.len(), 1);
    assert_eq!(rows.apply(Vec::new(), at(114)).changes, []);
    assert_eq!(rows.part().definitions.len(), 2);
    let step = rows.apply(Vec::new(), at(116));
    assert_eq!(
        (step.changes.len(), step.changes.last()),
        (3, Some(&RowChange::AllGone(2)))
    );
    assert_eq!(
        (rows.part().definitions.len(), codes(&rows)),
        (0, vec!["D111".to_owned()])
    );
    rows.apply(some(&[3]), at(120));
    assert_eq!(codes(&rows), [""; 0]);
    // One row alone goes at once: that is how a person ends it.
    assert_eq!(
        rows.apply(Vec::new(), at(121)).changes,
        [RowChange::Removed("3".to_owned())]
    );
}
