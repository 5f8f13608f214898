-- Schedules that are edited while the program runs. An existing table is never touched.
-- AUTOINCREMENT: an id is a schedule's identity, so it must never be given out twice.
CREATE TABLE IF NOT EXISTS sys_crontab (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL,
  type TEXT NOT NULL,
  spec TEXT NOT NULL,
  payload TEXT,
  status INTEGER NOT NULL DEFAULT 1,
  created_at TEXT DEFAULT NULL,
  updated_at TEXT DEFAULT NULL
);
