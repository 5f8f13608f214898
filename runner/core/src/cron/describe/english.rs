//! Describes a phrase in English.

use super::phrase::{Beat, Days, NumberSet, Phrase, TimePhrase};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const WEEKDAYS: [&str; 7] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
];

pub(super) fn every(seconds: u64) -> String {
    const UNITS: [&str; 4] = ["day", "hour", "minute", "second"];
    let parts: Vec<_> = super::parts(seconds).collect();
    if let [(1, unit)] = parts[..] {
        return format!("every {}", UNITS[unit]);
    }
    let words = parts.into_iter().map(|(count, unit)| counted(count, UNITS[unit]));
    format!("every {}", words.collect::<Vec<_>>().join(" "))
}

pub(super) fn describe(phrase: &Phrase) -> String {
    let (time, clock) = match &phrase.time {
        TimePhrase::Never => return "never".to_owned(),
        TimePhrase::Clocks(clocks) => {
            let clocks = clocks.iter().map(|&(hour, minute, second)| match second {
                Some(second) => format!("{hour:02}:{minute:02}:{second:02}"),
                None => format!("{hour:02}:{minute:02}"),
            });
            (format!("at {}", and(clocks.collect())), true)
        }
        TimePhrase::Rhythm { count, unit, hours } => (rhythm(*count, *unit, *hours), false),
        TimePhrase::Hourly { minute, every: 1 } => (format!("at minute {minute} of every hour"), false),
        TimePhrase::Hourly { minute, every } => {
            let nth = ordinal(*every);
            (format!("at minute {minute} past every {nth} hour from midnight"), false)
        }
        TimePhrase::Fields {
            seconds,
            every_second,
            minutes,
            hours,
        } => (
            fields(seconds.as_ref(), *every_second, minutes.as_ref(), hours.as_ref()),
            false,
        ),
    };
    let days = days(phrase, clock);
    if days.is_empty() {
        time
    } else {
        format!("{time} {days}")
    }
}

fn rhythm(count: u32, unit: Beat, hours: Option<(u32, u32)>) -> String {
    let unit = match unit {
        Beat::Second => "second",
        Beat::Minute => "minute",
        Beat::Hour => "hour",
    };
    let every = match count {
        1 => format!("every {unit}"),
        count => format!("every {count} {unit}s"),
    };
    match hours {
        None => every,
        Some((first, last)) => format!("{every} from {first:02}:00 to {last:02}:59"),
    }
}

fn fields(
    seconds: Option<&NumberSet>,
    every_second: bool,
    minutes: Option<&NumberSet>,
    hours: Option<&NumberSet>,
) -> String {
    let mut words = Vec::new();
    if let Some(set) = seconds {
        words.push(format!("at {}", numbers("second", set)));
    } else if every_second {
        words.push("every second".to_owned());
    }
    words.push(match (minutes, words.is_empty()) {
        (Some(set), true) => format!("at {}", numbers("minute", set)),
        (Some(set), false) => format!("of {}", numbers("minute", set)),
        (None, true) => "every minute".to_owned(),
        (None, false) => "of every minute".to_owned(),
    });
    match hours {
        Some(set) => words.push(format!("of {}", numbers("hour", set))),
        None if minutes.is_some() => words.push("of every hour".to_owned()),
        None => {}
    }
    words.join(" ")
}

fn days(phrase: &Phrase, clock: bool) -> String {
    let months = phrase.months.as_ref().map(|set| {
        and(set.words(
            |m| name(&MONTHS, m),
            |a, b| format!("{} to {}", name(&MONTHS, a), name(&MONTHS, b)),
        ))
    });
    match (&phrase.days, months) {
        (Days::All, None) if clock => "every day".to_owned(),
        (Days::All, None) => String::new(),
        (Days::All, Some(months)) if clock => format!("every day in {months}"),
        (Days::All, Some(months)) => format!("in {months}"),
        (Days::Month(days), None) => format!("on {} of every month", numbers("day", days)),
        (Days::Month(days), Some(months)) => match (days.single(), &phrase.months) {
            (Some(day), Some(set)) if set.single().is_some() => format!("on {day} {months}"),
            _ => format!("on {} of {months}", numbers("day", days)),
        },
        (Days::Week(days), None) => on_weekdays(days),
        (Days::Week(days), Some(months)) => format!("{} in {months}", on_weekdays(days)),
        (Days::Either(days, week), months) => format!(
            "on {} of {}, and also {}{}",
            numbers("day", days),
            months.as_deref().unwrap_or("every month"),
            on_weekdays(week),
            if months.is_some() { " of it" } else { "" },
        ),
    }
}

fn on_weekdays(days: &NumberSet) -> String {
    let words = days.words(
        |d| name(&WEEKDAYS, d),
        |a, b| format!("{} to {}", name(&WEEKDAYS, a), name(&WEEKDAYS, b)),
    );
    format!("on {}", and(words))
}

/// "minute 5", "minutes 0 to 10, 30 and 45".
fn numbers(unit: &str, set: &NumberSet) -> String {
    let s = if set.single().is_some() { "" } else { "s" };
    let words = set.words(|n| n.to_string(), |a, b| format!("{a} to {b}"));
    format!("{unit}{s} {}", and(words))
}

/// Months and weekdays are both counted from 1.
fn name(names: &[&str], value: u32) -> String {
    let index = value.saturating_sub(1) as usize;
    names.get(index).copied().unwrap_or_default().to_owned()
}

fn and(mut words: Vec<String>) -> String {
    match words.pop() {
        Some(last) if words.is_empty() => last,
        Some(last) => format!("{} and {last}", words.join(", ")),
        None => String::new(),
    }
}

fn counted(count: u64, unit: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{s}")
}

fn ordinal(n: u32) -> String {
    match n {
        2 => "2nd".to_owned(),
        3 => "3rd".to_owned(),
        n => format!("{n}th"),
    }
}
