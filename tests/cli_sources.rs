//! Output of the command line about functions and schedules: limits of functions, warnings, broken sources.

use serde_json::Value;

use crate::cli::{json, prints};
use crate::kit::{self, Site};

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): a_manually_enqueued_task_has_the_limits_of_its_function, broken_definitions_are_listed,
            an_unreachable_table_is_reported, disappearance_of_all_rows_and_files_is_reported, check_looks_at_the_rows, check_looks_for_programs_and_the_broker, check_warns_about_definitions_that_will_not_run, the_zone_of_the_machine_is_never_guessed,
            commands_outside_the_list_are_named_by_check_and_never_run
    ]
}

/// Retries and timeout of the task that these arguments enqueue.
async fn enqueued(site: &Site, arguments: &[&str], queue: &str) -> (Value, Value) {
    let arguments: Vec<&str> = ["enqueue"].into_iter().chain(arguments.iter().copied()).collect();
    let id = prints(site, &arguments).await;
    let task = json(site, &["task", "show", id.trim(), "--queue", queue, "--json"]).await;
    (task["max_retry"].clone(), task["timeout_seconds"].clone())
}

async fn a_manually_enqueued_task_has_the_limits_of_its_function() {
    let site = Site::new("");
    let text = "name: fail\nexec: ['false']\nretry: 3\ntimeout: 90s\nqueue: low\n---\nname: far\nhandler: task:far\n---\n\
                name: plain\nexec: ['false']\n";
    site.write("manifests/fail.yaml", text);
    site.write("manifests/bad.yaml", "name: bad\nexecc: [date]\n");
    let limits = enqueued(&site, &["fn:fail"], "low").await;
    assert_eq!(limits, (3.into(), 90.into()));
    let limits = enqueued(&site, &["fn:fail", "--max-retry", "25", "--queue", "high"], "high").await;
    assert_eq!(limits, (25.into(), 90.into()));
    let limits = enqueued(&site, &["fn:fail", "--timeout", "5s"], "low").await;
    assert_eq!(limits, (3.into(), 5.into()));
    for (kind, limits) in [
        ("fn:plain", (2.into(), 3600.into())),
        ("task:far", (25.into(), 1800.into())),
    ] {
        assert_eq!(enqueued(&site, &[kind], "default").await, limits, "{kind}");
    }

    for (kind, doubt) in [
        (
            "fail",
            "W215 fail is the name of a function, not a type. (help: Did you mean fn:fail?)",
        ),
        ("fn:fial", "W212 No manifest defines the function fial"),
        ("fn:far", "W213 The function far is run by the handler task:far."),
        ("fn:bad", "W214 manifests/bad.yaml"),
    ] {
        let finished = site.cli(["enqueue", kind]).await.ok();
        assert!(finished.stderr.contains(doubt), "{finished:?}");
        assert!(!finished.stdout.trim().is_empty(), "{finished:?}");
    }
    for kind in ["fn:fail", "task:anything", "echo"] {
        let warnings = site.cli(["enqueue", kind]).await.ok().stderr;
        let only = warnings.lines().all(|line| line.contains("W108 No worker is running"));
        assert!(only, "{kind}: {warnings}");
    }
}

async fn check_warns_about_definitions_that_will_not_run() {
    let site = Site::new("worker: {queues: {default: 1, low: 1}}\n");
    site.write(
        "manifests/a.yaml",
        "name: a\nschedule: '@daily'\nexec: [date]\nqueue: defualt\n",
    );
    site.write(
        "manifests/b.yaml",
        "name: b\nschedule: {at: 2026-01-01T00:00:00Z}\nexec: [date]\nqueue: low\n",
    );
    site.write(
        "manifests/c.yaml",
        "name: c\nschedule: {at: ['2026-01-01T00:00:00Z', '2999-01-01T00:00:00Z']}\nexec: [date]\n",
    );
    site.write("manifests/d.yaml", "name: d\nexec: [date]\nqueue: nowhere\n");
    let findings = json(&site, &["check", "--json"]).await;
    let reported: Vec<String> = findings
        .as_array()
        .unwrap()
        .iter()
        .map(|f| format!("{} {}", f["place"], f["code"]))
        .collect();
    assert_eq!(
        reported,
        [
            "\"manifests/d.yaml:1:1\" \"W201\"",
            "\"manifests/b.yaml:2\" \"W209\"",
            "\"manifests/a.yaml:2\" \"W211\"",
            "\"manifests/d.yaml:1:1\" \"W211\"",
        ],
        "{findings}"
    );
    let said = prints(&site, &["check", "manifests/a.yaml"]).await;
    assert!(said.contains("\"defualt\" is not in worker.queues"), "{said}");
    // A scheduler without worker serves no queue.
    site.write("config.yaml", "roles: [scheduler]\n");
    assert!(!prints(&site, &["check"]).await.contains("W211"));
}

