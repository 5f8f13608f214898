//! Handlers: any `async fn` of up to eight extractors.

use std::pin::Pin;

use crate::{Ctx, FromTask, IntoOutcome, Outcome};

/// A boxed future.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Runs a task. Implemented for `async fn`; not meant to be implemented by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    note = "a handler is an `async fn` of up to eight arguments (Payload<T>, Raw, State<T>, Ctx, …)",
    note = "it returns (), String, Bytes, Json<T>, Outcome, or a Result of one of these and any error"
)]
pub trait Handler<Args>: Clone + Send + Sync + 'static {
    /// Extracts the arguments from the task and runs it.
    fn call(self, cx: Ctx) -> impl Future<Output = Outcome> + Send + 'static;
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
