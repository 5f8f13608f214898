//! Time zones by their IANA names, with suggestions for unknown names.
//!
//! Names are matched exactly, as Go schedulers on the same rows do. Abbreviations and fixed offsets are refused: they do
//! not define daylight saving time, and several are ambiguous.

use jiff::tz::TimeZone;

/// Longest name of a zone looked up, in bytes; the longest that exists has 32.
const MAX_NAME: usize = 64;

/// Names that people write for a place, and the zone they mean. Lower case, `_` for blanks.
const MEANT: [(&str, &str); 33] = [
    ("asia/beijing", "Asia/Shanghai"),
    ("asia/peking", "Asia/Shanghai"),
    ("asia/shenzhen", "Asia/Shanghai"),
    ("asia/guangzhou", "Asia/Shanghai"),
    ("asia/hangzhou", "Asia/Shanghai"),
    ("asia/china", "Asia/Shanghai"),
    ("china", "Asia/Shanghai"),
    ("beijing", "Asia/Shanghai"),
    ("china_standard_time", "Asia/Shanghai"),
    ("asia/mumbai", "Asia/Kolkata"),
    ("asia/delhi", "Asia/Kolkata"),
    ("asia/bangalore", "Asia/Kolkata"),
    ("asia/osaka", "Asia/Tokyo"),
    ("america/san_francisco", "America/Los_Angeles"),
    ("america/seattle", "America/Los_Angeles"),
    ("america/washington", "America/New_York"),
    ("america/boston", "America/New_York"),
    ("america/miami", "America/New_York"),
    ("america/houston", "America/Chicago"),
    ("america/dallas", "America/Chicago"),
    ("europe/frankfurt", "Europe/Berlin"),
    ("europe/munich", "Europe/Berlin"),
    ("europe/geneva", "Europe/Zurich"),
    ("europe/barcelona", "Europe/Madrid"),
    ("europe/milan", "Europe/Rome"),
    ("australia/canberra", "Australia/Sydney"),
    ("system", "Local"),
    ("z", "UTC"),
    ("utc+8", "Asia/Shanghai"),
    ("gmt+8", "Asia/Shanghai"),
    ("utc+08:00", "Asia/Shanghai"),
    ("+08:00", "Asia/Shanghai"),
    ("+8", "Asia/Shanghai"),
];

/// Abbreviations that the database carries or people expect, with the usual zone of each.
const ABBREVIATIONS: [(&str, &str); 17] = [
    ("EST", "America/New_York"),
    ("EDT", "America/New_York"),
    ("CST", "America/Chicago"),
    ("CDT", "America/Chicago"),
    ("MST", "America/Denver"),
    ("MDT", "America/Denver"),
    ("PST", "America/Los_Angeles"),
    ("PDT", "America/Los_Angeles"),
    ("HST", "Pacific/Honolulu"),
    ("AKST", "America/Anchorage"),
    ("BST", "Europe/London"),
    ("CEST", "Europe/Berlin"),
    ("EEST", "Europe/Athens"),
    ("MSK", "Europe/Moscow"),
    ("IST", "Asia/Kolkata"),
    ("JST", "Asia/Tokyo"),
    ("KST", "Asia/Seoul"),
];

/// An unknown time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownZone {
    /// The given name.
    pub name: String,
    /// The existing name that was probably meant.
    pub suggestion: Option<String>,
}

impl UnknownZone {
    /// The reason without the suggestion.
    pub(super) fn reason(&self) -> String {
        let name = crate::duration::excerpt(&self.name);
        if self.name == "Local" {
            return "the zone that this machine is set to (TZ, /etc/localtime) cannot be used".to_owned();
        }
        if abbreviation(&self.name).is_some() {
            format!("\"{name}\" is an abbreviation, not a time zone; abbreviations are ambiguous")
        } else {
            format!("unknown time zone \"{name}\"")
        }
    }
}

impl std::fmt::Display for UnknownZone {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason())?;
        match &self.suggestion {
            Some(better) => write!(f, "; did you mean \"{better}\"?"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for UnknownZone {}

/// The zone of an IANA name. An empty name is UTC, `Local` the zone that the machine is set to.
///
/// # Errors
///
/// [`UnknownZone`], for abbreviations and fixed offsets too, with a suggestion where one is near.
pub fn find_zone(name: &str) -> Result<TimeZone, UnknownZone> {
    match name {
        "" | "UTC" => return Ok(TimeZone::UTC),
        _ => {}
    }
    let unknown = |suggestion: Option<String>| UnknownZone {
        name: name.to_owned(),
        suggestion,
    };
    if name == "Local" {
        return TimeZone::try_system().map_err(|_| unknown(None));
    }
    if name.len() > MAX_NAME {
        return Err(unknown(None));
    }
    if let Some(usual) = abbreviation(name) {
        return Err(unknown(Some(usual.to_owned())));
    }
    match TimeZone::get(name) {
        Ok(zone) if !zone.is_unknown() && spelt_as_in_database(name, &zone) => Ok(zone),
        _ => Err(unknown(suggest(name))),
    }
}

/// The database ignores case; other readers of the same text do not.
fn spelt_as_in_database(name: &str, zone: &TimeZone) -> bool {
    match zone.iana_name() {
        Some(found) if found.eq_ignore_ascii_case(name) => found == name,
        // An alias that jiff folds into another name.
        _ => jiff::tz::db().available().any(|known| known.as_str() == name),
    }
}

fn abbreviation(name: &str) -> Option<&'static str> {
    let mut known = ABBREVIATIONS.iter();
    let (_, usual) = known.find(|(short, _)| short.eq_ignore_ascii_case(name))?;
    Some(usual)
}

fn suggest(name: &str) -> Option<String> {
    let wanted = name.trim().to_lowercase().replace(' ', "_");
    if let Some((_, meant)) = MEANT.iter().find(|(alias, _)| *alias == wanted) {
        return Some((*meant).to_owned());
    }
    let lone_city = !wanted.contains('/');
    let mut best: Option<(usize, String)> = None;
    for known in jiff::tz::db().available() {
        let known = known.as_str();
        let lower = known.to_lowercase();
        let city = lower.rsplit('/').next().unwrap_or(&lower);
        let mut distance = edits(&wanted, &lower);
        if lone_city {
            distance = distance.min(edits(&wanted, city));
        }
        // If a third of the name is wrong, it is a different name.
        if distance * 3 > wanted.chars().count().min(9) {
            continue;
        }
        let better = match &best {
            Some((least, name)) => (distance, known.len(), known) < (*least, name.len(), name.as_str()),
            None => true,
        };
        if better {
            best = Some((distance, known.to_owned()));
        }
    }
    best.map(|(_, name)| name)
}

/// The number of insertions, deletions, replacements and swaps of neighbours.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut older: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut least = (above[j] + usize::from(x != y)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                least = least.min(older[j - 1] + 1);
            }
            row.push(least);
        }
        older = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}
