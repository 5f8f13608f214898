//! Which operations are generated, and how often: so that tasks meet leases, locks, retentions and each other.
//!
//! Numbers here are weights and seconds. The meaning of the operations is in `op`.

use proptest::prelude::{BoxedStrategy, Just, Strategy, any, prop_oneof};
use proptest::sample::{select, subsequence};
use proptest::{collection, option};
use runner_core::task::TaskState;
use runner_queue::Action;

use super::op::{End, GROUPS, HANDLERS, How, IDS, KINDS, New, Op, PAYLOADS, Pick, QUEUES, When};

/// The lease that most claims have.
const LEASE: u64 = 30;

/// A run of up to this many steps, half as many on average.
pub fn run(longest: usize) -> BoxedStrategy<Vec<Op>> {
    collection::vec(op(), 1..=longest).boxed()
}

fn op() -> BoxedStrategy<Op> {
    prop_oneof![
        20 => collection::vec(new(), 1..4).prop_map(Op::Enqueue),
        14 => claim(),
        12 => collection::vec(end(), 1..4).prop_map(Op::Settle),
        10 => exchange(),
        3 => (collection::vec(0_usize..6, 1..3), seconds(&[10, LEASE, 60])).prop_map(|(c, l)| Op::Extend(c, l)),
        9 => (queues(), limit()).prop_map(|(q, l)| Op::Forward(q, l)),
        6 => (queues(), seconds(&[0, 0, 5]), limit(), select(vec![0, 2, 3]))
            .prop_map(|(q, g, l, p)| Op::Recover(q, g, l, p)),
        3 => (queues(), limit(), select(vec![1, 3, 9_999]), seconds(&[60, 90 * 86_400]))
            .prop_map(|(q, l, m, k)| Op::Sweep(q, l, m, k)),
        2 => release(),
        9 => (pick(), action()).prop_map(|(p, a)| Op::Act(p, a)),
        2 => (queue(), state(), action()).prop_map(|(q, s, a)| Op::ActAll(q, s, a)),
        2 => (pick(), 0..PAYLOADS.len()).prop_map(|(p, b)| Op::Edit(p, b)),
        1 => queue().prop_map(Op::Pause),
        2 => queue().prop_map(Op::Resume),
        1 => (queue(), any::<bool>()).prop_map(|(q, f)| Op::Remove(q, f)),
        14 => advance(),
        5 => ask(),
    ]
    .boxed()
}

fn seconds(of: &'static [u64]) -> impl Strategy<Value = u64> {
    select(of)
}

fn queue() -> impl Strategy<Value = usize> {
    prop_oneof![6 => Just(0), 2 => Just(1), 1 => Just(2)]
}

/// One or all of them, never one twice.
fn queues() -> impl Strategy<Value = Vec<usize>> {
    let all: Vec<usize> = (0..QUEUES.len()).collect();
    prop_oneof![
        2 => queue().prop_map(|q| vec![q]),
        1 => subsequence(all, 1..=QUEUES.len()),
    ]
}

fn limit() -> impl Strategy<Value = usize> {
    prop_oneof![1 => 1_usize..4, 3 => Just(100)]
}

fn pick() -> impl Strategy<Value = Pick> {
    (queue(), 0_usize..8).prop_map(|(queue, nth)| Pick { queue, nth })
}

fn state() -> impl Strategy<Value = TaskState> {
    select(TaskState::ALL.to_vec())
}

fn action() -> impl Strategy<Value = Action> {
    select(vec![Action::Run, Action::Archive, Action::Delete])
}

fn when() -> impl Strategy<Value = When> {
    prop_oneof![
        6 => Just(When::Now),
        2 => seconds(&[0, 1, 5, 60, 3600]).prop_map(When::In),
        2 => select(vec![-5_i64, 0, 1, 30, 60]).prop_map(When::At),
    ]
}

fn new() -> impl Strategy<Value = New> {
    let what = (
        queue(),
        option::weighted(0.7, 0..IDS.len()),
        0..KINDS.len(),
        0..PAYLOADS.len(),
        when(),
    );
    // Locks and retentions of a store with its own clock must outlive the run.
    let how = (
        option::weighted(0.35, seconds(&[600, 900, 3600])),
        option::weighted(0.15, 0..GROUPS.len()),
        seconds(&[0, 0, 600, 3600]),
        0_u32..4,
        any::<bool>(),
    );
    (what, how).prop_map(
        |((queue, id, kind, payload, run), (unique, group, retention, max_retry, dressed))| New {
            queue,
            id,
            kind,
            payload,
            run,
            unique,
            group,
            retention,
            max_retry,
            dressed,
        },
    )
}

fn claim() -> impl Strategy<Value = Op> {
    let most = prop_oneof![4 => 1_usize..4, 1 => Just(100), 1 => Just(0)];
    (queues(), most, seconds(&[LEASE, LEASE, 10])).prop_map(|(q, m, l)| Op::Claim(q, m, l))
}

/// Mostly the operations of a busy worker: finished tasks make room for others.
fn exchange() -> impl Strategy<Value = Op> {
    let done = end().prop_map(|end| End { how: How::Done, ..end });
    let ends = prop_oneof![2 => collection::vec(done, 0..4), 1 => collection::vec(end(), 0..4)];
    (ends, queues(), 0_usize..4, seconds(&[LEASE, 10])).prop_map(|(e, q, m, l)| Op::Exchange(e, q, m, l))
}

fn end() -> impl Strategy<Value = End> {
    let how = prop_oneof![
        6 => Just(How::Done),
        4 => (seconds(&[0, 1, 20]), any::<bool>()).prop_map(|(s, c)| How::Retry(s, c)),
        2 => Just(How::Archive),
        2 => Just(How::HandBack),
        2 => (seconds(&[0, 5, 60]), any::<bool>()).prop_map(|(s, w)| How::Snooze(s, w)),
        1 => Just(How::Revoke),
    ];
    let result = select(vec![None, None, Some(""), Some("done")]);
    // Mostly the newest claims; older ones are usually stale.
    let claim = prop_oneof![5 => 0_usize..3, 1 => 3_usize..20];
    (claim, how, result, any::<bool>()).prop_map(|(claim, how, result, attempt)| End {
        claim,
        how,
        result,
        attempt,
    })
}

fn release() -> impl Strategy<Value = Op> {
    (queues(), collection::vec(0..HANDLERS.len(), 1..3)).prop_map(|(q, h)| Op::Release(q, h))
}

/// Small steps, and jumps over a lease, a retention, a lock, a day, the age of the archive.
fn advance() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => seconds(&[1, 2, 5, 10]),
        4 => seconds(&[29, 30, 31, 60]),
        2 => seconds(&[600, 900, 3600]),
        1 => seconds(&[86_400, 90 * 86_400, 92 * 86_400]),
    ]
    .prop_map(Op::Advance)
}

fn ask() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => pick().prop_map(Op::Look),
        2 => pick().prop_map(Op::Attempts),
        2 => (0..IDS.len()).prop_map(Op::Find),
        2 => (queue(), state(), 1_usize..4, 1_usize..4).prop_map(|(q, s, n, z)| Op::Page(q, s, n, z)),
        1 => (queue(), seconds(&[0, 1, 3, 91])).prop_map(|(q, d)| Op::History(q, usize::try_from(d).unwrap_or(1))),
    ]
}
