//! The dashboard over HTTP, with empty and with full stores, in both languages, and in a real browser.
//!
//! Each submodule has one subject; `dashboard` starts the dashboards that they query.

mod acts;
mod browser;
mod clock;
mod content;
mod dashboard;
mod failures;
mod flood;
mod guards;
mod login;
mod many_queues;
mod now;
mod odd_tasks;
mod proxied;
mod search;

use crate::kit;

/// The tests of this module and its submodules.
pub fn tests() -> Vec<kit::Trial> {
    [
        acts::tests(),
        browser::tests(),
        clock::tests(),
        failures::tests(),
        flood::tests(),
        guards::tests(),
        login::tests(),
        many_queues::tests(),
        now::tests(),
        odd_tasks::tests(),
        proxied::tests(),
        content::tests(),
        search::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
