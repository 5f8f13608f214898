//! The program and its processes: leftovers of commands, effects of signals, running out of descriptors, and running as
//! the first process of a container.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::kit::{self, Runner, Site, eventually, eventually_within};

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): nothing_outlives_a_killed_runner, a_frozen_runners_command_ends_before_the_second_attempt,
            leftover_processes_of_a_command_are_ended_and_named, a_command_whose_guard_is_killed_ends_too,
            a_stopped_runner_ends_commands_that_do_not_listen, no_signal_kills_unexpectedly_and_one_quiets,
            payload_output_and_end_pass_the_guard, running_out_of_descriptors_uses_up_no_retry, the_first_process_of_a_container_collects_orphans;
    ]
}

/// How long processes may take to disappear on a busy machine.
const GONE: Duration = Duration::from_secs(20);

fn function(site: &Site, name: &str, script: &str) {
    let script = script.replace('@', &site.dir.display().to_string());
    std::fs::write(site.dir.join(format!("{name}.sh")), script).expect("a script");
    let path = site.dir.join(format!("{name}.sh"));
    let manifest = format!(
        "name: {name}\nexec: {{command: [sh, {}], kill_after: 1s}}\nretention: 1h\n",
        path.display()
    );
    site.write(&format!("manifests/{name}.yaml"), &manifest);
}

/// The process ids that processes wrote into files of this directory, once there are `count` of them.
async fn pids(dir: &Path, count: usize) -> Vec<i32> {
    eventually_within(GONE, "processes have said their numbers", async || {
        let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let texts = files.filter_map(|f| std::fs::read_to_string(f.path()).ok());
        let pids: Vec<i32> = texts.filter_map(|t| t.trim().parse().ok()).collect();
        if pids.len() == count {
            Ok(pids)
        } else {
            Err(format!("{pids:?}"))
        }
    })
    .await
}

/// State and parent of a process.
fn stat(pid: i32) -> Option<(String, i32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut rest = stat.rsplit(')').next()?.split_whitespace();
    Some((rest.next()?.to_owned(), rest.next()?.parse().ok()?))
}

fn lives(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != "Z" && state != "X")
}

async fn gone(pids: &[i32]) {
    eventually_within(GONE, "the processes are gone", async || {
        let left: Vec<&i32> = pids.iter().filter(|pid| lives(**pid)).collect();
        if left.is_empty() {
            Ok(())
        } else {
            Err(format!("{left:?}"))
        }
    })
    .await;
}

async fn task(site: &Site, id: &str) -> Value {
    site.cli(["task", "show", id, "--json"]).await.json()
}

/// Waits until the task satisfies a condition.
async fn until(site: &Site, id: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    eventually_within(GONE, what, async || {
        let task = task(site, id).await;
        if is(&task) { Ok(task) } else { Err(task.to_string()) }
    })
    .await
}

