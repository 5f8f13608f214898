//! Names of the scripts of the Redis broker: those of the methods of the seam. Not what a script does.

use std::collections::BTreeSet;

use super::text::{after, code, files, none, read};

/// Scripts that serve several methods, named after what they do.
const SHARED: [&str; 3] = ["add_members", "live_members", "quarantine"];

/// The names of all methods of the seam's traits.
fn methods() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for path in files("runner/queue/src/seam", &[".rs"]) {
        for (_, line) in code(&read(&path)) {
            found.extend(after(&line, "async fn ").into_iter().map(str::to_owned));
        }
    }
    found
}

pub async fn scripts_have_the_names_of_methods() {
    let methods = methods();
    assert!(methods.contains("enqueue"), "the methods of the seam were not found");
    let is_named = |script: &str| {
        let step_of = |method: &String| {
            script
                .strip_prefix(method.as_str())
                .is_some_and(|step| step.starts_with('_'))
        };
        SHARED.contains(&script) || methods.contains(script) || methods.iter().any(step_of)
    };
    let complaints: Vec<String> = runner_queue::redis::script_names()
        .into_iter()
        .map(|(_, script)| script)
        .filter(|script| !is_named(script))
        .map(|script| format!("{script}.lua: no method of the seam has this name, nor is it a step `<method>_<step>`"))
        .collect();
    none(&complaints);
}
