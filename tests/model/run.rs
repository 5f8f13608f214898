//! Runs many cases: seeds, shrinking, the report.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::future::Future;

use proptest::strategy::Strategy as _;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use tokio::runtime::Runtime;

use super::draw;
use super::op::Op;
use super::step::Trip;
use super::subject::Subject;

/// Cases of a short run, and the maximum number of steps of each; half as many on average.
const SHORT: (u64, usize) = (2_000, 70);

/// The same with `RUNNER_LONG=1`; its seeds differ.
const LONG: (u64, usize) = (20_000, 200);

/// Tries to make a failing case smaller.
const SHRINKS: u32 = 3_000;

/// Gives a broker its own thread and runtime, where no other task is woken for its answers.
pub async fn apart<F, Fut>(open: F, body: fn(&Runtime, Subject))
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = Subject>,
{
    let done = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let subject = runtime.block_on(open());
        body(&runtime, subject);
    });
    if let Err(failed) = done.await {
        std::panic::resume_unwind(failed.into_panic());
    }
}

/// Runs operations once; returns which step found a difference.
pub async fn case(subject: &mut Subject, ops: &[Op]) -> Result<(), String> {
    let mut trip = Trip::begin(subject).await;
    for (n, op) in ops.iter().enumerate() {
        trip.step(op)
            .await
            .map_err(|found| format!("step {n}, {op:?}: {found}"))?;
    }
    Ok(())
}

/// Whether the long form is enabled.
pub fn is_long() -> bool {
    std::env::var_os("RUNNER_LONG").is_some()
}

/// Generates cases and runs them.
pub fn many(runtime: &Runtime, subject: Subject) {
    let long = is_long();
    let (cases, longest) = if long { LONG } else { SHORT };
    let variable = |name: &str| std::env::var(name).ok().and_then(|n| n.parse::<u64>().ok());
    let cases = variable("RUNNER_CASES").unwrap_or(cases);
    let seeds = match variable("RUNNER_SEED") {
        Some(seed) => seed..seed + 1,
        None if long => 1_000_000..1_000_000 + cases,
        None => 0..cases,
    };
    let word = subject.dialect.word();
    let subject = RefCell::new(subject);
    let mut tally: BTreeMap<&str, u64> = BTreeMap::new();
    let drawn = draw::run(longest);
    let config = Config {
        failure_persistence: None,
        max_shrink_iters: SHRINKS,
        ..Config::default()
    };
    for seed in seeds.clone() {
        // Neighbouring seeds must not be similar: the generator spreads its seed slowly.
        let spread = (u128::from(seed) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
        let rng = TestRng::from_seed(RngAlgorithm::XorShift, &spread.to_le_bytes());
        let mut runner = TestRunner::new_with_rng(config.clone(), rng);
        let tree = drawn.new_tree(&mut runner).unwrap();
        for op in proptest::strategy::ValueTree::current(&tree) {
            *tally.entry(op.word()).or_default() += 1;
        }
        let outcome = runner.run_one(tree, |ops| {
            let found = runtime.block_on(case(&mut subject.borrow_mut(), &ops));
            found.map_err(TestCaseError::fail)
        });
        if let Err(TestError::Fail(reason, ops)) = outcome {
            let steps: Vec<String> = ops.iter().map(|op| format!("    {op:?},")).collect();
            panic!(
                "PROP broker={word} violation, RUNNER_SEED={seed} runs it alone; the smallest form is\n{}\n{reason}",
                steps.join("\n")
            );
        }
    }
    let steps: u64 = tally.values().sum();
    let ops: Vec<String> = tally.iter().map(|(op, n)| format!("{op}={n}")).collect();
    println!(
        "PROP broker={word} cases={} steps={steps} violations=0 ops{{{}}}",
        seeds.end - seeds.start,
        ops.join(" ")
    );
}
