//! Every address of the dashboard, built in one place so that names are always encoded.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::reached_by;
use crate::access::{HEX_SEGMENT as HEX, segment};

pub use crate::access::encoded;

/// The root of the dashboard, below the base path of a proxy.
const ROOT: &str = "/queue";

/// The overview, as the requesting browser addresses it.
#[must_use]
pub fn root() -> String {
    format!("{}{ROOT}", reached_by::current().base)
}

/// The name in a percent-decoded path segment.
#[must_use]
pub fn name_in(segment: &str) -> Vec<u8> {
    let bytes = || {
        // A number parser would also accept a sign.
        let digits = segment.strip_prefix(HEX)?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        let pairs = digits.as_bytes().chunks(2);
        pairs
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|p| p.len() == 2)?, 16).ok())
            .collect::<Option<Vec<u8>>>()
    };
    bytes().unwrap_or_else(|| segment.as_bytes().to_vec())
}

/// The same for names that must be text.
#[must_use]
pub fn text_in(segment: &str) -> Option<String> {
    String::from_utf8(name_in(segment)).ok()
}

/// A queue, without a state.
#[must_use]
pub fn queue(queue: &str) -> String {
    format!("{}/queues/{}", root(), segment(queue.as_bytes()))
}

/// The tasks of a queue in one state.
#[must_use]
pub fn tasks(name: &str, state: &str) -> String {
    format!("{}/{state}", queue(name))
}

/// The tasks of all queues in one state that ended from the first instant to before the last, in the zone of the page.
#[must_use]
pub fn tasks_between(state: &str, zone: &TimeZone, (from, to): (Timestamp, Timestamp)) -> String {
    let local = |at: Timestamp| encoded(&at.to_zoned(zone.clone()).strftime("%Y-%m-%dT%H:%M").to_string());
    format!("{}/tasks?state={state}&from={}&to={}", root(), local(from), local(to))
}

/// One task.
#[must_use]
pub fn task(queue: &str, id: &str) -> String {
    task_of(queue, id.as_bytes())
}

/// One task, whose id may not be text.
#[must_use]
pub fn task_of(queue: &str, id: &[u8]) -> String {
    format!("{}/tasks/{}/{}", root(), segment(queue.as_bytes()), segment(id))
}

/// An operation on many tasks.
#[must_use]
pub fn operation(id: &str) -> String {
    format!("{}/operations/{}", root(), segment(id.as_bytes()))
}

/// All schedules.
#[must_use]
pub fn schedules() -> String {
    format!("{}/schedules", root())
}

/// One schedule.
#[must_use]
pub fn schedule(id: &str) -> String {
    format!("{}/schedules/{}", root(), segment(id.as_bytes()))
}

/// All workflows.
#[must_use]
pub fn workflows() -> String {
    format!("{}/workflows", root())
}

/// Where orders to a worker go.
#[must_use]
pub fn server(id: &str) -> String {
    format!("{}/servers/{}", root(), segment(id.as_bytes()))
}

/// Where orders to all workers of a host go.
#[must_use]
pub fn host(name: &str) -> String {
    format!("{}/hosts/{}", root(), segment(name.as_bytes()))
}

/// All functions.
#[must_use]
pub fn functions() -> String {
    format!("{}/functions", root())
}

/// Before the name of a task type where names of functions stand, which have no colon.
pub const TYPE: &str = "type:";

/// The runs of a task type.
#[must_use]
pub fn runs_of_type(kind: &str) -> String {
    function(&format!("{TYPE}{kind}"))
}

/// One function.
#[must_use]
pub fn function(name: &str) -> String {
    format!("{}/functions/{}", root(), segment(name.as_bytes()))
}

/// Decisions of all schedules, by what happened to them (a word of the list) and by their occurrences, from the first
/// instant to before the last.
#[must_use]
pub fn decisions(only: Option<&str>, range: Option<(Timestamp, Timestamp)>) -> String {
    let instant = |at: Timestamp| encoded(&format!("{at:.0}"));
    let range = range.map(|(from, to)| format!("from={}&to={}", instant(from), instant(to)));
    let only = only.map(|word| format!("only={word}"));
    let query: Vec<String> = only.into_iter().chain(range).collect();
    format!("{}/decisions?{}", root(), query.join("&"))
}

/// The page of a workflow.
#[must_use]
pub fn workflow(id: &str) -> String {
    format!("{}/workflows/{}", root(), segment(id.as_bytes()))
}

/// A channel of notifications; it has actions and no page.
#[must_use]
pub fn channel(name: &str) -> String {
    format!("{}/notifications/{}", root(), segment(name.as_bytes()))
}

