//! Maps errors of the server and of the connection to errors of the seam.

use redis::{ErrorKind, RedisError, ServerError, Value};

use crate::redis::net::dial::DialError;
use crate::{BoxError, BrokerError, Cause};

/// The code for a node that cannot be reached.
const AWAY: &str = "CLUSTERDOWN";

/// The codes for a node without a readable password and for one that TLS keeps away; no server uses these.
const NO_PASSWORD: &str = "NOPASSWORD";
const TLS: &str = "TLS";

/// Codes of transient errors: a replica about to be promoted, a server loading its file, a migrating cluster slot.
const TRANSIENT: [&str; 11] = [
    "NOSCRIPT",
    "READONLY",
    "LOADING",
    "MASTERDOWN",
    "BUSY",
    "TRYAGAIN",
    "CLUSTERDOWN",
    "NOREPLICAS",
    "UNBLOCKED",
    "ASK",
    "MOVED",
];

/// Texts of transient errors without a code: a cluster slot is migrating and only some keys of the queue are present; the
/// server has reached its limit of clients.
const PASSING: [&str; 2] = ["non local key", "max number of clients"];

/// Codes of authentication and authorisation errors.
const DENIED: [&str; 3] = ["NOAUTH", "WRONGPASS", "NOPERM"];

/// The same for a command within a script, as servers from version 7 on word it, by version.
const DENIED_IN_SCRIPT: [&str; 2] = ["The user executing the script can't", "ACL failure in script"];

/// The error for a call without a usable answer, or for a failed connection attempt.
pub(in crate::redis) fn of(error: impl Into<DialError>, doing: &'static str) -> BrokerError {
    match error.into() {
        DialError::Unreachable(why) => BrokerError::Unreachable {
            doing,
            source: why.into(),
        },
        DialError::Refused(why) => BrokerError::Refused {
            doing,
            source: why.into(),
        },
        DialError::NoPassword(why) => BrokerError::Unreachable {
            doing,
            source: Cause::PasswordUnreadable.says(why),
        },
        DialError::Tls(why) => BrokerError::Refused {
            doing,
            source: Cause::Tls.says(why),
        },
        DialError::Redis(error) => by_kind(error, doing),
    }
}

fn by_kind(error: RedisError, doing: &'static str) -> BrokerError {
    match error.kind() {
        ErrorKind::Server(_) | ErrorKind::Extension => {
            // With several commands each has its own error, and the error as a whole has no text.
            let all = error.clone().into_server_errors();
            if let Some((_, first)) = all.as_deref().and_then(<[_]>::first) {
                return answered(first, doing);
            }
            let code = error.code().unwrap_or_default().to_owned();
            let detail = error.detail().unwrap_or_default().to_owned();
            by_code(&code, &detail, doing)
        }
        ErrorKind::AuthenticationFailed => BrokerError::Denied {
            doing,
            source: Box::new(error),
        },
        ErrorKind::InvalidClientConfig | ErrorKind::RESP3NotSupported => BrokerError::Refused {
            doing,
            source: Box::new(error),
        },
        ErrorKind::UnexpectedReturnType => BrokerError::Corrupt {
            doing,
            what: error.to_string(),
        },
        _ => BrokerError::Unreachable {
            doing,
            source: Box::new(error),
        },
    }
}

/// The error for a refusal of one command of several.
pub(in crate::redis) fn answered(error: &ServerError, doing: &'static str) -> BrokerError {
    let detail = error.details().unwrap_or_default();
    by_code(error.code(), detail, doing)
}

fn by_code(code: &str, detail: &str, doing: &'static str) -> BrokerError {
    let (code, detail) = unwrapped(code, detail);
    let detail = without_arguments(detail);
    // Preserve the server's code: people search for it.
    let words = format!("{code} {detail}").trim().to_owned();
    let source: BoxError = match cause_of(code, detail) {
        Some(cause) => cause.says(words),
        None => words.into(),
    };
    let is = |word: &str| code == word;
    if is("OOM") || is("MISCONF") || detail.contains("OOM command not allowed") {
        BrokerError::Full { doing, source }
    } else if is("WRONGTYPE") {
        let what = format!("a key has the wrong type: {code} {detail}");
        BrokerError::Corrupt { doing, what }
    } else if DENIED.into_iter().any(is) || DENIED_IN_SCRIPT.into_iter().any(|words| detail.contains(words)) {
        BrokerError::Denied { doing, source }
    } else if is(NO_PASSWORD)
        || TRANSIENT.into_iter().any(is)
        || PASSING.into_iter().any(|words| detail.contains(words))
    {
        BrokerError::Unreachable { doing, source }
    } else {
        BrokerError::Refused { doing, source }
    }
}

