//! Parts of lists: how many items, and where a part begins. A cursor is what an earlier answer gave, for the same query.

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::problem::ApiProblem;

/// Items of a part if the query does not say.
const USUAL: usize = 50;

/// The most items of a part.
pub const MOST: usize = 500;

/// The furthest place at which a part may begin; brokers can count further.
const FURTHEST: u64 = 1 << 40;

/// The number of items that a query asks for.
///
/// # Errors
///
/// 400 if it is out of bounds.
pub fn limit(asked: Option<usize>) -> Result<usize, ApiProblem> {
    limit_to(asked, MOST)
}

/// The same for a list of which a part has at most this many.
///
/// # Errors
///
/// 400 if it is out of bounds.
pub fn limit_to(asked: Option<usize>, most: usize) -> Result<usize, ApiProblem> {
    match asked {
        None => Ok(USUAL.min(most)),
        Some(limit) if (1..=most).contains(&limit) => Ok(limit),
        Some(_) => Err(ApiProblem::new(
            StatusCode::BAD_REQUEST,
            "api_bad_query",
            format!("limit must be a whole number from 1 to {most}"),
        )),
    }
}

/// A cursor of a list of this kind; `place` says where the next part begins.
pub fn cursor(kind: &str, place: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{kind}:{place}"))
}

/// The place in a cursor of this kind.
///
/// # Errors
///
/// 400 if it is not one of this list.
pub fn place(kind: &str, cursor: Option<&str>) -> Result<Option<String>, ApiProblem> {
    let Some(cursor) = cursor else { return Ok(None) };
    let text = URL_SAFE_NO_PAD
        .decode(cursor)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok());
    let place = text
        .as_deref()
        .and_then(|text| text.strip_prefix(kind)?.strip_prefix(':'));
    match place {
        Some(place) => Ok(Some(place.to_owned())),
        None => Err(bad_cursor()),
    }
}

/// The refusal of a cursor that is not one of the list.
pub fn bad_cursor() -> ApiProblem {
    let detail = "the cursor is not one that this list gave";
    ApiProblem::new(StatusCode::BAD_REQUEST, "api_bad_cursor", detail)
        .hint("take `next` of the answer before, with the same query; leave cursor out for the beginning")
}

/// The same where a place is a number of items.
///
/// # Errors
///
/// As [`place`].
pub fn skipped(kind: &str, cursor: Option<&str>) -> Result<usize, ApiProblem> {
    let Some(place) = place(kind, cursor)? else {
        return Ok(0);
    };
    number(&place)
}

/// A number of items in a cursor.
///
/// # Errors
///
/// 400 if it is none, or further than any list is long.
pub fn number(text: &str) -> Result<usize, ApiProblem> {
    let number = text.parse::<u64>().ok().filter(|number| *number <= FURTHEST);
    number
        .and_then(|number| usize::try_from(number).ok())
        .ok_or_else(bad_cursor)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_cursor_is_for_its_list_only() {
        let given = cursor("queues", "空:a");
        assert_eq!(place("queues", Some(&given)).unwrap().as_deref(), Some("空:a"));
        assert_eq!(place("queues", None).unwrap(), None);
        for other in ["tasks", "queue", ""] {
            assert!(place(other, Some(&given)).is_err(), "{other}");
        }
        assert!(place("queues", Some("%%")).is_err());
        assert_eq!(skipped("t", Some(&cursor("t", "50"))).unwrap(), 50);
        for odd in ["-1", "", "1.5", "1099511627777", "18446744073709551615"] {
            assert!(skipped("t", Some(&cursor("t", odd))).is_err(), "{odd}");
        }
    }

    #[test]
    fn a_part_has_a_bounded_number_of_items() {
        assert_eq!(limit(None).unwrap(), USUAL);
        assert_eq!(limit(Some(MOST)).unwrap(), MOST);
        assert!(limit(Some(0)).is_err() && limit(Some(MOST + 1)).is_err());
        assert_eq!((limit_to(None, 9).unwrap(), limit_to(Some(64), 64).unwrap()), (9, 64));
        assert!(limit_to(Some(65), 64).is_err());
    }
}
