-- The last task of a schedule that a person asked for: it stands in the way of occurrences like the previous one.
ALTER TABLE schedules ADD COLUMN manual_queue TEXT;
ALTER TABLE schedules ADD COLUMN manual_task TEXT;
