//! Problems put together by their cause: a thousand rows that name a missing function are one line.

use serde::Serialize;

use super::rows::ProblemRow;

/// Causes listed.
const CAUSES: usize = 30;
/// Problems of one cause that are listed.
const EACH: usize = 20;

/// Problems of one code.
#[derive(Debug, Serialize)]
pub(super) struct ProblemGroup {
    n: usize,
    rows: Vec<ProblemRow>,
    /// Further ones.
    more: usize,
}

impl ProblemGroup {
    /// Whether they are errors.
    pub(super) fn is_error(&self) -> bool {
        self.rows.first().is_some_and(ProblemRow::is_error)
    }

    /// The problems by code, in the order in which the codes first appear.
    pub(super) fn all(problems: Vec<ProblemRow>) -> Vec<Self> {
        let mut groups: Vec<Self> = Vec::new();
        for problem in problems {
            let like = |group: &Self| group.rows.iter().any(|row| row.is_like(&problem));
            if let Some(place) = groups.iter().position(like) {
                let group = &mut groups[place];
                group.n += 1;
                if group.rows.len() < EACH {
                    group.rows.push(problem);
                } else {
                    group.more += 1;
                }
            } else if groups.len() < CAUSES {
                groups.push(Self {
                    n: 1,
                    rows: vec![problem],
                    more: 0,
                });
            }
        }
        groups
    }
}
