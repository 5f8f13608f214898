-- Whole outputs of runs whose records have a part only, packed; they go with their records, and after two weeks.
CREATE TABLE run_outputs (
    queue   TEXT NOT NULL,
    task    TEXT NOT NULL,
    kept_at INTEGER NOT NULL,
    body    BLOB NOT NULL,
    PRIMARY KEY (queue, task)
) STRICT;

CREATE INDEX run_outputs_by_age ON run_outputs (kept_at);

CREATE TRIGGER run_outputs_go_with_runs AFTER DELETE ON runs
BEGIN
    DELETE FROM run_outputs WHERE queue = OLD.queue AND task = OLD.task;
END;