/// A script whose processes write their ids into `pids/` and stay: one in the group, one in a session of its own, one
/// that is orphaned and has dropped its variables.
const FAMILY: &str = "mkdir -p @/pids
here() { echo 'echo $$ > @/pids/'$1'; exec sleep 1000'; }
sh -c \"$(here group)\" > /dev/null 2>&1 &
setsid sh -c \"$(here session)\" > /dev/null 2>&1 &
(env -i setsid /bin/sh -c \"$(here daemon)\" > /dev/null 2>&1 &)
";

async fn enqueue(site: &Site, name: &str) {
    site.cli(["enqueue", &format!("fn:{name}"), "--id", name]).await.ok();
}

async fn nothing_outlives_a_killed_runner() {
    let site = Site::new("");
    function(
        &site,
        "family",
        &format!("{FAMILY}trap '' TERM\necho $$ > @/pids/leader\nwhile :; do sleep 0.1; done\n"),
    );
    let runner = site.start().await;
    enqueue(&site, "family").await;
    let pids = pids(&site.dir.join("pids"), 4).await;
    runner.kill9();
    gone(&pids).await;
}

async fn a_frozen_runners_command_ends_before_the_second_attempt() {
    let site = Site::new("worker: {lease: 3s}\n");
    // A run that starts while another one is still there reports it.
    function(
        &site,
        "long",
        "[ -e @/running ] && kill -0 \"$(cat @/running)\" 2>/dev/null && touch @/overlap
         echo $$ > @/running.new; mv @/running.new @/running; echo $RUNNER_ATTEMPT >> @/begun
         trap '' TERM; while [ ! -e @/go ]; do sleep 0.05; done\n",
    );
    let first = site.start().await;
    enqueue(&site, "long").await;
    let running = site.dir.join("running");
    let pid: i32 = eventually("the first attempt runs", async || {
        std::fs::read_to_string(&running)
            .map_err(|e| e.to_string())?
            .trim()
            .parse()
            .map_err(|_| "no number".to_owned())
    })
    .await;
    first.signal(Signal::SIGSTOP);
    gone(&[pid]).await;
    let second = site.start().await;
    until(&site, "long", "the lost run was noticed", |t| t["state"] != "active").await;
    site.cli(["task", "run", "long"]).await.ok();
    eventually_within(GONE, "the second attempt runs", async || {
        let begun = std::fs::read_to_string(site.dir.join("begun")).unwrap_or_default();
        if begun.lines().count() == 2 {
            Ok(())
        } else {
            Err(format!("{begun:?} {}", second.child.tail()))
        }
    })
    .await;
    first.signal(Signal::SIGCONT);
    site.write("go", "");
    until(&site, "long", "the second attempt is done", |t| {
        t["state"] == "completed"
    })
    .await;
    assert!(!site.dir.join("overlap").exists(), "both attempts ran at once");
    assert!(first.stop().await.success() && second.stop().await.success());
}

async fn leftover_processes_of_a_command_are_ended_and_named() {
    let site = Site::new("");
    // It ends once the others have written their ids.
    let script = format!("{FAMILY}while [ $(ls @/pids | wc -l) -lt 3 ]; do sleep 0.05; done\necho done\n");
    function(&site, "family", &script);
    let runner = site.start().await;
    enqueue(&site, "family").await;
    let task = until(&site, "family", "it is done", |t| t["state"] == "completed").await;
    let pids = pids(&site.dir.join("pids"), 3).await;
    assert!(!pids.iter().any(|pid| lives(*pid)), "{pids:?}");
    let log = task["attempts"][0]["log"].as_str().unwrap_or_default();
    assert!(log.contains("still running when the command had ended"), "{task}");
    for pid in pids {
        assert!(log.contains(&format!("sleep ({pid})")), "{pid}: {log}");
    }
    assert!(runner.stop().await.success());
}

async fn a_command_whose_guard_is_killed_ends_too() {
    let site = Site::new("");
    function(
        &site,
        "family",
        &format!("{FAMILY}while [ $(ls @/pids | wc -l) -lt 3 ]; do sleep 0.05; done\nkill -9 $PPID\nsleep 1000\n"),
    );
    // The one without its variables and outside its group cannot be found once the guard is gone.
    let runner = site.start().await;
    enqueue(&site, "family").await;
    let task = until(&site, "family", "the attempt has failed", |t| t["state"] == "retry").await;
    let error = task["last_error"].as_str().unwrap_or_default();
    assert!(error.contains("guards") && error.contains("signal: 9"), "{task}");
    let pids = pids(&site.dir.join("pids"), 3).await;
    let named = |name: &str| std::fs::read_to_string(site.dir.join("pids").join(name)).expect("a number");
    let daemon: i32 = named("daemon").trim().parse().expect("a number");
    let reached: Vec<i32> = pids.into_iter().filter(|pid| *pid != daemon).collect();
    gone(&reached).await;
    kill(Pid::from_raw(daemon), Signal::SIGKILL).ok();
    assert!(runner.stop().await.success());
}

async fn payload_output_and_end_pass_the_guard() {
    let site = Site::new("");
    function(
        &site,
        "copies",
        "cat > $RUNNER_RESULT_FILE; echo said; echo complained >&2\n",
    );
    function(&site, "deaf", "exec <&-; sleep 0.1; exit 3\n");
    function(&site, "killed", "kill -9 $$\n");
    let runner = site.start().await;
    // More than fits into a pipe, so that it is fed while the command runs.
    let payload = format!("\"{}\"", "x".repeat(300_000));
    site.write("payload", &payload);
    let enqueue = format!(
        "for f in copies deaf killed; do {} enqueue fn:$f --id $f --payload - < payload || exit 1; done",
        site.binary.display()
    );
    let mut shell = tokio::process::Command::new("sh");
    let enqueued = shell
        .args(["-c", &enqueue])
        .current_dir(&site.dir)
        .output()
        .await
        .expect("a shell");
    assert!(enqueued.status.success(), "{enqueued:?}");
    let copied = until(&site, "copies", "it is done", |t| t["state"] == "completed").await;
    assert_eq!(copied["result"].as_str().map(str::len), Some(300_000));
    let log = copied["attempts"][0]["log"].as_str().unwrap_or_default();
    assert!(log.contains("out: said") && log.contains("err: complained"), "{log}");
    for (id, error) in [("deaf", "exit code 3"), ("killed", "signal 9")] {
        let failed = until(&site, id, "it has failed", |t| t["state"] == "retry").await;
        assert_eq!(failed["last_error"], error);
    }
    assert!(runner.stop().await.success());
}

async fn a_stopped_runner_ends_commands_that_do_not_listen() {
    let site = Site::new("worker: {shutdown_timeout: 500ms}\n");
    function(
        &site,
        "deaf",
        "mkdir @/pids; trap '' TERM; echo $$ > @/pids/deaf; while :; do sleep 0.1; done\n",
    );
    let runner = site.start().await;
    enqueue(&site, "deaf").await;
    let pids = pids(&site.dir.join("pids"), 1).await;
    assert!(runner.stop().await.success());
    assert!(!lives(pids[0]), "it outlived the runner");
    let task = task(&site, "deaf").await;
    assert_eq!(
        (&task["state"], &task["retried"]),
        (&"pending".into(), &0.into()),
        "{task}"
    );
}

async fn signal_by_name(runner: &Runner, name: &str) {
    let script = format!("kill -s {name} {}", runner.child.pid());
    let sent = tokio::process::Command::new("bash")
        .args(["-c", &script])
        .status()
        .await;
    assert!(sent.expect("a shell").success(), "{name}");
}

async fn no_signal_kills_unexpectedly_and_one_quiets() {
    let site = Site::new("");
    function(&site, "quick", "true\n");
    let runner = site.start().await;
    for name in [
        "USR2", "ALRM", "VTALRM", "PROF", "IO", "TTIN", "TTOU", "XFSZ", "RTMIN", "RTMIN+7", "RTMAX", "HUP",
    ] {
        signal_by_name(&runner, name).await;
    }
    let logged = async |words: &str| {
        eventually(words, async || {
            if runner.log().contains(words) {
                Ok(())
            } else {
                Err(runner.child.tail())
            }
        })
        .await;
    };
    logged("signal=USR2").await;
    logged("signal=RTMIN+7").await;
    logged("reopening the log file").await;

    runner.signal(Signal::SIGTSTP);
    logged("no new tasks are taken").await;
    let ready = runner.http.try_get("/readyz").await.expect("an answer");
    assert!(ready.status == 503 && ready.body.contains("\"quiet\""), "{ready:?}");
    eventually("it is listed as stopped", async || {
        let servers = site.cli(["ls", "servers"]).await.ok().stdout;
        if servers.contains("stopped") {
            Ok(())
        } else {
            Err(servers)
        }
    })
    .await;
    enqueue(&site, "quick").await;
    // A later task, which a worker that still claims would have claimed by the time the first one is checked.
    site.cli(["enqueue", "fn:quick", "--id", "later"]).await.ok();
    assert_eq!(task(&site, "quick").await["state"], "pending");

    runner.signal(Signal::SIGCONT);
    until(&site, "quick", "it runs", |t| t["state"] == "completed").await;
    runner.ready().await;
    runner.signal(Signal::SIGQUIT);
    assert!(runner.ended().await.success());
}

async fn running_out_of_descriptors_uses_up_no_retry() {
    const TASKS: usize = 8;
    let site = Site::new("worker: {concurrency: 8}\n");
    function(&site, "gated", "while [ ! -e @/go ]; do sleep 0.05; done\n");
    let runner = site.start().await;
    let limit = |most: usize| {
        let pid = runner.child.pid().to_string();
        let set = std::process::Command::new("prlimit")
            .args(["--pid", &pid, &format!("--nofile={most}:4096")])
            .status();
        assert!(set.expect("prlimit").success());
    };
    let open = std::fs::read_dir(format!("/proc/{}/fd", runner.child.pid()))
        .expect("descriptors")
        .count();
    // Each command takes three; a few are left for the rest of the program.
    limit(open + 12);
    let ids: Vec<String> = (0..TASKS).map(|n| format!("t{n}")).collect();
    for id in &ids {
        site.cli(["enqueue", "fn:gated", "--id", id]).await.ok();
    }
    let put_off = eventually_within(GONE, "one was put off", async || {
        for id in &ids {
            let task = task(&site, id).await;
            if task["attempts"].as_array().is_some_and(|a| !a.is_empty()) {
                return Ok(task);
            }
        }
        Err(runner.child.tail())
    })
    .await;
    let log = put_off["attempts"][0]["log"].as_str().unwrap_or_default();
    assert!(
        log.contains("Too many open files") && log.contains("ulimit -n"),
        "{put_off}"
    );
    limit(4096);
    site.write("go", "");
    for id in &ids {
        let task = until(&site, id, "it runs", |t| t["state"] == "completed").await;
        assert_eq!(task["retried"], 0, "{task}");
    }
    assert!(runner.stop().await.success());
}

async fn the_first_process_of_a_container_collects_orphans() {
    let unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let may = std::process::Command::new(unshare[0])
        .args(&unshare[1..])
        .arg("true")
        .output();
    if !may.is_ok_and(|ended| ended.status.success()) {
        println!("processes: not allowed to make a namespace here");
        return;
    }
    let site = Site::new("");
    function(&site, "orphan", "kill -9 $PPID; sleep 0.1\n");
    let runner = site.launch_by(&unshare);
    runner.ready().await;
    let children = |pid: i32| {
        let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        list.split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect::<Vec<i32>>()
    };
    let first = children(runner.child.pid())[0];
    enqueue(&site, "orphan").await;
    until(&site, "orphan", "its guard was killed", |t| t["state"] == "retry").await;
    eventually("only the program itself is left", async || {
        let all: Vec<_> = children(first).into_iter().map(|pid| (pid, stat(pid))).collect();
        if all.len() == 1 {
            Ok(())
        } else {
            Err(format!("{all:?}"))
        }
    })
    .await;
    kill(Pid::from_raw(first), Signal::SIGTERM).expect("it lives");
    assert!(runner.ended().await.success());
}
