//! Translates texts that other schedulers read differently: AWS, whose six fields end in a year, and Quartz, which counts
//! weekdays from 1 for Sunday. Not here: the warnings about expressions that look like theirs (`dialect_lint`).

/// The weekdays, 0 for Sunday.
pub(super) const WEEKDAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];

/// Translates the fields of an AWS text (minute hour day month weekday year). A `?` as its day or weekday identifies it.
pub(super) fn from_aws(parts: &[&str]) -> Option<String> {
    let [minute, hour, day, month, weekday, _year] = parts else {
        return None;
    };
    if *day != "?" && *weekday != "?" {
        return None;
    }
    let star = |part: &str| if part == "?" { "*".to_owned() } else { part.to_owned() };
    let weekday = named_from_quartz(weekday).unwrap_or_else(|| star(weekday));
    Some(format!("{minute} {hour} {} {} {weekday}", star(day), star(month)))
}

/// The replacement for `cron(…)` or `rate(…)`; `None` for any other text.
pub(super) fn in_parentheses(text: &str) -> Option<String> {
    let lower = text.trim().to_ascii_lowercase();
    let inside = |name: &str| {
        lower
            .strip_prefix(name)?
            .trim_start()
            .strip_prefix('(')?
            .strip_suffix(')')
    };
    if inside("cron").is_some() {
        let fields = text
            .trim()
            .split_once('(')
            .map_or("", |(_, rest)| rest.trim_end_matches(')'));
        let parts = parts(fields);
        let meant = from_aws(&parts).unwrap_or_else(|| parts.join(" "));
        return Some(format!("write \"{meant}\""));
    }
    let (count, unit) = inside("rate")?.trim().split_once(' ')?;
    let every = match (count.parse::<u32>().ok()?, unit.trim().trim_end_matches('s')) {
        (count, "minute") => format!("{count}m"),
        (count, "hour") => format!("{count}h"),
        (count, "day") => format!("{}h", u64::from(count) * 24),
        _ => return None,
    };
    Some(format!("write \"@every {every}\""))
}

/// A list of Quartz weekday numbers, by name. `None` without a number, or with one that Quartz does not have.
pub(super) fn named_from_quartz(text: &str) -> Option<String> {
    let mut numbers = false;
    let mut value = |text: &str| match text.parse::<usize>() {
        Ok(number) => {
            numbers = true;
            WEEKDAYS.get(number.checked_sub(1)?).map(|name| (*name).to_owned())
        }
        Err(_) => Some(text.to_owned()),
    };
    let mut items = Vec::new();
    for item in text.split(',') {
        let (range, step) = item
            .split_once('/')
            .map_or((item, None), |(range, step)| (range, Some(step)));
        let ends: Option<Vec<String>> = range.split('-').map(&mut value).collect();
        let range = ends?.join("-");
        items.push(match step {
            Some(step) => format!("{range}/{step}"),
            None => range,
        });
    }
    numbers.then(|| items.join(","))
}

/// The fields of a text, without its zone.
pub(super) fn parts(text: &str) -> Vec<&str> {
    text.split_whitespace().filter(|part| !part.contains('=')).collect()
}

/// A value of a field as people write it.
pub(super) fn shown(index: usize, value: u32) -> String {
    let weekday = WEEKDAYS.get(value as usize).filter(|_| index == 5);
    weekday.map_or_else(|| value.to_string(), |name| (*name).to_owned())
}
