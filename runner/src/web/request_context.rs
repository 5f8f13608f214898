//! Who looks at a page: language, theme, rights, and the form that they sent.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::error_page::PageError;
use super::format::Locale;
use super::guard::sign;
use super::settings::UserRole;
use super::translations::Lang;
use super::urls;

/// Light, dark, or as the system says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Theme {
    /// As the system says.
    #[default]
    Auto,
    /// Light.
    Light,
    /// Dark.
    Dark,
}

impl Theme {
    /// The theme of this cookie or form value.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "auto" => Some(Self::Auto),
            "light" => Some(Self::Light),
            "dark" => Some(Self::Dark),
            _ => None,
        }
    }

    /// The value of the cookie.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Light => "light",
            Self::Dark => "dark",
        }
    }
}

/// The outcome of an action, carried over a redirect and shown once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notice {
    /// Key of the sentence in the word list.
    pub key: String,
    /// What it speaks of.
    pub what: String,
    /// Whether the action was refused.
    pub bad: bool,
}

impl Notice {
    const LABEL: &'static str = "notice";

    /// As a cookie value.
    #[must_use]
    pub fn seal(&self, key: &[u8; 32]) -> String {
        let text = serde_json::to_string(self).unwrap_or_default();
        sign::sealed(key, Self::LABEL, &text)
    }

    /// From a cookie value that [`Notice::seal`] made.
    #[must_use]
    pub fn open(key: &[u8; 32], cookie: &str) -> Option<Self> {
        serde_json::from_str(&sign::opened(key, Self::LABEL, cookie)?).ok()
    }
}

/// Somebody who asks for a page.
#[derive(Clone)]
pub struct RequestContext {
    /// Language, zone, and the instant of the request.
    pub locale: Locale,
    /// Colours.
    pub theme: Theme,
    /// The browser's random name.
    pub guest: String,
    /// The user's name, when a login is needed and took place.
    pub user: Option<String>,
    /// What they may do; `None` before the login.
    pub role: Option<UserRole>,
    /// The page that was asked for, inside the dashboard.
    pub here: String,
    /// What every form of theirs must carry.
    pub token: String,
    /// The outcome of their last action.
    pub notice: Option<Notice>,
}

impl RequestContext {
    /// Somebody of whom nothing is known, for faults before anybody looked at cookies.
    #[must_use]
    pub fn unknown(lang: Lang, now: jiff::Timestamp) -> Self {
        Self {
            locale: Locale {
                lang,
                zone: TimeZone::UTC,
                now,
            },
            theme: Theme::default(),
            guest: String::new(),
            user: None,
            role: None,
            here: urls::root(),
            token: String::new(),
            notice: None,
        }
    }

    /// Whether they have at least this role.
    ///
    /// # Errors
    ///
    /// [`PageError::Forbidden`] otherwise.
    pub fn may(&self, role: UserRole) -> Result<(), PageError> {
        if self.role.is_some_and(|own| own >= role) {
            Ok(())
        } else {
            Err(PageError::Forbidden(role))
        }
    }

    /// What form tokens are bound to: the browser and the user.
    #[must_use]
    pub fn bound_to(&self) -> String {
        format!("{}|{}", self.guest, self.user.as_deref().unwrap_or_default())
    }

    /// Who they are, for records.
    #[must_use]
    pub fn name(&self) -> &str {
        self.user.as_deref().unwrap_or("local")
    }
}

/// A cx as handlers get them.
pub type SharedContext = Arc<RequestContext>;

/// A form whose origin was checked.
#[derive(Debug, Clone, Default)]
pub struct Form(BTreeMap<String, String>);

impl Form {
    /// Fields of a form, at most; ours have fewer than ten.
    const FIELDS: usize = 32;

    pub(crate) fn new(pairs: Vec<(String, String)>) -> Result<Self, PageError> {
        if pairs.len() > Self::FIELDS {
            return Err(PageError::TooLarge);
        }
        Ok(Self(pairs.into_iter().collect()))
    }

    /// The value of a field.
    #[must_use]
    pub fn get(&self, field: &str) -> Option<&str> {
        self.0.get(field).map(String::as_str)
    }

    /// Where to go after the action.
    #[must_use]
    pub fn back(&self) -> String {
        urls::inside(self.get("back").unwrap_or_default())
    }
}
