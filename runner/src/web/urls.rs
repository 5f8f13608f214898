//! Every address of the dashboard, built in one place so that names are always encoded.

use std::fmt::Write as _;

/// Where the dashboard hangs.
pub const ROOT: &str = "/queue";

/// One path segment or query value: everything but unreserved characters is percent-encoded.
#[must_use]
pub fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => out.push(byte as char),
            // A segment of dots only would be taken for a step upwards.
            b'.' if text.bytes().any(|b| b != b'.') => out.push('.'),
            _ => {
                // Writing to a String cannot fail.
                let _infallible = write!(out, "%{byte:02X}");
            }
        }
    }
    out
}

/// A queue, without a state.
#[must_use]
pub fn queue(queue: &str) -> String {
    format!("{ROOT}/queues/{}", encoded(queue))
}

/// The tasks of a queue in one state.
#[must_use]
pub fn tasks(name: &str, state: &str) -> String {
    format!("{}/{state}", queue(name))
}

/// One task.
#[must_use]
pub fn task(queue: &str, id: &str) -> String {
    format!("{ROOT}/tasks/{}/{}", encoded(queue), encoded(id))
}

/// All schedules.
#[must_use]
pub fn schedules() -> String {
    format!("{ROOT}/schedules")
}

/// One schedule.
#[must_use]
pub fn schedule(id: &str) -> String {
    format!("{ROOT}/schedules/{}", encoded(id))
}

/// The page to log in on, and where to go from there.
#[must_use]
pub fn login(next: &str) -> String {
    format!("{ROOT}/login?next={}", encoded(next))
}

/// `path` if it leads to a page of the dashboard, else its root: no way out of this site, no second header.
#[must_use]
pub fn inside(path: &str) -> &str {
    let below = path
        .strip_prefix(ROOT)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
    let plain = path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\' && b != b'"');
    if below && plain && !path.contains("//") {
        path
    } else {
        ROOT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_segment() {
        assert_eq!(task("a/b", "空 ?"), "/queue/tasks/a%2Fb/%E7%A9%BA%20%3F");
        assert_eq!(encoded("v1.2"), "v1.2");
        assert_eq!(encoded(".."), "%2E%2E");
    }

    #[test]
    fn one_returns_only_inside() {
        assert_eq!(inside("/queue/schedules?page=2"), "/queue/schedules?page=2");
        for outside in [
            "//evil.example",
            "/queue//evil",
            "/queued",
            "/queue/\r\nx: y",
            "",
            "https://e",
        ] {
            assert_eq!(inside(outside), ROOT, "{outside}");
        }
    }
}
