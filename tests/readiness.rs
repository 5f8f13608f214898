//! Ready means that a task would be accepted now. A store that refuses writes is reported once, everywhere that people
//! and machines look, and recovers without help.

use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use crate::cli::{fails, json, prints};
use crate::kit::{self, RedisServer, Runner, Site, eventually_within};

/// For things that are checked every two seconds, on a busy machine.
const SEEN: Duration = Duration::from_secs(40);

/// The log line about a store that refuses writes.
const LOST: &str = "the broker cannot be used; running tasks continue";

/// The manifest of a schedule that writes each second.
const BEAT: &str = "name: beat\nschedule: \"@every 1s\"\nhandler: echo\n";

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): nothing_is_accepted_beside_a_file_that_was_removed, a_damaged_file_is_a_problem_on_the_first_page,
            a_file_that_is_not_a_database_is_refused_with_a_hint, a_backup_of_a_running_store_can_be_started;
        needs(Redis): a_read_only_server_is_reported_once, beside_redis_the_file_of_the_table_need_not_exist,
            a_replica_that_has_key_and_users_writes_to_no_directory;
    ]
}

/// Waits until `/readyz` names this code, and checks every other place that reports it.
async fn unready(runner: &Runner, code: &str) {
    eventually_within(SEEN, code, || async {
        let reply = runner.http.try_get("/readyz").await?;
        let named = reply.status == 503 && reply.body.contains(&format!("\"{code}\""));
        named.then_some(()).ok_or(format!("{}\n{}", reply.body, runner.log()))
    })
    .await;
}

/// The overview, in a language.
async fn first_page(runner: &Runner, language: &str) -> String {
    let request = runner.http.request(reqwest::Method::GET, "/queue");
    let reply = runner.http.send(request.header("accept-language", language)).await;
    reply.unwrap().body
}

/// Waits until a page reports the fault, in both languages.
async fn on_the_first_page(runner: &Runner, code: &str, english: &str, chinese: &str) {
    // Each attempt requests the page again: one may get the page of an unreachable broker, the next a cached one.
    for (language, words) in [("en", english), ("zh", chinese)] {
        eventually_within(SEEN, "a problem on the first page", || async {
            let page = first_page(runner, language).await;
            (page.contains(code) && page.contains(words)).then_some(()).ok_or(page)
        })
        .await;
    }
    eventually_within(SEEN, "the metric says it", || async {
        let metrics = runner.http.get("/metrics").await.body;
        metrics.contains("\nrunner_broker_up 0\n").then_some(()).ok_or(metrics)
    })
    .await;
}

async fn again(runner: &Runner) {
    runner.ready().await;
    eventually_within(SEEN, "the log says that it is over", || async {
        let log = runner.log();
        log.contains("the broker can be used again").then_some(()).ok_or(log)
    })
    .await;
}

async fn nothing_is_accepted_beside_a_file_that_was_removed() {
    let site = Site::new("");
    site.write("manifests/beat.yaml", BEAT);
    let runner = site.start().await;
    let (data, away) = (site.dir.join("data"), site.dir.join("away"));
    fs::create_dir(&away).unwrap();
    let move_all = |from: &std::path::Path, to: &std::path::Path| {
        for file in fs::read_dir(from).unwrap().flatten() {
            if file.file_name().to_string_lossy().starts_with("runner.db") {
                fs::rename(file.path(), to.join(file.file_name())).unwrap();
            }
        }
    };
    move_all(&data, &away);
    unready(&runner, "broker_replaced").await;
    on_the_first_page(&runner, "broker_replaced", "removed or replaced", "删除或替换").await;
    let said = fails(&site, &["enqueue", "echo"], 69).await;
    assert!(said.contains("broker_replaced"), "{said}");
    move_all(&away, &data);
    again(&runner).await;
    assert_eq!(runner.log().matches(LOST).count(), 1, "{}", runner.log());
    let before = prints(&site, &["enqueue", "nosuch"]).await;
    assert!(!before.trim().is_empty());

    fs::remove_dir_all(&data).unwrap();
    unready(&runner, "broker_replaced").await;
    for command in [
        &["enqueue", "echo"][..],
        &["ls", "queues"],
        &["queue", "pause", "default"],
        &["migrate"],
    ] {
        let said = fails(&site, command, 69).await;
        assert!(
            said.contains("broker_replaced") && said.contains("while process"),
            "{said}"
        );
    }
    assert!(!data.join("runner.db").exists());
    runner.stop().await;
    assert!(
        !prints(&site, &["enqueue", "nosuch"]).await.is_empty(),
        "no process has it open any more"
    );
}

