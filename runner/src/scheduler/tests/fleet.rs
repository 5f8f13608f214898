//! Several instances and many schedules: who decides, how much in one turn, how late when the leader has died.

use super::*;

/// As many as `count` schedules that are all due 100 seconds after the start.
fn many(count: usize) -> Vec<Definition> {
    let numbered = (0..count).map(|number| Definition {
        id: ScheduleId::code(&format!("nightly-{number:04}")),
        ..nightly()
    });
    numbered.collect()
}

#[tokio::test]
async fn all_that_is_due_at_once_is_decided_in_one_turn() {
    let scene = Scene::new().await;
    scene.publish(&many(2_500));
    let (mut leader, mut follower) = (scene.scheduler(), scene.instance("here:2:b"));
    look(&mut leader).await;
    look(&mut follower).await;
    scene.set(100);
    look(&mut leader).await;
    assert_eq!(scene.broker.decisions(None, 10_000).await.unwrap().len(), 2_500);
    // The follower learns what is decided and decides nothing.
    scene.set(102);
    look(&mut follower).await;
    let all = scene.broker.decisions(None, 10_000).await.unwrap();
    assert!(all.len() == 2_500 && all.iter().all(|d| d.instance == "here:1:a"));
    assert_eq!(
        follower.agenda.next_fire().map(|at| at.as_second() - START),
        Some(100 + 86_400)
    );
}

#[tokio::test]
async fn a_follower_fires_within_a_second_of_an_instant_that_the_leader_did_not_live_to_see() {
    for name in ["here:2:b", "here:3:c", "here:4:d", "here:5:e"] {
        let scene = Scene::new().await;
        scene.publish(&[nightly()]);
        let (mut leader, mut follower) = (scene.scheduler(), scene.instance(name));
        look(&mut leader).await;
        look(&mut follower).await;
        // It leads until then, and dies.
        scene.set(95);
        look(&mut leader).await;
        drop(leader);
        scene.set(100);
        look(&mut follower).await;
        assert!(!follower.leads);
        scene.clock.advance(FOLLOWER_GRACE - Duration::from_millis(1));
        look(&mut follower).await;
        assert_eq!(scene.fired().await, [0_i64; 0], "it is still left to the leader");
        let waits = follower.fire_due().await.unwrap();
        scene.clock.advance(waits);
        look(&mut follower).await;
        let decided = &scene.decisions().await[0];
        let late = decided.decided_at.duration_since(decided.nominal);
        assert!(late <= jiff::SignedDuration::from_millis(701), "{name}: {late}");
        assert_eq!(decided.instance, name);
    }
}

#[tokio::test]
async fn a_source_that_cannot_be_read_has_the_others_compared_once_a_minute_and_no_more() {
    let scene = Scene::new().await;
    let scope = |complete| Scope {
        place: "code".to_owned(),
        complete,
    };
    let plan = |table| Plan {
        scopes: [(Source::Code, scope(true)), (Source::Table, scope(table))].into(),
        ..Plan::default()
    };
    scene.plan.send_replace(Arc::new(plan(false)));
    let mut scheduler = scene.scheduler();
    scheduler.look().await.unwrap();
    let next = scheduler.sweep_at.unwrap();
    let code = BTreeSet::from([scheduler.scope.scope_of(&plan(false), &nightly())]);
    assert_eq!(scheduler.swept, code);
    scheduler.look().await.unwrap();
    assert_eq!((scheduler.sweep_at, &scheduler.swept), (Some(next), &code));
    // One that becomes readable is compared at once.
    scene.plan.send_replace(Arc::new(plan(true)));
    scheduler.look().await.unwrap();
    assert_eq!((scheduler.sweep_at, scheduler.swept.len()), (Some(next), 2));
}
