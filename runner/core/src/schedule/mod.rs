//! What a schedule is, its policies, and the pure functions that decide and merge.
