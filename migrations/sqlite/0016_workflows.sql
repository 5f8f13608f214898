-- Workflows: stages of tasks that are one thing. `plan` and `step` are JSON.
CREATE TABLE workflows (
    id         TEXT PRIMARY KEY,
    plan       TEXT NOT NULL,
    -- running, done, failed, cancelling, cancelled
    state      TEXT NOT NULL,
    -- Stages that were enqueued.
    sent       INTEGER NOT NULL DEFAULT 0,
    -- How often it was continued after a failure, and up to which failure was reported.
    epoch      INTEGER NOT NULL DEFAULT 0,
    called     INTEGER NOT NULL DEFAULT 0,
    done       INTEGER NOT NULL DEFAULT 0,
    failed     INTEGER NOT NULL DEFAULT 0,
    error      TEXT NOT NULL DEFAULT '',
    created_at INTEGER NOT NULL,
    changed_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX workflows_by_start ON workflows (created_at);
CREATE INDEX workflows_open ON workflows (created_at) WHERE state NOT IN ('done', 'cancelled');
CREATE INDEX workflows_by_change ON workflows (changed_at);

-- `ended`: done or failed, with the result or the error.
CREATE TABLE workflow_steps (
    workflow TEXT NOT NULL,
    number   INTEGER NOT NULL,
    step     TEXT NOT NULL,
    payload  BLOB NOT NULL,
    ended    TEXT,
    said     BLOB
) STRICT;

CREATE UNIQUE INDEX workflow_steps_by_number ON workflow_steps (workflow, number);
