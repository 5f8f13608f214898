//! Messages of commands about unexpected situations, and that commands print stored data faithfully.

use crate::cli::{fails, prints};
use crate::kit::{self, RedisServer, Site};

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): a_payload_is_shown_unchanged, a_missing_queue_is_reported, a_refusal_names_the_other_task,
            an_invalid_task_is_refused, reading_commands_create_no_store, a_missing_directory_is_reported,
            a_store_without_a_settings_file_is_questioned, exit_codes_of_backup_tell_causes_apart, output_cannot_steer_a_terminal;
        needs(Redis): a_refusing_redis_is_reported_with_a_fitting_hint;
    ]
}

async fn a_payload_is_shown_unchanged() {
    let site = Site::new("");
    let payload = r#"{"z":12345678901234567890123,"a":1.50}"#;
    prints(&site, &["enqueue", "t", "--id", "a", "--payload", payload]).await;
    for command in [
        &["task", "show", "a"][..],
        &["task", "show", "a", "--json"],
        &["ls", "tasks", "--json"],
    ] {
        let shown = prints(&site, command).await;
        assert!(shown.contains(payload), "{shown}");
    }
}

async fn a_refusing_redis_is_reported_with_a_fitting_hint() {
    let server = RedisServer::start(&["--requirepass", "geheim"]);
    let host = format!("127.0.0.1:{}", server.port);
    let site = Site::new("");
    let said = async |redis: &str| {
        site.write("config.yaml", &format!("redis: {redis}\n"));
        fails(&site, &["ls", "queues"], 69).await
    };
    let (none, unreachable) = (format!("{{host: \"{host}\"}}"), "{url: \"redis://127.0.0.1:1\"}");
    for (redis, words) in [
        (
            none,
            [
                "broker_auth: it asks for a password; set `redis.password`",
                "NOAUTH Authentication required",
            ],
        ),
        (
            format!("{{host: \"{host}\", password: x}}"),
            ["see `redis.username`, `redis.password`", "WRONGPASS"],
        ),
        (
            format!("{{url: \"redis://:x@{host}\"}}"),
            ["see `redis.url`", "WRONGPASS"],
        ),
        (
            format!("{{host: \"{host}\", password: geheim, database: 65535}}"),
            ["see `redis.database`", "out of range"],
        ),
        (
            unreachable.to_owned(),
            ["is it running? `redis.url` says where", "refused"],
        ),
    ] {
        let error = said(&redis).await;
        assert!(words.iter().all(|part| error.contains(part)), "{redis}: {error}");
        assert_eq!(error.contains("running"), redis == unreachable, "{redis}: {error}");
    }
    // The server's own text names the command, and in newer versions the user.
    let mut link = kit::link_to(&format!("redis://:geheim@{host}")).await.unwrap();
    let rights = ["SETUSER", "shop", "on", ">pw", "~*", "&*", "+@connection"];
    let _: () = redis::cmd("ACL").arg(&rights).query_async(&mut link).await.unwrap();
    let error = said(&format!("{{host: \"{host}\", username: shop, password: pw}}")).await;
    assert!(error.contains("NOPERM") && error.contains("ACL SETUSER"), "{error}");
    assert!(error.contains("'script"), "{error}");
}

async fn a_missing_queue_is_reported() {
    let site = Site::new("worker: {queues: {default: 1, low: 1}}\n");
    assert_eq!(prints(&site, &["ls", "tasks"]).await.lines().count(), 1);
    let error = fails(&site, &["ls", "tasks", "--queue", "nosuch"], 1).await;
    assert!(error.contains("no queue nosuch"), "{error}");
    let stderr_of = async |arguments: &[&str]| site.cli(arguments).await.ok().stderr;
    let warning = stderr_of(&["enqueue", "t", "--queue", "low"]).await;
    assert!(
        warning.contains("W108 No worker is running") && !warning.contains("W109"),
        "{warning}"
    );
    let warning = stderr_of(&["enqueue", "t", "--queue", "lwo"]).await;
    assert!(
        warning.contains("the queue lwo is new") && warning.contains("Did you mean low?"),
        "{warning}"
    );
    site.write("manifests/a.yaml", "name: nightly\nexec: [\"true\"]\n");
    let warning = stderr_of(&["enqueue", "fn:nigthly"]).await;
    assert!(warning.contains("Did you mean fn:nightly?"), "{warning}");
    let runner = site.start().await;
    kit::eventually("the server is listed", async || {
        let servers = prints(&site, &["ls", "servers"]).await;
        if servers.lines().count() > 1 {
            Ok(())
        } else {
            Err(servers)
        }
    })
    .await;
    let warning = stderr_of(&["enqueue", "t", "--queue", "nobodys"]).await;
    assert!(
        warning.contains("W211 No live server serves the queue nobodys"),
        "{warning}"
    );
    assert!(!stderr_of(&["enqueue", "t", "--queue", "low"]).await.contains("W211"));
    assert!(runner.stop().await.success());
}

