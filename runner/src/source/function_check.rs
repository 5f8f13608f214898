//! Checks of what manifests define by the handlers that would run it. The checks themselves are not here.

use std::fmt;
use std::sync::Arc;

use runner_core::function::{CheckFinding, FunctionKind};

type Judge = dyn Fn(&FunctionKind) -> Option<CheckFinding> + Send + Sync;

/// Checks functions; the default accepts all.
#[derive(Clone, Default)]
pub struct FunctionCheck(Option<Arc<Judge>>);

impl FunctionCheck {
    /// A check that calls `judge`.
    pub fn new(judge: impl Fn(&FunctionKind) -> Option<CheckFinding> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(judge)))
    }

    /// Its problem, if there is one.
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
