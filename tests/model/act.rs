//! Operators' actions in the model.

use bytes::Bytes;
use runner_core::task::{QueueName, TaskId, TaskState};
use runner_queue::{Acted, Action, ActionError, REMOVE_GRACE, RemoveError};

use super::world::{Entry, Queue, World};

impl World {
    pub fn act(&mut self, name: &QueueName, id: &TaskId, action: Action) -> Result<(), ActionError> {
        let Some(state) = self.peek(name, id).map(|e| e.state) else {
            return Err(ActionError::NotFound(id.clone(), name.clone()));
        };
        if state.after(action.event()).is_err() {
            let (id, done) = (id.clone(), action.done());
            return Err(ActionError::WrongState { id, state, done });
        }
        self.carry_out(name, id, action);
        Ok(())
    }

    fn carry_out(&mut self, name: &QueueName, id: &TaskId, action: Action) {
        match action {
            Action::Run => {
                self.put_back(name, id);
                self.entry(name, id).result = None;
            }
            Action::Archive => self.put_in_archive(name, id),
            Action::Delete => self.delete(name, id),
        }
    }

    pub fn act_all(&mut self, name: &QueueName, state: TaskState, action: Action) -> Result<Acted, ActionError> {
        action.check(state)?;
        let ids = self.list(name, state);
        for id in &ids {
            self.carry_out(name, id, action);
        }
        if action == Action::Archive && self.dialect.trims_at_once() {
            self.trim(name, usize::MAX);
        }
        let tasks = ids.len() as u64;
        Ok(Acted { tasks, more: false })
    }

    pub fn edit(&mut self, name: &QueueName, id: &TaskId, payload: Bytes) -> Result<(), ActionError> {
        let Some(state) = self.peek(name, id).map(|e| e.state) else {
            return Err(ActionError::NotFound(id.clone(), name.clone()));
        };
        if state != TaskState::Scheduled {
            let (id, done) = (id.clone(), "edited");
            return Err(ActionError::WrongState { id, state, done });
        }
        self.entry(name, id).record.payload = payload;
        Ok(())
    }

    /// Returns whether it was running.
    pub fn pause(&mut self, name: &QueueName) -> bool {
        let listed = self.dialect.lists_paused_queues();
        let queue = self.queue(name);
        queue.known |= listed;
        !std::mem::replace(&mut queue.paused, true)
    }

    /// Returns whether it was paused.
    pub fn resume(&mut self, name: &QueueName) -> bool {
        std::mem::take(&mut self.queue(name).paused)
    }

    pub fn remove(&mut self, name: &QueueName, force: bool) -> Result<Acted, RemoveError> {
        let nobodys = self.now.checked_sub(REMOVE_GRACE).unwrap();
        let of_it = self.queue(name);
        let queue = name.clone();
        let held = |e: &&Entry| e.state == TaskState::Active && e.at > nobodys;
        let active = of_it.tasks.values().filter(held).count() as u64;
        let tasks = of_it.tasks.len() as u64;
        if !of_it.known {
            return Err(RemoveError::Unknown(queue));
        }
        if active > 0 {
            let tasks = active;
            return Err(RemoveError::Active { queue, tasks });
        }
        if tasks > 0 && !force {
            return Err(RemoveError::NotEmpty { queue, tasks });
        }
        // Only the number of its claims is remembered: late workers of a removed queue stay fenced.
        let last_run = of_it.last_run;
        *of_it = Queue {
            last_run,
            ..Queue::default()
        };
        Ok(Acted { tasks, more: false })
    }
}
