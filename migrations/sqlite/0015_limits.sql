-- Limits: a gate is a limit of a type or queue for one value of its key. Whether a task still holds one or waits there is decided
-- by the row of the task; these rows are checked when a gate is full, and corrected then.
CREATE TABLE gates (
    queue   TEXT NOT NULL,
    gate    TEXT NOT NULL,
    -- concurrency, rate, sequence
    rule    TEXT NOT NULL,
    -- How many at a time, or at once.
    most    INTEGER NOT NULL,
    -- For a rate: microseconds between two tasks, and up to when its tasks are used up.
    pause   INTEGER NOT NULL DEFAULT 0,
    used_up INTEGER NOT NULL DEFAULT 0,
    -- When to look at it again, while tasks wait there.
    look_at INTEGER,
    PRIMARY KEY (queue, gate)
) STRICT, WITHOUT ROWID;

CREATE INDEX gates_by_look ON gates (queue, look_at) WHERE look_at IS NOT NULL;

-- The tasks that hold a gate or wait at it; `turn` is their order.
CREATE TABLE gated (
    queue TEXT NOT NULL,
    id    TEXT NOT NULL,
    gate  TEXT NOT NULL,
    holds INTEGER NOT NULL,
    turn  INTEGER NOT NULL,
    PRIMARY KEY (queue, id, gate)
) STRICT, WITHOUT ROWID;

CREATE INDEX gated_by_gate ON gated (queue, gate, holds, turn);
