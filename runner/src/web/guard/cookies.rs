//! Cookies: read from a request, written with the attributes that all our cookies have.
//!
//! Browsers distinguish cookies by host and path, not by port. So each name ends with a mark of the site: instances with
//! other ports, paths or keys do not overwrite each other's cookies; replicas behind one name share theirs.

use axum::http::{HeaderMap, HeaderValue, header};

use crate::web::{reached_by, urls};

/// The logged-in user; signed.
pub const SESSION: &str = "runner_session";
/// A random name for a browser, to which form tokens are bound.
pub const GUEST: &str = "runner_guest";
/// The outcome of the last action, shown once; signed.
pub const NOTICE: &str = "runner_notice";
/// `en` or `zh`.
pub const LANG: &str = "runner_lang";
/// `auto`, `light` or `dark`.
pub const THEME: &str = "runner_theme";

/// How long a choice of language or theme is remembered.
pub const A_YEAR: u64 = 365 * 24 * 3600;

/// The value of the first cookie of this name.
pub fn get<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let name = marked(name);
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(name.as_str())?.strip_prefix('='))
}

/// The full name with the site's mark.
fn marked(name: &str) -> String {
    format!("{name}_{}", reached_by::current().mark)
}

/// Sets a cookie for `seconds` (0 removes it). Scripts cannot read it; other sites cannot make browsers send it.
pub fn set(headers: &mut HeaderMap, name: &str, value: &str, seconds: u64) {
    let secure = if reached_by::current().secure { "; Secure" } else { "" };
    let (name, path) = (marked(name), urls::root());
    let line = format!("{name}={value}; Path={path}; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}");
    // Values are base64 or fixed words. Dropping an invalid one hides a bug but does not break the answer.
    if let Ok(value) = HeaderValue::from_str(&line) {
        headers.append(header::SET_COOKIE, value);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_matched_whole() {
        let mut headers = HeaderMap::new();
        let line = "xrunner_lang_m=a; runner_lang_m2=b; runner_lang=c; runner_lang_m=zh";
        headers.append(header::COOKIE, line.parse().unwrap());
        let site = reached_by::ReachedBy {
            mark: "m".to_owned(),
            ..reached_by::ReachedBy::default()
        };
        reached_by::within(site, || {
            assert_eq!(get(&headers, LANG), Some("zh"));
            assert_eq!(get(&headers, THEME), None);
        });
    }

    #[test]
    fn a_cookie_is_for_the_path_and_the_scheme_of_the_browser() {
        let site = reached_by::ReachedBy {
            mark: "m".to_owned(),
            base: "/ops".to_owned(),
            secure: true,
            ..reached_by::ReachedBy::default()
        };
        let mut headers = HeaderMap::new();
        reached_by::within(site, || set(&mut headers, THEME, "dark", 60));
        let expected = "runner_theme_m=dark; Path=/ops/queue; HttpOnly; SameSite=Lax; Max-Age=60; Secure";
        assert_eq!(headers[header::SET_COOKIE], expected);
    }
}
