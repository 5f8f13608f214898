//! Layers of tower around handlers: timing, tenancy, limits, whatever is to happen at each task.
//!
//! A layer costs a task two allocations, well below 100 ns. Not here: what a layer does; the packages `tower` and
//! `tower-http` have many.

use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

use crate::matched::Call;
use crate::{BoxFuture, Ctx, IntoOutcome, Outcome, TaskError};

/// Puts a layer around a handler.
pub(crate) type Wrap = Arc<dyn Fn(Call) -> Call + Send + Sync>;

/// A handler, or a handler with layers around it, as a service of tower: what a layer is put around.
#[derive(Clone)]
pub struct HandlerService(Call);

/// The run of a [`HandlerService`].
pub struct HandlerFuture(BoxFuture<'static, Outcome>);

impl Service<Ctx> for HandlerService {
    type Response = Outcome;
    type Error = Infallible;
    type Future = HandlerFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, cx: Ctx) -> HandlerFuture {
        HandlerFuture((self.0)(cx))
    }
}

impl Future for HandlerFuture {
    type Output = Result<Outcome, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx).map(Ok)
    }
}

impl fmt::Debug for HandlerService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandlerService")
    }
}

impl fmt::Debug for HandlerFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandlerFuture")
    }
}

/// A layer that fits handlers. Implemented for every layer of tower whose services take a [`Ctx`], can be cloned, and answer
/// with what a handler may return.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a layer for handlers",
    note = "its service must be Clone + Send + Sync, take a Ctx, and return an Outcome or an error that `?` takes in a handler"
)]
pub trait HandlerLayer: Send + Sync + 'static {
    /// The service that the layer makes of a handler.
    type Made: Service<Ctx, Response: IntoOutcome, Error: Into<TaskError>, Future: Send> + Clone + Send + Sync + 'static;

    /// Makes it.
    fn around(&self, inner: HandlerService) -> Self::Made;
}

impl<L, S> HandlerLayer for L
where
    L: Layer<HandlerService, Service = S> + Send + Sync + 'static,
    S: Service<Ctx, Response: IntoOutcome, Error: Into<TaskError>, Future: Send> + Clone + Send + Sync + 'static,
{
    type Made = S;

    fn around(&self, inner: HandlerService) -> S {
        self.layer(inner)
    }
}

/// The layer, without its type.
pub(crate) fn wrap<L: HandlerLayer>(layer: L) -> Wrap {
    Arc::new(move |call| {
        let service = layer.around(HandlerService(call));
        Arc::new(move |cx| {
            let mut service = service.clone();
            Box::pin(async move {
                if let Err(error) = poll_fn(|cx| service.poll_ready(cx)).await {
                    return error.into().into_outcome();
                }
                match service.call(cx).await {
                    Ok(answer) => answer.into_outcome(),
                    Err(error) => error.into().into_outcome(),
                }
            })
        })
    })
}
