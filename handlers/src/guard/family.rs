//! The descendants of a process, according to `/proc`; and the processes that carry a variable.
//!
//! A snapshot, not a lock: a process may be gone when a signal is sent, and another may have been born.

use std::collections::HashMap;
use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Maximum number of processes examined in one walk: more than a host usually allows.
const MOST: usize = 100_000;

/// Maximum number of names listed.
const NAMED: usize = 10;

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) pid: Pid,
    /// As `ps` shows it, up to 15 bytes.
    pub(crate) name: String,
    /// The number of its group.
    group: i32,
    /// Whether it is a zombie.
    ended: bool,
}

impl Member {
    /// The process with this id; `None` if there is none.
    fn of(pid: i32) -> Option<(Self, i32)> {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        Self::read(pid, &String::from_utf8_lossy(&stat))
    }

    /// Parses its line in `/proc`; returns the process and its parent.
    fn read(pid: i32, stat: &str) -> Option<(Self, i32)> {
        // The name is in parentheses and may contain any character.
        let (start, end) = (stat.find('(')?, stat.rfind(')')?);
        let mut rest = stat.get(end + 1..)?.split_ascii_whitespace();
        let state = rest.next()?;
        let parent = rest.next()?.parse().ok()?;
        let group = rest.next()?.parse().ok()?;
        // A process whose main thread has returned looks like a zombie although other threads run.
        let threads: u32 = rest.nth(14)?.parse().ok()?;
        let member = Self {
            pid: Pid::from_raw(pid),
            name: stat.get(start + 1..end)?.to_owned(),
            group,
            ended: matches!(state, "Z" | "X") && threads <= 1,
        };
        Some((member, parent))
    }

    pub(super) fn is_in_group(&self, of: Pid) -> bool {
        self.group == of.as_raw()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        // Fails if it is gone, which is the goal, or belongs to another user.
        kill(self.pid, signal).ok();
    }
}

/// Every living descendant of the process, nearest first.
pub(super) fn descendants(of: Pid) -> Vec<Member> {
    let (mut found, mut next) = (Vec::new(), 0);
    let mut all = None;
    let mut parents = vec![of.as_raw()];
    while let Some(parent) = parents.get(next).copied() {
        next += 1;
        let children = children(parent).unwrap_or_else(|| {
            // A kernel without lists of children: scan all processes once instead.
            let all = all.get_or_insert_with(everybody);
            all.get(&parent).cloned().unwrap_or_default()
        });
        parents.extend(children.into_iter().take(MOST.saturating_sub(parents.len())));
    }
    for pid in parents.into_iter().skip(1) {
        if let Some((member, _)) = Member::of(pid)
            && !member.ended
        {
            found.push(member);
        }
    }
    found
}

/// The children of all threads of a process; empty if it is gone. `None` if this kernel has no such list.
fn children(pid: i32) -> Option<Vec<i32>> {
    let mut found = Vec::new();
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Some(found);
    };
    for thread in threads.flatten() {
        match fs::read_to_string(thread.path().join("children")) {
            Ok(list) => found.extend(list.split_ascii_whitespace().filter_map(|n| n.parse::<i32>().ok())),
            Err(_) if thread.path().exists() => return None,
            Err(_) => (),
        }
    }
    Some(found)
}

/// All processes by their parents.
fn everybody() -> HashMap<i32, Vec<i32>> {
    let mut by_parent: HashMap<i32, Vec<i32>> = HashMap::new();
    for pid in numbers() {
        if let Some((member, parent)) = Member::of(pid) {
            by_parent.entry(parent).or_default().push(member.pid.as_raw());
        }
    }
    by_parent
}

fn numbers() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).take(MOST)
}

/// The readable living processes that were started with exactly this variable.
pub(crate) fn with_variable(name: &str, value: &str) -> Vec<Member> {
    let wanted = format!("{name}={value}");
    let carries = |pid: &i32| {
        let all = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        all.split(|b| *b == 0).any(|v| v == wanted.as_bytes())
    };
    let found = numbers().filter(carries).filter_map(Member::of);
    found.map(|(member, _)| member).filter(|m| !m.ended).collect()
}

/// Whether a process of the group lives. A zombie does not, although the kernel still accepts signals for it. Reads all of
/// `/proc`; without it, every process counts as living.
pub(crate) fn lives_in_group(group: Pid) -> bool {
    let in_group = |pid| Member::of(pid).is_some_and(|(member, _)| member.is_in_group(group) && !member.ended);
    numbers().any(in_group) || Member::of(Pid::this().as_raw()).is_none()
}

/// `sleep (12), sh (13)`, at most a few.
pub(super) fn names(members: &[Member]) -> String {
    let mut names: Vec<String> = members
        .iter()
        .take(NAMED)
        .map(|m| format!("{} ({})", m.name, m.pid))
        .collect();
    if members.len() > NAMED {
        names.push(format!("and {} more", members.len() - NAMED));
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_of_which_threads_go_on_has_not_ended() {
        for (state, threads, ended) in [("Z", 1, true), ("X", 0, true), ("Z", 2, false), ("S", 1, false)] {
            let stat = format!("7 (a) b) {state} 3 5 5 0 -1 4 0 0 0 0 0 0 0 0 20 0 {threads} 0 99");
            let (member, parent) = Member::read(7, &stat).unwrap();
            assert_eq!((member.name.as_str(), member.group, parent), ("a) b", 5, 3));
            assert_eq!(member.ended, ended, "{state} {threads}");
        }
        assert!(!Member::of(std::process::id().try_into().unwrap()).unwrap().0.ended);
    }

    #[test]
    fn descendants_are_found_by_both_ways_and_by_a_variable() {
        let mut command = Command::new("sh");
        command.args(["-c", "yes & wait"]).stdout(Stdio::piped());
        command.env("RUNNER_FAMILY_TEST", "a b");
        let mut child = command.spawn().unwrap();
        // Only `yes` itself writes, so after its first byte it is no longer a copy of the shell. The rest is never read: it waits
        // on the full pipe.
        std::io::Read::read(child.stdout.as_mut().unwrap(), &mut [0; 1]).unwrap();
        let pid = Pid::from_raw(child.id().try_into().unwrap());
        let found = descendants(pid);
        assert_eq!(found.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["yes"]);
        assert_eq!(everybody()[&pid.as_raw()], [found[0].pid.as_raw()]);
        assert_eq!(with_variable("RUNNER_FAMILY_TEST", "a b").len(), 2);
        assert_eq!(with_variable("RUNNER_FAMILY_TEST", "a"), []);
        assert!(names(&found).starts_with("yes ("));
        for member in found.iter().chain(&descendants(Pid::this())) {
            if member.pid == pid || found.contains(member) {
                member.signal(Signal::SIGKILL);
            }
        }
        child.wait().unwrap();
        assert_eq!(descendants(pid), []);
    }
}
