//! What a running program does when a workflow has failed or ended: its notifications, and the counts of `/metrics`.

use std::sync::Arc;

use runner_core::clock::Clock;
use runner_queue::{Delivery, WorkflowHead, WorkflowObserver, WorkflowState};

use crate::metrics::Metrics;
use crate::notification::{NotificationSettings, WorkflowNotifications};

/// Reports and counts ends of workflows. Every part of the program that takes workflows on has one.
pub struct WorkflowEnds {
    notifications: WorkflowNotifications,
    metrics: Arc<Metrics>,
}

impl WorkflowEnds {
    /// By these settings, with counts in `metrics`.
    #[must_use]
    pub fn new(settings: &NotificationSettings, clock: &Arc<dyn Clock>, metrics: &Arc<Metrics>) -> Self {
        Self {
            notifications: WorkflowNotifications::new(settings.clone(), clock.clone()),
            metrics: metrics.clone(),
        }
    }
}

impl WorkflowObserver for WorkflowEnds {
    fn tasks(&self, head: &WorkflowHead, end: WorkflowState) -> Vec<Delivery> {
        self.notifications.tasks(head, end)
    }

    fn ended(&self, end: WorkflowState) {
        self.metrics.workflow_ended(end.as_str());
    }
}
