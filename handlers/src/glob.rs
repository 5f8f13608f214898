//! Patterns with `*` (any text) and `?` (any one character), for the lists of what is allowed.
//!
//! Texts only: callers split paths.

/// Whether the whole of `text` matches `pattern`. Takes time proportional to the product of their lengths at most.
pub(crate) fn fits(pattern: &str, text: &str) -> bool {
    let (p, t): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut i, mut j) = (0, 0);
    // Position of the last star, and how much of the text it has matched.
    let mut star: Option<(usize, usize)> = None;
    while j < t.len() {
        if p.get(i) == Some(&'*') {
            star = Some((i, j));
            i += 1;
        } else if i < p.len() && (p[i] == '?' || p[i] == t[j]) {
            i += 1;
            j += 1;
        } else if let Some((at, matched)) = star {
            star = Some((at, matched + 1));
            i = at + 1;
            j = matched + 1;
        } else {
            return false;
        }
    }
    p[i..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_fits_the_whole_text() {
        for (pattern, text, expected) in [
            ("/srv/bin/*", "/srv/bin/report", true),
            ("/srv/bin/*", "/srv/binary", false),
            ("report", "report", true),
            ("report", "/tmp/report", false),
            ("*.example.com", "api.example.com", true),
            ("*.example.com", "example.com", false),
            ("*.example.com", "api.example.com.evil.org", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*a*b*", "xxaxxbxx", true),
            ("**", "", true),
            ("", "", true),
            ("", "a", false),
            ("*", "*", true),
            ("**x", "*y", false),
        ] {
            assert_eq!(fits(pattern, text), expected, "{pattern} {text}");
        }
    }
}