async fn the_zone_of_the_machine_is_never_guessed() {
    let mut site = Site::new("");
    let arguments = ["next", "0 2 * * *", "--from", "2026-06-28T00:00:00Z", "-n", "1"];
    for (tz, time) in [("CST-8", "02:00:00+08"), ("CET-1CEST,M3.5.0,M10.5.0/3", "02:00:00+02")] {
        site.env = vec![("TZ".to_owned(), tz.to_owned())];
        let said = prints(&site, &arguments).await;
        assert!(said.contains(time), "{tz}: {said}");
        assert!(prints(&site, &["check"]).await.contains("0 errors, 0 warnings"));
    }
    site.env = vec![("TZ".to_owned(), "Asia/Shangai".to_owned())];
    let commands: [&[&str]; 3] = [&arguments, &["check"], &["run", "-c", "config.yaml"]];
    for command in commands {
        let ended = site.cli(command).await;
        let said = ended.stdout + &ended.stderr;
        assert!(!ended.status.success(), "{said}");
        assert!(
            said.contains("TZ: CFG_TZ") && said.contains("did you mean TZ=Asia/Shanghai?"),
            "{said}"
        );
    }
    // The setting takes precedence.
    site.write("config.yaml", "server: {timezone: UTC}\n");
    assert!(prints(&site, &["check"]).await.contains("0 errors, 0 warnings"));
}

async fn broken_definitions_are_listed() {
    let site = Site::new("");
    site.write("manifests/a.yaml", "name: good\nschedule: '@daily'\nexec: [date]\n");
    site.write("manifests/bad.yaml", "name: bad\nshedule: '@daily'\nexec: [date]\n");
    site.write("manifests/torn.yaml", "name: torn # yet\nschedule: [\n");
    site.write(
        "manifests/z.yaml",
        "name: good\nexec: [uptime]\n---\nname: other\nexec: [uptime]\n",
    );
    let finished = site.cli(["ls", "schedules", "--json"]).await.ok();
    for words in ["bad.yaml:2:1: E110", "torn.yaml:", "z.yaml:1: E401"] {
        assert!(finished.stderr.contains(words), "{words}: {finished:?}");
    }
    let listed: Value = serde_json::from_str(&finished.stdout).unwrap();
    let shown = |s: &Value| {
        let text = |key: &str| s[key].as_str().unwrap_or("-").to_owned();
        let code = s["problems"][0]["code"].as_str().unwrap_or("-").to_owned();
        let silent = s["next"].as_array().unwrap().is_empty();
        assert_eq!(s["enabled"] == false, silent, "{s}");
        format!("{} {} {} {code}", text("id"), text("name"), text("origin"))
    };
    let shown: Vec<String> = listed.as_array().unwrap().iter().map(shown).collect();
    let expected = [
        "m:good:default good manifests/a.yaml:2 -",
        "- bad manifests/bad.yaml E110",
        "- torn manifests/torn.yaml E100",
        "- good manifests/z.yaml E401",
        "- other manifests/z.yaml E401",
    ];
    assert_eq!(shown, expected);
    let table = prints(&site, &["ls", "schedules"]).await;
    assert_eq!(table.lines().filter(|l| l.contains("broken")).count(), 4, "{table}");
}

async fn an_unreachable_table_is_reported() {
    let port = kit::free_port();
    let site = Site::new(&format!(
        "mysql: {{host: \"127.0.0.1:{port}\", username: u, password: hunter2, database: d}}\n"
    ));
    site.write("manifests/a.yaml", "name: a\nschedule: '@daily'\nexec: [date]\n");
    let finished = site.cli(["ls", "schedules"]).await;
    assert_eq!(finished.status.code(), Some(69), "{finished:?}");
    assert!(finished.stdout.contains("m:a:default"), "{finished:?}");
    let place = format!("mysql:127.0.0.1:{port}/d");
    assert!(
        finished.stderr.contains(&place) && finished.stderr.contains("cannot be read"),
        "{finished:?}"
    );
    assert!(!finished.stderr.contains("hunter2"), "{finished:?}");
    // An unread source must not count as checked.
    let checked = site.cli(["check"]).await;
    assert_eq!(checked.status.code(), Some(69), "{checked:?}");
    assert!(
        checked.stdout.contains(&format!("{place}: warning D109")) && checked.stdout.contains("0 errors"),
        "{checked:?}"
    );
    assert!(checked.stderr.contains("the table could not be checked"), "{checked:?}");
    assert!(
        prints(&site, &["check", "--offline"])
            .await
            .contains("0 errors, 0 warnings")
    );
}

