//! One step of a run: the operation on the broker and on the model, and whether both answer alike.
//!
//! Not here: comparing the store afterwards (`compare`).

use std::time::Duration;

use runner_core::task::{AttemptOutcome, QueueName, Run, Task, TaskId};
use runner_queue::{ArchiveBounds, Attempt, Claim, Page, Settlement, Verdict};

use super::compare::{Found, bare, plain, same};
use super::look::{List, Locks};
use super::op::{End, GROUPS, HANDLERS, How, IDS, KINDS, New, Op, PAYLOADS, Pick, QUEUES, When};
use super::subject::Subject;
use super::work::Taken;
use super::world::{World, later};

/// A run in progress.
pub struct Trip<'a> {
    pub subject: &'a mut Subject,
    pub world: World,
    /// All claims ever made, oldest first.
    claims: Vec<Claim>,
    attempts: u32,
    /// The version of the store, and the model, when both were last found equal.
    pub(super) equal: Option<(u64, Vec<List>, Locks)>,
}

fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn queue(n: usize) -> QueueName {
    QueueName::new(QUEUES[n]).unwrap()
}

fn queues(ns: &[usize]) -> Vec<QueueName> {
    ns.iter().map(|n| queue(*n)).collect()
}

impl<'a> Trip<'a> {
    /// Begins with an empty store.
    pub async fn begin(subject: &'a mut Subject) -> Self {
        use runner_core::clock::Clock as _;
        subject.begin().await;
        let world = World::new(subject.dialect, subject.clock.now());
        Self {
            subject,
            world,
            claims: Vec::new(),
            attempts: 0,
            equal: None,
        }
    }

    /// Takes one step and compares everything.
    pub async fn step(&mut self, op: &Op) -> Found {
        match op {
            Op::Enqueue(_) | Op::Claim(..) | Op::Settle(_) | Op::Exchange(..) | Op::Extend(..) => {
                self.handle(op).await?;
            }
            Op::Forward(..) | Op::Recover(..) | Op::Sweep(..) | Op::Release(..) | Op::Advance(_) => {
                self.maintenance(op).await?;
            }
            Op::Act(..) | Op::ActAll(..) | Op::Edit(..) | Op::Pause(_) | Op::Resume(_) | Op::Remove(..) => {
                self.operate(op).await?;
            }
            Op::Look(_) | Op::Attempts(_) | Op::Find(_) | Op::Page(..) | Op::History(..) => self.ask(op).await?,
        }
        self.compare().await
    }

    async fn handle(&mut self, op: &Op) -> Found {
        match op {
            Op::Enqueue(new) => {
                let tasks: Vec<Task> = new.iter().map(|new| self.task(new)).collect();
                let answers = self.subject.broker.enqueue(&tasks).await.unwrap();
                let expected = self.world.enqueue(&tasks, &answers);
                same("enqueue answers", &answers, &expected)?;
                self.locks_end(&tasks).await
            }
            Op::Claim(names, max, lease) => {
                let names = queues(names);
                let claims = self.subject.broker.claim(&names, *max, secs(*lease)).await.unwrap();
                self.claimed(claims, &names, *max, *lease)
            }
            Op::Exchange(ends, names, max, lease) => {
                let ends: Vec<Settlement> = ends.iter().filter_map(|end| self.settlement(end)).collect();
                let (names, length) = (queues(names), secs(*lease));
                let both = self.subject.broker.exchange(&ends, &names, *max, length).await.unwrap();
                same("settle answers", &both.settled.unwrap(), &self.world.settle(&ends))?;
                self.claimed(both.claims.unwrap(), &names, *max, *lease)
            }
            Op::Settle(ends) => {
                let ends: Vec<Settlement> = ends.iter().filter_map(|end| self.settlement(end)).collect();
                let answers = self.subject.broker.settle(&ends).await.unwrap();
                same("settle answers", &answers, &self.world.settle(&ends))
            }
            Op::Extend(which, lease) => {
                let claims: Vec<Claim> = which.iter().filter_map(|n| self.claim(*n).cloned()).collect();
                let answers = self.subject.broker.extend(&claims, secs(*lease)).await.unwrap();
                same("extend answers", &answers, &self.world.extend(&claims, secs(*lease)))
            }
            _ => unreachable!("not a verb of tasks: {op:?}"),
        }
    }

