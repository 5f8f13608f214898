//! `runner schedule` beside a running program: show, run, pause and resume; and the output of `runner task show` about a
//! run.

use std::time::Duration;

use crate::cli::{fails, prints};
use crate::kit::{self, Site};

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![needs(): a_schedule_is_paused_and_resumed, a_manual_run_shows_its_output,
        a_row_with_errors_is_shown;]
}

/// A program with one function that is due once a year.
async fn started() -> (Site, kit::Runner) {
    let site = Site::new("");
    site.write(
        "manifests/backup.yaml",
        "name: backup\nschedule: \"0 3 1 1 *\"\nexec: {command: [sh, -c, \"echo dumping; echo all done\"]}\n",
    );
    let runner = site.start().await;
    (site, runner)
}

async fn a_schedule_is_paused_and_resumed() {
    let (site, runner) = started().await;
    let note = "the disks of the second rack are replaced by larger ones, see the calendar of the week";
    let said = prints(&site, &["schedule", "pause", "backup", "--for", "8h", "--note", note]).await;
    assert!(said.starts_with("m:backup:default is paused until "), "{said}");
    let shown = prints(&site, &["schedule", "show", "backup"]).await;
    assert!(
        shown.contains(note) && shown.contains(", until "),
        "the end and the whole note: {shown}"
    );
    let past = ["schedule", "pause", "backup", "--until", "2020-01-01T00:00:00Z"];
    let error = fails(&site, &past, 2).await;
    assert!(error.contains("--until must be in the future"), "{error}");

    let resume = ["schedule", "resume", "m:backup:default"];
    assert_eq!(
        prints(&site, &resume).await,
        "m:backup:default is resumed from now on\n"
    );
    assert_eq!(prints(&site, &resume).await, "m:backup:default is not paused\n");
    let error = fails(&site, &["schedule", "show", "backups"], 1).await;
    assert!(error.contains("runner ls schedules"), "{error}");
    runner.stop().await;
}

async fn a_manual_run_shows_its_output() {
    let (site, runner) = started().await;
    let id = prints(&site, &["schedule", "run", "backup"]).await;
    let id = id.trim();
    // A successful task is deleted; its record stays.
    shows(&site, id, &["\nOUTPUT\n", "dumping\n", "all done\n", "manual"]).await;
    let history = prints(&site, &["schedule", "show", "backup"]).await;
    assert!(history.contains("manual") && history.contains(id), "{history}");
    let listed = crate::cli::json(&site, &["ls", "schedules", "--json"]).await;
    assert_eq!(
        (&listed[0]["last_by_hand"]["task"], &listed[0]["last"]),
        (&id.into(), &().into())
    );
    let at = listed[0]["last_by_hand"]["at"].as_str().expect("an instant").to_owned();
    let table = prints(&site, &["ls", "schedules"]).await;
    assert!(table.lines().any(|line| line.ends_with(&at)), "{at}: {table}");

    let kept = ["enqueue", "fn:backup", "--id", "kept", "--retention", "1h"];
    prints(&site, &kept).await;
    shows(&site, "kept", &["\nOUTPUT OF ATTEMPT 1\n", "dumping\n", "all done\n"]).await;
    runner.stop().await;
}

async fn a_row_with_errors_is_shown() {
    let site = Site::new("");
    prints(&site, &["migrate"]).await;
    let rows = "INSERT INTO sys_crontab (id, name, type, spec, status) VALUES (7, 'report', 't', '61 * * * *', 1)";
    kit::SqlDb::file(&site.dir.join("data/runner.db")).execute(rows).await;
    for name in ["db:7", "report"] {
        let shown = prints(&site, &["schedule", "show", name]).await;
        for words in [
            "db:7",
            "broken; no schedule of it is in force",
            "sys_crontab id 7",
            "E203",
        ] {
            assert!(shown.contains(words), "{name}: {words}: {shown}");
        }
    }
    let object = crate::cli::json(&site, &["schedule", "show", "db:7", "--json"]).await;
    assert_eq!((&object["id"], &object["state"]), (&"db:7".into(), &"broken".into()));
    assert_eq!(object["problems"][0]["code"], "E203");
    for verb in ["run", "pause"] {
        let error = fails(&site, &["schedule", verb, "db:7"], 1).await;
        assert!(error.contains("has errors") && error.contains("E203"), "{error}");
    }
}

/// Waits until `task show` prints all of these.
async fn shows(site: &Site, id: &str, wanted: &[&str]) {
    kit::eventually_within(Duration::from_secs(20), "what it printed is shown", async || {
        let shown = site.cli(["task", "show", id]).await;
        let text = shown.stdout.clone();
        if wanted.iter().all(|part| text.contains(part)) {
            Ok(())
        } else {
            Err(text + &shown.stderr)
        }
    })
    .await;
}
