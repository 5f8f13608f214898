//! Triggers that watch directories: the whole program, on the embedded broker.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::kit::{self, Site, eventually_within};

/// The tests of this module.
pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): a_file_becomes_one_task_and_leaves_by_how_that_ended, a_failed_task_that_is_run_again_has_its_file,
            planted_things_are_reported_once_and_stop_no_file,
            a_directory_that_is_not_there_is_a_problem_and_comes_back,
            kills_and_a_second_instance_start_no_file_twice;
    ]
}

const PATIENCE: Duration = Duration::from_secs(60);

/// A site whose function takes files from `in`, which is made, and appends their names to `ran`.
fn site(config: &str) -> (Site, PathBuf) {
    let site = Site::new(config);
    let dir = site.dir.join("in");
    fs::create_dir_all(&dir).unwrap();
    let (path, ran) = (dir.display(), site.dir.join("ran"));
    let script = format!(
        "file=$(sed -E 's/.*\"path\":\"([^\"]*)\".*/\\1/'); basename \"$file\" >> {}; ! grep -q bad \"$file\"",
        ran.display()
    );
    let text = format!(
        "name: take\nretry: 20\nexec:\n  script: |\n    {script}\n  exit_codes: {{fatal: [1]}}\ntriggers:\n  - id: in\n    file: {{dir: {path}, pattern: '*.csv', stable: 1s}}\n"
    );
    site.write("manifests/a.yaml", &text);
    (site, dir)
}

async fn there(path: &Path) {
    eventually_within(PATIENCE, "the file has moved", async || {
        path.exists()
            .then_some(())
            .ok_or_else(|| format!("{} is not there", path.display()))
    })
    .await;
}

async fn a_file_becomes_one_task_and_leaves_by_how_that_ended() {
    let (site, dir) = site("");
    let runner = site.start().await;
    fs::write(dir.join("good.csv"), "1").unwrap();
    fs::write(dir.join("wrong.csv"), "bad").unwrap();
    fs::write(dir.join("other.txt"), "1").unwrap();
    std::os::unix::fs::symlink("/etc/passwd", dir.join("link.csv")).unwrap();
    there(&dir.join("done/good.csv")).await;
    there(&dir.join("failed/wrong.csv")).await;
    assert!(dir.join("other.txt").exists() && dir.join("link.csv").is_symlink());
    let state = eventually_within(PATIENCE, "the counts are shown", async || {
        let listed = site.cli(["ls", "triggers", "--json"]).await.json();
        let own = listed[0].clone();
        match &own["instances"][0] {
            state if state["enqueued"] == 2 && state["bad"] == 1 && state["unacked"] == 0 => Ok(own),
            state => Err(format!("{state}")),
        }
    })
    .await;
    assert_eq!(state["kind"], "file");
    let runs = site.cli(["runs", "take", "--json"]).await.json();
    let found = dir.join("wrong.csv").display().to_string();
    let own = runs
        .as_array()
        .unwrap()
        .iter()
        .find(|run| run["event"] == found.as_str());
    let own = own.unwrap_or_else(|| panic!("{runs}"));
    assert_eq!(own["trigger"], "file", "the run names the file where it was found");
    assert!(state["listens_to"].as_str().unwrap().ends_with("in/*.csv"), "{state}");
    assert!(runner.stop().await.success());
}

/// The archived tasks, once there are this many.
async fn archived(site: &Site, count: usize) -> Vec<Value> {
    eventually_within(PATIENCE, "the tasks are archived", async || {
        let listed = site.cli(["ls", "tasks", "--state", "archived", "--json"]).await.json();
        let all = listed.as_array().cloned().unwrap_or_default();
        (all.len() == count).then_some(all).ok_or_else(|| listed.to_string())
    })
    .await
}

async fn a_failed_task_that_is_run_again_has_its_file() {
    let (site, dir) = site("");
    let runner = site.start().await;
    let failed = dir.join("failed/wrong.csv");
    fs::write(dir.join("wrong.csv"), "bad").unwrap();
    there(&failed).await;
    let id = archived(&site, 1).await[0]["id"].as_str().unwrap().to_owned();
    let ran = || fs::read_to_string(site.dir.join("ran")).unwrap().lines().count();
    assert_eq!(ran(), 1);
    // What was wrong is not the file, which is as it was.
    let script = fs::read_to_string(site.dir.join("manifests/a.yaml")).unwrap();
    site.write("manifests/a.yaml", &script.replace("! grep -q bad", "grep -q bad"));
    eventually_within(PATIENCE, "it succeeds with its file", async || {
        if dir.join("done/wrong.csv").exists() {
            return Ok(());
        }
        // Once more if it ran before the edit was read, and failed again.
        let task = site.cli(["task", "show", &id, "--json"]).await.json();
        if task["state"] == "archived" {
            site.cli(["task", "run", &id]).await.ok();
        }
        Err(task.to_string())
    })
    .await;
    assert!(!failed.exists() && ran() >= 2, "it was taken from there");
    // A file that was changed since may be another one: the task says so and does not run.
    site.write("manifests/a.yaml", &script);
    fs::write(dir.join("other.csv"), "bad").unwrap();
    let other = dir.join("failed/other.csv");
    there(&other).await;
    archived(&site, 1).await;
    fs::write(&other, "bad as well").unwrap();
    let before = ran();
    let id = archived(&site, 1).await[0]["id"].as_str().unwrap().to_owned();
    site.cli(["task", "run", &id]).await.ok();
    eventually_within(PATIENCE, "the task says why", async || {
        let task = site.cli(["task", "show", &id, "--json"]).await.json();
        let why = task["last_error"].as_str().unwrap_or_default().to_owned();
        match why.contains("failed/other.csv is of another size or time") && why.contains("which starts a new task") {
            true => Ok(()),
            false => Err(why),
        }
    })
    .await;
    assert!(other.exists() && ran() == before, "its handler did not run");
    assert!(runner.stop().await.success());
}

