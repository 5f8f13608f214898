//! Where schedules come from: the manifest directory, the table, code. I/O that yields definitions and problems.
