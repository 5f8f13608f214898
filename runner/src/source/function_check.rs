//! A second opinion on what manifests define, by those who would run it. What is judged, and how, is not known here.

use std::fmt;
use std::sync::Arc;

use runner_core::function::{CheckFinding, FunctionKind};

type Judge = dyn Fn(&FunctionKind) -> Option<CheckFinding> + Send + Sync;

/// Judges functions; the default has no objection to anything.
#[derive(Clone, Default)]
pub struct FunctionCheck(Option<Arc<Judge>>);

impl FunctionCheck {
    /// One that asks `judge`.
    pub fn new(judge: impl Fn(&FunctionKind) -> Option<CheckFinding> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(judge)))
    }

    /// What is wrong with it.
    #[must_use]
    pub fn doubt(&self, kind: &FunctionKind) -> Option<CheckFinding> {
        self.0.as_ref().and_then(|judge| judge(kind))
    }
}

impl fmt::Debug for FunctionCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Vet(some)" } else { "Vet(none)" })
    }
}
