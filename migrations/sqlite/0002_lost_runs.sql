-- Who claimed a task and when (microseconds), and how many of its runs in a row ended without any report.
ALTER TABLE tasks ADD COLUMN claimed_by TEXT;
ALTER TABLE tasks ADD COLUMN claimed_at INTEGER;
ALTER TABLE tasks ADD COLUMN lost INTEGER NOT NULL DEFAULT 0;
