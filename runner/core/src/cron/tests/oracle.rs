//! Comparison with a naive oracle: it walks absolute time in steps of a minute and applies the rules as they are
//! worded. Half of the starts are near a change of clock.

use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use proptest::test_runner::Config;

use super::{cases, expression, zone};
use crate::cron::DstRule;

/// How far the oracle walks: past any two changes of clock that lie close together.
const HORIZON_MINUTES: i64 = 4 * 24 * 60;

const ZONES: [&str; 14] = [
    "UTC",
    "America/New_York",
    "Europe/Berlin",
    "Asia/Shanghai",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Pacific/Apia",
    "America/Santiago",
    "Africa/Casablanca",
    "Asia/Tehran",
    "America/Havana",
    "Africa/Cairo",
    "America/Sao_Paulo",
    "Antarctica/Troll",
];

/// The choices for each field: text and values, written by hand or by a plain loop, never by the parser under test.
#[derive(Debug, Clone)]
struct Written {
    text: String,
    values: Vec<i8>,
    star: bool,
}

fn field(min: i8, max: i8) -> impl Strategy<Value = Written> {
    let star = Just(Written {
        text: "*".to_owned(),
        values: (min..=max).collect(),
        star: true,
    });
    let one = (min..=max).prop_map(|n| Written {
        text: n.to_string(),
        values: vec![n],
        star: false,
    });
    let range = (min..=max, min..=max).prop_map(|(a, b)| {
        let (a, b) = (a.min(b), a.max(b));
        Written {
            text: format!("{a}-{b}"),
            values: (a..=b).collect(),
            star: false,
        }
    });
    let stepped = (2..=max).prop_map(move |step| Written {
        text: format!("*/{step}"),
        values: (min..=max).filter(|n| (n - min) % step == 0).collect(),
        star: false,
    });
    let list = prop::collection::vec(min..=max, 2..4).prop_map(|list| Written {
        text: list.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        values: list,
        star: false,
    });
    prop_oneof![3 => star, 3 => one, 2 => range, 2 => stepped, 1 => list]
}

#[derive(Debug, Clone)]
struct Spec {
    fields: [Written; 5],
}

impl Spec {
    fn text(&self) -> String {
        let texts = self.fields.each_ref().map(|field| field.text.as_str());
        texts.join(" ")
    }

    /// Whether the local clock `at` is one that the fields name.
    fn matches(&self, at: DateTime) -> bool {
        let [minute, hour, day, month, weekday] = &self.fields;
        let by_day = day.values.contains(&at.day());
        let by_weekday = weekday.values.contains(&at.weekday().to_sunday_zero_offset());
        let date = if day.star || weekday.star {
            by_day && by_weekday
        } else {
            by_day || by_weekday
        };
        date && at.second() == 0
            && minute.values.contains(&at.minute())
            && hour.values.contains(&at.hour())
            && month.values.contains(&at.month())
    }

    fn fires_at(&self, at: Timestamp, zone: &TimeZone, dst: DstRule) -> bool {
        let local = zone.to_datetime(at);
        let every_hour = self.fields[1].values.len() == 24;
        if dst == DstRule::Go || every_hour {
            return self.matches(local);
        }
        let minute = SignedDuration::from_mins(1);
        let before = zone.to_datetime(at - minute);
        let mut missing = before.checked_add(minute).unwrap();
        let mut gathered = false;
        while missing < local {
            gathered |= self.matches(missing);
            missing = missing.checked_add(minute).unwrap();
        }
        let second_pass = match zone.to_ambiguous_timestamp(local).offset() {
            AmbiguousOffset::Fold { after, .. } => zone.to_offset(at) == after,
            _ => false,
        };
        gathered || (!second_pass && self.matches(local))
    }
}

fn spec() -> impl Strategy<Value = Spec> {
    // Months are mostly free, or almost nothing would fall within the horizon.
    let month = prop_oneof![4 => Just(Written {
        text: "*".to_owned(),
        values: (1..=12).collect(),
        star: true,
    }), 1 => field(1, 12)];
    (field(0, 59), field(0, 23), field(1, 31), month, field(0, 6)).prop_map(|(a, b, c, d, e)| Spec {
        fields: [a, b, c, d, e],
    })
}

/// A whole minute between 1990 and 2040 in one of the zones, every other one near a change.
fn place() -> impl Strategy<Value = (&'static str, Timestamp)> {
    let year_1990 = 631_152_000 / 60_i64;
    let year_2040 = 2_208_988_800 / 60_i64;
    let near = -36 * 60..36 * 60_i64;
    (
        prop::sample::select(&ZONES[..]),
        year_1990..year_2040,
        any::<bool>(),
        near,
    )
        .prop_map(|(name, minutes, close, delta)| {
            let at = Timestamp::from_second(minutes * 60).unwrap();
            let zone = zone(name);
            // Some tables end in an entry that is not a change and not on a whole minute.
            let mut changes = zone.following(at).map(|change| change.timestamp());
            let change = changes.find(|change| change.as_second() % 60 == 0);
            match change {
                Some(change) if close => (name, change + SignedDuration::from_mins(delta)),
                _ => (name, at),
            }
        })
}

