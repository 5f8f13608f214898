//! The content of `deploy/` and `docs/deploy.md`: settings are accepted, the unit is valid, files and addresses exist.
//!
//! `scripts/release` and a container engine build packages and images, not these tests; `scripts/image` executes the last
//! stage of the Dockerfile.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::kit::{self, Http, Site};

/// Duration of a drain beyond `worker.shutdown_timeout`.
const DRAIN_EXTRA: Duration = Duration::from_secs(5);

pub fn tests() -> Vec<kit::Trial> {
    kit::trials![
        needs(): settings_are_accepted, manifests_are_accepted, the_package_has_the_documented_settings,
            the_package_has_files_that_exist, the_unit_is_valid, every_platform_waits_for_a_drain,
            compose_names_what_exists, the_pod_is_described_whole, versions_agree, the_last_stage_of_the_image_answers;
        needs(Redis): the_pod_is_ready_at_its_probes
    ]
}

fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All objects of `deploy/kubernetes`, by the order of its kustomization.
fn objects() -> Vec<Value> {
    let listed = yaml("deploy/kubernetes/kustomization.yaml");
    let names = listed["resources"].as_array().unwrap().iter();
    names
        .map(|name| yaml(&format!("deploy/kubernetes/{}", name.as_str().unwrap())))
        .collect()
}

