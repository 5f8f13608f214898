//! Commands under a guard: what they may use, and as whom they run. This program is its own guard, so it has a `main`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::future::Future;
use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Trial as Test};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use runner_core::function::{ExecLimits, ExecResult, ExecSpec, Function, FunctionKind, Functions};
use runner_handlers::{ExecSettings, HandlerSettings, register_with};
use runner_sdk::testing::{Trial, TrialReport};
use runner_sdk::{Outcome, Registry};

fn main() -> ExitCode {
    if let Some(code) = runner_handlers::guard_main() {
        return code;
    }
    let tests = vec![
        test("each_limit_reaches_the_command", each_limit_reaches_the_command),
        test(
            "no_variable_of_a_command_acts_on_what_starts_it",
            no_variable_of_a_command_acts_on_what_starts_it,
        ),
        test(
            "a_limit_that_ends_a_command_is_named",
            a_limit_that_ends_a_command_is_named,
        ),
        test(
            "a_confined_command_that_cannot_start_says_why",
            a_confined_command_that_cannot_start_says_why,
        ),
        test("memory_is_bounded", memory_is_bounded),
        test(
            "privileges_are_not_gained_unless_allowed",
            privileges_are_not_gained_unless_allowed,
        ),
        test("open_descriptors_are_not_inherited", open_descriptors_are_not_inherited),
        test(
            "a_command_runs_as_the_user_that_it_names",
            a_command_runs_as_the_user_that_it_names,
        ),
        test(
            "files_are_private_unless_the_umask_says_otherwise",
            files_are_private_unless_the_umask_says_otherwise,
        ),
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit_code()
}

fn test<F: Future<Output = ()> + 'static>(name: &str, run: fn() -> F) -> Test {
    Test::test(name, move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(run());
        Ok(())
    })
}

async fn run_with(spec: ExecSpec, settings: ExecSettings) -> TrialReport {
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
        exec: ExecSettings {
            guard: true,
            ..settings
        },
        ..HandlerSettings::default()
    };
    let trial = Trial::of("fn:it").payload("; id $(id)\n");
    trial
        .run(register_with(Registry::new(), functions, settings))
        .await
        .unwrap()
}

async fn run(spec: ExecSpec) -> TrialReport {
    run_with(spec, ExecSettings::default()).await
}

/// A script whose standard output is the result.
fn says(script: &str) -> ExecSpec {
    ExecSpec {
        result: ExecResult::Stdout,
        ..ExecSpec::new(["sh", "-c", script])
    }
}