async fn a_damaged_file_is_a_problem_on_the_first_page() {
    let site = Site::new("");
    site.write("manifests/beat.yaml", BEAT);
    let runner = site.start().await;
    for _ in 0..3 {
        prints(
            &site,
            &["enqueue", "nosuch", "--payload", &format!("\"{}\"", "x".repeat(60_000))],
        )
        .await;
    }
    assert!(runner.stop().await.success());
    let path = site.dir.join("data/runner.db");
    // The last pages contain tasks: without the pages of its schema the file cannot be opened.
    let pages = fs::metadata(&path).unwrap().len() / 4096;
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    for page in [pages - 12, pages - 10, pages - 5] {
        file.seek(SeekFrom::Start(page * 4096)).unwrap();
        file.write_all(&[0xa5; 4096]).unwrap();
    }
    drop(file);
    let runner = site.launch();
    unready(&runner, "broker_corrupt").await;
    on_the_first_page(&runner, "broker_corrupt", "The store is damaged", "存储已损坏").await;
    let log = runner.log();
    assert!(log.contains(".recover") && log.contains("runner backup"), "{log}");
    runner.kill9();
}

async fn a_file_that_is_not_a_database_is_refused_with_a_hint() {
    let site = Site::new("");
    fs::create_dir(site.dir.join("data")).unwrap();
    fs::write(site.dir.join("data/runner.db"), [0x5a; 9_000]).unwrap();
    for command in [&["run"][..], &["ls", "queues"]] {
        let said = fails(&site, command, 69).await;
        for words in ["broker_corrupt", "restore a backup", ".recover"] {
            assert!(said.contains(words), "{said}");
        }
    }
}

async fn a_backup_of_a_running_store_can_be_started() {
    let site = Site::new("");
    site.write("manifests/beat.yaml", BEAT);
    let runner = site.start().await;
    for _ in 0..5 {
        prints(&site, &["enqueue", "nosuch"]).await;
    }
    let said = prints(&site, &["backup", "copy.db"]).await;
    assert!(
        said.contains("tasks, 0 rows of sys_crontab, ") && said.trim().ends_with("sound"),
        "{said}"
    );
    let said = fails(&site, &["backup", "copy.db"], 2).await;
    assert!(said.contains("never overwrites"), "{said}");
    assert!(runner.stop().await.success());

    let restored = Site::new("");
    fs::create_dir(restored.dir.join("data")).unwrap();
    fs::rename(site.dir.join("copy.db"), restored.dir.join("data/runner.db")).unwrap();
    let queues = json(&restored, &["ls", "queues", "--json"]).await;
    assert!(queues[0]["size"].as_u64() >= Some(5), "{queues}");
    let schedules = json(&restored, &["ls", "schedules", "--json"]).await;
    assert!(schedules.as_array().is_some(), "{schedules}");
}

