-- Why a schedule is paused, and when a scheduler resumes it (microseconds).
ALTER TABLE schedules ADD COLUMN paused_note TEXT;
ALTER TABLE schedules ADD COLUMN paused_until INTEGER;
