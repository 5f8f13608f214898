//! Which file gets a name that several define. Pure: neither reads files nor knows their content.
//!
//! A file in force keeps its names, whatever sorts first; a new version that defines another file's name is refused as a
//! whole. Among files of which none is in force the first path wins, the same on every instance.

use std::collections::BTreeMap;

use tokio::time::Instant;

/// The names of one file. Files are passed in the order of their paths.
#[derive(Debug, Default)]
pub struct Claimant<'a> {
    /// The names of the version in force.
    pub held: Option<Vec<&'a str>>,
    /// Names of a newer version, and when it was found.
    pub wanted: Option<(Vec<&'a str>, Instant)>,
    /// Since when the file has been gone.
    pub gone: Option<Instant>,
}

/// The version of a file that is in force from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameVerdict {
    /// The newer version.
    Newer,
    /// The previous one, if any: the newer version defines a name of this other file.
    Refused {
        /// Its index in the list.
        by: usize,
    },
    /// What was in force.
    Same,
    /// None: the file is gone, and a newer one has one of its names.
    Superseded,
}

/// The version that a file has so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Has {
    Newer,
    Older,
    Nothing,
}

/// Decides all files together, so that two of them can exchange a name.
#[must_use]
pub fn settle(claimants: &[Claimant<'_>]) -> Vec<NameVerdict> {
    let mut has: Vec<Has> = claimants.iter().map(first_wish).collect();
    // Terminates: each pass except the last takes a version from a file for good.
    while take_away(claimants, &mut has) {}
    while give_back(claimants, &mut has) {}
    let owners = owners(claimants, &has);
    let verdict = |(i, claimant): (usize, &Claimant<'_>)| match (has[i], wanted(claimant)) {
        (Has::Newer, _) => NameVerdict::Newer,
        (_, Some(names)) => {
            let other = names
                .iter()
                .find_map(|name| owners.get(name).filter(|owner| **owner != i));
            NameVerdict::Refused {
                by: other.copied().unwrap_or(i),
            }
        }
        (Has::Nothing, None) if claimant.held.is_some() => NameVerdict::Superseded,
        _ => NameVerdict::Same,
    };
    claimants.iter().enumerate().map(verdict).collect()
}

fn first_wish(claimant: &Claimant<'_>) -> Has {
    match (wanted(claimant), &claimant.held) {
        (Some(_), _) => Has::Newer,
        (None, Some(_)) => Has::Older,
        (None, None) => Has::Nothing,
    }
}

/// The names that a file claims; one that is gone claims none.
fn wanted<'c, 'a>(claimant: &'c Claimant<'a>) -> Option<&'c [&'a str]> {
    let wanted = claimant.wanted.as_ref().filter(|_| claimant.gone.is_none());
    wanted.map(|(names, _)| names.as_slice())
}

fn names<'c, 'a>(claimant: &'c Claimant<'a>, has: Has) -> &'c [&'a str] {
    match has {
        Has::Newer => wanted(claimant).unwrap_or_default(),
        Has::Older => claimant.held.as_deref().unwrap_or_default(),
        Has::Nothing => &[],
    }
}

fn owners<'a>(claimants: &[Claimant<'a>], has: &[Has]) -> BTreeMap<&'a str, usize> {
    let mut owners = BTreeMap::new();
    for (i, claimant) in claimants.iter().enumerate() {
        owners.extend(names(claimant, has[i]).iter().map(|name| (*name, i)));
    }
    owners
}

