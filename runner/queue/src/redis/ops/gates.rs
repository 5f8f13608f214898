//! Limits: what a claim says of them (see `admit.lua`), and tasks that wait for one and may go on.
//!
//! Not here: who may pass, which the scripts decide.

use std::fmt::Write as _;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use redis::Value;
use runner_core::limit::{LimitRule, Limits, OnLimit, ScopedLimit};
use runner_core::task::{QueueName, TypePattern};

use crate::redis::RedisBroker;
use crate::redis::format::scripts::Script;
use crate::redis::format::{keys, reply};
use crate::redis::ops::partial::PartialFailure;
use crate::{Broker as _, BrokerResult, Forwarded, LimitInUse, MAX_LIMITS_SHOWN};

/// Gates looked at in one script call.
const GATES: usize = 100;

/// The limits that this broker's claims keep, as the script reads them; empty without any.
#[derive(Default)]
pub(in crate::redis) struct KnownLimits(RwLock<Arc<str>>);

impl KnownLimits {
    pub(in crate::redis) fn set(&self, limits: &Limits) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = text(limits).into();
    }

    pub(in crate::redis) fn text(&self) -> Arc<str> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// See `admit.lua`.
fn text(limits: &Limits) -> String {
    let mut text = String::new();
    if limits.is_empty() {
        return text;
    }
    text.push('\n');
    for (pattern, list) in limits.types() {
        match TypePattern::parse(pattern) {
            TypePattern::Prefix(prefix) => text.extend(["\u{2}", prefix]),
            TypePattern::Name(name) => text.push_str(name),
        }
        add(&mut text, list);
    }
    for (queue, list) in limits.queues() {
        text.extend(["\u{1}", queue.as_str()]);
        add(&mut text, list);
    }
    text
}

fn add(text: &mut String, list: &[ScopedLimit]) {
    for scoped in list {
        let limit = &scoped.limit;
        let mode = match limit.on_limit {
            OnLimit::Wait => 'w',
            OnLimit::Skip => 's',
        };
        let key = limit.key.as_ref().map_or("", |key| key.as_str());
        // Writing to a text cannot fail.
        let _infallible = match &limit.rule {
            LimitRule::Concurrency(most) => write!(text, "\tc,{most},,{mode},{key}"),
            LimitRule::Semaphore(semaphore) => {
                let (most, scope) = (semaphore.most(), semaphore.scope());
                write!(text, "\tm,{most},,{mode},{key}\u{3}{scope}")
            }
            LimitRule::Rate(rate) => write!(text, "\tr,{},{},{mode},{key}", rate.interval_ms(), rate.at_once()),
            LimitRule::Sequence => write!(text, "\ts,,,{mode},{key}"),
        };
    }
    text.push('\n');
}

/// The claimed tasks that are not to be run, from an answer of `exchange.lua`: place of the queue, id, limit.
pub(in crate::redis) fn refused_of(answer: impl Iterator<Item = Value>) -> Vec<(usize, Vec<u8>, String)> {
    let mut answer = answer;
    let next = || {
        let place = usize::try_from(reply::number(answer.next()?)?).ok()?.checked_sub(1)?;
        let id = reply::bytes(answer.next()?)?;
        Some((place, id, reply::shown(answer.next()?)?))
    };
    std::iter::from_fn(next).collect()
}

impl RedisBroker {
    /// Lets waiting tasks go on at the gates that are due, and adds to a pass when to look next.
    pub(in crate::redis) async fn forward_at_gates(
        &self,
        queues: &[QueueName],
        pass: &mut Forwarded,
        failures: &mut PartialFailure,
    ) -> BrokerResult<()> {
        let mut trip = self.conn.trip("look for limits at which tasks wait").await?;
        for queue in queues {
            let key = keys::look(queue.as_str());
            trip.command("ZRANGE").arg(key).arg(0).arg(0).arg("WITHSCORES");
        }
        let mut waiting = Vec::new();
        for (queue, answer) in queues.iter().zip(trip.each().await?) {
            let first = failures.part(queue, answer).map(reply::list).unwrap_or_default();
            waiting.extend(first.into_iter().nth(1).and_then(millis).map(|at| (queue, at)));
        }
        if waiting.is_empty() {
            return Ok(());
        }
        let now = self.now().await?;
        let (due, later): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(_, at)| *at <= now);
        look_again(pass, later.into_iter().map(|(_, at)| at).min(), now);
        if due.is_empty() {
            return Ok(());
        }
        let mut trip = self.conn.trip("let tasks go on that waited for a limit").await?;
        for (queue, _) in &due {
            trip.script(Script::ForwardGates, &[keys::part(queue.as_str(), "pending")])
                .arg(keys::queue(queue.as_str()))
                .arg(keys::own(queue.as_str()))
                .arg(GATES);
        }
        for ((queue, _), answer) in due.into_iter().zip(trip.each().await?) {
            let Some(answer) = failures.part(queue, answer) else {
                continue;
            };
            let mut answer = reply::list(answer).into_iter();
            pass.more |= answer.next().map_or(0, reply::count) >= GATES as u64;
            look_again(pass, answer.next().and_then(millis), now);
        }
        Ok(())
    }
}

