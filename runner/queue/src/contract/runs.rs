//! Clauses about run records after their tasks are gone.

use std::sync::Arc;

use runner_core::schedule::SCHEDULE_HEADER;
use runner_core::task::{AttemptOutcome, QueueName, STARTED_BY_HEADER, Task, TaskId};

use super::schedule::{commit, done, minute, schedule};
use super::shared::{LEASE, archive, id, queue, retry, secs, task, verdict};
use super::{Clause, Fresh};
use crate::{
    Attempt, Claim, CountedRuns, Decision, DecisionKind, FiredTask, MAX_OUTPUT_BYTES, MAX_RUNS_KEPT,
    MOST_RECORDED_RUNS, RecordedTypes, RunEnd, RunRecord, Settled, Settlement, TYPE_RUNS_KIND, Trigger, TypeRuns,
    Verdict, add_seen_runs, runs_of_type, type_runs,
};

pub(super) fn clauses() -> Vec<Clause> {
    clauses![
        the_run_of_a_function_is_remembered_when_its_task_is_gone,
        a_function_keeps_its_last_runs_and_no_more,
        a_whole_output_goes_with_the_record_of_its_run,
        a_run_that_is_tried_again_is_one_record_of_its_last_attempt,
        a_verdict_that_comes_too_late_leaves_no_trace,
        other_tasks_leave_no_trace,
        runs_of_named_types_are_recorded,
        a_type_that_runs_very_often_leaves_no_records,
        a_process_that_has_ended_counts_no_runs,
        tasks_that_a_worker_without_records_ran_are_seen_while_they_are_there,
        a_decision_says_how_its_task_ended,
        decisions_of_several_schedules_are_read_at_once,
        the_end_of_a_run_whose_worker_fell_silent_is_remembered,
        a_run_says_which_event_started_it,
        what_a_header_claims_counts_only_if_the_id_agrees,
    ]
}

fn function(name: &str, task_id: &str) -> Task {
    Task::new(format!("fn:{name}")).id(id(task_id))
}

fn attempt(fresh: &Fresh, outcome: AttemptOutcome) -> Attempt {
    Attempt {
        number: 1,
        started_at: fresh.now(),
        ended_at: fresh.now().checked_add(secs(2)).unwrap(),
        outcome,
        error: (outcome != AttemptOutcome::Success).then(|| "exit code 3".to_owned()),
        server: "host:1".to_owned(),
        log: Some("a line\n".to_owned()),
    }
}

async fn end(fresh: &Fresh, claim: &Claim, how: Verdict, outcome: AttemptOutcome) -> Settled {
    let settlement = Settlement {
        attempt: Some(attempt(fresh, outcome)),
        ..verdict(claim, how)
    };
    fresh.broker.settle(&[settlement]).await.unwrap()[0]
}

async fn succeed(fresh: &Fresh) {
    let claim = fresh.claim_one().await;
    let settled = end(fresh, &claim, Verdict::Done, AttemptOutcome::Success).await;
    assert_eq!(settled, Settled::Accepted);
}

async fn runs(fresh: &Fresh, name: &str) -> Vec<RunRecord> {
    let queues = [QueueName::default(), queue("other")];
    fresh.broker.runs(name, &queues, 100).await.unwrap()
}

