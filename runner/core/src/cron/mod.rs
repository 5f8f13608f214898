//! The cron engine: grammar, zones, daylight saving time, next and previous instants.