async fn a_read_only_server_is_reported_once() {
    let server = RedisServer::start(&["--maxmemory-policy", "noeviction"]);
    let db = server.fresh_db();
    let site = Site::new(&format!("{}roles: [web]\n", db.yaml()));
    let mut link = db.connect().await;
    let mut ask = async |words: &[&str]| {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        let _: redis::Value = command.query_async(&mut link).await.unwrap();
    };
    let runner = site.start().await;
    ask(&["CONFIG", "SET", "maxmemory", "1"]).await;
    unready(&runner, "broker_full").await;
    on_the_first_page(&runner, "broker_full", "The broker has no room", "存储空间已满").await;
    ask(&["CONFIG", "SET", "maxmemory", "0"]).await;
    again(&runner).await;
    assert_eq!(runner.log().matches(LOST).count(), 1, "{}", runner.log());

    ask(&["REPLICAOF", "127.0.0.1", "1"]).await;
    unready(&runner, "broker_unavailable").await;
    eventually_within(SEEN, "the cause is reported", || async {
        let log = runner.log();
        (log.matches(LOST).count() == 2 && log.contains("READONLY"))
            .then_some(())
            .ok_or(log)
    })
    .await;
    ask(&["REPLICAOF", "NO", "ONE"]).await;
    again(&runner).await;
    let metrics = runner.http.get("/metrics").await.body;
    assert!(metrics.contains("\nrunner_broker_up 1\n"), "{metrics}");
    assert!(runner.stop().await.success());
    // Probing left nothing behind.
    let left: Vec<String> = redis::cmd("KEYS")
        .arg("*probe*")
        .query_async(&mut db.connect().await)
        .await
        .unwrap();
    assert_eq!(left, Vec::<String>::new());
}

async fn beside_redis_the_file_of_the_table_need_not_exist() {
    let db = kit::redis().fresh_db();
    let mut site = Site::new(&db.yaml());
    // Otherwise the key of sessions would be stored in that directory.
    site.env
        .push(("RUNNER_SERVER_KEY".to_owned(), "0123456789abcdef".repeat(4)));
    let runner = site.start().await;
    let said = runner.http.get("/readyz").await.body;
    assert!(said.contains("not there yet"), "{said}");
    assert!(!site.dir.join("data").exists());
    assert!(!runner.log().contains("ERROR"), "{}", runner.log());
    let said = prints(&site, &["migrate"]).await;
    assert!(said.contains("sys_crontab was made"), "{said}");
    assert!(site.dir.join("data/runner.db").exists());
    assert!(runner.stop().await.success());
    let said = prints(&site, &["backup", "table.db"]).await;
    assert!(said.contains("0 rows of sys_crontab"), "{said}");
}

async fn a_replica_that_has_key_and_users_writes_to_no_directory() {
    let db = kit::redis().fresh_db();
    let mut site = Site::new("");
    let config = "server: {key: \"${file:key}\"}\ndatabase: {driver: none}\n";
    site.write("fixed/config.yaml", &format!("{}{config}", db.yaml()));
    site.write("fixed/key", &"0123456789abcdef".repeat(4));
    site.write("fixed/manifests/beat.yaml", BEAT);
    let fixed = site.dir.join("fixed");
    let mode = |mode| {
        for dir in ["", "manifests"] {
            fs::set_permissions(fixed.join(dir), fs::Permissions::from_mode(mode)).unwrap();
        }
    };
    mode(0o555);
    let users = r#"[{"name": "ann", "password": "hunter2", "role": "admin"}]"#;
    for (name, value) in [
        ("RUNNER_AUTH_USERS", users),
        ("TMPDIR", fixed.to_str().unwrap()),
        ("HOME", fixed.to_str().unwrap()),
    ] {
        site.env.push((name.to_owned(), value.to_owned()));
    }
    // Without capabilities, modes apply to root too.
    let bound = match nix::unistd::geteuid().is_root() {
        true => "cd fixed && exec setpriv --bounding-set -all --inh-caps -all \"$@\"",
        false => "cd fixed && exec \"$@\"",
    };
    let runner = site.launch_by(&["sh", "-c", bound, "sh"]);
    runner.ready().await;
    eventually_within(SEEN, "an occurrence is decided", || async {
        let log = runner.log();
        log.contains("fired schedule=m:beat").then_some(()).ok_or(log)
    })
    .await;
    let page = runner.http.get("/queue/login").await;
    assert_eq!(page.status, 200, "{}", page.body);
    let log = runner.log();
    assert!(!log.contains("ERROR") && !log.contains("no_sealing_key"), "{log}");
    assert!(runner.stop().await.success());
    let names = fs::read_dir(&fixed).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, ["config.yaml", "key", "manifests"]);
    mode(0o755);
}