async fn the_run_of_a_function_is_remembered_when_its_task_is_gone(fresh: Fresh) {
    fresh.put([function("backup", "a")]).await;
    let expected = RunRecord {
        task: id("a"),
        queue: QueueName::default(),
        function: "backup".to_owned(),
        schedule: None,
        trigger: Trigger::Enqueue,
        event: None,
        planned: None,
        attempt: 1,
        started_at: fresh.now(),
        ended_at: fresh.now().checked_add(secs(2)).unwrap(),
        outcome: AttemptOutcome::Success,
        worker: "host:1".to_owned(),
        trace: None,
        error: None,
        output: Some("a line\n".to_owned()),
        output_cut: false,
        retry_left: false,
    };
    succeed(&fresh).await;
    assert!(fresh.look("a").await.is_none(), "no retention: the task is gone");
    let known = fresh.broker.run(&QueueName::default(), &id("a")).await.unwrap();
    assert_eq!(known.as_ref(), Some(&expected));
    assert_eq!(runs(&fresh, "backup").await, [expected]);
    assert!(fresh.broker.run(&queue("other"), &id("a")).await.unwrap().is_none());
    assert!(fresh.broker.runs("backup", &[], 9).await.unwrap().is_empty());
    // Without output the result takes its place, cut like output.
    fresh.put([function("call", "b")]).await;
    let claim = fresh.claim_one().await;
    let mut settlement = verdict(&claim, Verdict::Done);
    settlement.attempt = Some(Attempt {
        log: None,
        ..attempt(&fresh, AttemptOutcome::Success)
    });
    settlement.result = Some("x".repeat(3 * MAX_OUTPUT_BYTES).into());
    fresh.broker.settle(&[settlement]).await.unwrap();
    let output = runs(&fresh, "call").await.remove(0).output.unwrap();
    assert!(
        output.len() <= MAX_OUTPUT_BYTES && output.starts_with("xxx"),
        "{}",
        output.len()
    );
    fresh.is_sound().await;
}

async fn a_function_keeps_its_last_runs_and_no_more(fresh: Fresh) {
    let last = MAX_RUNS_KEPT + 3;
    for n in 0..=last {
        fresh.put([function("often", &format!("often-{n}"))]).await;
        succeed(&fresh).await;
        fresh.clock.advance(secs(1));
    }
    fresh.put([function("rare", "rare-0")]).await;
    succeed(&fresh).await;
    let kept = runs(&fresh, "often").await;
    let names: Vec<String> = kept.iter().map(|run| run.task.to_string()).collect();
    let expected: Vec<String> = (0..MAX_RUNS_KEPT)
        .map(|back| format!("often-{}", last - back))
        .collect();
    assert_eq!(names, expected);
    assert_eq!(runs(&fresh, "rare").await.len(), 1);
    let first = fresh.broker.run(&QueueName::default(), &id("often-0")).await.unwrap();
    assert!(first.is_none(), "the record goes with its place in the list");
    let two = fresh.broker.runs("often", &[QueueName::default()], 2).await.unwrap();
    assert_eq!(two, kept[..2]);
    fresh.is_sound().await;
}

async fn a_whole_output_goes_with_the_record_of_its_run(fresh: Fresh) {
    let queue = QueueName::default();
    let whole = "a long line\n".repeat(MAX_OUTPUT_BYTES);
    for n in 0..=MAX_RUNS_KEPT {
        let name = format!("long-{n}");
        fresh.put([function("long", &name)]).await;
        let claim = fresh.claim_one().await;
        let packed = format!("packed {n}").into_bytes();
        fresh.broker.keep_output(&queue, &id(&name), packed).await.unwrap();
        let mut settlement = verdict(&claim, Verdict::Done);
        settlement.attempt = Some(Attempt {
            log: Some(whole.clone()),
            ..attempt(&fresh, AttemptOutcome::Success)
        });
        fresh.broker.settle(&[settlement]).await.unwrap();
        fresh.clock.advance(secs(1));
    }
    let last = format!("long-{MAX_RUNS_KEPT}");
    let record = fresh.broker.run(&queue, &id(&last)).await.unwrap().unwrap();
    assert!(record.output_cut && record.output.unwrap().len() <= MAX_OUTPUT_BYTES);
    let kept = fresh.broker.output(&queue, &id(&last)).await.unwrap();
    assert_eq!(kept, Some(format!("packed {MAX_RUNS_KEPT}").into_bytes()));
    let first = fresh.broker.output(&queue, &id("long-0")).await.unwrap();
    assert_eq!(first, None, "its record is gone");
    // A further attempt leaves its own.
    let again = b"again".to_vec();
    fresh
        .broker
        .keep_output(&queue, &id(&last), again.clone())
        .await
        .unwrap();
    assert_eq!(fresh.broker.output(&queue, &id(&last)).await.unwrap(), Some(again));
    fresh.is_sound().await;
}

