//! Places in a text. How one is shown is in `excerpt`.

/// A place in the text: line and column from 1, length in characters; 0 if the length is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Mark {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// In characters.
    pub len: usize,
}

impl Mark {
    /// The beginning of the text.
    pub const START: Self = Self {
        line: 1,
        column: 1,
        len: 0,
    };
}

/// The source line of `mark`, if the text has such a line.
#[must_use]
pub fn line_of(text: &str, mark: Mark) -> Option<&str> {
    text.lines().nth(mark.line.checked_sub(1)?)
}