async fn disappearance_of_all_rows_and_files_is_reported() {
    let site = Site::new("");
    prints(&site, &["migrate"]).await;
    let rows = "INSERT INTO sys_crontab (name, type, spec, status) VALUES \
                ('a', 'echo', '0 1 * * *', 1), ('b', 'echo', '0 2 * * *', 1)";
    let table = kit::SqlDb::file(&site.dir.join("data/runner.db"));
    table.execute(rows).await;
    for name in ["x", "y"] {
        site.write(
            &format!("manifests/{name}.yaml"),
            &format!("name: {name}\nschedule: '@daily'\nexec: [date]\n"),
        );
    }
    site.start().await.stop().await;
    table.execute("DELETE FROM sys_crontab").await;
    for name in ["x", "y"] {
        std::fs::remove_file(site.dir.join(format!("manifests/{name}.yaml"))).unwrap();
    }
    let checked = site.cli(["check"]).await;
    assert_eq!(checked.status.code(), Some(65), "{checked:?}");
    let listed = site.cli(["ls", "schedules"]).await.ok();
    for said in [&checked.stdout, &listed.stderr] {
        assert!(said.contains("D110 all 2 rows are gone"), "{said}");
        assert!(said.contains("E410 all 2 files are gone"), "{said}");
    }
    for id in ["db:1", "db:2", "m:x:default", "m:y:default"] {
        assert!(listed.stdout.contains(id), "{listed:?}");
    }
}

async fn commands_outside_the_list_are_named_by_check_and_never_run() {
    let site = Site::new("handlers: {exec: {allowed_commands: [echo, /bin/ech*]}}\n");
    let function = |name: &str, exec: &str| {
        site.write(
            &format!("manifests/{name}.yaml"),
            &format!("name: {name}\nexec: {exec}\n"),
        )
    };
    function("fine", "[echo, hi]");
    function("climbs", "[/bin/../bin/sh, -c, 'touch climbed']");
    function("path", "{command: [echo], env: {PATH: /tmp/evil}}");
    function("preload", "{command: [echo], env: {LD_PRELOAD: /tmp/evil.so}}");
    function("shell", "{command: 'touch shelled', shell: true}");
    let finished = site.cli(["check"]).await;
    assert_eq!(finished.status.code(), Some(65), "{finished:?}");
    let out = finished.stdout;
    for name in ["climbs", "path", "preload", "shell"] {
        assert!(out.contains(&format!("{name}.yaml:2:7: E306 ")), "{name}: {out}");
    }
    assert!(!out.contains("fine.yaml:2") && out.contains("4 errors"), "{out}");
    site.write("config.yaml", "handlers: {exec: {allowed_commands: [bin/echo]}}\n");
    let refused = site.cli(["check"]).await;
    assert_eq!(refused.status.code(), Some(65), "{refused:?}");
    assert!(refused.stdout.contains("CFG_VALUE"), "{refused:?}");
}

async fn check_looks_at_the_rows() {
    let site = Site::new("");
    assert!(prints(&site, &["check"]).await.contains("0 errors, 0 warnings"));
    assert!(!site.dir.join("data/runner.db").exists());
    prints(&site, &["migrate"]).await;
    let insert = "INSERT INTO sys_crontab (name, type, spec, status) VALUES ('r', 'fn:gone', '61 * * * *', 1)";
    kit::SqlDb::file(&site.dir.join("data/runner.db")).execute(insert).await;
    let finished = site.cli(["check"]).await;
    assert_eq!(finished.status.code(), Some(65), "{finished:?}");
    assert!(finished.stdout.contains("sys_crontab id 1: E203"), "{finished:?}");
    let listed = json(&site, &["ls", "schedules", "--json"]).await;
    assert_eq!((&listed[0]["id"], &listed[0]["name"]), (&"db:1".into(), &"r".into()));
    site.write("manifests/a.yaml", "name: a\nschedule: '@daily'\nexec: [date]\n");
    assert!(prints(&site, &["check", "manifests"]).await.contains("0 errors"));
}

async fn check_looks_for_programs_and_the_broker() {
    // A port without a listener.
    let site = Site::new("redis: {host: '127.0.0.1:1'}\ndatabase: {driver: none}\n");
    let text =
        "name: gone\nschedule: '@daily'\nexec: [/no/such/program]\n---\nname: here\nschedule: '@daily'\nexec: [sh]\n";
    site.write("manifests/a.yaml", text);
    let checked = site.cli(["check"]).await;
    assert_eq!(checked.status.code(), Some(69), "{checked:?}");
    assert!(
        checked.stderr.contains("the broker could not be checked"),
        "{checked:?}"
    );
    let out = checked.stdout;
    assert_eq!(out.matches("W302").count(), 1, "{out}");
    assert!(out.contains("/no/such/program") && out.contains("broker_"), "{out}");
    assert!(out.contains("0 errors, 2 warnings"), "{out}");
    let out = prints(&site, &["check", "--offline"]).await;
    assert!(out.contains("0 errors, 0 warnings"), "{out}");
}
