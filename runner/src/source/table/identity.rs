//! Which rows can be distinguished. A row's id is the identity of its schedule, so each may occur only once.

use std::collections::BTreeMap;

use super::store::{AmbiguousRows, MAX_ID, RowFault, TableRow};
use super::switch::is_on;
use crate::text::signs;

/// Names of rows that are kept for a message.
const NAMED: usize = 3;

/// Characters of an odd id or of a name that are kept for a message.
const SHOWN: usize = 40;

/// Each id once, in the order of their first rows. Rows that cannot be distinguished become one with an error.
pub fn distinct(rows: Vec<TableRow>) -> Vec<TableRow> {
    let mut kept: Vec<TableRow> = Vec::with_capacity(rows.len());
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for row in rows {
        let row = checked(row);
        match places.get(&row.id) {
            Some(place) => join(&mut kept[*place], row),
            None => {
                places.insert(row.id.clone(), kept.len());
                kept.push(row);
            }
        }
    }
    kept
}

/// The row with only the problem of its id.
fn checked(mut row: TableRow) -> TableRow {
    if row.id.is_empty() {
        row.fault = Some(RowFault::NoId(group_of(&row)));
    } else if row.id.chars().count() > MAX_ID || row.id.chars().any(signs::is_special) {
        row.id = shown(&row.id);
        row.fault = Some(RowFault::OddId);
    }
    row
}

/// Adds another row with the same id.
fn join(kept: &mut TableRow, other: TableRow) {
    let before = std::mem::take(&mut kept.fault);
    kept.fault = Some(match before {
        Some(RowFault::NoId(group)) => RowFault::NoId(grown(group, &other)),
        Some(RowFault::OddId) => RowFault::OddId,
        Some(RowFault::SameId(group)) => RowFault::SameId(grown(group, &other)),
        Some(RowFault::Beyond) | None => RowFault::SameId(grown(group_of(kept), &other)),
    });
    // They are off if all of them are.
    if !is_on(&kept.status) {
        kept.status = other.status;
    }
}

fn group_of(row: &TableRow) -> AmbiguousRows {
    let group = AmbiguousRows {
        rows: 0,
        names: Vec::new(),
    };
    grown(group, row)
}

fn grown(mut group: AmbiguousRows, row: &TableRow) -> AmbiguousRows {
    group.rows += 1;
    if group.names.len() < NAMED {
        group.names.push(shown(
            row.name.as_ref().ok().and_then(Option::as_deref).unwrap_or_default(),
        ));
    }
    group
}

fn shown(text: &str) -> String {
    let text = signs::line(text);
    let mut shown: String = text.chars().take(SHOWN).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, name: &str, status: &str) -> TableRow {
        TableRow {
            id: id.to_owned(),
            name: Ok(Some(name.to_owned())),
            kind: Ok(Some("t".to_owned())),
            spec: Ok(Some("@daily".to_owned())),
            payload: Ok(None),
            status: Ok(Some(status.to_owned())),
            fault: None,
        }
    }

    fn group(rows: usize, names: &[&str]) -> AmbiguousRows {
        AmbiguousRows {
            rows,
            names: names.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    #[test]
    fn rows_of_one_id_become_one() {
        let rows = vec![
            row("0", "a", "0"),
            row("1", "x", "1"),
            row("0", "b", "1"),
            row("0", "c", "0"),
            row("0", "d", "0"),
        ];
        let found = distinct(rows);
        let faults: Vec<_> = found.iter().map(|row| (row.id.as_str(), row.fault.clone())).collect();
        let same = RowFault::SameId(group(4, &["a", "b", "c"]));
        assert_eq!(faults, [("0", Some(same)), ("1", None)]);
        assert!(is_on(&found[0].status), "one of them is on");
        let off = distinct(vec![row("0", "a", "0"), row("0", "b", "0")]);
        assert!(!is_on(&off[0].status));
    }

    #[test]
    fn an_id_that_cannot_be_one_is_named() {
        let long = "x".repeat(MAX_ID + 1);
        let found = distinct(vec![
            row("", "a", "1"),
            row("", "b", "1"),
            row("e\u{1b}[2J", "c", "1"),
            row(&long, "d", "1"),
        ]);
        let faults: Vec<_> = found.iter().map(|row| row.fault.clone()).collect();
        let none = RowFault::NoId(group(2, &["a", "b"]));
        assert_eq!(faults, [Some(none), Some(RowFault::OddId), Some(RowFault::OddId)]);
        assert_eq!(
            (found[1].id.as_str(), found[2].id.chars().count()),
            ("e␛[2J", SHOWN + 1)
        );
        let most = "x".repeat(MAX_ID);
        assert_eq!(distinct(vec![row(&most, "a", "1")])[0].fault, None);
    }
}
