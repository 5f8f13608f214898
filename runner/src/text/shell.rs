//! Names inside commands that a person may copy into a POSIX shell.

/// A word of a shell: as it is if nothing in it means anything to a shell, else in single quotes.
#[must_use]
pub fn word(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.,:/@%+=".contains(c);
    match !name.is_empty() && name.chars().all(plain) {
        true => name.to_owned(),
        false => format!("'{}'", name.replace('\'', r"'\''")),
    }
}

/// The last argument of a command of this program: a name that begins like an option stands behind `--`.
#[must_use]
pub fn argument(name: &str) -> String {
    let marker = if name.starts_with('-') { "-- " } else { "" };
    format!("{marker}{}", word(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_every_name_as_one_word() {
        for (name, expected) in [
            ("a-1", "a-1"),
            ("fn:b/c@2,%+=.", "fn:b/c@2,%+=."),
            ("", "''"),
            ("a b", "'a b'"),
            ("a; b'c", r"'a; b'\''c'"),
            ("$(x)", "'$(x)'"),
            ("~", "'~'"),
            ("空", "'空'"),
        ] {
            assert_eq!(word(name), expected);
            assert_eq!(argument(name), expected);
        }
    }

    #[test]
    fn a_name_that_begins_like_an_option_is_an_argument() {
        assert_eq!(argument("-x"), "-- -x");
        assert_eq!(argument("--force; x"), "-- '--force; x'");
        assert_eq!(word("-x"), "-x", "behind `--queue=` nothing is in front of it");
    }
}