async fn a_refusal_names_the_other_task() {
    let site = Site::new("");
    prints(&site, &["enqueue", "t", "--id", "a", "--unique", "1h"]).await;
    let error = fails(&site, &["enqueue", "t", "--unique", "1h"], 1).await;
    assert!(
        error.contains("task already exists: a in queue default (pending) holds the lock"),
        "{error}"
    );
    let error = fails(&site, &["enqueue", "other", "--id", "a"], 1).await;
    assert!(
        error.contains("conflicts with another task: a in queue default (pending)"),
        "{error}"
    );
}

async fn an_invalid_task_is_refused() {
    let site = Site::new("");
    for (option, value, part) in [
        ("--timeout", "500ms", "at least 1s"),
        ("--timeout", "1500ms", "a fraction would be dropped"),
        ("--retention", "500ms", "at least 1s"),
        ("--unique", "500ms", "at least 1s"),
        ("--in", "-5s", "must not be negative"),
        ("--max-retry", "-1", "must not be negative"),
    ] {
        let error = fails(&site, &["enqueue", "t", option, value], 2).await;
        assert!(
            error.contains(part) && !error.contains("tip:"),
            "{option} {value}: {error}"
        );
    }
    let late = ["enqueue", "t", "--deadline", "2020-01-01T00:00:00Z"];
    let error = fails(&site, &late, 65).await;
    assert!(error.contains("has passed"), "{error}");
    let never = [
        "enqueue",
        "t",
        "--deadline",
        "2999-01-01T00:00:00Z",
        "--at",
        "2999-01-02T00:00:00Z",
    ];
    let error = fails(&site, &never, 65).await;
    assert!(error.contains("is before its start"), "{error}");
}

async fn output_cannot_steer_a_terminal() {
    let site = Site::new("");
    let evil = "\x1b]0;x\x07\x1b[2J\u{202e}";
    site.write("manifests/a\nERROR b\x1b[31m.yaml", "name: [\n");
    let checked = site.cli(["check"]).await;
    assert!(checked.stdout.contains("a␊ERROR b␛[31m.yaml:"), "{}", checked.stdout);
    site.remove("manifests/a\nERROR b\x1b[31m.yaml");
    prints(&site, &["migrate"]).await;
    let row = format!(
        "INSERT INTO sys_crontab (name, type, spec, status) VALUES ('{evil}nightly\nERROR forged', 'echo', '0 0 * * *', 1)"
    );
    kit::SqlDb::file(&site.dir.join("data/runner.db")).execute(&row).await;
    let payload = format!("\"{}\"", "p\u{202e}q\u{2028}");
    prints(&site, &["enqueue", "echo", "--id", "x", "--payload", &payload]).await;
    let mut said = checked.stdout;
    for command in [
        &["ls", "schedules"][..],
        &["ls", "schedules", "--json"],
        &["ls", "tasks", "--json"],
        &["task", "show", "x"],
        &["task", "show", "x", "--json"],
    ] {
        let shown = prints(&site, command).await;
        if command.contains(&"--json") {
            serde_json::from_str::<serde_json::Value>(&shown).expect("JSON");
        }
        said += &shown;
    }
    for command in [
        &["task", "show", evil][..],
        &["ls", evil],
        &["next", evil],
        &["check", evil],
    ] {
        let failed = site.cli(command).await;
        said += &(failed.stdout + &failed.stderr);
    }
    let runner = site.start().await;
    let greeting = kit::eventually("it has said what fires next", async || {
        let log = runner.log();
        if log.contains("nightly␊ERROR forged") {
            Ok(log)
        } else {
            Err(log)
        }
    })
    .await;
    said += &greeting;
    let loud = |c: &char| c.is_control() && *c != '\n' || matches!(c, '\u{2028}'..='\u{202e}');
    assert_eq!(said.chars().find(loud), None, "{said:?}");
}

