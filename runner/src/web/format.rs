//! Text for people: numbers, durations, instants, and untrusted text made harmless and short.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;

use super::translations::Lang;
use crate::text::signs;

/// Maximum characters of untrusted text in a list.
pub const IN_A_LIST: usize = 160;

/// Digits in groups of three, in both languages.
#[must_use]
pub fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Writes `input` as HTML text or attribute value. Control and direction characters become visible symbols, so that
/// untrusted text cannot reorder or hide its surroundings. All templates use this escape.
///
/// # Errors
///
/// Those of `out`.
pub fn escape(input: &str, out: &mut dyn io::Write) -> io::Result<()> {
    let mut clean = 0;
    for (at, c) in input.char_indices() {
        let sign = match c {
            '&' => Some("&amp;".to_owned()),
            '<' => Some("&lt;".to_owned()),
            '>' => Some("&gt;".to_owned()),
            '"' => Some("&quot;".to_owned()),
            '\'' => Some("&#39;".to_owned()),
            '\n' | '\t' => None,
            other => signs::sign(other).map(Cow::into_owned),
        };
        if let Some(sign) = sign {
            out.write_all(&input.as_bytes()[clean..at])?;
            out.write_all(sign.as_bytes())?;
            clean = at + c.len_utf8();
        }
    }
    out.write_all(&input.as_bytes()[clean..])
}

/// The first `most` characters and an ellipsis, or all of a shorter text.
#[must_use]
pub fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A duration in its two largest units: `1 h 04 min`, `350 ms`.
#[must_use]
pub fn span(lang: Lang, duration: Duration) -> String {
    let (ms, seconds) = (duration.as_millis(), duration.as_secs());
    let unit = |en, zh| if lang == Lang::Zh { zh } else { en };
    let pair = |large: u64, large_unit: &str, small: u64, small_unit: &str| {
        if small == 0 {
            format!("{large} {large_unit}")
        } else {
            format!("{large} {large_unit} {small:02} {small_unit}")
        }
    };
    let (day, hour) = (unit("d", "天"), unit("h", "小时"));
    let (minute, second) = (unit("min", "分"), unit("s", "秒"));
    match seconds {
        0 => format!("{ms} {}", unit("ms", "毫秒")),
        1..10 if ms % 1000 >= 100 => format!("{seconds}.{} {second}", ms % 1000 / 100),
        1..60 => format!("{seconds} {second}"),
        60..3600 => pair(seconds / 60, minute, seconds % 60, second),
        3600..86_400 => pair(seconds / 3600, hour, seconds % 3600 / 60, minute),
        _ => pair(seconds / 86_400, day, seconds % 86_400 / 3600, hour),
    }
}

/// An instant to the second: with its offset, or a local time in this zone. A time that clocks skip is the one after the gap,
/// of one that they repeat it is the first.
#[must_use]
pub fn instant_in(zone: &TimeZone, text: &str) -> Option<Timestamp> {
    let text = text.trim();
    let local = || text.parse::<jiff::civil::DateTime>().ok()?.to_zoned(zone.clone()).ok();
    let at = text
        .parse::<Timestamp>()
        .ok()
        .or_else(|| local().map(|at| at.timestamp()))?;
    Timestamp::from_second(at.as_second()).ok()
}

/// An instant, formatted for a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InstantText {
    /// For machines: UTC, RFC 3339.
    pub iso: String,
    /// Date, time and offset in the zone of the page.
    pub full: String,
    /// Date and time without offset.
    pub short: String,
    /// Offset and name of the zone.
    pub offset: String,
    /// Relative to now.
    pub ago: String,
}

/// The context for formatting time: language, zone and the instant at which the page is made.
#[derive(Clone)]
pub struct Locale {
    /// Language of durations.
    pub lang: Lang,
    /// Zone of instants.
    pub zone: TimeZone,
    /// The current time of the page.
    pub now: Timestamp,
}

