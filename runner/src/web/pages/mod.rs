//! The pages, one file each: a page is a serializable value, a template of its own and a route.
//!
//! Pages ask and show. What changes something lives in `act`.

mod foreign;
pub mod login;
pub mod overview;
pub mod raw;
pub mod rows;
pub mod run;
pub mod schedule;
pub mod schedules;
pub mod servers;
pub mod task;
pub mod tasks;
