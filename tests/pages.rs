//! The dashboard over HTTP, with empty and with full stores, in both languages, and in a real browser.
//!
//! Each submodule has one subject; `desk` makes the dashboards that they ask.

mod acts;
mod browser;
mod clock;
mod desk;
mod flood;
mod guards;
mod login;
mod many;
mod odd;
mod proxied;
mod seen;

use crate::kit;

/// The tests of this module and of those below it.
pub fn tests() -> Vec<kit::Trial> {
    [
        acts::tests(),
        browser::tests(),
        clock::tests(),
        flood::tests(),
        guards::tests(),
        login::tests(),
        many::tests(),
        odd::tests(),
        proxied::tests(),
        seen::tests(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
