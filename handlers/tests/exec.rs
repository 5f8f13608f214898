//! Commands as functions: real processes, observed by what they leave.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use runner_core::function::{ExecResult, ExecSpec, Function, FunctionKind, Functions, Shell};
use runner_handlers::{ExecSettings, HandlerSettings, register_with};
use runner_sdk::testing::{Trial, TrialReport};
use runner_sdk::{Outcome, RUN_LOG_MAX_BYTES, Registry, StopReason};
use tokio::time::Instant;

/// Upper bound for every wait, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn registry(spec: ExecSpec, settings: ExecSettings) -> Registry {
    let functions = Functions::new(vec![Function {
        name: "it".into(),
        description: String::new(),
        kind: FunctionKind::Exec(spec),
        options: Default::default(),
        payload: None,
        payload_schema: None,
        limits: Vec::new(),
        notify: Default::default(),
        revision: "1".into(),
    }]);
    let settings = HandlerSettings {
        exec: settings,
        ..HandlerSettings::default()
    };
    register_with(Registry::new(), functions, settings)
}

fn trial() -> Trial {
    Trial::of("fn:it")
}

async fn run(spec: ExecSpec, trial: Trial) -> TrialReport {
    trial.run(registry(spec, ExecSettings::default())).await.unwrap()
}

fn sh(script: &str) -> ExecSpec {
    ExecSpec::new(["sh", "-c", script])
}

/// A script whose standard output is the result.
fn says(script: &str) -> ExecSpec {
    ExecSpec {
        result: ExecResult::Stdout,
        ..sh(script)
    }
}

async fn outcome(spec: ExecSpec) -> Outcome {
    run(spec, trial()).await.outcome
}

#[allow(clippy::disallowed_methods)] // other processes can only be polled
async fn until(what: &str, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "still not: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Whether a process runs; a zombie does not.
fn lives(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit(')')
            .next()
            .is_some_and(|rest| rest.trim().starts_with(['Z', 'X']))
    })
}

fn pid_in(path: &Path) -> Option<u32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