impl Locale {
    /// `at` in the locale's zone.
    #[must_use]
    pub fn moment(&self, at: Timestamp) -> InstantText {
        self.moment_in(at, &self.zone)
    }

    /// `at` in another zone.
    #[must_use]
    pub fn moment_in(&self, at: Timestamp, zone: &TimeZone) -> InstantText {
        let local = at.to_zoned(zone.clone());
        InstantText {
            iso: format!("{:.0}", at),
            full: local.strftime("%Y-%m-%d %H:%M:%S %:z").to_string(),
            short: local.strftime("%Y-%m-%d %H:%M:%S").to_string(),
            offset: local.strftime("%:z").to_string(),
            ago: self.ago(at),
        }
    }

    /// `at` relative to now: `in 3 min 10 s`, `5 s ago`.
    #[must_use]
    pub fn ago(&self, at: Timestamp) -> String {
        let distance = at.duration_since(self.now);
        let length = distance.unsigned_abs();
        // Below a second the direction is noise.
        if length < Duration::from_secs(1) {
            return self.either("just now", "刚刚").to_owned();
        }
        let whole = Duration::from_secs(length.as_secs());
        let text = span(self.lang, whole);
        let mut out = String::new();
        let written = match (self.lang, distance.is_negative()) {
            (Lang::En, true) => write!(out, "{text} ago"),
            (Lang::En, false) => write!(out, "in {text}"),
            (Lang::Zh, true) => write!(out, "{text}前"),
            (Lang::Zh, false) => write!(out, "{text}后"),
        };
        written.map_or(text, |()| out)
    }

    /// A duration in the locale's language.
    #[must_use]
    pub fn span(&self, duration: Duration) -> String {
        span(self.lang, duration)
    }

    fn either(&self, en: &'static str, zh: &'static str) -> &'static str {
        if self.lang == Lang::Zh { zh } else { en }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn escaped(text: &str) -> String {
        let mut out = Vec::new();
        escape(text, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn foreign_text_is_harmless() {
        assert_eq!(escaped("<b a='\"'>&"), "&lt;b a=&#39;&quot;&#39;&gt;&amp;");
        assert_eq!(escaped("a\u{1b}[31mb\r\n"), "a␛[31mb␍\n");
        assert_eq!(escaped("x\u{202e}y\u{0}"), "x⟨U+202E⟩y␀");
        assert_eq!(escaped("空 é"), "空 é");
    }

    #[test]
    fn spans_name_two_units() {
        let s = |seconds| span(Lang::En, Duration::from_secs(seconds));
        assert_eq!([s(0), s(9), s(64), s(3600)], ["0 ms", "9 s", "1 min 04 s", "1 h"]);
        assert_eq!(s(90_000), "1 d 01 h");
        assert_eq!(span(Lang::En, Duration::from_millis(2540)), "2.5 s");
        assert_eq!(span(Lang::Zh, Duration::from_secs(64)), "1 分 04 秒");
    }

    #[test]
    fn numbers_are_grouped_and_texts_cut_between_characters() {
        assert_eq!(grouped(1_204_118), "1,204,118");
        assert_eq!(grouped(999), "999");
        assert_eq!(cut("空空空", 2), "空空…");
        assert_eq!(cut("空空", 2), "空空");
    }

    #[test]
    fn instants_carry_their_offset() {
        let locale = Locale {
            lang: Lang::En,
            zone: TimeZone::get("Asia/Shanghai").unwrap(),
            now: "2026-11-22T00:00:00Z".parse().unwrap(),
        };
        let moment = locale.moment("2026-11-22T00:03:10.9Z".parse().unwrap());
        assert_eq!(moment.full, "2026-11-22 08:03:10 +08:00");
        assert_eq!(moment.ago, "in 3 min 10 s");
        assert_eq!(moment.iso, "2026-11-22T00:03:10Z");
    }
}
