-- What is known of a task whose last run ended with its worker process, beside the crashes counted in `lost`: at most how
-- long that run took (milliseconds), the run that was counted last with the count before it, and the run that has its
-- process to itself.
ALTER TABLE tasks ADD COLUMN ran_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tasks ADD COLUMN crash_run INTEGER;
ALTER TABLE tasks ADD COLUMN lost_before INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tasks ADD COLUMN alone_run INTEGER;
