//! The contract that every broker keeps, as clauses that a test binary runs against each.
