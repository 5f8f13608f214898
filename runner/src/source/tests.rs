//! The sources together: identity, the union, and the warnings of the merge.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use jiff::tz::TimeZone;
use tokio_util::sync::CancellationToken;

use runner_core::clock::ManualClock;
use runner_core::cron::DstRule;
use runner_core::function::{CheckFinding, FunctionOptions, Functions};
use runner_core::schedule::{Definition, Origin, Overlap, Plan, ScheduleId, Source, Timing};
use runner_core::task::Task;

use super::{Catalog, Code, FunctionCheck, ManifestSettings, SourceSettings, TableSettings, Taken};

fn coded(name: &str, spec: &str, kind: &str) -> Definition {
    let id = ScheduleId::code(name);
    let timing = Timing::parse(id.as_str(), spec, "UTC", &TimeZone::UTC, DstRule::default()).unwrap();
    Definition {
        overlap: Overlap::Allow,
        ..Definition::new(id, name, Origin::code(), timing, Task::new(kind))
    }
}

fn settings(home: &Path, manifest: &str, code: Vec<Definition>) -> SourceSettings {
    let dir = home.join("m");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("a.yaml"), manifest).unwrap();
    SourceSettings {
        manifests: Some(ManifestSettings {
            dir,
            rescan: ManifestSettings::default().rescan,
        }),
        table: Some(TableSettings::Sqlite {
            path: home.join("runner.db"),
        }),
        code: Code {
            stated: code
                .iter()
                .map(|d| (d.id.clone(), FunctionOptions::of(&d.task)))
                .collect(),
            definitions: code,
            problems: Vec::new(),
        },
        ..SourceSettings::default()
    }
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(jiff::Timestamp::UNIX_EPOCH))
}

/// `id code` of every problem.
fn problems(plan: &Plan) -> Vec<String> {
    let id = |p: &runner_core::schedule::Problem| p.schedule.as_ref().map_or("-".into(), ToString::to_string);
    plan.problems.iter().map(|p| format!("{} {}", id(p), p.code)).collect()
}

#[tokio::test]
async fn the_plan_is_the_union_and_look_alikes_are_named() {
    let home = tempfile::tempdir().unwrap();
    let code = vec![
        coded("nightly", "0 2 * * *", "task:a"),
        coded("other", "0 3 * * *", "fn:missing"),
        coded("nightly", "0 4 * * *", "task:c"),
    ];
    let settings = settings(home.path(), "name: a\nschedule: '0 2 * * *'\nhandler: task:a\n", code);
    let loaded = Catalog::load_once(settings, clock()).await;
    let ids: Vec<&str> = loaded.plan.schedules.keys().map(ScheduleId::as_str).collect();
    assert_eq!(ids, ["code:nightly", "code:other", "m:a:default"]);
    let expected = [
        "code:other W212",
        "code:nightly E401",
        "code:nightly W240",
        "m:a:default W240",
    ];
    assert_eq!(problems(&loaded.plan), expected);
    assert_eq!(loaded.functions[0].name, "a");
    let states: Vec<(Source, usize, usize)> = loaded
        .statuses
        .iter()
        .map(|s| (s.source, s.schedules, s.errors))
        .collect();
    assert_eq!(
        states,
        [(Source::Manifest, 1, 0), (Source::Table, 0, 0), (Source::Code, 2, 1)]
    );
}

#[tokio::test]
async fn a_call_that_would_send_other_bytes_as_json_is_named() {
    let home = tempfile::tempdir().unwrap();
    let text = "name: hook\nhttp: 'https://example.com/'\n---\nname: pack\nhttp: {url: 'https://example.com/', headers: \
                {content-type: application/msgpack}}\n---\nname: ask\nhttp: {url: 'https://example.com/', method: GET}\n---\n\
                name: cmd\nexec: [cat]\n";
    let with = |name: &str, kind: &str, payload: &'static [u8]| {
        let coded = coded(name, "@daily", kind);
        let task = coded.task.clone().payload(payload);
        Definition { task, ..coded }
    };
    let bytes = &b"\x81\xa1a\x01"[..];
    let code = vec![
        with("bytes", "fn:hook", bytes),
        with("json", "fn:hook", b"[1]"),
        with("none", "fn:hook", b""),
        with("pack", "fn:pack", bytes),
        with("ask", "fn:ask", bytes),
        with("cmd", "fn:cmd", bytes),
        with("handler", "task:a", bytes),
        Definition {
            enabled: false,
            ..with("off", "fn:hook", bytes)
        },
    ];
    let loaded = Catalog::load_once(settings(home.path(), text, code), clock()).await;
    let doubted: Vec<&str> = loaded
        .plan
        .problems
        .iter()
        .filter(|problem| problem.code == "W254")
        .map(|problem| problem.schedule.as_ref().unwrap().as_str())
        .collect();
    assert_eq!(doubted, ["code:bytes"]);
    let id = ScheduleId::code("bytes");
    let said = &loaded.plan.problems_of(&id).next().unwrap().message;
    assert!(said.contains("byte 0x81 at line 1 column 1"), "{said}");
}

