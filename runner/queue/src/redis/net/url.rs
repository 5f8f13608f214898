//! Reads settings from one URL, in the forms of asynq's tools: a server, with TLS, a Unix socket, sentinels.
//!
//! `redis://[user[:password]@]host[:port][/database]`, `rediss://…` with TLS,
//! `redis-socket://[user[:password]@]path[?db=n]` (`unix://` means the same), and
//! `redis-sentinel://[user[:password]@]host:port,host:port[/database][?master=name]`, where user and password are
//! belong to the sentinels. `%40` means `@`, and so on. No error quotes any part of the text.

use std::path::PathBuf;

use crate::redis::net::settings::{Password, RedisSentinels, RedisSettings, RedisTarget, RedisTls, address};

/// The default port of a server.
const PORT: u16 = 6379;
/// The default port of a sentinel.
const SENTINEL_PORT: u16 = 26379;

impl RedisSettings {
    /// Reads a URL.
    ///
    /// A sentinel URL without `?master=` yields an empty name, which the caller may fill in.
    ///
    /// # Errors
    ///
    /// A reason that completes "cannot be used: "; never quotes the text, which may hold a password.
    pub fn from_url(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.trim().split_once("://").ok_or(SCHEMES)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        match scheme {
            "redis" => server(rest, query),
            "rediss" => Ok(Self {
                tls: Some(RedisTls::default()),
                ..server(rest, query)?
            }),
            "redis-socket" | "unix" => socket(rest, query),
            "redis-sentinel" => sentinel(rest, query),
            _ => Err(SCHEMES.to_owned()),
        }
    }
}

const SCHEMES: &str = "it must begin with redis://, rediss://, redis-socket://, unix:// or redis-sentinel://";

type Login = (Option<String>, Option<Password>);

fn server(rest: &str, query: &str) -> Result<RedisSettings, String> {
    no_other(query, &[])?;
    let (login, rest) = login(rest)?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut settings = RedisSettings::at(host_and_port(host, PORT)?);
    (settings.username, settings.password) = login;
    settings.database = database(path)?;
    Ok(settings)
}

fn socket(rest: &str, query: &str) -> Result<RedisSettings, String> {
    no_other(query, &["db"])?;
    let (login, path) = login(rest)?;
    if path.is_empty() {
        return Err("the path of the socket is missing".to_owned());
    }
    let mut settings = RedisSettings::of(RedisTarget::Socket(PathBuf::from(percent_decoded(path)?)));
    (settings.username, settings.password) = login;
    settings.database = database(parameter(query, "db").unwrap_or_default())?;
    Ok(settings)
}

fn sentinel(rest: &str, query: &str) -> Result<RedisSettings, String> {
    no_other(query, &["master"])?;
    let ((username, password), rest) = login(rest)?;
    let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
    let addresses = hosts.split(',').map(|host| host_and_port(host, SENTINEL_PORT));
    let mut settings = RedisSettings::of(RedisTarget::Sentinels(RedisSentinels {
        master: percent_decoded(parameter(query, "master").unwrap_or_default())?,
        addresses: addresses.collect::<Result<_, _>>()?,
        username,
        password,
    }));
    settings.database = database(path)?;
    Ok(settings)
}

/// User and password before the last `@`, and the rest.
fn login(rest: &str) -> Result<(Login, &str), String> {
    let Some((login, rest)) = rest.rsplit_once('@') else {
        return Ok(((None, None), rest));
    };
    let (username, password) = login.split_once(':').unwrap_or((login, ""));
    let given = |text: &str| percent_decoded(text).map(|text| (!text.is_empty()).then_some(text));
    Ok(((given(username)?, given(password)?.map(Password::new)), rest))
}

fn host_and_port(host: &str, default_port: u16) -> Result<String, String> {
    let named = if host.rsplit(']').next().is_some_and(|after| after.contains(':')) {
        host.to_owned()
    } else {
        format!("{host}:{default_port}")
    };
    match address(&named) {
        Some(_) if !named.contains(['/', ' ', '@', ',']) => Ok(named),
        _ => Err("a host is missing, or its port is not a number from 1 to 65535".to_owned()),
    }
}

