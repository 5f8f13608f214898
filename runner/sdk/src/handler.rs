//! Handlers: any `async fn` of up to eight extractors.

use runner_core::task::{Task, TaskType};

use crate::{Ctx, FromTask, IntoOutcome, Needs, Outcome, Payload};

/// Runs a task. Implemented for `async fn`; not meant to be implemented by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    note = "a handler is an `async fn` of up to eight arguments (Payload<T>, Raw, State<T>, Ctx, …)",
    note = "it returns (), String, Bytes, Json<T>, Outcome, or a Result of one of these and any error",
    note = "its future must be Send: no Rc, RefCell or lock guard of std may live across an .await",
    note = "write #[handler] above the function: the compiler then names the argument, the result or the value that does not fit"
)]
pub trait Handler<Args>: Clone + Send + Sync + 'static {
    /// Extracts the arguments from the task and runs it.
    fn call(self, cx: Ctx) -> impl Future<Output = Outcome> + Send + 'static;

    /// Names the shared values that its arguments need.
    fn needs(needs: &mut Needs);
}

/// An argument that says the type of the task. Its own trait, and not a part of [`OfType`], because the compiler would otherwise
/// take any single argument for a payload and name a mismatch of signatures.
#[diagnostic::on_unimplemented(
    message = "the first argument of this handler does not say its task type",
    label = "`{Self}` is not Payload<T>",
    note = "it must be Payload<T> of a type that derives TaskType; a handler without a payload, or of another one, is \
            registered by name: `on(name, handler)`"
)]
pub trait SaysType {
    /// The name of the type.
    const NAME: &'static str;

    /// Sets the options that all tasks of the type have.
    fn options(task: Task) -> Task;
}

impl<T: TaskType> SaysType for Payload<T> {
    const NAME: &'static str = T::NAME;

    fn options(task: Task) -> Task {
        T::options(task)
    }
}

/// The arguments of a handler whose first one is the payload of a [`TaskType`].
#[diagnostic::on_unimplemented(
    message = "the first argument of this handler does not say its task type",
    note = "it must be Payload<T> of a type that derives TaskType; a handler without a payload, or of another one, is \
            registered by name: `on(name, handler)`"
)]
pub trait OfType {
    /// The name of the type.
    const NAME: &'static str;

    /// Sets the options that all tasks of the type have.
    fn options(task: Task) -> Task;
}

macro_rules! handler {
    ($($arg:ident)*) => {
        impl<F, Fut, $($arg,)*> Handler<($($arg,)*)> for F
        where
            F: Fn($($arg),*) -> Fut + Clone + Send + Sync + 'static,
            Fut: Future<Output: IntoOutcome> + Send + 'static,
            $($arg: FromTask + Send,)*
        {
            #[allow(unused_variables, non_snake_case)] // no arguments, or one named as its type
            fn call(self, cx: Ctx) -> impl Future<Output = Outcome> + Send + 'static {
                let started = || {
                    $(let $arg = $arg::from_task(&cx)?;)*
                    Ok::<_, crate::TaskError>(self($($arg),*))
                };
                let started = started();
                async move {
                    match started {
                        Ok(running) => running.await.into_outcome(),
                        Err(error) => error.into_outcome(),
                    }
                }
            }

            fn needs(_needs: &mut Needs) {
                $($arg::needs(_needs);)*
            }
        }

    };
}

macro_rules! of_type {
    ($($arg:ident)*) => {
        impl<First: SaysType, $($arg,)*> OfType for (First, $($arg,)*) {
            const NAME: &'static str = First::NAME;

            fn options(task: Task) -> Task {
                First::options(task)
            }
        }
    };
}

handler!();
handler!(A);
handler!(A B);
handler!(A B C);
handler!(A B C D);
handler!(A B C D E);
handler!(A B C D E G);
handler!(A B C D E G H);
handler!(A B C D E G H I);

of_type!();
of_type!(A);
of_type!(A B);
of_type!(A B C);
of_type!(A B C D);
of_type!(A B C D E);
of_type!(A B C D E G);
of_type!(A B C D E G H);
