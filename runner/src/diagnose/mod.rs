//! Why a task waits, and why a schedule does not fire: from facts to an ordered list of reasons with stable codes.
//!
//! Pure: reads nothing and waits for nothing. `facts` asks the broker; pages and commands show the reasons.

mod catalogue;
mod new_task;
mod reason;
mod schedule;
mod servers;
mod task;
#[cfg(test)]
mod tests;

pub use catalogue::{ReasonCode, ReasonSeverity};
pub use new_task::{FunctionFacts, why_new_task};
pub use reason::{Reason, ReasonValue};
pub use schedule::{CORRECTION_SHOWN, ScheduleFacts, why_absent, why_broken, why_foreign, why_schedule};
pub use servers::{BrokerFacts, is_served};
pub use task::{TaskFacts, why_gone, why_task};

use crate::text::nearest;

/// ` Did you mean x?`, if one of the known names is near enough.
fn meant(word: &str, known: &[String], prefix: &str) -> String {
    let near = nearest(word, known.iter().map(String::as_str));
    near.map_or_else(String::new, |near| format!(" Did you mean {prefix}{near}?"))
}
