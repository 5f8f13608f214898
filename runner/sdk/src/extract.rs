//! Extractors: values that a handler gets by naming them as arguments.

use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;

use crate::{Ctx, Needs, TaskError};

/// A value that is made from the task; the arguments of a handler.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an argument of a handler",
    label = "not an extractor",
    note = "use Payload<T> (T: DeserializeOwned), Raw, State<T>, Option<State<T>> or Ctx, or implement FromTask for it"
)]
pub trait FromTask: Sized {
    /// Makes the value.
    ///
    /// # Errors
    ///
    /// The outcome of the task if the value cannot be made; the handler is not called then.
    fn from_task(cx: &Ctx) -> Result<Self, TaskError>;

    /// Names the shared values without which it can never be made, so that a program that lacks one does not start.
    fn needs(_needs: &mut Needs) {}
}

/// The payload, read as JSON. An empty payload reads as `null`. A payload that does not fit is never retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload<T>(pub T);

impl<T: DeserializeOwned> FromTask for Payload<T> {
    fn from_task(cx: &Ctx) -> Result<Self, TaskError> {
        if cx.payload().is_empty() {
            return serde_json::from_slice(b"null")
                .map(Payload)
                .map_err(|_| TaskError::skip("the task has no payload, but its handler needs one"));
        }
        serde_json::from_slice(cx.payload())
            .map(Payload)
            .map_err(|e| TaskError::skip(format!("payload does not fit: {e}")))
    }
}

/// The payload, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raw(pub Bytes);

impl FromTask for Raw {
    fn from_task(cx: &Ctx) -> Result<Self, TaskError> {
        Ok(Self(cx.payload().clone()))
    }
}

/// The shared value of type `T` that the registry was given.
#[derive(Debug)]
pub struct State<T>(pub Arc<T>);

impl<T: Send + Sync + 'static> FromTask for State<T> {
    fn from_task(cx: &Ctx) -> Result<Self, TaskError> {
        // Retried: a correctly configured worker may claim it next.
        let missing = || {
            let name = std::any::type_name::<T>();
            TaskError::retry(format!("misconfigured: the registry has no state `{name}`"))
        };
        cx.state().map(State).ok_or_else(missing)
    }

    fn needs(needs: &mut Needs) {
        needs.state::<T>();
    }
}

impl FromTask for Ctx {
    fn from_task(cx: &Ctx) -> Result<Self, TaskError> {
        Ok(cx.clone())
    }
}

/// An optional value: `Option<State<Mailer>>`.
impl<T: Send + Sync + 'static> FromTask for Option<State<T>> {
    fn from_task(cx: &Ctx) -> Result<Self, TaskError> {
        Ok(cx.state().map(State))
    }
}
