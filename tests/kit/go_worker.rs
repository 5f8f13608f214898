//! A worker with the Redis operations of Go's asynq: one task per script call, from the right end of the first of its queues
//! that has any, and a second of sleep when none has.
//!
//! Its handlers do nothing and succeed at once; a task of another type fails with "handler not found", as in Go. It neither
//! extends leases nor forwards or recovers tasks: those are other parts of a server.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use redis::aio::MultiplexedConnection;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::redis::RedisDb;

/// How long a server sleeps when all of its queues are empty.
const EMPTY: Duration = Duration::from_secs(1);

/// KEYS: pending, paused, active, lease. ARGV: end of the lease in s, what keys of tasks begin with.
const DEQUEUE: &str = "
if redis.call('EXISTS', KEYS[2]) == 1 then return nil end
local id = redis.call('RPOPLPUSH', KEYS[1], KEYS[3])
if not id then return nil end
local key = ARGV[2] .. id
redis.call('HSET', key, 'state', 'active')
redis.call('HDEL', key, 'pending_since')
redis.call('ZADD', KEYS[4], ARGV[1], id)
return {id, redis.call('HGET', key, 'msg')}";

/// KEYS: active, lease, task, processed, processed today. ARGV: id, end of today's count in s.
const DONE: &str = "
if redis.call('LREM', KEYS[1], 0, ARGV[1]) == 0 or redis.call('ZREM', KEYS[2], ARGV[1]) == 0
  or redis.call('DEL', KEYS[3]) == 0 then
  return redis.error_reply('NOT FOUND')
end
if redis.call('INCR', KEYS[5]) == 1 then redis.call('EXPIREAT', KEYS[5], ARGV[2]) end
return redis.call('INCR', KEYS[4])";

/// KEYS: active, lease, task, retry. ARGV: id, score, message.
const RETRY: &str = "
if redis.call('LREM', KEYS[1], 0, ARGV[1]) == 0 or redis.call('ZREM', KEYS[2], ARGV[1]) == 0 then
  return redis.error_reply('NOT FOUND')
end
redis.call('ZADD', KEYS[4], ARGV[2], ARGV[1])
return redis.call('HSET', KEYS[3], 'msg', ARGV[3], 'state', 'retry')";

/// The outcome of one task.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The task's id.
    pub id: String,
    /// The task's type.
    pub kind: String,
    /// Whether there was a handler.
    pub known: bool,
    /// When it was taken.
    pub at: Instant,
}

/// A running worker; it ends when this is dropped.
#[derive(Debug)]
pub struct GoWorker {
    ran: Arc<Mutex<Vec<Ran>>>,
    _task: AbortOnDropHandle<()>,
}

struct Server {
    link: MultiplexedConnection,
    queues: Vec<(String, u32)>,
    types: Vec<String>,
    ran: Arc<Mutex<Vec<Ran>>>,
}

impl GoWorker {
    /// Serves `queues` (names and priorities, drawn by weight) with handlers for exactly these types.
    pub async fn start(db: &RedisDb, queues: &[(&str, u32)], concurrency: usize, types: &[&str]) -> Self {
        let ran = Arc::default();
        let server = Server {
            link: db.connect().await,
            queues: queues
                .iter()
                .map(|(name, weight)| ((*name).to_owned(), *weight))
                .collect(),
            types: types.iter().map(|&kind| kind.to_owned()).collect(),
            ran: Arc::clone(&ran),
        };
        let task = tokio::spawn(serve(Arc::new(server), concurrency));
        Self {
            ran,
            _task: AbortOnDropHandle::new(task),
        }
    }

    /// The tasks run so far, in the order in which they were taken.
    pub fn ran(&self) -> Vec<Ran> {
        self.ran.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(server: Arc<Server>, concurrency: usize) {
    let slots = Arc::new(Semaphore::new(concurrency));
    let mut chance = 0x9e37_79b9_7f4a_7c15_u64;
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await.unwrap();
        let Some((queue, id, message)) = dequeue(&server, &mut chance).await else {
            // The slot stays occupied meanwhile, as in Go.
            tokio::time::sleep(EMPTY).await;
            continue;
        };
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            process(&server, &queue, &id, &message).await;
            drop(slot);
        });
    }
}

async fn dequeue(server: &Server, chance: &mut u64) -> Option<(String, String, Vec<u8>)> {
    let mut link = server.link.clone();
    for queue in in_turn(&server.queues, chance) {
        let part = |part: &str| format!("asynq:{{{queue}}}:{part}");
        let keys = ["pending", "paused", "active", "lease"].map(part);
        let mut call = redis::cmd("EVAL");
        call.arg(DEQUEUE)
            .arg(keys.len())
            .arg(&keys)
            .arg(now() + 30)
            .arg(part("t:"));
        let taken: Option<(String, Vec<u8>)> = call.query_async(&mut link).await.ok()?;
        if let Some((id, message)) = taken {
            return Some((queue, id, message));
        }
    }
    None
}

/// All queues, each first with the probability of its weight.
fn in_turn(queues: &[(String, u32)], chance: &mut u64) -> Vec<String> {
    let mut left = queues.to_vec();
    let mut order = Vec::new();
    while !left.is_empty() {
        *chance ^= *chance << 13;
        *chance ^= *chance >> 7;
        *chance ^= *chance << 17;
        let sum: u64 = left.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let mut draw = *chance % sum;
        let hit = left.iter().position(|(_, weight)| {
            let weight = u64::from(*weight);
            let hit = draw < weight;
            draw = draw.saturating_sub(weight);
            hit
        });
        order.push(left.remove(hit.unwrap_or(0)).0);
    }
    order
}

async fn process(server: &Server, queue: &str, id: &str, message: &[u8]) {
    let (at, kind) = (Instant::now(), kind_of(message));
    let known = server.types.contains(&kind);
    let mut link = server.link.clone();
    let part = |part: &str| format!("asynq:{{{queue}}}:{part}");
    let (active, lease, task) = (part("active"), part("lease"), part(&format!("t:{id}")));
    let mut call = redis::cmd("EVAL");
    if known {
        let today = jiff::Timestamp::now().strftime("processed:%Y-%m-%d").to_string();
        let keys = [active, lease, task, part("processed"), part(&today)];
        call.arg(DONE)
            .arg(keys.len())
            .arg(&keys)
            .arg(id)
            .arg(now() + 90 * 86_400);
    } else {
        let keys = [active, lease, task, part("retry")];
        call.arg(RETRY)
            .arg(keys.len())
            .arg(&keys)
            .arg(id)
            .arg(now() + 30)
            .arg(failed(message));
    }
    let _: i64 = call.query_async(&mut link).await.unwrap();
    let id = id.to_owned();
    let ran = Ran { id, kind, known, at };
    server.ran.lock().unwrap_or_else(PoisonError::into_inner).push(ran);
}

fn now() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// The type, which Go writes first; shorter than 128 bytes in every test.
fn kind_of(message: &[u8]) -> String {
    assert_eq!(message[0], 10, "the type comes first");
    let end = 2 + usize::from(message[1]);
    String::from_utf8(message[2..end].to_vec()).unwrap()
}

/// The same message with one more retry and an error: of a duplicate field the last one counts.
fn failed(message: &[u8]) -> Vec<u8> {
    const ERROR: &str = "handler not found for task";
    let mut message = message.to_vec();
    message.extend([6 << 3, 1, 7 << 3 | 2, u8::try_from(ERROR.len()).unwrap()]);
    message.extend(ERROR.as_bytes());
    message
}
