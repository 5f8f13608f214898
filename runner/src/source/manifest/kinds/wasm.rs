//! Reads `wasm`: a module of WebAssembly. Whether this program runs modules is judged by workers.

use std::path::{Path, PathBuf};

use runner_core::function::{FunctionKind, WasmDir, WasmSpec};

use super::exec::check_variables;
use super::exec_limits::{MEMORY, read_size};
use crate::text::yaml::Value;
use crate::text::{Field, Fields, Report, quoted};

/// The code of what cannot be used.
const CODE: &str = "E370";

/// What may stand under it.
const FIELDS: [&str; 6] = ["module", "args", "env", "dirs", "memory", "result"];

/// Those that stand nowhere else.
pub(super) const OWN: &[&str] = &["module", "dirs"];

/// Directories of one module.
const MAX_DIRS: usize = 32;

pub(super) fn read(field: &Field<'_>, report: &mut Report<'_>) -> Option<FunctionKind> {
    if let Value::Text(_) = field.node.value {
        return Some(FunctionKind::Wasm(Box::new(WasmSpec::new(path(field, report)?))));
    }
    let map = Fields::read(field.node, &field.path, &FIELDS, report)?;
    let Some(module) = map.get("module", report) else {
        if map.peek("module").is_none() {
            let text = "wasm.module is required: the file of the module";
            report.error(CODE, map.mark, text).hint = Some("module: /srv/functions/thumbnail.wasm".to_owned());
        }
        return None;
    };
    let mut spec = WasmSpec::new(path(module, report)?);
    if let Some(f) = map.get("args", report) {
        spec.args = f.texts(CODE, report).unwrap_or_default();
        if spec.args.iter().any(|text| text.contains('\0')) {
            report.error(CODE, f.node.mark, format!("{} must not contain NUL", f.path));
        }
    }
    if let Some(f) = map.get("env", report) {
        spec.env = f.text_map(CODE, report).unwrap_or_default();
        check_variables(f, spec.env.keys(), report);
        if spec.env.values().any(|text| text.contains('\0')) {
            report.error(CODE, f.node.mark, format!("{} must not contain NUL", f.path));
        }
    }
    if let Some(f) = map.get("dirs", report) {
        spec.dirs = read_dirs(f, report);
    }
    if let Some(f) = map.get("memory", report)
        && let Some(bytes) = read_size(f, &MEMORY, report)
    {
        spec.memory = bytes;
    }
    if let Some(f) = map.get("result", report) {
        let words = [("stdout", true), ("none", false)];
        spec.stdout_is_result = f.word(CODE, &words, report).unwrap_or(true);
    }
    Some(FunctionKind::Wasm(Box::new(spec)))
}

/// Absolute, so that it does not depend on where the program was started.
fn path(field: &Field<'_>, report: &mut Report<'_>) -> Option<PathBuf> {
    let text = field.text(CODE, report)?;
    if Path::new(text).is_absolute() && !text.contains('\0') {
        return Some(text.into());
    }
    let message = format!("{} must be an absolute path, found {}", field.path, quoted(text));
    report.error(CODE, field.node.mark, message);
    None
}

/// Directories of the host by the names that the module has for them: a path, or a path and whether it is written to.
fn read_dirs(field: &Field<'_>, report: &mut Report<'_>) -> Vec<WasmDir> {
    let Some(all) = Fields::all(field.node, &field.path, report) else {
        return Vec::new();
    };
    let mut dirs = Vec::new();
    for (name, one) in all.iter() {
        if name.is_empty() || name.contains('\0') {
            report.error(CODE, one.key, format!("a name in {} must not be empty", field.path));
            continue;
        }
        let (host, write) = match &one.node.value {
            Value::Text(_) => (path(one, report), false),
            _ => {
                let Some(map) = Fields::read(one.node, &one.path, &["path", "write"], report) else {
                    continue;
                };
                let write = map.get("write", report).and_then(|f| f.flag(CODE, report));
                let host = map.get("path", report).and_then(|f| path(f, report));
                if map.peek("path").is_none() {
                    report.error(CODE, map.mark, format!("{}.path is required", one.path));
                }
                (host, write.unwrap_or(false))
            }
        };
        let guest = name.to_owned();
        dirs.extend(host.map(|host| WasmDir { host, guest, write }));
    }
    if dirs.len() > MAX_DIRS {
        report.error(
            CODE,
            field.node.mark,
            format!("{} has more than {MAX_DIRS} members", field.path),
        );
    }
    dirs
}
