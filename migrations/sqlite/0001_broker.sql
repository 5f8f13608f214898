-- Tables of the embedded broker. All instants are microseconds since 1970 UTC, durations are in the unit that
-- the column name ends with.

-- One row for each queue ever named; the counts by state are kept by the same transaction that moves a task,
-- so that no page has to count. `claims` numbers the claims ever made from the queue.
CREATE TABLE queues (
    name        TEXT PRIMARY KEY,
    paused_at   INTEGER,
    pending     INTEGER NOT NULL DEFAULT 0,
    active      INTEGER NOT NULL DEFAULT 0,
    scheduled   INTEGER NOT NULL DEFAULT 0,
    retry       INTEGER NOT NULL DEFAULT 0,
    archived    INTEGER NOT NULL DEFAULT 0,
    completed   INTEGER NOT NULL DEFAULT 0,
    aggregating INTEGER NOT NULL DEFAULT 0,
    processed   INTEGER NOT NULL DEFAULT 0,
    failed      INTEGER NOT NULL DEFAULT 0,
    claims      INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- `at` is the place in the list of the task's state: position (pending), end of the lease (active), due instant
-- (scheduled, retry), when it was filed (archived), when it may be deleted (completed), when it was added
-- (aggregating). `run` is the number of its last claim: it fences late workers, those of an earlier task of the
-- same id too.
CREATE TABLE tasks (
    seq            INTEGER PRIMARY KEY,
    queue          TEXT NOT NULL,
    id             TEXT NOT NULL,
    kind           TEXT NOT NULL,
    payload        BLOB NOT NULL,
    state          TEXT NOT NULL CHECK (state IN
        ('pending', 'active', 'scheduled', 'retry', 'archived', 'completed', 'aggregating')),
    at             INTEGER NOT NULL,
    run            INTEGER NOT NULL DEFAULT 0,
    pending_since  INTEGER,
    max_retry      INTEGER NOT NULL,
    retried        INTEGER NOT NULL DEFAULT 0,
    timeout_s      INTEGER NOT NULL,
    deadline_s     INTEGER NOT NULL,
    retention_s    INTEGER NOT NULL,
    unique_key     TEXT,
    group_name     TEXT,
    headers        TEXT,
    last_error     TEXT NOT NULL DEFAULT '',
    last_failed_at INTEGER,
    completed_at   INTEGER,
    result         BLOB,
    waiting_for    TEXT
) STRICT;

CREATE UNIQUE INDEX tasks_by_id ON tasks (queue, id);
CREATE INDEX tasks_pending ON tasks (queue, at) WHERE state = 'pending';
CREATE INDEX tasks_active ON tasks (queue, at) WHERE state = 'active';
CREATE INDEX tasks_scheduled ON tasks (queue, at) WHERE state = 'scheduled';
CREATE INDEX tasks_retry ON tasks (queue, at) WHERE state = 'retry';
CREATE INDEX tasks_archived ON tasks (queue, at) WHERE state = 'archived';
CREATE INDEX tasks_completed ON tasks (queue, at) WHERE state = 'completed';
CREATE INDEX tasks_aggregating ON tasks (queue, at) WHERE state = 'aggregating';
CREATE INDEX tasks_waiting ON tasks (queue, kind) WHERE waiting_for IS NOT NULL;

-- Uniqueness locks. A lock whose time is over counts as absent.
CREATE TABLE locks (
    queue      TEXT NOT NULL,
    key        TEXT NOT NULL,
    task_id    TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (queue, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX locks_by_end ON locks (expires_at);

-- What is remembered of ended tries; gone together with the task.
CREATE TABLE attempts (
    seq  INTEGER PRIMARY KEY,
    task INTEGER NOT NULL,
    body TEXT NOT NULL
) STRICT;

CREATE INDEX attempts_by_task ON attempts (task, seq);

-- Counters of one queue and UTC day (days since 1970).
CREATE TABLE day_counts (
    day       INTEGER NOT NULL,
    queue     TEXT NOT NULL,
    processed INTEGER NOT NULL,
    failed    INTEGER NOT NULL,
    PRIMARY KEY (day, queue)
) STRICT, WITHOUT ROWID;

-- Worker processes; a row whose time is over counts as absent.
CREATE TABLE servers (
    key        TEXT PRIMARY KEY,
    info       TEXT NOT NULL,
    working    TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Requests to cancel a task, for the processes that share this file. Numbers are never used twice.
CREATE TABLE cancellations (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    task_id TEXT NOT NULL,
    at      INTEGER NOT NULL
) STRICT;

-- Cursors: every occurrence of a schedule up to `cursor` is decided.
CREATE TABLE schedules (
    id           TEXT PRIMARY KEY,
    revision     TEXT NOT NULL,
    cursor       INTEGER NOT NULL,
    paused_at    INTEGER,
    paused_by    TEXT,
    last_nominal INTEGER,
    last_queue   TEXT,
    last_task    TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE decisions (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    schedule   TEXT NOT NULL,
    nominal    INTEGER NOT NULL,
    kind       TEXT NOT NULL,
    reason     TEXT NOT NULL,
    task       TEXT,
    count      INTEGER NOT NULL,
    decided_at INTEGER NOT NULL,
    instance   TEXT NOT NULL
) STRICT;

CREATE INDEX decisions_by_schedule ON decisions (schedule, seq);

-- The one leader, until its time is over.
CREATE TABLE leader (
    one        INTEGER PRIMARY KEY CHECK (one = 1),
    instance   TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
