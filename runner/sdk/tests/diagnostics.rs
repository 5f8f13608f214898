//! What the compiler says of handlers that are none: the argument or the result at fault, and what to write instead.
//!
//! Runs the compiler once, on one file with all mistakes, against the library that this test is linked with: no package is built.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

const MISTAKES: &str = r#"
use runner_sdk::{Ctx, Payload, Registry, handler};

struct Plain;

// An argument without its extractor.
#[handler]
async fn bare_argument(name: String, cx: Ctx) {}

// A result that no worker understands.
#[handler]
async fn odd_result(cx: Ctx) -> Plain { Plain }

// A payload that cannot be read.
#[handler]
async fn unreadable(Payload(p): Payload<Plain>) {}

#[handler]
fn not_async(cx: Ctx) {}

#[handler]
async fn crowded(a: Ctx, b: Ctx, c: Ctx, d: Ctx, e: Ctx, f: Ctx, g: Ctx, h: Ctx, i: Ctx) {}

// A future that cannot move to another thread.
#[handler]
async fn not_send(cx: Ctx) {
    let counter = std::rc::Rc::new(1);
    cx.cancelled().await;
    drop(counter);
}

// No payload, which would say the type.
#[handler]
async fn no_payload(cx: Ctx) {}

#[handler]
async fn nothing() {}

fn without_payload(registry: Registry) -> Registry {
    registry.on_task(no_payload).on_task(nothing)
}

fn bare(registry: Registry) -> Registry {
    registry.on("bare", bare_argument)
}

fn untyped(registry: Registry) -> Registry {
    registry.on_task(async |Payload(_): Payload<String>| ())
}

fn no_layer(registry: Registry) -> Registry {
    registry.layer(Plain)
}
"#;

/// The newest library of a package beside this test.
fn library(dir: &Path, package: &str) -> PathBuf {
    let prefix = format!("lib{package}-");
    let files = std::fs::read_dir(dir).unwrap().filter_map(|entry| {
        let path = entry.ok()?.path();
        let name = path.file_name()?.to_str()?;
        let fits = name.starts_with(&prefix) && name.ends_with(".rlib");
        let changed: SystemTime = path.metadata().ok()?.modified().ok()?;
        fits.then_some((changed, path))
    });
    files
        .max()
        .unwrap_or_else(|| panic!("{package} is not in {}", dir.display()))
        .1
}

fn errors() -> String {
    let test = std::env::current_exe().unwrap();
    let libraries = test.parent().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("mistakes.rs");
    std::fs::write(&source, MISTAKES).unwrap();
    let mut compiler = Command::new("rustc");
    compiler
        .args(["--edition=2024", "--crate-type=lib", "--emit=metadata", "--color=never"])
        .arg("-L")
        .arg(format!("dependency={}", libraries.display()))
        .arg("--out-dir")
        .arg(dir.path())
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .arg(&source);
    let library = library(libraries, "runner_sdk");
    compiler
        .arg("--extern")
        .arg(format!("runner_sdk={}", library.display()));
    let output = compiler.output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn the_compiler_names_what_does_not_fit_and_what_does() {
    let errors = errors();
    for expected in [
        // The argument, at its own place.
        "`String` cannot be an argument of a handler",
        "use Payload<T> (T: DeserializeOwned), Raw, State<T>, Option<State<T>> or Ctx",
        "async fn bare_argument(name: String, cx: Ctx) {}",
        "a handler cannot return `Plain`",
        "async fn odd_result(cx: Ctx) -> Plain { Plain }",
        "async fn unreadable(Payload(p): Payload<Plain>) {}",
        "a handler is an `async fn`",
        "a handler has at most eight arguments",
        // The value, and the `.await`.
        "future cannot be sent between threads safely",
        "let counter = std::rc::Rc::new(1);",
        "cx.cancelled().await;",
        "the_future_of_a_handler_must_be_send",
        // Where it is registered.
        "is not a handler",
        "write #[handler] above the function",
        "`String` is not the payload of a task type",
        "`Ctx` is not Payload<T>",
        "a handler without a payload, or of another one, is registered by name",
        "`Plain` is not a layer for handlers",
    ] {
        assert!(errors.contains(expected), "{expected:?} is not in:\n{errors}");
    }
    assert!(!errors.contains("type mismatch in function arguments"), "{errors}");
}
