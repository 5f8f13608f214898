//! Schedules come and go while the program runs: as files, and as rows of `sys_crontab`.
//!
//! Each story runs in three set-ups: everything in one SQLite file; Redis with MariaDB; Redis with PostgreSQL.
//! Functions append a line to a file when they run, so that the tests do not depend on the program's own reports.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::kit::{self, Need, Runner, Site, SqlDb, eventually, eventually_within};

/// Every story in every set-up.
pub fn tests() -> Vec<kit::Trial> {
    let mut all = Vec::new();
    for (name, setup, needs) in [
        ("embedded", Setup::Embedded, &[][..]),
        ("redis_mariadb", Setup::RedisMariaDb, &[Need::Redis, Need::MariaDb][..]),
        (
            "redis_postgres",
            Setup::RedisPostgres,
            &[Need::Redis, Need::Postgres][..],
        ),
    ] {
        let story = |story: &str| format!("story_sources::{name}::{story}");
        all.push(kit::trial(
            story("a_manifest_is_added_broken_repaired_moved_and_deleted"),
            needs,
            move || manifest(setup),
        ));
        all.push(kit::trial(
            story("a_row_is_inserted_changed_disabled_and_deleted"),
            needs,
            move || row(setup),
        ));
        all.push(kit::trial(story("a_signal_syncs_at_once"), needs, move || {
            signal(setup)
        }));
    }
    all.extend(kit::trials![
        needs(): a_file_that_is_broken_at_a_restart_is_in_force_as_it_was;
        needs(MariaDb, Redis): an_unreachable_mariadb_stops_nothing_else;
        needs(Postgres, Redis): an_unreachable_postgres_stops_nothing_else;
        needs(Redis): a_redis_that_is_away_is_waited_for;
    ]);
    all
}

#[derive(Debug, Clone, Copy)]
enum Setup {
    Embedded,
    RedisMariaDb,
    RedisPostgres,
}

/// A function that appends to the file `ran` each second.
fn beat(word: &str) -> String {
    format!(
        "name: beat\nschedule: \"* * * * * *\"\nexec: {{shell: true, command: \"echo {word} >> ran\", cwd: \"$DIR\"}}\n"
    )
}

/// A function for rows; it appends its payload as a line.
const NOTE: &str = "name: note\nexec: {shell: true, command: \"cat >> noted; echo >> noted\", cwd: \"$DIR\"}\n";

/// A function that ticks, for stories in which something else must *not* happen.
const TICK: &str =
    "name: tick\nschedule: \"* * * * * *\"\nexec: {shell: true, command: \"echo tick >> ticks\", cwd: \"$DIR\"}\n";

/// A program with its table, started.
struct StoryRun {
    site: Site,
    table: SqlDb,
    runner: Runner,
}

impl StoryRun {
    async fn start(setup: Setup, sync: &str) -> Self {
        let site = Site::new("");
        let (stores, table) = match setup {
            Setup::Embedded => (String::new(), SqlDb::file(&site.dir.join("data/runner.db"))),
            Setup::RedisMariaDb => stores(kit::mariadb().fresh_db().await),
            Setup::RedisPostgres => stores(kit::postgres().fresh_db().await),
        };
        site.write("config.yaml", &format!("db: {{sync_interval: {sync}}}\n{stores}"));
        site.cli(["migrate", "-c", "config.yaml"]).await.ok();
        site.write("manifests/note.yaml", &here(&site, NOTE));
        site.write("manifests/tick.yaml", &here(&site, TICK));
        let runner = site.start().await;
        Self { site, table, runner }
    }

    /// Writes a manifest.
    fn write(&self, file: &str, text: &str) {
        self.site.write(&format!("manifests/{file}"), &here(&self.site, text));
    }

    /// Waits until `line` occurs in `file` `more` times more often than now.
    async fn more(&self, file: &str, line: &str, more: usize) {
        let goal = count(&self.site, file, line) + more;
        let what = format!("{goal} lines {line:?} in {file}");
        eventually_within(Duration::from_secs(20), &what, async || {
            let (found, tail) = (lines(&self.site, file), self.runner.child.tail());
            let written = found.iter().filter(|other| *other == line).count();
            if written >= goal {
                Ok(())
            } else {
                Err(format!("{written} of them, last {:?}\n{tail}", found.last()))
            }
        })
        .await;
    }

    /// Waits until the listing of schedules, as JSON and with its problems, satisfies `look`.
    async fn listed(&self, what: &str, look: impl Fn(&str) -> bool) {
        eventually(what, async || {
            let listing = self.site.cli(["ls", "schedules", "-c", "config.yaml", "--json"]).await;
            if look(&format!("{}{}", listing.stdout, listing.stderr)) {
                Ok(())
            } else {
                Err(format!("{}\n{}", listing.stdout, listing.stderr))
            }
        })
        .await;
    }

