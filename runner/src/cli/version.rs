//! What `runner --version` says. `build.rs` says where commit and date come from.

/// The version with the commit and the day that the program was built from, as far as they are known.
pub(super) const FULL: &str = concat!(env!("CARGO_PKG_VERSION"), env!("BUILD_DETAILS"));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_followed_by_what_it_was_built_from() {
        let details = FULL.strip_prefix(env!("CARGO_PKG_VERSION"));
        let inner = details.and_then(|text| text.strip_prefix(" (")?.strip_suffix(')'));
        assert!(inner.is_some_and(|inner| !inner.is_empty()), "{FULL}");
    }
}