fn text(outcome: Outcome) -> String {
    match outcome {
        Outcome::Success(Some(bytes)) => String::from_utf8(bytes.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

async fn no_variable_of_a_command_acts_on_what_starts_it() {
    let mut spec = says("echo \"$RUNNER_LAUNCH_LD_PRELOAD|$LD_PRELOAD|$LD_DEBUG\"");
    spec.limits.open_files = Some(64);
    spec.env.insert("RUNNER_LAUNCH_LD_PRELOAD".into(), "/no/such.so".into());
    let report = run(spec).await;
    assert_eq!(text(report.outcome), "/no/such.so||\n");
    assert!(!report.log.contains("no/such.so' from LD_PRELOAD"), "{}", report.log);
}

async fn each_limit_reaches_the_command() {
    let mut spec = says("ulimit -v; ulimit -t; ulimit -n; ulimit -f; ulimit -c; ulimit -Hn; cat");
    spec.limits = ExecLimits {
        memory: Some(256 << 20),
        cpu_time: Some(Duration::from_secs(7)),
        open_files: Some(21),
        file_size: Some(512 * 1000),
        processes: None,
    };
    let report = run(spec).await;
    assert_eq!(text(report.outcome), "262144\n7\n21\n1000\n0\n21\n; id $(id)\n");
    let own = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    assert_ne!(own.0, 21, "only the command has the limits");
    let free = run(says("ulimit -v; ulimit -c")).await;
    assert_eq!(
        text(free.outcome).lines().last(),
        Some("0"),
        "no core dumps without limits either"
    );
}

async fn a_limit_that_ends_a_command_is_named() {
    let mut busy = says("while :; do :; done");
    busy.limits.cpu_time = Some(Duration::from_secs(1));
    let mut large = says("head -c 100000 /dev/zero > large");
    large.limits.file_size = Some(50_000);
    for (spec, says) in [(busy, "limits.cpu_time of 1s"), (large, "limits.file_size of 50000")] {
        let Outcome::Retry(why) = run(spec).await.outcome else {
            panic!("{says}: not ended");
        };
        assert!(why.contains(says), "{why}");
    }
}

async fn a_confined_command_that_cannot_start_says_why() {
    for command in ["no-such-program", "/no/such/program", "/etc/passwd"] {
        let free = ExecSpec::new([command]);
        let mut confined = free.clone();
        confined.limits.open_files = Some(64);
        let (free, confined) = (run(free).await, run(confined).await);
        assert!(
            matches!(&free.outcome, Outcome::Retry(why) if why.contains("cannot start")),
            "{free:?}"
        );
        assert_eq!(free.outcome, confined.outcome);
    }
}

async fn memory_is_bounded() {
    let mut spec = says("x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo ${#x}");
    spec.limits.memory = Some(64 << 20);
    let report = run(spec).await;
    assert!(matches!(report.outcome, Outcome::Retry(_)), "{report:?}");
}

async fn privileges_are_not_gained_unless_allowed() {
    let script = "grep NoNewPrivs /proc/self/status";
    assert_eq!(text(run(says(script)).await.outcome), "NoNewPrivs:\t1\n");
    let mut limited = says(script);
    limited.limits.open_files = Some(64);
    assert_eq!(text(run(limited).await.outcome), "NoNewPrivs:\t1\n");
    let may_gain_privileges = true;
    let settings = ExecSettings {
        may_gain_privileges,
        ..ExecSettings::default()
    };
    let own = std::fs::read_to_string("/proc/self/status").unwrap();
    if own.contains("NoNewPrivs:\t0") {
        assert_eq!(text(run_with(says(script), settings).await.outcome), "NoNewPrivs:\t0\n");
    }
}

async fn open_descriptors_are_not_inherited() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fcntl(file.as_file(), FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    let name = file.path().display().to_string();
    for limited in [false, true] {
        let mut spec = says("for fd in /proc/$$/fd/*; do readlink \"$fd\"; done; exit 0");
        spec.limits.open_files = limited.then_some(64);
        let open = text(run(spec).await.outcome);
        assert!(!open.contains(&name) && !open.contains("socket:"), "{open}");
    }
    // As a child of this process would.
    let other = std::process::Command::new("sh")
        .args(["-c", "readlink /proc/$$/fd/*"])
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&other.stdout).contains(&name));
}

async fn a_command_runs_as_the_user_that_it_names() {
    let spec = |user: &str, script: &str| ExecSpec {
        user: Some(user.to_owned()),
        ..says(script)
    };
    let unknown = run(spec("no-such-user", "id")).await.outcome;
    assert!(
        matches!(&unknown, Outcome::Retry(why) if why.contains("`no-such-user`")),
        "{unknown:?}"
    );
    if !is_root() {
        let other = run(spec("root", "id")).await.outcome;
        assert!(
            matches!(&other, Outcome::Retry(why) if why.contains("only a runner that runs as root")),
            "{other:?}"
        );
        return;
    }
    let script = "id -un; id -G | wc -w; echo $USER $HOME; grep CapEff /proc/self/status; touch x && echo made; \
                  echo 'summary=a note' > \"$RUNNER_CONTROL_FILE\"; echo again > /dev/stderr; cat";
    let mut spec = spec("daemon", script);
    spec.limits.open_files = Some(64);
    let report = run(spec).await;
    let home = nix::unistd::User::from_name("daemon").unwrap().unwrap().dir;
    let expected = format!(
        "daemon\n1\ndaemon {}\nCapEff:\t0000000000000000\nmade\n; id $(id)\n",
        home.display()
    );
    assert!(
        report.log.contains("err: again") && report.log.contains("summary: a note"),
        "{}",
        report.log
    );
    assert_eq!(text(report.outcome), expected);
    let mut bomb = ExecSpec {
        user: Some("daemon".to_owned()),
        ..says("for i in 1 2 3 4 5 6 7 8 9; do sleep 60 & done")
    };
    bomb.limits.processes = Some(4);
    let Outcome::Retry(why) = run(bomb).await.outcome else {
        panic!("it made its processes");
    };
    assert!(why.contains("fork"), "{why}");
}

async fn files_are_private_unless_the_umask_says_otherwise() {
    let script = "umask; touch x; stat -c %a x";
    assert_eq!(text(run(says(script)).await.outcome), "0077\n600\n");
    let shared = ExecSpec {
        umask: 0o022,
        ..says(script)
    };
    assert_eq!(text(run(shared).await.outcome), "0022\n644\n");
}
