//! Cookies: read from a request, written with the attributes that all of ours carry.

use axum::http::{HeaderMap, HeaderValue, header};

/// Who is logged in; signed.
pub const SESSION: &str = "runner_session";
/// A random name for a browser, which form tokens are bound to.
pub const GUEST: &str = "runner_guest";
/// The outcome of the last action, shown once; signed.
pub const NOTICE: &str = "runner_notice";
/// `en` or `zh`.
pub const LANG: &str = "runner_lang";
/// `auto`, `light` or `dark`.
pub const THEME: &str = "runner_theme";

/// How long a choice of language or theme is kept.
pub const A_YEAR: u64 = 365 * 24 * 3600;

/// The value of the first cookie of this name.
pub fn get<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|line| line.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

/// Sets a cookie for `seconds` (0 removes it). Scripts never see it, other sites never send it with a form.
pub fn set(headers: &mut HeaderMap, name: &str, value: &str, seconds: u64, secure: bool) {
    let secure = if secure { "; Secure" } else { "" };
    let line = format!("{name}={value}; Path=/queue; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}");
    // Values are base64 or fixed words; one that is not valid in a header would be a fault of ours, and is dropped.
    if let Ok(value) = HeaderValue::from_str(&line) {
        headers.append(header::SET_COOKIE, value);
    }
}

/// Whether the browser speaks TLS to whatever stands before us. A lie harms only who tells it.
pub fn over_tls(headers: &HeaderMap) -> bool {
    headers
        .get("x-forwarded-proto")
        .is_some_and(|proto| proto.as_bytes().eq_ignore_ascii_case(b"https"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn names_are_matched_whole() {
        let mut headers = HeaderMap::new();
        headers.append(header::COOKIE, "xrunner_lang=a; runner_lang=zh".parse().unwrap());
        assert_eq!(get(&headers, LANG), Some("zh"));
        assert_eq!(get(&headers, THEME), None);
    }
}
