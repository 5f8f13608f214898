//! What calls are given, where it takes more than a line.

use bytes::Bytes;
use runner_core::task::Task;
use runner_queue::{NewWorkflow, WorkflowPlan, WorkflowStep};

/// A workflow of two steps.
pub fn workflow(name: &str) -> NewWorkflow {
    let step = || (WorkflowStep::of(&Task::new("a"), None), Bytes::from("1"));
    NewWorkflow {
        id: name.to_owned(),
        plan: WorkflowPlan {
            name: "import".to_owned(),
            stages: vec![2],
            ..WorkflowPlan::default()
        },
        steps: vec![step(), step()],
    }
}
