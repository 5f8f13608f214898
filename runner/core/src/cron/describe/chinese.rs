//! Describes a phrase in Chinese.

use super::phrase::{Beat, Days, NumberSet, Phrase, TimePhrase};

const WEEKDAYS: [&str; 7] = ["一", "二", "三", "四", "五", "六", "日"];

pub(super) fn every(seconds: u64) -> String {
    const UNITS: [&str; 4] = ["天", "小时", "分钟", "秒"];
    let parts: Vec<_> = super::parts(seconds).collect();
    match parts[..] {
        [(1, unit)] => format!("每{}", UNITS[unit]),
        _ => {
            let words = parts
                .into_iter()
                .map(|(count, unit)| format!("{count} {}", UNITS[unit]));
            format!("每 {}", words.collect::<Vec<_>>().join(" "))
        }
    }
}

pub(super) fn describe(phrase: &Phrase) -> String {
    let (time, clock) = match &phrase.time {
        TimePhrase::Never => return "从不触发".to_owned(),
        TimePhrase::Clocks(clocks) => {
            let clocks = clocks.iter().map(|&(hour, minute, second)| match second {
                Some(second) => format!("{hour:02}:{minute:02}:{second:02}"),
                None => format!("{hour:02}:{minute:02}"),
            });
            (list(clocks.collect()), true)
        }
        TimePhrase::Rhythm { count, unit, hours } => (rhythm(*count, *unit, *hours), false),
        TimePhrase::Hourly { minute, every: 1 } => (format!("每小时的第 {minute} 分"), false),
        TimePhrase::Hourly { minute, every } => (format!("从零点起每 {every} 小时的第 {minute} 分"), false),
        TimePhrase::Fields {
            seconds,
            every_second,
            minutes,
            hours,
        } => {
            let mut words = match hours {
                Some(set) => numbers(set, "点"),
                None if minutes.is_some() => "每小时".to_owned(),
                None => String::new(),
            };
            words += &match minutes {
                Some(set) => format!("的第 {}", numbers(set, "分")),
                None => "每分钟".to_owned(),
            };
            if let Some(set) = seconds {
                words += &format!("的第 {}", numbers(set, "秒"));
            } else if *every_second {
                words += "的每一秒";
            }
            (words, false)
        }
    };
    let days = days(phrase, clock);
    if days.is_empty() {
        time
    } else {
        format!("{days} {time}")
    }
}

fn rhythm(count: u32, unit: Beat, hours: Option<(u32, u32)>) -> String {
    let unit = match unit {
        Beat::Second => "秒",
        Beat::Minute => "分钟",
        Beat::Hour => "小时",
    };
    let every = match count {
        1 => format!("每{unit}"),
        count => format!("每 {count} {unit}"),
    };
    match hours {
        None => every,
        Some((first, last)) => format!("{first:02}:00 至 {last:02}:59 {every}"),
    }
}

fn days(phrase: &Phrase, clock: bool) -> String {
    let months = phrase.months.as_ref().map(|set| numbers(set, "月"));
    let yearly = |months: &str| format!("每年 {months}");
    match (&phrase.days, months) {
        (Days::All, None) if clock => "每天".to_owned(),
        (Days::All, None) => String::new(),
        (Days::All, Some(months)) if clock => format!("{}每天", yearly(&months)),
        (Days::All, Some(months)) => yearly(&months),
        (Days::Month(days), None) => format!("每月 {}", numbers(days, "日")),
        (Days::Month(days), Some(months)) => {
            let middle = if phrase.months.as_ref().and_then(NumberSet::single).is_some() {
                " "
            } else {
                "的 "
            };
            format!("{}{middle}{}", yearly(&months), numbers(days, "日"))
        }
        (Days::Week(days), None) => weekly(days),
        (Days::Week(days), Some(months)) => format!("{}的{}", yearly(&months), weekly(days)),
        (Days::Either(days, week), months) => format!(
            "{} {}或{}",
            months.as_deref().map_or("每月".to_owned(), yearly),
            numbers(days, "日"),
            weekly(week),
        ),
    }
}

/// "每周一、周三", "每周一至周五".
fn weekly(days: &NumberSet) -> String {
    let name = |day: u32| {
        let index = day.saturating_sub(1) as usize;
        format!("周{}", WEEKDAYS.get(index).unwrap_or(&""))
    };
    let words = days.words(name, |a, b| format!("{}至{}", name(a), name(b)));
    format!("每{}", list(words))
}

/// "5 分", "0 至 10、30、45 分".
fn numbers(set: &NumberSet, unit: &str) -> String {
    let words = set.words(|n| n.to_string(), |a, b| format!("{a} 至 {b}"));
    format!("{} {unit}", list(words))
}

fn list(words: Vec<String>) -> String {
    words.join("、")
}
