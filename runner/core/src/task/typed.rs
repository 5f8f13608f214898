//! Typed tasks: one Rust type says name, payload and options of a task, for its producers and its handler.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{InvalidTask, Task};

/// The payload of a task of one type. Derived: `#[derive(TaskType)]` with `#[task(name = "greet", queue = "low", retry = 3)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the payload of a task type",
    label = "needs a name to be enqueued and handled by",
    note = "derive it: #[derive(Serialize, Deserialize, TaskType)] #[task(name = \"greet\")]"
)]
pub trait TaskType: Serialize + DeserializeOwned {
    /// The task type: which handler runs it. Stored with every task.
    const NAME: &'static str;

    /// Sets the options that all tasks of this type have.
    #[must_use]
    fn options(task: Task) -> Task {
        task
    }

    /// A task with this payload and the options of its type. A payload that cannot be written as JSON makes it invalid.
    fn task(&self) -> Task {
        let task = Self::options(Task::new(Self::NAME));
        match serde_json::to_vec(self) {
            Ok(bytes) => task.payload(bytes),
            Err(error) => task.invalid(InvalidTask::Payload(error.to_string())),
        }
    }
}

/// What can be enqueued: a [`Task`], or the payload of a [`TaskType`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be enqueued",
    note = "enqueue a Task, or derive TaskType for the payload"
)]
pub trait Enqueue {
    /// The task.
    fn into_task(self) -> Task;
}

impl Enqueue for Task {
    fn into_task(self) -> Task {
        self
    }
}

impl Enqueue for &Task {
    fn into_task(self) -> Task {
        self.clone()
    }
}

impl<T: TaskType> Enqueue for T {
    fn into_task(self) -> Task {
        self.task()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Greet {
        name: String,
    }

    impl TaskType for Greet {
        const NAME: &'static str = "greet";

        fn options(task: Task) -> Task {
            task.queue("low").retry(3)
        }
    }

    #[derive(Serialize, Deserialize)]
    struct Odd(HashMap<(u8, u8), u8>);

    impl TaskType for Odd {
        const NAME: &'static str = "odd";
    }

    #[test]
    fn a_payload_makes_its_task() {
        let name = "Ada".to_owned();
        let expected = Task::new("greet").payload(r#"{"name":"Ada"}"#).queue("low").retry(3);
        assert_eq!(Greet { name }.into_task(), expected);
        assert_eq!((&expected).into_task(), expected);
    }

    #[test]
    fn a_payload_that_cannot_be_written_makes_its_task_invalid() {
        let odd = Odd(HashMap::from([((1, 2), 3)])).task();
        assert!(matches!(odd.check(), Err(InvalidTask::Payload(_))), "{odd:?}");
    }
}