/// The words of the server without the arguments of the command, which may be a message: `unknown command 'publish', with args
/// beginning with: 'news' '{"password"…'`.
fn without_arguments(detail: &str) -> &str {
    detail
        .split_once(", with args beginning with")
        .map_or(detail, |(words, _)| words)
}

/// The cause, by what the server answered.
fn cause_of(code: &str, detail: &str) -> Option<Cause> {
    match code {
        "NOAUTH" => Some(Cause::PasswordMissing),
        "NOPERM" => Some(Cause::RightMissing),
        "MISCONF" => Some(Cause::DiskFailing),
        NO_PASSWORD => Some(Cause::PasswordUnreadable),
        TLS => Some(Cause::Tls),
        _ if DENIED_IN_SCRIPT.into_iter().any(|words| detail.contains(words)) => Some(Cause::RightMissing),
        // The server has a general code for these.
        _ if detail.contains("DB index is out of range") => Some(Cause::DatabaseMissing),
        _ if detail.contains("without any password configured") => Some(Cause::PasswordUnwanted),
        _ => None,
    }
}

/// The error of a command within a script. Servers before version 7 wrap it into a general error, twice if the command
/// was refused before it ran: `ERR Error running script (call to f_…): @user_script:5: WRONGTYPE Operation …`,
/// `…: @user_script:5: @user_script: 5: -OOM command …`.
fn unwrapped<'a>(code: &'a str, detail: &'a str) -> (&'a str, &'a str) {
    const PLACE: &str = "@user_script:";
    let Some((_, mut inner)) = detail
        .split_once(PLACE)
        .filter(|(head, _)| code == "ERR" && head.starts_with("Error running script"))
    else {
        return (code, detail);
    };
    loop {
        let line = inner.trim_start().trim_start_matches(|c: char| c.is_ascii_digit());
        inner = line.strip_prefix(':').unwrap_or(line).trim_start();
        match inner.strip_prefix(PLACE) {
            Some(again) => inner = again,
            None => break,
        }
    }
    let (word, rest) = inner.split_once(' ').unwrap_or((inner, ""));
    let word = word.strip_prefix('-').unwrap_or(word);
    if word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_uppercase()) {
        (word, rest)
    } else {
        (code, inner)
    }
}

fn is_connection_error(error: &RedisError) -> bool {
    error.is_io_error() || error.is_timeout() || error.is_connection_dropped()
}

/// Whether the connection must be discarded after this error.
pub(in crate::redis) fn needs_new_connection(error: &RedisError) -> bool {
    is_connection_error(error) || error.is_unrecoverable_error()
}

/// Whether the server is the wrong one: after a failover the address may lead to another.
pub(in crate::redis) fn is_wrong_server(error: &ServerError) -> bool {
    unwrapped(error.code(), error.details().unwrap_or_default()).0 == "READONLY"
}

/// The answer to a command whose cluster node has no connection: the node's own error if it returned one, else the
/// reason for the missing connection.
pub(in crate::redis) fn unanswered(error: &DialError) -> Value {
    let code = match error {
        DialError::Redis(error) => match (error.code(), error.kind()) {
            (Some(code), _) => code,
            (None, ErrorKind::AuthenticationFailed) => "WRONGPASS",
            (None, _) => AWAY,
        },
        DialError::Unreachable(_) => AWAY,
        DialError::NoPassword(_) => NO_PASSWORD,
        DialError::Tls(_) => TLS,
        // No server says this: trying again does not help.
        DialError::Refused(_) => "REFUSED",
    };
    let line = format!("-{code} {error}").replace(['\r', '\n'], " ");
    redis::parse_redis_value(format!("{line}\r\n").as_bytes()).unwrap_or(Value::Nil)
}

