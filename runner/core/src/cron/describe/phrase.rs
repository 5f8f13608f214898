//! The meaning of an expression, independent of language.

use crate::cron::calendar::{Calendar, ones};

/// Maximum number of times of day that are listed one by one; more are described by their pattern.
const MOST_CLOCKS: u32 = 6;

/// The meaning of a calendar.
pub(super) struct Phrase {
    pub time: TimePhrase,
    pub days: Days,
    /// Months, if not all.
    pub months: Option<NumberSet>,
}

/// The times within a day.
pub(super) enum TimePhrase {
    /// Nothing ever matches.
    Never,
    /// Certain times of day, ascending: hour, minute, and second if any of them is not 0.
    Clocks(Vec<(u32, u32, Option<u32>)>),
    /// Evenly spaced through every day, or through whole hours of it.
    Rhythm {
        count: u32,
        unit: Beat,
        /// The first and last hour, if not all day.
        hours: Option<(u32, u32)>,
    },
    /// One minute of every hour, or of every `n`-th.
    Hourly { minute: u32, every: u32 },
    /// Anything else: the values of each field, `None` for all of them.
    Fields {
        /// `None` also when the second is 0.
        seconds: Option<NumberSet>,
        every_second: bool,
        minutes: Option<NumberSet>,
        hours: Option<NumberSet>,
    },
}

/// The unit of a rhythm.
#[derive(Clone, Copy)]
pub(super) enum Beat {
    Second,
    Minute,
    Hour,
}

/// The days.
pub(super) enum Days {
    All,
    Month(NumberSet),
    /// Monday is 1 and Sunday 7, so that a weekend is a run.
    Week(NumberSet),
    /// Either of the two.
    Either(NumberSet, NumberSet),
}

/// Values of a field as ascending runs of neighbours, inclusive.
pub(super) struct NumberSet(pub Vec<(u32, u32)>);

impl NumberSet {
    fn of(bits: u64) -> Self {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for value in ones(bits) {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == value => *last = value,
                _ => runs.push((value, value)),
            }
        }
        Self(runs)
    }

    /// The only value, if there is exactly one.
    pub fn single(&self) -> Option<u32> {
        match self.0[..] {
            [(first, last)] if first == last => Some(first),
            _ => None,
        }
    }

    /// The runs in the words of a language; two neighbours are listed, three or more are a range.
    pub fn words(&self, value: impl Fn(u32) -> String, range: impl Fn(u32, u32) -> String) -> Vec<String> {
        let mut words = Vec::new();
        for &(first, last) in &self.0 {
            if last - first >= 2 {
                words.push(range(first, last));
            } else {
                words.extend((first..=last).map(&value));
            }
        }
        words
    }
}

impl Phrase {
    pub fn of(calendar: &Calendar) -> Self {
        Self {
            time: time(calendar),
            days: match (calendar.days, calendar.weekdays) {
                (None, None) => Days::All,
                (Some(days), None) => unless_all(days, 1, 31).map_or(Days::All, Days::Month),
                (None, Some(week)) => weekdays(week).map_or(Days::All, Days::Week),
                (Some(days), Some(week)) => match (unless_all(days, 1, 31), weekdays(week)) {
                    (Some(days), Some(week)) if days.0.is_empty() => Days::Week(week),
                    (Some(days), Some(week)) if week.0.is_empty() => Days::Month(days),
                    (Some(days), Some(week)) => Days::Either(days, week),
                    _ => Days::All,
                },
            },
            months: unless_all(calendar.months, 1, 12),
        }
    }
}

fn weekdays(week: u64) -> Option<NumberSet> {
    unless_all(week & !1 | (week & 1) << 7, 1, 7)
}

fn time(calendar: &Calendar) -> TimePhrase {
    let &Calendar {
        seconds,
        minutes,
        hours,
        ..
    } = calendar;
    if calendar.is_empty() {
        return TimePhrase::Never;
    }
    let on_the_minute = seconds == 1;
    let hour_run = match NumberSet::of(hours).0[..] {
        [(0, 23)] => Some(None),
        [run] => Some(Some(run)),
        _ => None,
    };
    let every = minutes.count_ones() == 60;
    if every
        && calendar.every_hour()
        && let Some(count) = spacing(seconds, 60)
    {
        let (count, unit) = match count {
            60 => (1, Beat::Minute),
            count => (count, Beat::Second),
        };
        return TimePhrase::Rhythm {
            count,
            unit,
            hours: None,
        };
    }
    if on_the_minute
        && let Some(count) = spacing(minutes, 60)
        && count < 60
        && let Some(hours) = hour_run
    {
        return TimePhrase::Rhythm {
            count,
            unit: Beat::Minute,
            hours,
        };
    }
    if on_the_minute
        && minutes.count_ones() == 1
        && let Some(every) = spacing(hours, 24).filter(|every| *every < 12)
    {
        let minute = minutes.trailing_zeros();
        return match minute {
            0 => TimePhrase::Rhythm {
                count: every,
                unit: Beat::Hour,
                hours: None,
            },
            minute => TimePhrase::Hourly { minute, every },
        };
    }
    clocks(calendar).unwrap_or_else(|| TimePhrase::Fields {
        seconds: unless_all(seconds, 0, 59).filter(|set| set.single() != Some(0)),
        every_second: seconds.count_ones() == 60,
        minutes: unless_all(minutes, 0, 59),
        hours: unless_all(hours, 0, 23),
    })
}

/// The times of day one by one, if they are few.
fn clocks(calendar: &Calendar) -> Option<TimePhrase> {
    let sets = [calendar.hours, calendar.minutes, calendar.seconds];
    let count: u32 = sets.iter().map(|set| set.count_ones()).product();
    if count > MOST_CLOCKS {
        return None;
    }
    let exact = calendar.seconds != 1;
    let mut found = Vec::new();
    for hour in ones(calendar.hours) {
        for minute in ones(calendar.minutes) {
            for second in ones(calendar.seconds) {
                found.push((hour, minute, exact.then_some(second)));
            }
        }
    }
    Some(TimePhrase::Clocks(found))
}

/// The distance of values that start at 0 and divide `whole` evenly.
fn spacing(bits: u64, whole: u32) -> Option<u32> {
    let count = bits.count_ones();
    if count == 0 || !whole.is_multiple_of(count) {
        return None;
    }
    let step = whole / count;
    ones(bits).eq((0..whole).step_by(step as usize)).then_some(step)
}

fn unless_all(bits: u64, min: u32, max: u32) -> Option<NumberSet> {
    let set = NumberSet::of(bits);
    (set.0[..] != [(min, max)]).then_some(set)
}
