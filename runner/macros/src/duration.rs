//! Lengths of time as manifests write them, `1h30m` or `90s`. A small part of `runner_core::duration`, which would have to be
//! built a second time for the compiler.

const SYNTAX: &str = "a length of time such as \"30s\", \"5m\", \"1h30m\" or \"500ms\"";

/// Milliseconds of a length of time.
pub(crate) fn millis(text: &str) -> Result<u64, &'static str> {
    let (mut rest, mut sum) = (text, 0_u64);
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, unit) = rest.split_at(digits);
        let letters = unit.len() - unit.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, after) = unit.split_at(letters);
        let each = match unit {
            "h" => 3_600_000,
            "m" => 60_000,
            "s" => 1_000,
            "ms" => 1,
            _ => return Err(SYNTAX),
        };
        let part = number.parse::<u64>().ok().and_then(|number| number.checked_mul(each));
        sum = part.and_then(|part| sum.checked_add(part)).ok_or(SYNTAX)?;
        rest = after;
    }
    match text.is_empty() {
        true => Err(SYNTAX),
        false => Ok(sum),
    }
}

#[cfg(test)]
mod tests {
    use super::millis;

    #[test]
    fn lengths_are_read_as_in_manifests() {
        assert_eq!(millis("1h30m"), Ok(5_400_000));
        assert_eq!(millis("90s"), Ok(90_000));
        assert_eq!(millis("2s500ms"), Ok(2_500));
        for odd in ["", "5", "m", "5 m", "-5m", "1.5h", "5d", "99999999999999999999h"] {
            assert!(millis(odd).is_err(), "{odd}");
        }
    }
}