#[tokio::test]
async fn task_types_that_no_worker_runs_are_reported_once_the_servers_are_known() {
    let home = tempfile::tempdir().unwrap();
    let text = "name: a\nschedule: '@daily'\nhandler: task:a\n---\nname: b\nschedule: '@hourly'\nexec: [date]\n";
    let settings = settings(home.path(), text, vec![coded("c", "@weekly", "mail:welcome")]);
    let stop = CancellationToken::new();
    let catalog = Catalog::start(settings, Functions::default(), clock(), stop.clone()).await;
    assert_eq!(problems(&catalog.plan()), [""; 0]);
    let known = |types: &[&str]| Taken {
        types: Some(types.iter().map(ToString::to_string).collect()),
        queues: None,
    };
    catalog.set_taken(known(&["mail:*"]));
    assert_eq!(problems(&catalog.plan()), ["m:a:default W210"]);
    catalog.set_taken(known(&["mail:*", "task:a"]));
    assert_eq!(problems(&catalog.plan()), [""; 0]);
    catalog.set_taken(known(&[]));
    assert_eq!(problems(&catalog.plan()), ["code:c W210", "m:a:default W210"]);
    catalog.set_taken(Taken::default());
    assert_eq!(problems(&catalog.plan()), [""; 0]);
    stop.cancel();
}

#[tokio::test]
async fn queues_that_no_server_serves_and_instants_that_passed_are_named() {
    let home = tempfile::tempdir().unwrap();
    let text = "name: a\nschedule: '@daily'\nhandler: task:a\nqueue: low\n---\nname: b\n\
                schedule: {at: 1969-01-01T00:00:00Z}\nhandler: task:b\n---\nname: c\nschedule: '@daily'\n\
                handler: task:c\nqueue: tenant-7\nenabled: true\n---\nname: d\nexec: [date]\nqueue: lwo\n";
    let settings = settings(home.path(), text, Vec::new());
    let stop = CancellationToken::new();
    let catalog = Catalog::start(settings, Functions::default(), clock(), stop.clone()).await;
    assert_eq!(problems(&catalog.plan()), ["- W201", "m:b:default W209"]);
    let served = |queues: &[&str]| Taken {
        types: None,
        queues: Some(queues.iter().map(ToString::to_string).collect()),
    };
    catalog.set_taken(served(&["default", "tenant-*"]));
    assert_eq!(
        problems(&catalog.plan()),
        ["- W201", "m:b:default W209", "m:a:default W211", "- W211"]
    );
    assert_eq!(catalog.plan().unserved, BTreeSet::from(["low".to_owned()]));
    catalog.set_taken(served(&["*"]));
    assert_eq!(problems(&catalog.plan()), ["- W201", "m:b:default W209"]);
    stop.cancel();
}

#[tokio::test]
async fn errors_count_at_once_when_looking_only_once() {
    let home = tempfile::tempdir().unwrap();
    let loaded = Catalog::load_once(settings(home.path(), "name: [", Vec::new()), clock()).await;
    assert_eq!(problems(&loaded.plan), ["- E100"]);
}

/// Queue, retries and seconds of timeout of a schedule's tasks.
fn limits(plan: &Plan, id: ScheduleId) -> (String, u32, Option<u64>) {
    let task = &plan.schedules[&id].task;
    let timeout = task.timeout.map(|t| t.as_secs());
    (task.queue.to_string(), task.max_retry, timeout)
}

