//! Modules of WebAssembly as functions: small ones, written as text here, which the real engine compiles and runs.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;
use std::time::Duration;

use runner_core::function::{Function, FunctionKind, Functions, WasmDir, WasmSpec};
use runner_handlers::{ExecSettings, HandlerSettings, register_with};
use runner_sdk::testing::{Trial, TrialReport};
use runner_sdk::{Handlers, Outcome, RUN_LOG_MAX_BYTES, Registry, StopReason};
use tokio::time::{Instant, timeout};

/// Upper bound for every wait, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What modules import here.
const IMPORTS: &str = r#"
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $env_sizes (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $env (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))"#;

/// Copies the file $from to its standard output.
const COPY: &str = "
  (func $copy (param $from i32)
    (loop $more
      (i32.store (i32.const 0) (i32.const 1024))
      (i32.store (i32.const 4) (i32.const 4096))
      (drop (call $read (local.get $from) (i32.const 0) (i32.const 1) (i32.const 8)))
      (if (i32.load (i32.const 8)) (then
        (i32.store (i32.const 4) (i32.load (i32.const 8)))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 12)))
        (br $more)))))";

struct Scene(tempfile::TempDir);

impl Scene {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A module whose main function is `main`; `parts` stands beside it.
    fn module(&self, parts: &str, main: &str) -> WasmSpec {
        let text =
            format!("(module {IMPORTS} (memory (export \"memory\") 2) {parts} (func (export \"_start\") {main}))");
        self.write(&wat::parse_str(text).unwrap())
    }

    fn write(&self, module: &[u8]) -> WasmSpec {
        let path = self.file("module.wasm");
        std::fs::write(&path, module).unwrap();
        WasmSpec::new(path)
    }
}

fn handlers(spec: WasmSpec) -> Handlers {
    let functions = Functions::new(vec![Function {
        name: "it".into(),
        description: String::new(),
        kind: FunctionKind::Wasm(Box::new(spec)),
        options: Default::default(),
        payload: None,
        payload_schema: None,
        limits: Vec::new(),
        notify: Default::default(),
        revision: "1".into(),
    }]);
    let registry = register_with(Registry::new(), functions, HandlerSettings::default());
    registry.build().unwrap()
}

fn trial() -> Trial {
    Trial::of("fn:it")
}

async fn run(spec: WasmSpec, trial: Trial) -> TrialReport {
    let handlers = handlers(spec);
    let report = timeout(PATIENCE, trial.run_with(&handlers)).await;
    report.expect("it ends").unwrap()
}

async fn outcome(spec: WasmSpec) -> Outcome {
    run(spec, trial()).await.outcome
}