async fn a_run_that_is_tried_again_is_one_record_of_its_last_attempt(fresh: Fresh) {
    fresh.put([function("flaky", "a").max_retry(3)]).await;
    let claim = fresh.claim_one().await;
    end(&fresh, &claim, retry(1, "exit code 3"), AttemptOutcome::Retry).await;
    let first = runs(&fresh, "flaky").await;
    assert_eq!((first.len(), first[0].outcome), (1, AttemptOutcome::Retry));
    assert_eq!(first[0].error.as_deref(), Some("exit code 3"));
    fresh.clock.advance(secs(5));
    assert_eq!(fresh.forward().await, 1);
    succeed(&fresh).await;
    let second = runs(&fresh, "flaky").await;
    assert_eq!((second.len(), second[0].outcome), (1, AttemptOutcome::Success));
    // What only puts the task back ends no run.
    fresh.put([function("flaky", "b")]).await;
    let claim = fresh.claim_one().await;
    end(&fresh, &claim, Verdict::HandBack, AttemptOutcome::Requeued).await;
    assert_eq!(runs(&fresh, "flaky").await, second);
    fresh.is_sound().await;
}

async fn a_verdict_that_comes_too_late_leaves_no_trace(fresh: Fresh) {
    fresh.put([function("late", "a").retention(secs(60))]).await;
    let claim = fresh.claim_one().await;
    end(&fresh, &claim, Verdict::Done, AttemptOutcome::Success).await;
    let known = runs(&fresh, "late").await;
    let settled = end(&fresh, &claim, archive("no"), AttemptOutcome::Archived).await;
    assert_eq!(settled, Settled::Stale);
    assert_eq!(runs(&fresh, "late").await, known);
    fresh.is_sound().await;
}

async fn other_tasks_leave_no_trace(fresh: Fresh) {
    fresh.put([task("plain")]).await;
    succeed(&fresh).await;
    assert!(
        fresh
            .broker
            .run(&QueueName::default(), &id("plain"))
            .await
            .unwrap()
            .is_none()
    );
    fresh.is_sound().await;
}

async fn runs_of_type_of(fresh: &Fresh, kind: &str) -> Vec<RunRecord> {
    runs(fresh, &runs_of_type(kind)).await
}

async fn runs_of_named_types_are_recorded(fresh: Fresh) {
    let types = Arc::new(RecordedTypes::new(vec!["mail:*".to_owned()]));
    fresh.broker.record_types(types.clone());
    // Only the first call counts.
    fresh.broker.record_types(Arc::default());
    let of = |kind: &str, name: &str| Task::new(kind).id(id(name));
    for (kind, name) in [
        ("mail:a", "one"),
        ("mail:a", "two"),
        ("mail:b", "three"),
        ("other", "four"),
    ] {
        fresh.put([of(kind, name)]).await;
        succeed(&fresh).await;
        fresh.clock.advance(secs(1));
    }
    let kept = runs_of_type_of(&fresh, "mail:a").await;
    let names: Vec<&str> = kept.iter().map(|run| run.task.as_str()).collect();
    assert_eq!(names, ["two", "one"]);
    assert_eq!((kept[0].task_type(), kept[0].name()), (Some("mail:a"), "mail:a"));
    assert_eq!(
        (kept[0].outcome, kept[0].trigger),
        (AttemptOutcome::Success, Trigger::Enqueue)
    );
    assert_eq!(kept[0].output.as_deref(), Some("a line\n"));
    assert_eq!(runs_of_type_of(&fresh, "mail:b").await.len(), 1);
    assert!(runs_of_type_of(&fresh, "other").await.is_empty());
    assert!(
        runs(&fresh, "mail:a").await.is_empty(),
        "a function of the name of a type is another thing"
    );
    let known = fresh.broker.run(&QueueName::default(), &id("one")).await.unwrap();
    assert_eq!(known.as_ref(), Some(&kept[1]));
    // One whose worker fell silent, and whose task is tried again.
    fresh.put([of("mail:a", "lost")]).await;
    fresh.claim_one().await;
    fresh.clock.advance(LEASE);
    let queues = [QueueName::default()];
    fresh.broker.recover(&queues, secs(0), 10, 0).await.unwrap();
    let run = runs_of_type_of(&fresh, "mail:a").await.remove(0);
    assert_eq!((run.outcome, run.retry_left), (AttemptOutcome::Lost, true));
    fresh.is_sound().await;
}

