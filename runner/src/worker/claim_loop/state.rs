//! What the claim loop holds between its steps, and the moves of a slot.
//!
//! A slot is an index in the table of tasks in flight. At each moment its task is held in exactly one place, so that
//! exactly one event moves it on:
//!
//! | phase | held by | ends when |
//! |---|---|---|
//! | reserved | `slots`, as a number: no task is known yet | the call that may fill it comes back |
//! | on trial | `suspects` | the suspect starts, is postponed or handed back |
//! | running | its attempt: a task of the runtime, or `inline` | the attempt leaves a settlement in the outbox, or its claim is given up |
//! | ended | `verdicts`, or those of `spare` | the next call takes it along |
//! | settling | a future in `calls` | the broker answers; back to *ended* if it did not take the verdict |
//!
//! From *on trial* to *settling* a slot counts as taken. Its lease is extended all that time, because the task is in
//! the table; a slot is free again only when the verdict is written or given up.
//!
//! Invariants: `slots.taken` and the slots of notifications (`spare`) together are the length of the table, since only this loop adds to
//! it and removes from it. Taken and reserved slots together are at most `total`, except for claims that are handed back at once, which
//! are in the table until the broker has them again, and after an order to run fewer tasks, until enough have ended.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use runner_core::schedule::stable_hash;
use runner_queue::{Claim, Settlement, Verdict};
use tokio_util::sync::DropGuard;

use super::call_result::CallResult;
use super::inline_types::InlineTypes;
use super::outbox::Outbox;
use super::pause::FailurePause;
use super::queues::QueuesToAsk;
use super::spare::SpareSlots;
use super::suspects::Suspects;
use super::unanswered::Unanswered;
use crate::worker::context::WorkerContext;
use crate::worker::in_flight::Slot;

/// From this many slots on two calls are under way at once: while the store works on one, this process works on what
/// the other brought. With fewer, half as large batches cost the store more than the overlap gains (measured).
const SLOTS_FOR_TWO: usize = 128;

/// Calls under way at once with this many slots.
fn calls_for(concurrency: usize) -> usize {
    match concurrency < SLOTS_FOR_TWO {
        true => 1,
        false => 2,
    }
}

/// What the loop shares with the attempts that it started.
pub(super) struct LoopShared {
    pub worker: Arc<WorkerContext>,
    /// Where they leave their settlements.
    pub outbox: Outbox,
}

/// How many slots are in which phase.
#[derive(Debug)]
pub(super) struct SlotCounts {
    /// The worker's concurrency.
    pub total: usize,
    /// Tasks in flight, from their claim until their verdict is written; without notifications, which have slots of their own.
    pub taken: usize,
    /// Slots that calls under way may fill.
    pub reserved: usize,
}

impl SlotCounts {
    /// Slots for new tasks.
    pub(super) fn free(&self) -> usize {
        self.free_after(0)
    }

    /// Slots for new tasks once this many verdicts are written.
    pub(super) fn free_after(&self, written: usize) -> usize {
        let used = (self.taken + self.reserved).saturating_sub(written);
        self.total.saturating_sub(used)
    }
}

/// The state of the loop.
pub(super) struct ClaimLoop {
    pub shared: Arc<LoopShared>,
    /// Held while handlers may start. `Worker::drain` waits until it is dropped.
    intake: Option<DropGuard>,
    pub slots: SlotCounts,
    /// Which queues are asked, and whether a claim may find something.
    pub queues: QueuesToAsk,
    /// The slots of notifications.
    pub spare: SpareSlots,
    /// Verdicts to write, oldest first.
    pub verdicts: VecDeque<(Slot, Settlement)>,
    /// Calls under way: at most `most_calls`, and one for notifications.
    pub calls: FuturesUnordered<BoxFuture<'static, CallResult>>,
    pub most_calls: usize,
    /// Claims of calls that were not answered.
    pub unanswered: Unanswered,
    /// Types whose handlers the loop calls itself.
    pub inline_types: InlineTypes,
    /// Tasks that may kill this process.
    pub suspects: Suspects,
    /// Ends when a queue may have got a task; set while all are empty.
    pub wake_up: Option<BoxFuture<'static, ()>>,
    /// No call begins before it is over.
    pub pause: FailurePause,
}

