-- Ids of tasks that were accepted once, until when they are refused (microseconds).
CREATE TABLE receipts (
    queue      TEXT NOT NULL,
    id         TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (queue, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX receipts_by_end ON receipts (expires_at);