/// The object of this kind and name.
fn object(kind: &str, name: &str) -> Value {
    let found = objects()
        .into_iter()
        .find(|o| o["kind"] == kind && o["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("there is no {kind} {name}"))
}

fn container() -> Value {
    object("Deployment", "runner")["spec"]["template"]["spec"]["containers"][0].clone()
}

/// Settings with the file that contains them.
fn settings() -> Vec<(&'static str, String)> {
    let pod = object("ConfigMap", "runner-config")["data"]["config.yaml"].clone();
    vec![
        ("deploy/debian/config.sed", packaged_settings()),
        ("deploy/docker/config.yaml", read("deploy/docker/config.yaml")),
        ("deploy/compose/config.yaml", read("deploy/compose/config.yaml")),
        (
            "deploy/kubernetes/config.yaml",
            pod.as_str().unwrap().replace("/etc/runner/secrets", "secrets"),
        ),
    ]
}

/// A site with these settings, and all secrets they refer to.
fn site_of(text: &str) -> Site {
    let mut site = Site::new(text);
    for name in ["REDIS_PASSWORD", "DB_PASSWORD", "ADMIN_PASSWORD"] {
        site.env.push((name.to_owned(), "a-long-password".to_owned()));
    }
    site.write("secrets/server-key", "0123456789abcdef0123456789abcdef0123456789abcdef");
    site.write("secrets/redis-password", "");
    site.write("secrets/admin-password", "a-long-password");
    site
}

async fn settings_are_accepted() {
    for (path, text) in settings() {
        let checked = site_of(&text)
            .cli(["check", "--offline", "--json", "-c", "config.yaml"])
            .await;
        assert!(checked.status.success(), "{path}: {}{}", checked.stdout, checked.stderr);
        let found: Vec<Value> = serde_json::from_str(&checked.stdout).unwrap();
        // Its directory is on another machine, and a single instance needs no shared key.
        let expected = |code: &Value| code == "CFG_DIR" || code == "CFG_OWN_KEY";
        let odd: Vec<_> = found.iter().filter(|problem| !expected(&problem["code"])).collect();
        assert!(odd.is_empty(), "{path}: {odd:?}");
    }
}

async fn manifests_are_accepted() {
    let site = Site::new("");
    site.write("manifests/compose.yaml", &read("deploy/compose/manifests/hello.yaml"));
    site.cli(["check", "manifests"]).await.ok();
    let pod = object("ConfigMap", "runner-manifests");
    for (name, text) in pod["data"].as_object().unwrap() {
        site.write("manifests/compose.yaml", text.as_str().unwrap());
        let checked = site.cli(["check", "manifests"]).await;
        assert!(checked.status.success(), "{name}: {}", checked.stdout);
    }
}

/// The package's config.yaml, as `scripts/release` makes it.
fn packaged_settings() -> String {
    let mut sed = std::process::Command::new("sed");
    let made = sed
        .current_dir(top())
        .args(["-f", "deploy/debian/config.sed", "config.yaml"])
        .output();
    let made = made.expect("sed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    String::from_utf8(made.stdout).unwrap()
}

/// The same as config.yaml, except for its head and three paths.
async fn the_package_has_the_documented_settings() {
    let (documented, packaged) = (read("config.yaml"), packaged_settings());
    // The head ends with the first empty comment line.
    let body = |text: &str| -> Vec<String> { text.lines().skip_while(|l| *l != "#").map(str::to_owned).collect() };
    let (documented, packaged) = (body(&documented), body(&packaged));
    assert_eq!(documented.len(), packaged.len(), "a line is missing or new");
    let pairs = documented.iter().zip(&packaged);
    let differ: Vec<_> = pairs.filter(|(a, b)| a != b).map(|(_, line)| line.trim()).collect();
    let begins = [
        "dir: /var/lib/runner",
        "dir: /etc/runner/manifests",
        "path: /var/log/runner/runner.log",
    ];
    assert_eq!(differ.len(), begins.len(), "{differ:?}");
    for (line, begin) in differ.iter().zip(begins) {
        assert!(line.starts_with(begin), "{line}");
    }
}

async fn the_package_has_files_that_exist() {
    let manifest = read("runner/Cargo.toml");
    let package = manifest.split("[package.metadata.deb]").nth(1).unwrap();
    let package = package.split("\n[").next().unwrap();
    let own: Vec<_> = package.split('"').filter(|text| text.starts_with("../")).collect();
    assert!(own.len() > 5, "{own:?}");
    // Files made by scripts/release exist only after it.
    for path in own.iter().filter(|path| !path.starts_with("../target/")) {
        assert!(top().join("runner").join(path).exists(), "{path}");
    }
    let config = unit_value("ExecStart").split(' ').next_back().unwrap().to_owned();
    assert!(package.contains(&format!("conf-files = [\"{config}\"")), "{config}");
    for (script, lines) in [("postinst", 1), ("prerm", 1), ("postrm", 1)] {
        let text = read(&format!("deploy/debian/{script}"));
        assert_eq!(
            text.matches("#DEBHELPER#").count(),
            lines,
            "{script}: cargo-deb puts its lines there"
        );
        let checked = std::process::Command::new("sh")
            .arg("-n")
            .arg(top().join("deploy/debian").join(script))
            .status();
        assert!(checked.unwrap().success(), "{script}");
    }
}

/// The last value of this key in the unit.
fn unit_value(key: &str) -> String {
    let unit = read("deploy/systemd/runner.service");
    let mut lines = unit.lines().rev();
    let found = lines.find_map(|line| line.strip_prefix(&format!("{key}=")));
    found.unwrap_or_else(|| panic!("the unit has no {key}")).to_owned()
}

async fn the_unit_is_valid() {
    let command = unit_value("ExecStart");
    let arguments = command.strip_prefix("/usr/bin/runner ").unwrap();
    let binary = env!("CARGO_BIN_EXE_runner");
    let mut help = std::process::Command::new(binary);
    let helped = help.args(arguments.split(' ')).arg("--help").output().unwrap();
    assert!(
        helped.status.success(),
        "{command}: {}",
        String::from_utf8_lossy(&helped.stderr)
    );
    assert_eq!(unit_value("Type"), "notify");
    // systemd-analyze looks for the program.
    let unit = read("deploy/systemd/runner.service").replace("/usr/bin/runner", binary);
    let path = kit::scratch("unit").join("runner.service");
    std::fs::write(&path, unit).unwrap();
    let mut verify = std::process::Command::new("systemd-analyze");
    let verified = verify
        .args(["verify", "--man=no"])
        .arg(&path)
        .stdin(Stdio::null())
        .output();
    let Ok(verified) = verified else {
        println!("deploy: no systemd-analyze here; the unit was read only");
        return;
    };
    let said = String::from_utf8_lossy(&verified.stderr);
    let own: Vec<_> = said.lines().filter(|line| line.contains("runner.service")).collect();
    assert!(verified.status.success() && own.is_empty(), "{said}");
}

fn seconds(text: &str) -> Duration {
    let number = text
        .strip_suffix('s')
        .unwrap_or_else(|| panic!("{text} is not in seconds"));
    Duration::from_secs(number.parse().unwrap())
}

/// Each one must wait longer than a drain may take, or running tasks are killed.
async fn every_platform_waits_for_a_drain() {
    let documented: Value = serde_saphyr::from_str(&read("config.yaml")).unwrap();
    let drain = seconds(documented["worker"]["shutdown_timeout"].as_str().unwrap()) + DRAIN_EXTRA;
    for (path, text) in settings() {
        let stated: Value = serde_saphyr::from_str(&text).unwrap();
        let timeout = &stated["worker"]["shutdown_timeout"];
        assert!(
            timeout.is_null() || *timeout == documented["worker"]["shutdown_timeout"],
            "{path}"
        );
    }
    let compose = yaml("deploy/compose/compose.yaml");
    let docker = seconds(compose["services"]["runner"]["stop_grace_period"].as_str().unwrap());
    let pod = object("Deployment", "runner")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].clone();
    let pod = Duration::from_secs(pod.as_u64().unwrap());
    let systemd = seconds(&unit_value("TimeoutStopSec"));
    for (platform, waits) in [("compose", docker), ("the pod", pod), ("systemd", systemd)] {
        assert!(waits > drain, "{platform} waits for {waits:?}, a drain takes {drain:?}");
    }
}

async fn compose_names_what_exists() {
    let compose = yaml("deploy/compose/compose.yaml");
    let services = compose["services"].as_object().unwrap();
    assert_eq!(
        services.keys().collect::<Vec<_>>(),
        ["mariadb", "migrate", "redis", "runner"]
    );
    let (runner, volumes) = (&services["runner"], compose["volumes"].as_object().unwrap());
    let build = top()
        .join("deploy/compose")
        .join(runner["build"]["context"].as_str().unwrap());
    assert!(build.join(runner["build"]["dockerfile"].as_str().unwrap()).is_file());
    for (name, service) in services {
        for volume in service["volumes"].as_array().into_iter().flatten() {
            let from = volume.as_str().unwrap().split(':').next().unwrap();
            let there = from.starts_with("./") && top().join("deploy/compose").join(from).exists();
            assert!(there || volumes.contains_key(from), "{name}: {from}");
        }
        for needed in service["depends_on"].as_object().into_iter().flatten() {
            let waits_for_health = needed.1["condition"] == "service_healthy";
            assert!(services.contains_key(needed.0), "{name}: {}", needed.0);
            assert!(
                !waits_for_health || services[needed.0]["healthcheck"].is_object(),
                "{name}: {}",
                needed.0
            );
        }
    }
    // The hosts in the settings are services.
    let settings = yaml("deploy/compose/config.yaml");
    for host in [&settings["redis"]["host"], &settings["database"]["host"]] {
        let name = host.as_str().unwrap().split(':').next().unwrap();
        assert!(services.contains_key(name), "{name}");
    }
    // Each required variable is in the example.
    let example = read("deploy/compose/.env.example");
    for name in read("deploy/compose/compose.yaml").split("${").skip(1) {
        let name = name.split(":?").next().unwrap();
        assert!(example.lines().any(|line| line == format!("{name}=")), "{name}");
    }
}

async fn the_pod_is_described_whole() {
    let deployment = object("Deployment", "runner");
    let pod = &deployment["spec"]["template"];
    let container = container();
    let mounted: BTreeSet<&str> = container["volumeMounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|mount| mount["name"].as_str().unwrap())
        .collect();
    let volumes = pod["spec"]["volumes"].as_array().unwrap();
    let named: BTreeSet<&str> = volumes.iter().map(|volume| volume["name"].as_str().unwrap()).collect();
    assert_eq!(mounted, named);
    for volume in volumes {
        if let Some(map) = volume["configMap"]["name"].as_str() {
            object("ConfigMap", map);
        }
        if let Some(secret) = volume["secret"]["secretName"].as_str() {
            object("Secret", secret);
        }
    }
    // The files in the settings are in the secret, below its mount point.
    let settings = object("ConfigMap", "runner-config")["data"]["config.yaml"].clone();
    let secret = object("Secret", "runner");
    for reference in settings.as_str().unwrap().split("${file:").skip(1) {
        let key = reference.split('}').next().unwrap();
        let key = key
            .strip_prefix("/etc/runner/secrets/")
            .unwrap_or_else(|| panic!("{key}"));
        assert!(secret["stringData"][key].is_string(), "{key}");
    }
    let labels = &pod["metadata"]["labels"];
    for selector in [
        &deployment["spec"]["selector"]["matchLabels"],
        &object("PodDisruptionBudget", "runner")["spec"]["selector"]["matchLabels"],
        &object("Service", "runner")["spec"]["selector"],
    ] {
        assert_eq!(selector, labels);
    }
    let kept = object("PodDisruptionBudget", "runner")["spec"]["minAvailable"].as_u64();
    assert!(
        kept < deployment["spec"]["replicas"].as_u64(),
        "no pod could ever be moved"
    );
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    assert_eq!(pod["spec"]["securityContext"]["runAsNonRoot"], true);
    let user = format!("USER {}:{0}", pod["spec"]["securityContext"]["runAsUser"]);
    assert!(read("deploy/docker/Dockerfile").contains(&user), "{user}");
}

/// The pod's settings, manifests and command, at another Redis and on free ports.
async fn the_pod_is_ready_at_its_probes() {
    let (_, text) = settings().pop().unwrap();
    let text = text.replace("/etc/runner/manifests", "manifests");
    let mut site = site_of(&text);
    for (name, manifest) in object("ConfigMap", "runner-manifests")["data"].as_object().unwrap() {
        site.write(&format!("manifests/{name}"), manifest.as_str().unwrap());
    }
    let (db, port) = (kit::redis().fresh_db(), kit::free_port());
    let probes = format!("127.0.0.1:{port}");
    for (name, value) in [
        ("RUNNER_REDIS_HOST", format!("127.0.0.1:{}", db.port)),
        ("RUNNER_REDIS_DATABASE", db.number.to_string()),
        ("RUNNER_SERVER_METRICS_ADDR", probes.clone()),
    ] {
        site.env.push((name.to_owned(), value));
    }
    let container = container();
    let declared = |name: &Value| {
        let ports = container["ports"].as_array().unwrap().clone();
        ports
            .into_iter()
            .find(|port| port["name"] == *name)
            .map(|port| port["containerPort"].clone())
    };
    let settings: Value = serde_saphyr::from_str(&text).unwrap();
    let listens = |key: &str| {
        settings["server"][key]
            .as_str()
            .unwrap()
            .trim_start_matches(':')
            .parse::<u64>()
            .ok()
    };
    let target = object("Service", "runner")["spec"]["ports"][0]["targetPort"].clone();
    assert_eq!(declared(&target).unwrap().as_u64(), listens("addr"));
    let runner = site.start().await;
    let http = Http::new(format!("http://{probes}"));
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let get = &container[probe]["httpGet"];
        assert_eq!(
            declared(&get["port"]).unwrap().as_u64(),
            listens("metrics_addr"),
            "{probe}"
        );
        let path = get["path"].as_str().unwrap();
        kit::eventually(path, async || match http.get(path).await {
            reply if reply.status == 200 => Ok(()),
            reply => Err(format!("{}: {}", reply.status, reply.body)),
        })
        .await;
    }
    assert!(runner.stop().await.success());
}

async fn versions_agree() {
    let of = |path: &str, key: &str| {
        let manifest = read(path);
        let mut lines = manifest
            .lines()
            .filter_map(|line| line.strip_prefix(&format!("{key} = \"")));
        lines.next().unwrap().trim_end_matches('"').to_owned()
    };
    let (version, rust) = (of("Cargo.toml", "version"), of("runner/Cargo.toml", "rust-version"));
    let image = format!("runner:{version}");
    for path in [
        "deploy/compose/compose.yaml",
        "deploy/kubernetes/deployment.yaml",
        "deploy/docker/Dockerfile",
        "docs/deploy.md",
    ] {
        assert!(read(path).contains(&image), "{path} does not name {image}");
    }
    let tag = &yaml("deploy/kubernetes/kustomization.yaml")["images"][0]["newTag"];
    assert_eq!(*tag, version);
    assert!(
        read("deploy/docker/Dockerfile").contains(&format!("FROM rust:{rust}-")),
        "the compiler is {rust}"
    );
    let changes = read("CHANGELOG.md");
    let headings: Vec<_> = changes.lines().filter(|line| line.starts_with("## ")).collect();
    assert_eq!(headings[0], "## [Unreleased]");
    assert!(
        headings[1].starts_with(&format!("## [{version}] - ")),
        "{}",
        headings[1]
    );
}

async fn the_last_stage_of_the_image_answers() {
    let unshare = ["--pid", "--mount", "--fork", "--kill-child", "true"];
    let may = std::process::Command::new("unshare").args(unshare).output();
    if !nix::unistd::geteuid().is_root() || !may.is_ok_and(|ended| ended.status.success()) {
        println!("deploy: not allowed to make a root of its own here");
        return;
    }
    let address = || format!("127.0.0.1:{}", kit::free_port());
    let mut script = tokio::process::Command::new(top().join("scripts/image"));
    script
        .args(["--short", env!("CARGO_BIN_EXE_runner")])
        .env("ADDR", address())
        .env("PROBES", address())
        .kill_on_drop(true);
    let output = script.output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{error}");
    assert!(said.contains("usr/bin/runner") && !said.contains("bin/sh"), "{said}");
}
