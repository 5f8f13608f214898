-- What is remembered of runs when their tasks are gone.

-- Where the task of a decision lies or lay, and how it ended: its last attempt (microseconds).
ALTER TABLE decisions ADD COLUMN queue TEXT;
ALTER TABLE decisions ADD COLUMN outcome TEXT;
ALTER TABLE decisions ADD COLUMN started_at INTEGER;
ALTER TABLE decisions ADD COLUMN ended_at INTEGER;

-- The last runs of each function of a manifest; `body` is the record in JSON.
CREATE TABLE runs (
    queue    TEXT NOT NULL,
    task     TEXT NOT NULL,
    function TEXT NOT NULL,
    ended_at INTEGER NOT NULL,
    body     TEXT NOT NULL,
    PRIMARY KEY (queue, task)
) STRICT;

CREATE INDEX runs_by_function ON runs (function, ended_at);
