//! Every sentence of the dashboard in both languages, from one list, so that no translation can be missing.
//!
//! The list is `templates/words.json`: key to `{"en": …, "zh": …}`. A text is a string, or a pair of
//! strings for one and for several. `{name}` is replaced by the argument of that name.

use std::collections::BTreeMap;

use runner_core::cron::Language;
use serde::Deserialize;

use crate::text::fill;

/// The two languages of the dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lang {
    /// English.
    #[default]
    En,
    /// Simplified Chinese.
    Zh,
}

impl Lang {
    /// The value of the `lang` attribute.
    #[must_use]
    pub fn tag(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Zh => "zh-CN",
        }
    }

    /// The language of this cookie or form value.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "en" => Some(Self::En),
            "zh" | "zh-CN" => Some(Self::Zh),
            _ => None,
        }
    }

    /// The first accepted language that the dashboard has, by weight.
    #[must_use]
    pub fn from_accept(header: &str) -> Option<Self> {
        // Browsers list a handful; a longer list is not from a browser.
        const LISTED: usize = 20;
        let mut best: Option<(f32, Self)> = None;
        for item in header.split(',').take(LISTED) {
            let mut parts = item.split(';');
            let tag = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
            let weight = parts
                .find_map(|p| p.trim().strip_prefix("q="))
                .map_or(Some(1.0), |q| q.parse::<f32>().ok())
                .unwrap_or(0.0);
            let lang = match tag.split('-').next() {
                Some("zh") => Self::Zh,
                Some("en") => Self::En,
                _ => continue,
            };
            if weight > 0.0 && best.is_none_or(|(w, _)| weight > w) {
                best = Some((weight, lang));
            }
        }
        best.map(|(_, lang)| lang)
    }

    /// The language for sentences about expressions.
    #[must_use]
    pub fn of_expressions(self) -> Language {
        match self {
            Self::En => Language::English,
            Self::Zh => Language::Chinese,
        }
    }
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Text {
    Same(String),
    Counted([String; 2]),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    en: Text,
    zh: Text,
}

/// The whole list.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub struct Translations(BTreeMap<String, Entry>);

impl Translations {
    /// Reads the list.
    ///
    /// # Errors
    ///
    /// If it is not JSON, or a key lacks a language.
    pub fn parse(json: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// All keys, ascending.
    #[cfg(test)]
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The text under `key` with its arguments; `n` chooses between singular and plural.
    ///
    /// `None` if there is no such key.
    #[must_use]
    pub fn say(&self, lang: Lang, key: &str, args: &[(&str, String)]) -> Option<String> {
        let entry = self.0.get(key)?;
        let text = match lang {
            Lang::En => &entry.en,
            Lang::Zh => &entry.zh,
        };
        let one = args.iter().any(|(name, value)| *name == "n" && value == "1");
        let text = match text {
            Text::Same(text) => text,
            Text::Counted([single, several]) => {
                if one {
                    single
                } else {
                    several
                }
            }
        };
        Some(fill(text, args))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_heaviest_known_language_wins() {
        assert_eq!(Lang::from_accept("de, zh-TW;q=0.5, en;q=0.4"), Some(Lang::Zh));
        assert_eq!(Lang::from_accept("zh;q=0, en-GB;q=0.1"), Some(Lang::En));
        assert_eq!(Lang::from_accept("fr, *;q=0.5"), None);
    }

    #[test]
    fn arguments_are_filled_in_once_and_numbers_choose_the_form() {
        let words =
            Translations::parse(br#"{"k": {"en": ["{n} task of {who}", "{n} tasks of {who}"], "zh": "{who}: {n}"}}"#)
                .unwrap();
        let say = |lang, n: &str| {
            let args = [("n", n.to_owned()), ("who", "{n}".to_owned())];
            words.say(lang, "k", &args).unwrap()
        };
        assert_eq!(say(Lang::En, "1"), "1 task of {n}");
        assert_eq!(say(Lang::En, "2"), "2 tasks of {n}");
        assert_eq!(say(Lang::Zh, "1"), "{n}: 1");
        assert!(words.say(Lang::En, "x", &[]).is_none());
        assert!(Translations::parse(br#"{"k": {"en": "a"}}"#).is_err());
    }
}
