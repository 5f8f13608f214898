//! Expressions in words: first a language-neutral phrase, then the words of one language.
//!
//! Common shapes read as a person would say them; all others are spelt out field by field, which is longer but still
//! right.

mod chinese;
mod english;
mod phrase;

use super::parse::{Parsed, ParsedRule};
use phrase::Phrase;

/// The language of a description.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Language {
    /// English.
    #[default]
    English,
    /// Simplified Chinese.
    Chinese,
}

pub(super) fn describe(parsed: &Parsed, language: Language) -> String {
    let words = match &parsed.plan {
        ParsedRule::Every(distance) => match language {
            Language::English => english::every(distance.as_secs()),
            Language::Chinese => chinese::every(distance.as_secs()),
        },
        ParsedRule::Calendar { calendar, .. } => {
            let phrase = Phrase::of(calendar);
            match language {
                Language::English => english::describe(&phrase),
                Language::Chinese => chinese::describe(&phrase),
            }
        }
    };
    match (&parsed.zone, &parsed.plan) {
        (Some(prefix), ParsedRule::Calendar { .. }) => match language {
            Language::English => format!("{words} ({})", prefix.name),
            Language::Chinese => format!("{words}（{}）", prefix.name),
        },
        _ => words,
    }
}

/// A count of seconds as days, hours, minutes and seconds, without the parts that are zero.
fn parts(seconds: u64) -> impl Iterator<Item = (u64, usize)> {
    let parts = [seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60];
    parts.into_iter().zip(0..).filter(|(count, _)| *count > 0)
}
