//! Schedules in code against the same schedules in a manifest.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use runner_core::schedule::{CatchUp, CatchUpPolicy, Definition, Overlap, Severity};
use runner_core::task::{QueueName, Task, Unique, UniqueKey};

use super::{Code, Schedule};
use crate::source::{SourceSettings, manifest};

fn coded(schedule: impl Into<Schedule>, task: Task) -> Code {
    let all = [("a".to_owned(), schedule.into(), task)];
    Code::read(all, &SourceSettings::default().context())
}

fn definition(schedule: impl Into<Schedule>, task: Task) -> Definition {
    let code = coded(schedule, task);
    assert_eq!(code.problems, [], "{code:?}");
    code.definitions.into_iter().next().unwrap()
}

/// The result of a function with this `schedule`, written in one line: its first schedule, and `code: message` of each
/// problem.
fn written(schedule: &str) -> (Option<Definition>, Vec<String>) {
    let text = format!("name: a\nhandler: t\nschedule: {schedule}\n");
    let reading = manifest::read(&text, "a.yaml", &SourceSettings::default().context());
    let problems = reading.problems.iter();
    let problems = problems.map(|p| format!("{}: {}", p.code, p.message)).collect();
    let entry = reading.entries.into_iter().next();
    (entry.and_then(|e| e.schedules.into_iter().next()), problems)
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[test]
fn every_option_of_a_manifest_gives_the_same_schedule_in_code() {
    let all = CatchUp {
        policy: CatchUpPolicy::All,
        window: seconds(6 * 3600),
        max: 9,
    };
    let cases = [
        (
            Schedule::cron("0 2 * * *")
                .timezone("Europe/Berlin")
                .overlap(Overlap::Skip)
                .jitter(seconds(90)),
            "{cron: 0 2 * * *, timezone: Europe/Berlin, overlap: skip, jitter: 90s}",
        ),
        (
            Schedule::any_of(["0 2 * * *", "30 5 * * 1"])
                .overlap(Overlap::Allow)
                .catch_up(all),
            "{cron: [0 2 * * *, 30 5 * * 1], overlap: allow, catch_up: {policy: all, window: 6h, max: 9}}",
        ),
        (
            Schedule::at(["2031-12-24T22:00:00", "2031-12-24T03:00:00Z"])
                .timezone("Asia/Shanghai")
                .overlap(Overlap::SkipIgnoringRetries)
                .catch_up(CatchUpPolicy::None),
            "{at: ['2031-12-24T22:00:00', '2031-12-24T03:00:00Z'], timezone: Asia/Shanghai, \
             overlap: {policy: skip, retries: ignore}, catch_up: none}",
        ),
        (
            Schedule::cron("CRON_TZ=Asia/Tokyo 0 2 * * *").overlap(Overlap::Skip),
            "CRON_TZ=Asia/Tokyo 0 2 * * *",
        ),
    ];
    for (schedule, text) in cases {
        let (manifest, problems) = written(text);
        let (manifest, code) = (manifest.expect(text), definition(schedule, Task::new("t")));
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(code.timing, manifest.timing, "{text}");
        assert_eq!(code.overlap, manifest.overlap, "{text}");
        assert_eq!(code.catch_up, manifest.catch_up, "{text}");
        assert_eq!(code.jitter, manifest.jitter, "{text}");
    }
    let every = definition(Schedule::every(seconds(90)), Task::new("t"));
    assert_eq!(every.timing, definition("@every 1m30s", Task::new("t")).timing);
    let (manifest, _) = written("{every: 90s}");
    assert_eq!(every.timing.text, manifest.unwrap().timing.text);
    assert_eq!(every.overlap, Overlap::Allow, "as it always was in code");
}

#[test]
fn what_a_manifest_is_refused_for_or_warned_of_is_said_of_code_too() {
    let cases = [
        (Schedule::cron("61 * * * *"), "{cron: 61 * * * *}"),
        (Schedule::cron("0 0 30 2 *"), "{cron: 0 0 30 2 *}"),
        (Schedule::cron(" "), "{cron: ' '}"),
        (Schedule::cron("* 5 * * *"), "{cron: '* 5 * * *', overlap: allow}"),
        (Schedule::any_of([""; 0]), "{cron: []}"),
        (
            Schedule::any_of(["@every 5s", "@daily"]),
            "{cron: ['@every 5s', '@daily']}",
        ),
        (Schedule::every(Duration::ZERO), "{every: 0s}"),
        (Schedule::every(Duration::from_millis(1500)), "{every: 1.5s}"),
        (Schedule::at(["tomorrow"]), "{at: tomorrow}"),
        (
            Schedule::at(["2031-03-30T02:30:00"]).timezone("Europe/Berlin"),
            "{at: '2031-03-30T02:30:00', timezone: Europe/Berlin}",
        ),
        (
            Schedule::cron("@daily").timezone("Mars/Olympus"),
            "{cron: '@daily', timezone: Mars/Olympus}",
        ),
        (
            Schedule::cron("CRON_TZ=UTC 0 2 * * *").timezone("Asia/Tokyo"),
            "{cron: CRON_TZ=UTC 0 2 * * *, timezone: Asia/Tokyo}",
        ),
        (
            Schedule::cron("@daily").jitter(seconds(90_000)),
            "{cron: '@daily', jitter: 25h}",
        ),
        (
            Schedule::cron("* * * * *").jitter(seconds(50)),
            "{cron: '* * * * *', jitter: 50s}",
        ),
        (
            Schedule::cron("@daily")
                .overlap(Overlap::Skip)
                .catch_up(CatchUpPolicy::All),
            "{cron: '@daily', overlap: skip, catch_up: all}",
        ),
        (
            Schedule::cron("@daily").catch_up(CatchUp {
                max: 0,
                ..CatchUp::default()
            }),
            "{cron: '@daily', catch_up: {max: 0}}",
        ),
    ];
    for (schedule, text) in cases {
        let code = coded(schedule, Task::new("t"));
        let found: Vec<String> = code
            .problems
            .iter()
            .map(|p| format!("{}: {}", p.code, p.message))
            .collect();
        let (manifest, problems) = written(text);
        // Durations are shown as they were written, which code does not do.
        let alike = |text: &String| text.replace("25h0m0s", "25h");
        assert_eq!(found.iter().map(alike).collect::<Vec<_>>(), problems, "{text}");
        assert!(!problems.is_empty(), "{text}");
        assert_eq!(code.definitions.is_empty(), manifest.is_none(), "{text}");
        assert!(code.problems.iter().all(|p| p.place == "code:a"));
        assert!(code.problems.iter().all(|p| p.schedule.is_some()), "on its page");
    }
}

#[test]
fn the_options_of_a_schedule_go_before_those_of_its_task() {
    let low = QueueName::new("low").unwrap();
    let task = Task::new("t").queue(low).max_retry(9).retention(seconds(60));
    let schedule = Schedule::cron("@daily")
        .queue(QueueName::default())
        .retry(25)
        .timeout(seconds(5));
    let code = coded(schedule, task);
    let (id, stated) = code.stated.iter().next().unwrap();
    assert_eq!(id.as_str(), "code:a");
    // An option that equals the default of a task counts as stated.
    assert_eq!(stated.queue, Some(QueueName::default()));
    assert_eq!(stated.max_retry, Some(25));
    let task = &code.definitions[0].task;
    assert_eq!((task.max_retry, task.timeout), (25, Some(seconds(5))));
    assert_eq!((task.queue.as_str(), task.retention), ("default", seconds(60)));

    let wrong = Schedule::cron("@daily")
        .retry(1001)
        .timeout(seconds(8 * 86_400))
        .retention(seconds(91 * 86_400));
    let wrong = coded(wrong, Task::new("t"));
    let codes: Vec<&str> = wrong.errors().map(|p| p.code.as_str()).collect();
    assert_eq!(codes, ["E160", "E161", "E162"]);
}

#[test]
fn uniqueness_is_read_with_key_scope_and_conflict() {
    let hour = seconds(3600);
    let wanted = Unique {
        key: Some(UniqueKey::Payload("account.id".to_owned())),
        ..Unique::new(hour).while_pending().replace()
    };
    for unique in [
        Unique::new(hour),
        wanted,
        Unique::new(hour).key("one of them").reschedule(),
    ] {
        let read = definition(Schedule::cron("@daily").unique(unique.clone()), Task::new("t"));
        assert_eq!(read.task.unique, Some(unique));
    }
    // Before that of the task, and under the rules of manifests.
    let task = Task::new("t").unique(seconds(5));
    let read = definition(Schedule::cron("@daily").unique(hour), task);
    assert_eq!(read.task.unique, Some(Unique::new(hour)));
    let short = Unique::new(Duration::from_millis(10));
    for bad in [short, Unique::new(hour).key("x".repeat(2000))] {
        let code = coded(Schedule::cron("@daily").unique(bad), Task::new("t"));
        assert_eq!(code.problems[0].code, "E167", "{code:?}");
        assert!(code.definitions.is_empty());
    }
}

#[test]
fn names_switches_and_texts_are_read() {
    let context = SourceSettings::default().context();
    let off = Schedule::cron("@daily").enabled(false).description(" Sums up\n");
    let all = [
        ("a".to_owned(), off, Task::new("t")),
        ("a".to_owned(), Schedule::cron("@hourly"), Task::new("t")),
        (" ".to_owned(), Schedule::cron("@hourly"), Task::new("t")),
        ("b".to_owned(), "@hourly".into(), Task::new(" ")),
        ("c".to_owned(), "@hourly".into(), Task::new("t")),
    ];
    let code = Code::read(all, &context);
    let codes: Vec<&str> = code.problems.iter().map(|p| p.code.as_str()).collect();
    assert_eq!(codes, ["E140", "E111", "E170"]);
    assert!(code.problems.iter().all(|p| p.severity == Severity::Error));
    let names: Vec<&str> = code.definitions.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(names, ["a", "c"]);
    assert!(!code.definitions[0].enabled);
    assert_eq!(code.definitions[0].description, "Sums up");
}
