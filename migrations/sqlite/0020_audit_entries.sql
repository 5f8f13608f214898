-- What people and programs did, as JSON; the newest ten thousand. Places in the list are the numbers, which only grow.
CREATE TABLE audit_entries (
  seq INTEGER PRIMARY KEY,
  entry TEXT NOT NULL
);
