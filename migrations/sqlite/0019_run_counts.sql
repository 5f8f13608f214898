-- How many runs ended in a minute (unit 60) or an hour (unit 3600), and how long they took; `at` numbers the periods since
-- 1970. `series` is 'a' for all runs, or 'q:' or 't:' and the name of a queue or type. `counts` has a letter and a number for
-- each count that is not zero.
CREATE TABLE run_counts (
  series TEXT NOT NULL,
  unit INTEGER NOT NULL,
  at INTEGER NOT NULL,
  counts TEXT NOT NULL,
  PRIMARY KEY (series, unit, at)
) WITHOUT ROWID;
CREATE INDEX run_counts_by_age ON run_counts (unit, at);
