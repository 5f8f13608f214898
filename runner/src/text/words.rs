//! Parts of error messages: quotes of input, spelling suggestions, lists of allowed words.

/// How much of a quoted value an error shows, in characters.
const MAX_QUOTED: usize = 60;

/// The value in double quotes, with control characters escaped, cut to 60 characters.
#[must_use]
pub fn quoted(value: &str) -> String {
    let mut shown: String = value.chars().take(MAX_QUOTED).flat_map(escape).collect();
    if value.chars().nth(MAX_QUOTED).is_some() {
        shown.push('…');
    }
    format!("\"{shown}\"")
}

fn escape(c: char) -> Vec<char> {
    if c == '"' || is_hidden(c) {
        c.escape_default().collect()
    } else {
        vec![c]
    }
}

/// Invisible characters and those that change the reading direction: they could disguise an error as another one.
pub(super) fn is_hidden(c: char) -> bool {
    super::signs::is_special(c) || matches!(c, '\u{200c}' | '\u{200d}')
}

/// The word of `known` that was probably meant by `word`, if one is similar enough.
///
/// Letter case, `_` and `-` make no difference.
#[must_use]
pub fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |w: &str| w.replace(['_', '-'], "").to_lowercase();
    let word = plain(word);
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|k| (distance(&word, &plain(k)), k))
        .filter(|(d, _)| *d <= allowed)
        .min_by_key(|(d, _)| *d)
        .map(|(_, k)| k)
}

/// Edits that turn `a` into `b`: insert, delete, replace, swap two neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

/// `a, b or c`.
#[must_use]
pub fn one_of(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn likely_words_are_found_and_unlikely_ones_are_not() {
        let known = ["schedule", "handler", "payload", "queue", "shutdown_timeout"];
        assert_eq!(nearest("shedule", known), Some("schedule"));
        assert_eq!(nearest("handelr", known), Some("handler"));
        assert_eq!(nearest("Queue", known), Some("queue"));
        assert_eq!(nearest("shutdownTimeout", known), Some("shutdown_timeout"));
        assert_eq!(nearest("colour", known), None);
    }

    #[test]
    fn quoted_values_are_short_and_cannot_hide_anything() {
        assert_eq!(quoted("a\nb\u{202e}"), "\"a\\nb\\u{202e}\"");
        assert_eq!(quoted(&"é".repeat(61)).chars().count(), 63);
    }
}
