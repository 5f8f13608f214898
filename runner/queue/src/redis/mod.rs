//! The Redis broker, in the exact format of asynq.