async fn a_process_that_has_ended_counts_no_runs(fresh: Fresh) {
    let server = super::upkeep::server("a", &fresh);
    let counted = CountedRuns {
        since: fresh.now(),
        until: None,
        runs: 7,
        failed: 0,
    };
    let said = [TypeRuns {
        kind: "often".to_owned(),
        per_second: 200,
        last_at: fresh.now(),
        counted: Some(counted),
    }];
    let body = serde_json::to_vec(&said).unwrap();
    let name = server.name();
    let kept = fresh
        .broker
        .keep_document(TYPE_RUNS_KIND, &name, body, secs(3600))
        .await;
    kept.unwrap();
    fresh.broker.heartbeat(&server, &[], secs(60)).await.unwrap();
    assert_eq!(
        type_runs(&*fresh.broker).await.unwrap(),
        [(server.name(), said[0].clone())]
    );
    fresh.broker.leave(&server).await.unwrap();
    let (_, found) = type_runs(&*fresh.broker).await.unwrap().remove(0);
    let until = Some(found.last_at);
    assert_eq!(
        (found.counting(), found.counted),
        (None, Some(CountedRuns { until, ..counted }))
    );
    fresh.is_sound().await;
}

async fn a_type_that_runs_very_often_leaves_no_records(fresh: Fresh) {
    let types = Arc::new(RecordedTypes::new(vec!["often".to_owned()]));
    fresh.broker.record_types(types.clone());
    fresh.put([Task::new("often").id(id("first"))]).await;
    succeed(&fresh).await;
    let note = || types.note("often", AttemptOutcome::Success, fresh.now());
    let recorded = (0..2000).filter(|_| note()).count();
    assert_eq!(recorded, 500, "{MOST_RECORDED_RUNS} a second, for five seconds");
    fresh.put([Task::new("often").id(id("second"))]).await;
    succeed(&fresh).await;
    assert_eq!(runs_of_type_of(&fresh, "often").await.len(), 1);
    fresh.clock.advance(secs(60));
    assert!(note(), "and records come back");
    fresh.put([Task::new("often").id(id("third"))]).await;
    succeed(&fresh).await;
    let names: Vec<TaskId> = runs_of_type_of(&fresh, "often")
        .await
        .into_iter()
        .map(|run| run.task)
        .collect();
    assert_eq!(names, [id("third"), id("first")]);
    fresh.is_sound().await;
}

async fn tasks_that_a_worker_without_records_ran_are_seen_while_they_are_there(fresh: Fresh) {
    for name in ["good", "bad", "gone"] {
        let mut one = Task::new("plain").id(id(name));
        one.retention = secs(if name == "good" { 3600 } else { 0 });
        one.max_retry = 0;
        fresh.put([one]).await;
        let claim = fresh.claim_one().await;
        let how = match name {
            "bad" => archive("it broke"),
            _ => Verdict::Done,
        };
        fresh.broker.settle(&[verdict(&claim, how)]).await.unwrap();
        fresh.clock.advance(secs(1));
    }
    let queues = [QueueName::default(), queue("other")];
    let mut seen = Vec::new();
    add_seen_runs(&*fresh.broker, "plain", &queues, 10, &mut seen)
        .await
        .unwrap();
    let shown: Vec<_> = seen
        .iter()
        .map(|run| (run.task.as_str(), run.outcome, run.error.as_deref()))
        .collect();
    assert_eq!(
        shown,
        [
            ("bad", AttemptOutcome::Archived, Some("it broke")),
            ("good", AttemptOutcome::Success, None)
        ]
    );
    assert!(
        seen.iter()
            .all(|run| run.worker.is_empty() && run.known_length().is_none())
    );
    // Those that are known are not added again, and there is a bound.
    add_seen_runs(&*fresh.broker, "plain", &queues, 1, &mut seen)
        .await
        .unwrap();
    assert_eq!(seen.len(), 1);
    let mut others = Vec::new();
    add_seen_runs(&*fresh.broker, "other", &queues, 10, &mut others)
        .await
        .unwrap();
    assert!(others.is_empty());
    fresh.is_sound().await;
}