    /// These claims came from a call for this many.
    fn claimed(&mut self, claims: Vec<Claim>, names: &[QueueName], max: usize, lease: u64) -> Found {
        let expected = self.world.claim(names, max, secs(lease));
        let taken = claims.iter().map(|claim| Taken {
            record: bare(claim.task().clone()),
            lease_until: claim.lease_until(),
        });
        same("claims", &taken.collect::<Vec<_>>(), &expected)?;
        let grow = self.world.note_runs(&claims);
        self.claims.extend(claims);
        grow
    }

    async fn maintenance(&mut self, op: &Op) -> Found {
        let broker = &self.subject.broker;
        match op {
            Op::Forward(names, limit) => {
                let names = queues(names);
                let mut pass = broker.forward(&names, *limit).await.unwrap();
                let mut expected = self.world.forward(&names, *limit);
                if expected.more {
                    (pass.next_due, expected.next_due) = (None, None);
                }
                same("forwarded", &pass, &expected)
            }
            Op::Recover(names, grace, limit, poison) => {
                let names = queues(names);
                let recovered = broker.recover(&names, secs(*grace), *limit, *poison).await.unwrap();
                let expected = self.world.recover(&names, secs(*grace), *limit, *poison);
                same("recovered", &recovered, &expected)
            }
            Op::Sweep(names, limit, most, keep) => {
                let (names, most, keep) = (queues(names), *most, secs(*keep));
                let bounds = ArchiveBounds { most, keep };
                let swept = broker.sweep(&names, *limit, bounds).await.unwrap();
                same("swept", &swept, &self.world.sweep(&names, *limit, bounds))
            }
            Op::Release(names, handlers) => {
                let names = queues(names);
                let words: Vec<String> = handlers.iter().map(|n| HANDLERS[*n].to_owned()).collect();
                let released = broker.release_waiting(&names, &words).await.unwrap();
                let expected = self.world.release(&names, handlers);
                same("released", &released, &expected.iter().map(|(_, ids)| ids.len()).sum())?;
                for (name, ids) in expected {
                    self.adopt_order(&name, ids.len()).await?;
                }
                Ok(())
            }
            Op::Advance(by) => {
                self.advance(*by).await;
                Ok(())
            }
            _ => unreachable!("not a verb of the house: {op:?}"),
        }
    }

    async fn advance(&mut self, by: u64) {
        self.subject.clock.advance(secs(by));
        for (name, key) in self.world.advance(secs(by)) {
            self.subject.lapse(&name, &key).await;
        }
    }

    async fn operate(&mut self, op: &Op) -> Found {
        let broker = &self.subject.broker;
        let answered = |answer: Result<String, String>| answer;
        match op {
            Op::Act(pick, action) => {
                let (name, id) = self.pick(*pick);
                let answer = broker.act(&name, &id, *action).await.map_err(|e| e.to_string());
                let expected = self.world.act(&name, &id, *action).map_err(|e| e.to_string());
                same("act answers", &answer, &expected)
            }
            Op::ActAll(n, state, action) => {
                let answer = broker.act_all(&queue(*n), *state, *action).await;
                let answer = answered(answer.map(|a| format!("{a:?}")).map_err(|e| e.to_string()));
                let expected = self.world.act_all(&queue(*n), *state, *action);
                let expected = answered(expected.map(|a| format!("{a:?}")).map_err(|e| e.to_string()));
                same("act_all answers", &answer, &expected)
            }
            Op::Edit(pick, n) => {
                let (name, id) = self.pick(*pick);
                let payload = PAYLOADS[*n].0.unwrap_or_default();
                let answer = broker.update_payload(&name, &id, payload.into()).await;
                let expected = self.world.edit(&name, &id, payload.into());
                let (answer, expected) = (answer.map_err(|e| e.to_string()), expected.map_err(|e| e.to_string()));
                same("edit answers", &answer, &expected)
            }
            Op::Pause(n) => {
                let was = broker.pause_queue(&queue(*n)).await.unwrap();
                same("was running", &was, &self.world.pause(&queue(*n)))
            }
            Op::Resume(n) => {
                let was = broker.resume_queue(&queue(*n)).await.unwrap();
                same("was paused", &was, &self.world.resume(&queue(*n)))
            }
            Op::Remove(n, force) => {
                let answer = broker.remove_queue(&queue(*n), *force).await;
                let answer = answered(answer.map(|a| format!("{a:?}")).map_err(|e| e.to_string()));
                let expected = self.world.remove(&queue(*n), *force);
                let expected = answered(expected.map(|a| format!("{a:?}")).map_err(|e| e.to_string()));
                same("remove answers", &answer, &expected)?;
                // A new queue of the same name numbers its claims from the current time: no two exist in one instant.
                self.advance(1).await;
                Ok(())
            }
            _ => unreachable!("not an operator's verb: {op:?}"),
        }
    }

