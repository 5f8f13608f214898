//! Which commands this worker runs: the boundary that `allowed_commands` sets for manifests.
//!
//! With a list, a program is searched in the PATH of this process, its path is resolved to the actual file, that file is
//! matched, and exactly that file is started. Arguments are not examined: a list with a shell or an interpreter allows
//! everything.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use nix::unistd::geteuid;
use runner_core::function::{CheckFinding, ExecSpec};

use super::account::{Account, NoAccount};
use super::{ExecSettings, cannot};
use crate::glob;

/// Where programs are searched if this process has no PATH.
const USUAL_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Variables that change which code a program loads or runs, for the loader, shells and common interpreters. A trailing
/// `*` matches any rest.
const LOADING: &[&str] = &[
    "LD_*",
    "DYLD_*",
    "GCONV_PATH",
    "GLIBC_TUNABLES",
    "LOCPATH",
    "NLSPATH",
    "PATH",
    "HOME",
    "XDG_*",
    "IFS",
    "ENV",
    "BASH_ENV",
    "BASH_FUNC_*",
    "BASHOPTS",
    "SHELLOPTS",
    "PS4",
    "PROMPT_COMMAND",
    "CDPATH",
    "FPATH",
    "ZDOTDIR",
    "PYTHON*",
    "NODE_OPTIONS",
    "NODE_PATH",
    "PERL5*",
    "PERLLIB",
    "RUBY*",
    "GEM_*",
    "BUNDLE_*",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "_JAVA_OPTIONS",
    "CLASSPATH",
    "PHPRC",
    "PHP_INI_SCAN_DIR",
    "LUA_*",
    "DOTNET_*",
    "CORECLR_*",
    "COR_*",
    "R_PROFILE*",
    "R_ENVIRON*",
    "TCLLIBPATH",
    "GIT_*",
    "EDITOR",
    "VISUAL",
    "PAGER",
    "LESSOPEN",
    "LESSCLOSE",
    "MANPAGER",
    "OPENSSL_CONF",
    "OPENSSL_MODULES",
    "OPENSSL_ENGINES",
];

/// Variables that a command may inherit anyway: the operator's own value, not one of a manifest.
const INHERITABLE: [&str; 2] = ["PATH", "HOME"];

/// Why a command is not run here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    /// Commands are switched off.
    #[error("commands are disabled on this worker (handlers.exec.enabled)")]
    Disabled,
    /// The list does not allow it.
    #[error("{0}")]
    Refused(String),
    /// The program is not on this host, so it cannot be matched with the list.
    #[error("{0}")]
    NotHere(String),
}

/// The program to start.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Program {
    /// The file, or the name as written if any command is allowed.
    pub(super) file: PathBuf,
    /// The name that the program is called by.
    pub(super) name: String,
}

impl ExecSettings {
    /// Why this worker would not run the command; with `look` also what would prevent it from starting on this host as it is
    /// now.
    pub(crate) fn find_fault(&self, spec: &ExecSpec, look: bool) -> Option<CheckFinding> {
        let finding = |refused, code, message, hint| CheckFinding {
            refused,
            code,
            message,
            hint,
        };
        if self.enabled
            && let Some(Err(why)) = spec.user.as_deref().map(Account::of)
            && (look || matches!(why, NoAccount::NotRoot(_)))
        {
            return Some(why.finding());
        }
        match self.program(spec) {
            Ok(_) if look => {
                let hint = Some("fine if another host runs it: --offline does not look");
                let missing = self.foresee(spec).map(|why| finding(false, "W302", why, hint));
                missing.or_else(|| self.enabled.then(|| unlimited(spec)).flatten())
            }
            Ok(_) | Err(Unfit::Disabled) => None,
            Err(Unfit::Refused(why)) => Some(finding(true, "E306", why, None)),
            Err(Unfit::NotHere(why)) => Some(finding(false, "E306", why, None)),
        }
    }

    /// What would prevent the command from starting on this host as it is now; `None` if nothing does, if that is unknown, or
    /// if commands are not run here.
    fn foresee(&self, spec: &ExecSpec) -> Option<String> {
        /// Represents the private directory, which will exist when it is needed.
        const PRIVATE: &str = "/";
        if !self.enabled {
            return None;
        }
        if let Some(why) = spec.cwd.as_deref().and_then(cannot::enter) {
            return Some(why);
        }
        let written = spec.program();
        // A name relative to the private directory, or a text for a shell, cannot be checked now.
        let unclear = written.contains(['~', '$', ' '])
            || (written.contains('/') && !written.starts_with('/') && spec.cwd.is_none());
        let own = spec.env.get("PATH");
        if unclear || own.is_some_and(|path| path.contains('$')) {
            return None;
        }
        #[allow(clippy::disallowed_methods)] // the command would inherit it
        let inherited = || std::env::var_os("PATH").filter(|_| spec.inherit_env.iter().any(|name| name == "PATH"));
        let path = own.map(OsString::from).or_else(inherited);
        let cwd = spec.cwd.as_deref().unwrap_or_else(|| Path::new(PRIVATE));
        cannot::foresee(Path::new(written), cwd, path.as_deref())
    }

    /// The program to start for this command.
    pub(super) fn program(&self, spec: &ExecSpec) -> Result<Program, Unfit> {
        #[allow(clippy::disallowed_methods)] // where this process finds programs
        self.program_in(spec, std::env::var_os("PATH"))
    }

