//! `runner runs` and `runner logs`: what is remembered of runs, and what one prints while it continues.

use serde_json::{Value, json};

use crate::kit::{self, Runner, Site, eventually};

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![needs(): runs_are_listed_and_their_output_is_printed, a_run_is_followed_to_its_end,
        a_long_output_is_kept_whole, a_function_is_run_by_its_name,
        runs_of_a_type_without_a_manifest_are_listed_if_it_is_named]
}

/// The lines of a log without the time at which they came.
fn lines(log: &str) -> Vec<&str> {
    let text = |line| <str>::split_once(line, ' ').map_or("", |(_, text)| text);
    log.lines().map(text).collect()
}

async fn runs_are_listed_and_their_output_is_printed() {
    let site = Site::new("");
    site.write(
        "manifests/report.yaml",
        "name: report\nexec: {script: 'echo \"month $(cat)\"; test $RUNNER_TASK_ID = good'}\nretry: 0\n---\nname: never\nexec: [date]\n",
    );
    let unknown = site.cli(["runs", "reprot"]).await;
    assert_eq!(unknown.status.code(), Some(1));
    assert!(unknown.stderr.contains("did you mean report?"), "{}", unknown.stderr);

    let runner = site.start().await;
    for id in ["good", "bad"] {
        site.cli(["enqueue", "fn:report", "--id", id, "--payload", "7"])
            .await
            .ok();
        eventually("its run is listed", async || {
            let listed = site.cli(["runs", "report", "--json"]).await.json();
            match listed[0]["task"] == id {
                true => Ok(()),
                false => Err(listed.to_string()),
            }
        })
        .await;
    }
    let listed = site.cli(["runs", "report", "--json"]).await.json();
    let outcomes = json!([listed[0]["outcome"], listed[1]["outcome"]]);
    assert_eq!(outcomes, json!(["archived", "success"]), "{listed}");
    assert_eq!(
        listed[0]["error"].as_str().map(|error| error.is_empty()),
        Some(false),
        "{listed}"
    );
    let failed = site.cli(["runs", "report", "--failed", "--json"]).await.json();
    assert_eq!(failed.as_array().map(Vec::len), Some(1), "{failed}");
    let text = site.cli(["runs", "report", "--limit", "1"]).await.ok().stdout;
    for part in ["succeeded     1 of 2", "last failure", "archived"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("good"), "{text}");

    let none = site.cli(["runs", "never"]).await.ok().stdout;
    assert!(none.contains("last success  none"), "{none}");
    // By function the last run, by id that one.
    for (of, ending) in [("report", "archived"), ("good", "attempt 1 ended: success")] {
        let logs = site.cli(["logs", of]).await.ok();
        assert_eq!(lines(&logs.stdout), ["out: month 7"], "{}", logs.stderr);
        assert!(logs.stderr.contains(ending), "{}", logs.stderr);
    }
    for (of, why) in [("never", "has not run"), ("nothing", "no function nothing")] {
        let logs = site.cli(["logs", of]).await;
        assert!(
            logs.stderr.contains(why) && logs.status.code() == Some(1),
            "{}",
            logs.stderr
        );
    }
    runner.stop().await;
}

/// Each line of a log of 700 KB, whether or not the task is still there, on the command line and as a download.
async fn a_long_output_is_kept_whole() {
    let site = Site::new("");
    for (name, retention) in [("gone", ""), ("stays", "retention: 1h\n")] {
        site.write(
            &format!("manifests/{name}.yaml"),
            &format!("name: {name}\n{retention}exec: {{script: 'seq 30000'}}\n"),
        );
    }
    let runner = site.start().await;
    let expected: Vec<String> = (1..=30_000).map(|n| format!("out: {n}")).collect();
    for name in ["gone", "stays"] {
        let kind = format!("fn:{name}");
        site.cli(["enqueue", &kind, "--id", name]).await.ok();
        eventually("its run is listed", async || {
            let listed = site.cli(["runs", name, "--json"]).await.json();
            match listed[0]["outcome"] == "success" {
                true => Ok(()),
                false => Err(listed.to_string()),
            }
        })
        .await;
        let logs = site.cli(["logs", name]).await.ok();
        assert!(lines(&logs.stdout) == expected, "{name}: {}", logs.stdout.len());
        let download = runner.http.get(&format!("/queue/tasks/default/{name}/output")).await;
        assert!(lines(&download.body) == expected, "{name}: {}", download.body.len());
    }
    let page = runner.http.get("/queue/tasks/default/gone").await.body;
    assert!(page.contains("out: 30000") && page.contains("/queue/tasks/default/gone/output"));
    assert_eq!(runner.http.get("/queue/tasks/default/none/output").await.status, 404);
    runner.stop().await;
}

