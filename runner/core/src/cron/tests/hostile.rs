//! Hostile texts: long, huge, strange. None may panic or take long.

use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::Config;

use super::{cases, instant, zone};
use crate::cron::{CronError, DstRule, Expression, Language, lint};

/// Takes about 50 ms unoptimised; anything worse than linear in 10 kB would take minutes.
const DEADLINE: Duration = Duration::from_secs(5);

/// Calls everything that the program ever calls on a text.
fn use_fully(text: &str) -> Result<(), CronError> {
    let parsed = match Expression::parse(text) {
        Ok(parsed) => parsed,
        Err(error) => {
            assert!(text.get(error.span()).is_some(), "{text:?}: {error:?}");
            assert!(error.to_string().len() < 600, "{text:?}: {error}");
            return Err(error);
        }
    };
    let zone = zone("America/New_York");
    let now = instant("2030-03-10T06:59:59.5Z");
    for dst in [DstRule::Vixie, DstRule::Go] {
        let next = parsed.next(now, &zone, dst);
        assert_eq!(next.is_none(), parsed.never_fires(), "{text:?}");
        assert_eq!(parsed.prev(now, &zone, dst).is_none(), parsed.never_fires());
    }
    for language in [Language::English, Language::Chinese] {
        assert!(!parsed.describe(language).is_empty());
    }
    assert!(lint(&parsed).len() <= 6);
    Ok(())
}

#[test]
fn hostile_texts_are_dealt_with_quickly() {
    let long = |unit: &str| unit.repeat(10_000 / unit.len() + 1);
    let texts = [
        long("*"),
        long("* "),
        long("1,"),
        long("-"),
        long("/"),
        long("9"),
        long("🙂"),
        long("\u{3000}*"),
        long("@every "),
        format!("@every {}", long("1h")),
        format!("TZ={} * * * * *", long("Asia/")),
        format!("TZ={} * * * * *", "x".repeat(64)),
        format!("{} * * * *", &long("0-59/1,")[..3_000]),
        format!("*/{} * * * *", "9".repeat(300)),
        format!("{} * * * *", "9".repeat(300)),
        "TZ=../../../etc/passwd * * * * *".to_owned(),
        "TZ=\0 * * * * *".to_owned(),
        "０ ０ * * *".to_owned(),
        "İ * * * *".to_owned(),
        "0 0 * * ſun".to_owned(),
        "\u{202e}0 0 * * *".to_owned(),
        "0\u{a0}0\u{2003}*\u{85}* *".to_owned(),
        "0 0 * * 日".to_owned(),
    ];
    let (done, result) = std::sync::mpsc::sync_channel(1);
    let work = std::thread::spawn(move || {
        let accepted = texts.iter().filter(|text| use_fully(text).is_ok()).count();
        done.send(accepted).expect("the test waits for it");
    });
    let accepted = result.recv_timeout(DEADLINE).expect("too slow, or a panic");
    work.join().expect("no panic");
    // The list of 3 kB and the one with unusual white space are valid.
    assert_eq!(accepted, 2);
}

proptest! {
    #![proptest_config(Config { cases: cases(1_000), failure_persistence: None, ..Config::default() })]

    #[test]
    fn any_text_at_all(text in any::<String>()) {
        use_fully(&text).ok();
    }

    #[test]
    fn texts_that_look_like_expressions(
        text in "(TZ=(UTC|Asia/Tokyo|X)? ?)?([0-9*?,/@LWH#+-]{1,6}[ \t]{1,2}){4,6}[0-9*,/-]{0,5}",
    ) {
        use_fully(&text).ok();
    }
}
