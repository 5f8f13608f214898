//! Who is logged in: a signed cookie that ends by itself, and with the password it was made for.

use std::time::Duration;

use jiff::Timestamp;

use super::sign;
use crate::web::settings::{Role, Settings, User};

/// How long a login lasts.
pub const LASTS: Duration = Duration::from_secs(12 * 3600);

const LABEL: &str = "session";

/// The cookie of a fresh login.
pub fn issue(settings: &Settings, user: &User, now: Timestamp) -> String {
    let ends = now.as_second().saturating_add(12 * 3600);
    let text = format!("{ends}|{}|{}", password_mark(settings, user), user.name);
    sign::sealed(&settings.key, LABEL, &text)
}

/// Name and present role of the user that the cookie speaks of; nobody when it has ended, was altered, or
/// the user's password has changed since.
pub fn check(settings: &Settings, cookie: &str, now: Timestamp) -> Option<(String, Role)> {
    let text = sign::opened(&settings.key, LABEL, cookie)?;
    let mut parts = text.splitn(3, '|');
    let ends: i64 = parts.next()?.parse().ok()?;
    let mark = parts.next()?;
    let user = settings.user(parts.next()?)?;
    let valid = now.as_second() < ends && password_mark(settings, user) == mark;
    valid.then(|| (user.name.clone(), user.role))
}

fn password_mark(settings: &Settings, user: &User) -> String {
    sign::signature(&settings.key, "password", &user.password_hash)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::web::settings::Auth;

    fn settings(hash: &str) -> Settings {
        Settings {
            listen: String::new(),
            auth: Auth::Login {
                users: vec![User {
                    name: "li|x".into(),
                    password_hash: hash.into(),
                    role: Role::Operator,
                }],
            },
            key: [1; 32],
            allowed_hosts: Vec::new(),
            metrics_open: false,
            zone: jiff::tz::TimeZone::UTC,
            zone_name: "UTC".into(),
            templates: None,
            instance: String::new(),
            version: "0",
            queue_dash: true,
        }
    }

    #[test]
    fn a_login_ends_with_time_and_with_the_password() {
        let before = settings("old");
        let start = Timestamp::UNIX_EPOCH;
        let cookie = issue(&before, before.user("li|x").unwrap(), start);
        let later = |seconds| Timestamp::from_second(seconds).unwrap();
        let known = Some(("li|x".to_owned(), Role::Operator));
        assert_eq!(check(&before, &cookie, later(12 * 3600 - 1)), known);
        assert_eq!(check(&before, &cookie, later(12 * 3600)), None);
        assert_eq!(check(&settings("new"), &cookie, start), None);
    }
}
