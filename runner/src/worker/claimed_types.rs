//! Which task types this worker claims: those that its handlers know now.
//!
//! A list of names is not enough: a handler of a prefix may refuse some types, and a function may disappear between
//! a claim and its start. Such a task goes back to its queue at once, and its type is not claimed again until a
//! handler knows it.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use runner_queue::KnownTypes;
use runner_sdk::Handlers;

/// Refused types that are remembered; beyond that all are forgotten, and learned again one by one.
const REFUSED: usize = 1_000;

/// What was claimed last.
#[derive(Default)]
pub(super) struct ClaimedTypes(Mutex<State>);

#[derive(Default)]
struct State {
    names: Vec<String>,
    refused: BTreeSet<String>,
}

impl ClaimedTypes {
    /// The types to claim from now on; `None` if they have not changed since the last time.
    pub(super) fn look(&self, handlers: &Handlers) -> Option<KnownTypes> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let names = handlers.names();
        let before = state.refused.len();
        // A function may have come back, or a prefix may accept the type now.
        state.refused.retain(|kind| !handlers.knows(kind));
        let same = names == state.names && before == state.refused.len();
        state.names = names;
        (!same).then(|| state.types())
    }

    /// The types to claim from now on, without this one: a task of it was claimed, and no handler knows it.
    pub(super) fn refuse(&self, handlers: &Handlers, kind: &str) -> KnownTypes {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.names = handlers.names();
        if state.refused.len() >= REFUSED {
            state.refused.clear();
        }
        state.refused.insert(kind.to_owned());
        state.types()
    }
}

impl State {
    fn types(&self) -> KnownTypes {
        KnownTypes::new(self.names.iter().cloned(), self.refused.iter().cloned())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use runner_sdk::Registry;

    use super::*;

    async fn nothing() {}

    #[test]
    fn a_type_that_a_prefix_refuses_is_not_claimed_until_it_is_known() {
        let open = Arc::new(AtomicBool::new(false));
        let asked = open.clone();
        let handlers = Registry::new()
            .on("a", nothing)
            .on_prefix_if("p.", move |_| asked.load(Ordering::Relaxed), nothing)
            .build()
            .unwrap();
        let known = ClaimedTypes::default();
        assert!(known.look(&handlers).unwrap().has("p.x"));
        assert_eq!(known.look(&handlers), None);
        let types = known.refuse(&handlers, "p.x");
        assert!(!types.has("p.x") && types.has("p.y") && types.has("a") && !types.has("b"));
        assert_eq!(known.look(&handlers), None);
        open.store(true, Ordering::Relaxed);
        assert!(known.look(&handlers).unwrap().has("p.x"));
    }

    #[test]
    fn refused_types_are_bounded() {
        let handlers = Registry::new().on_prefix_if("p.", |_| false, nothing).build().unwrap();
        let known = ClaimedTypes::default();
        for n in 0..=REFUSED {
            known.refuse(&handlers, &format!("p.{n}"));
        }
        assert!(known.0.lock().unwrap().refused.len() <= REFUSED);
    }
}