    fn program_in(&self, spec: &ExecSpec, path: Option<OsString>) -> Result<Program, Unfit> {
        if !self.enabled {
            return Err(Unfit::Disabled);
        }
        let written = spec.program();
        if self.allowed_commands.is_empty() {
            return Ok(Program {
                file: PathBuf::from(written),
                name: written.to_owned(),
            });
        }
        self.check_variables(spec)?;
        let path = path.unwrap_or_else(|| USUAL_PATH.into());
        let file = located(written, &path)?;
        let name = written.rsplit('/').next().unwrap_or(written);
        let entries = &self.allowed_commands;
        if !entries.iter().any(|entry| allows(entry, name, &file, &path)) {
            let allowed = entries.join(", ");
            let file = file.display();
            return Err(Unfit::Refused(format!(
                "`{written}` ({file}) is not in handlers.exec.allowed_commands ({allowed})"
            )));
        }
        Ok(Program {
            file,
            name: written.to_owned(),
        })
    }

    fn check_variables(&self, spec: &ExecSpec) -> Result<(), Unfit> {
        let inherited = spec.inherit_env.iter();
        let inherited = inherited.filter(|name| !INHERITABLE.contains(&name.as_str()));
        match spec.env.keys().chain(inherited).find(|name| changes_what_loads(name)) {
            Some(name) => Err(Unfit::Refused(format!(
                "the variable {name} changes what a program loads, and handlers.exec.allowed_commands is set"
            ))),
            None => Ok(()),
        }
    }
}

/// A limit that has no effect on the user as whom the command runs.
fn unlimited(spec: &ExecSpec) -> Option<CheckFinding> {
    let runs_as_root = match &spec.user {
        Some(name) => name == "root",
        None => geteuid().is_root(),
    };
    (runs_as_root && spec.limits.processes.is_some()).then(|| CheckFinding {
        refused: false,
        code: "W303",
        message: "exec.limits.processes has no effect: the command runs as root, which has no such limit".to_owned(),
        hint: Some("set exec.user"),
    })
}

fn changes_what_loads(name: &str) -> bool {
    LOADING.iter().any(|known| match known.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == *known,
    })
}

/// The actual file that this name starts: links and `..` are resolved.
fn located(written: &str, path: &OsStr) -> Result<PathBuf, Unfit> {
    let not_here = |why: &dyn std::fmt::Display| Unfit::NotHere(format!("`{written}` cannot be started: {why}"));
    if written.starts_with('/') {
        let file = Path::new(written).canonicalize().map_err(|e| not_here(&e))?;
        return match is_program(&file) {
            true => Ok(file),
            false => Err(not_here(&"it is not an executable file")),
        };
    }
    if written.contains('/') || written.is_empty() {
        let text = format!("`{written}`: write an absolute path, because handlers.exec.allowed_commands is set");
        return Err(Unfit::Refused(text));
    }
    std::env::split_paths(path)
        .filter(|dir| dir.is_absolute())
        .filter_map(|dir| dir.join(written).canonicalize().ok())
        .find(|file| is_program(file))
        .ok_or_else(|| not_here(&"it is not in the PATH of this worker"))
}

fn is_program(file: &Path) -> bool {
    file.metadata()
        .is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
}

/// Whether an entry of the list allows `file`, called by `name`.
///
/// An entry without wildcards means one file under one name: several programs can be one file that checks the name it is
/// called by.
fn allows(entry: &str, name: &str, file: &Path, path: &OsStr) -> bool {
    let wild = entry.contains(['*', '?']);
    if !entry.contains('/') {
        return glob::fits(entry, name) && located(name, path).is_ok_and(|found| found == file);
    }
    if !entry.starts_with('/') {
        return false;
    }
    if wild {
        return fits_path(entry, file);
    }
    let entry = Path::new(entry);
    entry.file_name() == Some(OsStr::new(name)) && entry.canonicalize().is_ok_and(|found| found == file)
}

/// Whether the file matches an absolute pattern, segment by segment: `*` and `?` never match a slash. The segments before
/// the first wildcard are resolved, because directories are links on many systems.
fn fits_path(pattern: &str, file: &Path) -> bool {
    let parts: Vec<Component<'_>> = Path::new(pattern).components().collect();
    let is_wild = |part: &Component<'_>| part.as_os_str().as_bytes().iter().any(|b| matches!(b, b'*' | b'?'));
    let first = parts.iter().position(is_wild).unwrap_or(parts.len());
    let (fixed, wild) = parts.split_at(first);
    let Ok(fixed) = fixed.iter().collect::<PathBuf>().canonicalize() else {
        return false;
    };
    let Ok(rest) = file.strip_prefix(&fixed) else {
        return false;
    };
    let rest: Vec<Component<'_>> = rest.components().collect();
    let fits = |(pattern, part): (&Component<'_>, &Component<'_>)| match (
        pattern.as_os_str().to_str(),
        part.as_os_str().to_str(),
    ) {
        (Some(pattern), Some(part)) => glob::fits(pattern, part),
        _ => false,
    };
    rest.len() == wild.len() && wild.iter().zip(&rest).all(fits)
}

#[cfg(test)]
#[path = "allow_tests.rs"]
mod tests;
