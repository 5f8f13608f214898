//! What to do about a Redis that cannot be used: a word in brackets that fits the cause.
//!
//! The cause itself, in the server's own words, stands behind it; none of it is repeated here.

use runner_queue::BrokerError;
use runner_queue::redis::{RedisSettings, RedisTarget};

/// The stable code of the error, and which setting or server to look at. `in_url`: `redis.url` says where it is.
pub(super) fn hint(redis: &RedisSettings, in_url: bool, error: &BrokerError) -> String {
    let code = error.code();
    let what = match error {
        BrokerError::Unreachable { .. } if runner_core::chain::chain(error).contains("cannot read the password") => {
            "see the file that `redis.password` or `redis.url` refers to; it is read at each connection".to_owned()
        }
        BrokerError::Unreachable { .. } => is_it_running(redis, in_url),
        BrokerError::Denied { .. } => login(redis, in_url, &runner_core::chain::chain(error)),
        BrokerError::Refused { .. } => match refused(&runner_core::chain::chain(error)) {
            Some(hint) => hint.to_owned(),
            None => return code.to_owned(),
        },
        BrokerError::Full { .. } => full(&runner_core::chain::chain(error)).to_owned(),
        BrokerError::Corrupt { .. } => "another program wrote there; `redis.database` says where we look".to_owned(),
        _ => return code.to_owned(),
    };
    format!("{code}: {what}")
}

/// For a server that does not answer.
pub(super) fn is_it_running(redis: &RedisSettings, in_url: bool) -> String {
    format!("is it running? `{}` says where", place(redis, in_url))
}

/// The key that says where the server is.
fn place(redis: &RedisSettings, in_url: bool) -> &'static str {
    match &redis.target {
        _ if in_url => "redis.url",
        RedisTarget::Server(_) | RedisTarget::Socket(_) => "redis.host",
        RedisTarget::Sentinels(_) => "redis.sentinel",
        RedisTarget::Cluster(_) => "redis.cluster",
    }
}

fn login(redis: &RedisSettings, in_url: bool, why: &str) -> String {
    let by_sentinels = matches!(redis.target, RedisTarget::Sentinels(_));
    let sentinels = if by_sentinels {
        ", for the sentinels `redis.sentinel.password`"
    } else {
        ""
    };
    if why.contains("NOAUTH") {
        format!("it asks for a password; set `redis.password`{sentinels}")
    } else if why.contains("NOPERM") || why.contains("ACL failure") || why.contains("executing the script can't") {
        "the user lacks a right; `ACL SETUSER` on the server gives it".to_owned()
    } else if in_url {
        "the login is wrong; see `redis.url`, `redis.username`, `redis.password`".to_owned()
    } else {
        format!("the login is wrong; see `redis.username`, `redis.password`{sentinels}")
    }
}

/// For a server that takes no writes.
fn full(why: &str) -> &'static str {
    if why.contains("MISCONF") {
        "it cannot save to its disk; its own log says why"
    } else {
        "its memory is full: `maxmemory` of the server"
    }
}

fn refused(why: &str) -> Option<&'static str> {
    let says = |words: &[&str]| words.iter().any(|word| why.contains(word));
    if says(&["DB index is out of range"]) {
        Some("the server has no database of this number; see `redis.database`")
    } else if says(&["without any password configured"]) {
        Some("the server has no password; remove `redis.password`")
    } else if says(&[
        "certificate",
        "TLS",
        "tls.",
        "cannot read",
        "in PEM form",
        "no authority",
    ]) {
        Some("see `redis.tls`")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused_with(text: &str) -> BrokerError {
        let doing = "ask for the time";
        BrokerError::Refused {
            doing,
            source: text.into(),
        }
    }

    fn denied_with(text: &str) -> BrokerError {
        let doing = "ask for the time";
        BrokerError::Denied {
            doing,
            source: text.into(),
        }
    }

    #[test]
    fn a_server_that_takes_no_writes_is_full_in_one_of_two_ways() {
        let redis = RedisSettings::at("a:6379");
        for (text, words) in [
            ("OOM command not allowed", "maxmemory"),
            ("MISCONF Redis is", "its disk"),
        ] {
            let error = BrokerError::Full {
                doing: "try",
                source: text.into(),
            };
            let said = hint(&redis, false, &error);
            assert!(said.starts_with("broker_full: ") && said.contains(words), "{said}");
        }
    }

    #[test]
    fn a_hint_fits_its_cause() {
        let redis = RedisSettings::at("a:6379");
        let away = BrokerError::Unreachable {
            doing: "try",
            source: "refused".into(),
        };
        for (error, in_url, words) in [
            (&away, false, "is it running? `redis.host`"),
            (&away, true, "is it running? `redis.url`"),
            (
                &denied_with("NOAUTH Authentication required."),
                true,
                "set `redis.password`",
            ),
            (
                &denied_with("WRONGPASS invalid"),
                false,
                "see `redis.username`, `redis.password`",
            ),
            (&denied_with("WRONGPASS invalid"), true, "see `redis.url`"),
            (&denied_with("NOPERM User x has no permissions"), false, "ACL SETUSER"),
            (&refused_with("ERR DB index is out of range"), false, "`redis.database`"),
            (&refused_with("cannot read /ca.pem: No such file"), false, "`redis.tls`"),
        ] {
            let said = hint(&redis, in_url, error);
            assert!(said.contains(words) && said.starts_with(error.code()), "{said}");
            assert_eq!(said.contains("running"), error.is_transient(), "{said}");
        }
    }
}