#[tokio::test]
async fn the_limits_of_a_function_hold_for_every_schedule_that_names_it() {
    let home = tempfile::tempdir().unwrap();
    let mut own = coded("own", "0 3 * * *", "fn:a");
    own.task.max_retry = 7;
    let code = vec![
        own,
        coded("plain", "0 4 * * *", "fn:a"),
        coded("other", "0 5 * * *", "task:a"),
    ];
    let text = "name: a\nexec: [date]\nretry: 2\ntimeout: 90s\nqueue: low\n";
    let settings = settings(home.path(), text, code);
    let pool = sqlx::SqlitePool::connect_with(
        sqlx::sqlite::SqliteConnectOptions::new()
            .filename(home.path().join("runner.db"))
            .create_if_missing(true),
    );
    let pool = pool.await.unwrap();
    super::migrate(settings.table.as_ref().unwrap()).await.unwrap();
    let insert = "INSERT INTO sys_crontab (id, name, type, spec, payload, status) VALUES \
         (1, 'r', 'fn:a', '@daily', '', 1), \
         (2, 's', 'fn:a', '@daily', '{\"_runner\": {\"retry\": 25, \"timeout\": \"5s\"}}', 1)";
    sqlx::query(insert).execute(&pool).await.unwrap();
    let stop = CancellationToken::new();
    let catalog = Catalog::start(settings, Functions::default(), clock(), stop.clone()).await;
    let plan = catalog.plan();
    assert_eq!(limits(&plan, ScheduleId::code("own")), ("low".into(), 7, Some(90)));
    assert_eq!(limits(&plan, ScheduleId::code("plain")), ("low".into(), 2, Some(90)));
    assert_eq!(limits(&plan, ScheduleId::code("other")), ("default".into(), 25, None));
    assert_eq!(limits(&plan, ScheduleId::row(1)), ("low".into(), 2, Some(90)));
    assert_eq!(limits(&plan, ScheduleId::row(2)), ("low".into(), 25, Some(5)));
    let edited = "name: a\nexec: [date]\nretry: 4\n";
    std::fs::write(home.path().join("m/a.yaml"), edited).unwrap();
    assert!(catalog.sync().await);
    let defaults = ("default".into(), 4, Some(3600));
    assert_eq!(limits(&catalog.plan(), ScheduleId::row(1)), defaults);
    // The other limits are those of handlers, which Go servers run too.
    std::fs::write(home.path().join("m/a.yaml"), "name: b\nexec: [date]\n").unwrap();
    assert!(catalog.sync().await);
    let undefined = ("default".into(), 2, Some(3600));
    assert_eq!(limits(&catalog.plan(), ScheduleId::code("plain")), undefined);
    assert_eq!(
        limits(&catalog.plan(), ScheduleId::code("other")),
        ("default".into(), 25, None)
    );
    stop.cancel();
}

#[tokio::test]
async fn what_is_doubtful_about_a_command_is_a_problem_of_each_schedule_that_runs_it() {
    let home = tempfile::tempdir().unwrap();
    let text = "name: a\nexec: [date, '|', wc]\nschedule: [{id: x, cron: '@daily'}, {id: y, cron: '* 5 * * *'}]\n---\n\
                name: b\nexec: [date]\nschedule: '@daily'\n";
    let plan = Catalog::load_once(settings(home.path(), text, Vec::new()), clock())
        .await
        .plan;
    let of = |function: &str, schedule: &str| -> Vec<String> {
        let id = ScheduleId::manifest(function, schedule);
        plan.problems_of(&id).map(|p| p.code.clone()).collect()
    };
    assert_eq!(of("a", "x"), ["W301"]);
    assert_eq!(of("a", "y"), ["W301", "W230"]);
    assert_eq!(of("b", "default"), [""; 0]);
}

/// The plan of this manifest where each function has this finding: (may it not run anyway, code).
async fn plan_with_finding(text: &str, refused: bool, code: &'static str) -> Arc<Plan> {
    let finding = CheckFinding {
        refused,
        code,
        message: "not here".to_owned(),
        hint: None,
    };
    let home = tempfile::tempdir().unwrap();
    let checked = SourceSettings {
        vet: FunctionCheck::new(move |_| Some(finding.clone())),
        ..settings(home.path(), text, Vec::new())
    };
    Catalog::load_once(checked, clock()).await.plan
}