async fn a_run_is_followed_to_its_end() {
    let site = Site::new("");
    let go_on = site.dir.join("go-on");
    let manifest = "name: slow\nexec:\n  script: |\n    echo begun\n    while [ ! -e \"$GO_ON\" ]; do sleep 0.1; done\n    \
                    echo done\n  env: {GO_ON: 'PATH'}\n";
    site.write(
        "manifests/slow.yaml",
        &manifest.replace("PATH", &go_on.display().to_string()),
    );
    let runner = site.start().await;
    site.cli(["enqueue", "fn:slow"]).await.ok();
    eventually("its output is shown while it runs", async || {
        let logs = site.cli(["logs", "slow"]).await;
        match lines(&logs.stdout) == ["out: begun"] && logs.stderr.contains("still running") {
            true => Ok(()),
            false => Err(logs.stdout + &logs.stderr),
        }
    })
    .await;
    let (followed, ()) = tokio::join!(site.cli(["logs", "slow", "--follow"]), async {
        site.write("go-on", "");
    });
    let followed = followed.ok();
    assert_eq!(
        lines(&followed.stdout),
        ["out: begun", "out: done"],
        "{}",
        followed.stderr
    );
    assert!(
        followed.stderr.contains("attempt 1 ended: success"),
        "{}",
        followed.stderr
    );
    runner.stop().await;
}

