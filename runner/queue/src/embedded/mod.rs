//! The embedded broker: one SQLite file.
