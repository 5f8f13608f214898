//! Bytes as hexadecimal digits and back. Knows no other notation.

use std::fmt::Write as _;

/// Two lower-case digits for each byte.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let mut digits = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a string cannot fail.
        write!(digits, "{byte:02x}").unwrap_or_default();
    }
    digits
}

/// The bytes of these digits, in upper or lower case; nothing if they are not pairs of digits.
#[must_use]
pub fn unhex(digits: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| {
        char::from(*byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| match pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back() {
        assert_eq!(hex(&[0, 0x81, 0xff]), "0081ff");
        assert_eq!(unhex("0081fF"), Some(vec![0, 0x81, 0xff]));
        assert_eq!(unhex(""), Some(Vec::new()));
        for wrong in ["0", "0g", "+1", "001"] {
            assert_eq!(unhex(wrong), None, "{wrong}");
        }
    }
}
