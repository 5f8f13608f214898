//! The operations of the broker: one file for each subject, each implementing a part of the seam.

pub(in crate::redis) mod act;
pub(in crate::redis) mod asynq_entries;
#[cfg(feature = "contract")]
pub(in crate::redis) mod audit;
mod audit_list;
pub(in crate::redis) mod batcher;
pub(in crate::redis) mod caveats;
#[cfg(feature = "ceiling")]
pub(in crate::redis) mod ceiling;
pub(in crate::redis) mod claim;
pub(in crate::redis) mod cluster_commit;
pub(in crate::redis) mod commit_intent;
pub(in crate::redis) mod documents;
pub(in crate::redis) mod epoch;
pub(in crate::redis) mod exchange;
mod follow;
pub(in crate::redis) mod gates;
pub(in crate::redis) mod group;
pub(in crate::redis) mod holders;
pub(in crate::redis) mod inspect_queues;
pub(in crate::redis) mod inspect_tasks;
pub(in crate::redis) mod manual;
pub(in crate::redis) mod partial;
pub(in crate::redis) mod passed_over;
pub(in crate::redis) mod pending_commit;
pub(in crate::redis) mod per_queue;
pub(in crate::redis) mod probe;
pub(in crate::redis) mod produce;
pub(in crate::redis) mod quarantine;
pub(in crate::redis) mod recover;
pub(in crate::redis) mod repair;
pub(in crate::redis) mod runs;
pub(in crate::redis) mod schedule;
pub(in crate::redis) mod servers;
pub(in crate::redis) mod settle;
pub(in crate::redis) mod signals;
pub(in crate::redis) mod statistics;
pub(in crate::redis) mod task_views;
pub(in crate::redis) mod type_filter;
pub(in crate::redis) mod unanswered;
pub(in crate::redis) mod upkeep;
pub(in crate::redis) mod usage;
#[cfg(test)]
pub(in crate::redis) mod vectors;
pub(in crate::redis) mod workflows;