    async fn ask(&mut self, op: &Op) -> Found {
        let broker = &self.subject.broker;
        match op {
            Op::Look(pick) => {
                let (name, id) = self.pick(*pick);
                let info = broker.task(&name, &id).await.unwrap().map(plain);
                same("task", &info, &self.world.info(&name, &id))
            }
            Op::Attempts(pick) => {
                let (name, id) = self.pick(*pick);
                let attempts = broker.attempts(&name, &id).await.unwrap();
                let expected = self.world.peek(&name, &id).map(|e| e.attempts.clone());
                same("attempts", &attempts, &expected.unwrap_or_default())
            }
            Op::Find(n) => {
                let id = TaskId::new(IDS[*n]).unwrap();
                same("found", &broker.find(&id).await.unwrap(), &self.world.find(&id))
            }
            Op::Page(n, state, number, size) => {
                let (number, size) = (*number, *size);
                let mut page = broker.tasks(&queue(*n), *state, Page { number, size }).await.unwrap();
                page.tasks = page.tasks.into_iter().map(plain).collect();
                same("page", &page, &self.world.page(&queue(*n), *state, number, size))
            }
            Op::History(n, days) => {
                let history = broker.history(&queue(*n), *days).await.unwrap();
                same("history", &history, &self.world.history(&queue(*n), *days))
            }
            _ => unreachable!("not a question: {op:?}"),
        }
    }

    fn task(&self, new: &New) -> Task {
        let mut task = Task::new(KINDS[new.kind]).queue(queue(new.queue));
        task.id = new.id.map(|n| TaskId::new(IDS[n]).unwrap());
        task.payload = PAYLOADS[new.payload].0.map(Into::into);
        task.run = match new.run {
            When::Now => Run::Now,
            When::In(n) => Run::In(secs(n)),
            When::At(n) if n < 0 => Run::At(self.world.now.checked_sub(secs(n.unsigned_abs())).unwrap()),
            When::At(n) => Run::At(later(self.world.now, secs(n.unsigned_abs()))),
        };
        task.group = new.group.map(|n| GROUPS[n].to_owned());
        task.max_retry = new.max_retry;
        task = task.retention(secs(new.retention));
        if let Some(ttl) = new.unique {
            task = task.unique(secs(ttl));
        }
        if new.dressed {
            task.timeout = Some(secs(5));
            task.deadline = Some(later(self.world.now, secs(7200)));
            task = task.header("by", "\u{e9}");
        }
        task
    }

    /// The n-th newest claim; wraps around when there are fewer.
    fn claim(&self, nth: usize) -> Option<&Claim> {
        let made = self.claims.len();
        (made > 0).then(|| &self.claims[made - 1 - nth % made])
    }

    fn settlement(&mut self, end: &End) -> Option<Settlement> {
        let claim = self.claim(end.claim)?.clone();
        self.attempts += 1;
        let now = self.world.now;
        let attempt = end.attempt.then(|| Attempt {
            number: self.attempts,
            started_at: now,
            ended_at: now,
            outcome: AttemptOutcome::Success,
            error: None,
            server: "host:1".to_owned(),
            log: Some("line".to_owned()),
        });
        let error = || format!("error {}", self.attempts);
        let verdict = match end.how {
            How::Done => Verdict::Done,
            How::Retry(after, counts) => Verdict::Retry {
                after: secs(after),
                error: error(),
                counts,
            },
            How::Archive => Verdict::Archive { error: error() },
            How::HandBack => Verdict::HandBack,
            How::Snooze(delay, waits) => Verdict::Snooze {
                delay: secs(delay),
                waiting_for: waits.then(|| "a handler".to_owned()),
            },
            How::Revoke => Verdict::Revoke,
        };
        Some(Settlement {
            claim,
            verdict,
            result: end.result.map(Into::into),
            attempt,
        })
    }

    fn pick(&self, pick: Pick) -> (QueueName, TaskId) {
        let name = queue(pick.queue);
        let id = self.world.nth(&name, pick.nth);
        (name, id.unwrap_or_else(|| TaskId::new("unknown").unwrap()))
    }
}
