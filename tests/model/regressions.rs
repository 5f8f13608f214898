//! Runs that once found a difference, in their smallest form, each with the error it found.

use runner_core::task::TaskState;
use runner_queue::Action;
use tokio::runtime::Runtime;

use super::op::{End, How, New, Op, Pick, When};
use super::run::case;
use super::subject::Subject;

/// Runs them all.
pub fn all(runtime: &Runtime, mut subject: Subject) {
    for (what, ops) in found() {
        if let Err(again) = runtime.block_on(case(&mut subject, &ops)) {
            panic!("{}: {what}: {again}", subject.dialect.word());
        }
    }
}

/// A task of the first queue without options.
fn plain() -> New {
    New {
        queue: 0,
        id: None,
        kind: 0,
        payload: 0,
        run: When::Now,
        unique: None,
        group: None,
        retention: 0,
        max_retry: 0,
        dressed: false,
    }
}

fn after(seconds: u64) -> New {
    New {
        run: When::In(seconds),
        ..plain()
    }
}

fn end(how: How) -> End {
    End {
        claim: 0,
        how,
        result: None,
        attempt: false,
    }
}

fn found() -> Vec<(&'static str, Vec<Op>)> {
    let first = Pick { queue: 0, nth: 0 };
    let noted = End {
        attempt: true,
        ..end(How::Retry(0, false))
    };
    vec![
        (
            "a pass that used its limit up asked for another one, though nothing else was due",
            vec![
                Op::Enqueue(vec![after(1), after(5)]),
                Op::Advance(1),
                Op::Forward(vec![0], 1),
            ],
        ),
        (
            "active tasks were listed by the ends of their leases, not oldest first",
            vec![
                Op::Enqueue(vec![after(1), plain()]),
                Op::Act(first, Action::Run),
                Op::Claim(vec![0], 2, 30),
            ],
        ),
        (
            "the attempt of a stale settlement was remembered when the task was settled in the same call",
            vec![
                Op::Enqueue(vec![plain()]),
                Op::Claim(vec![0], 1, 30),
                Op::Settle(vec![end(How::Retry(0, false)), noted]),
                Op::Attempts(first),
            ],
        ),
        (
            "a result of no bytes was kept as one",
            vec![
                Op::Enqueue(vec![New {
                    retention: 600,
                    ..plain()
                }]),
                Op::Claim(vec![0], 1, 30),
                Op::Settle(vec![End {
                    result: Some(""),
                    ..end(How::Done)
                }]),
            ],
        ),
        (
            "a completed task that was run again still had the result of the run before",
            vec![
                Op::Enqueue(vec![New {
                    retention: 600,
                    ..plain()
                }]),
                Op::Claim(vec![0], 1, 30),
                Op::Settle(vec![End {
                    result: Some("done"),
                    ..end(How::Done)
                }]),
                Op::Act(first, Action::Run),
            ],
        ),
        (
            "a pass over an unknown queue made it known",
            vec![
                Op::Sweep(vec![0], 1, 9_999, 60),
                Op::ActAll(1, TaskState::Scheduled, Action::Archive),
                Op::ActAll(2, TaskState::Retry, Action::Delete),
            ],
        ),
    ]
}
