//! Warnings about a command: mostly words that only a shell would understand.
//!
//! Not errors: a program may have a dollar in its name. Whether it exists is checked elsewhere.

use runner_core::function::ExecSpec;

use crate::text::quoted;

/// Arguments with a meaning for a shell and none for a program.
const FOR_SHELLS: [&str; 12] = ["|", "||", "&&", "&", ";", ">", ">>", "<", "2>&1", "2>", "&>", "|&"];

/// Beginnings of such arguments, with a file right after them. A single `>` or `<` also begins a comparison.
const REDIRECTIONS: [&str; 6] = [">>", ">/", "2>", "&>", ">&", "</"];

/// Built-ins of shells: no such programs exist.
const BUILT_IN: [&str; 8] = ["cd", "source", ".", "export", "set", "ulimit", "umask", "alias"];

/// Characters of a text that only a shell understands.
const SHELL_CHARACTERS: [char; 16] = [
    '|', '&', ';', '<', '>', '$', '`', '(', ')', '*', '?', '~', '\\', '"', '\'', '\n',
];

/// How much of a command a hint repeats, in characters.
const SHOWN: usize = 120;

/// What to write instead of `exec: TEXT`.
pub fn instead_of(text: &str) -> String {
    if text.contains(SHELL_CHARACTERS) {
        return format!("write exec: {{command: {}, shell: true}}", shown(text));
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    format!("write exec: [{}]; or {{command: …, shell: true}}", words.join(", "))
}

/// What to write instead of `command: TEXT` without a shell.
pub fn beside_shell(text: &str) -> String {
    if text.contains(SHELL_CHARACTERS) {
        return "add shell: true, which gives the text to /bin/sh".to_owned();
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    format!("write [{}], or set shell: true", words.join(", "))
}

fn shown(text: &str) -> String {
    match text.chars().count() > SHOWN || text.contains('\n') {
        true => "…".to_owned(),
        false => format!("{text:?}"),
    }
}

/// Each with a correction.
pub fn doubts(spec: &ExecSpec) -> Vec<(String, String)> {
    let mut doubts = Vec::new();
    let mut doubt = |what: String, hint: &str| doubts.push((what, hint.to_owned()));
    for (name, value) in &spec.env {
        if mentions(value, name) {
            doubt(
                format!(
                    "exec.env.{name} {} is taken literally: no shell replaces variables in it",
                    quoted(value)
                ),
                &format!("write the value out, or ${{env:{name}}} for that of the runner"),
            );
        } else if is_variable(value) || value.starts_with("~/") {
            // The value itself may be a secret that only looks like one.
            doubt(
                format!("exec.env.{name} is taken literally: no shell replaces ~ or variables in it"),
                "write the value out, or ${env:NAME} for that of the runner",
            );
        }
    }
    let Some((program, arguments)) = spec.command.split_first() else {
        return doubts;
    };
    let beside = spec
        .cwd
        .is_none()
        .then(|| first_word(program))
        .filter(|word| is_relative(word));
    if let Some(word) = beside {
        doubt(
            format!(
                "the program {} is searched in the directory in which it runs, which is new and empty",
                quoted(word)
            ),
            "write its full path, or set exec.cwd",
        );
    }
    if spec.shell.is_some() {
        return doubts;
    }
    let name = quoted(program);
    if program.starts_with('~') || program.contains('$') {
        doubt(
            format!("the program {name} is taken literally: no shell replaces ~ or variables in it"),
            "write its full path",
        );
    } else if BUILT_IN.contains(&program.as_str()) {
        doubt(
            format!("{name} is a command of shells, not a program"),
            "use {command: \"…\", shell: true}, or exec.cwd",
        );
    } else if is_assignment(program) {
        doubt(
            format!("{name} is run as a program: only a shell sets a variable by it"),
            "set it under exec.env",
        );
    } else if beside.is_none() && arguments.is_empty() && program.contains(' ') {
        doubt(
            format!("{name} is the name of one program, with spaces in it"),
            "write [program, argument, …], or shell: true",
        );
    }
    if let Some((what, hint)) = arguments.iter().find_map(|argument| of_argument(program, argument)) {
        doubt(what, hint);
    }
    doubts
}

/// A warning about an argument of a program that is started without a shell.
fn of_argument(program: &str, argument: &str) -> Option<(String, &'static str)> {
    let shown = quoted(argument);
    let redirects = REDIRECTIONS.iter().any(|r| argument.starts_with(r)) && argument.len() > 2;
    if FOR_SHELLS.contains(&argument) || redirects {
        let what = format!("{shown} is passed as an argument: there is no shell to interpret it");
        return Some((what, "use {command: \"…\", shell: true}"));
    }
    if argument.contains("${env:") || argument.contains("${file:") {
        let what = format!("{shown} is taken literally: references are resolved in exec.env only");
        return Some((
            what,
            "set a variable under exec.env; arguments can be seen by other users",
        ));
    }
    // Shells and interpreters have variables of their own.
    let interpreter = program.rsplit('/').next().is_some_and(|name| {
        [
            "sh", "bash", "dash", "zsh", "ksh", "fish", "env", "awk", "gawk", "perl", "php", "make", "sed", "docker",
            "ssh",
        ]
        .contains(&name)
    });
    let substituted =
        |open: &str, close: &str| argument.starts_with(open) && argument.len() > 2 && argument.ends_with(close);
    if !interpreter && (substituted("$(", ")") || substituted("`", "`")) {
        let what = format!("the argument {shown} is taken literally: only a shell runs the command in it");
        return Some((what, "use {command: \"…\", shell: true}"));
    }
    if !interpreter && (is_variable(argument) || argument.starts_with("~/")) {
        let what = format!("the argument {shown} is taken literally: no shell replaces ~ or variables in it");
        return Some((what, "write it out, or use shell: true"));
    }
    None
}

/// Whether a value contains the variable of its own name, as in `PATH: $PATH:/opt/bin`.
fn mentions(value: &str, name: &str) -> bool {
    if value.contains(&format!("${{{name}}}")) {
        return true;
    }
    let letters = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let plain = format!("${name}");
    value
        .match_indices(&plain)
        .any(|(at, found)| !value[at + found.len()..].starts_with(letters))
}

/// `$NAME`, `${NAME}`, or a path that begins so; environment variables are upper case by convention.
fn is_variable(argument: &str) -> bool {
    let Some(rest) = argument.strip_prefix('$') else {
        return false;
    };
    let (name, after) = match rest.strip_prefix('{') {
        Some(inside) => inside.split_once('}').unwrap_or(("", "")),
        None => rest.split_at(
            rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_'))
                .unwrap_or(rest.len()),
        ),
    };
    let upper = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    name.len() > 1 && name.chars().all(upper) && (after.is_empty() || after.starts_with('/'))
}

fn first_word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}

fn is_relative(program: &str) -> bool {
    program.contains('/') && !program.starts_with(['/', '~']) && !program.contains(['$', '=', '"', '\'', '`', '('])
}

fn is_assignment(program: &str) -> bool {
    let letters = |c: char| c.is_ascii_uppercase() || c == '_';
    program
        .split_once('=')
        .is_some_and(|(name, _)| !name.is_empty() && name.chars().all(letters))
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner_core::function::Shell;

    fn said(spec: &ExecSpec) -> usize {
        doubts(spec).len()
    }

    #[test]
    fn words_for_a_shell_are_doubted_without_one() {
        for command in [
            &["~/bin/backup"][..],
            &["$HOME/bin/backup"],
            &["pg_dump", "app", "|", "gzip"],
            &["pg_dump", "app", ">/backup/app.sql"],
            &["tar czf /backup/etc.tgz /etc"],
            &["cd", "/srv", "&&"],
            &["LANG=C", "date"],
            &["pg_dump", "$DATABASE"],
            &["tar", "cf", "${BACKUP_DIR}/x.tar"],
            &["rsync", "~/data", "/backup"],
            &["mysql", "-p${env:PASSWORD}"],
            &["pg_dump", "app", ">>dump.sql"],
            &["pg_dump", "app", "2>errors.log"],
            &["touch", "/backup/done", "$(date +%F)"],
            &["touch", "`date +%F`"],
        ] {
            let mut spec = ExecSpec::new(command.iter().copied());
            assert!(said(&spec) >= 1, "{command:?}");
            spec.shell = Some(Shell::Sh);
            assert_eq!(said(&spec), 0, "{command:?}");
        }
        for command in [
            &["/opt/a b/run", "$x", "a|b", "a>b"][..],
            &["sh", "-c", "echo $HOME"],
            &["awk", "$NF"],
            &["echo", "$5", "costs $HOME"],
            &["grep", "-r", "=>", "."],
            &["pip", "install", ">=1.2", "<3"],
            &["bash", "-c", "$(cat /etc/command)"],
            &["jq", "$(x", "`a` b"],
        ] {
            assert_eq!(doubts(&ExecSpec::new(command.iter().copied())), [], "{command:?}");
        }
    }

    #[test]
    fn a_program_in_the_private_directory_is_doubted() {
        for (command, shell) in [
            (&["./backup.sh", "--all"][..], false),
            (&["bin/run"], false),
            (&["./backup.sh --all"], true),
        ] {
            let mut spec = ExecSpec::new(command.iter().copied());
            spec.shell = shell.then_some(Shell::Sh);
            assert_eq!(said(&spec), 1, "{command:?}");
            spec.cwd = Some("/srv".into());
            assert_eq!(said(&spec), 0, "{command:?}");
        }
    }

    #[test]
    fn a_variable_of_its_own_name_is_doubted() {
        let with = |name: &str, value: &str| {
            let mut spec = ExecSpec::new(["date"]);
            spec.env.insert(name.into(), value.into());
            said(&spec)
        };
        assert_eq!(with("PATH", "$PATH:/opt/bin"), 1);
        assert_eq!(with("PATH", "/opt/bin:${PATH}"), 1);
        assert_eq!(with("LD_LIBRARY_PATH", "/opt/lib:$LD_LIBRARY_PATH"), 1);
        assert_eq!(with("PATH", "${env:PATH}:/opt/bin"), 0);
        assert_eq!(with("DATA", "$HOME/data"), 1);
        assert_eq!(with("DATA", "${HOME}"), 1);
        assert_eq!(with("DATA", "~/data"), 1);
        assert_eq!(with("DATA", "${env:HOME}/data"), 0);
        assert_eq!(with("FORMAT", "$1 of $2"), 0);
        assert_eq!(with("PASSWORD", "a$PASSWORDS"), 0);
        assert_eq!(with("PASSWORD", "pa$$word"), 0);
    }

    #[test]
    fn a_text_is_split_only_where_no_shell_is_needed() {
        assert_eq!(
            instead_of("date -u"),
            "write exec: [date, -u]; or {command: …, shell: true}"
        );
        let shell = "write exec: {command: \"cd /opt/app && ./x\", shell: true}";
        assert_eq!(instead_of("cd /opt/app && ./x"), shell);
        assert!(instead_of("a | b\nc").ends_with("{command: …, shell: true}"));
        assert_eq!(beside_shell("date -u"), "write [date, -u], or set shell: true");
        assert!(beside_shell("a > b").starts_with("add shell: true"));
    }
}
