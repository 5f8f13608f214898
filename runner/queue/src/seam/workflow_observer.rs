//! Who hears that a workflow has failed or ended.
//!
//! Not here: when that is, which `workflow_advance` decides, and the callbacks of a workflow, which need no observer.

use super::Delivery;
use super::workflow::{WorkflowHead, WorkflowPlace, WorkflowState};

/// What a program does when a workflow has failed, is done or was cancelled. Asked while others wait for the workflow, so it
/// must answer at once.
pub trait WorkflowObserver: Send + Sync {
    /// Tasks that are enqueued in the moment in which the callback of this end is: before the end is written down, so that none
    /// is lost by a process that dies in between. Such a moment may repeat on any process, so each task needs an id that follows
    /// from the workflow, the time at which it was stored, and its epoch.
    fn tasks(&self, head: &WorkflowHead, end: WorkflowState) -> Vec<Delivery>;

    /// This process has written the end down. No other one does for the same end; if the answer of the store is lost, none does.
    fn ended(&self, end: WorkflowState);
}

/// The end that a move means, if it is one: a failure that is reported, or a final state.
pub(super) fn end_of_move(from: WorkflowPlace, to: WorkflowPlace) -> Option<WorkflowState> {
    if to.called != from.called {
        return Some(WorkflowState::Failed);
    }
    (to.state.is_final() && !from.state.is_final()).then_some(to.state)
}