impl ClaimLoop {
    pub(super) fn new(worker: Arc<WorkerContext>, intake: DropGuard) -> Self {
        let settings = &worker.settings;
        Self {
            intake: Some(intake),
            slots: SlotCounts {
                total: worker.concurrency(),
                taken: 0,
                reserved: 0,
            },
            queues: QueuesToAsk::new(
                &worker.served,
                settings.strict_priority,
                stable_hash(&[&worker.instance.id]),
            ),
            spare: SpareSlots::new(worker.served.notifications(), settings.notification_slots),
            verdicts: VecDeque::new(),
            calls: FuturesUnordered::new(),
            most_calls: calls_for(worker.concurrency()),
            unanswered: Unanswered::default(),
            inline_types: InlineTypes::default(),
            suspects: Suspects::default(),
            wake_up: None,
            pause: FailurePause::default(),
            shared: Arc::new(LoopShared {
                worker,
                outbox: Outbox::default(),
            }),
        }
    }

    /// Has this many slots from now on. Tasks beyond them go on, and none is claimed until enough have ended.
    pub(super) fn resize(&mut self, concurrency: usize) {
        self.slots.total = concurrency;
        self.most_calls = calls_for(concurrency);
        self.queues.may_have_tasks = true;
    }

    /// Whether handlers may still start.
    pub(super) fn is_open(&self) -> bool {
        self.intake.is_some()
    }

    /// Starts no handler from now on.
    pub(super) fn close(&mut self) {
        drop(self.intake.take());
    }

    /// Whether new tasks are claimed now.
    pub(super) fn takes_tasks(&self) -> bool {
        self.is_open() && self.shared.worker.instance.quiet.allows_claims()
    }

    /// Whether nothing is left to do. A call under way may still bring claims, which must be handed back.
    pub(super) fn is_done(&self) -> bool {
        let calls_under_way = !self.calls.is_empty() || self.unanswered.may_bring_claims();
        !self.is_open() && self.slots.taken == 0 && self.spare.taken() == 0 && !calls_under_way
    }

    /// Ends a claim whose handler was not called.
    pub(super) fn end_unstarted(&mut self, slot: Slot, claim: Claim, verdict: Verdict) {
        let settlement = Settlement {
            claim,
            verdict,
            result: None,
            attempt: None,
        };
        self.end(slot, settlement);
    }

    /// An attempt has ended: the next call takes its verdict along.
    pub(super) fn end(&mut self, slot: Slot, settlement: Settlement) {
        self.verdicts_of(slot).push_back((slot, settlement));
    }

    /// The queue of verdicts that this slot belongs to.
    pub(super) fn verdicts_of(&mut self, slot: Slot) -> &mut VecDeque<(Slot, Settlement)> {
        match self.spare.has(slot) {
            true => &mut self.spare.verdicts,
            false => &mut self.verdicts,
        }
    }

    /// Frees the slots of claims that are lost, or will be, although this process is alive: that is reported, so that
    /// none counts as a crash. In this order, since the table forgets the claims.
    pub(super) fn give_up(&mut self, slots: Vec<Slot>) {
        if !slots.is_empty() {
            let worker = &self.shared.worker;
            worker.survived.add(worker.in_flight.claims_at(&slots));
            self.free(slots);
        }
    }

    /// Frees slots whose verdicts are written or given up. The only place where a taken slot becomes free.
    pub(super) fn free(&mut self, slots: Vec<Slot>) {
        if !slots.is_empty() {
            for slot in &slots {
                match self.spare.free_slot(*slot) {
                    true => self.spare.may_have_tasks = true,
                    false => self.slots.taken -= 1,
                }
            }
            // Tasks that were not claimed for the sake of a suspect have to be asked for now.
            self.queues.may_have_tasks |= self.suspects.freed(&slots);
            self.shared.worker.in_flight.remove(slots);
        }
    }
}