/// Wherever two files have the same name, the weaker loses its version. Returns whether there was such a name.
fn take_away(claimants: &[Claimant<'_>], has: &mut [Has]) -> bool {
    let mut owners: BTreeMap<&str, usize> = BTreeMap::new();
    let mut lost = vec![false; claimants.len()];
    for i in 0..claimants.len() {
        for name in names(&claimants[i], has[i]) {
            let Some(j) = owners.get(name).copied().filter(|j| !lost[*j] && *j != i) else {
                owners.insert(name, i);
                continue;
            };
            if is_stronger(&claimants[i], &claimants[j], name) {
                lost[j] = true;
                owners.insert(name, i);
            } else {
                lost[i] = true;
            }
        }
    }
    for (i, _) in lost.iter().enumerate().filter(|(_, lost)| **lost) {
        has[i] = match (has[i], &claimants[i].held) {
            (Has::Newer, Some(_)) => Has::Older,
            _ => Has::Nothing,
        };
    }
    lost.contains(&true)
}

/// Whether the file `a` has a better right to a name than `b`, which comes before it.
fn is_stronger(a: &Claimant<'_>, b: &Claimant<'_>, name: &str) -> bool {
    // A file that appeared when the other one disappeared is the same file under another path.
    let succeeds = |new: &Claimant<'_>, old: &Claimant<'_>| match (&new.wanted, old.gone) {
        (Some((_, found)), Some(gone)) => new.gone.is_none() && *found >= gone,
        _ => false,
    };
    if succeeds(a, b) || succeeds(b, a) {
        return succeeds(a, b);
    }
    let holds = |c: &Claimant<'_>| c.held.as_ref().is_some_and(|held| held.contains(&name));
    holds(a) && !holds(b)
}

/// Restores files that lost only to a file that lost as well. Returns whether there was one.
fn give_back(claimants: &[Claimant<'_>], has: &mut [Has]) -> bool {
    let mut owners = owners(claimants, has);
    let mut given = false;
    for (i, claimant) in claimants.iter().enumerate() {
        let Some(names) = wanted(claimant).filter(|_| has[i] != Has::Newer) else {
            continue;
        };
        if names
            .iter()
            .all(|name| owners.get(name).is_none_or(|owner| *owner == i))
        {
            owners.retain(|_, owner| *owner != i);
            owners.extend(names.iter().map(|name| (*name, i)));
            has[i] = Has::Newer;
            given = true;
        }
    }
    given
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Names in force and names claimed, each letter one name; `-` for no version.
    fn file(start: Instant, held: &'static str, wanted: &'static str) -> Claimant<'static> {
        let letters =
            |text: &'static str| (text != "-").then(|| text.split_terminator("").filter(|n| !n.is_empty()).collect());
        Claimant {
            held: letters(held),
            wanted: letters(wanted).map(|names| (names, start)),
            gone: None,
        }
    }

    fn settled(files: &[(&'static str, &'static str)]) -> Vec<NameVerdict> {
        let now = Instant::now();
        let files: Vec<_> = files.iter().map(|(held, wanted)| file(now, held, wanted)).collect();
        settle(&files)
    }

    #[test]
    fn the_file_in_force_keeps_the_name_else_the_first_path_wins() {
        use NameVerdict::{Newer, Refused, Same};
        assert_eq!(settled(&[("-", "a"), ("a", "-")]), [Refused { by: 1 }, Same]);
        assert_eq!(settled(&[("-", "a"), ("a", "a")]), [Refused { by: 1 }, Newer]);
        assert_eq!(settled(&[("-", "a"), ("-", "a")]), [Newer, Refused { by: 0 }]);
        // A refused version leaves the older one in force, with its names.
        assert_eq!(
            settled(&[("-", "b"), ("b", "bc"), ("c", "-")]),
            [Refused { by: 1 }, Refused { by: 2 }, Same]
        );
    }

    #[test]
    fn names_move_and_are_exchanged_in_one_step() {
        use NameVerdict::{Newer, Refused};
        assert_eq!(settled(&[("a", "b"), ("b", "a")]), [Newer, Newer]);
        assert_eq!(settled(&[("a", ""), ("-", "a")]), [Newer, Newer]);
        assert_eq!(settled(&[("a", "b"), ("b", "c"), ("c", "a")]), [Newer, Newer, Newer]);
        // The second cannot give up its name, so the first does not get it; the third stays free to change.
        assert_eq!(
            settled(&[("a", "b"), ("b", "c"), ("c", "c")]),
            [Refused { by: 1 }, Refused { by: 2 }, Newer]
        );
        // The first loses a name to the second, which loses another one to the third: so the first keeps its own.
        assert_eq!(settled(&[("-", "x"), ("x", "y"), ("y", "-")])[0], Refused { by: 1 });
        assert_eq!(
            settled(&[("-", "ax"), ("-", "ab"), ("b", "-")]),
            [Newer, Refused { by: 0 }, NameVerdict::Same]
        );
    }

    #[test]
    fn a_file_that_is_gone_makes_way_for_its_successor_only() {
        let start = Instant::now();
        let later = start + Duration::from_millis(5);
        let gone = |gone| Claimant {
            gone: Some(gone),
            ..file(start, "a", "-")
        };
        // Under another path: found when the old one was gone.
        let renamed = [gone(later), file(later, "-", "a")];
        assert_eq!(settle(&renamed), [NameVerdict::Superseded, NameVerdict::Newer]);
        // A copy that was refused before does not take over while an editor replaces the file.
        let copied = [file(start, "-", "a"), gone(later)];
        assert_eq!(settle(&copied), [NameVerdict::Refused { by: 1 }, NameVerdict::Same]);
    }

    #[test]
    fn many_copies_cost_little() {
        let files: Vec<_> = std::iter::repeat_n(("-", "abc"), 10_000).collect();
        let verdicts = settled(&files);
        assert_eq!(verdicts[0], NameVerdict::Newer);
        assert!(verdicts[1..].iter().all(|v| *v == NameVerdict::Refused { by: 0 }));
    }
}
