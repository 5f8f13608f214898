//! What the processor has in hand: slots, verdicts to write, calls under way; and what it does with each of them.
//!
//! When it does it is the loop's affair: see `processor`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use runner_core::schedule::stable_hash;
use runner_core::task::QueueName;
use runner_queue::{BrokerError, BrokerResult, Claim, Exchanged, Settled, Settlement, Verdict};
use runner_sdk::Stop;
use tokio::time::Instant;
use tokio_util::sync::DropGuard;

use super::attempt::Started;
use super::in_flight::{InFlightTask, Slot};
use super::inline::{InlineBudget, InlineTypes};
use super::queue_order::QueueOrder;
use super::settle_each::{self, SettledEach};
use super::suspects::{Step, Suspects, WorkerLoad};
use super::{WorkerContext, attempt};

/// How many tasks one call ends and claims at most: about a millisecond of the store's time. More at once are slower:
/// the store's list of leases is then longer than it is quick with.
const BATCH: usize = 128;

/// From so many slots on two calls are under way at once: while the store works on one, this process works on what the
/// other brought. With fewer, half as large batches cost the store more than the overlap gains (measured).
const SLOTS_FOR_TWO: usize = 128;

/// The longest wait for a wake-up while all queues are empty.
const IDLE: Duration = Duration::from_secs(15);

/// Pause after a failed call, doubled up to the longest, or to the shorter one while verdicts wait.
const BACKOFF: Duration = Duration::from_millis(50);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);
const LONGEST_WITH_VERDICTS: Duration = Duration::from_millis(500);

/// What suspects wait for that are put off.
const ONE_AT_A_TIME: &str = "its turn: its last worker died, and such tasks start one at a time";
const ALONE: &str = "a worker that runs nothing else: its last workers died";

/// Verdicts with the places of their tasks, side by side.
#[derive(Default)]
pub(super) struct VerdictBatch {
    pub places: Vec<Slot>,
    pub settlements: Vec<Settlement>,
}

/// A call that came back.
pub(super) struct CallResult {
    sent: VerdictBatch,
    asked: usize,
    reserved: usize,
    began: Instant,
    answer: BrokerResult<Exchanged>,
    /// Of verdicts that will not be offered again.
    given_up: Vec<Slot>,
    /// The queues that were asked, when not all are asked each time.
    queues: Option<Vec<QueueName>>,
}

/// The state of the loop.
pub(super) struct ClaimLoop {
    pub(super) ctx: Arc<WorkerContext>,
    order: QueueOrder,
    /// Whether more queues are served than one call asks.
    many: bool,
    /// There as long as new tasks are taken.
    intake: Option<DropGuard>,
    /// Whether the queues may have something to claim.
    pub(super) hungry: bool,
    /// Whether the last claim brought all that was asked for.
    busy: bool,
    /// Slots that are taken: handlers that run, and verdicts not yet written.
    taken: usize,
    /// Free slots that calls under way may fill.
    reserved: usize,
    /// Verdicts to write, oldest first.
    verdicts: VecDeque<(Slot, Settlement)>,
    pub(super) calls: FuturesUnordered<BoxFuture<'static, CallResult>>,
    pub(super) most_calls: usize,
    /// Whether a call was not answered, so that tasks may be claimed that this process does not know of.
    unanswered: bool,
    /// Asks for them, while no other call is under way.
    pub(super) asking: Option<BoxFuture<'static, (Instant, BrokerResult<Vec<Claim>>)>>,
    pace: InlineTypes,
    pub(super) suspects: Suspects,
    pub(super) waking: Option<BoxFuture<'static, ()>>,
    pub(super) pause: Option<BoxFuture<'static, ()>>,
    failures: u32,
}

