-- Written when nothing else is, to see whether the file can be; `room` is empty but while room is looked for.
CREATE TABLE probes (
    one  INTEGER PRIMARY KEY CHECK (one = 1),
    room BLOB NOT NULL
) STRICT;
