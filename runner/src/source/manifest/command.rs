//! What is doubtful about a command as it is written: mostly words that only a shell would understand.
//!
//! Doubts, not faults: a program may have a dollar in its name. Whether it exists is looked at when it runs.

use runner_sdk::ExecSpec;

use crate::text::quoted;

/// Arguments that mean something to a shell and nothing to a program.
const FOR_SHELLS: [&str; 10] = ["|", "||", "&&", "&", ";", ">", ">>", "<", "2>&1", "2>"];

/// Each with what would be right.
pub fn doubts(spec: &ExecSpec) -> Vec<(String, String)> {
    let mut doubts = Vec::new();
    let mut doubt = |what: String, hint: &str| doubts.push((what, hint.to_owned()));
    if let Some(path) = spec.env.get("PATH").filter(|path| path.replace("${", "").contains('$')) {
        doubt(
            format!(
                "exec.env.PATH {} is taken as it stands: no shell replaces variables in it",
                quoted(path)
            ),
            "write the directories out, or ${env:PATH} for those of the runner",
        );
    }
    let Some((program, arguments)) = spec.command.split_first().filter(|_| !spec.shell) else {
        return doubts;
    };
    let shown = quoted(program);
    if program.starts_with('~') || program.contains('$') {
        doubt(
            format!("the program {shown} is taken as it stands: no shell replaces ~ or variables in it"),
            "write its full path",
        );
    } else if program.contains('/') && !program.starts_with('/') && spec.cwd.is_none() {
        doubt(
            format!("the program {shown} is looked for in the directory in which it runs, which is new and empty"),
            "write its full path, or set exec.cwd",
        );
    } else if arguments.is_empty() && program.contains(' ') {
        doubt(
            format!("{shown} is the name of one program, with spaces in it"),
            "write [program, argument, …], or shell: true",
        );
    }
    if let Some(word) = arguments.iter().find(|a| FOR_SHELLS.contains(&a.as_str())) {
        doubt(
            format!(
                "{} is an argument like any other: there is no shell to understand it",
                quoted(word)
            ),
            "use {command: \"…\", shell: true}",
        );
    }
    doubts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(spec: &ExecSpec) -> usize {
        doubts(spec).len()
    }

    #[test]
    fn words_for_a_shell_are_doubted_without_one() {
        for command in [
            &["./backup.sh", "--all"][..],
            &["~/bin/backup"],
            &["$HOME/bin/backup"],
            &["pg_dump", "app", "|", "gzip"],
            &["tar czf /backup/etc.tgz /etc"],
        ] {
            let mut spec = ExecSpec::new(command.iter().copied());
            assert_eq!(said(&spec), 1, "{command:?}");
            spec.shell = true;
            assert_eq!(said(&spec), 0, "{command:?}");
        }
        let mut fine = ExecSpec::new(["/opt/a b/run", "$x", "a|b"]);
        fine.env.insert("PATH".into(), "${env:PATH}:/opt/bin".into());
        assert_eq!(said(&fine), 0);
        fine.env.insert("PATH".into(), "$PATH:/opt/bin".into());
        assert_eq!(said(&fine), 1);
        let mut here = ExecSpec::new(["./run"]);
        here.cwd = Some("/srv".into());
        assert_eq!(said(&here), 0);
    }
}