fn database(text: &str) -> Result<i64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    match text.parse::<u16>() {
        Ok(number) => Ok(i64::from(number)),
        Err(_) => Err("the database is not a number from 0 to 65535".to_owned()),
    }
}

fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn no_other(query: &str, known: &[&str]) -> Result<(), String> {
    let name = |pair: &str| pair.split('=').next().unwrap_or_default().to_owned();
    match query
        .split('&')
        .find(|pair| !pair.is_empty() && !known.contains(&name(pair).as_str()))
    {
        None => Ok(()),
        Some(_) if known.is_empty() => Err("nothing may follow a \"?\" in this form".to_owned()),
        Some(_) => Err(format!("after \"?\" only {} is read", known.join(", "))),
    }
}

/// Undoes the percent-encoding of one part of a URL.
///
/// # Errors
///
/// A reason that completes "cannot be used: "; never quotes the text, which may hold a password.
pub fn percent_decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        // Only digits: a number parser would also accept "+a".
        let hex = tail.get(..2).filter(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        let byte = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(byte.ok_or("a \"%\" is not followed by two hexadecimal digits")?);
        rest = tail.get(2..).unwrap_or_default();
    }
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8 after decoding".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn at(url: &str) -> RedisSettings {
        RedisSettings::from_url(url).unwrap()
    }

    #[test]
    fn every_form_is_read() {
        assert_eq!(at("redis://h"), RedisSettings::at("h:6379"));
        assert_eq!(at("redis://[::1]:7000"), RedisSettings::at("[::1]:7000"));
        let full = at("rediss://ann:p%40s%2Fs@h:1/3");
        assert_eq!(full.target, RedisTarget::Server("h:1".to_owned()));
        assert_eq!((full.username.as_deref(), full.database), (Some("ann"), 3));
        assert_eq!(full.password.unwrap().expose(), "p@s/s");
        assert_eq!(full.tls, Some(RedisTls::default()));
        for url in ["redis-socket://:pw@/run/r.sock?db=2", "unix://:pw@/run/r.sock?db=2"] {
            let socket = at(url);
            assert_eq!(socket.target, RedisTarget::Socket("/run/r.sock".into()));
            assert_eq!((socket.username, socket.database), (None, 2));
            assert_eq!(socket.password.unwrap().expose(), "pw");
        }
    }

    #[test]
    fn the_password_of_a_sentinel_url_is_that_of_the_sentinels() {
        let settings = at("redis-sentinel://:pw@a:1,b,[::1]:3/4?master=m");
        let RedisTarget::Sentinels(sentinel) = settings.target else {
            panic!("not sentinels")
        };
        assert_eq!(sentinel.addresses, ["a:1", "b:26379", "[::1]:3"]);
        assert_eq!((sentinel.master.as_str(), settings.database), ("m", 4));
        assert_eq!(sentinel.password.unwrap().expose(), "pw");
        assert_eq!(settings.password, None);
    }

    #[test]
    fn only_two_hex_digits_after_a_percent_sign_are_decoded() {
        assert_eq!(percent_decoded("a%20%c3%A9%2525+").unwrap(), "a \u{e9}%25+");
        for bad in ["%", "%4", "%+a", "%-1", "% a", "%zz", "%4\u{e9}", "%ff"] {
            assert!(percent_decoded(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_malformed_url_is_refused_and_not_quoted() {
        for bad in [
            "hunter2",
            "http://:hunter2@h",
            "redis://:hunter2@",
            "redis://:hunter2@h:0",
            "redis://:hunter2@h/x",
            "redis://:hunter2@h/1/2",
            "redis://:hunter2@h?db=1",
            "redis://:hunter2%zz@h",
            "redis-socket://:hunter2@",
            "redis-socket://:hunter2@/p?database=1",
            "redis-sentinel://:hunter2@a,,b",
            "redis-sentinel://:hunter2@a?name=x",
        ] {
            let error = RedisSettings::from_url(bad).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