#[tokio::test]
async fn any_payload_arrives_byte_for_byte() {
    let payload: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let report = run(sh(r#"cat > "$RUNNER_RESULT_FILE""#), trial().payload(payload.clone())).await;
    assert!(report.outcome == Outcome::success(payload));
    let mut deaf = says("cat");
    deaf.stdin_payload = false;
    let report = run(deaf, trial().payload("x")).await;
    assert_eq!(report.outcome, Outcome::done());
}

#[tokio::test]
async fn a_command_need_not_read_its_payload() {
    let big = || trial().payload(vec![b'x'; 1024 * 1024]);
    assert_eq!(run(ExecSpec::new(["true"]), big()).await.outcome, Outcome::done());
    let slow = says("sleep 0.3; echo done");
    assert_eq!(run(slow, big()).await.outcome, Outcome::success("done\n"));
}

#[tokio::test]
async fn arguments_are_passed_as_they_are_and_a_shell_only_on_request() {
    let mut spec = ExecSpec::new(["printf", "%s|", "$HOME", "a b", "`id`", ";ls", ""]);
    spec.result = ExecResult::Stdout;
    assert_eq!(outcome(spec).await, Outcome::success("$HOME|a b|`id`|;ls||"));
    let mut spec = ExecSpec::new(["echo $((1+1)) \"$1\"", "; echo never"]);
    (spec.shell, spec.result) = (Some(Shell::Sh), ExecResult::Stdout);
    assert_eq!(outcome(spec).await, Outcome::success("2 ; echo never\n"));
}

#[tokio::test]
async fn a_script_is_a_private_file_and_a_payload_never_part_of_it() {
    let scratch = Scratch::new();
    let text = r#"path="$0"; stat -c %a "$path" "${path%/*}"; read -r line; printf "%s\n" "$line"; read -r line; printf "%s\n" "$line$1""#;
    let spec = |interpreter: &[&str], text: &str| ExecSpec {
        script: Some(text.to_owned()),
        result: ExecResult::Stdout,
        ..ExecSpec::new(interpreter.iter().copied())
    };
    let payload = format!(
        "; touch {0} $(touch {0}) ${{HOME}}\n`touch {0}`\n",
        scratch.file("made").display()
    );
    let Outcome::Success(Some(said)) = run(spec(&["sh"], text), trial().payload(payload.clone())).await.outcome else {
        panic!("it failed");
    };
    let said = String::from_utf8(said.to_vec()).unwrap();
    assert_eq!(said.trim_end(), format!("700\n700\n{}", payload.trim_end()));
    assert!(!scratch.file("made").exists());
    let bash = spec(
        &["bash", "-e"],
        "set -o pipefail\nwords=(a b)\necho ${#words[@]} '${env:HOME}'\n",
    );
    assert_eq!(outcome(bash).await, Outcome::success("2 ${env:HOME}\n"));
    let missing = outcome(spec(&["no-such-interpreter"], "x")).await;
    assert!(matches!(missing, Outcome::Retry(why) if why.contains("`no-such-interpreter`")));
}

#[tokio::test]
async fn bash_is_a_shell_by_name() {
    let mut spec = ExecSpec::new(["words=(a b); echo ${#words[@]} $0 \"$1\"", "$(id)"]);
    (spec.shell, spec.result) = (Some(Shell::Bash), ExecResult::Stdout);
    assert_eq!(outcome(spec).await, Outcome::success("2 bash $(id)\n"));
}

#[tokio::test]
async fn the_environment_is_the_requested_one_and_the_context() {
    let mut spec = ExecSpec::new(["env"]);
    spec.result = ExecResult::Stdout;
    spec.inherit_env = vec!["PATH".into(), "CARGO_PKG_NAME".into(), "NOT_SET_ANYWHERE".into()];
    spec.env = BTreeMap::from([("LANG".into(), "C".into()), ("RUNNER_QUEUE".into(), "pretended".into())]);
    let deadline = "2030-01-01T00:00:00Z".parse().ok();
    let task = trial()
        .attempt(3)
        .limits(deadline, Some(Duration::from_secs(90)))
        .header("runner-schedule-id", "m:it:nightly")
        .header("runner-scheduled-at", "2029-12-31T00:00:00Z")
        .header("runner-interval-start", "2029-12-30T00:00:00Z")
        .header("runner-fire-kind", "schedule")
        .header("runner-catch-up", "true")
        .header("runner-missed", "2")
        .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
        .header("other", "not shown");
    let Outcome::Success(Some(text)) = run(spec, task).await.outcome else {
        panic!("env failed");
    };
    let text = String::from_utf8(text.to_vec()).unwrap();
    let mut seen: BTreeMap<_, _> = text.lines().filter_map(|l| l.split_once('=')).collect();
    for name in ["PATH", "CARGO_PKG_NAME"] {
        assert!(seen.remove(name).is_some(), "{name}");
    }
    for name in ["RUNNER_RESULT_FILE", "RUNNER_CONTROL_FILE", "RUNNER_ARTIFACT_DIR"] {
        assert!(seen.remove(name).is_some_and(|v| v.starts_with('/')), "{name}");
    }
    let expected = BTreeMap::from([
        ("LANG", "C"),
        ("RUNNER_TASK_ID", "trial"),
        ("RUNNER_TASK_TYPE", "fn:it"),
        ("RUNNER_FUNCTION", "it"),
        ("RUNNER_QUEUE", "default"),
        ("RUNNER_ATTEMPT", "3"),
        ("RUNNER_MAX_ATTEMPTS", "26"),
        ("RUNNER_SCHEDULE_ID", "m:it:nightly"),
        ("RUNNER_SCHEDULED_AT", "2029-12-31T00:00:00Z"),
        ("RUNNER_INTERVAL_START", "2029-12-30T00:00:00Z"),
        ("RUNNER_FIRE_KIND", "schedule"),
        ("RUNNER_CATCH_UP", "true"),
        ("RUNNER_MISSED", "2"),
        ("RUNNER_DEADLINE", "2030-01-01T00:00:00Z"),
        ("RUNNER_TIMEOUT", "90"),
        ("TRACEPARENT", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ]);
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_header_that_no_variable_can_hold_does_not_prevent_the_start() {
    let task = trial().header("runner-missed", "a\0b");
    let report = run(says("echo ${RUNNER_MISSED-none}"), task).await;
    assert_eq!(report.outcome, Outcome::success("none\n"));
}

#[tokio::test]
async fn each_run_has_a_private_directory_that_is_removed() {
    let Outcome::Success(Some(text)) = outcome(says("touch a; mkdir -p b/c; stat -c %a ..; pwd; ls -A")).await else {
        panic!("ls failed");
    };
    let text = String::from_utf8(text.to_vec()).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!((lines[0], &lines[2..]), ("700", &["a", "b"][..]));
    assert!(lines[1].starts_with('/') && !Path::new(lines[1]).parent().unwrap().exists());

    let scratch = Scratch::new();
    let mut spec = says("pwd");
    spec.cwd = Some(scratch.0.path().to_owned());
    let expected = format!("{}\n", scratch.0.path().canonicalize().unwrap().display());
    assert_eq!(outcome(spec).await, Outcome::success(expected));
    assert!(scratch.0.path().exists());
}

#[tokio::test]
async fn exit_codes_and_the_control_file_decide_the_outcome() {
    let after = Duration::from_secs(30);
    let cases = [
        ("exit 0", Outcome::done()),
        ("echo why >&2; exit 3", Outcome::Retry("exit code 3: why".into())),
        ("exit 75", Outcome::Retry("exit code 75".into())),
        ("exit 65", Outcome::Skip("exit code 65".into())),
        ("exit 99", Outcome::Revoke("exit code 99".into())),
        ("kill -9 $$", Outcome::Retry("signal 9".into())),
        (
            "echo retry_after=30s > $RUNNER_CONTROL_FILE; exit 75",
            Outcome::RetryAfter {
                after,
                error: "exit code 75".into(),
            },
        ),
        (
            "echo retry_after=30s > $RUNNER_CONTROL_FILE; exit 1",
            Outcome::Retry("exit code 1".into()),
        ),
        (
            "echo outcome=revoke > $RUNNER_CONTROL_FILE",
            Outcome::Revoke("revoked by the command".into()),
        ),
        (
            "echo summary=bad day > $RUNNER_CONTROL_FILE; exit 1",
            Outcome::Retry("exit code 1: bad day".into()),
        ),
        ("mkfifo $RUNNER_CONTROL_FILE $RUNNER_RESULT_FILE", Outcome::done()),
        ("ln -s /etc/passwd $RUNNER_RESULT_FILE", Outcome::done()),
        ("echo only words >&2", Outcome::done()),
    ];
    for (script, expected) in cases {
        let report = run(sh(script), trial()).await;
        assert_eq!(report.outcome, expected, "{script}");
        let in_vain = script.contains("retry_after") && !script.ends_with("exit 75");
        assert_eq!(
            report.log.contains("retry_after counts only"),
            in_vain,
            "{script}: {}",
            report.log
        );
    }
}

#[tokio::test]
async fn a_command_that_cannot_start_is_retried_twice_as_misconfigured() {
    let mut lost = sh("true");
    lost.cwd = Some("/nowhere/at/all".into());
    let mut no_secret = sh("true");
    no_secret.env.insert("A".into(), "${env:RUNNER_TEST_NOT_SET}".into());
    let cases = [
        (ExecSpec::new(["no-such-program-here"]), "no-such-program-here"),
        (ExecSpec::new(["/etc/passwd"]), "/etc/passwd"),
        (sh("no-such-program-here"), "127"),
        (sh("/etc/passwd"), "126"),
        (lost, "/nowhere/at/all"),
        (no_secret, "${env:RUNNER_TEST_NOT_SET} is not set"),
    ];
    for (spec, says) in cases {
        let Outcome::Retry(text) = run(spec.clone(), trial().attempt(2)).await.outcome else {
            panic!("{says}: not tried again");
        };
        assert!(text.starts_with("misconfigured: ") && text.contains(says), "{text}");
        let Outcome::Skip(text) = run(spec, trial().attempt(3)).await.outcome else {
            panic!("{says}: tried repeatedly");
        };
        assert!(text.contains(says) && text.contains("after 3 attempts"), "{text}");
    }
    let mut meant = sh("exit 127");
    meant.exit_codes.retry = vec![127];
    let report = run(meant, trial().attempt(3)).await;
    assert_eq!(report.outcome, Outcome::Retry("exit code 127".into()));
    assert!(matches!(outcome(ExecSpec::new([""; 0])).await, Outcome::Skip(_)));
}

#[tokio::test]
async fn only_allowed_commands_run() {
    let under = |settings: ExecSettings, spec: ExecSpec| async move {
        trial().run(registry(spec, settings)).await.unwrap().outcome
    };
    let only = |pattern: &str| ExecSettings {
        enabled: true,
        allowed_commands: vec!["/srv/*".into(), pattern.into()],
        ..ExecSettings::default()
    };
    let truth = || ExecSpec::new(["true"]);
    let shell = || ExecSpec {
        shell: Some(Shell::Sh),
        ..truth()
    };
    assert_eq!(under(only("tr?e"), truth()).await, Outcome::done());
    assert_eq!(under(only("/bin/sh"), shell()).await, Outcome::done());
    for (settings, spec, says) in [
        (only("false"), truth(), "allowed_commands"),
        (only("true"), shell(), "/bin/sh"),
    ] {
        let Outcome::Retry(text) = under(settings, spec).await else {
            panic!("{says}: ran");
        };
        assert!(text.starts_with("misconfigured: ") && text.contains(says), "{text}");
    }
}

#[tokio::test]
async fn files_in_the_directory_for_artifacts_are_kept_within_bounds() {
    let script = r#"cd "$RUNNER_ARTIFACT_DIR" && printf one > a.txt && printf x > b.bin && ln -s /etc/passwd link \
        && mkdir sub && mkfifo pipe && head -c 5000000 /dev/zero > huge && : > empty"#;
    let report = run(sh(script), trial()).await;
    assert_eq!(report.outcome, Outcome::done());
    let kept: Vec<_> = report
        .artifacts
        .iter()
        .map(|a| (a.name.as_str(), a.content.len()))
        .collect();
    assert_eq!(kept, [("a.txt", 3), ("b.bin", 1), ("empty", 0)]);
    for left_out in [
        "link was not kept",
        "sub was not kept",
        "pipe was not kept",
        "huge was not kept",
    ] {
        assert!(report.log.contains(left_out), "{left_out}: {}", report.log);
    }
    let many = run(
        sh("cd \"$RUNNER_ARTIFACT_DIR\"; for i in $(seq 100 130); do : > $i; done; exit 1"),
        trial(),
    )
    .await;
    assert_eq!(many.artifacts.len(), 16, "also of a run that failed");
    assert!(many.log.contains("any further ones were not kept"), "{}", many.log);
}

#[tokio::test]
async fn the_last_progress_is_known_at_the_end() {
    let script = "echo 'progress=25% first' >> \"$RUNNER_CONTROL_FILE\"; echo 'progress=1 last' >> \"$RUNNER_CONTROL_FILE\"; \
                  echo 'progress=fast' >> \"$RUNNER_CONTROL_FILE\"";
    let report = run(sh(script), trial()).await;
    let last = report.progress.unwrap();
    assert_eq!((last.done, last.note.as_str()), (1.0, "last"));
    assert!(report.log.contains("progress: 100% last"), "{}", report.log);
    assert!(report.log.contains("progress must be a number"), "{}", report.log);
}

#[tokio::test]
async fn secrets_reach_only_the_command() {
    let scratch = Scratch::new();
    std::fs::write(scratch.file("token"), "s3cret-value\n").unwrap();
    let mut spec = sh(r#"test "$TOKEN" = "Bearer s3cret-value" || exit 1
        echo "out $TOKEN"; echo "err $TOKEN" >&2
        echo "$TOKEN" > "$RUNNER_RESULT_FILE"; echo "summary=$TOKEN" > "$RUNNER_CONTROL_FILE"
        exit $CODE"#);
    let reference = format!("Bearer ${{file:{}}}", scratch.file("token").display());
    spec.env.insert("TOKEN".into(), reference);
    for (code, expected) in [
        ("0", Outcome::success("Bearer ***\n")),
        ("64", Outcome::Skip("exit code 64: Bearer ***".into())),
    ] {
        spec.env.insert("CODE".into(), code.into());
        let report = run(spec.clone(), trial()).await;
        assert_eq!(report.outcome, expected);
        assert!(!report.log.contains("s3cret"), "{}", report.log);
        assert!(report.log.contains("out: out Bearer ***") && report.log.contains("err: err Bearer ***"));
    }
}

#[tokio::test]
async fn ten_megabytes_of_output_are_bounded() {
    for script in [
        "yes | head -c 10000000",
        "head -c 10000000 /dev/zero | tr '\\0' x",
        "head -c 10000000 /dev/urandom",
    ] {
        let report = run(says(script), trial()).await;
        assert_eq!(report.outcome, Outcome::done(), "{script}");
        assert!(report.log.len() <= RUN_LOG_MAX_BYTES, "{script}: {}", report.log.len());
        assert!(report.log.contains("was not kept"), "{script}");
    }
    let exactly = run(says("head -c 1048576 /dev/zero"), trial()).await.outcome;
    assert!(matches!(exactly, Outcome::Success(Some(b)) if b.len() == 1_048_576));
}

#[tokio::test]
async fn a_descendant_that_holds_the_pipe_open_does_not_hang_the_run() {
    let scratch = Scratch::new();
    let pid = scratch.file("pid");
    // The first is killed with its group; the second has left it, and is merely not waited for.
    for (start, killed) in [("sleep 1000", true), ("setsid sleep 8", false)] {
        let began = Instant::now();
        let report = run(
            says(&format!("{start} & echo $! > {}; echo done", pid.display())),
            trial(),
        )
        .await;
        assert_eq!(report.outcome, Outcome::success("done\n"));
        assert!(
            began.elapsed() < Duration::from_secs(7),
            "{start}: {:?}",
            began.elapsed()
        );
        assert!(report.log.contains("kept the output open"), "{start}: {}", report.log);
        if killed {
            let left = pid_in(&pid).unwrap();
            until("the descendant is gone", || !lives(left)).await;
        }
    }
}

/// Two processes that both ignore SIGTERM; the inner one's id is in the file.
fn stubborn(pid: &Path) -> ExecSpec {
    let script = format!(
        "trap '' TERM; sh -c 'trap \"\" TERM; echo $$ > {0}.new; mv {0}.new {0}; while :; do sleep 0.1; done' & \
         while :; do sleep 0.1; done",
        pid.display()
    );
    ExecSpec {
        kill_after: Duration::from_millis(200),
        ..sh(&script)
    }
}

#[tokio::test]
async fn a_stopped_run_leaves_no_process_behind_even_if_signals_are_ignored() {
    let after = Duration::ZERO;
    let back = |error: &str| Outcome::RetryAfter {
        after,
        error: error.into(),
    };
    for (reason, expected) in [
        (StopReason::Deadline, Outcome::Retry("timeout after 5s".into())),
        (StopReason::Cancelled, Outcome::Retry("cancelled on request".into())),
        (StopReason::Ended, Outcome::Skip("stopped on request".into())),
        (StopReason::Shutdown, back("stopped: shutdown")),
        (StopReason::LeaseLost, back("stopped: lease lost")),
    ] {
        let scratch = Scratch::new();
        let pid = scratch.file("pid");
        let task = trial().limits(None, Some(Duration::from_secs(5)));
        let stop = task.stop();
        let running = tokio::spawn(run(stubborn(&pid), task));
        until("the grandchild runs", || pid_in(&pid).is_some()).await;
        let grandchild = pid_in(&pid).unwrap();
        assert!(lives(grandchild));
        stop.stop(reason);
        assert_eq!(running.await.unwrap().outcome, expected);
        until("the grandchild is gone", || !lives(grandchild)).await;
    }
}

#[tokio::test]
async fn a_process_that_has_ended_and_is_not_waited_for_is_not_waited_for_here() {
    for stopped in [true, false] {
        let scratch = Scratch::new();
        let (pid, go_on) = (scratch.file("pid"), scratch.file("go-on"));
        let script = format!(
            "echo $$ > {0}.new; mv {0}.new {0}; while [ ! -e {1} ]; do sleep 0.05; done",
            pid.display(),
            go_on.display()
        );
        let spec = ExecSpec {
            kill_after: Duration::from_secs(3600),
            ..sh(&script)
        };
        let task = trial().limits(None, Some(Duration::from_secs(5)));
        let stop = task.stop();
        let running = tokio::spawn(run(spec, task));
        until("the command runs", || pid_in(&pid).is_some()).await;
        // Its parent is this test, as a container's first process is the parent of orphans.
        let group = pid_in(&pid).unwrap().try_into().unwrap();
        let mut zombie = std::process::Command::new("true").process_group(group).spawn().unwrap();
        until("it has ended", || !lives(zombie.id())).await;
        let expected = match stopped {
            true => {
                stop.stop(StopReason::Deadline);
                Outcome::Retry("timeout after 5s".into())
            }
            false => {
                std::fs::write(&go_on, "").unwrap();
                Outcome::Success(None)
            }
        };
        let report = tokio::time::timeout(PATIENCE, running).await;
        let report = report.expect("it ends long before kill_after").unwrap();
        assert_eq!(report.outcome, expected);
        assert!(!report.log.contains("left in its group"), "{}", report.log);
        assert!(std::path::Path::new(&format!("/proc/{}", zombie.id())).exists());
        zombie.wait().unwrap();
    }
}

#[tokio::test]
async fn a_command_that_ends_when_asked_has_time_to_clean_up() {
    let scratch = Scratch::new();
    let ready = scratch.file("ready");
    let script = format!(
        "trap 'echo cleaned; exit 0' TERM; touch {}; while :; do sleep 0.05; done",
        ready.display()
    );
    let task = trial();
    let stop = task.stop();
    let began = Instant::now();
    let running = tokio::spawn(run(says(&script), task));
    until("the trap is set", || ready.exists()).await;
    stop.stop(StopReason::Deadline);
    let report = running.await.unwrap();
    assert!(
        matches!(report.outcome, Outcome::Retry(t) if t.starts_with("timeout")),
        "an exit code of 0 is not a success now"
    );
    assert!(report.log.contains("out: cleaned"), "{}", report.log);
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "it did not wait for kill_after"
    );
}

#[tokio::test]
async fn a_run_that_is_dropped_takes_its_group_along() {
    let scratch = Scratch::new();
    let pid = scratch.file("pid");
    let running = tokio::spawn(run(stubborn(&pid), trial()));
    until("the grandchild runs", || pid_in(&pid).is_some()).await;
    let grandchild = pid_in(&pid).unwrap();
    running.abort();
    until("the grandchild is gone", || !lives(grandchild)).await;
}
