-- A request to end an attempt may name the queue of its task, and the error with which the task is archived; without
-- one it is a cancellation, after which the task may be tried again.
ALTER TABLE cancellations ADD COLUMN queue TEXT;
ALTER TABLE cancellations ADD COLUMN error TEXT;