impl ClaimLoop {
    pub(super) fn new(ctx: Arc<WorkerContext>, intake: DropGuard) -> Self {
        let settings = &ctx.settings;
        let seed = stable_hash(&[&ctx.instance.id]);
        Self {
            order: QueueOrder::new(ctx.served.to_ask(), settings.strict_priority, seed),
            many: !ctx.served.are_few(),
            intake: Some(intake),
            hungry: true,
            busy: false,
            taken: 0,
            reserved: 0,
            verdicts: VecDeque::new(),
            calls: FuturesUnordered::new(),
            most_calls: if settings.concurrency < SLOTS_FOR_TWO { 1 } else { 2 },
            unanswered: false,
            asking: None,
            pace: InlineTypes::default(),
            suspects: Suspects::default(),
            waking: None,
            pause: None,
            failures: 0,
            ctx,
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.intake.is_some()
    }

    /// Whether new tasks are taken now.
    fn takes(&self) -> bool {
        self.is_open() && !self.ctx.instance.quiet.is_on()
    }

    pub(super) fn close(&mut self) {
        drop(self.intake.take());
    }

    pub(super) fn is_done(&self) -> bool {
        !self.is_open() && self.taken == 0 && self.calls.is_empty() && self.asking.is_none()
    }

    /// Picks up what ended.
    pub(super) fn collect(&mut self) {
        let mut gone = Vec::new();
        for ended in self.ctx.ended.take() {
            match ended.settlement {
                Some(settlement) => {
                    if ended.at_once {
                        self.pace.learn(&settlement.claim.task().kind);
                    }
                    self.verdicts.push_back((ended.place, settlement));
                }
                None => gone.push(ended.place),
            }
        }
        self.give_up(gone);
    }

    /// Frees the places of claims that are lost, or will be, although this process lives.
    fn give_up(&mut self, places: Vec<Slot>) {
        if !places.is_empty() {
            self.ctx.survived.add(self.ctx.board.claims_at(&places));
            self.free(places);
        }
    }

    fn free_slots(&self) -> usize {
        self.ctx.settings.concurrency.saturating_sub(self.taken + self.reserved)
    }

    fn free(&mut self, places: Vec<Slot>) {
        if !places.is_empty() {
            self.taken -= places.len();
            // What was kept out has to be asked for now.
            self.hungry |= self.suspects.freed(&places);
            self.ctx.board.remove(places);
        }
    }

    /// Starts calls as long as there is something to say or to ask.
    pub(super) fn call(&mut self) {
        if self.unanswered {
            // Claims of calls under way would look like claims without an answer.
            if self.pause.is_none() && self.calls.is_empty() && self.asking.is_none() {
                self.ask_for_unanswered();
            }
            return;
        }
        while self.pause.is_none() && self.calls.len() < self.most_calls {
            let sent = self.next_batch();
            let ask = self.room_for(sent.places.len());
            let first = self.calls.is_empty();
            if sent.places.is_empty() && (ask == 0 || !(first || self.busy)) {
                break;
            }
            self.send(sent, ask);
        }
        let idle = self.takes() && !self.hungry && self.waking.is_none() && self.free_slots() > 0;
        let idle = idle && !self.suspects.keeps_others_out();
        if idle {
            let queues = match self.many {
                true => self.order.watched(|queue| self.ctx.served.is_named(queue)),
                false => self.order.next(),
            };
            // The scout wakes the loop when there is something to ask.
            if !queues.is_empty() {
                let broker = self.ctx.broker.clone();
                self.waking = Some(Box::pin(async move { broker.wait_for_work(&queues, IDLE).await }));
            }
        }
    }

    fn ask_for_unanswered(&mut self) {
        let (broker, lease) = (self.ctx.broker.clone(), self.ctx.settings.lease);
        self.asking = Some(Box::pin(async move {
            let began = Instant::now();
            (began, broker.unanswered(lease).await)
        }));
    }

    /// Takes in the claims whose answers did not arrive, as if they had.
    pub(super) fn take_unanswered(&mut self, (began, answer): (Instant, BrokerResult<Vec<Claim>>)) {
        match answer {
            Ok(claims) => {
                self.unanswered = false;
                self.hungry = true;
                self.take_claims(self.ctx.board.without_known(claims), began);
            }
            Err(error) => {
                self.unanswered = self.ctx.broker.has_unanswered();
                self.failed(
                    "look for claims that were not answered",
                    &error,
                    VerdictBatch::default(),
                );
            }
        }
    }

    /// Other queues are served, or others have tasks.
    pub(super) fn renew(&mut self) {
        self.order.renew(self.ctx.served.to_ask());
        self.many = !self.ctx.served.are_few();
        self.hungry = true;
        // It waits for the queues that were there before.
        self.waking = None;
    }

    /// How many tasks a call that ends `ending` of them may claim: their slots are free by then. Each call asks for
    /// its share only, so that there is something left for the other one.
    fn room_for(&self, ending: usize) -> usize {
        let wanted = self.takes() && (self.hungry || ending > 0) && !self.suspects.keeps_others_out();
        if !wanted {
            return 0;
        }
        // After a failure only what is free by now: verdicts that fail once more keep their slots.
        let freed = if self.failures == 0 { ending } else { 0 };
        let taken = (self.taken + self.reserved).saturating_sub(freed);
        let concurrency = self.ctx.settings.concurrency;
        let share = concurrency.div_ceil(self.most_calls);
        concurrency.saturating_sub(taken).min(share.max(ending)).min(BATCH)
    }

    fn next_batch(&mut self) -> VerdictBatch {
        let count = self.verdicts.len().min(BATCH);
        let mut batch = VerdictBatch::default();
        for (place, settlement) in self.verdicts.drain(..count) {
            batch.places.push(place);
            batch.settlements.push(settlement);
        }
        batch
    }

    fn send(&mut self, sent: VerdictBatch, asked: usize) {
        let reserved = asked.saturating_sub(sent.places.len());
        self.reserved += reserved;
        let (broker, queues) = (self.ctx.broker.clone(), self.order.next());
        let lease = self.ctx.settings.lease;
        let many = self.many;
        self.calls.push(Box::pin(async move {
            let began = Instant::now();
            let answer = broker.exchange(&sent.settlements, &queues, asked, lease).await;
            let given_up = Vec::new();
            let sifted = match settle_each::is_refusal(&answer) && !sent.places.is_empty() {
                true => Box::pin(settle_each::sift(&*broker, sent, answer, lease)).await,
                false => SettledEach { sent, answer, given_up },
            };
            CallResult {
                sent: sifted.sent,
                asked,
                reserved,
                began,
                answer: sifted.answer,
                given_up: sifted.given_up,
                queues: many.then_some(queues),
            }
        }));
    }

    /// Takes in what a call brought.
    pub(super) fn take(&mut self, back: CallResult) {
        self.reserved -= back.reserved;
        self.unanswered |= self.ctx.broker.has_unanswered();
        self.give_up(back.given_up);
        let Exchanged { settled, claims } = match back.answer {
            Ok(exchanged) => exchanged,
            Err(error) => {
                self.failed("settle and claim tasks", &error, back.sent);
                return;
            }
        };
        match settled {
            Ok(settled) => self.written(back.sent, &settled),
            Err(error) => self.failed("write verdicts", &error, back.sent),
        }
        match claims {
            Ok(claims) => {
                if back.asked > 0 {
                    self.busy = claims.len() == back.asked;
                    self.hungry = self.busy;
                    if let Some(asked) = &back.queues {
                        let gave = claims.iter().map(|claim| &claim.task().queue).collect();
                        let named = |queue: &QueueName| self.ctx.served.is_named(queue);
                        if !self.busy {
                            self.order.learn(asked, &gave, named);
                        }
                        self.hungry = self.busy || self.order.has_others(named);
                    }
                }
                if self.pause.is_none() {
                    self.failures = 0;
                }
                self.take_claims(claims, back.began);
            }
            Err(error) => self.failed("claim tasks", &error, VerdictBatch::default()),
        }
    }

    fn take_claims(&mut self, mut claims: Vec<Claim>, began: Instant) {
        // No slot is left for some when verdicts of the same call were not taken.
        let startable = if self.takes() { self.free_slots() } else { 0 };
        if claims.len() > startable {
            self.hand_back(claims.split_off(startable), began);
        }
        let suspects = claims.extract_if(.., |claim| self.is_suspect(claim)).collect();
        self.start(claims, began);
        self.take_suspects(suspects, began);
    }

    /// Without a handler here there is nothing to fear.
    fn is_suspect(&self, claim: &Claim) -> bool {
        claim.suspicion().is_some() && self.ctx.handlers.find(&claim.task().kind).is_some()
    }

    /// One of them starts once the others are put off, if none is on trial here.
    fn take_suspects(&mut self, claims: Vec<Claim>, began: Instant) {
        for (place, task) in self.write_down(claims.into_iter(), began) {
            if self.suspects.has_room() {
                self.suspects.admit(place, task, self.ctx.settings.poison_after);
            } else {
                // Any random number will do; a random id is one.
                let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
                let delay = self.suspects.put_off(place, random);
                self.postpone(place, task.claim, delay, ONE_AT_A_TIME);
            }
        }
    }

    fn postpone(&mut self, place: Slot, claim: Claim, delay: Duration, waiting_for: &str) {
        self.ctx.metrics.suspect_put_off(claim.task().queue.as_str());
        let settlement = Settlement {
            claim,
            verdict: Verdict::Snooze {
                delay,
                waiting_for: Some(waiting_for.to_owned()),
            },
            result: None,
            attempt: None,
        };
        self.verdicts.push_back((place, settlement));
    }

    /// Does what is due with the suspect on trial.
    pub(super) fn go_on_with_suspects(&mut self) {
        let around = WorkerLoad {
            open: self.is_open(),
            alone: self.taken == 1 && self.calls.is_empty(),
        };
        match self.suspects.next(&around) {
            Step::Wait => (),
            Step::Start { place, mut task, alone } => {
                task.started_at = self.ctx.clock.now();
                task.deadline = attempt::deadline_of(task.claim.task(), task.started_at);
                let ctx = self.ctx.clone();
                match alone {
                    true => drop(tokio::spawn(attempt::run_suspect(ctx, place, task))),
                    false => drop(tokio::spawn(attempt::run_spawned(ctx, place, task))),
                }
            }
            Step::PutOff { place, task, delay } => {
                self.postpone(place, task.claim, delay, ALONE);
                self.hungry = true;
            }
            Step::HandBack { place, task } => {
                let settlement = Settlement {
                    claim: task.claim,
                    verdict: Verdict::HandBack,
                    result: None,
                    attempt: None,
                };
                self.verdicts.push_back((place, settlement));
            }
            Step::Pass { task } => {
                let ctx = self.ctx.clone();
                self.suspects.passing = Some(Box::pin(async move { attempt::not_alone(&ctx, &task.claim).await }));
            }
        }
    }

    /// Others may start beside it now.
    pub(super) fn suspect_passed(&mut self) {
        self.suspects.passed();
        self.hungry = true;
    }

    /// Gives claims back to the front of their queues. Their leases are kept until that is written.
    fn hand_back(&mut self, claims: Vec<Claim>, began: Instant) {
        for (place, task) in self.write_down(claims.into_iter(), began) {
            let settlement = Settlement {
                claim: task.claim,
                verdict: Verdict::HandBack,
                result: None,
                attempt: None,
            };
            self.verdicts.push_back((place, settlement));
        }
    }

    /// Puts claims on the board; each takes a slot, or is one too many until it is handed back.
    fn write_down(&mut self, claims: impl Iterator<Item = Claim>, began: Instant) -> Vec<(Slot, InFlightTask)> {
        let now = self.ctx.clock.now();
        let hold = self.ctx.settings.hold(began);
        let held = || {
            let stop = Stop::new();
            stop.hold(hold);
            stop
        };
        let tasks: Vec<InFlightTask> = claims
            .map(|claim| InFlightTask {
                stop: held(),
                started_at: now,
                deadline: attempt::deadline_of(claim.task(), now),
                extended_at: began,
                claim,
            })
            .collect();
        let places = self.ctx.board.add(tasks.iter().cloned());
        self.taken += places.len();
        places.into_iter().zip(tasks).collect()
    }

    /// Starts the handler of each claim. `began`: when the call that brought them was made.
    fn start(&mut self, claims: Vec<Claim>, began: Instant) {
        let mut turn = InlineBudget::new();
        for (place, task) in self.write_down(claims.into_iter(), began) {
            if turn.is_over() || !self.pace.is_at_once(&task.claim.task().kind) {
                tokio::spawn(attempt::run_spawned(self.ctx.clone(), place, task));
            } else {
                self.run_inline(place, task, &mut turn);
            }
        }
    }

    /// Calls a handler that is most likely done at once.
    fn run_inline(&mut self, place: Slot, task: InFlightTask, turn: &mut InlineBudget) {
        let claim = task.claim.clone();
        let over = match attempt::begin(&self.ctx, task) {
            Started::Over(Some(settlement)) => {
                self.verdicts.push_back((place, settlement));
                true
            }
            Started::Over(None) => {
                self.free(vec![place]);
                true
            }
            Started::UnderWay(rest) => {
                tokio::spawn(attempt::run_on(self.ctx.clone(), place, rest));
                false
            }
        };
        self.pace.called(&claim.task().kind, over, turn.lap());
    }

    /// These verdicts reached the broker.
    fn written(&mut self, sent: VerdictBatch, settled: &[Settled]) {
        let delays = |s: &Settlement| matches!(s.verdict, Verdict::Retry { .. } | Verdict::Snooze { .. });
        if sent.settlements.iter().any(delays) {
            self.ctx.delayed.notify_one();
        }
        let (mut done, mut unknown) = (Vec::with_capacity(sent.places.len()), VerdictBatch::default());
        for ((place, settlement), answer) in sent.places.into_iter().zip(sent.settlements).zip(settled) {
            if *answer == Settled::Unknown {
                unknown.places.push(place);
                unknown.settlements.push(settlement);
                continue;
            }
            if *answer == Settled::Stale {
                let task = settlement.claim.task();
                tracing::warn!(task_id = %task.id, task_type = %task.kind, "verdict came too late; the task is no longer held here");
                self.ctx.survived.add([settlement.claim]);
            }
            done.push(place);
        }
        self.free(done);
        if !unknown.places.is_empty() {
            let doing = "write verdicts";
            let source = "the server that holds their queue did not answer".into();
            self.failed(doing, &BrokerError::Unreachable { doing, source }, unknown);
        }
    }

    /// A call did not do it: keeps those verdicts whose lease may still hold, and waits a little.
    fn failed(&mut self, doing: &'static str, error: &BrokerError, sent: VerdictBatch) {
        self.ctx.broker_failed(doing, error);
        let mut given_up = Vec::new();
        for (place, settlement) in sent.places.into_iter().zip(sent.settlements).rev() {
            let claim = &settlement.claim;
            if self.ctx.clock.now() < claim.lease_until() || self.ctx.board.holds(place, claim, self.ctx.settings.lease)
            {
                self.verdicts.push_front((place, settlement));
            } else {
                let task = claim.task();
                tracing::error!(task_id = %task.id, task_type = %task.kind, "verdict given up: the lease is over; the task runs again");
                given_up.push(place);
            }
        }
        self.give_up(given_up);
        self.hungry = true;
        let longest = if self.verdicts.is_empty() {
            LONGEST_BACKOFF
        } else {
            LONGEST_WITH_VERDICTS
        };
        let pause = spread(BACKOFF.saturating_mul(1 << self.failures.min(7)).min(longest));
        self.failures = self.failures.saturating_add(1);
        self.pause = Some(Box::pin(back_off(pause)));
    }
}

/// Between half of it and all: workers that lost the broker together must not come back together.
fn spread(pause: Duration) -> Duration {
    // Any random number will do; a random id is one.
    let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
    let half = pause / 2;
    half + half.mul_f64((random % 1024) as f64 / 1023.0)
}

#[allow(clippy::disallowed_methods)] // a named back-off, bounded by the constants above
async fn back_off(pause: Duration) {
    tokio::time::sleep(pause).await;
}

#[cfg(test)]
#[path = "claim_loop_tests.rs"]
mod claim_loop_tests;
