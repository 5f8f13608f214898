//! Reads `auth.tokens`: with what programs call the API. A token that is written itself is known by its digest from here on.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::section::Section;
use crate::access::{ApiToken, DIGEST_PREFIX, SHORTEST_TOKEN, TokenRight, TokenScope, digest_of};
use crate::text::unhex;

/// The most tokens: all are compared with each one that is presented.
const MAX_TOKENS: usize = 100;

/// What helps where there is neither a token nor its digest.
const HOW: &str = "`runner token new NAME` prints a token and these lines";

/// The tokens of the section `auth`.
pub fn read(auth: &Section<'_>) -> Vec<ApiToken> {
    let mut tokens: Vec<ApiToken> = Vec::new();
    for section in auth.sections("tokens") {
        let read = one(&section);
        let place = section.place();
        section.finish();
        let Some(read) = read else { continue };
        if tokens.iter().any(|token| token.name == read.name) {
            let message = format!("token {:?} is defined twice", read.name);
            auth.reader().error("CFG_TWICE", &place, message);
        } else if tokens.len() == MAX_TOKENS {
            let message = format!("more than {MAX_TOKENS} tokens");
            auth.reader().error("CFG_RANGE", &place, message);
            break;
        } else {
            tokens.push(read);
        }
    }
    tokens
}

fn one(section: &Section<'_>) -> Option<ApiToken> {
    let name = section.text("name");
    let digest = digest(section);
    let scopes = scopes(section);
    let expires = expires(section);
    let name = name.map(|found| found.value).filter(|name| !name.trim().is_empty());
    let Some(name) = name else {
        let message = format!("{} is missing", section.path_of("name"));
        section
            .reader()
            .error_hint("CFG_AUTH", &section.place(), message, "name: ci");
        return None;
    };
    Some(ApiToken {
        name,
        digest: digest?,
        scopes: scopes?,
        expires: expires?,
    })
}

fn digest(section: &Section<'_>) -> Option<[u8; 32]> {
    let hash = section.secret("token_hash").map(|found| found.value);
    let token = section.secret("token").map(|found| found.value);
    let complain = |message: String, hint: &str| {
        section.reader().error_hint("CFG_AUTH", &section.place(), message, hint);
    };
    match (hash, token) {
        (Some(hash), None) => {
            let digits = hash.expose().strip_prefix(DIGEST_PREFIX).and_then(unhex);
            let digest = digits.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            if digest.is_none() {
                let message = format!("{} is not a SHA-256 digest", section.path_of("token_hash"));
                complain(
                    message,
                    "sha256: and 64 hexadecimal digits; `runner token new NAME` prints it",
                );
            }
            digest
        }
        (None, Some(token)) if token.expose().chars().count() >= SHORTEST_TOKEN => Some(digest_of(token.expose())),
        (None, Some(_)) => {
            let message = format!(
                "{} has fewer than {SHORTEST_TOKEN} characters",
                section.path_of("token")
            );
            complain(message, HOW);
            None
        }
        (Some(_), Some(_)) | (None, None) => {
            let message = format!("{} needs either token_hash or token", section.path_of("name"));
            complain(message, HOW);
            None
        }
    }
}

/// Without a list: reading.
fn scopes(section: &Section<'_>) -> Option<Vec<TokenScope>> {
    let Some(written) = section.list("scopes") else {
        return Some(vec![TokenScope {
            right: TokenRight::Read,
            resource: None,
        }]);
    };
    let mut scopes = Vec::new();
    for found in written {
        match TokenScope::parse(found.value.trim()).filter(|scope| scope.resource.as_deref() != Some("")) {
            Some(scope) => scopes.push(scope),
            None => {
                let message = format!("{:?} is not a scope", found.value);
                let hint = "read, act or delete; for one resource such as act:tasks";
                section.reader().error_hint("CFG_VALUE", &found.place, message, hint);
                return None;
            }
        }
    }
    Some(scopes)
}

/// The outer `None`: it cannot be read, which is reported.
#[allow(clippy::option_option)]
fn expires(section: &Section<'_>) -> Option<Option<Timestamp>> {
    let Some(found) = section.text("expires") else {
        return Some(None);
    };
    let text = found.value.trim();
    let day = || {
        let day = text.parse::<Date>().ok().filter(|_| text.len() == 10)?;
        Some(day.to_zoned(TimeZone::UTC).ok()?.timestamp())
    };
    let expires = text.parse::<Timestamp>().ok().or_else(day);
    if expires.is_none() {
        let message = format!("{:?} is neither a day nor an instant", found.value);
        let hint = "2027-06-30, which begins in UTC, or 2027-06-30T12:00:00+08:00";
        section.reader().error_hint("CFG_VALUE", &found.place, message, hint);
    }
    expires.map(Some)
}
