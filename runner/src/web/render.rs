//! Templates: embedded, checked at start, rendered. One engine per language, so that a template never names one.
//!
//! In development they are read from disk for each request. User data is never template source.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use rust_embed::RustEmbed;
use serde::Serialize;
use tera::{Context, Kwargs, State, Tera, Value};

use super::format;
use super::translations::{Lang, Translations};

/// A page is a serializable value that names its template.
pub trait PageTemplate: Serialize {
    /// File name under `templates/`.
    const TEMPLATE: &'static str;
}

#[derive(RustEmbed)]
#[folder = "templates/"]
struct Embedded;

/// Why templates are unusable: a bug, or an edit in development.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// A template does not parse, names something unknown, or failed on a page.
    #[error("template: {0}")]
    Template(#[from] tera::Error),
    /// The word list does not parse or lacks a language.
    #[error("templates/words.json: {0}")]
    Words(#[from] serde_json::Error),
    /// The directory of templates is unreadable.
    #[error("templates: {0}")]
    Read(#[from] std::io::Error),
}

struct Engines {
    en: Tera,
    zh: Tera,
    words: Translations,
}

/// Renders pages.
pub(crate) struct Renderer {
    engines: Engines,
    from_disk: Option<PathBuf>,
    stamp: String,
}

const WORDS: &str = "words.json";

impl Renderer {
    pub(crate) fn new(from_disk: Option<PathBuf>) -> Result<Self, TemplateError> {
        Ok(Self {
            engines: Engines::load(from_disk.as_deref())?,
            from_disk,
            stamp: stamp(),
        })
    }

    /// Part of asset addresses; changes with every asset, so that browsers do not use stale ones.
    pub(crate) fn stamp(&self) -> &str {
        &self.stamp
    }

    /// Renders `page` inside `frame`.
    pub(crate) fn page<P: PageTemplate>(
        &self,
        lang: Lang,
        frame: &impl Serialize,
        page: &P,
    ) -> Result<String, TemplateError> {
        let mut context = Context::from_serialize(page)?;
        context.insert("frame", frame);
        if self.from_disk.is_some() {
            let fresh = Engines::load(self.from_disk.as_deref())?;
            return Ok(fresh.of(lang).render(P::TEMPLATE, &context)?);
        }
        Ok(self.engines.of(lang).render(P::TEMPLATE, &context)?)
    }

    /// The text under `key` with its values; `None` if there is none.
    pub(crate) fn say(&self, lang: Lang, key: &str, values: &[(&str, String)]) -> Option<String> {
        if self.from_disk.is_some() {
            let fresh = Engines::load(self.from_disk.as_deref()).ok()?;
            return fresh.words.say(lang, key, values);
        }
        self.engines.words.say(lang, key, values)
    }

    /// A file of `templates/assets`.
    pub(crate) fn asset(&self, name: &str) -> Option<Cow<'static, [u8]>> {
        let known = Embedded::iter().any(|file| file.strip_prefix("assets/") == Some(name));
        if !known {
            return None;
        }
        let path = format!("assets/{name}");
        match &self.from_disk {
            Some(directory) => std::fs::read(directory.join(path)).ok().map(Cow::Owned),
            None => Embedded::get(&path).map(|file| file.data),
        }
    }
}

impl Engines {
    fn load(from_disk: Option<&Path>) -> Result<Self, TemplateError> {
        let sources = sources(from_disk)?;
        let words = match from_disk {
            Some(directory) => std::fs::read(directory.join(WORDS))?,
            None => Embedded::get(WORDS)
                .map(|file| file.data.into_owned())
                .unwrap_or_default(),
        };
        let words = Translations::parse(&words)?;
        Ok(Self {
            en: engine(Lang::En, &words, &sources)?,
            zh: engine(Lang::Zh, &words, &sources)?,
            words,
        })
    }

    fn of(&self, lang: Lang) -> &Tera {
        match lang {
            Lang::En => &self.en,
            Lang::Zh => &self.zh,
        }
    }
}

fn stamp() -> String {
    let files: Vec<_> = Embedded::iter()
        .filter(|name| name.starts_with("assets/"))
        .filter_map(|name| Embedded::get(&name))
        .map(|file| String::from_utf8_lossy(&file.data).into_owned())
        .collect();
    let files: Vec<&str> = files.iter().map(String::as_str).collect();
    format!("{:016x}", runner_core::schedule::stable_hash(&files))
}

fn sources(from_disk: Option<&Path>) -> Result<Vec<(String, String)>, std::io::Error> {
    let mut found = Vec::new();
    for name in Embedded::iter().filter(|name| name.ends_with("html")) {
        let text = match from_disk {
            Some(directory) => std::fs::read_to_string(directory.join(name.as_ref()))?,
            None => Embedded::get(&name)
                .map(|file| String::from_utf8_lossy(&file.data).into_owned())
                .unwrap_or_default(),
        };
        found.push((name.into_owned(), text));
    }
    Ok(found)
}

fn engine(lang: Lang, words: &Translations, sources: &[(String, String)]) -> Result<Tera, tera::Error> {
    let mut tera = Tera::new();
    tera.set_escape_fn(format::escape);
    let words = words.clone();
    tera.register_function("t", move |args: Kwargs, _: &State| {
        let key = args.must_get::<&str>("k")?;
        let filled: Vec<(&str, String)> = args
            .iter()
            .filter_map(|(name, value)| Some((name.as_str()?, plain(value))))
            .collect();
        words
            .say(lang, key, &filled)
            .ok_or_else(|| tera::Error::message(format!("no text under the key {key:?}")))
    });
    tera.register_filter("num", |n: u64, _: Kwargs, _: &State| format::grouped(n));
    tera.add_raw_templates(sources.iter().map(|(name, text)| (name.as_str(), text.as_str())))?;
    Ok(tera)
}

fn plain(value: &Value) -> String {
    match (value.as_str(), value.as_i128()) {
        (Some(text), _) => text.to_owned(),
        (None, Some(n)) => u64::try_from(n).map_or_else(|_| n.to_string(), format::grouped),
        (None, None) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::{BTreeMap, BTreeSet};

    use runner_core::task::AttemptOutcome;

    use super::*;
    use crate::diagnose::{MEANT, ReasonCode};

    /// The texts between `t(k="` and the next quote; a key that is concatenated ends in a dot or a dash.
    fn keys_used() -> BTreeSet<String> {
        let mut keys = BTreeSet::new();
        for (_, text) in sources(None).unwrap() {
            for piece in text.split("t(k=\"").skip(1) {
                keys.insert(piece.split('"').next().unwrap().to_owned());
            }
        }
        keys
    }

    #[test]
    fn templates_parse_and_every_key_they_name_has_words() {
        Renderer::new(None).unwrap();
        let words = Translations::parse(&Embedded::get(WORDS).unwrap().data).unwrap();
        let known: BTreeSet<&str> = words.keys().collect();
        let used = keys_used();
        assert!(used.len() > 100, "the search for keys finds hardly any");
        for key in &used {
            let whole = known.contains(key.as_str());
            let begun = key.ends_with('.') && known.iter().any(|k| k.starts_with(key.as_str()));
            assert!(whole || begun, "no words for {key}");
        }
    }

    #[test]
    fn every_outcome_has_words() {
        let words = Translations::parse(&Embedded::get(WORDS).unwrap().data).unwrap();
        let known: BTreeSet<&str> = words.keys().collect();
        let outcomes: BTreeSet<String> = AttemptOutcome::ALL.iter().map(|o| format!("outcome.{o}")).collect();
        let listed: BTreeSet<String> = known
            .iter()
            .filter(|k| k.starts_with("outcome."))
            .map(|k| (*k).to_owned())
            .collect();
        assert_eq!(outcomes, listed);
    }

    /// The texts of reasons by their keys, in English.
    fn reason_texts() -> BTreeMap<String, &'static str> {
        let texts = ReasonCode::ALL.iter().flat_map(|code| {
            let key = format!("why.{}", code.as_str());
            [(format!("{key}.hint"), code.hint()), (key, code.sentence())]
        });
        let meant = ("why.meant".to_owned(), MEANT);
        texts.filter(|(_, text)| !text.is_empty()).chain([meant]).collect()
    }

    #[test]
    fn every_reason_is_said_alike_by_pages_and_commands_and_in_both_languages() {
        let words = Translations::parse(&Embedded::get(WORDS).unwrap().data).unwrap();
        let places = |text: &str| -> BTreeSet<String> {
            let places = text.split('{').skip(1).filter_map(|rest| rest.split_once('}'));
            places.map(|(name, _)| name.to_owned()).collect()
        };
        for (key, english) in reason_texts() {
            let say = |lang| {
                words
                    .say(lang, &key, &[])
                    .unwrap_or_else(|| panic!("no words for {key}"))
            };
            assert_eq!(say(Lang::En), english, "{key}");
            let chinese = say(Lang::Zh);
            assert!(!chinese.is_ascii(), "{key} is not translated");
            assert_eq!(places(&chinese), places(english), "{key}");
        }
        let listed = words
            .keys()
            .filter(|key| key.starts_with("why.W") || key.starts_with("why.S") || *key == "why.meant");
        assert_eq!(
            listed.count(),
            reason_texts().len(),
            "words for a reason that is not there"
        );
    }

    #[test]
    fn in_development_the_directory_is_read_and_a_bad_edit_is_refused() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../templates");
        assert!(Renderer::new(Some(top.clone())).unwrap().asset("queue.css").is_some());
        let copy = tempfile::tempdir().unwrap();
        assert!(matches!(
            Renderer::new(Some(copy.path().to_owned())),
            Err(TemplateError::Read(_))
        ));
        for name in Embedded::iter().filter(|name| !name.contains('/')) {
            std::fs::copy(top.join(name.as_ref()), copy.path().join(name.as_ref())).unwrap();
        }
        Renderer::new(Some(copy.path().to_owned())).unwrap();
        std::fs::write(copy.path().join("fault.html"), "{% if %}").unwrap();
        assert!(matches!(
            Renderer::new(Some(copy.path().to_owned())),
            Err(TemplateError::Template(_))
        ));
    }

    #[test]
    fn no_words_are_left_over() {
        let words = Translations::parse(&Embedded::get(WORDS).unwrap().data).unwrap();
        let used = keys_used();
        let reasons = reason_texts();
        for key in words
            .keys()
            .filter(|k| !k.starts_with("notice.") && !reasons.contains_key(*k))
        {
            let begun = used.iter().any(|u| u.ends_with('.') && key.starts_with(u.as_str()));
            assert!(begun || used.contains(key), "unused key {key}");
        }
    }
}
