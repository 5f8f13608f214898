//! The settings of notifications, already checked. The channels themselves belong to the handlers.

use runner_core::notification::NotifyRules;

/// What is noticed on behalf of functions and schedules that say nothing themselves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NotificationSettings {
    /// The names of the channels.
    pub channels: Vec<String>,
    /// The rules of functions and schedules that state none.
    pub default: NotifyRules,
    /// The address of the dashboard's first page, if it is known how people reach it: notifications link to its pages.
    pub dashboard: Option<String>,
}