async fn planted_things_are_reported_once_and_stop_no_file() {
    let (site, dir) = site("");
    let work = dir.join(".runner/take:in");
    fs::create_dir_all(&work).unwrap();
    let token = |first: char| work.join(format!("{first}{}", "0".repeat(32)));
    fs::write(token('p'), "").unwrap();
    fs::create_dir(token('o')).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", token('o').join("a.csv")).unwrap();
    let runner = site.start().await;
    for name in ["one.csv", "two.csv"] {
        fs::write(dir.join(name), "1").unwrap();
        there(&dir.join("done").join(name)).await;
    }
    eventually_within(PATIENCE, "both are counted once", async || {
        let listed = site.cli(["ls", "triggers", "--json"]).await.json();
        match &listed[0]["instances"][0] {
            state if state["enqueued"] == 2 && state["bad"] == 2 && state["state"] == "listening" => Ok(()),
            state => Err(format!("{state}")),
        }
    })
    .await;
    assert!(token('p').exists() && token('o').join("a.csv").is_symlink());
    assert!(runner.stop().await.success());
}

async fn a_directory_that_is_not_there_is_a_problem_and_comes_back() {
    let (site, dir) = site("");
    fs::remove_dir(&dir).unwrap();
    let runner = site.start().await;
    let fault = async |wanted: &str| {
        eventually_within(PATIENCE, wanted, async || {
            let listed = site.cli(["ls", "triggers", "--json"]).await.json();
            let state = listed[0]["instances"][0]["state"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            (state == wanted)
                .then_some(listed.clone())
                .ok_or_else(|| listed.to_string())
        })
        .await
    };
    let listed = fault("failing").await;
    assert_eq!(listed[0]["instances"][0]["fault"]["code"], "file_dir", "{listed}");
    let page = runner.http.get("/queue").await.body;
    assert!(page.contains("file_dir") && page.contains("No such file"), "{page}");
    let (_, problems) = page.split_once("id=\"problems-title\"").expect("problems");
    let problems = problems.split("</section>").next().unwrap();
    assert!(
        problems.contains("file_dir") && problems.contains("take:in does not listen to"),
        "{problems}"
    );
    // A function without a schedule has a page, which shows the same.
    let own = runner.http.get("/queue/functions/take").await.body;
    for part in [
        "file_dir",
        "runner run take",
        "in/*.csv",
        "manifests/a.yaml:1",
        "Not listening",
    ] {
        assert!(own.contains(part), "{part}: {own}");
    }
    fs::create_dir(&dir).unwrap();
    fault("listening").await;
    fs::write(dir.join("a.csv"), "1").unwrap();
    there(&dir.join("done/a.csv")).await;
    let own = eventually_within(PATIENCE, "its run is on the page", async || {
        let own = runner.http.get("/queue/functions/take").await.body;
        own.contains("in/a.csv</code>").then_some(own.clone()).ok_or(own)
    })
    .await;
    assert!(own.contains("Listening") && !own.contains("file_dir"), "{own}");
    // One that is killed says nothing more, and is left out some seconds later.
    runner.kill9();
    eventually_within(PATIENCE, "it is not heard", async || {
        let listed = site.cli(["ls", "triggers"]).await.ok().stdout;
        match listed.contains("listening, not heard for 1") || listed.contains("no instance") {
            true => Ok(()),
            false => Err(listed),
        }
    })
    .await;
}

async fn kills_and_a_second_instance_start_no_file_twice() {
    const FILES: usize = 60;
    let (site, dir) = site("worker: {concurrency: 2, lease: 3s, poison_after: 0}\n");
    for n in 0..FILES {
        fs::write(dir.join(format!("f{n}.csv")), "1").unwrap();
    }
    let done = || fs::read_dir(dir.join("done")).map_or(0, Iterator::count);
    let second = site.start().await;
    // A task that is lost again and again waits longer each time, so not many kills.
    for kill in 0..3 {
        let before = done();
        let first = site.start().await;
        eventually_within(PATIENCE, "it continues", async || {
            let now = done();
            (now > before || now == FILES)
                .then_some(())
                .ok_or_else(|| format!("kill {kill}: {now}\n{}", first.child.tail()))
        })
        .await;
        first.child.kill9();
    }
    eventually_within(PATIENCE * 5, "all files are done", async || {
        let now = done();
        (now == FILES).then_some(()).ok_or_else(|| now.to_string())
    })
    .await;
    assert!(second.stop().await.success());
    // Each name has one task. Its command may have run again after a kill.
    let listed = site
        .cli(["ls", "tasks", "--state", "completed", "--size", "1000", "--json"])
        .await
        .json();
    let tasks: Vec<&Value> = listed.as_array().unwrap().iter().collect();
    assert_eq!(tasks.len(), FILES);
    let ran = fs::read_to_string(site.dir.join("ran")).unwrap();
    let names: BTreeSet<&str> = ran.lines().collect();
    assert_eq!(names.len(), FILES);
    // A process that was killed just before it took a file leaves an empty place, which is removed a minute later.
    for place in fs::read_dir(dir.join(".runner/take:in")).unwrap() {
        assert_eq!(fs::read_dir(place.unwrap().path()).unwrap().count(), 0);
    }
}
