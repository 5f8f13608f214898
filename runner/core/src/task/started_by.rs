//! What started a task, as a header that travels with it: a word, and which one, such as `rabbitmq orders`.
//!
//! Any client can write headers, so this is for people to read; nothing is decided by it. Not here: schedules, which have headers
//! of their own, and how a run record keeps it.

use super::Task;

/// The header of a task that a trigger or a person started: a word, and after a space which event it was.
pub const STARTED_BY_HEADER: &str = "runner-started-by";

/// The word for a task that a person started by the name of its function.
pub const BY_HAND: &str = "manual";

/// Bytes that are kept of which event it was. Longer ones keep their end, which tells paths apart.
const MAX_EVENT_BYTES: usize = 512;

impl Task {
    /// Notes what starts it: one of the words of triggers, and which event. Both replace what was noted before.
    #[must_use]
    pub fn started_by(self, word: &str, event: &str) -> Self {
        let value = match end_of(event) {
            event if event.is_empty() => word.to_owned(),
            event => format!("{word} {event}"),
        };
        self.header(STARTED_BY_HEADER, value)
    }
}

/// What such a header says: the word, and which event it was.
#[must_use]
pub fn started_by(header: &str) -> (&str, Option<String>) {
    match header.split_once(' ') {
        Some((word, event)) => (word, Some(end_of(event))),
        None => (header, None),
    }
}

fn end_of(event: &str) -> String {
    if event.len() <= MAX_EVENT_BYTES {
        return event.to_owned();
    }
    let from = event.ceil_char_boundary(event.len() - MAX_EVENT_BYTES);
    format!("…{}", &event[from..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_says_word_and_event() {
        let header =
            |word: &str, event: &str| Task::new("a").started_by(word, event).headers[STARTED_BY_HEADER].clone();
        assert_eq!(header("webhook", ""), "webhook");
        assert_eq!(started_by(&header("webhook", "")), ("webhook", None));
        let file = header("file", "/in/two words.csv");
        assert_eq!(started_by(&file), ("file", Some("/in/two words.csv".to_owned())));
        let again = Task::new("a").started_by("after", "*").started_by("after", "import");
        assert_eq!(again.headers[STARTED_BY_HEADER], "after import");
    }

    #[test]
    fn a_long_path_keeps_its_end() {
        let long = format!("/{}/é.csv", "é".repeat(600));
        let (_, event) = started_by(&format!("file {long}"));
        let event = event.unwrap();
        assert!(
            event.len() < 520 && event.starts_with('…') && event.ends_with("/é.csv"),
            "{event}"
        );
    }
}
