//! The pages, one file each: a page is a serializable value with a template and a route.
//!
//! Pages only read. Changes are in `act`.

mod foreign;
pub mod login;
pub mod overview;
pub mod raw;
pub mod rows;
pub mod run;
pub mod run_files;
pub mod schedule;
pub mod schedules;
pub mod servers;
pub mod task;
pub mod tasks;
pub mod triggers;