    /// Waits until the page of schedules satisfies `look`.
    async fn shown(&self, what: &str, look: impl Fn(&str) -> bool) {
        eventually(what, async || {
            let page = self.runner.http.try_get("/queue/schedules").await?;
            if page.status == 200 && look(&page.body) {
                Ok(())
            } else {
                Err(format!("{}: {}", page.status, page.body))
            }
        })
        .await;
    }

    /// Asserts that nothing is written to `file` while the ticker ticks three times.
    ///
    /// Work in progress may still finish: the first tick is awaited.
    async fn silent(&self, file: &str) {
        self.more("ticks", "tick", 2).await;
        let before = lines(&self.site, file);
        self.more("ticks", "tick", 3).await;
        assert_eq!(
            lines(&self.site, file),
            before,
            "{file} should rest\n{}",
            self.runner.child.tail()
        );
    }
}

fn stores(table: SqlDb) -> (String, SqlDb) {
    let redis = kit::redis().fresh_db().yaml();
    (format!("{redis}database: {{url: \"{}\"}}\n", table.url()), table)
}

fn here(site: &Site, text: &str) -> String {
    text.replace("$DIR", &site.dir.display().to_string())
}

fn lines(site: &Site, file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(site.dir.join(file)).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn count(site: &Site, file: &str, line: &str) -> usize {
    lines(site, file).iter().filter(|other| *other == line).count()
}

async fn manifest(setup: Setup) {
    let run = StoryRun::start(setup, "1s").await;

    run.write("beat.yaml", &beat("one"));
    run.more("ran", "one", 2).await;
    run.listed("beat is listed", |listing| listing.contains("m:beat:default"))
        .await;

    // A broken file: the last good version stays in force, and the error is shown with its place.
    run.write(
        "beat.yaml",
        &beat("broken")
            .replace("* * * * * *", "* * 25 * *")
            .replace("schedule", "shedule"),
    );
    let shown = |text: &str| text.contains("E110") && text.contains("shedule");
    run.listed("the error is listed", shown).await;
    run.shown("the error is on the page", shown).await;
    run.more("ran", "one", 2).await;

    run.write("beat.yaml", &beat("two"));
    run.more("ran", "two", 2).await;
    run.shown("the error is gone from the page", |page| !page.contains("E110"))
        .await;
    let ran = lines(&run.site, "ran");
    let repaired = ran.iter().position(|line| line == "two").expect("it ran");
    assert!(
        ran[repaired..].iter().all(|line| line == "two"),
        "the old version ran after the new one: {ran:?}"
    );
    assert!(!ran.contains(&"broken".to_owned()), "the broken version ran: {ran:?}");

    // Another file name is the same function.
    std::fs::rename(
        run.site.dir.join("manifests/beat.yaml"),
        run.site.dir.join("manifests/moved.yaml"),
    )
    .unwrap();
    run.more("ran", "two", 2).await;
    run.listed("it is listed once, at its new place", |listing| {
        listing.contains("moved.yaml") && !listing.contains("beat.yaml")
    })
    .await;

    run.site.remove("manifests/moved.yaml");
    run.shown("it is gone from the page", |page| !page.contains("m:beat:default"))
        .await;
    run.silent("ran").await;
}

async fn row(setup: Setup) {
    let run = StoryRun::start(setup, "500ms").await;
    let sql = async |statement: &str| run.table.execute(statement).await;

    sql("INSERT INTO sys_crontab (name, type, spec, payload, status) VALUES ('每秒', 'fn:note', '* * * * * *', '{\"n\": 1}', 1)").await;
    run.more("noted", "{\"n\": 1}", 2).await;
    run.shown("the row is on the page", |page| page.contains("每秒")).await;

    // A broken rule: the last good version stays in force.
    sql("UPDATE sys_crontab SET spec = '99 * * * *'").await;
    run.shown("the error is on the page", |page| page.contains("E203"))
        .await;
    run.more("noted", "{\"n\": 1}", 2).await;

    sql("UPDATE sys_crontab SET spec = '* * * * * *', payload = '{\"n\": 2}'").await;
    run.more("noted", "{\"n\": 2}", 2).await;

    sql("UPDATE sys_crontab SET status = 0").await;
    run.silent("noted").await;

    sql("UPDATE sys_crontab SET status = 1").await;
    run.more("noted", "{\"n\": 2}", 2).await;

    sql("DELETE FROM sys_crontab").await;
    run.shown("the row is gone from the page", |page| !page.contains("每秒"))
        .await;
    run.silent("noted").await;
}

async fn signal(setup: Setup) {
    // Long enough that only the signal can be the reason.
    let run = StoryRun::start(setup, "1h").await;
    run
        .table
        .execute("INSERT INTO sys_crontab (name, type, spec, payload, status) VALUES ('a', 'fn:note', '* * * * * *', 'null', 1)")
        .await;
    run.silent("noted").await;
    run.runner.signal(Signal::SIGUSR1);
    run.more("noted", "null", 2).await;
}

async fn an_unreachable_mariadb_stops_nothing_else() {
    away(kit::mariadb().fresh_db().await).await;
}

async fn an_unreachable_postgres_stops_nothing_else() {
    away(kit::postgres().fresh_db().await).await;
}

/// The database is unreachable at the start, comes, goes, and comes again.
async fn away(table: SqlDb) {
    let site = Site::new(&format!("database: {{url: \"{}\"}}\n", table.url()));
    site.cli(["migrate", "-c", "config.yaml"]).await.ok();
    let line = kit::Forward::start("127.0.0.1:0", table.port).await;
    let redis = kit::redis().fresh_db().yaml();
    let through = table.url_at(line.address.port());
    site.write(
        "config.yaml",
        &format!("{redis}db: {{sync_interval: 500ms}}\ndatabase: {{url: \"{through}\"}}\n"),
    );
    site.write("manifests/note.yaml", &here(&site, NOTE));
    site.write("manifests/tick.yaml", &here(&site, TICK));
    table
        .execute("INSERT INTO sys_crontab (name, type, spec, payload, status) VALUES ('a', 'fn:note', '* * * * * *', '1', 1)")
        .await;

    line.cut();
    let runner = site.launch();
    let run = StoryRun { site, table, runner };
    run.more("ticks", "tick", 2).await;
    run.shown("the page says that the table is away", |page| page.contains("Failing"))
        .await;
    assert_eq!(lines(&run.site, "noted"), Vec::<String>::new());

    line.heal();
    run.more("noted", "1", 2).await;

    // Rows that were read stay in force while the database is unreachable.
    line.cut();
    run.more("ticks", "tick", 2).await;
    run.more("noted", "1", 2).await;

    line.heal();
    run.table.execute("UPDATE sys_crontab SET payload = '2'").await;
    run.more("noted", "2", 2).await;

    // A restart while it is unreachable.
    line.cut();
    let StoryRun { site, table, runner } = run;
    runner.stop().await;
    let runner = site.launch();
    let run = StoryRun { site, table, runner };
    run.more("noted", "2", 2).await;
    run.shown("the page says that rows were restored", |page| page.contains("D112"))
        .await;
}

/// A valid file breaks, and the process restarts before it is repaired.
async fn a_file_that_is_broken_at_a_restart_is_in_force_as_it_was() {
    let run = StoryRun::start(Setup::Embedded, "1s").await;
    run.write("beat.yaml", &beat("one"));
    run.more("ran", "one", 1).await;
    let StoryRun { site, table, runner } = run;
    runner.stop().await;
    let broken = here(&site, &beat("broken").replace("schedule", "shedule"));
    site.write("manifests/beat.yaml", &broken);
    let runner = site.start().await;
    let run = StoryRun { site, table, runner };
    run.more("ran", "one", 2).await;
    let listed =
        |text: &str| text.contains("E110") && text.contains("W104") && text.contains("its last good version, of ");
    run.listed("the last good version is listed as such", listed).await;
    let table = run.site.cli(["ls", "schedules", "-c", "config.yaml"]).await.ok();
    let row = table.stdout.lines().find(|line| line.starts_with("m:beat:default"));
    assert!(row.is_some_and(|row| row.contains("last good")), "{}", table.stdout);
    let page = run.runner.http.get("/queue/schedules").await.body;
    assert!(page.contains("its last good version, of "), "{page}");
    let log = run.runner.log();
    assert!(log.contains("manifests_restored") && log.contains("E110"), "{log}");
    run.write("beat.yaml", &beat("two"));
    run.more("ran", "two", 1).await;
    run.listed("the warning is gone", |text| {
        !text.contains("W104") && !text.contains("E110")
    })
    .await;
}

/// Redis is unreachable at the start, comes, goes, and comes again; the process stays.
async fn a_redis_that_is_away_is_waited_for() {
    let db = kit::redis().fresh_db();
    let line = kit::Forward::start("127.0.0.1:0", db.port).await;
    let through = kit::RedisDb {
        port: line.address.port(),
        ..db
    };
    let site = Site::new(&through.yaml());
    site.write("manifests/tick.yaml", &here(&site, TICK));
    line.cut();
    let runner = site.launch();
    let table = SqlDb::file(&site.dir.join("data/runner.db"));
    let run = StoryRun { site, table, runner };
    let answers = async |path: &str, status: u16| {
        eventually(&format!("{path} answers {status}"), async || {
            let reply = run.runner.http.try_get(path).await?;
            if reply.status == status {
                Ok(())
            } else {
                Err(format!("{}: {}", reply.status, reply.body))
            }
        })
        .await;
    };
    answers("/readyz", 503).await;

    line.heal();
    run.more("ticks", "tick", 2).await;
    answers("/readyz", 200).await;

    line.cut();
    answers("/readyz", 503).await;
    line.heal();
    run.more("ticks", "tick", 2).await;
    answers("/readyz", 200).await;
    assert!(run.runner.stop().await.success());
}
