//! Sessions: a cookie whose signature and expiry alone make it valid, so that every process with the same key accepts it,
//! before and after a restart. Removing a user or changing a password ends the user's sessions.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::HeaderMap;
use jiff::Timestamp;

use super::{cookies, sign};
use crate::web::app_state::AppState;
use crate::web::settings::{User, UserRole, WebSettings};

/// How long a session lasts.
pub const SESSION_TTL: Duration = Duration::from_secs(12 * 3600);

const LABEL: &str = "session";

/// Logouts remembered; when full, the one that would expire first is dropped. About 400 kB.
const LOGOUTS: usize = 2048;

/// Sessions that were logged out, so that a copied cookie is worthless afterwards.
///
/// Per process: a restart forgets them, and other instances do not learn of them.
#[derive(Debug, Default)]
pub struct Logouts(Mutex<HashMap<String, Timestamp>>);

impl Logouts {
    /// Ends the session of this cookie.
    pub fn add(&self, cookie: &str, now: Timestamp) {
        let mut left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        left.retain(|_, ends| *ends > now);
        let first = left.iter().min_by_key(|(_, ends)| **ends).map(|(c, _)| c.clone());
        if let Some(first) = first.filter(|_| left.len() >= LOGOUTS) {
            left.remove(&first);
        }
        left.insert(
            cookie.to_owned(),
            now.checked_add(SESSION_TTL).unwrap_or(Timestamp::MAX),
        );
    }

    /// Whether this session was logged out.
    pub fn has(&self, cookie: &str) -> bool {
        let left = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        left.contains_key(cookie)
    }
}

/// The cookie of a new session.
pub fn issue(settings: &WebSettings, user: &User, now: Timestamp) -> String {
    let ends = now.as_second().saturating_add(12 * 3600);
    // Random, so that two logins in the same second are two sessions and logging out one does not end the other.
    let nonce = uuid::Uuid::new_v4().simple();
    let text = format!("{ends}|{nonce}|{}|{}", user.password_mark, user.name);
    sign::sealed(&settings.key, LABEL, &text)
}

/// Name and current role of the cookie's user; `None` if it expired or was altered, or if the user is gone or has another
/// password.
fn check(settings: &WebSettings, cookie: &str, now: Timestamp) -> Option<(String, UserRole)> {
    let text = sign::opened(&settings.key, LABEL, cookie)?;
    let mut parts = text.splitn(4, '|');
    let ends: i64 = parts.next()?.parse().ok()?;
    let password_mark = parts.nth(1)?;
    let user = settings.user(parts.next()?)?;
    let holds = now.as_second() < ends && user.password_mark == password_mark;
    holds.then(|| (user.name.clone(), user.role))
}

/// The user logged in by the cookies of this request.
pub fn of(app: &AppState, headers: &HeaderMap) -> Option<(String, UserRole)> {
    let cookie = cookies::get(headers, cookies::SESSION)?;
    let known = check(&app.settings, cookie, app.clock.now())?;
    (!app.logouts.has(cookie)).then_some(known)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::web::settings::Auth;

    fn settings(password: &str, key: u8) -> WebSettings {
        WebSettings {
            auth: Auth::Login {
                users: vec![User {
                    name: "li|x".into(),
                    // Salted differently in each process.
                    password_hash: format!("{key} {password}"),
                    password_mark: password.into(),
                    role: UserRole::Operator,
                }],
            },
            key: [key; 32],
            ..WebSettings::default()
        }
    }

    #[test]
    fn a_session_expires_and_is_valid_wherever_the_key_is_known() {
        let first = settings("old", 1);
        let start = Timestamp::UNIX_EPOCH;
        let cookie = issue(&first, first.user("li|x").unwrap(), start);
        let later = |seconds| Timestamp::from_second(seconds).unwrap();
        let known = Some(("li|x".to_owned(), UserRole::Operator));
        assert_eq!(check(&first, &cookie, later(12 * 3600 - 1)), known);
        assert_eq!(check(&first, &cookie, later(12 * 3600)), None);
        assert_eq!(check(&settings("old", 1), &cookie, start), known, "another process");
        assert_eq!(check(&settings("new", 1), &cookie, start), None, "another password");
        assert_eq!(check(&settings("old", 2), &cookie, start), None, "another key");
        let without_users = WebSettings {
            auth: Auth::Login { users: Vec::new() },
            ..first
        };
        assert_eq!(check(&without_users, &cookie, start), None);
    }
}
