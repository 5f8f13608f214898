//! Names of zones: which are accepted, and what is suggested for the others.

use super::zone;
use crate::cron::{CronError, Expression, find_zone};

#[test]
fn names_of_the_database_are_found() {
    for name in [
        "Asia/Shanghai",
        "America/Argentina/Buenos_Aires",
        "Etc/GMT-8",
        "Etc/UTC",
        "GMT",
        "PRC",
        "CET",
        "America/Port-au-Prince",
    ] {
        let found = find_zone(name).unwrap_or_else(|error| panic!("{error}"));
        // jiff knows some aliases of UTC only by that name.
        let known = found.iana_name().unwrap();
        assert!(known == name || known == "UTC", "{name} became {known}");
    }
    assert_eq!(zone("UTC"), zone(""));
    assert!(find_zone("Local").is_ok());
}

#[test]
fn near_misses_come_with_the_name_that_was_meant() {
    for (name, meant) in [
        ("Asia/Beijing", "Asia/Shanghai"),
        ("asia/shanghai", "Asia/Shanghai"),
        ("Asia/Shangai", "Asia/Shanghai"),
        ("Asia/Shnaghai", "Asia/Shanghai"),
        ("Shanghai", "Asia/Shanghai"),
        ("China Standard Time", "Asia/Shanghai"),
        ("UTC+8", "Asia/Shanghai"),
        ("New York", "America/New_York"),
        ("America/NewYork", "America/New_York"),
        ("Europe/Munich", "Europe/Berlin"),
        ("utc", "UTC"),
        ("PST", "America/Los_Angeles"),
        ("EST", "America/New_York"),
    ] {
        let unknown = find_zone(name).unwrap_err();
        assert_eq!(unknown.name, name);
        assert_eq!(unknown.suggestion.as_deref(), Some(meant), "{name}");
    }
    let message = find_zone("Asia/Beijing").unwrap_err().to_string();
    assert_eq!(
        message,
        "unknown time zone \"Asia/Beijing\"; did you mean \"Asia/Shanghai\"?"
    );
}

#[test]
fn names_far_from_any_zone_are_refused_without_a_guess() {
    for name in ["Nowhere/Else", "../../etc/passwd", "/etc/localtime", "*", "🙂"] {
        let unknown = find_zone(name).unwrap_err();
        assert_eq!(unknown.suggestion, None, "{name}");
    }
    assert!(find_zone(&"Asia/".repeat(5_000)).is_err());
}

#[test]
fn a_prefix_names_the_zone_and_errors_point_at_it() {
    let parsed = Expression::parse("CRON_TZ=Asia/Tokyo 0 1 * * *").unwrap();
    assert_eq!(parsed.zone_name(), Some("Asia/Tokyo"));
    assert_eq!(parsed.zone(), Some(&zone("Asia/Tokyo")));
    let parsed = Expression::parse("TZ= 0 1 * * *").unwrap();
    assert_eq!((parsed.zone_name(), parsed.zone()), (Some("UTC"), Some(&zone("UTC"))));
    let parsed = Expression::parse("TZ=Local 0 1 * * *").unwrap();
    assert_eq!((parsed.zone_name(), parsed.zone()), (Some("Local"), None));
    assert_eq!(Expression::parse("0 1 * * *").unwrap().zone_name(), None);

    let error: CronError = Expression::parse("TZ=Asia/Beijing 0 1 * * *").unwrap_err();
    assert_eq!(error.code(), "E210");
    assert_eq!(error.span(), 3..15);
    assert_eq!(error.to_string(), "unknown time zone \"Asia/Beijing\"");
    assert_eq!(error.hint().as_deref(), Some("did you mean \"Asia/Shanghai\"?"));
}
