//! The civil times that match: bit sets for each field, and the nearest match on either side.
//!
//! Pure calendar arithmetic on local clocks. Zones and daylight saving time: see `instants`.

use jiff::civil::{Date, DateTime};

/// At most this many Gregorian years lie between two 29 Februaries (1896 to 1904): every day that exists recurs within
/// them, so a longer search is in vain.
const LONGEST_WAIT_YEARS: i16 = 8;

/// Every hour of the day.
const ALL_HOURS: u64 = (1 << 24) - 1;

/// The matching values of each field, one bit per value. A day field that is a star matches all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Calendar {
    pub seconds: u64,
    pub minutes: u64,
    pub hours: u64,
    /// Days of the month, bits 1 to 31; `None` when the field is a star.
    pub days: Option<u64>,
    /// Bits 1 to 12.
    pub months: u64,
    /// Bits 0 (Sunday) to 6; `None` when the field is a star.
    pub weekdays: Option<u64>,
}

impl Calendar {
    /// Whether every hour matches; the rule is then about intervals rather than times of day.
    pub fn every_hour(&self) -> bool {
        self.hours == ALL_HOURS
    }

    /// Whether no civil time of any year matches. Decided from the sets, without a search.
    pub fn is_empty(&self) -> bool {
        if self.seconds == 0 || self.minutes == 0 || self.hours == 0 || self.months == 0 {
            return true;
        }
        let some_day = |days: u64| ones(self.months).any(|m| days & month_mask(longest(m)) != 0);
        match (self.days, self.weekdays) {
            (None, None) => false,
            (Some(days), None) => !some_day(days),
            (None, Some(weekdays)) => weekdays == 0,
            (Some(days), Some(weekdays)) => weekdays == 0 && !some_day(days),
        }
    }

    /// The first match at or after `from`; fractions of a second in `from` are ignored.
    pub fn at_or_after(&self, from: DateTime) -> Option<DateTime> {
        if self.is_empty() {
            return None;
        }
        let clock = [from.hour(), from.minute(), from.second()].map(unsigned);
        if self.matches_date(from.date())
            && let Some(found) = self.clock_at_or_after(clock)
        {
            return on(from.date(), found);
        }
        let day = self.date_at_or_after(from.date().tomorrow().ok()?)?;
        on(day, self.clock_at_or_after([0, 0, 0])?)
    }

    /// The last match before `until`; fractions of a second in `until` are ignored.
    pub fn before(&self, until: DateTime) -> Option<DateTime> {
        if self.is_empty() {
            return None;
        }
        let clock = [until.hour(), until.minute(), until.second()].map(unsigned);
        if self.matches_date(until.date())
            && let Some(found) = self.clock_before(clock)
        {
            return on(until.date(), found);
        }
        let day = self.date_at_or_before(until.date().yesterday().ok()?)?;
        on(day, self.clock_before([24, 0, 0])?)
    }

    fn clock_at_or_after(&self, [hour, minute, second]: [u32; 3]) -> Option<[u32; 3]> {
        let first_minute = first_from(self.minutes, 0)?;
        let first_second = first_from(self.seconds, 0)?;
        if self.hours >> hour & 1 == 1 {
            if self.minutes >> minute & 1 == 1
                && let Some(s) = first_from(self.seconds, second)
            {
                return Some([hour, minute, s]);
            }
            if let Some(m) = first_from(self.minutes, minute + 1) {
                return Some([hour, m, first_second]);
            }
        }
        let h = first_from(self.hours, hour + 1)?;
        Some([h, first_minute, first_second])
    }

    fn clock_before(&self, [hour, minute, second]: [u32; 3]) -> Option<[u32; 3]> {
        let last_minute = last_below(self.minutes, 60)?;
        let last_second = last_below(self.seconds, 60)?;
        if self.hours >> hour & 1 == 1 {
            if self.minutes >> minute & 1 == 1
                && let Some(s) = last_below(self.seconds, second)
            {
                return Some([hour, minute, s]);
            }
            if let Some(m) = last_below(self.minutes, minute) {
                return Some([hour, m, last_second]);
            }
        }
        let h = last_below(self.hours, hour)?;
        Some([h, last_minute, last_second])
    }

