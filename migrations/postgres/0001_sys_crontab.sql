-- Schedules that are edited while the program runs. An existing table is never touched.
CREATE TABLE IF NOT EXISTS sys_crontab (
  id bigserial PRIMARY KEY,
  name varchar(100) NOT NULL,
  type varchar(50) NOT NULL,
  spec varchar(100) NOT NULL,
  payload text,
  status smallint NOT NULL DEFAULT 1,
  created_at timestamp DEFAULT NULL,
  updated_at timestamp DEFAULT NULL
);
