//! Texts of errors in the language of a service: what it would take for a mention or a link is written so that it is shown as it is.

/// What is replaced in the values of a notification, for one service.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Escapes(Vec<(String, String)>);

impl Escapes {
    /// These texts by those. What begins at one place is replaced by the first that fits; an empty text never fits.
    #[must_use]
    pub fn new(pairs: Vec<(String, String)>) -> Self {
        let pairs = pairs.into_iter().filter(|(from, _)| !from.is_empty());
        Self(pairs.collect())
    }

    /// The text with all replacements; what was put in is not looked at again.
    pub(super) fn apply(&self, text: &str) -> String {
        let mut made = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(next) = rest.chars().next() {
            match self.0.iter().find(|(from, _)| rest.starts_with(from.as_str())) {
                Some((from, to)) => {
                    made.push_str(to);
                    rest = &rest[from.len()..];
                }
                None => {
                    made.push(next);
                    rest = &rest[next.len_utf8()..];
                }
            }
        }
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_is_not_replaced_again() {
        let pair = |from: &str, to: &str| (from.to_owned(), to.to_owned());
        let slack = Escapes::new(vec![pair("<", "&lt;"), pair("&", "&amp;"), pair("", "x")]);
        assert_eq!(slack.apply("é <!channel> & <"), "é &lt;!channel> &amp; &lt;");
        assert_eq!(Escapes::default().apply("<a>"), "<a>");
    }
}
