//! Expressions in words. Placeholder until the phrases are in place.
use super::parse::Parsed;
/// The language of a description.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Language {
    /// English.
    #[default]
    English,
    /// Simplified Chinese.
    Chinese,
}
pub(super) fn describe(_: &Parsed, _: Language) -> String {
    String::new()
}
