//! Which limits this worker's claims keep: those of functions, of the settings and of code, as they are now.
//!
//! Not here: what a limit does, which the broker decides when it claims.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use runner_core::function::{Function, Functions};
use runner_core::limit::Limits;

/// What the broker was given last, and what that was made of.
#[derive(Default)]
pub(super) struct ClaimedLimits(Mutex<Given>);

#[derive(Default)]
struct Given {
    /// Compared by address, which nothing else can have while it is held here: with thousands of functions, their limits are put
    /// together only when the set of functions is another one.
    functions: Option<Arc<BTreeMap<String, Arc<Function>>>>,
    stated: Limits,
    limits: Limits,
}

impl ClaimedLimits {
    /// The limits to keep from now on; `None` if they have not changed since the last time. `stated`: those of settings and code,
    /// which come before those of functions.
    pub(super) fn look(&self, functions: &Functions, stated: &[&Limits]) -> Option<Limits> {
        let mut now = Limits::default();
        for limits in stated {
            now.add_all(limits);
        }
        let all = functions.all();
        let mut given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same_functions = given.functions.as_ref().is_some_and(|before| Arc::ptr_eq(before, &all));
        if same_functions && now == given.stated {
            return None;
        }
        given.functions = Some(all);
        given.stated.clone_from(&now);
        now.add_all(&functions.limits());
        if now == given.limits {
            return None;
        }
        given.limits.clone_from(&now);
        Some(now)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use runner_core::function::{FunctionKind, FunctionOptions};
    use runner_core::limit::{LimitRule, TaskLimit};

    use super::*;

    fn limited(name: &str, most: u32) -> Function {
        Function {
            name: name.to_owned(),
            description: String::new(),
            kind: FunctionKind::Handler { kind: name.to_owned() },
            options: FunctionOptions::default(),
            payload: None,
            payload_schema: None,
            limits: vec![TaskLimit::new(LimitRule::Concurrency(most))],
            notify: Default::default(),
            revision: "1".to_owned(),
        }
    }

    fn stated(kind: &str, most: u32) -> Limits {
        let mut limits = Limits::default();
        limits.add(kind, TaskLimit::new(LimitRule::Concurrency(most)));
        limits
    }

    #[test]
    fn a_change_of_functions_or_settings_is_seen_once() {
        let functions = Functions::new(vec![limited("report", 2)]);
        let (claimed, none) = (ClaimedLimits::default(), Limits::default());
        assert_eq!(claimed.look(&functions, &[&none]).unwrap(), stated("report", 2));
        assert!(claimed.look(&functions, &[&none]).is_none());
        // Read again, and the same.
        functions.replace(vec![limited("report", 2)]);
        assert!(claimed.look(&functions, &[&none]).is_none());
        functions.replace(vec![limited("report", 3)]);
        assert_eq!(claimed.look(&functions, &[&none]).unwrap(), stated("report", 3));
        // What settings state comes before the limits of functions.
        assert_eq!(
            claimed.look(&functions, &[&stated("report", 1)]).unwrap(),
            stated("report", 1)
        );
        assert!(claimed.look(&functions, &[&stated("report", 1)]).is_none());
        assert_eq!(claimed.look(&functions, &[&none]).unwrap(), stated("report", 3));
        functions.replace(Vec::new());
        assert_eq!(claimed.look(&functions, &[&none]).unwrap(), none);
        assert!(claimed.look(&functions, &[&none]).is_none());
    }
}