    fn matches_date(&self, date: Date) -> bool {
        self.months >> date.month() & 1 == 1 && self.days_of(date.year(), date.month()) >> date.day() & 1 == 1
    }

    fn date_at_or_after(&self, from: Date) -> Option<Date> {
        let mut floor = unsigned(from.day());
        let mut first_month = unsigned(from.month());
        for year in from.year()..=from.year().saturating_add(LONGEST_WAIT_YEARS) {
            for month in ones(self.months & !month_mask(first_month - 1)) {
                if month != unsigned(from.month()) || year != from.year() {
                    floor = 1;
                }
                if let Some(day) = first_from(self.days_of(year, signed(month)), floor) {
                    return Date::new(year, signed(month), signed(day)).ok();
                }
            }
            first_month = 1;
        }
        None
    }

    fn date_at_or_before(&self, from: Date) -> Option<Date> {
        let earliest = from.year().saturating_sub(LONGEST_WAIT_YEARS);
        for year in (earliest..=from.year()).rev() {
            let mut months = self.months;
            if year == from.year() {
                months &= month_mask(unsigned(from.month()));
            }
            while let Some(month) = last_below(months, 13) {
                months &= !(1 << month);
                let same = year == from.year() && month == unsigned(from.month());
                let ceiling = if same { unsigned(from.day()) + 1 } else { 32 };
                if let Some(day) = last_below(self.days_of(year, signed(month)), ceiling) {
                    return Date::new(year, signed(month), signed(day)).ok();
                }
            }
        }
        None
    }

    /// The matching days of one month, bits 1 to 31. When both day fields are restricted either may match; with a star in
    /// one, only the other counts.
    fn days_of(&self, year: i16, month: i8) -> u64 {
        let Ok(first) = Date::new(year, month, 1) else {
            return 0;
        };
        let exist = month_mask(unsigned(first.days_in_month()));
        let by_weekday = |set: u64| {
            let start = unsigned(first.weekday().to_sunday_zero_offset());
            let week = (set >> start | set << (7 - start)) & 0x7f;
            (week | week << 7 | week << 14 | week << 21 | week << 28) << 1
        };
        exist
            & match (self.days, self.weekdays) {
                (None, None) => exist,
                (Some(days), None) => days,
                (None, Some(weekdays)) => by_weekday(weekdays),
                (Some(days), Some(weekdays)) => days | by_weekday(weekdays),
            }
    }
}

/// The values of a set, ascending.
pub(super) fn ones(mut set: u64) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let lowest = first_from(set, 0)?;
        set &= set - 1;
        Some(lowest)
    })
}

/// Bits 1 to `last`.
fn month_mask(last: u32) -> u64 {
    (1 << (last + 1)) - 2
}

/// The days that a month has in its longest year.
fn longest(month: u32) -> u32 {
    match month {
        2 => 29,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn first_from(set: u64, from: u32) -> Option<u32> {
    let rest = set.checked_shr(from)?;
    (rest != 0).then(|| from + rest.trailing_zeros())
}

fn last_below(set: u64, below: u32) -> Option<u32> {
    let rest = set & 1_u64.checked_shl(below).map_or(u64::MAX, |bit| bit - 1);
    (rest != 0).then(|| 63 - rest.leading_zeros())
}

fn on(date: Date, [hour, minute, second]: [u32; 3]) -> Option<DateTime> {
    let (hour, minute, second) = (signed(hour), signed(minute), signed(second));
    DateTime::new(date.year(), date.month(), date.day(), hour, minute, second, 0).ok()
}

/// jiff uses `i8` for calendar values, bit arithmetic needs `u32`; all of them are 0 to 60.
fn unsigned(value: i8) -> u32 {
    u32::from(value.unsigned_abs())
}

fn signed(value: u32) -> i8 {
    i8::try_from(value).unwrap_or(i8::MAX)
}
