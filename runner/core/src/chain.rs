//! An error with all its causes in one line, as logs, pages, commands and stored attempts show it.

use std::error::Error;

/// Maximum number of causes followed: real chains are short, and a cause that names itself would never end.
const MAX_CAUSES: usize = 32;

/// `message: cause: cause of the cause`. Messages of this program never repeat their source, so callers print the chain; if
/// a library's message ends with its cause, the cause is not repeated.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    for _ in 0..MAX_CAUSES {
        let Some(error) = cause else { break };
        let more = error.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Layer(&'static str, Option<Box<Layer>>);

    impl std::fmt::Display for Layer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Layer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as &(dyn Error + 'static))
        }
    }

    #[test]
    fn every_cause_is_named_once() {
        let refused = Layer("refused", None);
        let library = Layer("connect: refused", Some(Box::new(refused)));
        let own = Layer("cannot reach the broker", Some(Box::new(library)));
        assert_eq!(chain(&own), "cannot reach the broker: connect: refused");
    }

    #[test]
    fn a_long_chain_is_cut() {
        let names = ["a", "b"].into_iter().cycle().take(1_000);
        let long = names.fold(None, |cause, name| Some(Box::new(Layer(name, cause))));
        assert_eq!(chain(&*long.unwrap()).split(": ").count(), MAX_CAUSES + 1);
    }
}