/// Fires a minute of a schedule; the decision as it is on record.
async fn fired(fresh: &Fresh, name: &str, kind: &str, retention: u64) -> Decision {
    let (from, to) = minute(fresh, name).await;
    let mut one = commit(name, from, to);
    let task = &mut one.fires[0].task;
    task.kind = kind.to_owned();
    task.retention = secs(retention);
    task.id = Some(id(&format!("{}@{}", schedule(name), to.as_second())));
    task.headers
        .insert(SCHEDULE_HEADER.to_owned(), schedule(name).to_string());
    done(fresh, &one).await;
    on_record(fresh, name).await
}

async fn on_record(fresh: &Fresh, name: &str) -> Decision {
    fresh
        .broker
        .decisions(Some(&schedule(name)), 1)
        .await
        .unwrap()
        .remove(0)
}

async fn a_decision_says_how_its_task_ended(fresh: Fresh) {
    for (name, retention) in [("gone", 0), ("kept", 3600)] {
        let before = fired(&fresh, name, "any:type", retention).await;
        assert_eq!((before.kind, before.end), (DecisionKind::Fired, None));
        let expected = RunEnd {
            outcome: AttemptOutcome::Success,
            started_at: fresh.now(),
            ended_at: fresh.now().checked_add(secs(2)).unwrap(),
        };
        succeed(&fresh).await;
        let after = on_record(&fresh, name).await;
        assert_eq!(after.end, Some(expected), "{name}");
        assert_eq!(expected.took(), secs(2));
        let all = fresh.broker.decisions(None, 1).await.unwrap();
        assert_eq!(all, std::slice::from_ref(&after));
        let asked = FiredTask {
            schedule: after.schedule,
            queue: after.queue.unwrap(),
            task: after.task.unwrap(),
        };
        let unknown = FiredTask {
            task: id("unknown"),
            ..asked.clone()
        };
        let ends = fresh.broker.ends(&[unknown, asked]).await.unwrap();
        assert_eq!(ends, [None, Some(expected)]);
    }
    // A manifest that names a handler is a function too.
    assert!(runs(&fresh, "gone").await.is_empty(), "a schedule in code is none");
    fresh.is_sound().await;
}

async fn decisions_of_several_schedules_are_read_at_once(fresh: Fresh) {
    for name in ["one", "two", "one"] {
        fired(&fresh, name, "any:type", 0).await;
        succeed(&fresh).await;
        fresh.clock.advance(secs(60));
    }
    let ids = ["two", "never", "one"].map(schedule);
    let each = fresh.broker.decisions_each(&ids, 9).await.unwrap();
    for (id, decisions) in ids.iter().zip(&each) {
        assert_eq!(*decisions, fresh.broker.decisions(Some(id), 9).await.unwrap(), "{id}");
    }
    assert_eq!(each.iter().map(Vec::len).collect::<Vec<_>>(), [1, 0, 2]);
    assert!(each.iter().flatten().all(|decision| decision.end.is_some()));
    let newest = fresh.broker.decisions_each(&ids, 1).await.unwrap();
    assert_eq!(newest[2], each[2][..1]);
    assert!(fresh.broker.decisions_each(&[], 9).await.unwrap().is_empty());
    fresh.is_sound().await;
}

