//! Values shared by handlers (clients, settings), one of each type. Filled by the registry, read only afterwards.

use std::any::{Any, TypeId};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Shared values by type.
#[derive(Clone, Default)]
pub struct States(HashMap<TypeId, Arc<dyn Any + Send + Sync>>);

impl States {
    /// The value of type `T`, if one was given to the registry.
    #[must_use]
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        let any = Arc::clone(self.0.get(&TypeId::of::<T>())?);
        any.downcast().ok()
    }

    pub(crate) fn has(&self, id: TypeId) -> bool {
        self.0.contains_key(&id)
    }

    /// Adds a value; returns false, with nothing changed, if there is one of this type.
    pub(crate) fn add<T: Send + Sync + 'static>(&mut self, value: T) -> bool {
        if self.0.contains_key(&TypeId::of::<T>()) {
            return false;
        }
        self.0.insert(TypeId::of::<T>(), Arc::new(value));
        true
    }
}

impl fmt::Debug for States {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "States({} values)", self.0.len())
    }
}