async fn a_function_is_run_by_its_name() {
    let site = Site::new("");
    site.write(
        "manifests/say.yaml",
        "name: say\nexec: {script: 'echo \"$(cat)\"; test -z \"$(cat)\"'}\npayload: {day: today}\nretry: 0\n---\n\
         name: fail\nexec: [\"false\"]\nretry: 0\n---\nname: seven\nexec: [sh, -c, 'exit 7']\nretry: 0\n",
    );
    let runner = site.start().await;
    // With the payload of its manifest, or with another one.
    let run = site.cli(["run", "say", "--wait"]).await.ok();
    assert_eq!(lines(&run.stdout), [r#"out: {"day":"today"}"#], "{}", run.stderr);
    let run = site.cli(["run", "say", "--payload", "7", "--wait=1m"]).await.ok();
    assert_eq!(lines(&run.stdout), ["out: 7"], "{}", run.stderr);
    let run = site.cli(["run", "fail", "--wait"]).await;
    assert_eq!(run.status.code(), Some(1));
    assert!(run.stderr.contains("fail did not succeed: archived"), "{}", run.stderr);
    let run = site.cli(["run", "seven", "--wait"]).await;
    assert_eq!(run.status.code(), Some(7), "that of the command: {}", run.stderr);
    let listed = site.cli(["runs", "fail"]).await.ok().stdout;
    assert!(listed.contains("  by hand  "), "{listed}");
    // One that was saved a moment ago is no warning. Another one each time: what was announced once stays so.
    let mut said = String::new();
    for n in 0..3 {
        site.write(
            &format!("manifests/new{n}.yaml"),
            &format!("name: new{n}\nexec: [date]\n"),
        );
        said = site.cli(["run", &format!("new{n}")]).await.ok().stderr;
        if !said.contains("W210") {
            break;
        }
    }
    assert!(!said.contains("W210"), "{said}");
    // Without waiting the id is printed.
    let id = site.cli(["run", "say"]).await.ok().stdout;
    eventually("it has run", async || {
        let logs = site.cli(["logs", id.trim()]).await;
        match logs.stderr.contains("success") {
            true => Ok(()),
            false => Err(logs.stderr),
        }
    })
    .await;
    runner.stop().await;

    site.write("manifests/bad.yaml", "name: bad\nexec: [date]\nretry: many\n");
    for (arguments, code, why) in [
        (
            &["run", "bad"][..],
            1,
            "bad is not in force: manifests/bad.yaml has errors",
        ),
        (&["run", "sya"], 1, "did you mean say?"),
        (&["run", "--wait"], 2, "which function?"),
        (&["run", "say", "--payload", "{"], 65, "not JSON"),
        (&["run", "say", "--wait=1s"], 1, "has not ended within 1s; it continues"),
    ] {
        let run = site.cli(arguments).await;
        assert!(
            run.stderr.contains(why) && run.status.code() == Some(code),
            "{arguments:?}: {}",
            run.stderr
        );
    }
}

/// The runs of a type; none if there is no such one.
async fn runs_of(site: &Site, kind: &str) -> Vec<Value> {
    let listed = site.cli(["runs", kind, "--json"]).await;
    if !listed.status.success() {
        return Vec::new();
    }
    listed.json().as_array().unwrap().clone()
}

/// The tasks of these runs, in order of their names.
fn tasks_of(runs: &[Value]) -> Vec<&str> {
    let mut tasks: Vec<&str> = runs.iter().filter_map(|run| run["task"].as_str()).collect();
    tasks.sort_unstable();
    tasks
}

/// Of `echo` all runs, of `sleep` only the task that is still there.
async fn runs_of_a_type_without_a_manifest_are_listed_if_it_is_named() {
    let site = Site::new("worker: {record_runs: [\"ec*\"]}\n");
    let runner = site.start().await;
    for (kind, payload, id, retention) in [
        ("echo", r#"{"n":1}"#, "one", "0s"),
        ("echo", r#"{"n":1}"#, "two", "1h"),
        ("sleep", r#"{"seconds":0}"#, "three", "1h"),
        ("sleep", r#"{"seconds":0}"#, "four", "0s"),
    ] {
        let options = ["--id", id, "--payload", payload, "--retention", retention];
        site.cli([&["enqueue", kind][..], &options].concat()).await.ok();
    }
    eventually("the runs are listed", async || {
        let (echo, sleep) = (runs_of(&site, "echo").await, runs_of(&site, "sleep").await);
        match tasks_of(&echo) == ["one", "two"] && tasks_of(&sleep) == ["three"] {
            true => Ok(()),
            false => Err(format!("{echo:?} {sleep:?}")),
        }
    })
    .await;
    let run = &runs_of(&site, "type:echo").await[0];
    assert_eq!(
        json!([run["type"], run["function"], run["outcome"]]),
        json!(["echo", null, "success"]),
        "{run}"
    );
    assert_ne!(run["worker"], "", "{run}");
    let seen = &runs_of(&site, "sleep").await[0];
    assert_eq!(
        json!([seen["worker"], seen["took_seconds"], seen["started_at"]]),
        json!(["", null, null]),
        "{seen}"
    );
    let text = site.cli(["runs", "sleep"]).await.ok().stdout;
    assert!(
        text.starts_with("TYPE") && text.contains("not known") && text.contains("before 2"),
        "{text}"
    );
    // Its task has what its record would have.
    let ended = site.cli(["logs", "sleep"]).await.ok().stderr;
    assert!(ended.contains("success"), "{ended}");
    // A type that runs is found too, as a function is.
    let long = ["enqueue", "sleep", "--id", "long", "--payload", r#"{"seconds":60}"#];
    site.cli(long).await.ok();
    eventually("the run that continues is found", async || {
        let logs = site.cli(["logs", "sleep"]).await.stderr;
        if logs.contains("still running") {
            Ok(())
        } else {
            Err(logs)
        }
    })
    .await;
    site.cli(["task", "cancel", "long"]).await;
    assert!(site.cli(["logs", "echo"]).await.ok().stdout.contains("\"n\":1"));
    type_is_on_pages(&runner).await;
    runner.stop().await;
}

async fn type_is_on_pages(runner: &Runner) {
    eventually("the pages show them", async || {
        let all = runner.http.get("/queue/functions").await.body;
        let page = runner.http.get("/queue/functions/type:echo").await.body;
        match all.contains("/queue/functions/type%3Aecho") && page.contains("/queue/tasks/default/one") {
            true => Ok(()),
            false => Err(all + &page),
        }
    })
    .await;
    let of_task = runner.http.get("/queue/tasks/default/one").await.body;
    assert!(of_task.contains("/queue/functions/type%3Aecho"), "{of_task}");
    assert_eq!(runner.http.get("/queue/functions/type:never").await.status, 404);
}