impl RedisBroker {
    /// See [`InspectQueues::limits_in_use`](crate::InspectQueues::limits_in_use).
    pub(in crate::redis) async fn gates_in_use(&self, queue: &QueueName) -> BrokerResult<Vec<LimitInUse>> {
        let name = queue.as_str();
        let mut trip = self.pages.trip("look at the limits of a queue").await?;
        // Of a small hash all, of a large one about as many.
        trip.command("HSCAN")
            .arg(keys::gates(name))
            .arg(0)
            .arg("COUNT")
            .arg(MAX_LIMITS_SHOWN);
        let fields = reply::list(trip.one().await?).into_iter().nth(1);
        let mut fields = fields.map(reply::list).unwrap_or_default().into_iter();
        let mut gates = Vec::new();
        while let (Some(gate), Some(rule)) = (fields.next(), fields.next()) {
            // Our names and keys are UTF-8.
            if let (Some(gate), Some(rule)) = (reply::text(gate), reply::text(rule)) {
                gates.push((gate, rule));
            }
        }
        gates.truncate(MAX_LIMITS_SHOWN);
        if gates.is_empty() {
            return Ok(Vec::new());
        }
        // Members of semaphores whose time is over count as little as they do at the next claim.
        let now = match gates.iter().any(|(gate, _)| keys::semaphore(gate).is_some()) {
            true => self.now().await?.as_second(),
            false => 0,
        };
        let mut trip = self.pages.trip("look at the limits of a queue").await?;
        for (gate, _) in &gates {
            match keys::semaphore(gate) {
                Some(key) => trip.command("ZCOUNT").arg(key).arg(now).arg("+inf"),
                None => trip.command("ZCARD").arg(keys::gate_holders(name, gate)),
            };
            trip.command("ZCARD").arg(keys::gate_waiters(name, gate));
        }
        // A value that something else was written over counts as none: the next claim displaces it.
        let mut counts = trip
            .each()
            .await?
            .into_iter()
            .map(|answer| answer.map_or(0, reply::count));
        let mut found = Vec::with_capacity(gates.len());
        for (gate, rule) in gates {
            let (running, waiting) = (counts.next().unwrap_or(0), counts.next().unwrap_or(0));
            found.push(LimitInUse::of_gate(&gate, most_of(&rule), running, waiting));
        }
        LimitInUse::sort(&mut found);
        Ok(found)
    }
}

/// How many a rule lets run at a time; `None` for a rate. See `gates.lua`.
fn most_of(rule: &str) -> Option<u64> {
    let mut parts = rule.split(',');
    match parts.next()? {
        "c" | "m" => parts.next()?.parse().ok(),
        "s" => Some(1),
        _ => None,
    }
}

/// Notes when to look next, if that is sooner than what is known. `now`: by the server's clock.
fn look_again(pass: &mut Forwarded, at: Option<Timestamp>, now: Timestamp) {
    let after = at.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO));
    pass.look_after = [pass.look_after, after].into_iter().flatten().min();
}

fn millis(score: Value) -> Option<Timestamp> {
    // A number that is no instant was written by another program: below all others it is due, else never.
    Timestamp::from_millisecond(reply::number(score)?.max(0)).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use runner_core::limit::{LimitKey, SharedSemaphore, StartRate, TaskLimit};

    use super::*;

    #[test]
    fn limits_are_one_line_for_each_type_and_queue() {
        let mut limits = Limits::default();
        assert_eq!(text(&limits), "");
        let keyed = TaskLimit {
            key: Some(LimitKey::new("a.b").unwrap()),
            on_limit: OnLimit::Skip,
            ..TaskLimit::new(LimitRule::Concurrency(3))
        };
        let rate = LimitRule::Rate(StartRate {
            count: 4,
            per: Duration::from_secs(1),
            burst: 2,
        });
        limits.add("x", keyed);
        limits.add("x", TaskLimit::new(LimitRule::Sequence));
        let shared = SharedSemaphore::new("api, v2", 7).unwrap();
        limits.add("x", TaskLimit::new(LimitRule::Semaphore(shared)));
        limits.add("y:*", TaskLimit::new(rate));
        limits.add_of_queue(QueueName::default(), TaskLimit::new(LimitRule::Concurrency(9)));
        let expected = "\nx\ts,,,w,\tc,3,,s,a.b\tm,7,,w,\u{3}api, v2\n\u{2}y:\tr,250,2,w,\n\u{1}default\tc,9,,w,\n";
        assert_eq!(text(&limits), expected);
    }
}