/// The error for an answer that no version of our scripts returns.
pub(in crate::redis) fn odd_answer(doing: &'static str) -> BrokerError {
    BrokerError::Corrupt {
        doing,
        what: "the server answered in an unknown form".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]
    use super::*;

    fn code_of(code: &str, detail: &str) -> &'static str {
        by_code(code, detail, "try").code()
    }

    #[test]
    fn codes_are_distinguished_even_when_wrapped_by_a_script() {
        assert_eq!(code_of("OOM", "command not allowed"), "broker_full");
        assert_eq!(code_of("WRONGTYPE", "Operation against"), "broker_corrupt");
        // As 6.2 words it: of a command that ran and failed, and of one that was refused.
        let wrapped = |inner: &str| {
            let failed = format!("Error running script (call to f_5860e4): @user_script:15: {inner}");
            let refused =
                format!("Error running script (call to f_5860e4): @user_script:15: @user_script: 15: -{inner}");
            (code_of("ERR", &failed), code_of("ERR", &refused))
        };
        for (inner, code) in [
            (
                "WRONGTYPE Operation against a key holding the wrong kind of value",
                "broker_corrupt",
            ),
            ("OOM command not allowed when used memory > 'maxmemory'.", "broker_full"),
            ("MISCONF Redis is configured to save RDB snapshots", "broker_full"),
            (
                "READONLY You can't write against a read only replica.",
                "broker_unavailable",
            ),
            ("NOREPLICAS Not enough good replicas to write.", "broker_unavailable"),
            ("NOSCRIPT No matching script.", "broker_unavailable"),
            ("NOPERM this user has no permissions", "broker_auth"),
            ("ERR value is not an integer or out of range", "broker_refused"),
        ] {
            assert_eq!(wrapped(inner), (code, code), "{inner}");
        }
        assert_eq!(
            code_of(
                "ERR",
                "Error running script (call to f_1): @user_script:1: @user_script: 1: The user executing the script can't run this command or subcommand"
            ),
            "broker_auth"
        );
        let quoting = by_code(
            "ERR",
            "unknown command 'publish', with args beginning with: 'news' 'hunter2' ",
            "try",
        );
        let why = std::error::Error::source(&quoting).map(ToString::to_string);
        assert_eq!(why.as_deref(), Some("ERR unknown command 'publish'"));
        // A text of a user that looks like an error changes nothing.
        assert_eq!(
            code_of("ERR", "unknown command '@user_script:1: OOM x'"),
            "broker_refused"
        );
        assert_eq!(
            code_of("ERR", "Script attempted to access a non local key in a cluster node"),
            "broker_unavailable"
        );
        assert_eq!(code_of("ERR", "max number of clients reached"), "broker_unavailable");
        assert_eq!(
            code_of("DENIED", "Redis is running in protected mode"),
            "broker_refused"
        );
        for transient in ["READONLY", "LOADING", "MASTERDOWN", "BUSY", "TRYAGAIN", "ASK"] {
            assert_eq!(code_of(transient, ""), "broker_unavailable", "{transient}");
        }
        for denial in ["NOAUTH", "WRONGPASS", "NOPERM"] {
            assert_eq!(code_of(denial, ""), "broker_auth", "{denial}");
        }
        for words in DENIED_IN_SCRIPT {
            assert_eq!(code_of("ERR", words), "broker_auth", "{words}");
        }
        assert_eq!(code_of("ERR", "unknown command"), "broker_refused");
    }

    #[test]
    fn the_cause_is_known_where_the_server_names_it() {
        for (code, detail, cause) in [
            ("NOAUTH", "Authentication required.", Some(Cause::PasswordMissing)),
            ("WRONGPASS", "invalid username-password pair", None),
            ("NOPERM", "User x has no permissions", Some(Cause::RightMissing)),
            ("ERR", "ACL failure in script: x", Some(Cause::RightMissing)),
            ("OOM", "command not allowed", None),
            ("MISCONF", "Redis is configured to save", Some(Cause::DiskFailing)),
            ("ERR", "DB index is out of range", Some(Cause::DatabaseMissing)),
            (
                "ERR",
                "AUTH <password> called without any password configured for the default user",
                Some(Cause::PasswordUnwanted),
            ),
            ("ERR", "unknown command", None),
        ] {
            assert_eq!(by_code(code, detail, "try").cause(), cause, "{code} {detail}");
        }
    }

    #[test]
    fn what_is_wrong_with_one_node_keeps_its_code() {
        let text = || "here: it is not made out to here".to_owned();
        let redis = |kind| DialError::Redis((kind, "no").into());
        for (error, code) in [
            (DialError::Unreachable(text()), "broker_unavailable"),
            (DialError::Refused(text()), "broker_refused"),
            (DialError::NoPassword(text()), "broker_unavailable"),
            (DialError::Tls(text()), "broker_refused"),
            (redis(ErrorKind::Io), "broker_unavailable"),
            (redis(ErrorKind::AuthenticationFailed), "broker_auth"),
        ] {
            let Value::ServerError(answer) = unanswered(&error) else {
                panic!("no error: {error}")
            };
            let copy = answered(&answer, "try");
            assert_eq!(copy.code(), code, "{copy:?}");
            assert_eq!(copy.cause(), of(error, "try").cause(), "{copy:?}");
        }
    }
}