async fn a_run_says_which_event_started_it(fresh: Fresh) {
    let cases = [
        (Some("rabbitmq orders"), Trigger::RabbitMq, Some("orders")),
        (Some("file /in/two words.csv"), Trigger::File, Some("/in/two words.csv")),
        (Some("webhook"), Trigger::Webhook, None),
        (Some("manual"), Trigger::Manual, None),
        (None, Trigger::Enqueue, None),
        // A schedule is vouched for by the id of its task, and an unknown word is none.
        (Some("schedule m:a:b"), Trigger::Unknown, None),
        (Some("later later"), Trigger::Unknown, None),
    ];
    for (n, (header, trigger, event)) in cases.into_iter().enumerate() {
        let mut task = function("started", &format!("t{n}"));
        let header = header.map(|header| (STARTED_BY_HEADER.to_owned(), header.to_owned()));
        task.headers.extend(header);
        fresh.put([task]).await;
        succeed(&fresh).await;
        let run = fresh
            .broker
            .run(&QueueName::default(), &id(&format!("t{n}")))
            .await
            .unwrap();
        let run = run.unwrap();
        assert_eq!((run.trigger, run.event.as_deref()), (trigger, event), "{n}");
    }
    // Also of a worker that died.
    let mut task = function("started", "lost");
    task.headers
        .insert(STARTED_BY_HEADER.to_owned(), "after import".to_owned());
    fresh.put([task]).await;
    fresh.claim_one().await;
    fresh.clock.advance(LEASE);
    fresh
        .broker
        .recover(&[QueueName::default()], secs(0), 10, 0)
        .await
        .unwrap();
    let run = fresh
        .broker
        .run(&QueueName::default(), &id("lost"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((run.trigger, run.event.as_deref()), (Trigger::After, Some("import")));
    fresh.is_sound().await;
}

async fn the_end_of_a_run_whose_worker_fell_silent_is_remembered(fresh: Fresh) {
    let decision = fired(&fresh, "silent", "fn:silent", 0).await;
    assert!(decision.end.is_none());
    fresh.claim_one().await;
    fresh.clock.advance(LEASE);
    let queues = [QueueName::default()];
    assert_eq!(fresh.broker.recover(&queues, secs(0), 10, 0).await.unwrap().len(), 1);
    let end = on_record(&fresh, "silent").await.end.unwrap();
    assert_eq!(end.outcome, AttemptOutcome::Lost);
    let run = runs(&fresh, "silent").await.remove(0);
    assert_eq!((run.outcome, run.trigger), (AttemptOutcome::Lost, Trigger::Schedule));
    assert_eq!(run.schedule, Some(schedule("silent")));
    assert!(run.retry_left);
    let mut last = function("silent", "last");
    last.max_retry = 0;
    fresh.put([last]).await;
    fresh.claim_one().await;
    fresh.clock.advance(LEASE);
    fresh.broker.recover(&queues, secs(0), 10, 0).await.unwrap();
    let run = runs(&fresh, "silent").await.remove(0);
    assert_eq!((run.outcome, run.retry_left), (AttemptOutcome::Lost, false));
    fresh.is_sound().await;
}

async fn what_a_header_claims_counts_only_if_the_id_agrees(fresh: Fresh) {
    let decision = fired(&fresh, "honest", "any:type", 0).await;
    let mut forged = task("forged");
    forged
        .headers
        .insert(SCHEDULE_HEADER.to_owned(), schedule("honest").to_string());
    fresh.put([forged]).await;
    for claim in fresh.claim(2).await {
        let outcome = match claim.task().id == *decision.task.as_ref().unwrap() {
            true => (Verdict::Done, AttemptOutcome::Success),
            false => (archive("no"), AttemptOutcome::Archived),
        };
        end(&fresh, &claim, outcome.0, outcome.1).await;
    }
    assert_eq!(
        on_record(&fresh, "honest").await.end.unwrap().outcome,
        AttemptOutcome::Success
    );
    let asked = FiredTask {
        schedule: schedule("honest"),
        queue: QueueName::default(),
        task: id("forged"),
    };
    assert_eq!(fresh.broker.ends(&[asked]).await.unwrap(), [None]);
    fresh.is_sound().await;
}
