//! Background loops of a running instance that belong to no role: they check something periodically, and report it.
//!
//! `broker_setup` watches how the broker is configured, `known_types` which types and queues live workers serve,
//! `lost_lines` whether log lines were lost, `rejections` which manifests are refused; `run_counts` adds counts of runs to the store, `go_runs` those of workers in Go. Not here: what a role does in the background (`worker`, `scheduler`,
//! `source`), whether the broker takes writes (`health`), and notifications to the service manager (`cli`).

pub mod broker_setup;
pub mod go_runs;
pub mod known_types;
pub mod lost_lines;
pub mod rejections;
pub mod run_counts;