#[tokio::test]
async fn a_function_that_cannot_run_here_is_a_problem_of_each_of_its_schedules() {
    let text = "name: a\nexec: [date]\nschedule: [{id: x, cron: '@daily'}, {id: y, cron: '@daily'}]\n";
    for code in ["E306", "W302"] {
        let plan = plan_with_finding(text, false, code).await;
        for schedule in ["x", "y"] {
            let id = ScheduleId::manifest("a", schedule);
            assert!(plan.problems_of(&id).any(|p| p.code == code), "{id} {code}");
        }
    }
}

#[tokio::test]
async fn a_disabled_function_is_not_warned_of_what_this_worker_lacks() {
    let text = "name: a\nenabled: false\nexec: [date]\nschedule: '@daily'\n";
    for (refused, expected) in [(false, 0), (true, 1)] {
        let plan = plan_with_finding(text, refused, "E306").await;
        let found = plan.problems.iter().filter(|p| p.code == "E306").count();
        assert_eq!(found, expected, "refused: {refused}");
    }
}

#[tokio::test]
async fn a_handler_without_a_schedule_states_options_for_its_type() {
    let home = tempfile::tempdir().unwrap();
    let mut own = coded("own", "0 3 * * *", "t");
    own.task.max_retry = 7;
    let code = vec![own, coded("plain", "0 4 * * *", "t"), coded("other", "0 5 * * *", "u")];
    let text = "name: types\nhandler: t\nqueue: low\nretry: 3\ntimeout: 90s\n---\n\
                name: nightly\nhandler: t\nschedule: '@daily'\nretry: 4\n---\n\
                name: of-u\nhandler: u\nschedule: '@weekly'\nretry: 9\n---\n\
                name: zeta\nhandler: t\nretry: 5\n---\n\
                name: zulu\nhandler: t\nqueue: low\nretry: 3\ntimeout: 90s\n";
    let loaded = Catalog::load_once(settings(home.path(), text, code), clock()).await;
    let plan = loaded.plan;
    assert_eq!(limits(&plan, ScheduleId::code("own")), ("low".into(), 7, Some(90)));
    assert_eq!(limits(&plan, ScheduleId::code("plain")), ("low".into(), 3, Some(90)));
    let nightly = ScheduleId::manifest("nightly", "default");
    assert_eq!(limits(&plan, nightly), ("low".into(), 4, Some(90)), "its own first");
    let other = limits(&plan, ScheduleId::code("other"));
    assert_eq!(
        other,
        ("default".into(), 25, None),
        "a schedule's function is about its own tasks"
    );
    let rivals: Vec<&str> = plan
        .problems
        .iter()
        .filter(|p| p.code == "E402")
        .map(|p| p.message.as_str())
        .collect();
    let [rival] = rivals.as_slice() else {
        panic!("{rivals:?}")
    };
    assert!(rival.contains("a.yaml:1)") && rival.contains("a.yaml:17)"), "{rival}");
    assert_eq!(problems(&plan), ["- E402"], "and no function lacks a trigger");
    let types = super::TypeOptions::new(&Functions::new(loaded.functions), plan.schedules.values());
    assert_eq!(types.of("t").max_retry, Some(3));
    assert_eq!(types.of("u"), FunctionOptions::default());
    assert_eq!(types.of("fn:unknown"), FunctionOptions::of_function());
}

#[tokio::test]
async fn a_function_that_a_schedule_in_code_names_is_not_said_to_be_untriggered() {
    let home = tempfile::tempdir().unwrap();
    let manifest = "name: a\nexec: [date]\n---\nname: b\nexec: [date]\n";
    let code = vec![coded("nightly", "0 2 * * *", "fn:a")];
    let loaded = Catalog::load_once(settings(home.path(), manifest, code), clock()).await;
    let untriggered: Vec<&str> = loaded
        .plan
        .problems
        .iter()
        .filter(|p| p.code == "W201")
        .map(|p| p.message.as_str())
        .collect();
    assert_eq!(
        untriggered,
        ["no manifest schedules this function; `runner run b` runs it by hand"]
    );
}
