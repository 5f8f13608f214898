//! What handlers need from the registry, so that what is missing stops the start instead of a task.

use std::any::TypeId;

/// Shared values that a handler cannot run without.
#[derive(Debug, Clone, Default)]
pub struct Needs(Vec<(TypeId, &'static str)>);

impl Needs {
    /// Needs the shared value of type `T`.
    pub fn state<T: Send + Sync + 'static>(&mut self) {
        self.0.push((TypeId::of::<T>(), std::any::type_name::<T>()));
    }

    /// Those for which `is_there` says no, by the names of their types.
    pub(crate) fn missing(&self, is_there: impl Fn(TypeId) -> bool) -> impl Iterator<Item = &'static str> {
        self.0
            .iter()
            .filter(move |(id, _)| !is_there(*id))
            .map(|(_, name)| *name)
    }
}
