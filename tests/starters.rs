//! What other programs begin with: the template of `examples/template`, the shop of `examples/web` outside the workspace, and the
//! packages as they would be published.
//!
//! Not here: building the shop, which needs packages of its own (CONTRIBUTING.md has the command).

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::kit::pages::top;
use crate::kit::{self, Site};

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![needs():
        the_template_becomes_a_package_whose_program_reads_its_own_files,
        packages_outside_the_workspace_find_those_inside,
        each_package_has_what_a_registry_shows
    ]
}

/// The files of the template with both placeholders filled in, as `cargo generate` would write them.
fn instantiate(from: &Path, to: &Path, runner: &str) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            instantiate(&entry.path(), &target, runner);
        } else if entry.file_name() != "cargo-generate.toml" {
            let text = std::fs::read_to_string(entry.path()).unwrap();
            let text = text
                .replace("{{project-name}}", "greeter")
                .replace("{{runner}}", runner);
            assert!(!text.contains("{{"), "{}: {text}", target.display());
            std::fs::write(target, text).unwrap();
        }
    }
}

/// What cargo reads of the packages there.
async fn packages(dir: &Path) -> Vec<Value> {
    let output = tokio::process::Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
            "--manifest-path",
        ])
        .arg(dir.join("Cargo.toml"))
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    found["packages"].as_array().unwrap().clone()
}

/// Its name, and where its dependency `runner` is.
async fn package(dir: &Path) -> (String, Option<PathBuf>) {
    let package = packages(dir).await.remove(0);
    let dependencies = package["dependencies"].as_array().unwrap();
    let runner = dependencies.iter().find(|d| d["name"] == "runner").unwrap();
    (
        package["name"].as_str().unwrap().to_owned(),
        runner["path"].as_str().map(PathBuf::from),
    )
}

/// Its program is `src/main.rs` of the template, which `cargo test` builds as an example beside the program.
async fn the_template_becomes_a_package_whose_program_reads_its_own_files() {
    let site = Site::new("");
    let runner = top().join("runner").canonicalize().unwrap();
    instantiate(
        &top().join("examples/template"),
        &site.dir,
        &format!("path = {runner:?}"),
    );
    assert_eq!(package(&site.dir).await, ("greeter".to_owned(), Some(runner)));
    let program = PathBuf::from(env!("CARGO_BIN_EXE_runner")).with_file_name("examples/template");
    let run = async |arguments: &[&str]| {
        let output = tokio::process::Command::new(&program)
            .args(arguments)
            .current_dir(&site.dir)
            .output()
            .await
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text)
    };
    let (code, text) = run(&["check"]).await;
    assert_eq!(code, Some(0), "{text}");
    let (_, schedules) = run(&["ls", "schedules", "--json"]).await;
    assert!(schedules.contains("m:greet-hourly"), "{schedules}");
    // Its section is its own, and is checked like those of `runner`.
    let settings = std::fs::read_to_string(site.dir.join("config.yaml")).unwrap();
    site.write("config.yaml", &settings.replace("word: hello", "wrod: hello"));
    let (code, text) = run(&["check"]).await;
    assert_eq!(code, Some(65), "{text}");
    assert!(text.contains("did you mean \"word\"?"), "{text}");
}

async fn packages_outside_the_workspace_find_those_inside() {
    let (name, runner) = package(&top().join("examples/web")).await;
    let inside = top().join("runner").canonicalize().unwrap();
    assert_eq!((name.as_str(), runner), ("shop", Some(inside)));
}

async fn each_package_has_what_a_registry_shows() {
    let all = packages(&top()).await;
    assert!(all.len() >= 7, "{all:?}");
    for package in all {
        let name = package["name"].as_str().unwrap();
        for key in ["description", "license", "rust_version", "readme"] {
            assert!(package[key].is_string(), "{name} lacks {key}");
        }
        let keywords = package["keywords"].as_array().unwrap().len();
        assert!(
            (1..=5).contains(&keywords),
            "{name} has {keywords} keywords, a registry takes five"
        );
        // Cargo packs only what is in the directory of the package; links are packed as the files that they lead to.
        let dir = Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap();
        for file in ["LICENSE-MIT", "LICENSE-APACHE", package["readme"].as_str().unwrap()] {
            assert!(dir.join(file).is_file(), "{name} lacks {file}");
        }
        // A dependency inside the workspace needs a version, which is what a registry knows.
        for dependency in package["dependencies"].as_array().unwrap() {
            let inside = dependency["path"].is_string() && dependency["kind"].is_null();
            assert!(!inside || dependency["req"] != "*", "{name}: {dependency}");
        }
    }
}
