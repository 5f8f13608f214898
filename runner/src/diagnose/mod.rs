//! Why a task waits, and why a schedule does not fire: from facts to an ordered list of reasons with stable codes. And how the runs of a
//! schedule ended.
//!
//! Pure: reads nothing and waits for nothing. `facts` asks the broker; pages and commands show the reasons.

mod catalogue;
mod fate;
mod new_task;
mod occurrence;
mod reason;
mod schedule;
mod servers;
mod task;
#[cfg(test)]
mod tests;

pub use catalogue::{MEANT, ReasonCode, ReasonSeverity};
pub use fate::{Fate, failed_in_a_row, fate};
pub use new_task::{FunctionFacts, why_new_task};
pub use occurrence::{AtInstant, at_instant};
pub use reason::{Reason, ReasonValue, closed};
pub use schedule::{
    CORRECTION_SHOWN, ScheduleFacts, why_absent, why_broken, why_foreign, why_not_in_force, why_schedule,
};
pub use servers::{BrokerFacts, is_served};
pub use task::{TaskFacts, why_damaged, why_gone, why_task};

use crate::text::nearest;

/// The known name that was probably meant. Patterns of queues are not names.
fn meant(word: &str, known: &[String]) -> Option<String> {
    let names = known.iter().map(String::as_str).filter(|name| !name.contains('*'));
    nearest(word, names).map(str::to_owned)
}
