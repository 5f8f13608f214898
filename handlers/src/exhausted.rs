//! Detects that this host or process has run out of a resource: not the task's fault, so no retry is used.

use std::error::Error;
use std::io;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use runner_sdk::{Ctx, TaskError};

/// The shortest pause before a task is tried again; the longest is twice as long, so that not all come back at once.
const PAUSE: Duration = Duration::from_secs(5);

/// The exhausted resource and a remedy, if that is the meaning of this error.
pub(crate) fn hint(error: &io::Error) -> Option<String> {
    let hint = match Errno::from_raw(error.raw_os_error()?) {
        Errno::EMFILE => match getrlimit(Resource::RLIMIT_NOFILE) {
            Ok((soft, _)) => format!("this process may have {soft} open: `ulimit -n`, or LimitNOFILE= of its service"),
            Err(_) => "`ulimit -n`, or LimitNOFILE= of its service".to_owned(),
        },
        Errno::ENFILE => "the whole host has too many open: `sysctl fs.file-max`".to_owned(),
        Errno::EAGAIN => {
            "no process can be made: `ulimit -u`, TasksMax= of its service, or pids.max of its container".to_owned()
        }
        Errno::ENOMEM => "the host or the container has no memory left".to_owned(),
        Errno::ENOSPC | Errno::EDQUOT => format!("no space for files in {}", std::env::temp_dir().display()),
        _ => return None,
    };
    Some(hint)
}

/// The first such cause in the chain of this error, in words.
pub(crate) fn cause(error: &(dyn Error + 'static)) -> Option<String> {
    // Real chains are short; one that never ends is cut.
    let chain = std::iter::successors(Some(error), |e| (*e).source()).take(32);
    let mut causes = chain.filter_map(|e| e.downcast_ref::<io::Error>());
    causes.find_map(|e| Some(format!("{e} ({})", hint(e)?)))
}

/// Postpones the task; the cause goes to the log of the process and of the attempt.
pub(crate) fn put_off(what: &str, cx: &Ctx) -> TaskError {
    // Spread by the task id: any number will do.
    let spread = cx
        .id()
        .as_str()
        .bytes()
        .fold(0_u32, |sum, b| sum.wrapping_mul(31).wrapping_add(u32::from(b)));
    let pause = PAUSE + PAUSE.mul_f64(f64::from(spread % 1000) / 1000.0);
    cx.log().push(
        "log",
        &format!("put off for {pause:.1?}, which uses up no retry: {what}"),
    );
    tracing::error!(task_id = %cx.id(), task_type = cx.kind(), reason = what, "a task is put off: this host has run out of something");
    TaskError::snooze(pause)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot connect")]
    struct Outer(#[source] io::Error);

    #[test]
    fn an_exhausted_resource_is_named_wherever_it_is_in_the_chain() {
        let of = |errno: Errno| Outer(io::Error::from_raw_os_error(errno as i32));
        for errno in [
            Errno::EMFILE,
            Errno::ENFILE,
            Errno::EAGAIN,
            Errno::ENOMEM,
            Errno::ENOSPC,
            Errno::EDQUOT,
        ] {
            let message = cause(&of(errno)).unwrap();
            assert!(message.contains("os error") && message.ends_with(')'), "{message}");
        }
        for errno in [Errno::ENOENT, Errno::EACCES, Errno::ECONNREFUSED] {
            assert_eq!(cause(&of(errno)), None);
        }
        assert_eq!(cause(&Outer(io::Error::other("x"))), None);
    }
}
