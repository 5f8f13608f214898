-- How many bytes of results are kept of the steps of a workflow. A step that is done and whose result was left out has NULL in
-- `said`.
ALTER TABLE workflows ADD COLUMN kept INTEGER NOT NULL DEFAULT 0;