proptest! {
    #![proptest_config(Config { cases: cases(400), failure_persistence: None, ..Config::default() })]

    #[test]
    fn next_and_prev_are_what_walking_minute_by_minute_finds(
        spec in spec(),
        (name, start) in place(),
        go in any::<bool>(),
    ) {
        let dst = if go { DstRule::Go } else { DstRule::Vixie };
        let zone = zone(name);
        let parsed = expression(&spec.text());
        let minute = SignedDuration::from_mins(1);
        let horizon = SignedDuration::from_mins(HORIZON_MINUTES);

        let walk = |step: SignedDuration| {
            let mut at = start;
            (0..HORIZON_MINUTES).find_map(|_| {
                at = at.checked_add(step).unwrap();
                spec.fires_at(at, &zone, dst).then_some(at)
            })
        };
        let next = parsed.next(start, &zone, dst).filter(|at| *at <= start + horizon);
        prop_assert_eq!(next, walk(minute), "next of {} in {} from {}", parsed, name, start);
        let prev = parsed.prev(start, &zone, dst).filter(|at| *at >= start - horizon);
        prop_assert_eq!(prev, walk(-minute), "prev of {} in {} from {}", parsed, name, start);
    }
}

/// A change of clock and the hours around it: zone and a moment some time before.
const CHANGES: [(&str, &str); 8] = [
    ("America/New_York", "2026-03-01T00:00:00Z"),
    ("America/New_York", "2026-10-01T00:00:00Z"),
    ("Australia/Lord_Howe", "2026-04-01T00:00:00Z"),
    ("Australia/Lord_Howe", "2026-10-01T00:00:00Z"),
    ("America/Santiago", "2026-04-01T00:00:00Z"),
    ("America/Santiago", "2026-09-01T00:00:00Z"),
    ("Pacific/Apia", "2011-12-01T00:00:00Z"),
    ("UTC", "2026-01-01T00:00:00Z"),
];

fn written(text: &str, values: impl IntoIterator<Item = i8>) -> Written {
    Written {
        text: text.to_owned(),
        values: values.into_iter().collect(),
        star: text == "*",
    }
}

/// All combinations of a few minutes and hours that a change at night can touch.
fn night_specs() -> Vec<Spec> {
    let minutes = [
        written("0", [0]),
        written("15", [15]),
        written("*/20", [0, 20, 40]),
        written("*", 0..60),
    ];
    let hours = [
        written("*", 0..24),
        written("0", [0]),
        written("1", [1]),
        written("2", [2]),
        written("1-2", [1, 2]),
        written("23,0-3", [0, 1, 2, 3, 23]),
        written("*/2", (0..24).step_by(2)),
    ];
    let mut specs = Vec::new();
    for minute in &minutes {
        for hour in &hours {
            let free = [written("*", 1..=31), written("*", 1..=12), written("*", 0..=6)];
            let [day, month, weekday] = free;
            let fields = [minute.clone(), hour.clone(), day, month, weekday];
            specs.push(Spec { fields });
        }
    }
    specs
}

/// Starts all around a change, including a second and a nanosecond on either side of each.
#[test]
fn around_a_change_every_start_finds_its_neighbours() {
    let minute = SignedDuration::from_mins(1);
    let shifts = [-1_000_000_000, -1, 0, 1, 1_000_000_000].map(SignedDuration::from_nanos);
    for (name, before) in CHANGES {
        let (zone, before) = (zone(name), super::instant(before));
        let change = zone.following(before).next().map(|change| change.timestamp());
        let change = change.unwrap_or(before);
        for (spec, dst) in night_specs()
            .into_iter()
            .flat_map(|spec| [(spec.clone(), DstRule::Vixie), (spec, DstRule::Go)])
        {
            let parsed = expression(&spec.text());
            let window = (-30 * 60..30 * 60).map(|m| change + minute * m);
            let all: Vec<_> = window.filter(|at| spec.fires_at(*at, &zone, dst)).collect();
            let starts = (-10..=10).map(|n| change + minute * 15 * n);
            for start in starts.flat_map(|start| shifts.map(|shifts| start + shifts)) {
                let next = parsed.next(start, &zone, dst);
                let expected = all.iter().find(|at| **at > start).copied();
                assert_eq!(next, expected, "next of {parsed} in {name} from {start}, {dst:?}");
                let prev = parsed.prev(start, &zone, dst);
                let expected = all.iter().rfind(|at| **at < start).copied();
                assert_eq!(prev, expected, "prev of {parsed} in {name} from {start}, {dst:?}");
            }
        }
    }
}