async fn reading_commands_create_no_store() {
    let site = Site::new("");
    site.write(
        "manifests/a.yaml",
        "name: a\nschedule: '@daily'\nexec: ['true']\nretry: 0\ntimeout: 1m\n",
    );
    for (arguments, expected) in [
        (&["ls", "queues"][..], 0),
        (&["ls", "tasks"], 0),
        (&["ls", "servers"], 0),
        (&["ls", "schedules"], 0),
        (&["schedule", "show", "a"], 0),
        (&["schedule", "resume", "a"], 0),
        (&["task", "show", "x"], 1),
        (&["task", "run", "x"], 1),
        (&["task", "delete", "x"], 1),
        (&["queue", "history", "default"], 1),
        (&["queue", "rm", "default"], 1),
        (&["queue", "pause", "default"], 1),
        (&["queue", "resume", "default"], 1),
        (&["schedule", "pause", "none"], 1),
        (&["schedule", "run", "none"], 1),
        (&["backup", "copy.db"], 69),
        (&["check"], 0),
    ] {
        let finished = site.cli(arguments).await;
        assert_eq!(crate::cli::code(&finished), expected, "{arguments:?}: {finished:?}");
        assert!(!site.dir.join("data").exists(), "{arguments:?} made a store");
    }
    let said = site.cli(["ls", "queues"]).await.stderr;
    assert!(said.contains("there is no store at") && said.contains("data"), "{said}");

    // Equivalent from another directory: paths are relative to the directory of the file.
    let elsewhere = Site::new("");
    let config = site.dir.join("config.yaml");
    let config = config.to_str().expect("a path that is text");
    prints(&elsewhere, &["enqueue", "echo", "-c", config]).await;
    assert!(site.dir.join("data").exists() && !elsewhere.dir.join("data").exists());
    assert!(prints(&site, &["ls", "tasks"]).await.contains("echo"));
}

async fn a_missing_directory_is_reported() {
    let site = Site::new("");
    std::fs::remove_dir(site.dir.join("manifests")).expect("an empty directory");
    let out = prints(&site, &["check"]).await;
    assert!(out.contains("W107") && out.contains("`runner init`"), "{out}");
    let said = site.cli(["ls", "schedules"]).await.stderr;
    assert!(said.contains("W107") && said.contains("`runner init`"), "{said}");
    let said = fails(&site, &["schedule", "show", "a"], 1).await;
    assert!(said.contains("W107") && said.contains("`runner init`"), "{said}");
}

async fn a_store_without_a_settings_file_is_questioned() {
    let site = Site::new("");
    let said = site.cli(["ls", "tasks"]).await.stderr;
    assert!(
        said.contains("there is no store at") && !said.contains("-c FILE"),
        "{said}"
    );
    site.remove("config.yaml");
    let said = site.cli(["ls", "tasks"]).await.ok().stderr;
    assert!(
        said.contains("there is no store at") && said.contains("-c FILE"),
        "{said}"
    );
    let said = site.cli(["enqueue", "echo"]).await.ok().stderr;
    assert!(
        said.contains("a new store was made") && said.contains("-c FILE"),
        "{said}"
    );
    let said = site.cli(["enqueue", "echo"]).await.ok().stderr;
    assert!(
        said.contains("no worker runs on the store") && said.contains("-c FILE"),
        "{said}"
    );
}

/// Exit codes by which a backup script can tell causes apart.
async fn exit_codes_of_backup_tell_causes_apart() {
    let site = Site::new("");
    prints(&site, &["migrate"]).await;
    assert!(prints(&site, &["backup", "copy.db"]).await.contains("sound"));
    fails(&site, &["backup"], 2).await;
    for (target, why) in [
        ("copy.db", "it exists"),
        ("nowhere/copy.db", "directory does not exist"),
    ] {
        let said = fails(&site, &["backup", target], 2).await;
        assert!(said.contains(why), "{said}");
    }
    site.remove("data/runner.db");
    let said = fails(&site, &["backup", "other.db"], 69).await;
    assert!(said.contains("there is no store at"), "{said}");
    site.write("config.yaml", "redis: {host: 127.0.0.1:1}\n");
    let said = fails(&site, &["backup", "other.db"], 1).await;
    assert!(said.contains("tasks are in Redis"), "{said}");
}
