//! The context of a request: language, theme, user and rights, and the submitted form.

use std::sync::Arc;

use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::format::Locale;
use super::page_error::PageError;
use super::translations::Lang;
use super::urls;
use crate::access::UserRole;
use crate::access::sign;
use crate::audit::AuditLog;

/// Light, dark, or the system's choice.
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
    /// The argument of the sentence.
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

/// The context of a request for a page.
#[derive(Clone)]
pub struct RequestContext {
    /// Language, zone, and the instant of the request.
    pub locale: Locale,
    /// Theme.
    pub theme: Theme,
    /// The browser's random name.
    pub guest: String,
    /// The user's name; `None` without a login.
    pub user: Option<String>,
    /// The user's role; `None` before the login.
    pub role: Option<UserRole>,
    /// The requested page, inside the dashboard.
    pub here: String,
    /// The token that every form must contain.
    pub token: String,
    /// The outcome of the last action.
    pub notice: Option<Notice>,
    /// Where actions are noted.
    pub audit: AuditLog,
}

impl RequestContext {
    /// An anonymous context, for faults before cookies are read.
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
            audit: AuditLog::default(),
        }
    }

    /// Requires at least this role.
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

    /// The user in audit lines.
    #[must_use]
    pub fn name(&self) -> &str {
        self.user.as_deref().unwrap_or("local")
    }
}

/// The context as an extractor for handlers.
pub type SharedContext = Arc<RequestContext>;

/// A form that passed the checks.
#[derive(Debug, Clone, Default)]
pub struct Form(Vec<(String, String)>);

impl Form {
    /// Maximum number of fields of a form: a list has 50 tasks that can be ticked, and a dozen fields of its own.
    const FIELDS: usize = 96;

    pub(crate) fn new(pairs: Vec<(String, String)>) -> Result<Self, PageError> {
        if pairs.len() > Self::FIELDS {
            return Err(PageError::TooLarge);
        }
        Ok(Self(pairs))
    }

    /// The value of a field; the last one, if there are several.
    #[must_use]
    pub fn get(&self, field: &str) -> Option<&str> {
        let found = self.0.iter().rev().find(|(name, _)| name == field);
        found.map(|(_, value)| value.as_str())
    }

    /// All fields, in their order.
    #[must_use]
    pub fn pairs(&self) -> &[(String, String)] {
        &self.0
    }

    /// The page to return to after the action.
    #[must_use]
    pub fn back(&self) -> String {
        urls::inside(self.get("back").unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_notice_is_read_back_only_with_the_key_that_sealed_it() {
        let notice = Notice {
            key: "notice.task.run".to_owned(),
            what: "空; a=b".to_owned(),
            bad: true,
        };
        let cookie = notice.seal(&[1; 32]);
        assert_eq!(Notice::open(&[1; 32], &cookie), Some(notice));
        assert_eq!(Notice::open(&[2; 32], &cookie), None);
        let (first, rest) = cookie.split_at(1);
        let other = if first == "A" { "B" } else { "A" };
        assert_eq!(Notice::open(&[1; 32], &format!("{other}{rest}")), None);
    }

    #[test]
    fn a_role_includes_those_below_it() {
        let mut cx = RequestContext::unknown(Lang::En, jiff::Timestamp::UNIX_EPOCH);
        assert!(matches!(
            cx.may(UserRole::Viewer),
            Err(PageError::Forbidden(UserRole::Viewer))
        ));
        cx.role = Some(UserRole::Operator);
        assert!(cx.may(UserRole::Viewer).is_ok() && cx.may(UserRole::Operator).is_ok());
        assert!(cx.may(UserRole::Admin).is_err());
        assert_eq!((cx.name(), cx.bound_to().as_str()), ("local", "|"));
        (cx.user, cx.guest) = (Some("ann".to_owned()), "g".to_owned());
        assert_eq!((cx.name(), cx.bound_to().as_str()), ("ann", "g|ann"));
    }

    #[test]
    fn a_form_has_a_bounded_number_of_fields_and_returns_inside() {
        let fields = |n: usize| (0..n).map(|i| (i.to_string(), "x".to_owned())).collect::<Vec<_>>();
        assert!(Form::new(fields(Form::FIELDS)).is_ok());
        assert!(matches!(Form::new(fields(Form::FIELDS + 1)), Err(PageError::TooLarge)));
        let back = |to: &str| Form::new(vec![("back".to_owned(), to.to_owned())]).unwrap().back();
        assert_eq!(back("/queue/schedules?page=2"), "/queue/schedules?page=2");
        assert_eq!(back("https://evil.example/"), "/queue");
        assert_eq!(Form::default().back(), "/queue");
    }

    #[test]
    fn a_theme_is_read_as_it_is_written() {
        for theme in [Theme::Auto, Theme::Light, Theme::Dark] {
            assert_eq!(Theme::from_word(theme.as_str()), Some(theme));
        }
        assert_eq!(Theme::from_word("pink"), None);
    }
}
