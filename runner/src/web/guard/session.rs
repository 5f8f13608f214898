//! Sessions: a cookie whose signature and expiry alone make it valid, so that every process with the same key accepts
//! it, before and after a restart. Removing a user or changing a password ends the user's sessions.

use std::time::Duration;

use axum::http::HeaderMap;
use jiff::Timestamp;

use super::cookies;
use crate::access::sign;
use crate::access::{User, UserRole, WebSettings};
use crate::web::app_state::AppState;

/// How long a session lasts.
pub const SESSION_TTL: Duration = Duration::from_secs(12 * 3600);

const LABEL: &str = "session";

/// When a session that begins now is over.
pub fn end(now: Timestamp) -> Timestamp {
    now.checked_add(SESSION_TTL).unwrap_or(Timestamp::MAX)
}

/// The cookie of a new session.
pub fn issue(settings: &WebSettings, user: &User, now: Timestamp) -> String {
    let ends = end(now).as_second();
    // Random, so that two logins in the same second are two sessions and logging out one does not end the other.
    let nonce = uuid::Uuid::new_v4().simple();
    let text = format!("{ends}|{nonce}|{}|{}", user.password_mark, user.name);
    sign::sealed(&settings.key, LABEL, &text)
}

/// Name and current role of the cookie's user; `None` if it expired or was altered, or if the user is gone or has
/// another password.
fn check(settings: &WebSettings, cookie: &str, now: Timestamp) -> Option<(String, UserRole)> {
    let text = sign::opened(&settings.key, LABEL, cookie)?;
    let mut parts = text.splitn(4, '|');
    let ends: i64 = parts.next()?.parse().ok()?;
    let password_mark = parts.nth(1)?;
    let user = settings.user(parts.next()?)?;
    let holds = now.as_second() < ends && user.password_mark == password_mark;
    holds.then_some((user.name, user.role))
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
    use crate::access::{Auth, UserList};

    fn settings(password: &str, key: u8) -> WebSettings {
        WebSettings {
            auth: Auth::Login {
                users: UserList::new(vec![User {
                    name: "li|x".into(),
                    // Salted differently in each process.
                    password_hash: format!("{key} {password}"),
                    password_mark: password.into(),
                    role: UserRole::Operator,
                }]),
            },
            key: [key; 32],
            ..WebSettings::default()
        }
    }

    #[test]
    fn a_session_expires_and_is_valid_wherever_the_key_is_known() {
        let first = settings("old", 1);
        let start = Timestamp::UNIX_EPOCH;
        let cookie = issue(&first, &first.user("li|x").unwrap(), start);
        let later = |seconds| Timestamp::from_second(seconds).unwrap();
        let known = Some(("li|x".to_owned(), UserRole::Operator));
        assert_eq!(check(&first, &cookie, later(12 * 3600 - 1)), known);
        assert_eq!(check(&first, &cookie, later(12 * 3600)), None);
        assert_eq!(check(&settings("old", 1), &cookie, start), known, "another process");
        assert_eq!(check(&settings("new", 1), &cookie, start), None, "another password");
        assert_eq!(check(&settings("old", 2), &cookie, start), None, "another key");
        if let Auth::Login { users } = &first.auth {
            let other = User {
                password_mark: "new".into(),
                ..users.get("li|x").unwrap()
            };
            users.set(vec![other]);
            assert_eq!(
                check(&first, &cookie, start),
                None,
                "another password in the same process"
            );
        }
        let without_users = WebSettings {
            auth: Auth::Login {
                users: UserList::default(),
            },
            ..first
        };
        assert_eq!(check(&without_users, &cookie, start), None);
    }
}
