-- Groups: tasks that wait for others, and the sets in which they become one.

-- `grouped`: whether it was ever put in its group; a retry of it goes back there. A task with a delay never was.
-- `staged`: the set that it was taken into; it is on no list then, and no sum counts it.
ALTER TABLE tasks ADD COLUMN grouped INTEGER NOT NULL DEFAULT 0;
ALTER TABLE tasks ADD COLUMN staged INTEGER;

UPDATE tasks SET grouped = 1 WHERE state = 'aggregating';

DROP INDEX tasks_aggregating;
CREATE INDEX tasks_aggregating ON tasks (queue, at) WHERE state = 'aggregating' AND staged IS NULL;
CREATE INDEX tasks_by_group ON tasks (queue, group_name, at, id) WHERE state = 'aggregating' AND staged IS NULL;
CREATE INDEX tasks_staged ON tasks (staged, at, id) WHERE staged IS NOT NULL;

-- Sets that somebody took out of a group. After its deadline the tasks of a set go back to the group.
CREATE TABLE staged_sets (
    seq        INTEGER PRIMARY KEY,
    queue      TEXT NOT NULL,
    group_name TEXT NOT NULL,
    id         TEXT NOT NULL,
    deadline   INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX staged_sets_by_id ON staged_sets (queue, id);
CREATE INDEX staged_sets_by_deadline ON staged_sets (queue, deadline);

-- Whether its task became one with others: the lock lives on without it, until its time is over.
ALTER TABLE locks ADD COLUMN outlives INTEGER NOT NULL DEFAULT 0;
