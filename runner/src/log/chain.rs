//! An error with all its causes in one line.

use std::error::Error;

/// `message: cause: cause of the cause`. A message of ours never repeats its source, so whoever prints, prints the
/// chain; a library's that does is not printed twice.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    for text in std::iter::successors(Some(error), |e| (*e).source()).map(ToString::to_string) {
        if texts.last().is_none_or(|said| !said.ends_with(&text)) {
            texts.push(text);
        }
    }
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Layer(&'static str, #[source] Option<Box<Layer>>);

    #[test]
    fn every_cause_is_named_once() {
        let refused = Layer("refused", None);
        let library = Layer("connect: refused", Some(Box::new(refused)));
        let ours = Layer("cannot reach the broker", Some(Box::new(library)));
        assert_eq!(chain(&ours), "cannot reach the broker: connect: refused");
    }
}
