-- What keeps cursors true when the clock was wrong, and when schedules leave their source and come back.

-- `unbroken_since`: from when on every occurrence up to the cursor was decided as it came, none missed (microseconds).
-- `ahead`: spans of the future that are decided already, because the clock was ahead then: whole seconds `from..to`.
-- `withdrawn_at`: when the schedule left the set of every instance; it begins anew when it comes back.
ALTER TABLE schedules ADD COLUMN unbroken_since INTEGER;
ALTER TABLE schedules ADD COLUMN ahead TEXT;
ALTER TABLE schedules ADD COLUMN withdrawn_at INTEGER;

-- Which instance has which schedules, until its time is over.
CREATE TABLE holders (
    instance   TEXT PRIMARY KEY,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE held (
    instance TEXT NOT NULL,
    schedule TEXT NOT NULL,
    revision TEXT NOT NULL,
    PRIMARY KEY (instance, schedule)
) STRICT, WITHOUT ROWID;

-- The schedules that were held from a source and not withdrawn since.
CREATE TABLE scopes (
    scope    TEXT NOT NULL,
    schedule TEXT NOT NULL,
    PRIMARY KEY (scope, schedule)
) STRICT, WITHOUT ROWID;

CREATE INDEX held_by_schedule ON held (schedule);

-- The last time that cursors were set back to the present, how far ahead they stood at most, and how many they were.
CREATE TABLE clock_corrections (
    one       INTEGER PRIMARY KEY CHECK (one = 1),
    at        INTEGER NOT NULL,
    ahead_s   INTEGER NOT NULL,
    schedules INTEGER NOT NULL
) STRICT;
