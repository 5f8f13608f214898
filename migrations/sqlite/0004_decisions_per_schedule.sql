-- How many decisions are on record of each schedule, and when the newest was made: the record is bounded by schedule,
-- so that a busy one never pushes out the history of one that fires once a night.
ALTER TABLE schedules ADD COLUMN decisions INTEGER NOT NULL DEFAULT 0;
ALTER TABLE schedules ADD COLUMN decided_at INTEGER;

DELETE FROM decisions WHERE schedule NOT IN (SELECT id FROM schedules);
UPDATE schedules SET
    decisions = (SELECT count(*) FROM decisions d WHERE d.schedule = schedules.id),
    decided_at = (SELECT d.decided_at FROM decisions d WHERE d.schedule = schedules.id ORDER BY d.seq DESC LIMIT 1);

CREATE INDEX schedules_by_decision ON schedules (decided_at) WHERE decisions > 0;
