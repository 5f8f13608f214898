//! The integration tests: one binary, so that its servers start once and are shared.
//!
//! Each module lists its tests in `tests()`; `kit` explains how to add one. Not here: unit tests, which are beside the code
//! they test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
// Outside the program there is no clock to inject; tests wait by polling.
#![allow(clippy::disallowed_methods)]

mod after;
mod api;
mod brokers;
mod chaos;
mod cli;
mod cli_doctor;
mod cli_ends;
mod cli_lists;
mod cli_messages;
mod cli_runs;
mod cli_schedule;
mod cli_sources;
mod cli_top;
mod deploy;
mod events;
mod faults;
mod files;
mod fleet;
mod golden;
mod growth;
mod hooks;
mod kit;
mod limits;
mod model;
mod monitoring;
mod noticed;
mod notifications;
mod on_start;
mod otlp;
mod pages;
mod payload_schema;
mod probes;
mod processes;
mod publish;
mod queues;
mod rabbitmq;
mod rabbitmq_faults;
mod readiness;
mod readme;
mod redis_broker;
mod redis_cluster;
mod redis_entries;
mod redis_failover;
mod redis_faults;
mod redis_links;
mod redis_setup;
mod redis_storm;
mod redis_streams;
mod reload;
mod rotation;
mod row_editor;
mod run_counts;
mod run_files;
mod service_manager;
mod sql_functions;
mod starters;
mod story_cluster;
mod story_code;
mod story_crash;
mod story_embedded;
mod story_groups;
mod story_night;
mod story_original;
mod story_sources;
mod story_versions;
mod table;
mod table_edit;
mod table_links;
mod tidy;
mod traces;
mod traps;
mod why;
mod worker_orders;
mod workflows;

fn main() -> std::process::ExitCode {
    if let Some(code) = runner::guard_main().or_else(faults::program) {
        return code;
    }
    kit::run(parts().into_iter().chain(wholes()).collect())
}

/// The tests of modules about one part.
fn parts() -> Vec<Vec<kit::Trial>> {
    vec![
        kit::own_tests::tests(),
        after::tests(),
        api::tests(),
        tidy::tests(),
        brokers::tests(),
        cli::tests(),
        cli_doctor::tests(),
        cli_ends::tests(),
        cli_lists::tests(),
        cli_runs::tests(),
        cli_schedule::tests(),
        cli_sources::tests(),
        cli_top::tests(),
        cli_messages::tests(),
        deploy::tests(),
        events::tests(),
        golden::tests(),
        growth::tests(),
        hooks::tests(),
        limits::tests(),
        model::tests(),
        monitoring::tests(),
        noticed::tests(),
        notifications::tests(),
        on_start::tests(),
        otlp::tests(),
        traces::tests(),
        traps::tests(),
        redis_broker::tests(),
        redis_cluster::tests(),
        redis_entries::tests(),
        redis_failover::tests(),
        redis_faults::tests(),
        redis_links::tests(),
        redis_setup::tests(),
        redis_storm::tests(),
        redis_streams::tests(),
        pages::tests(),
        payload_schema::tests(),
        probes::tests(),
        processes::tests(),
        reload::tests(),
        queues::tests(),
        publish::tests(),
        rabbitmq::tests(),
        rabbitmq_faults::tests(),
        table::tests(),
        table_edit::tests(),
        table_links::tests(),
    ]
}

/// The tests of modules about the program as a whole.
fn wholes() -> Vec<Vec<kit::Trial>> {
    vec![
        readiness::tests(),
        readme::tests(),
        rotation::tests(),
        row_editor::tests(),
        run_counts::tests(),
        run_files::tests(),
        service_manager::tests(),
        sql_functions::tests(),
        starters::tests(),
        story_cluster::tests(),
        story_code::tests(),
        story_crash::tests(),
        story_embedded::tests(),
        story_groups::tests(),
        story_night::tests(),
        story_original::tests(),
        story_sources::tests(),
        story_versions::tests(),
        why::tests(),
        worker_orders::tests(),
        workflows::tests(),
        chaos::tests(),
        files::tests(),
        fleet::tests(),
        faults::tests(),
    ]
}