/// Messages that could not become tasks: all, or those of one trigger.
#[must_use]
pub fn bad_messages(trigger: Option<&str>) -> String {
    let query = trigger.map_or_else(String::new, |trigger| format!("?trigger={}", encoded(trigger)));
    format!("{}/bad-messages{query}", root())
}

/// A page of their list.
#[must_use]
pub fn bad_messages_page(trigger: Option<&str>, number: usize) -> String {
    let list = bad_messages(trigger);
    let sign = if trigger.is_some() { '&' } else { '?' };
    format!("{list}{sign}page={number}")
}

/// One of them, by its name and stamp.
#[must_use]
pub fn bad_message(name: &str, stamp: &str) -> String {
    format!("{}/{}/{stamp}", bad_messages(None), segment(name.as_bytes()))
}

/// The login page, and where to go from there.
#[must_use]
pub fn login(next: &str) -> String {
    format!("{}/login?next={}", root(), encoded(next))
}

/// `path` if it leads to a page of the dashboard, else the root: it cannot leave the site or inject a header. The base path
/// may be missing, as in an address from before there was one.
#[must_use]
pub fn inside(path: &str) -> String {
    let site = reached_by::current();
    let own = path.strip_prefix(site.base.as_str()).filter(|rest| is_page(rest));
    match own.or_else(|| is_page(path).then_some(path)) {
        Some(page) => format!("{}{page}", site.base),
        None => root(),
    }
}

/// Whether a path is that of a page and not above the pages.
fn is_page(path: &str) -> bool {
    let below = path
        .strip_prefix(ROOT)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?']));
    let plain = path.bytes().all(|b| b.is_ascii_graphic() && b != b'\\' && b != b'"');
    let before_query = path.split('?').next().unwrap_or_default();
    let climbs = before_query.split('/').any(is_step);
    below && plain && !climbs && !path.contains("//")
}

/// A dot segment, encoded or not.
fn is_step(part: &str) -> bool {
    matches!(part.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_segment() {
        assert_eq!(task("a/b", "空 ?"), "/queue/tasks/a%2Fb/%E7%A9%BA%20%3F");
        assert_eq!(encoded("v1.2"), "v1.2");
    }

    #[test]
    fn every_name_has_an_address_and_comes_back_from_it() {
        for (name, address) in [
            (&b"."[..], "~x2e"),
            (b"..", "~x2e2e"),
            (b"...", "..."),
            (b"~x2e", "~x7e783265"),
            (b"\xff\xfe", "~xfffe"),
            (b"a~x", "a~x"),
        ] {
            assert_eq!(segment(name), address);
            assert_eq!(name_in(address), name);
        }
        for odd in ["~x", "~x2", "~xzz", "~x+1"] {
            let read = name_in(odd);
            assert!(read == odd.as_bytes() || odd == "~x", "{odd}: {read:?}");
        }
        assert_eq!(text_in("~xff"), None);
        let long = "x/".repeat(10_000);
        assert_eq!(task("q", &long).len(), "/queue/tasks/q/".len() + 40_000);
    }

    #[test]
    fn one_returns_only_inside() {
        for page in ["/queue/schedules?page=2", "/queue?queues=..", "/queue/tasks/q/..."] {
            assert_eq!(inside(page), page);
        }
        for outside in [
            "//evil.example",
            "/queue//evil",
            "/queued",
            "/queue/\r\nx: y",
            "",
            "https://e",
            "/queue/../admin",
            "/queue/%2E%2e/admin",
        ] {
            assert_eq!(inside(outside), ROOT, "{outside}");
        }
    }

    #[test]
    fn every_address_begins_with_the_base_path_of_the_proxy() {
        let site = reached_by::ReachedBy {
            base: "/ops".to_owned(),
            ..reached_by::ReachedBy::default()
        };
        reached_by::within(site, || {
            assert_eq!(root(), "/ops/queue");
            assert_eq!(task("q", "a"), "/ops/queue/tasks/q/a");
            assert_eq!(tasks("q", "pending"), "/ops/queue/queues/q/pending");
            assert_eq!(schedule("s"), "/ops/queue/schedules/s");
            assert_eq!(login("/ops/queue"), "/ops/queue/login?next=%2Fops%2Fqueue");
            assert_eq!(inside("/ops/queue/servers"), "/ops/queue/servers");
            assert_eq!(inside("/queue/servers"), "/ops/queue/servers", "noted without the base");
            for outside in ["/other/queue", "/ops/ops/queue", "/opsqueue", "//ops/queue", "/ops"] {
                assert_eq!(inside(outside), root(), "{outside}");
            }
        });
    }
}