/// The error of an attempt that failed, and whether it is tried again.
async fn failed(spec: WasmSpec) -> (bool, String) {
    match outcome(spec).await {
        Outcome::Retry(error) => (true, error),
        Outcome::Skip(error) => (false, error),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_payload_is_its_input_and_what_it_prints_the_result() {
    let scene = Scene::new();
    let cat = scene.module(COPY, "(call $copy (i32.const 0))");
    let payload: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let report = run(cat.clone(), trial().payload(payload.clone())).await;
    assert!(report.outcome == Outcome::success(payload));
    let report = run(cat.clone(), trial().payload("one\ntwo")).await;
    assert!(
        report.log.contains("out: one") && report.log.contains("out: two"),
        "{}",
        report.log
    );
    let silent = WasmSpec {
        stdout_is_result: false,
        ..cat
    };
    let report = run(silent, trial().payload("x")).await;
    assert_eq!(report.outcome, Outcome::done());
}

#[tokio::test]
async fn a_flood_of_output_is_bounded() {
    let scene = Scene::new();
    let payload = vec![b'x'; 100].repeat(40_000);
    let lines: Vec<u8> = payload.chunks(99).flat_map(|line| [line, b"\n"].concat()).collect();
    let cat = scene.module(COPY, "(call $copy (i32.const 0))");
    let report = run(cat, trial().payload(lines)).await;
    assert_eq!(report.outcome, Outcome::done());
    assert!(report.log.contains("the result is longer than"), "{}", report.log.len());
    assert!(report.log.len() <= RUN_LOG_MAX_BYTES, "{}", report.log.len());
}

#[tokio::test]
async fn exit_codes_mean_what_they_mean_for_commands() {
    let scene = Scene::new();
    let exits = |code: u32| scene.module("", &format!("(call $exit (i32.const {code}))"));
    assert_eq!(outcome(scene.module("", "")).await, Outcome::done());
    assert_eq!(outcome(exits(0)).await, Outcome::done());
    assert_eq!(failed(exits(3)).await, (true, "exit code 3".to_owned()));
    assert_eq!(failed(exits(65)).await, (false, "exit code 65".to_owned()));
    assert!(matches!(outcome(exits(99)).await, Outcome::Revoke(_)));
    // WASI has none above 125; 256 is no success either.
    let (again, error) = failed(exits(256)).await;
    assert!(!again && error.starts_with("wasm_trap: "), "{error}");
    let words = r#"(data (i32.const 64) "no ink\n")"#;
    let main = "(i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 7))
        (drop (call $write (i32.const 2) (i32.const 0) (i32.const 1) (i32.const 8))) (call $exit (i32.const 1))";
    assert_eq!(
        failed(scene.module(words, main)).await,
        (true, "exit code 1: no ink".to_owned())
    );
}

#[tokio::test]
async fn a_trap_is_not_tried_again() {
    let scene = Scene::new();
    let recursive = "(func $deeper (param i32) (call $deeper (local.get 0)) (call $deeper (local.get 0)))";
    for (parts, main, says) in [
        ("", "unreachable", "unreachable"),
        ("", "(drop (i32.load (i32.const 0x7fffffff)))", "out of bounds"),
        ("", "(drop (i32.div_u (i32.const 1) (i32.const 0)))", "divide by zero"),
        (recursive, "(call $deeper (i32.const 1))", "stack"),
        ("(start $now) (func $now unreachable)", "", "unreachable"),
    ] {
        let (again, error) = failed(scene.module(parts, main)).await;
        assert!(
            !again && error.starts_with("wasm_trap: ") && error.contains(says),
            "{error}"
        );
    }
}

#[tokio::test]
async fn memory_and_tables_are_limited() {
    let scene = Scene::new();
    let limit = 16 << 20;
    let limited = |spec| WasmSpec { memory: limit, ..spec };
    let grows = |pages: u32| limited(scene.module("", &format!("(drop (memory.grow (i32.const {pages})))")));
    assert_eq!(outcome(grows(254)).await, Outcome::done());
    let expected = (
        true,
        format!("wasm_memory: the {limit} bytes of wasm.memory are used up"),
    );
    assert_eq!(failed(grows(255)).await, expected);
    assert_eq!(failed(grows(65_000)).await, expected);
    let large = wat::parse_str("(module (memory (export \"memory\") 1000) (func (export \"_start\")))").unwrap();
    assert_eq!(failed(limited(scene.write(&large))).await, expected, "at the start");
    // A table that may not grow says so to the module. All tables count together.
    let tables = "(table $a 1 funcref) (table $b 1 funcref)";
    let grow = |table: &str, by: u32| format!("(table.grow {table} (ref.null func) (i32.const {by}))");
    let both = |by: u32| {
        let main = format!(
            "(drop {}) (if (i32.lt_s {} (i32.const 0)) (then (call $exit (i32.const 7))))",
            grow("$a", 600_000),
            grow("$b", by)
        );
        scene.module(tables, &main)
    };
    assert_eq!(outcome(both(300_000)).await, Outcome::done());
    assert_eq!(failed(both(500_000)).await.1, "exit code 7");
    let two = "(module (memory 1) (memory 1) (func (export \"_start\")))";
    let (_, error) = failed(scene.write(&wat::parse_str(two).unwrap())).await;
    assert!(
        error.starts_with("misconfigured: ") && error.contains("module.wasm"),
        "{error}"
    );
}

#[tokio::test]
async fn an_endless_loop_ends_with_its_task() {
    let scene = Scene::new();
    let endless = scene.module("", "(loop $again (br $again))");
    for reason in [StopReason::Deadline, StopReason::Cancelled, StopReason::Shutdown] {
        let limits = trial().limits(None, Some(Duration::from_secs(1)));
        let stop = limits.stop();
        let handlers = handlers(endless.clone());
        let running = tokio::spawn(async move { limits.run_with(&handlers).await.unwrap() });
        // It runs, or is compiled: it ends in both.
        tokio::task::yield_now().await;
        let asked = Instant::now();
        stop.stop(reason);
        let report = timeout(PATIENCE, running).await.expect("it ends").unwrap();
        let says = match reason {
            StopReason::Deadline => "timeout after 1s",
            StopReason::Cancelled => "cancelled on request",
            _ => "stopped",
        };
        let text = format!("{:?}", report.outcome);
        assert!(text.contains(says), "{text} after {:?}", asked.elapsed());
    }
}

#[tokio::test]
async fn many_modules_run_at_once_and_stop() {
    let scene = Scene::new();
    let main = "(i32.store (i32.const 0) (i32.const 64)) (i32.store (i32.const 4) (i32.const 3))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) (loop $again (br $again))";
    let handlers = handlers(scene.module(r#"(data (i32.const 64) "up\n")"#, main));
    let mut running = Vec::new();
    for _ in 0..20 {
        let (trial, handlers) = (trial(), handlers.clone());
        let stop = trial.stop();
        let context = trial.context(&handlers);
        let found = handlers.find("fn:it").unwrap();
        let log = context.clone();
        running.push((stop, log, tokio::spawn(found.call(context))));
    }
    // All of them compute at the same time, on two processors or more.
    for (_, cx, _) in &running {
        let since = Instant::now();
        while cx.log().take().is_none() {
            assert!(since.elapsed() < PATIENCE, "it prints");
            tokio::task::yield_now().await;
        }
    }
    for (stop, _, _) in &running {
        stop.stop(StopReason::Cancelled);
    }
    for (_, _, end) in running {
        let end = timeout(PATIENCE, end).await.expect("it ends").unwrap();
        assert_eq!(end, Outcome::Retry("cancelled on request".to_owned()));
    }
}

#[tokio::test]
async fn it_gets_arguments_and_the_variables_of_commands() {
    let scene = Scene::new();
    let print = |sizes: &str, get: &str| {
        let main = format!(
            "(drop (call {sizes} (i32.const 16) (i32.const 20))) (drop (call {get} (i32.const 1024) (i32.const 8192)))
             (i32.store (i32.const 0) (i32.const 8192)) (i32.store (i32.const 4) (i32.load (i32.const 20)))
             (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))"
        );
        scene.module("", &main)
    };
    let mut spec = print("$args_sizes", "$args");
    spec.args = ["--width", "$(id)", "a b"].map(str::to_owned).to_vec();
    assert_eq!(
        outcome(spec).await,
        Outcome::success("module.wasm\0--width\0$(id)\0a b\0")
    );
    let secret = scene.file("secret");
    std::fs::write(&secret, "hush-hush\n").unwrap();
    let mut spec = print("$env_sizes", "$env");
    spec.env.insert("QUALITY".to_owned(), "80".to_owned());
    spec.env.insert("RUNNER_TASK_ID".to_owned(), "forged".to_owned());
    spec.env
        .insert("KEY".to_owned(), format!("${{file:{}}}", secret.display()));
    let report = run(spec, trial().attempt(2)).await;
    let Outcome::Success(Some(result)) = report.outcome else {
        panic!("{:?}", report.outcome)
    };
    let text = String::from_utf8(result.to_vec()).unwrap();
    let all: Vec<&str> = text.split('\0').collect();
    for variable in [
        "QUALITY=80",
        "RUNNER_TASK_ID=trial",
        "RUNNER_ATTEMPT=2",
        "RUNNER_FUNCTION=it",
    ] {
        assert!(all.contains(&variable), "{variable} in {all:?}");
    }
    assert!(
        !text.contains("hush") && text.contains("KEY="),
        "secrets are replaced: {text}"
    );
    assert!(!text.contains("PATH="), "those of this process stay here: {text}");
}

/// Opens `name` in the first directory and copies it; its exit code is the fault. `creates`: makes it instead.
fn opens(scene: &Scene, name: &str, creates: bool) -> WasmSpec {
    let (flags, rights) = if creates { (1, 64) } else { (0, 2) };
    let main = format!(
        "(local $fault i32)
         (local.set $fault (call $open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const {}) (i32.const {flags})
            (i64.const {rights}) (i64.const 0) (i32.const 0) (i32.const 16)))
         (if (local.get $fault) (then (call $exit (local.get $fault))))
         (if (i32.eqz (i32.const {flags})) (then (call $copy (i32.load (i32.const 16)))))",
        name.len()
    );
    scene.module(&format!("{COPY} (data (i32.const 64) \"{name}\")"), &main)
}

#[tokio::test]
async fn it_sees_only_the_directories_of_its_manifest_and_writes_where_it_may() {
    let scene = Scene::new();
    let host = scene.file("files");
    std::fs::create_dir(&host).unwrap();
    std::fs::write(host.join("in"), "content").unwrap();
    std::fs::write(scene.file("outside"), "secret").unwrap();
    std::os::unix::fs::symlink("../outside", host.join("link")).unwrap();
    let dir = |write: bool| {
        let (host, guest) = (host.clone(), "/files".to_owned());
        vec![WasmDir { host, guest, write }]
    };
    let with = |name: &str, creates: bool, dirs: Vec<WasmDir>| WasmSpec {
        dirs,
        ..opens(&scene, name, creates)
    };
    assert_eq!(
        outcome(with("in", false, dir(false))).await,
        Outcome::success("content")
    );
    for (name, creates, dirs) in [
        ("in", false, Vec::new()),
        ("../outside", false, dir(true)),
        ("link", false, dir(true)),
        ("made", true, dir(false)),
    ] {
        let (_, error) = failed(with(name, creates, dirs)).await;
        assert!(error.starts_with("exit code "), "{name}: {error}");
    }
    assert!(!host.join("made").exists());
    assert_eq!(outcome(with("made", true, dir(true))).await, Outcome::done());
    assert!(host.join("made").exists());
    let mut missing = dir(false);
    missing[0].host = scene.file("none");
    let (again, error) = failed(with("in", false, missing)).await;
    assert!(
        again && error.starts_with("misconfigured: wasm.dirs: ") && error.contains("none"),
        "{error}"
    );
}

#[tokio::test]
async fn its_open_files_are_bounded() {
    let scene = Scene::new();
    std::fs::write(scene.file("in"), "content").unwrap();
    let main = "(local $n i32)
        (loop $more
          (if (call $open (i32.const 3) (i32.const 0) (i32.const 64) (i32.const 2) (i32.const 0)
                (i64.const 2) (i64.const 0) (i32.const 0) (i32.const 16))
            (then (call $exit (i32.const 9))))
          (local.set $n (i32.add (local.get $n) (i32.const 1)))
          (br_if $more (i32.lt_u (local.get $n) (i32.const 2000))))";
    let mut spec = scene.module(r#"(data (i32.const 64) "in")"#, main);
    spec.dirs = vec![WasmDir {
        host: scene.0.path().to_owned(),
        guest: "/".to_owned(),
        write: false,
    }];
    let (_, error) = failed(spec).await;
    assert!(
        error.starts_with("wasm_trap: ") && error.contains("resource table"),
        "{error}"
    );
}

#[test]
fn directories_do_not_get_round_what_confines_commands() {
    let with = |dirs: bool, exec: ExecSettings| {
        let dir = WasmDir {
            host: "/srv".into(),
            guest: "/".to_owned(),
            write: false,
        };
        let spec = WasmSpec {
            dirs: if dirs { vec![dir] } else { Vec::new() },
            ..WasmSpec::new("/srv/a.wasm")
        };
        let settings = HandlerSettings {
            exec,
            ..HandlerSettings::default()
        };
        let kind = FunctionKind::Wasm(Box::new(spec));
        (
            settings.runs(&kind),
            settings.check(&kind, false).map(|found| found.message),
        )
    };
    let off: fn() -> ExecSettings = || ExecSettings {
        enabled: false,
        ..ExecSettings::default()
    };
    let confined: fn() -> ExecSettings = || ExecSettings {
        allowed_commands: vec!["rsync".to_owned()],
        ..ExecSettings::default()
    };
    assert_eq!(with(true, ExecSettings::default()), (true, None));
    for exec in [off, confined] {
        assert_eq!(with(false, exec()), (true, None));
        let (runs, why) = with(true, exec());
        assert!(
            !runs && why.as_ref().is_some_and(|why| why.contains("allowed_commands")),
            "{why:?}"
        );
    }
}

#[tokio::test]
async fn a_module_that_is_replaced_is_compiled_again() {
    let scene = Scene::new();
    let exits = |code: u32| scene.module("", &format!("(call $exit (i32.const {code}))"));
    let handlers = handlers(exits(3));
    let outcome = async || trial().run_with(&handlers).await.unwrap().outcome;
    for code in [3, 4, 5] {
        exits(code);
        for _ in 0..2 {
            assert_eq!(outcome().await, Outcome::Retry(format!("exit code {code}")));
        }
    }
    std::fs::remove_file(scene.file("module.wasm")).unwrap();
    assert!(matches!(outcome().await, Outcome::Retry(error) if error.starts_with("misconfigured: ")));
}

#[tokio::test]
async fn what_cannot_run_says_why() {
    let scene = Scene::new();
    let module = |text: &str| wat::parse_str(text).unwrap();
    for (bytes, says) in [
        (b"#!/bin/sh\necho no module\n".to_vec(), "not a module of WebAssembly"),
        (b"(module)".to_vec(), "not a module of WebAssembly"),
        (b"\0asm\x01\0\0\0\xff".to_vec(), "not a module of WebAssembly"),
        (Vec::new(), "not a module of WebAssembly"),
        (module("(module (func (export \"main\")))"), "no function _start"),
        (
            module("(module (func (export \"_start\") (param i32)))"),
            "no function _start",
        ),
        (
            module("(module (import \"env\" \"launch\" (func)) (func (export \"_start\")))"),
            "env::launch",
        ),
    ] {
        cannot_run(scene.write(&bytes), says).await;
    }
    let fifo = scene.file("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(made.success());
    let huge = scene.file("huge.wasm");
    std::fs::File::create(&huge).unwrap().set_len(17 << 20).unwrap();
    for (path, says) in [
        (scene.file("none.wasm"), "none.wasm: No such file"),
        (scene.0.path().to_owned(), "it is not a file"),
        (fifo, "it is not a file"),
        (huge, "longer than 16777216 bytes"),
    ] {
        cannot_run(WasmSpec::new(path), says).await;
    }
}

/// It is tried again, in case a deployment is in progress, but not for days.
async fn cannot_run(spec: WasmSpec, says: &str) {
    let (again, error) = failed(spec.clone()).await;
    assert!(
        again && error.starts_with("misconfigured: ") && error.contains(says),
        "{error}"
    );
    let third = run(spec, trial().attempt(3)).await.outcome;
    assert!(matches!(third, Outcome::Skip(_)), "{third:?}");
}
