//! Slots of a cluster: the slot of a key, the key of a command, and the node of each slot. Pure.
//!
//! Not here: talking to the nodes (`cluster`).

use redis::{Arg, Cmd, Value};

use crate::redis::format::reply;

/// Number of slots in a cluster.
const SLOTS: u16 = 16_384;

/// Where a command goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::redis) enum Route {
    /// To the node that serves this slot.
    Slot(u16),
    /// To any node: it names no key.
    Any,
}

/// A node's host and port, as clients reach it. As text an IPv6 address is in brackets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::redis) struct NodeAddress {
    pub host: String,
    pub port: u16,
}

impl std::fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Another node that an answer names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::redis) struct Redirect {
    /// The node to send the command to.
    pub to: NodeAddress,
    /// Whether this holds for one command only, while the slot migrates (`ASK`).
    pub once: bool,
}

/// CRC-16/XMODEM, bit by bit: keys are short, and only clusters pay.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            let carry = crc & 0x8000 != 0;
            (crc << 1) ^ if carry { 0x1021 } else { 0 }
        })
    })
}

/// The slot of a key: of the text between its first braces if there is any, else of the whole key.
pub(in crate::redis) fn of_key(key: &[u8]) -> u16 {
    let tag = key.iter().position(|b| *b == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let close = rest.iter().position(|b| *b == b'}')?;
        Some(&rest[..close]).filter(|tag| !tag.is_empty())
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// Where a command goes. The first key decides, because all keys of a command share a slot.
pub(in crate::redis) fn route(command: &Cmd) -> Route {
    let mut words = command.args_iter().filter_map(|arg| match arg {
        Arg::Simple(bytes) => Some(bytes),
        _ => None,
    });
    let key = match words.next() {
        // Name of the script, number of keys, keys.
        Some(b"EVALSHA") => words.nth(2),
        // These name a channel, or query the server itself.
        Some(b"PUBLISH" | b"TIME" | b"PING" | b"INFO" | b"CONFIG") | None => None,
        Some(_) => words.next(),
    };
    key.map_or(Route::Any, |key| Route::Slot(of_key(key)))
}

/// Whether a command calls a script, which touches more keys than it names.
pub(in crate::redis) fn is_script(command: &Cmd) -> bool {
    matches!(command.args_iter().next(), Some(Arg::Simple(b"EVALSHA")))
}

/// Reads `MOVED` and `ASK` errors. `asked` is the node that answered: it may leave out its own host.
pub(in crate::redis) fn redirect(answer: &Value, asked: &NodeAddress) -> Option<Redirect> {
    let Value::ServerError(error) = answer else { return None };
    let once = match error.code() {
        "MOVED" => false,
        "ASK" => true,
        _ => return None,
    };
    let (host, port) = error.details()?.split(' ').nth(1)?.rsplit_once(':')?;
    Some(Redirect {
        to: NodeAddress {
            host: named(host, asked),
            port: port.parse().ok()?,
        },
        once,
    })
}

fn named(host: &str, asked: &NodeAddress) -> String {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match host {
        "" | "?" => asked.host.clone(),
        host => host.to_owned(),
    }
}

/// Last slot and node of each range, from the answer of `asked` to `CLUSTER SLOTS`.
///
/// The ranges cover all slots in order, so that a lookup is one binary search; an unserved gap is a range without a
/// node.
pub(in crate::redis) fn owners(answer: Value, asked: &NodeAddress) -> Vec<(u16, Option<NodeAddress>)> {
    let mut ranges: Vec<(u16, u16, NodeAddress)> = reply::list(answer)
        .into_iter()
        .filter_map(|range| {
            let mut range = reply::list(range).into_iter();
            let first = u16::try_from(reply::number(range.next()?)?).ok()?;
            let last = u16::try_from(reply::number(range.next()?)?).ok()?;
            let mut primary = reply::list(range.next()?).into_iter();
            // No host means "the one you asked", as in a redirection.
            let host = reply::text(primary.next()?).unwrap_or_default();
            let port = u16::try_from(reply::number(primary.next()?)?).ok()?;
            let host = named(&host, asked);
            Some((first, last, NodeAddress { host, port }))
        })
        .filter(|(first, last, _)| first <= last && *last < SLOTS)
        .collect();
    ranges.sort_by_key(|(first, ..)| *first);
    let mut owners = Vec::with_capacity(ranges.len() + 1);
    let mut next = 0;
    for (first, last, address) in ranges {
        if first > next {
            owners.push((first - 1, None));
        }
        owners.push((last, Some(address)));
        next = last + 1;
    }
    if next < SLOTS {
        owners.push((SLOTS - 1, None));
    }
    owners
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn address(host: &str, port: u16) -> NodeAddress {
        NodeAddress {
            host: host.to_owned(),
            port,
        }
    }

    #[test]
    fn slots_equal_those_of_the_server() {
        // As `CLUSTER KEYSLOT` answers.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(of_key(b"foo"), 12_182);
        assert_eq!(of_key(b"somekey"), 11_058);
        assert_eq!(of_key(b"foo{hash_tag}"), of_key(b"hash_tag"));
        assert_eq!(of_key(b"a{}b"), crc16(b"a{}b") % SLOTS);
        assert_eq!(of_key(b"{a}{b}"), of_key(b"a"));
    }

    #[test]
    fn all_keys_of_a_queue_share_its_slot_and_those_of_schedules_share_one() {
        use crate::redis::format::keys;
        for key in [
            keys::task("a}b", "x{y}"),
            keys::own("a}b"),
            keys::part("a}b", "pending"),
        ] {
            assert_eq!(of_key(key.as_bytes()), of_key(b"a"), "{key}");
        }
        let schedules = of_key(keys::CURSORS.as_bytes());
        for key in [keys::fires(true), keys::fires_of("m:{f}:g", true), keys::leader(true)] {
            assert_eq!(of_key(key.as_bytes()), schedules, "{key}");
        }
    }

    #[test]
    fn commands_go_where_their_first_key_is() {
        let slot = Route::Slot(of_key(b"k"));
        let made = |words: &[&str]| {
            let mut command = redis::cmd(words[0]);
            command.arg(&words[1..]);
            route(&command)
        };
        assert_eq!(made(&["LLEN", "k"]), slot);
        assert_eq!(made(&["EVALSHA", "0123", "2", "k", "{k}x"]), slot);
        assert_eq!(made(&["TIME"]), Route::Any);
        assert_eq!(made(&["PUBLISH", "k", "x"]), Route::Any);
    }

    #[test]
    fn redirections_are_read_with_and_without_a_host() {
        let asked = address("here", 1);
        let read = |text: &[u8]| redirect(&redis::parse_redis_value(text).unwrap(), &asked);
        let to = |host, port, once| {
            Some(Redirect {
                to: address(host, port),
                once,
            })
        };
        assert_eq!(read(b"-MOVED 3999 127.0.0.1:6381\r\n"), to("127.0.0.1", 6381, false));
        assert_eq!(read(b"-ASK 3999 ::1:6381\r\n"), to("::1", 6381, true));
        assert_eq!(read(b"-MOVED 3999 :6381\r\n"), to("here", 6381, false));
        assert_eq!(read(b"-ERR no\r\n"), None);
        assert_eq!(read(b"+OK\r\n"), None);
    }

    #[test]
    fn unserved_gaps_have_no_node() {
        let bytes =
            b"*2\r\n*3\r\n:5461\r\n:10922\r\n*2\r\n$1\r\nb\r\n:2\r\n*3\r\n:0\r\n:5459\r\n*2\r\n$0\r\n\r\n:1\r\n";
        let answer = redis::parse_redis_value(bytes).unwrap();
        let expected = vec![
            (5459, Some(address("asked", 1))),
            (5460, None),
            (10_922, Some(address("b", 2))),
            (16_383, None),
        ];
        assert_eq!(owners(answer, &address("asked", 9)), expected);
    }
}
