//! The arguments that name a task.

use clap::Args;

#[derive(Debug, Args)]
pub(super) struct TaskArgs {
    /// Id of the task
    pub(super) id: String,
    /// Its queue; needed only if several queues have a task with this id
    #[arg(long)]
    pub(super) queue: Option<String>,
    /// The id is given in hexadecimal digits because it is not text
    #[arg(long, requires = "queue")]
    pub(super) hex: bool,
}
