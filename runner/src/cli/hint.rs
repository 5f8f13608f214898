//! What to do about a Redis that cannot be used: a hint in brackets that fits the cause.
//!
//! The cause itself, in the server's own words, follows it and is not repeated here.

use runner_queue::redis::{RedisSettings, RedisTarget};
use runner_queue::{BrokerError, Cause};

/// The stable code of the error, and which setting or server to look at. `in_url`: `redis.url` says where it is.
pub(super) fn hint(redis: &RedisSettings, in_url: bool, error: &BrokerError) -> String {
    let code = error.code();
    let what = match (error, error.cause()) {
        (BrokerError::Unreachable { .. }, Some(Cause::PasswordUnreadable)) => {
            "see the file that `redis.password` or `redis.url` refers to; it is read at each connection".to_owned()
        }
        (BrokerError::Unreachable { .. }, _) => is_it_running(redis, in_url),
        (BrokerError::Denied { .. }, cause) => login(redis, in_url, cause),
        (BrokerError::Refused { .. }, cause) => match cause.and_then(refused) {
            Some(hint) => hint.to_owned(),
            None => return code.to_owned(),
        },
        (BrokerError::Full { .. }, Some(Cause::DiskFailing)) => {
            "it cannot save to its disk; its own log says why".to_owned()
        }
        (BrokerError::Full { .. }, _) => "its memory is full: `maxmemory` of the server".to_owned(),
        (BrokerError::Corrupt { .. }, _) => {
            "another program wrote there; `redis.database` says where we look".to_owned()
        }
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

fn login(redis: &RedisSettings, in_url: bool, cause: Option<Cause>) -> String {
    let by_sentinels = matches!(redis.target, RedisTarget::Sentinels(_));
    let sentinels = if by_sentinels {
        ", for the sentinels `redis.sentinel.password`"
    } else {
        ""
    };
    match cause {
        Some(Cause::PasswordMissing) => format!("it asks for a password; set `redis.password`{sentinels}"),
        Some(Cause::RightMissing) => "the user lacks a right; `ACL SETUSER` on the server gives it".to_owned(),
        _ if in_url => "the login is wrong; see `redis.url`, `redis.username`, `redis.password`".to_owned(),
        _ => format!("the login is wrong; see `redis.username`, `redis.password`{sentinels}"),
    }
}

fn refused(cause: Cause) -> Option<&'static str> {
    match cause {
        Cause::DatabaseMissing => Some("the server has no database of this number; see `redis.database`"),
        Cause::PasswordUnwanted => Some("the server has no password; remove `redis.password`"),
        Cause::Tls => Some("see `redis.tls`"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused_for(cause: Cause) -> BrokerError {
        let doing = "ask for the time";
        BrokerError::Refused {
            doing,
            source: cause.says("the server's words"),
        }
    }

    fn denied(source: runner_queue::BoxError) -> BrokerError {
        let doing = "ask for the time";
        BrokerError::Denied { doing, source }
    }

    #[test]
    fn a_server_that_takes_no_writes_is_full_in_one_of_two_ways() {
        let redis = RedisSettings::at("a:6379");
        for (source, words) in [
            ("OOM command not allowed".into(), "maxmemory"),
            (Cause::DiskFailing.says("MISCONF Redis is"), "its disk"),
        ] {
            let error = BrokerError::Full { doing: "try", source };
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
        let no_password = BrokerError::Unreachable {
            doing: "try",
            source: Cause::PasswordUnreadable.says("no such file"),
        };
        for (error, in_url, words) in [
            (&away, false, "is it running? `redis.host`"),
            (&away, true, "is it running? `redis.url`"),
            (&no_password, false, "refers to"),
            (&denied(Cause::PasswordMissing.says("no")), true, "set `redis.password`"),
            (&denied("no".into()), false, "see `redis.username`, `redis.password`"),
            (&denied("no".into()), true, "see `redis.url`"),
            (&denied(Cause::RightMissing.says("no")), false, "ACL SETUSER"),
            (&refused_for(Cause::DatabaseMissing), false, "`redis.database`"),
            (&refused_for(Cause::PasswordUnwanted), false, "remove `redis.password`"),
            (&refused_for(Cause::Tls), false, "`redis.tls`"),
        ] {
            let said = hint(&redis, in_url, error);
            assert!(said.contains(words) && said.starts_with(error.code()), "{said}");
            assert_eq!(
                said.contains("running"),
                error.is_transient() && error.cause().is_none(),
                "{said}"
            );
        }
    }
}
